use crate::{Collisions, Selection};
use keyferry_kmip::{Cause, DateTime, Failure, Identity, Text};
use keyferry_store::Record;
use std::collections::BTreeMap;

/// What each peer may do here. Closed by default: who is not named may nothing.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    peers: BTreeMap<String, Peer>,
}

/// What one peer may do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Peer {
    /// Its server id, which its own objects' stamps carry.
    pub server: Text,
    /// It may send us copies of objects that it issues.
    pub may_send: bool,
    /// It may also send copies of objects that others issue.
    pub may_relay: bool,
    /// What it Exports it gets with what KMIP has no place for, as a copy.
    pub may_pull: bool,
    /// What becomes of its copies where others have their identifiers or Names.
    pub collisions: Collisions,
    /// What the two have agreed on (everything): no other object is taken from it, or given it as a copy.
    pub agreed: Selection,
}

impl Peer {
    /// A peer that may nothing yet.
    pub fn new(server: impl Into<Text>) -> Self {
        Peer {
            server: server.into(),
            may_send: false,
            may_relay: false,
            may_pull: false,
            collisions: Collisions::default(),
            agreed: Selection::everything(),
        }
    }

    /// Lets it send copies of its own objects.
    #[must_use]
    pub fn may_send(mut self) -> Self {
        self.may_send = true;
        self
    }

    /// Lets it send copies of others' objects.
    #[must_use]
    pub fn may_relay(mut self) -> Self {
        self.may_relay = true;
        self
    }

    /// Lets it pull copies, where the rights of clients let it read them.
    #[must_use]
    pub fn may_pull(mut self) -> Self {
        self.may_pull = true;
        self
    }

    /// Says what becomes of its copies where others have their identifiers or Names.
    #[must_use]
    pub fn colliding(mut self, collisions: Collisions) -> Self {
        self.collisions = collisions;
        self
    }

    /// Lets only these objects pass, whichever way. Links are not followed for it. A copy that is held already goes on being brought up to date
    /// when its object leaves the agreement, so that nobody works with a key that was revoked since.
    #[must_use]
    pub fn agreed(mut self, selection: Selection) -> Self {
        self.agreed = selection;
        self
    }

    pub(crate) fn has_agreed(&self, record: &Record, now: DateTime) -> Result<bool, Failure> {
        self.agreed.is_match(record, now).map_err(|e| Failure::new(Cause::Internal, e))
    }
}

impl Policy {
    /// Nobody may anything.
    pub fn closed() -> Self {
        Policy::default()
    }

    /// Names a peer by the name in its TLS certificate.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, peer: Peer) -> Self {
        self.peers.insert(name.into(), peer);
        self
    }

    /// What the peer behind a connection may do.
    pub fn peer(&self, identity: &Identity) -> Option<&Peer> {
        self.peers.get(&identity.name)
    }
}
