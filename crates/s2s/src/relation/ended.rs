//! Relations that were ended here: since when nobody tells of the copies that they have brought.

use crate::error::Result;
use crate::relation::keys::{self, Entry};
use crate::relation::stored;
use keyferry_kmip::{DateTime, Text, extension as x};
use keyferry_store::Snapshot;
use keyferry_store::record::bytes_of;
use keyferry_ttlv::{Decode, Encode, Extra};

/// What is remembered of a relation with a server that was followed.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::ENDED)]
pub(crate) struct EndedRelation {
    #[ttlv(tag = x::RELATION)]
    pub(crate) relation: Text,
    /// When the server told something new for the last time.
    #[ttlv(tag = x::CONTACT)]
    pub(crate) contact: DateTime,
    #[ttlv(extra)]
    extra: Extra,
}

impl EndedRelation {
    pub(crate) fn new(relation: &Text, contact: DateTime) -> EndedRelation {
        EndedRelation {
            relation: relation.clone(),
            contact,
            extra: Extra::NONE,
        }
    }

    pub(crate) fn all(snapshot: &dyn Snapshot) -> Result<Vec<EndedRelation>> {
        stored::all_under(snapshot, keys::ENDED_RELATION, "ended relation")
    }

    /// Its key and value in the store's state.
    pub(crate) fn entry(&self) -> keyferry_store::Result<Entry> {
        let key = keys::ended_relation(&self.relation);
        Ok((key, Some(bytes_of(self)?)))
    }
}
