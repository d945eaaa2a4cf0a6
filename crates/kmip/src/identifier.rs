use crate::Text;
use crate::spec::{UniqueIdentifierEnumeration, tag};
use keyferry_ttlv::{Decode, Encode, ErrorKind, Item, Reader, Result, Tag, Tagged, Type, Version, Writer};
use std::fmt;

/// The Unique Identifier of an object (KMIP 2.1 §4.58, since 1.0): a text; since 2.0 also a placeholder or a place in the batch.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UniqueIdentifier {
    /// The identifier of an object.
    Text(Text),
    /// ID Placeholder and its like, since 2.0.
    Enumeration(UniqueIdentifierEnumeration),
    /// The n-th identifier of the response, counted from the end when negative, since 2.0.
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
            Type::Enumeration if r.version() >= Version::V2_0 => {
                Ok(UniqueIdentifier::Enumeration(UniqueIdentifierEnumeration(item.enumeration(r)?)))
            }
            Type::Integer if r.version() >= Version::V2_0 => Ok(UniqueIdentifier::Integer(item.integer(r)?)),
            _ => Ok(UniqueIdentifier::Text(item.text(r)?.into())),
        }
    }
}

impl Encode for UniqueIdentifier {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        if !matches!(self, UniqueIdentifier::Text(_)) && w.version() < Version::V2_0 {
            return Err(w.error(tag, ErrorKind::NotInVersion { version: w.version(), since: Version::V2_0, until: None }));
        }
        match self {
            UniqueIdentifier::Text(text) => w.text(tag, text)?,
            UniqueIdentifier::Enumeration(value) => w.enumeration(tag, value.0),
            UniqueIdentifier::Integer(n) => w.integer(tag, *n),
        }
        Ok(())
    }
}
