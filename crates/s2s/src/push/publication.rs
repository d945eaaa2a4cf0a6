use crate::error::Result;
use crate::node::Node;
use crate::policy::Wrapping;
use crate::progress::Progress;
use crate::push::publish::{Birth, Publish, Setting};
use crate::push::running::Running;
use crate::relation::keys::published_counts;
use crate::report::ObjectResult;
use crate::selection::Selection;
use crate::session::{Session, SessionContext, Step};
use crate::transfer::ledger::Ledger;
use keyferry_kmip::spec::Operation;
use keyferry_kmip::{Lost, ResponseMessage, Ticket};
use keyferry_ttlv::Version;
use std::sync::Arc;

/// How a publication goes about it.
#[derive(Clone, Debug)]
pub struct PublicationOptions {
    /// The relation, as [`ForeignReplica::publish`](crate::ForeignReplica::publish) has begun it.
    pub relation: String,
    /// In which version (1.4).
    pub version: Version,
    /// Objects in a message at the most (4 000); it begins with few, and takes more while the peer is quick.
    pub batch: usize,
    /// Bytes of material and attributes in a message, about (4 MiB).
    pub batch_bytes: usize,
}

impl PublicationOptions {
    /// The usual ones.
    pub fn new(relation: impl Into<String>) -> Self {
        PublicationOptions {
            relation: relation.into(),
            version: Version::V1_4,
            batch: 4000,
            batch_bytes: 4 << 20,
        }
    }
}

/// Keeps a foreign server up to date by Import or Register, as [`Bulk`](crate::Bulk) and [`Register`](crate::Register) do it once: goes on behind
/// the place of our feed up to which it was told, so that first load, catching up and the next change are one and the same pass.
///
/// What could not be brought there as it is stays in the relation and is tried again later, also what others have destroyed there: that is
/// never brought there again. What has left the selection is named, or destroyed there where the relation says so.
pub struct Publication(Publish);

impl Publication {
    /// A session with these options.
    pub fn new(options: PublicationOptions) -> Self {
        let ledger = Ledger::new(published_counts(&options.relation), false);
        let setting = Setting {
            name: options.relation,
            birth: Birth::Import,
            version: options.version,
            selection: Selection::everything(),
            batch: options.batch,
            batch_bytes: options.batch_bytes,
            may_destroy: true,
        };
        Publication(Publish::new(setting, ledger).running())
    }

    /// Calls `observer` after each batch, and at the end, with how far it has come.
    #[must_use]
    pub fn on_progress(mut self, observer: impl FnMut(&Progress) + Send + 'static) -> Self {
        self.0.ledger.observer = Some(Box::new(observer));
        self
    }

    /// Tells `sink` what became of each object.
    #[must_use]
    pub fn on_object(mut self, sink: impl FnMut(&ObjectResult) + Send + 'static) -> Self {
        self.0.ledger.sink = Some(Box::new(sink));
        self
    }

    /// Wraps key material for the way, where it goes by Import; what is Sensitive leaves then, too. `node` says who we are.
    #[must_use]
    pub fn wrapping(mut self, node: Arc<Node>, wrapping: Wrapping) -> Self {
        self.0.wrapping = Some((node, wrapping));
        self
    }
}

impl Publish {
    /// Takes what is published, and how, from the relation.
    pub(crate) fn begin(&mut self, cx: &SessionContext<'_>) -> Result<()> {
        if !self.runs {
            return Ok(());
        }
        let running = Running::begin(
            cx,
            &self.setting.name,
            &[Operation::IMPORT, Operation::REGISTER],
        )?;
        let slave = &running.slave;
        self.setting.selection = slave.selection();
        self.setting.may_destroy = slave.may_destroy;
        self.setting.birth = if slave.by == Operation::REGISTER {
            Birth::Register
        } else {
            Birth::Import
        };
        self.running = Some(running);
        Ok(())
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
            running.failed(cx.store, error);
        }
        answered
    }
}
