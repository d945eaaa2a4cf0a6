//! The publication: a relation's session that keeps a foreign server up to date by Import or Register.

use crate::error::Result;
use crate::node::Node;
use crate::policy::Wrapping;
use crate::progress::Progress;
use crate::push::publish::{CreateBy, Publish, Setting};
use crate::relation::keys::published_counts;
use crate::report::ObjectResult;
use crate::selection::Selection;
use crate::session::{Session, SessionContext, Step};
use crate::transfer::ledger::Ledger;
use keyferry_kmip::{Lost, ResponseMessage, Ticket};
use keyferry_ttlv::Version;
use std::fmt;
use std::sync::Arc;

/// Options of a publication.
#[derive(Clone, Debug)]
pub struct PublicationOptions {
    /// The name of the relation that [`ForeignReplica::publish`](crate::ForeignReplica::publish) has begun.
    pub relation: String,
    /// The version that is spoken (1.4).
    pub version: Version,
    /// The largest number of objects in a message (4 000). A session begins with few, and sends more while the peer is quick.
    pub batch: usize,
    /// About how many bytes of material and attributes a message may have (4 MiB).
    pub batch_bytes: usize,
}

impl PublicationOptions {
    /// Makes the usual options.
    pub fn new(relation: impl Into<String>) -> Self {
        PublicationOptions {
            relation: relation.into(),
            version: Version::V1_4,
            batch: Setting::DEFAULT_BATCH,
            batch_bytes: Setting::DEFAULT_BATCH_BYTES,
        }
    }
}

/// A session that keeps a foreign server up to date by Import or Register, in the way in which [`Bulk`](crate::Bulk) and
/// [`Register`](crate::Register) bring objects there once. It continues behind the relation's place in the feed: first load, catching up and the
/// next change are the same pass.
///
/// An object that could not be brought there as it is stays in the relation and is tried again later. So does an object that others have destroyed
/// there, which is never brought there again. An object that has left the selection is named in the report, or is destroyed there if the relation
/// says so.
pub struct Publication(Publish);

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Publication")
            .field(&self.0.setting)
            .finish_non_exhaustive()
    }
}

impl Publication {
    /// Makes a session with these options.
    pub fn new(options: PublicationOptions) -> Self {
        let ledger = Ledger::new(published_counts(&options.relation), false);
        let setting = Setting {
            name: options.relation,
            create_by: CreateBy::Import,
            version: options.version,
            selection: Selection::everything(),
            batch: options.batch,
            batch_bytes: options.batch_bytes,
            may_destroy: true,
        };
        Publication(Publish::new(setting, ledger).of_relation())
    }

    /// Calls `observer` after each batch, and at the end, with how far the transfer has come.
    #[must_use]
    pub fn on_progress(mut self, observer: impl FnMut(&Progress) + Send + 'static) -> Self {
        self.0.ledger.observer = Some(Box::new(observer));
        self
    }

    /// Calls `sink` with what became of each object.
    #[must_use]
    pub fn on_object(mut self, sink: impl FnMut(&ObjectResult) + Send + 'static) -> Self {
        self.0.ledger.sink = Some(Box::new(sink));
        self
    }

    /// Wraps key material for the way, if it goes by Import; keys that are Sensitive are sent, too, then. `node` says who this server is.
    #[must_use]
    pub fn wrapping(mut self, node: Arc<Node>, wrapping: Wrapping) -> Self {
        self.0.wrapping = Some((node, wrapping));
        self
    }
}

impl Session for Publication {
    fn poll(&mut self, cx: &mut SessionContext<'_>, ticket: Ticket) -> Result<Step> {
        self.0.poll(cx, ticket)
    }

    fn answer(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        let answered = self.0.answer(cx, ticket, response);
        if let (Err(error), Some(running)) = (&answered, &self.0.running) {
            running.note_failure(cx.store, error);
        }
        answered
    }
}
