//! What a following session is told: which relation, whom it follows, and when it asks.

use crate::policy::Peer;

/// How a server follows another.
#[derive(Clone, Debug)]
pub struct FollowOptions {
    /// The relation, as [`Upstream::follow`](crate::Upstream::follow) has begun it.
    pub relation: String,
    /// Whom it follows: its server id, whether others' copies are taken from it, what becomes of collisions, what was agreed, and how keys are
    /// wrapped when they are given back.
    pub from: Peer,
    /// When to ask again once everything was taken, in milliseconds, unless something is heard earlier; without it, the session is done then.
    pub every: Option<u64>,
    /// Whether the connection is turned round once everything was taken, so that the issuer can poke on it ([`Poke`](crate::Poke)); what has
    /// changed is asked for when it turns it back. An issuer that refuses to is asked again as `every` says.
    pub turns: bool,
    /// Objects in an answer at the most (1 500).
    pub batch: usize,
    /// Bytes of an answer, about (1 MiB).
    pub batch_bytes: usize,
    /// Questions under way at the most while there is more to take (4).
    pub in_flight: usize,
    /// Whether the issuer is told how many forks and failures there are here. A server that is to learn nothing is not.
    pub tells: bool,
}

impl FollowOptions {
    /// One pass, to the head of the feed.
    pub fn new(relation: impl Into<String>, from: Peer) -> Self {
        FollowOptions {
            relation: relation.into(),
            from,
            every: None,
            turns: false,
            batch: 1500,
            batch_bytes: 1 << 20,
            in_flight: 4,
            tells: true,
        }
    }

    /// For ever: asks again every so many milliseconds.
    #[must_use]
    pub fn every(mut self, milliseconds: u64) -> Self {
        self.every = Some(milliseconds);
        self
    }

    /// For ever: turns the connection round, and asks again when the issuer turns it back.
    #[must_use]
    pub fn turning(mut self) -> Self {
        self.turns = true;
        self
    }
}
