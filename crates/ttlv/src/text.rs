//! [`Text`], an owned Text String.

use crate::decoding::Decode;
use crate::encoding::Encode;
use crate::error::Result;
use crate::item::Item;
use crate::item::reader::Reader;
use crate::types::Tag;
use crate::writer::Writer;
use alloc::string::String;
use compact_str::CompactString;
use core::fmt;
use core::ops::Deref;

/// A Text String, owned; up to 24 bytes of it need no allocation.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(CompactString);

impl Text {
    /// The text of these parts, one behind the other.
    pub fn joined(parts: &[&str]) -> Text {
        let mut text = CompactString::with_capacity(parts.iter().map(|part| part.len()).sum());
        for part in parts {
            text.push_str(part);
        }
        Text(text)
    }

    /// The text as a `str`.
    #[inline]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Text {
    type Target = str;
    #[inline]
    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    #[inline]
    fn from(text: &str) -> Self {
        Text(text.into())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text(text.into())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl Decode for Text {
    #[inline]
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        item.text(r).map(Text::from)
    }
}

impl Encode for Text {
    #[inline]
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        w.text(tag, self)
    }
}
