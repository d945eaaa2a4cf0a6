//! Emergency Revokes: that an object is compromised, said where its issuer can't be asked at once, until the issuer says so itself.

use crate::error::Result;
use crate::relation::keys::{self, Entry};
use keyferry_kmip::spec::tag;
use keyferry_kmip::{DateTime, RevocationReason, Text, extension as x};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{ObjectId, Snapshot, SnapshotExt, Span};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::ops::ControlFlow;

/// A Revoke for a compromise that was taken at a server which can't change the object: a holder of a copy, or its issuer while that waits for what
/// it lost. Clients here see the object as Compromised from then on. A holder tells it to the server that it follows with each question, until the
/// issuer's own copy says so; an issuer makes a change of it when it waits for nobody any more ([rule 5](crate::design#rule-5)).
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::EMERGENCY_REVOKE)]
#[non_exhaustive]
pub struct EmergencyRevoke {
    /// The object.
    pub id: ObjectId,
    /// The client that revoked it, or the peer that told of it.
    #[ttlv(tag = x::DECIDED_BY)]
    pub by: Text,
    /// When it was revoked.
    #[ttlv(tag = x::SINCE)]
    pub at: DateTime,
    /// The Revocation Reason: Key Compromise or CA Compromise.
    pub reason: RevocationReason,
    /// The Compromise Occurrence Date, if it was given.
    #[ttlv(tag = tag::COMPROMISE_OCCURRENCE_DATE)]
    pub occurrence: Option<DateTime>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl EmergencyRevoke {
    /// All that are not settled yet.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<EmergencyRevoke>> {
        Ok(EmergencyRevoke::stored(snapshot)?)
    }

    /// The same, with the errors of the store.
    pub(crate) fn stored(snapshot: &dyn Snapshot) -> keyferry_store::Result<Vec<EmergencyRevoke>> {
        let mut all = Vec::new();
        snapshot.state(&Span::prefix(keys::EMERGENCY_REVOKE), &mut |_, value| {
            all.push(read(value, "emergency Revoke")?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(all)
    }

    /// That of one object.
    pub(crate) fn find(
        snapshot: &dyn Snapshot,
        id: &ObjectId,
    ) -> keyferry_store::Result<Option<EmergencyRevoke>> {
        let stored = snapshot.state_value(&keys::emergency_revoke(id)?)?;
        stored
            .map(|bytes| read(&bytes, "emergency Revoke"))
            .transpose()
    }

    /// Its key and value in the store's state.
    pub(crate) fn entry(&self) -> keyferry_store::Result<Entry> {
        Ok((keys::emergency_revoke(&self.id)?, Some(bytes_of(self)?)))
    }

    /// What removes it from the store's state.
    pub(crate) fn removal(&self) -> keyferry_store::Result<Entry> {
        Ok((keys::emergency_revoke(&self.id)?, None))
    }
}
