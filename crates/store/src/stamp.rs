//! Stamps: which change of an object is meant, and how two changes are related.

use crate::position::Incarnation;
use keyferry_kmip::{Text, extension as x};
use keyferry_ttlv::{Decode, Encode, Extra, Raw};

/// The stamp of one change of an object: the issuer that made it, the issuer's epoch and reign, and a count of the object's changes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[ttlv(tag = x::STAMP)]
pub struct Stamp {
    /// The number of issuers that the object has had, this one included.
    #[ttlv(tag = x::EPOCH)]
    pub epoch: i64,
    /// The server id of the issuer.
    #[ttlv(tag = x::ISSUER)]
    pub issuer: Text,
    /// The issuer's reign when it made the change: see [`StoreExt::begin_reign`](crate::StoreExt::begin_reign).
    #[ttlv(tag = x::INCARNATION)]
    pub incarnation: Vec<u8>,
    /// The number of the change in the life of the object, across epochs.
    #[ttlv(tag = x::SEQUENCE)]
    pub sequence: i64,
    /// The grant of the previous issuer, for a later epoch.
    #[ttlv(tag = x::GRANT)]
    pub grant: Option<Raw>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// The relation of an incoming stamp to the held one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descent {
    /// The same change.
    Equal,
    /// The incoming change descends from the held one.
    Newer,
    /// The held change descends from the incoming one.
    Older,
    /// Neither descends from the other: two servers changed the object independently.
    Fork,
}

impl Stamp {
    /// The stamp of an object's first change.
    pub fn first(issuer: &Text, incarnation: Incarnation) -> Stamp {
        Stamp {
            epoch: 1,
            issuer: issuer.clone(),
            incarnation: incarnation.0.to_vec(),
            sequence: 1,
            grant: None,
            extra: Extra::NONE,
        }
    }

    fn is_reign_of(&self, other: &Stamp) -> bool {
        self.epoch == other.epoch
            && self.issuer == other.issuer
            && self.incarnation == other.incarnation
    }
}

/// Compares the held copy with an incoming one, each given as its stamp and its lineage. Clocks play no part.
pub fn descent(held: (&Stamp, &[Stamp]), incoming: (&Stamp, &[Stamp])) -> Descent {
    let same_reign = held.0.is_reign_of(incoming.0);
    if same_reign {
        return match incoming.0.sequence.cmp(&held.0.sequence) {
            std::cmp::Ordering::Equal => Descent::Equal,
            std::cmp::Ordering::Greater => Descent::Newer,
            std::cmp::Ordering::Less => Descent::Older,
        };
    }
    // The ancestor's reign is in the descendant's lineage, and it ended no earlier than the ancestor's change.
    let ended = |lineage: &[Stamp], last: &Stamp, of: &Stamp| {
        let at = lineage.iter().position(|reign| reign.is_reign_of(of))?;
        Some(
            lineage
                .get(at + 1)
                .map_or(last.sequence, |next| next.sequence),
        )
    };
    if ended(incoming.1, incoming.0, held.0).is_some_and(|end| held.0.sequence < end) {
        return Descent::Newer;
    }
    if ended(held.1, held.0, incoming.0).is_some_and(|end| incoming.0.sequence < end) {
        return Descent::Older;
    }
    Descent::Fork
}
