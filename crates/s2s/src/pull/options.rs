//! What a pull is told: from whom, by which operations, which objects, and within which limits.

use crate::error::Result;
use crate::policy::{Peer, Wrapping};
use crate::selection::Selection;
use crate::transfer::plan::Purpose;
use keyferry_kmip::Text;
use keyferry_kmip::spec::Operation;
use keyferry_store::Record;
use keyferry_ttlv::Version;

/// By which operation a session pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullStrategy {
    /// Locate, then Get and Get Attributes, in any version.
    Get,
    /// Locate, then Export, since 1.4. A keyferry server at which we [may pull](Peer::may_pull) gives the copy verbatim.
    Export,
}

impl PullStrategy {
    pub(super) fn operations(self) -> &'static [Operation] {
        match self {
            PullStrategy::Get => &[Operation::LOCATE, Operation::GET, Operation::GET_ATTRIBUTES],
            PullStrategy::Export => &[Operation::LOCATE, Operation::EXPORT],
        }
    }
}

/// How a pull goes about it.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// Names the transfer in our store: its progress is kept under it.
    pub name: String,
    /// Whom we pull from: its server id, whether others' copies are taken from it, and what becomes of collisions.
    pub from: Peer,
    /// The instance of that server, so that one that was set up anew is another one. A keyferry server's copies tell their own.
    pub instance: Vec<u8>,
    /// By which operation.
    pub strategy: PullStrategy,
    /// In which version.
    pub version: Version,
    /// Which objects (all). Its attributes become a Locate, and each hit is checked again here.
    pub selection: Selection,
    /// The client that gets the objects of a foreign server for good: this server takes them over. Without one it observes them: they
    /// are the foreign master's, may not be changed here, and follow it with each pull. Of what was taken over, later pulls join the State that the
    /// source shows, a Destroyed, too: pull no more before you clear the source out.
    pub adopter: Option<Text>,
    /// How key material is wrapped on its way, under a key that both servers have. It is unwrapped when it arrives; nothing is bound, since
    /// the attributes of the objects are not known when they are asked for.
    pub wrapping: Option<Wrapping>,
    /// Whether to find out what would become of each object, and write nothing.
    pub dry_run: bool,
    /// Objects in a message at the most (250).
    pub batch: usize,
    /// Bytes of an answer with several objects at the most (1 MiB). An object that is larger comes alone, if a message can carry it.
    pub largest: i32,
    /// Messages under way at the most (16).
    pub in_flight: usize,
}

impl PullOptions {
    /// The usual ones: Get in 1.4, Export in 2.1.
    pub fn new(name: impl Into<String>, from: Peer, strategy: PullStrategy) -> Self {
        PullOptions {
            name: name.into(),
            from,
            instance: Vec::new(),
            strategy,
            version: if strategy == PullStrategy::Get {
                Version::V1_4
            } else {
                Version::V2_1
            },
            selection: Selection::everything(),
            adopter: None,
            wrapping: None,
            dry_run: false,
            batch: 250,
            largest: 1 << 20,
            in_flight: 16,
        }
    }

    /// Whether the server that is pulled from has made the object.
    pub(super) fn is_of_source(&self, record: &Record) -> bool {
        record.id.server == self.from.server && record.id.instance == self.instance
    }

    pub(super) fn purpose(&self) -> Result<Purpose<'_>> {
        let strategy = match self.strategy {
            PullStrategy::Get => "get",
            PullStrategy::Export => "export",
        };
        Ok(Purpose {
            name: &self.name,
            strategy,
            version: self.version,
            selection: self.selection.digest()?,
        })
    }
}
