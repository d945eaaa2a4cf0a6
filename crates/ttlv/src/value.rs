//! [`Value`], an owned value of any item type: what a custom attribute holds.

use crate::decoding::Decode;
use crate::encoding::Encode;
use crate::error::{ErrorKind, Result};
use crate::item::Item;
use crate::item::reader::Reader;
use crate::primitive::{DateTime, DateTimeExtended, Enumeration, Interval};
use crate::raw::Raw;
use crate::text::Text;
use crate::types::{Tag, Type, Version};
use crate::writer::Writer;
use alloc::vec::Vec;

/// A value of any type, owned: what a custom attribute may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Value {
    /// Items within; the whole structure as it came.
    Structure(Raw),
    /// An Integer.
    Integer(i32),
    /// A Long Integer.
    LongInteger(i64),
    /// A Big Integer: two's complement, a multiple of eight bytes.
    BigInteger(#[cfg_attr(feature = "serde", serde(with = "crate::serde_form::bytes"))] Vec<u8>),
    /// An Enumeration.
    Enumeration(u32),
    /// A Boolean.
    Boolean(bool),
    /// A Text String.
    Text(Text),
    /// A Byte String.
    Bytes(#[cfg_attr(feature = "serde", serde(with = "crate::serde_form::bytes"))] Vec<u8>),
    /// A Date-Time.
    DateTime(DateTime),
    /// An Interval.
    Interval(Interval),
    /// A Date-Time Extended, since KMIP 2.0.
    DateTimeExtended(DateTimeExtended),
}

impl Value {
    /// The item type.
    pub fn ty(&self) -> Type {
        match self {
            Value::Structure(_) => Type::Structure,
            Value::Integer(_) => Type::Integer,
            Value::LongInteger(_) => Type::LongInteger,
            Value::BigInteger(_) => Type::BigInteger,
            Value::Enumeration(_) => Type::Enumeration,
            Value::Boolean(_) => Type::Boolean,
            Value::Text(_) => Type::TextString,
            Value::Bytes(_) => Type::ByteString,
            Value::DateTime(_) => Type::DateTime,
            Value::Interval(_) => Type::Interval,
            Value::DateTimeExtended(_) => Type::DateTimeExtended,
        }
    }
}

impl Decode for Value {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        Ok(match item.ty() {
            Type::Structure => Value::Structure(Raw::decode(item, r)?),
            Type::Integer => Value::Integer(item.integer(r)?),
            Type::LongInteger => Value::LongInteger(item.long_integer(r)?),
            Type::BigInteger => Value::BigInteger(item.big_integer(r)?.to_vec()),
            Type::Enumeration => Value::Enumeration(item.enumeration(r)?),
            Type::Boolean => Value::Boolean(item.boolean(r)?),
            Type::TextString => Value::Text(Text::decode(item, r)?),
            Type::ByteString => Value::Bytes(item.bytes(r)?.to_vec()),
            Type::DateTime => Value::DateTime(DateTime(item.date_time(r)?)),
            Type::Interval => Value::Interval(Interval(item.interval(r)?)),
            Type::DateTimeExtended if r.version() < Version::V2_0 => {
                return Err(r.error(item, ErrorKind::UnknownType(Type::DateTimeExtended as u8)));
            }
            Type::DateTimeExtended => {
                Value::DateTimeExtended(DateTimeExtended(item.date_time_extended(r)?))
            }
        })
    }
}

/// A structure is written under its own tag, everything else under `tag`.
impl Encode for Value {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        match self {
            Value::Structure(raw) => raw.encode(tag, w),
            Value::Integer(v) => v.encode(tag, w),
            Value::LongInteger(v) => v.encode(tag, w),
            Value::BigInteger(v) => w.big_integer(tag, v),
            Value::Enumeration(v) => Enumeration(*v).encode(tag, w),
            Value::Boolean(v) => v.encode(tag, w),
            Value::Text(v) => v.encode(tag, w),
            Value::Bytes(v) => v.encode(tag, w),
            Value::DateTime(v) => v.encode(tag, w),
            Value::Interval(v) => v.encode(tag, w),
            Value::DateTimeExtended(v) => {
                w.require(tag, Version::V2_0, None)?;
                v.encode(tag, w)
            }
        }
    }
}
