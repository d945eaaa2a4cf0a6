use crate::{
    Dictionary, Error, ErrorKind, Frame, Item, Loss, Reader, Result, Tag, Text, Type, Version,
    Writer,
};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// What encoding and decoding depend on beside the bytes.
#[derive(Clone, Copy)]
pub struct Context {
    /// The protocol version; a message's header replaces it when decoding.
    pub version: Version,
    /// Limits for what comes in.
    pub limits: Limits,
    /// Slips of peers that are let pass.
    pub lenient: Lenient,
    /// Names for errors; hexadecimal without.
    pub dictionary: Option<&'static dyn Dictionary>,
}

impl Context {
    /// This version, safe limits, no names.
    pub const fn new(version: Version) -> Self {
        Context {
            version,
            limits: Limits::DEFAULT,
            lenient: Lenient::NEVER,
            dictionary: None,
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("version", &self.version)
            .field("limits", &self.limits)
            .field("lenient", &self.lenient)
            .finish_non_exhaustive()
    }
}

/// How much of something is too much. Checked before anything is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Limits {
    /// Bytes in a message (16 MiB).
    pub size: usize,
    /// Structures within structures (32); of a part that was kept as it came and is read by itself, counted from there.
    pub depth: usize,
    /// Items in a message (1 000 000).
    pub items: usize,
    /// Bytes in a text (1 MiB).
    pub text: usize,
}

impl Limits {
    /// The figures above.
    pub const DEFAULT: Limits = Limits {
        size: 16 << 20,
        depth: 32,
        items: 1_000_000,
        text: 1 << 20,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Limits::DEFAULT
    }
}

/// What the standard forbids and some peers send all the same. Nothing of it passes unless it is asked for; everything else that is wrong
/// with an item's form is an error always, since it could only be guessed at.
///
/// What is kept as it came ([`Raw`], [`Extra`]) is written back as it came, slips included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
pub struct Lenient {
    /// Padding bytes may have any value. The text names none (KMIP 1.4 §9.1.1.3, 2.1 §10.1.5); its examples and test cases have zeros.
    pub padding: bool,
    /// Any Boolean but 0 is true (KMIP 1.4 §9.1.1.4, 2.1 §10.1.4: 0 or 1).
    pub boolean: bool,
    /// A Big Integer may have any length but 0, padded like a string (KMIP 1.4 §9.1.1.3, 2.1 §10.1.3: a multiple of eight).
    pub big_integer: bool,
}

impl Lenient {
    /// Lets nothing pass.
    pub const NEVER: Lenient = Lenient {
        padding: false,
        boolean: false,
        big_integer: false,
    };
    /// Lets everything above pass.
    pub const ALWAYS: Lenient = Lenient {
        padding: true,
        boolean: true,
        big_integer: true,
    };
}

/// A type that can be read from an item.
///
/// # Contract
/// The caller has matched the tag already; the type and everything below are the implementor's to check. Nothing that can be in an item
/// panics, recurses without bound, or allocates more than a small multiple of the item.
pub trait Decode: Sized {
    /// Reads a value.
    ///
    /// # Errors
    /// What is wrong and where, the path beginning below `item`'s own tag.
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self>;
}

/// A type that can be written as an item.
pub trait Encode {
    /// Writes the value under `tag`.
    ///
    /// # Errors
    /// When the version to write for can't say it, or it is too long.
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()>;
}

/// A type that usually stands under one tag: by `#[derive(Encode)]` with `#[ttlv(tag = …)]` on the type.
#[diagnostic::on_unimplemented(
    note = "a type gets its tag by `#[derive(Encode)]` with `#[ttlv(tag = …)]` on it; a field of another type needs the tag on the field"
)]
pub trait Tagged {
    /// That tag.
    const TAG: Tag;
}

/// A type whose tag says which of several things it is.
pub trait Choice: Sized {
    /// The tag of the form that it has.
    fn tag(&self) -> Tag;
    /// Whether one of its forms has this tag, in the reader's version.
    fn accepts(tag: Tag, r: &Reader<'_>) -> bool;
    /// Reads the form that `item`'s tag names.
    fn decode_choice<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self>;
    /// Writes it under its form's own tag.
    fn encode_choice(&self, w: &mut Writer) -> Result<()>;
}

/// A field that takes other items in other versions: several of one tag here, one structure there.
pub trait Group: Default {
    /// What the field says about itself, for a type that stands in several places.
    type How: Copy;
    /// Whether an item belongs to it, in the reader's version. Fields that stand before it in the type are asked first.
    fn accepts(how: Self::How, item: Item<'_>, r: &Reader<'_>) -> bool;
    /// Takes an item that was accepted, when `before` have been taken already.
    ///
    /// # Errors
    /// What is wrong with it, or that it is one too many.
    fn absorb<'a>(
        &mut self,
        how: Self::How,
        before: usize,
        item: Item<'a>,
        r: &Reader<'a>,
    ) -> Result<()>;
    /// Looks whether what has been taken is enough, at the end of the structure.
    ///
    /// # Errors
    /// When an item is missing.
    fn finish<'a>(
        &self,
        _how: Self::How,
        _taken: usize,
        _structure: Item<'a>,
        _r: &Reader<'a>,
    ) -> Result<()> {
        Ok(())
    }
    /// Writes the items of the writer's version.
    ///
    /// # Errors
    /// When that version can't say it.
    fn write(&self, how: Self::How, w: &mut Writer) -> Result<()>;
    /// Leaves behind what `version` lacks; false when the structure around it makes no sense without.
    fn downgrade(&mut self, _how: Self::How, _version: Version, _loss: &mut Loss) -> bool {
        true
    }
}

/// One that may be absent: what has no item is `None`, and so is what has to be left behind.
impl<T: Group> Group for Option<T> {
    type How = T::How;

    fn accepts(how: T::How, item: Item<'_>, r: &Reader<'_>) -> bool {
        T::accepts(how, item, r)
    }

    fn absorb<'a>(
        &mut self,
        how: T::How,
        before: usize,
        item: Item<'a>,
        r: &Reader<'a>,
    ) -> Result<()> {
        self.get_or_insert_default().absorb(how, before, item, r)
    }

    fn finish<'a>(
        &self,
        how: T::How,
        taken: usize,
        structure: Item<'a>,
        r: &Reader<'a>,
    ) -> Result<()> {
        self.as_ref()
            .map_or(Ok(()), |group| group.finish(how, taken, structure, r))
    }

    fn write(&self, how: T::How, w: &mut Writer) -> Result<()> {
        self.as_ref().map_or(Ok(()), |group| group.write(how, w))
    }

    fn downgrade(&mut self, how: T::How, version: Version, loss: &mut Loss) -> bool {
        if self
            .as_mut()
            .is_some_and(|group| !group.downgrade(how, version, loss))
        {
            *self = None;
        }
        true
    }
}

/// Decodes a whole message, or any item, checking its tag.
///
/// # Errors
/// The first thing that is wrong.
///
/// ```
/// use keyferry_ttlv::{decode, encode, Context, Tag, Tagged, Version, Encode, Decode, Item, Reader, Writer, Result};
/// struct BatchCount(i32);
/// impl Tagged for BatchCount { const TAG: Tag = Tag::new(0x42000D); }
/// impl Encode for BatchCount {
///     fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> { self.0.encode(tag, w) }
/// }
/// impl Decode for BatchCount {
///     fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> { i32::decode(item, r).map(BatchCount) }
/// }
/// let cx = Context::new(Version::V2_1);
/// let frame = encode(&BatchCount(3), cx)?;
/// assert_eq!(frame[..4], [0x42, 0x00, 0x0D, 0x02]);
/// assert_eq!(decode::<BatchCount>(&frame, cx)?.0, 3);
/// # Ok::<(), keyferry_ttlv::Error>(())
/// ```
pub fn decode<T: Decode + Tagged>(message: &[u8], cx: Context) -> Result<T> {
    let limit = cx.limits.size;
    if message.len() > limit {
        return Err(Error::new(ErrorKind::Size {
            size: message.len(),
            limit,
        })
        .at(0));
    }
    let item = Item::whole(message).map_err(|e| e.named(cx.dictionary))?;
    let r = Reader::new(message, cx);
    r.check_count(item)?;
    if item.tag() != T::TAG {
        return Err(r.error(
            item,
            ErrorKind::WrongTag {
                expected: T::TAG,
                found: item.tag(),
            },
        ));
    }
    r.child(item)
}

/// Encodes a whole message, or anything that has a tag of its own.
///
/// # Errors
/// When the context's version can't say it.
pub fn encode<T: Encode + Tagged + ?Sized>(value: &T, cx: Context) -> Result<Frame> {
    let mut w = Writer::new(cx);
    value.encode(T::TAG, &mut w)?;
    Ok(w.finish())
}

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

impl<T: Tagged> Tagged for Box<T> {
    const TAG: Tag = T::TAG;
}

/// One item kept as it came, wiped on drop. Checked for well-formedness when it is read, not for meaning.
///
/// Two are equal when their bytes are, wherever they came from.
#[derive(Clone)]
pub struct Raw {
    bytes: Frame,
    offset: usize,
}

impl Raw {
    /// What `encode` makes of `value`, kept as bytes.
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

    /// Its tag.
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

    /// Decodes it; errors name places in the message that it came from.
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

/// The fields of a structure that its type does not know, or that its version does not have: kept, and written back behind the others.
#[derive(Clone, Default, PartialEq, Eq)]
#[allow(clippy::box_collection)] // one word in every structure instead of three: there is rarely an item
pub struct Extra(Option<Box<Vec<Raw>>>);

impl Extra {
    /// None.
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
    BigInteger(#[cfg_attr(feature = "serde", serde(with = "crate::shown::bytes"))] Vec<u8>),
    /// An Enumeration.
    Enumeration(u32),
    /// A Boolean.
    Boolean(bool),
    /// A Text String.
    Text(Text),
    /// A Byte String.
    Bytes(#[cfg_attr(feature = "serde", serde(with = "crate::shown::bytes"))] Vec<u8>),
    /// A Date-Time.
    DateTime(DateTime),
    /// An Interval.
    Interval(Interval),
    /// A Date-Time Extended, since KMIP 2.0.
    DateTimeExtended(DateTimeExtended),
}

impl Value {
    /// Its item type.
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
