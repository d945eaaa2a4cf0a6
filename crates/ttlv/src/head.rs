//! An item's header, the eight bytes in front of its value: tag, type and length.

use crate::types::{Tag, Type};

/// The length of an item's header: tag, type, length.
pub(crate) const HEADER: usize = 8;

/// An item's first eight bytes as a number: three bytes tag, one byte type, four bytes length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Head(u64);

impl Head {
    /// The header of an item.
    #[inline]
    pub(crate) const fn new(tag: Tag, ty: Type, length: u32) -> Head {
        Head((tag.number() as u64) << 40 | (ty as u64) << 32 | length as u64)
    }

    #[inline]
    pub(crate) const fn to_bytes(self) -> [u8; HEADER] {
        self.0.to_be_bytes()
    }

    #[inline]
    pub(crate) fn read(bytes: [u8; HEADER]) -> Head {
        Head(u64::from_be_bytes(bytes))
    }

    #[inline]
    pub(crate) fn tag(self) -> Tag {
        Tag::new((self.0 >> 40) as u32)
    }

    #[inline]
    pub(crate) fn ty(self) -> u8 {
        (self.0 >> 32) as u8
    }

    #[inline]
    pub(crate) fn length(self) -> u32 {
        self.0 as u32
    }

    /// Whether type and length are these, looked at as one.
    #[inline]
    pub(crate) fn is(self, ty: Type, length: u32) -> bool {
        self.0 & 0xFF_FFFF_FFFF == (ty as u64) << 32 | u64::from(length)
    }

    /// Whether the type is this one and the length a multiple of eight.
    #[inline]
    pub(crate) fn is_whole(self, ty: Type) -> bool {
        self.0 & 0xFF_0000_0007 == (ty as u64) << 32
    }

    /// The length of the whole item: header, value, padding.
    #[inline]
    pub(crate) fn whole(self) -> usize {
        // Where usize has 32 bits a length near 4 GiB saturates: so much is never there.
        (self.length() as usize).saturating_add(HEADER + 7) & !7
    }
}
