//! Objects that a replica does not get, and why, as both servers list them ([rule 12](crate::design#rule-12)).

use crate::error::Result;
use crate::relation::keys::{Entry, about, lacking_prefix, withheld_prefix};
use crate::relation::stored;
use crate::wire::follow::{Change, Kind};
use keyferry_kmip::{DateTime, Text, extension as x};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{ObjectId, Snapshot, SnapshotExt};
use keyferry_ttlv::{Decode, Encode, Extra};

/// An object that a replica was told of and does not get: it may not leave, or no message can carry it.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::WITHHELD)]
#[non_exhaustive]
pub struct WithheldObject {
    /// The object.
    pub id: ObjectId,
    /// Its Unique Identifier at the server that withholds it.
    #[ttlv(tag = x::LOCAL_IDENTIFIER)]
    pub identifier: Text,
    /// Why it is withheld.
    #[ttlv(tag = x::WHY)]
    pub why: Text,
    /// When it was withheld for the first time for this reason.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl WithheldObject {
    /// The objects that a replica does not get in one relation and that are not destroyed, as many as
    /// [`Limits::withheld_objects`](crate::Limits::withheld_objects) keeps.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(
        snapshot: &dyn Snapshot,
        server: &str,
        relation: &str,
    ) -> Result<Vec<WithheldObject>> {
        let prefix = withheld_prefix(server, relation);
        let mut listed: Vec<WithheldObject> =
            stored::all_under(snapshot, &prefix, "withheld object")?;
        let mut lives = Vec::with_capacity(listed.len());
        for object in &listed {
            let held = snapshot.by_object_id(&object.id)?;
            lives.push(held.is_some_and(|(_, record)| !record.is_destroyed()));
        }
        let mut lives = lives.into_iter();
        listed.retain(|_| lives.next() == Some(true));
        Ok(listed)
    }

    /// The objects that a server which is followed withholds from this one in one relation, as many as
    /// [`Limits::withheld_objects`](crate::Limits::withheld_objects) keeps.
    ///
    /// # Errors
    /// Those of the store.
    pub fn lacking(snapshot: &dyn Snapshot, relation: &str) -> Result<Vec<WithheldObject>> {
        stored::all_under(snapshot, &lacking_prefix(relation), "withheld object")
    }

    /// What notes below `prefix` which of these changes are withheld, and that others are not any more. `counted` is how many are
    /// listed already, and `most` are listed at the most.
    pub(crate) fn note(
        snapshot: &dyn Snapshot,
        prefix: &[u8],
        counted: &mut Option<i64>,
        changes: &[Change],
        (now, most): (DateTime, usize),
    ) -> keyferry_store::Result<Vec<Entry>> {
        let mut count = counted.unwrap_or(0);
        let mut entries = Vec::new();
        for change in changes {
            let is_withheld = change.kind == Kind::WITHHELD;
            if !is_withheld && count == 0 {
                continue;
            }
            let key = about(prefix.to_vec(), &change.copy.id)?;
            let listed = snapshot.state_value(&key)?;
            if !is_withheld {
                count -= i64::from(listed.is_some());
                entries.extend(listed.map(|_| (key, None)));
                continue;
            }
            let known = listed
                .map(|bytes| read::<WithheldObject>(&bytes, "withheld object"))
                .transpose()?;
            let why = change.why.clone().unwrap_or_default();
            if known.as_ref().is_some_and(|known| known.why == why) {
                continue;
            }
            if known.is_none() {
                if count >= i64::try_from(most).unwrap_or(i64::MAX) {
                    continue;
                }
                count += 1;
            }
            let withheld = WithheldObject {
                id: change.copy.id.clone(),
                identifier: change.identifier.clone(),
                why,
                since: now,
                extra: Extra::NONE,
            };
            entries.push((key, Some(bytes_of(&withheld)?)));
        }
        *counted = (count > 0).then_some(count);
        Ok(entries)
    }
}
