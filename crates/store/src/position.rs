//! These types name a place in a store's history, so that two servers can compare what they have seen.

use std::fmt;

/// The identity of a store's history: new when the store is made and when it is restored from a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub [u8; 16]);

/// A place in a feed that two servers can compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The incarnation of the store whose feed it is.
    pub incarnation: Incarnation,
    /// The number of the last entry; 0 when the feed is empty.
    pub number: u64,
    /// The id of the commit that wrote the last entry; [`CommitId::ZERO`] when the feed is empty.
    pub commit: CommitId,
}

/// The hash of a store's history up to one commit.
///
/// The ids form a hash chain: two copies of a store whose histories part never have the same id again. No randomness is
/// needed to make one; `CommitId::next` and [`Chain`](crate::Chain) compute them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(pub [u8; 16]);

impl CommitId {
    /// The id of the empty history.
    pub const ZERO: CommitId = CommitId([0; 16]);
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CommitId(")?;
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}
