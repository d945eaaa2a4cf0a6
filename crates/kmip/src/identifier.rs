//! [`UniqueIdentifier`], which names an object in a request, and [`UniqueIdentifiers`], a list of them in one buffer.

use crate::spec::enumeration::message::UniqueIdentifierEnumeration;
use crate::spec::tag;
use keyferry_ttlv::{
    Decode, Encode, ErrorKind, Group, Item, Reader, Result, Tag, Tagged, Text, Type, Version,
    Writer,
};
use std::fmt;

/// The Unique Identifier of an object (KMIP 2.1 §4.58, since 1.0): a text; since 2.0 also a placeholder or a place in the batch.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UniqueIdentifier {
    /// The identifier of an object.
    Text(Text),
    /// ID Placeholder and its like, since 2.0.
    Enumeration(UniqueIdentifierEnumeration),
    /// The n-th identifier of the response, from 0, or counted back from this item when negative, since 2.0.
    Integer(i32),
}

impl UniqueIdentifier {
    /// The identifier, where it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            UniqueIdentifier::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Tagged for UniqueIdentifier {
    const TAG: Tag = tag::UNIQUE_IDENTIFIER;
}

impl From<&str> for UniqueIdentifier {
    fn from(text: &str) -> Self {
        UniqueIdentifier::Text(text.into())
    }
}

impl From<Text> for UniqueIdentifier {
    fn from(text: Text) -> Self {
        UniqueIdentifier::Text(text)
    }
}

impl fmt::Debug for UniqueIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for UniqueIdentifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UniqueIdentifier::Text(text) => f.write_str(text),
            UniqueIdentifier::Enumeration(value) => write!(f, "{value}"),
            UniqueIdentifier::Integer(n) => write!(f, "{n}"),
        }
    }
}

impl Decode for UniqueIdentifier {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        match item.ty() {
            Type::Enumeration if r.version() >= Version::V2_0 => Ok(UniqueIdentifier::Enumeration(
                UniqueIdentifierEnumeration(item.enumeration(r)?),
            )),
            Type::Integer if r.version() >= Version::V2_0 => {
                Ok(UniqueIdentifier::Integer(item.integer(r)?))
            }
            _ => Ok(UniqueIdentifier::Text(item.text(r)?.into())),
        }
    }
}

impl Encode for UniqueIdentifier {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        if !matches!(self, UniqueIdentifier::Text(_)) && w.version() < Version::V2_0 {
            return Err(w.error(
                tag,
                ErrorKind::NotInVersion {
                    version: w.version(),
                    since: Version::V2_0,
                    until: None,
                },
            ));
        }
        match self {
            UniqueIdentifier::Text(text) => w.text(tag, text)?,
            UniqueIdentifier::Enumeration(value) => w.enumeration(tag, value.0),
            UniqueIdentifier::Integer(n) => w.integer(tag, *n),
        }
        Ok(())
    }
}

/// The Unique Identifiers in the response of a Locate (KMIP 2.1 §6.1.28, since 1.0). There may be very many, so that they share one buffer.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UniqueIdentifiers {
    text: String,
    ends: Vec<usize>,
}

impl UniqueIdentifiers {
    /// An empty list.
    pub fn new() -> Self {
        UniqueIdentifiers::default()
    }

    /// The number of identifiers.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds an identifier.
    #[inline]
    pub fn push(&mut self, identifier: &str) {
        self.text.push_str(identifier);
        self.ends.push(self.text.len());
    }

    /// The identifiers, one after another.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            self.text
                .get(std::mem::replace(&mut start, *end)..*end)
                .unwrap_or_default()
        })
    }

    /// The one at a place.
    pub fn get(&self, place: usize) -> Option<&str> {
        let start = match place.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.text.get(start..*self.ends.get(place)?)
    }
}

impl fmt::Debug for UniqueIdentifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: AsRef<str>> FromIterator<T> for UniqueIdentifiers {
    fn from_iter<I: IntoIterator<Item = T>>(iter: I) -> Self {
        let mut identifiers = UniqueIdentifiers::new();
        for identifier in iter {
            identifiers.push(identifier.as_ref());
        }
        identifiers
    }
}

impl Group for UniqueIdentifiers {
    type How = ();

    #[inline]
    fn accepts((): (), item: Item<'_>, _: &Reader<'_>) -> bool {
        item.tag() == tag::UNIQUE_IDENTIFIER
    }

    #[inline]
    fn absorb<'a>(&mut self, (): (), _: usize, item: Item<'a>, r: &Reader<'a>) -> Result<()> {
        self.push(item.text(r).map_err(|e| e.within(item.tag()))?);
        Ok(())
    }

    fn write(&self, (): (), w: &mut Writer) -> Result<()> {
        self.iter()
            .try_for_each(|identifier| w.text(tag::UNIQUE_IDENTIFIER, identifier))
    }
}
