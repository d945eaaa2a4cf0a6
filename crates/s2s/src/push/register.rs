use crate::error::Result;
use crate::progress::Progress;
use crate::push::publish::{Birth, Publish, Setting};
use crate::relation::keys;
use crate::report::ObjectResult;
use crate::selection::Selection;
use crate::session::{Session, SessionContext, Step};
use crate::transfer::ledger::Ledger;
use keyferry_kmip::{Lost, ResponseMessage, Ticket};
use keyferry_ttlv::Version;
use std::io::{Read, Seek, Write};

/// How a register goes about it.
#[derive(Clone, Debug)]
pub struct RegisterOptions {
    /// Names the transfer and its identifier map in our store, usually the peer's server id.
    pub name: String,
    /// In which version (1.2).
    pub version: Version,
    /// Which objects (all).
    pub selection: Selection,
    /// Whether to find out what is to be done, and do nothing.
    pub dry_run: bool,
    /// Objects in a message at the most (4 000); it begins with few, and takes more while the peer is quick.
    pub batch: usize,
    /// Whether what is destroyed here is destroyed there, too, where we have registered it (true). Otherwise it is revoked there.
    pub may_destroy: bool,
}

impl RegisterOptions {
    /// The usual ones.
    pub fn new(name: impl Into<String>) -> Self {
        RegisterOptions {
            name: name.into(),
            version: Version::V1_2,
            selection: Selection::everything(),
            dry_run: false,
            batch: 4000,
            may_destroy: true,
        }
    }
}

/// Emulates a transfer to a server that knows nothing of it, in any version: Register, then Activate, Revoke and Destroy until the State is
/// right, then Get Attributes to see what arrived. What the server did not keep is reported, attribute by attribute: the identifier, dates
/// and everything else that only a server sets, at least.
///
/// A later run brings what was registered before up to date: by Add, Modify, Set and Delete Attribute, as far as the server offers them, and
/// by the same operations of the lifecycle. What only a server sets is never written; what others have added there stays; what the server
/// refuses or rewrites is reported.
///
/// An intent is stored before a Register is sent, and the object carries a marker (Application Specific Information), by which a
/// resumed session finds what was registered already. Material of a key that is not usable goes only where a throw-away
/// probe kept its State.
pub struct Register(Publish);

impl Register {
    /// A session with these options.
    pub fn new(options: RegisterOptions) -> Self {
        let ledger = Ledger::new(keys::register(&options.name), options.dry_run);
        let setting = Setting {
            name: options.name,
            birth: Birth::Register,
            version: options.version,
            selection: options.selection,
            batch: options.batch,
            batch_bytes: 4 << 20,
            may_destroy: options.may_destroy,
        };
        Register(Publish::new(setting, ledger))
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

    /// Finds out what is to be done for each object, as a dry run, and writes it to `sink` as a plan, which
    /// [`executing`](Register::executing) takes. A plan holds no key material; nobody but this store can make one for it.
    #[must_use]
    pub fn planning(mut self, sink: impl Write + Send + 'static) -> Self {
        self.0.ledger.plans(sink);
        self
    }

    /// Does what a plan says, and nothing else, one object after the other: each is looked at just before it is changed, here and there. Between
    /// that look and the change somebody else can still come: no server that does not know of plans can rule that out. At the first object that
    /// is not as planned the session stops, and the report says [where](crate::Report::stopped). A bad plan ends the session before anything
    /// is done; an execution that was interrupted goes on where it was.
    #[must_use]
    pub fn executing(mut self, plan: impl Read + Seek + Send + 'static) -> Self {
        self.0.ledger.executes(plan);
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
