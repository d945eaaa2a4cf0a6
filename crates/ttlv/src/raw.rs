//! Items kept as bytes: one ([`Raw`]), or the unknown fields of a structure ([`Extra`]). They are written back byte for byte.

use crate::context::Context;
use crate::decoding::Decode;
use crate::encoding::Encode;
use crate::error::Result;
use crate::frame::Frame;
use crate::item::Item;
use crate::item::reader::Reader;
use crate::types::Tag;
use crate::writer::Writer;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

/// One item kept as it came, and wiped on drop. It is checked for its form when it is read, not for its meaning.
///
/// Two are equal when their bytes are, wherever they came from.
#[derive(Clone)]
pub struct Raw {
    bytes: Frame,
    offset: usize,
}

impl Raw {
    /// The item that `value` is written as.
    ///
    /// # Errors
    /// Those of encoding.
    pub fn of<T: Encode + ?Sized>(tag: Tag, value: &T, cx: Context) -> Result<Raw> {
        let mut w = Writer::new(cx);
        value.encode(tag, &mut w)?;
        Ok(Raw {
            bytes: w.finish(),
            offset: 0,
        })
    }

    /// The item.
    ///
    /// # Errors
    /// None in practice: it was checked when it was read, or written by the codec.
    pub fn item(&self) -> Result<Item<'_>> {
        Item::whole(&self.bytes)
    }

    /// The item's tag.
    pub fn tag(&self) -> Tag {
        match self.bytes.first_chunk::<3>() {
            Some([a, b, c]) => Tag::new(u32::from_be_bytes([0, *a, *b, *c])),
            None => Tag::new(0),
        }
    }

    /// Header, value and padding.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Decodes the item. Errors name places in the message that it came from.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read<T: Decode>(&self, cx: Context) -> Result<T> {
        let r = Reader::part(&self.bytes, self.offset, cx);
        r.child(self.item()?)
    }
}

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Raw {}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({}, {} bytes)", self.tag(), self.bytes.len())
    }
}

impl Decode for Raw {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        r.check(item)?;
        Ok(Raw {
            bytes: item.raw().to_vec().into(),
            offset: r.offset(item),
        })
    }
}

/// Writes the item under its own tag, whatever `tag` says.
impl Encode for Raw {
    fn encode(&self, _: Tag, w: &mut Writer) -> Result<()> {
        w.raw(&self.bytes);
        Ok(())
    }
}

/// The fields of a structure that its type does not know, or that its version does not have. They are kept and written back behind the others.
#[derive(Clone, Default, PartialEq, Eq)]
#[allow(clippy::box_collection)] // one word in every structure instead of three: there is rarely an item
pub struct Extra(Option<Box<Vec<Raw>>>);

impl Extra {
    /// No fields.
    pub const NONE: Extra = Extra(None);

    /// Keeps `item`.
    ///
    /// # Errors
    /// When it is not well-formed.
    pub fn keep<'a>(&mut self, item: Item<'a>, r: &Reader<'a>) -> Result<()> {
        let raw = r.child(item)?;
        self.push(raw);
        Ok(())
    }

    /// Adds an item.
    pub fn push(&mut self, raw: Raw) {
        self.0.get_or_insert_default().push(raw);
    }

    /// The items.
    pub fn iter(&self) -> core::slice::Iter<'_, Raw> {
        self.0
            .as_ref()
            .map(|items| items.iter())
            .unwrap_or_default()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Keeps the items that `keep` wants.
    pub fn retain(&mut self, keep: impl FnMut(&Raw) -> bool) {
        let Some(items) = &mut self.0 else { return };
        items.retain(keep);
        if items.is_empty() {
            self.0 = None;
        }
    }

    /// The first one with this tag.
    pub fn find(&self, tag: Tag) -> Option<&Raw> {
        self.iter().find(|raw| raw.tag() == tag)
    }

    /// Writes them all.
    #[inline]
    pub fn write(&self, w: &mut Writer) {
        for raw in self.iter() {
            w.raw(raw.bytes());
        }
    }
}

impl fmt::Debug for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
