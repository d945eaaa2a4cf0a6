//! [`Item`], one item borrowed from its message, and the checks of its form.

use crate::context::{Context, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::head::{HEADER, Head};
use crate::item::reader::Reader;
use crate::types::{Tag, Type, Version};

pub(crate) mod reader;

/// One item, borrowed from the message: tag, type and value. Cheap to copy: it travels in two registers.
#[derive(Clone, Copy, PartialEq)]
pub struct Item<'a> {
    raw: &'a [u8],
}

impl core::fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "Item({}, {}, {} bytes)",
            self.tag(),
            self.ty(),
            self.value().len()
        )
    }
}

impl<'a> Item<'a> {
    /// Splits the first item off `input`, when there is a whole one and its type exists.
    #[inline]
    fn split(input: &'a [u8]) -> Option<(Item<'a>, &'a [u8])> {
        let head = Head::read(*input.first_chunk()?);
        let (raw, behind) = input.split_at_checked(head.whole())?;
        matches!(head.ty(), 1..=11).then_some((Item { raw }, behind))
    }

    /// The reason why [`split`](Item::split) found no item: the kind of error, and the offset from the start of `input`.
    #[cold]
    #[inline(never)]
    fn fault(input: &[u8]) -> (ErrorKind, usize) {
        let Some(bytes) = input.first_chunk::<HEADER>() else {
            return (ErrorKind::Truncated(HEADER - input.len()), 0);
        };
        let head = Head::read(*bytes);
        if !head.tag().is_defined() {
            return (ErrorKind::UnknownTag, 0);
        }
        let Some(ty) = Type::from_number(head.ty()) else {
            return (ErrorKind::UnknownType(head.ty()), 3);
        };
        if ty
            .fixed_length()
            .is_some_and(|length| length != head.length())
        {
            return (ErrorKind::WrongLength(head.length()), 4);
        }
        (ErrorKind::Truncated(head.whole() - input.len()), 4)
    }

    /// The whole input as one item. The content of a structure is not looked into: [`Reader::check`] does that.
    ///
    /// # Errors
    /// When it is no item, or bytes follow behind the item.
    pub fn parse(input: &'a [u8]) -> Result<Item<'a>> {
        let item = Item::whole(input)?;
        let limits = Limits {
            text: usize::MAX,
            ..Limits::DEFAULT
        };
        item.check(&Reader::new(
            input,
            Context {
                limits,
                ..Context::new(Version::V1_0)
            },
        ))?;
        Ok(item)
    }

    /// The whole input as one item, whose value is checked when it is asked for.
    pub(crate) fn whole(input: &'a [u8]) -> Result<Item<'a>> {
        match Item::first(input)? {
            (item, []) => Ok(item),
            (item, rest) => {
                Err(Error::new(ErrorKind::TrailingBytes(rest.len())).at(item.raw.len()))
            }
        }
    }

    /// The first item of the input, and what stands behind it.
    pub(crate) fn first(input: &'a [u8]) -> Result<(Item<'a>, &'a [u8])> {
        match Item::split(input) {
            Some((item, _)) if !item.tag().is_defined() => {
                Err(Error::new(ErrorKind::UnknownTag).at(0))
            }
            Some(split) => Ok(split),
            None => {
                let (kind, at) = Item::fault(input);
                Err(Error::new(kind).at(at))
            }
        }
    }

    #[inline]
    fn head(&self) -> Head {
        Head::read(self.raw.first_chunk().copied().unwrap_or_default())
    }

    /// The item's tag.
    #[inline]
    pub fn tag(&self) -> Tag {
        self.head().tag()
    }

    /// The item's type.
    #[inline]
    pub fn ty(&self) -> Type {
        // Looked at when the item was split off.
        Type::from_number(self.head().ty()).unwrap_or(Type::Structure)
    }

    /// The bytes of the value, without header and padding, whatever the type.
    #[inline]
    pub fn value(&self) -> &'a [u8] {
        let end = HEADER.saturating_add(self.head().length() as usize);
        self.raw.get(HEADER..end).unwrap_or_default()
    }

    /// Header, value and padding.
    #[inline]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The eight bytes behind the header of an item whose length is always `length`: the value and, behind a short one, its padding.
    #[inline]
    fn fixed(&self, ty: Type, length: u32, r: &Reader<'a>) -> Result<u64> {
        if let Some(
            &[
                h0,
                h1,
                h2,
                h3,
                h4,
                h5,
                h6,
                h7,
                v0,
                v1,
                v2,
                v3,
                v4,
                v5,
                v6,
                v7,
            ],
        ) = self.raw.first_chunk()
            && Head::read([h0, h1, h2, h3, h4, h5, h6, h7]).is(ty, length)
        {
            return Ok(u64::from_be_bytes([v0, v1, v2, v3, v4, v5, v6, v7]));
        }
        Err(self.wrong_type(ty, r))
    }

    #[inline]
    fn eight(&self, ty: Type, r: &Reader<'a>) -> Result<i64> {
        Ok(self.fixed(ty, 8, r)?.cast_signed())
    }

    #[inline]
    fn four(&self, ty: Type, r: &Reader<'a>) -> Result<u32> {
        let value = self.fixed(ty, 4, r)?;
        if value as u32 != 0 {
            self.allow_padding(r)?;
        }
        Ok((value >> 32) as u32)
    }

    /// The value of a Text String that need not be valid UTF-8, or of a Byte String.
    #[inline]
    fn string(&self, ty: Type, r: &Reader<'a>) -> Result<&'a [u8]> {
        let head = self.head();
        let Some(last) = self.raw.last_chunk().filter(|_| head.ty() == ty as u8) else {
            return Err(self.wrong_type(ty, r));
        };
        // The last eight bytes end with the padding; of an empty string they are its header, and none of them is.
        let padding = head.length().wrapping_neg() & 7;
        if u64::from_be_bytes(*last) & !(u64::MAX << (8 * padding)) != 0 {
            self.allow_padding(r)?;
        }
        Ok(self.value())
    }

    /// The error for an item that is not of this type or not of its length.
    #[cold]
    #[inline(never)]
    fn wrong_type(&self, expected: Type, r: &Reader<'a>) -> Error {
        let found = self.ty();
        if found == expected {
            return r.error_at(*self, 4, ErrorKind::WrongLength(self.head().length()));
        }
        r.error_at(*self, 3, ErrorKind::WrongType { expected, found })
    }

    /// Fails because of padding that is not zero, unless the context accepts it.
    #[cold]
    #[inline(never)]
    fn allow_padding(&self, r: &Reader<'a>) -> Result<()> {
        if r.cx.lenient.padding {
            Ok(())
        } else {
            Err(r.error_at(*self, HEADER + self.value().len(), ErrorKind::Padding))
        }
    }

    /// The value of an Integer.
    ///
    /// # Errors
    /// When the item is of another type, its length is not the type's, or its padding is not zero. The same holds for the functions below.
    #[inline]
    pub fn integer(&self, r: &Reader<'a>) -> Result<i32> {
        Ok(self.four(Type::Integer, r)?.cast_signed())
    }

    /// The value of a Long Integer.
    #[inline]
    pub fn long_integer(&self, r: &Reader<'a>) -> Result<i64> {
        self.eight(Type::LongInteger, r)
    }

    /// The value of a Big Integer: two's complement, a multiple of eight bytes.
    #[inline]
    pub fn big_integer(&self, r: &Reader<'a>) -> Result<&'a [u8]> {
        let head = self.head();
        if head.length() > 0 && (head.is_whole(Type::BigInteger) || r.cx.lenient.big_integer) {
            return self.string(Type::BigInteger, r);
        }
        Err(self.wrong_type(Type::BigInteger, r))
    }

    /// The value of an Enumeration.
    #[inline]
    pub fn enumeration(&self, r: &Reader<'a>) -> Result<u32> {
        self.four(Type::Enumeration, r)
    }

    /// The value of a Boolean; other numbers than 0 and 1 are an error.
    #[inline]
    pub fn boolean(&self, r: &Reader<'a>) -> Result<bool> {
        match self.fixed(Type::Boolean, 8, r)? {
            0 => Ok(false),
            1 => Ok(true),
            _ if r.cx.lenient.boolean => Ok(true),
            _ => Err(r.error_at(*self, HEADER, ErrorKind::Boolean)),
        }
    }

    /// The value of a Text String.
    #[inline]
    pub fn text(&self, r: &Reader<'a>) -> Result<&'a str> {
        let bytes = self.string(Type::TextString, r)?;
        let limit = r.cx.limits.text;
        if bytes.len() > limit {
            return Err(r.error_at(
                *self,
                4,
                ErrorKind::Size {
                    size: bytes.len(),
                    limit,
                },
            ));
        }
        core::str::from_utf8(bytes)
            .map_err(|e| r.error_at(*self, HEADER + e.valid_up_to(), ErrorKind::Utf8))
    }

    /// The value of a Byte String.
    #[inline]
    pub fn bytes(&self, r: &Reader<'a>) -> Result<&'a [u8]> {
        self.string(Type::ByteString, r)
    }

    /// The value of a Date-Time, in seconds since 1970.
    #[inline]
    pub fn date_time(&self, r: &Reader<'a>) -> Result<i64> {
        self.eight(Type::DateTime, r)
    }

    /// The value of an Interval, in seconds.
    #[inline]
    pub fn interval(&self, r: &Reader<'a>) -> Result<u32> {
        self.four(Type::Interval, r)
    }

    /// The value of a Date-Time Extended, in microseconds since 1970.
    #[inline]
    pub fn date_time_extended(&self, r: &Reader<'a>) -> Result<i64> {
        self.eight(Type::DateTimeExtended, r)
    }

    /// Checks the item itself, not what a structure holds.
    fn check(&self, r: &Reader<'a>) -> Result<()> {
        if !self.tag().is_defined() {
            return Err(r.error(*self, ErrorKind::UnknownTag));
        }
        match self.ty() {
            Type::Structure => drop(r.children(*self)?),
            Type::Integer => drop(self.integer(r)?),
            Type::LongInteger => drop(self.long_integer(r)?),
            Type::BigInteger => drop(self.big_integer(r)?),
            Type::Enumeration => drop(self.enumeration(r)?),
            Type::Boolean => drop(self.boolean(r)?),
            Type::TextString => drop(self.text(r)?),
            Type::ByteString => drop(self.bytes(r)?),
            Type::DateTime => drop(self.date_time(r)?),
            Type::Interval => drop(self.interval(r)?),
            Type::DateTimeExtended => drop(self.date_time_extended(r)?),
        }
        Ok(())
    }
}
