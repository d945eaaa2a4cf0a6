//! This module defines records, stamps and feed entries: the meaning of the bytes in a store.

use crate::error::{Error, ErrorKind, Result};
use crate::lineage::Lineage;
use crate::stamp::Stamp;
use keyferry_kmip::projection::{Projection, stored_form};
use keyferry_kmip::spec::{AttributeValue, ObjectType, State, tag};
use keyferry_kmip::{
    Attribute, Attributes, DateTime, Name, Object, Text, context, extension as x, lifecycle,
};
use keyferry_ttlv::{Context, Decode, Encode, Extra, Raw, Tagged, Version};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The encoding of records: the superset form of the newest version. Unknown fields survive.
fn form() -> Context {
    context(Version::V2_1)
}

/// The identity of an object between servers, whatever identifier each gives it: the server that created it, and its identifier there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[ttlv(tag = x::OBJECT_ID)]
pub struct ObjectId {
    /// The server id of the server that created it.
    #[ttlv(tag = x::ORIGIN_SERVER)]
    pub server: Text,
    /// The instance of that server: a new server under the same name has another one.
    #[ttlv(tag = x::ORIGIN_INSTANCE)]
    pub instance: Vec<u8>,
    /// The first Unique Identifier that it had there.
    #[ttlv(tag = x::ORIGIN_IDENTIFIER)]
    pub identifier: Text,
}

impl ObjectId {
    /// Encodes the id; equal ids have equal bytes.
    ///
    /// # Errors
    /// None in practice.
    pub fn encoded(&self) -> Result<Vec<u8>> {
        bytes_of(self)
    }
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.server, self.identifier)
    }
}

/// The local additions that a replica keeps to the verbatim copy.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[ttlv(tag = x::OVERLAY)]
pub struct Overlay {
    /// The local State, where it is above that of the copy.
    #[ttlv(tag = x::LOCAL_STATE)]
    pub state: Option<State>,
    /// Attributes that only this server has.
    #[ttlv(group = Projection::Stored)]
    pub attributes: Attributes,
    /// Attributes of the copy that local clients do not see, or see with another value.
    pub hidden: Vec<Hidden>,
    /// Whether the object was withdrawn: it left the selection that this server follows, its material is gone, and clients do
    /// not see it (rule 6 of docs/design.md).
    #[ttlv(tag = x::WITHDRAWN)]
    pub withdrawn: Option<bool>,
    /// Whether its issuer itself has withdrawn it: then no relay brings it back, as long as this server follows the issuer.
    #[ttlv(tag = x::BY_ISSUER)]
    pub by_issuer: Option<bool>,
    /// The names of attributes that the issuer's object may have and the copy lacks, because a relation leaves them out.
    #[ttlv(tag = x::WITHOUT)]
    pub without: Vec<Text>,
    /// The client that owns the object at its issuer.
    #[ttlv(tag = x::OWNER)]
    pub owner: Option<Text>,
    /// The time until which the copy may be used.
    #[ttlv(tag = x::LEASE_EXPIRY)]
    pub lease_expiry: Option<DateTime>,
    /// The part of the usage limits that this server may spend: id, size, spent.
    #[ttlv(tag = x::USAGE_SLICE)]
    pub usage_slice: Option<Raw>,
    /// The receipts that came with the copy: of which change, and from whom. What the engine makes of them stands in its crate.
    #[ttlv(tag = x::RECEIPTS)]
    pub receipts: Option<Raw>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// An attribute of a copy that clients here do not see as it is: a Name that another object has, a Link whose target has another
/// identifier here.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::HIDDEN)]
pub struct Hidden {
    /// First the issuer's value; then, if there is one, the value that clients see instead.
    #[ttlv(group = Projection::Stored)]
    pub attributes: Attributes,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl Hidden {
    /// Hides `value` and shows `instead`, if anything.
    pub fn new(value: AttributeValue, instead: Option<AttributeValue>) -> Hidden {
        let mut attributes = Attributes::new();
        attributes.keep(value.into());
        instead
            .into_iter()
            .for_each(|instead| attributes.keep(instead.into()));
        Hidden {
            attributes,
            extra: Extra::NONE,
        }
    }

    /// The hidden value.
    pub fn value(&self) -> Option<&AttributeValue> {
        self.attributes
            .iter()
            .next()
            .map(|attribute| &attribute.value)
    }

    /// The value that is shown instead.
    pub fn instead(&self) -> Option<&AttributeValue> {
        self.attributes
            .iter()
            .nth(1)
            .map(|attribute| &attribute.value)
    }
}

/// A managed object as a store keeps it, without its key material.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::RECORD)]
pub struct Record {
    /// Its identity between servers.
    pub id: ObjectId,
    /// Its Unique Identifier here.
    #[ttlv(tag = x::LOCAL_IDENTIFIER)]
    pub identifier: Text,
    /// The client that owns it.
    #[ttlv(tag = x::OWNER)]
    pub owner: Option<Text>,
    /// The stamp of its last change.
    pub stamp: Stamp,
    /// The first stamp of each reign that changed it, oldest first; the current reign is the last.
    #[ttlv(group = ())]
    pub lineage: Lineage,
    /// Its Object Type.
    pub object_type: ObjectType,
    /// The issuer's attributes, verbatim, without Unique Identifier and Object Type.
    #[ttlv(group = Projection::Stored)]
    pub attributes: Attributes,
    /// The local additions.
    pub overlay: Option<Overlay>,
    /// A keyed digest of the material; only this store has the key.
    #[ttlv(tag = x::MATERIAL_FINGERPRINT)]
    pub fingerprint: Option<Vec<u8>>,
    /// Index keys that the object once had and has no more, as in its feed entry.
    #[ttlv(tag = x::KEY_BEFORE)]
    pub lost: Vec<KeyBefore>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl Record {
    /// Decodes a record.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`].
    pub fn decode(bytes: &[u8]) -> Result<Record> {
        read(bytes, "record")
    }

    /// Encodes the record.
    ///
    /// # Errors
    /// When an attribute has no stored form.
    pub fn encoded(&self) -> Result<Vec<u8>> {
        bytes_of(self)
    }

    /// The State that holds here at the time `now`: the State of the copy, or the local one where that is higher, and moved on by
    /// dates that have passed.
    pub fn state(&self, now: DateTime) -> Option<State> {
        Some(self.raised(lifecycle::state_at(&self.attributes, now)?))
    }

    /// The State without regard to dates that have passed; this is the one that is indexed.
    pub fn stored_state(&self) -> Option<State> {
        Some(self.raised(self.attributes.state()?))
    }

    /// The attributes that local clients see, except State: those of the copy that are not hidden, the values shown instead of
    /// hidden ones, and the local ones.
    pub fn client_attributes(&self) -> impl Iterator<Item = &Attribute> {
        let overlay = self.overlay.as_ref();
        let hidden = overlay.map_or(&[][..], |overlay| &overlay.hidden);
        let own = self.attributes.iter().filter(|own| {
            !hidden
                .iter()
                .any(|hidden| hidden.value() == Some(&own.value))
        });
        let instead = hidden
            .iter()
            .flat_map(|hidden| hidden.attributes.iter().skip(1));
        own.chain(instead).chain(
            overlay
                .into_iter()
                .flat_map(|overlay| overlay.attributes.iter()),
        )
    }

    /// The Names that local clients see.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.client_attributes()
            .filter_map(|attribute| match &attribute.value {
                AttributeValue::Name(name) => Some(name),
                _ => None,
            })
    }

    fn raised(&self, state: State) -> State {
        match self.overlay.as_ref().and_then(|overlay| overlay.state) {
            Some(raised) => lifecycle::Rank::of(raised).joined_state(lifecycle::Rank::of(state)),
            None => state,
        }
    }

    /// Whether the object is destroyed, here or at its issuer: its material is gone for ever.
    pub fn is_destroyed(&self) -> bool {
        let raised = self.overlay.as_ref().and_then(|overlay| overlay.state);
        [self.attributes.state(), raised]
            .into_iter()
            .flatten()
            .any(lifecycle::is_destroyed)
    }

    /// Whether the copy was withdrawn: only a mark is left, for when its issuer sends the object again.
    pub fn is_withdrawn(&self) -> bool {
        self.overlay
            .as_ref()
            .is_some_and(|overlay| overlay.withdrawn == Some(true))
    }

    /// Whether the object is compromised, here or at its issuer.
    pub fn is_compromised(&self) -> bool {
        let raised = self.overlay.as_ref().and_then(|overlay| overlay.state);
        [self.attributes.state(), raised]
            .into_iter()
            .flatten()
            .any(lifecycle::is_compromised)
    }

    /// The digest of the verbatim copy: of its type and its attributes, in whatever order they are. Servers with equal digests
    /// hold equal copies.
    ///
    /// # Errors
    /// When an attribute has no stored form.
    pub fn copy_digest(&self) -> Result<Vec<u8>> {
        copy_digest(self.object_type, &self.attributes)
    }
}

/// The digest that [`Record::copy_digest`] returns, of a type and attributes.
///
/// # Errors
/// When an attribute has no stored form.
pub fn copy_digest(object_type: ObjectType, attributes: &Attributes) -> Result<Vec<u8>> {
    Ok(copy_digest_and_size(object_type, attributes)?.0)
}

/// The digest that [`Record::copy_digest`] returns, and how many bytes the attributes take as a store keeps them.
///
/// # Errors
/// When an attribute has no stored form.
pub fn copy_digest_and_size(
    object_type: ObjectType,
    attributes: &Attributes,
) -> Result<(Vec<u8>, usize)> {
    let (bytes, mut places) = stored_form(attributes, form())
        .map_err(|e| Error::new(ErrorKind::Corrupt, &e).caused_by(e))?;
    let part = |place: &std::ops::Range<usize>| bytes.get(place.clone()).unwrap_or_default();
    places.sort_by(|a, b| part(a).cmp(part(b)));
    let mut hash = Sha256::new();
    hash.update(object_type.0.to_be_bytes());
    for place in &places {
        hash.update(part(place));
    }
    Ok((hash.finalize().to_vec(), bytes.len()))
}

/// The encoding of key material: 2.1, and for a Template 1.4, the last version that has templates.
fn form_of(is_template: bool) -> Context {
    if is_template {
        context(Version::V1_4)
    } else {
        form()
    }
}

/// Encodes an object as key material to be stored.
///
/// # Errors
/// When it has no stored form.
pub fn material_of(object: &Object) -> Result<Zeroizing<Vec<u8>>> {
    let mut w = keyferry_ttlv::Writer::new(form_of(object.object_type() == ObjectType::TEMPLATE));
    keyferry_ttlv::Choice::encode_choice(object, &mut w)
        .map_err(|e| Error::new(ErrorKind::Corrupt, &e).caused_by(e))?;
    Ok(Zeroizing::new(w.finish().to_vec()))
}

/// Decodes stored key material.
///
/// # Errors
/// [`ErrorKind::Corrupt`].
pub fn object_of(material: &[u8]) -> Result<Object> {
    let corrupt = |e: keyferry_ttlv::Error| {
        Error::new(ErrorKind::Corrupt, format_args!("stored material: {e}")).caused_by(e)
    };
    let item = keyferry_ttlv::Item::parse(material).map_err(corrupt)?;
    let r = keyferry_ttlv::Reader::new(material, form_of(item.tag() == tag::TEMPLATE));
    keyferry_ttlv::Choice::decode_choice(item, &r).map_err(corrupt)
}

/// A feed entry: enough to decide whom a change concerns, without reading the object.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::FEED_ENTRY)]
pub struct Entry {
    /// The object.
    pub id: ObjectId,
    /// Its stamp after the change.
    pub stamp: Stamp,
    /// The kind of change.
    #[ttlv(tag = x::ENTRY_KIND)]
    pub kind: EntryKind,
    /// Index keys that the object once had and has no more, so that a relation that selects by them learns that the object left.
    #[ttlv(tag = x::KEY_BEFORE)]
    pub before: Vec<KeyBefore>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// An index key that an object has lost.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyBefore(pub crate::contract::IndexKey);

impl KeyBefore {
    /// The mark that more keys were lost than are remembered: the object may once have had any key.
    pub fn any() -> KeyBefore {
        KeyBefore(crate::contract::IndexKey {
            index: crate::contract::Index::ARRIVAL,
            key: Box::default(),
        })
    }
}

impl Decode for KeyBefore {
    fn decode<'a>(
        item: keyferry_ttlv::Item<'a>,
        r: &keyferry_ttlv::Reader<'a>,
    ) -> keyferry_ttlv::Result<Self> {
        match item.bytes(r)?.split_first() {
            Some((index, key)) => Ok(KeyBefore(crate::contract::IndexKey {
                index: crate::contract::Index(*index),
                key: key.into(),
            })),
            None => Err(r.error(
                item,
                keyferry_ttlv::ErrorKind::Value("a key needs an index"),
            )),
        }
    }
}

impl Encode for KeyBefore {
    fn encode(
        &self,
        tag: keyferry_ttlv::Tag,
        w: &mut keyferry_ttlv::Writer,
    ) -> keyferry_ttlv::Result<()> {
        let mut bytes = Vec::with_capacity(1 + self.0.key.len());
        bytes.push(self.0.index.0);
        bytes.extend_from_slice(&self.0.key);
        w.bytes(tag, &bytes)
    }
}

/// The kind of change that a feed entry reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryKind(pub u32);

impl EntryKind {
    /// The object is as its record says.
    pub const CHANGED: EntryKind = EntryKind(1);
    /// The object was destroyed; its record stays as the tombstone.
    pub const DESTROYED: EntryKind = EntryKind(2);
}

impl Decode for EntryKind {
    fn decode<'a>(
        item: keyferry_ttlv::Item<'a>,
        r: &keyferry_ttlv::Reader<'a>,
    ) -> keyferry_ttlv::Result<Self> {
        item.enumeration(r).map(EntryKind)
    }
}

impl Encode for EntryKind {
    fn encode(
        &self,
        tag: keyferry_ttlv::Tag,
        w: &mut keyferry_ttlv::Writer,
    ) -> keyferry_ttlv::Result<()> {
        w.enumeration(tag, self.0);
        Ok(())
    }
}

impl Entry {
    /// Decodes an entry.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`].
    pub fn decode(bytes: &[u8]) -> Result<Entry> {
        read(bytes, "feed entry")
    }

    /// Encodes the entry.
    ///
    /// # Errors
    /// None in practice.
    pub fn encoded(&self) -> Result<Vec<u8>> {
        bytes_of(self)
    }
}

/// Decodes a stored value, which [`bytes_of`] encoded.
///
/// # Errors
/// [`ErrorKind::Corrupt`]; the text says `what` it is.
pub fn read<T: Decode + Tagged>(bytes: &[u8], what: &str) -> Result<T> {
    keyferry_ttlv::decode(bytes, form()).map_err(|e| {
        Error::new(ErrorKind::Corrupt, format_args!("stored {what}: {e}")).caused_by(e)
    })
}

/// Encodes a value to be stored.
///
/// # Errors
/// When it has no stored form.
pub fn bytes_of<T: Encode + Tagged>(value: &T) -> Result<Vec<u8>> {
    let frame = keyferry_ttlv::encode(value, form()).map_err(|e| {
        Error::new(ErrorKind::Misuse, format_args!("can't be stored: {e}")).caused_by(e)
    })?;
    Ok(frame.to_vec())
}

/// The item that a value is stored as inside another one.
///
/// # Errors
/// When it has no stored form.
pub fn stored_raw<T: Encode + Tagged>(value: &T) -> Result<Raw> {
    Raw::of(T::TAG, value, form()).map_err(|e| {
        Error::new(ErrorKind::Misuse, format_args!("can't be stored: {e}")).caused_by(e)
    })
}
