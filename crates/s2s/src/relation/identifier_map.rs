//! The map of identifiers: which object is which at a peer that gives objects identifiers of its own. It is kept under the name of the
//! transfer, or of the relation, that brings objects there, and read in both directions.

use crate::error::{Error, Result};
use crate::relation::keys;
use crate::relation::keys::Entry;
use crate::relation::stored;
use keyferry_kmip::projection::Projection;
use keyferry_kmip::{Attributes, Text, extension as x};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{ObjectId, Snapshot, SnapshotExt, Transaction};
use keyferry_ttlv::{Decode, Encode, Extra};

/// An object at a peer. Without an identifier there it is intended to be brought there, and perhaps was ([rule 13](crate::design#rule-13)).
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::MAPPED)]
pub(crate) struct Mapped {
    /// The object.
    pub(crate) id: ObjectId,
    /// Its Unique Identifier there.
    #[ttlv(tag = x::LOCAL_IDENTIFIER)]
    pub(crate) there: Option<Text>,
    /// The digest of the copy that arrived there as a whole.
    #[ttlv(tag = x::DIGEST_VALUE)]
    pub(crate) digest: Option<Vec<u8>>,
    /// Marks of the attributes that were sent there.
    #[ttlv(tag = x::SAID)]
    pub(crate) said: Option<Vec<u8>>,
    /// The seal of the plan whose execution has begun to change it there.
    #[ttlv(tag = x::BEGUN)]
    pub(crate) begun: Option<Vec<u8>>,
    /// Whether it has left the selection since.
    #[ttlv(tag = x::LEFT)]
    pub(crate) left: Option<bool>,
    /// The attributes that a receiver got by Put and Notify, in 1.x with the indices that they have there.
    #[ttlv(group = Projection::Stored)]
    pub(crate) told: Attributes,
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Mapped {
    /// An object that is intended to be there.
    pub(crate) fn intended(id: &ObjectId) -> Mapped {
        Mapped {
            id: id.clone(),
            there: None,
            digest: None,
            said: None,
            begun: None,
            left: None,
            told: Attributes::new(),
            extra: Extra::NONE,
        }
    }
}

/// What is kept of an object at the peer of the transfer `name`, if anything is.
pub(crate) fn find(snapshot: &dyn Snapshot, name: &str, id: &ObjectId) -> Result<Option<Mapped>> {
    let key = keys::about(keys::there_prefix(name), id)?;
    let mapped = read_mapped(snapshot, &key)?;
    Ok(mapped.filter(|mapped| mapped.id == *id))
}

fn read_mapped(snapshot: &dyn Snapshot, key: &[u8]) -> Result<Option<Mapped>> {
    let stored = snapshot.state_value(key)?;
    Ok(stored
        .map(|bytes| read(&bytes, "identifier at a peer"))
        .transpose()?)
}

/// The entries that keep an object in the map of the transfer `name`, for [`store`].
pub(crate) fn entries(name: &str, mapped: &Mapped) -> Result<Vec<Entry>> {
    let key = keys::about(keys::there_prefix(name), &mapped.id)?;
    let mut entries = vec![(key, Some(bytes_of(mapped)?))];
    if let Some(there) = &mapped.there {
        entries.push((keys::here(name, there), Some(bytes_of(&mapped.id)?)));
    }
    Ok(entries)
}

/// The entry that removes an object from the map of the transfer `name`, for [`store`].
pub(crate) fn forgotten(name: &str, id: &ObjectId) -> Result<Entry> {
    Ok((keys::about(keys::there_prefix(name), id)?, None))
}

/// Stores entries of the map of the transfer `name`, and others beside them. Where an object loses the identifier that it had at the peer, the
/// way back from that identifier goes, too.
pub(crate) fn store(
    transaction: &mut dyn Transaction,
    name: &str,
    entries: &[Entry],
) -> Result<()> {
    let map = keys::there_prefix(name);
    for (key, value) in entries {
        if key.starts_with(&map)
            && let Some(before) = read_mapped(transaction, key)?
        {
            remove_way_back(transaction, name, &before, value.as_deref())?;
        }
        transaction.set_state(key, value.as_deref())?;
    }
    Ok(())
}

/// Removes the way back from the identifier that an object had, unless it still has it or another object has it by now.
fn remove_way_back(
    transaction: &mut dyn Transaction,
    name: &str,
    before: &Mapped,
    after: Option<&[u8]>,
) -> Result<()> {
    let after: Option<Mapped> = after
        .map(|bytes| read(bytes, "identifier at a peer"))
        .transpose()?;
    let Some(lost) = &before.there else {
        return Ok(());
    };
    let is_kept = after.is_some_and(|after| after.there.as_ref() == Some(lost));
    if !is_kept && object_at_peer(transaction, name, lost)?.as_ref() == Some(&before.id) {
        transaction.set_state(&keys::here(name, lost), None)?;
    }
    Ok(())
}

/// The objects that have left the selection of the transfer `name` and are still at its peer.
pub(crate) fn left(snapshot: &dyn Snapshot, name: &str) -> Result<Vec<ObjectId>> {
    let prefix = keys::there_prefix(name);
    let all: Vec<Mapped> = stored::all_under(snapshot, &prefix, "identifier at a peer")?;
    let left = all.into_iter().filter(|mapped| mapped.left == Some(true));
    Ok(left.map(|mapped| mapped.id).collect())
}

/// The Unique Identifier that an object has at the peer of the transfer `name`, if it was [registered](crate::Register) there.
///
/// # Errors
/// Those of the store.
pub fn identifier_at_peer(
    snapshot: &dyn Snapshot,
    name: &str,
    id: &ObjectId,
) -> Result<Option<Text>> {
    Ok(find(snapshot, name, id)?.and_then(|mapped| mapped.there))
}

/// The object that has this Unique Identifier at the peer of the transfer `name`.
///
/// # Errors
/// Those of the store.
pub fn object_at_peer(
    snapshot: &dyn Snapshot,
    name: &str,
    there: &str,
) -> Result<Option<ObjectId>> {
    let stored = snapshot.state_value(&keys::here(name, there))?;
    stored
        .map(|bytes| read(&bytes, "object at a peer").map_err(Error::from))
        .transpose()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use keyferry_store::{Incarnation, Memory, StoreExt};

    fn id(identifier: &str) -> ObjectId {
        ObjectId {
            server: "a".into(),
            instance: vec![1; 16],
            identifier: identifier.into(),
        }
    }

    fn at(identifier: &str, there: Option<&str>) -> Mapped {
        Mapped {
            there: there.map(Text::from),
            ..Mapped::intended(&id(identifier))
        }
    }

    fn change(memory: &Memory, entries: &[Entry]) {
        memory
            .transact::<_, Error>(|transaction| store(transaction, "t", entries))
            .unwrap();
    }

    fn back(memory: &Memory, there: &str) -> Option<ObjectId> {
        memory
            .view::<_, Error>(|snapshot| object_at_peer(snapshot, "t", there))
            .unwrap()
    }

    #[test]
    fn an_identifier_that_an_object_lost_leads_nowhere() {
        let memory = Memory::new(Incarnation([1; 16]));
        change(&memory, &entries("t", &at("one", Some("x"))).unwrap());
        assert_eq!(back(&memory, "x"), Some(id("one")));
        // The same again, and the same with something else about it.
        let left = Mapped {
            left: Some(true),
            ..at("one", Some("x"))
        };
        change(&memory, &entries("t", &left).unwrap());
        assert_eq!(back(&memory, "x"), Some(id("one")));
        // Another identifier there.
        change(&memory, &entries("t", &at("one", Some("y"))).unwrap());
        assert_eq!(
            (back(&memory, "x"), back(&memory, "y")),
            (None, Some(id("one")))
        );
        // None any more, and forgotten at last.
        change(&memory, &entries("t", &at("one", None)).unwrap());
        assert_eq!(back(&memory, "y"), None);
        change(&memory, &entries("t", &at("one", Some("z"))).unwrap());
        change(&memory, &[forgotten("t", &id("one")).unwrap()]);
        assert_eq!(back(&memory, "z"), None);
    }

    #[test]
    fn an_identifier_that_another_object_got_stays_its_own() {
        let memory = Memory::new(Incarnation([1; 16]));
        change(&memory, &entries("t", &at("one", Some("x"))).unwrap());
        change(&memory, &entries("t", &at("two", Some("x"))).unwrap());
        change(&memory, &[forgotten("t", &id("one")).unwrap()]);
        assert_eq!(back(&memory, "x"), Some(id("two")));
        // In one transaction, in either order.
        let mut both = entries("t", &at("three", Some("x"))).unwrap();
        both.push(forgotten("t", &id("two")).unwrap());
        change(&memory, &both);
        assert_eq!(back(&memory, "x"), Some(id("three")));
        let mut both = vec![forgotten("t", &id("three")).unwrap()];
        both.extend(entries("t", &at("four", Some("x"))).unwrap());
        change(&memory, &both);
        assert_eq!(back(&memory, "x"), Some(id("four")));
    }
}
