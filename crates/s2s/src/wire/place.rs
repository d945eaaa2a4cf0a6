//! A place in the feed of a store, as two servers exchange it.

use crate::planted::planted;
use crate::wire::receipt::{ReceiptKey, is_same};
use keyferry_kmip::extension as x;
use keyferry_store::{Position, Snapshot, SnapshotExt};
use keyferry_ttlv::{Decode, Encode, Extra};

/// A place in the feed of a store, as two servers exchange it ([rule 10](crate::design#rule-10)). The default is the beginning of any feed.
#[derive(Clone, Debug, Default, Eq, Encode, Decode)]
#[ttlv(tag = x::PLACE)]
#[non_exhaustive]
pub struct Place {
    /// The incarnation of the store.
    #[ttlv(tag = x::INCARNATION)]
    pub incarnation: Vec<u8>,
    /// The number of the last entry before the place; 0 for the beginning.
    #[ttlv(tag = x::POSITION_NUMBER)]
    pub number: i64,
    /// The commit that wrote this entry.
    #[ttlv(tag = x::POSITION_COMMIT)]
    pub commit: Vec<u8>,
    /// The receipt of the server whose feed it is: others can't make up a place of it ([rule B](crate::design#rule-b)).
    #[ttlv(tag = x::RECEIPT)]
    pub(crate) receipt: Option<Vec<u8>>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// Two places are the same if they stand in the same history, with or without a receipt.
impl PartialEq for Place {
    fn eq(&self, other: &Place) -> bool {
        (self.number, &self.incarnation, &self.commit)
            == (other.number, &other.incarnation, &other.commit)
    }
}

impl From<Position> for Place {
    fn from(position: Position) -> Place {
        Place {
            incarnation: position.incarnation.0.to_vec(),
            number: i64::try_from(position.number).unwrap_or(i64::MAX),
            commit: position.commit.0.to_vec(),
            receipt: None,
            extra: Extra::NONE,
        }
    }
}

impl Place {
    /// The place behind an entry of this store's feed.
    pub(crate) fn at(snapshot: &dyn Snapshot, number: u64) -> keyferry_store::Result<Place> {
        let commit = snapshot
            .commit_id(number)?
            .map_or_else(Vec::new, |id| id.0.to_vec());
        Ok(Place {
            incarnation: snapshot.incarnation()?.0.to_vec(),
            number: i64::try_from(number).unwrap_or(i64::MAX),
            commit,
            receipt: None,
            extra: Extra::NONE,
        })
    }

    /// The same place with the receipt of this server.
    pub(crate) fn signed(self, key: &ReceiptKey) -> Place {
        let receipt = key.of_place(&self.incarnation, self.number, &self.commit);
        Place {
            receipt: Some(receipt),
            ..self
        }
    }

    /// Whether this server has once told the place.
    pub(crate) fn is_genuine(&self, key: &ReceiptKey) -> bool {
        let made = key.of_place(&self.incarnation, self.number, &self.commit);
        self.receipt
            .as_ref()
            .is_some_and(|told| is_same(told, &made))
            || planted!(PlaceBelieved)
    }

    /// The number of the last entry before the place.
    pub fn number(&self) -> u64 {
        u64::try_from(self.number).unwrap_or(0)
    }

    /// Whether both are the same place.
    pub(crate) fn is_same(&self, other: &Place) -> bool {
        (self.number, &self.incarnation) == (other.number, &other.incarnation)
            && (self.number == 0 || self.commit == other.commit)
    }

    /// Whether the place belongs to the history of this store.
    pub(crate) fn is_of(&self, snapshot: &dyn Snapshot) -> keyferry_store::Result<bool> {
        if planted!(IncarnationIsEnough) {
            return Ok(self.number == 0 || self.incarnation == snapshot.incarnation()?.0);
        }
        Ok(self.number == 0
            || snapshot
                .commit_id(self.number())?
                .is_some_and(|id| id.0[..] == self.commit[..]))
    }
}
