//! Relations that were ended here: since when nobody tells of the copies that they have brought.

use crate::error::Result;
use crate::relation::keys::{self, Entry};
use crate::relation::stored;
use keyferry_kmip::{DateTime, Text, extension as x};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{Snapshot, SnapshotExt};
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
    /// The number of its last session, from which a relation of this name goes on: what is kept in memory of this one is not taken for that one's.
    #[ttlv(tag = x::SESSION)]
    pub(crate) session: Option<i64>,
    /// The count of its account, from which that goes on, too.
    #[ttlv(tag = x::ACCOUNT)]
    pub(crate) account: Option<i64>,
    #[ttlv(extra)]
    extra: Extra,
}

impl EndedRelation {
    pub(crate) fn new(
        relation: &Text,
        contact: DateTime,
        (session, account): (i64, Option<i64>),
    ) -> EndedRelation {
        EndedRelation {
            relation: relation.clone(),
            contact,
            session: Some(session),
            account,
            extra: Extra::NONE,
        }
    }

    /// The numbers of session and account with which a relation of this name goes on.
    pub(crate) fn goes_on_with(snapshot: &dyn Snapshot, relation: &str) -> Result<(i64, i64)> {
        let stored = snapshot.state_value(&keys::ended_relation(relation))?;
        let ended = stored
            .map(|bytes| read::<EndedRelation>(&bytes, "ended relation"))
            .transpose()?;
        Ok(ended.map_or((0, 0), |ended| {
            let account = ended.account.unwrap_or(0).saturating_add(1);
            (ended.session.unwrap_or(0), account)
        }))
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
