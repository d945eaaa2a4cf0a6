//! The simple types that an item can hold: numbers, dates, texts and bytes, as Rust types that can be read and written.

use crate::decoding::Decode;
use crate::encoding::Encode;
use crate::error::Result;
use crate::item::Item;
use crate::item::reader::Reader;
use crate::types::Tag;
use crate::writer::Writer;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty) = $method:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl Decode for $name {
            #[inline]
            fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
                item.$method(r).map($name)
            }
        }

        impl Encode for $name {
            #[inline]
            fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
                w.$method(tag, self.0);
                Ok(())
            }
        }
    };
}

newtype!(
    /// Seconds since 1970-01-01T00:00:00Z; the largest value means "undefined" in a Locate (KMIP 2.1 §6.1.28).
    DateTime(i64) = date_time
);
newtype!(
    /// Microseconds since 1970-01-01T00:00:00Z, since KMIP 2.0.
    DateTimeExtended(i64) = date_time_extended
);
newtype!(
    /// A length of time in seconds.
    #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
    Interval(u32) = interval
);
newtype!(
    /// An enumeration value without a type of its own.
    Enumeration(u32) = enumeration
);

macro_rules! plain {
    ($($ty:ty = $method:ident),*) => {$(
        impl Decode for $ty {
            #[inline]
            fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
                item.$method(r)
            }
        }
        impl Encode for $ty {
            #[inline]
            fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
                w.$method(tag, *self);
                Ok(())
            }
        }
    )*};
}

plain!(i32 = integer, i64 = long_integer, bool = boolean);

impl Decode for String {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        item.text(r).map(String::from)
    }
}

impl Encode for String {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        w.text(tag, self)
    }
}

impl Encode for str {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        w.text(tag, self)
    }
}

/// A Byte String. Not for key material: it is not wiped.
impl Decode for Vec<u8> {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        item.bytes(r).map(<[u8]>::to_vec)
    }
}

impl Encode for Vec<u8> {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        w.bytes(tag, self)
    }
}

impl Encode for [u8] {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        w.bytes(tag, self)
    }
}

impl<T: Encode + ?Sized> Encode for &T {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        (**self).encode(tag, w)
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        T::decode(item, r).map(Box::new)
    }
}

impl<T: Encode + ?Sized> Encode for Box<T> {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        (**self).encode(tag, w)
    }
}
