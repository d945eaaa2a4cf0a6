//! Which object of ours is which at a peer that gives identifiers of its own: the map that a *register* keeps, asked both ways.

use crate::error::{Error, Result};
use keyferry_kmip::projection::Projection;
use keyferry_kmip::{Attributes, Text, extension as x};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{ObjectId, Snapshot, SnapshotExt, Span, index};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::ops::ControlFlow;

/// An object at a peer; without an identifier there it is meant to be registered, and perhaps was (DESIGN: rule 13).
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::MAPPED)]
pub(crate) struct Mapped {
    pub(crate) id: ObjectId,
    /// Its Unique Identifier there.
    #[ttlv(tag = x::LOCAL_IDENTIFIER)]
    pub(crate) there: Option<Text>,
    /// The digest of what it was when all of it had arrived.
    #[ttlv(tag = x::DIGEST_VALUE)]
    pub(crate) digest: Option<Vec<u8>>,
    /// Marks what it was told of attributes.
    #[ttlv(tag = x::SAID)]
    pub(crate) said: Option<Vec<u8>>,
    /// The plan whose execution has begun to change it there.
    #[ttlv(tag = x::BEGUN)]
    pub(crate) begun: Option<Vec<u8>>,
    /// It has left the selection since.
    #[ttlv(tag = x::LEFT)]
    pub(crate) left: Option<bool>,
    /// The attributes that a receiver was told by Put and Notify, in 1.x with the indices that they have there.
    #[ttlv(group = Projection::Stored)]
    pub(crate) told: Attributes,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Mapped {
    /// An object that is meant to be there.
    pub(crate) fn meant(id: &ObjectId) -> Mapped {
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

/// One change of the s2s state.
pub(crate) type Entry = (Vec<u8>, Option<Vec<u8>>);

fn there_key(name: &str, id: &ObjectId) -> Result<Vec<u8>> {
    Ok([b"there/", name.as_bytes(), &[0], &index::object_id(id)?.key].concat())
}

fn here_key(name: &str, there: &str) -> Vec<u8> {
    [b"here/", name.as_bytes(), &[0], there.as_bytes()].concat()
}

pub(crate) fn find(snapshot: &dyn Snapshot, name: &str, id: &ObjectId) -> Result<Option<Mapped>> {
    let stored = snapshot.state_value(&there_key(name, id)?)?;
    let mapped: Option<Mapped> = stored
        .map(|bytes| read(&bytes, "identifier at a peer"))
        .transpose()?;
    Ok(mapped.filter(|mapped| mapped.id == *id))
}

/// What storing it changes.
pub(crate) fn entries(name: &str, mapped: &Mapped) -> Result<Vec<Entry>> {
    let mut entries = vec![(there_key(name, &mapped.id)?, Some(bytes_of(mapped)?))];
    if let Some(there) = &mapped.there {
        entries.push((here_key(name, there), Some(bytes_of(&mapped.id)?)));
    }
    Ok(entries)
}

/// What takes an intent back.
pub(crate) fn forgotten(name: &str, id: &ObjectId) -> Result<Entry> {
    Ok((there_key(name, id)?, None))
}

/// The objects that have left the selection of what is brought to a peer, and are there still.
pub(crate) fn left(snapshot: &dyn Snapshot, name: &str) -> Result<Vec<ObjectId>> {
    let mut left = Vec::new();
    snapshot.state(
        &Span::prefix(&[b"there/", name.as_bytes(), &[0]].concat()),
        &mut |_, value| {
            let mapped: Mapped = read(value, "identifier at a peer")?;
            left.extend((mapped.left == Some(true)).then_some(mapped.id));
            Ok(ControlFlow::Continue(()))
        },
    )?;
    Ok(left)
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
    let stored = snapshot.state_value(&here_key(name, there))?;
    stored
        .map(|bytes| read(&bytes, "object at a peer").map_err(Error::from))
        .transpose()
}
