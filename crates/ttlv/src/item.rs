use crate::{Context, Decode, Error, ErrorKind, Result, Tag, Type, Version};
use alloc::vec::Vec;
use core::cell::Cell;

/// The length of an item's header: tag, type, length.
pub(crate) const HEADER: usize = 8;

/// One item, borrowed from the message: tag, type and value. Cheap to copy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Item<'a> {
    tag: Tag,
    ty: Type,
    value: &'a [u8],
    raw: &'a [u8],
}

impl<'a> Item<'a> {
    /// Splits the first item off `input`. Checks the header, the length against the type, and the padding.
    ///
    /// # Errors
    /// The kind of error and the offset from the start of `input`.
    pub(crate) fn split(input: &'a [u8]) -> Result<(Item<'a>, &'a [u8]), (ErrorKind, usize)> {
        let Some((&[t0, t1, t2, ty, l0, l1, l2, l3], rest)) = input.split_first_chunk::<HEADER>() else {
            return Err((ErrorKind::Truncated(HEADER - input.len()), 0));
        };
        let number = u32::from_be_bytes([0, t0, t1, t2]);
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if t0 != 0x42 && t0 != 0x54 {
            return Err((ErrorKind::UnknownTag(number), 0));
        }
        let Some(ty) = Type::from_number(ty) else { return Err((ErrorKind::UnknownType(ty), 3)) };
        let fits = match ty {
            Type::Integer | Type::Enumeration | Type::Interval => length == 4,
            Type::LongInteger | Type::Boolean | Type::DateTime | Type::DateTimeExtended => length == 8,
            Type::Structure => length.is_multiple_of(8),
            Type::BigInteger => length.is_multiple_of(8) && length > 0,
            Type::TextString | Type::ByteString => true,
        };
        if !fits {
            return Err((ErrorKind::WrongLength(length), 4));
        }
        let length = length as usize;
        let padding = length.wrapping_neg() & 7;
        let Some(whole) = length.checked_add(padding) else { return Err((ErrorKind::WrongLength(u32::MAX), 4)) };
        let (Some(value), Some(pad), Some(raw), Some(behind)) =
            (rest.get(..length), rest.get(length..whole), input.get(..HEADER + whole), rest.get(whole..))
        else {
            return Err((ErrorKind::Truncated(whole - rest.len()), 4));
        };
        if pad.iter().any(|byte| *byte != 0) {
            return Err((ErrorKind::Padding, HEADER + length));
        }
        Ok((Item { tag: Tag::new(number), ty, value, raw }, behind))
    }

    /// The whole input as one item.
    ///
    /// # Errors
    /// When it is no item, or there are bytes behind it.
    pub fn parse(input: &'a [u8]) -> Result<Item<'a>> {
        match Item::split(input) {
            Ok((item, [])) => Ok(item),
            Ok((item, rest)) => Err(Error::new(ErrorKind::TrailingBytes(rest.len())).at(item.raw.len())),
            Err((kind, at)) => Err(Error::new(kind).at(at)),
        }
    }

    /// Its tag.
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// Its type.
    pub fn ty(&self) -> Type {
        self.ty
    }

    /// Its value without header and padding.
    pub fn value(&self) -> &'a [u8] {
        self.value
    }

    /// Header, value and padding.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    fn typed(&self, ty: Type, r: &Reader<'a>) -> Result<&'a [u8]> {
        if self.ty == ty {
            Ok(self.value)
        } else {
            Err(r.error_at(*self, 3, ErrorKind::WrongType { expected: ty, found: self.ty }))
        }
    }

    fn four(&self, ty: Type, r: &Reader<'a>) -> Result<[u8; 4]> {
        let value = self.typed(ty, r)?;
        value.try_into().map_err(|_| r.error(*self, ErrorKind::WrongLength(value.len() as u32)))
    }

    fn eight(&self, ty: Type, r: &Reader<'a>) -> Result<[u8; 8]> {
        let value = self.typed(ty, r)?;
        value.try_into().map_err(|_| r.error(*self, ErrorKind::WrongLength(value.len() as u32)))
    }

    /// The value of an Integer.
    ///
    /// # Errors
    /// When it is of another type; so for all of these.
    pub fn integer(&self, r: &Reader<'a>) -> Result<i32> {
        self.four(Type::Integer, r).map(i32::from_be_bytes)
    }

    /// The value of a Long Integer.
    pub fn long_integer(&self, r: &Reader<'a>) -> Result<i64> {
        self.eight(Type::LongInteger, r).map(i64::from_be_bytes)
    }

    /// The value of a Big Integer: two's complement, a multiple of eight bytes.
    pub fn big_integer(&self, r: &Reader<'a>) -> Result<&'a [u8]> {
        self.typed(Type::BigInteger, r)
    }

    /// The value of an Enumeration.
    pub fn enumeration(&self, r: &Reader<'a>) -> Result<u32> {
        self.four(Type::Enumeration, r).map(u32::from_be_bytes)
    }

    /// The value of a Boolean; other numbers than 0 and 1 are an error.
    pub fn boolean(&self, r: &Reader<'a>) -> Result<bool> {
        match u64::from_be_bytes(self.eight(Type::Boolean, r)?) {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(r.error_at(*self, HEADER, ErrorKind::Boolean(other))),
        }
    }

    /// The value of a Text String.
    pub fn text(&self, r: &Reader<'a>) -> Result<&'a str> {
        let bytes = self.typed(Type::TextString, r)?;
        let limit = r.cx.limits.text;
        if bytes.len() > limit {
            return Err(r.error_at(*self, 4, ErrorKind::Size { size: bytes.len(), limit }));
        }
        core::str::from_utf8(bytes).map_err(|e| r.error_at(*self, HEADER + e.valid_up_to(), ErrorKind::Utf8))
    }

    /// The value of a Byte String.
    pub fn bytes(&self, r: &Reader<'a>) -> Result<&'a [u8]> {
        self.typed(Type::ByteString, r)
    }

    /// The value of a Date-Time, in seconds since 1970.
    pub fn date_time(&self, r: &Reader<'a>) -> Result<i64> {
        self.eight(Type::DateTime, r).map(i64::from_be_bytes)
    }

    /// The value of an Interval, in seconds.
    pub fn interval(&self, r: &Reader<'a>) -> Result<u32> {
        self.four(Type::Interval, r).map(u32::from_be_bytes)
    }

    /// The value of a Date-Time Extended, in microseconds since 1970.
    pub fn date_time_extended(&self, r: &Reader<'a>) -> Result<i64> {
        self.eight(Type::DateTimeExtended, r).map(i64::from_be_bytes)
    }
}

/// What decoding needs to know of its surroundings: the message's start (for offsets), version, limits, names.
pub struct Reader<'a> {
    base: &'a [u8],
    offset: usize,
    cx: Context,
    version: Cell<Version>,
    items: Cell<usize>,
}

impl<'a> Reader<'a> {
    /// A reader of `message`.
    pub fn new(message: &'a [u8], cx: Context) -> Self {
        Reader { base: message, offset: 0, cx, version: Cell::new(cx.version), items: Cell::new(0) }
    }

    /// A reader of a part that began at byte `offset` of its message.
    pub(crate) fn part(part: &'a [u8], offset: usize, cx: Context) -> Self {
        Reader { offset, ..Reader::new(part, cx) }
    }

    /// The protocol version that fields are judged by.
    pub fn version(&self) -> Version {
        self.version.get()
    }

    /// Sets the version, once the message's header has told it.
    pub fn set_version(&self, version: Version) {
        self.version.set(version);
    }

    /// The context, with the version as it is now.
    pub fn context(&self) -> Context {
        Context { version: self.version.get(), ..self.cx }
    }

    /// Whether a field of this range of versions exists in the message's version.
    pub fn has(&self, since: Version, until: Option<Version>) -> bool {
        let version = self.version.get();
        since <= version && until.is_none_or(|until| version <= until)
    }

    /// The place of `item` in the message.
    pub fn offset(&self, item: Item<'a>) -> usize {
        self.place(item.raw)
    }

    fn place(&self, slice: &[u8]) -> usize {
        self.offset + (slice.as_ptr() as usize).saturating_sub(self.base.as_ptr() as usize)
    }

    /// An error about `item`.
    #[cold]
    pub fn error(&self, item: Item<'a>, kind: ErrorKind) -> Error {
        self.error_at(item, 0, kind)
    }

    #[cold]
    fn error_at(&self, item: Item<'a>, behind: usize, kind: ErrorKind) -> Error {
        Error::new(kind).at(self.place(item.raw) + behind).named(self.cx.dictionary)
    }

    /// The items of a structure.
    ///
    /// # Errors
    /// When `item` is none.
    pub fn children(&self, item: Item<'a>) -> Result<Children<'a>> {
        item.typed(Type::Structure, self).map(|rest| Children { rest })
    }

    /// Decodes `item`, putting its tag into the path of an error.
    pub fn child<T: Decode>(&self, item: Item<'a>) -> Result<T> {
        T::decode(item, self).map_err(|e| e.within(item.tag))
    }

    /// Decodes `item` into a field that may stand once.
    pub fn once<T: Decode>(&self, field: &mut Option<T>, item: Item<'a>) -> Result<()> {
        if field.is_some() {
            return Err(self.error(item, ErrorKind::Repeated(item.tag)));
        }
        *field = Some(self.child(item)?);
        Ok(())
    }

    /// The error for a structure that lacks a required field.
    #[cold]
    pub fn missing(&self, structure: Item<'a>, tag: Tag) -> Error {
        self.error(structure, ErrorKind::Missing(tag))
    }

    /// Checks everything below `item`, whatever it is: headers, values, depth, number of items. Does not recurse.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, item: Item<'a>) -> Result<()> {
        let mut open: Vec<Children<'a>> = Vec::new();
        let mut next = Some(item);
        loop {
            if let Some(item) = next {
                match item.ty {
                    Type::Structure => {
                        if open.len() >= self.cx.limits.depth {
                            return Err(self.error(item, ErrorKind::Depth(self.cx.limits.depth)));
                        }
                        open.push(Children { rest: item.value });
                    }
                    Type::Boolean => drop(item.boolean(self)?),
                    Type::TextString => drop(item.text(self)?),
                    _ => {}
                }
            }
            let Some(innermost) = open.last_mut() else { return Ok(()) };
            next = innermost.next(self)?;
            if next.is_none() {
                open.pop();
            }
        }
    }
}

/// The items of one structure, one after another.
#[derive(Clone, Copy)]
pub struct Children<'a> {
    rest: &'a [u8],
}

impl<'a> Children<'a> {
    /// The items that stand one after another in `input`.
    #[cfg(feature = "inspect")]
    pub(crate) fn over(input: &'a [u8]) -> Self {
        Children { rest: input }
    }

    /// The next one. Not an `Iterator`, since it needs the reader to say where something is wrong.
    ///
    /// # Errors
    /// When what follows is no item, or the message has more items than the limit.
    pub fn next(&mut self, r: &Reader<'a>) -> Result<Option<Item<'a>>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        match Item::split(self.rest) {
            Ok((item, rest)) => {
                self.rest = rest;
                let items = r.items.get() + 1;
                r.items.set(items);
                if items > r.cx.limits.items {
                    return Err(r.error(item, ErrorKind::Items(r.cx.limits.items)));
                }
                Ok(Some(item))
            }
            Err((kind, at)) => Err(Error::new(kind).at(r.place(self.rest) + at).named(r.cx.dictionary)),
        }
    }
}
