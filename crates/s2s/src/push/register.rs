//! The register session: one pass that brings objects to a server that knows nothing of transfers, by Register and what follows it.

use crate::error::Result;
use crate::progress::Progress;
use crate::push::publish::{CreateBy, Publish, Setting};
use crate::relation::keys;
use crate::report::ObjectResult;
use crate::selection::Selection;
use crate::session::{Session, SessionContext, Step};
use crate::transfer::ledger::Ledger;
use keyferry_kmip::{Lost, ResponseMessage, Ticket};
use keyferry_ttlv::Version;
use std::fmt;
use std::io::{Read, Seek, Write};

/// Options of a register session.
#[derive(Clone, Debug)]
pub struct RegisterOptions {
    /// The name of the transfer and of its identifier map in this store, usually the peer's server id.
    pub name: String,
    /// The version that is spoken (1.2).
    pub version: Version,
    /// The objects to register (all).
    pub selection: Selection,
    /// Whether the session only finds out what is to be done, and does nothing (false).
    pub dry_run: bool,
    /// The largest number of objects in a message (4 000). A session begins with few, and sends more while the peer is quick.
    pub batch: usize,
    /// Whether an object that is destroyed here is destroyed at the peer, too, if this transfer has registered it there (true). Otherwise it is
    /// revoked there.
    pub may_destroy: bool,
}

impl RegisterOptions {
    /// Makes the usual options.
    pub fn new(name: impl Into<String>) -> Self {
        RegisterOptions {
            name: name.into(),
            version: Version::V1_2,
            selection: Selection::everything(),
            dry_run: false,
            batch: Setting::DEFAULT_BATCH,
            may_destroy: true,
        }
    }
}

/// A session that emulates a transfer to a server that knows nothing of it, in any version: Register, then Activate, Revoke and Destroy until the
/// State is right, then Get Attributes to see what arrived. It reports what the server did not keep, attribute by attribute: at least the
/// identifier, dates and everything else that only a server sets.
///
/// A later run brings up to date what was registered before: by Add, Modify, Set and Delete Attribute, as far as the server offers them, and by the
/// same operations of the lifecycle. It never writes what only a server sets, leaves alone what others have added there, and reports what the
/// server refuses or rewrites.
///
/// An intent is stored before a Register is sent, and the object has a marker (Application Specific Information) by which a resumed session finds
/// what was registered already. Material of a key that is not usable is sent only to a server that kept the State of a throw-away probe.
pub struct Register(Publish);

impl fmt::Debug for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Register")
            .field(&self.0.setting)
            .finish_non_exhaustive()
    }
}

impl Register {
    /// Makes a session with these options.
    pub fn new(options: RegisterOptions) -> Self {
        let ledger = Ledger::new(keys::register(&options.name), options.dry_run);
        let setting = Setting {
            name: options.name,
            create_by: CreateBy::Register,
            version: options.version,
            selection: options.selection,
            batch: options.batch,
            batch_bytes: Setting::DEFAULT_BATCH_BYTES,
            may_destroy: options.may_destroy,
        };
        Register(Publish::new(setting, ledger))
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

    /// Makes the session a dry run that writes a plan to `sink`: what is to be done for each object. [`executing`](Register::executing) takes the
    /// plan. A plan has no key material; only this store can make one for itself.
    #[must_use]
    pub fn planning(mut self, sink: impl Write + Send + 'static) -> Self {
        self.0.ledger.write_plan(sink);
        self
    }

    /// Makes the session execute a plan, and do nothing else, one object after the other: each is looked at just before it is changed,
    /// here and at the peer. Somebody else can still come between that look and the change: no server that does not know of plans can rule that out. At the first
    /// object that is not as planned the session stops, and the report says [where](crate::Report::stopped). A bad plan ends the session before
    /// anything is done. An interrupted execution continues where it was.
    #[must_use]
    pub fn executing(mut self, plan: impl Read + Seek + Send + 'static) -> Self {
        self.0.ledger.execute_plan(plan);
        self
    }
}

impl Session for Register {
    fn poll(&mut self, cx: &mut SessionContext<'_>, ticket: Ticket) -> Result<Step> {
        self.0.poll(cx, ticket)
    }

    fn answer(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        self.0.answer(cx, ticket, response)
    }
}
