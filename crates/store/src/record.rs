//! Records, stamps and feed entries: what the bytes of a store mean.

use crate::{Error, ErrorKind, Incarnation, Result};
use keyferry_kmip::projection::{Projection, stored_form};
use keyferry_kmip::spec::{AttributeValue, ObjectType, State, tag};
use keyferry_kmip::{
    Attribute, Attributes, DateTime, Name, Object, Text, context, extension as x, lifecycle,
};
use keyferry_ttlv::{Context, Decode, Encode, Extra, Raw, Tagged, Version};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// How records are kept: the superset form of the newest version. Unknown fields survive.
fn form() -> Context {
    context(Version::V2_1)
}

/// What an object is between servers, whatever identifiers they give it: where it was born and what it was called there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[ttlv(tag = x::OBJECT_ID)]
pub struct ObjectId {
    /// The server id of its origin.
    #[ttlv(tag = x::ORIGIN_SERVER)]
    pub server: Text,
    /// The instance of that server, so that a server set up anew under an old name is another one.
    #[ttlv(tag = x::ORIGIN_INSTANCE)]
    pub instance: Vec<u8>,
    /// The Unique Identifier that it had there first.
    #[ttlv(tag = x::ORIGIN_IDENTIFIER)]
    pub identifier: Text,
}

impl ObjectId {
    /// Its bytes, the same for the same id.
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

/// Which change of an object this is: its issuer's epoch, who and in which reign that is, and a count of the object's own changes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[ttlv(tag = x::STAMP)]
pub struct Stamp {
    /// Counts the issuers that the object has had.
    #[ttlv(tag = x::EPOCH)]
    pub epoch: i64,
    /// The server id of the issuer.
    #[ttlv(tag = x::ISSUER)]
    pub issuer: Text,
    /// The issuer's reign when it made the change: see [`StoreExt::begin_reign`](crate::StoreExt::begin_reign).
    #[ttlv(tag = x::INCARNATION)]
    pub incarnation: Vec<u8>,
    /// Counts the object's changes, across epochs.
    #[ttlv(tag = x::SEQUENCE)]
    pub sequence: i64,
    /// A grant by the previous issuer, for a later epoch.
    #[ttlv(tag = x::GRANT)]
    pub grant: Option<Raw>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// How a stamp that comes in stands to the one that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Descent {
    /// The same change.
    Equal,
    /// The held one is an ancestor of it.
    Newer,
    /// It is an ancestor of the held one.
    Older,
    /// Neither: both sides changed the object on their own.
    Fork,
}

impl Stamp {
    /// The first stamp of an object.
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

/// Compares what is held with what comes in, by stamps and lineages alone. Clocks decide nothing.
pub fn descent(held: (&Stamp, &[Stamp]), incoming: (&Stamp, &[Stamp])) -> Descent {
    let same_reign = held.0.is_reign_of(incoming.0);
    if same_reign {
        return match incoming.0.sequence.cmp(&held.0.sequence) {
            std::cmp::Ordering::Equal => Descent::Equal,
            std::cmp::Ordering::Greater => Descent::Newer,
            std::cmp::Ordering::Less => Descent::Older,
        };
    }
    // An ancestor's reign stands in the descendant's lineage, and ended no earlier than the ancestor's own change.
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

/// What a replica keeps beside the verbatim copy.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[ttlv(tag = x::OVERLAY)]
pub struct Overlay {
    /// A state raised here, above that of the copy.
    #[ttlv(tag = x::LOCAL_STATE)]
    pub state: Option<State>,
    /// Attributes that only this server has.
    #[ttlv(group = Projection::Stored)]
    pub attributes: Attributes,
    /// Attributes of the copy that clients here do not see, or see otherwise.
    pub hidden: Vec<Hidden>,
    /// The object has left what this server follows: its material is gone, and clients do not see it (DESIGN: rule 6).
    #[ttlv(tag = x::WITHDRAWN)]
    pub withdrawn: Option<bool>,
    /// The relations that the copy comes by.
    #[ttlv(tag = x::VIA)]
    pub via: Vec<Text>,
    /// Attributes, by name, that the issuer's object may have and the copy has not, since a relation left them out.
    #[ttlv(tag = x::WITHOUT)]
    pub without: Vec<Text>,
    /// The client that the object belongs to at its issuer.
    #[ttlv(tag = x::OWNER)]
    pub owner: Option<Text>,
    /// Until when the copy may be used.
    #[ttlv(tag = x::LEASE_EXPIRY)]
    pub lease_expiry: Option<DateTime>,
    /// How much of the usage limits was given to this server: id, size, spent.
    #[ttlv(tag = x::USAGE_SLICE)]
    pub usage_slice: Option<Raw>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// An attribute of a copy that is not shown here as it is: a Name that another object has, a Link whose target has another identifier here.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::HIDDEN)]
pub struct Hidden {
    /// First its value, as the issuer has it; then what is shown in its place, if anything.
    #[ttlv(group = Projection::Stored)]
    pub attributes: Attributes,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl Hidden {
    /// Shows another value in the place of one, or none.
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

    /// The value that is not shown.
    pub fn value(&self) -> Option<&AttributeValue> {
        self.attributes
            .iter()
            .next()
            .map(|attribute| &attribute.value)
    }

    /// What is shown instead.
    pub fn instead(&self) -> Option<&AttributeValue> {
        self.attributes
            .iter()
            .nth(1)
            .map(|attribute| &attribute.value)
    }
}

/// An object as a store keeps it, without its material.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::RECORD)]
pub struct Record {
    /// Its identity between servers.
    pub id: ObjectId,
    /// Its Unique Identifier here.
    #[ttlv(tag = x::LOCAL_IDENTIFIER)]
    pub identifier: Text,
    /// The client that it belongs to.
    #[ttlv(tag = x::OWNER)]
    pub owner: Option<Text>,
    /// Its last change.
    pub stamp: Stamp,
    /// Where its earlier reigns began, oldest first, the current one last.
    #[ttlv(tag = x::LINEAGE)]
    pub lineage: Vec<Stamp>,
    /// What it is.
    pub object_type: ObjectType,
    /// The issuer's attributes, verbatim. Unique Identifier and Object Type are not among them.
    #[ttlv(group = Projection::Stored)]
    pub attributes: Attributes,
    /// What is local.
    pub overlay: Option<Overlay>,
    /// A keyed digest of the material, known to this store alone.
    #[ttlv(tag = x::MATERIAL_FINGERPRINT)]
    pub fingerprint: Option<Vec<u8>>,
    /// Index keys that the object once had and has no more: those of its feed entry.
    #[ttlv(tag = x::KEY_BEFORE)]
    pub lost: Vec<KeyBefore>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`].
    pub fn decode(bytes: &[u8]) -> Result<Record> {
        read(bytes, "record")
    }

    /// Its bytes.
    ///
    /// # Errors
    /// When an attribute has no stored form.
    pub fn encoded(&self) -> Result<Vec<u8>> {
        bytes_of(self)
    }

    /// The State that counts here and now: the copy's, raised locally where it was, moved on by dates that have passed.
    pub fn state(&self, now: DateTime) -> Option<State> {
        Some(self.raised(lifecycle::state_at(&self.attributes, now)?))
    }

    /// The State without the passing of time: what an index can hold.
    pub fn stored_state(&self) -> Option<State> {
        Some(self.raised(self.attributes.state()?))
    }

    /// The attributes that clients here see, but for the State: the copy's, what is shown in the place of some, and the local ones.
    pub fn shown(&self) -> impl Iterator<Item = &Attribute> {
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

    /// The Names that clients here see.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.shown().filter_map(|attribute| match &attribute.value {
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

    /// Whether the material is gone for ever.
    pub fn is_destroyed(&self) -> bool {
        let raised = self.overlay.as_ref().and_then(|overlay| overlay.state);
        [self.attributes.state(), raised]
            .into_iter()
            .flatten()
            .any(lifecycle::is_destroyed)
    }

    /// Whether it is a copy that was withdrawn: a mark of what was here, for its issuer's next word, and for nobody else.
    pub fn is_withdrawn(&self) -> bool {
        self.overlay
            .as_ref()
            .is_some_and(|overlay| overlay.withdrawn == Some(true))
    }

    /// Whether the object counts as compromised.
    pub fn is_compromised(&self) -> bool {
        let raised = self.overlay.as_ref().and_then(|overlay| overlay.state);
        [self.attributes.state(), raised]
            .into_iter()
            .flatten()
            .any(lifecycle::is_compromised)
    }

    /// Digest of the verbatim copy: type and attributes, in any order. Two servers that agree on it hold the same.
    ///
    /// # Errors
    /// When an attribute has no stored form.
    pub fn copy_digest(&self) -> Result<Vec<u8>> {
        copy_digest(self.object_type, &self.attributes)
    }
}

/// See [`Record::copy_digest`].
///
/// # Errors
/// When an attribute has no stored form.
pub fn copy_digest(object_type: ObjectType, attributes: &Attributes) -> Result<Vec<u8>> {
    let (bytes, mut places) =
        stored_form(attributes, form()).map_err(|e| Error::new(ErrorKind::Corrupt, e))?;
    let part = |place: &std::ops::Range<usize>| bytes.get(place.clone()).unwrap_or_default();
    places.sort_by(|a, b| part(a).cmp(part(b)));
    let mut hash = Sha256::new();
    hash.update(object_type.0.to_be_bytes());
    for place in &places {
        hash.update(part(place));
    }
    Ok(hash.finalize().to_vec())
}

/// How an object is kept: a Template, which no version since 2.0 has, as the last one that had it.
fn form_of(is_template: bool) -> Context {
    if is_template {
        context(Version::V1_4)
    } else {
        form()
    }
}

/// The bytes of an object as material is kept.
///
/// # Errors
/// When it has no stored form.
pub fn material_of(object: &Object) -> Result<Zeroizing<Vec<u8>>> {
    let mut w = keyferry_ttlv::Writer::new(form_of(object.object_type() == ObjectType::TEMPLATE));
    keyferry_ttlv::Choice::encode_choice(object, &mut w)
        .map_err(|e| Error::new(ErrorKind::Corrupt, e))?;
    Ok(Zeroizing::new(w.finish().to_vec()))
}

/// The object that was kept.
///
/// # Errors
/// [`ErrorKind::Corrupt`].
pub fn object_of(material: &[u8]) -> Result<Object> {
    let corrupt = |e| Error::new(ErrorKind::Corrupt, format_args!("stored material: {e}"));
    let item = keyferry_ttlv::Item::parse(material).map_err(corrupt)?;
    let r = keyferry_ttlv::Reader::new(material, form_of(item.tag() == tag::TEMPLATE));
    keyferry_ttlv::Choice::decode_choice(item, &r).map_err(corrupt)
}

/// What a feed entry tells: enough to decide whom a change concerns, without reading the object.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::FEED_ENTRY)]
pub struct Entry {
    /// The object.
    pub id: ObjectId,
    /// Its stamp after the change.
    pub stamp: Stamp,
    /// What happened.
    #[ttlv(tag = x::ENTRY_KIND)]
    pub kind: EntryKind,
    /// Index keys that the object once had and has no more, so that whoever selected by them can be told.
    #[ttlv(tag = x::KEY_BEFORE)]
    pub before: Vec<KeyBefore>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// An index key that an object has lost.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyBefore(pub crate::IndexKey);

impl KeyBefore {
    /// Stands for more keys than are remembered: the object may once have had any.
    pub fn any() -> KeyBefore {
        KeyBefore(crate::IndexKey {
            index: crate::Index::ARRIVAL,
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
            Some((index, key)) => Ok(KeyBefore(crate::IndexKey {
                index: crate::Index(*index),
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

/// What a feed entry is about.
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
    /// Reads an entry.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`].
    pub fn decode(bytes: &[u8]) -> Result<Entry> {
        read(bytes, "feed entry")
    }

    /// Its bytes.
    ///
    /// # Errors
    /// None in practice.
    pub fn encoded(&self) -> Result<Vec<u8>> {
        bytes_of(self)
    }
}

/// Reads a value that was kept with [`bytes_of`].
///
/// # Errors
/// [`ErrorKind::Corrupt`], saying `what`.
pub fn read<T: Decode + Tagged>(bytes: &[u8], what: &str) -> Result<T> {
    keyferry_ttlv::decode(bytes, form())
        .map_err(|e| Error::new(ErrorKind::Corrupt, format_args!("stored {what}: {e}")))
}

/// The bytes of a value to be kept.
///
/// # Errors
/// When it has no stored form.
pub fn bytes_of<T: Encode + Tagged>(value: &T) -> Result<Vec<u8>> {
    let frame = keyferry_ttlv::encode(value, form())
        .map_err(|e| Error::new(ErrorKind::Misuse, format_args!("can't be stored: {e}")))?;
    Ok(frame.to_vec())
}
