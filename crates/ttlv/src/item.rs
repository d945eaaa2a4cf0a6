use crate::{Context, Decode, Error, ErrorKind, Limits, Result, Tag, Type, Version};
use alloc::vec::Vec;
use core::cell::Cell;

/// The length of an item's header: tag, type, length.
pub(crate) const HEADER: usize = 8;

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
    fn read(bytes: [u8; HEADER]) -> Head {
        Head(u64::from_be_bytes(bytes))
    }

    #[inline]
    fn tag(self) -> Tag {
        Tag::new((self.0 >> 40) as u32)
    }

    #[inline]
    fn ty(self) -> u8 {
        (self.0 >> 32) as u8
    }

    #[inline]
    fn length(self) -> u32 {
        self.0 as u32
    }

    /// Whether type and length are these, looked at as one.
    #[inline]
    fn is(self, ty: Type, length: u32) -> bool {
        self.0 & 0xFF_FFFF_FFFF == (ty as u64) << 32 | u64::from(length)
    }

    /// Whether the type is this one and the length a multiple of eight.
    #[inline]
    fn is_whole(self, ty: Type) -> bool {
        self.0 & 0xFF_0000_0007 == (ty as u64) << 32
    }

    /// The length of the whole item: header, value, padding.
    #[inline]
    fn whole(self) -> usize {
        // Where usize has 32 bits a length near 4 GiB saturates: so much is never there.
        (self.length() as usize).saturating_add(HEADER + 7) & !7
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

    /// What [`split`](Item::split) objects to: the kind of error and the offset from the start of `input`.
    #[cold]
    #[inline(never)]
    fn object(input: &[u8]) -> (ErrorKind, usize) {
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

    /// The whole input as one item. What a structure holds is not looked into: [`Reader::check`] does that.
    ///
    /// # Errors
    /// When it is no item, or there are bytes behind it.
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
                let (kind, at) = Item::object(input);
                Err(Error::new(kind).at(at))
            }
        }
    }

    #[inline]
    fn head(&self) -> Head {
        Head::read(self.raw.first_chunk().copied().unwrap_or_default())
    }

    /// Its tag.
    #[inline]
    pub fn tag(&self) -> Tag {
        self.head().tag()
    }

    /// Its type.
    #[inline]
    pub fn ty(&self) -> Type {
        // Looked at when the item was split off.
        Type::from_number(self.head().ty()).unwrap_or(Type::Structure)
    }

    /// Its value without header and padding, whatever it is.
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
        Err(self.another(ty, r))
    }

    #[inline]
    fn eight(&self, ty: Type, r: &Reader<'a>) -> Result<i64> {
        Ok(self.fixed(ty, 8, r)?.cast_signed())
    }

    #[inline]
    fn four(&self, ty: Type, r: &Reader<'a>) -> Result<u32> {
        let value = self.fixed(ty, 4, r)?;
        if value as u32 != 0 {
            self.padded(r)?;
        }
        Ok((value >> 32) as u32)
    }

    /// The value of a Text String that need not be valid UTF-8, or of a Byte String.
    #[inline]
    fn string(&self, ty: Type, r: &Reader<'a>) -> Result<&'a [u8]> {
        let head = self.head();
        let Some(last) = self.raw.last_chunk().filter(|_| head.ty() == ty as u8) else {
            return Err(self.another(ty, r));
        };
        // The last eight bytes end with the padding; of an empty string they are its header, and none of them is.
        let padding = head.length().wrapping_neg() & 7;
        if u64::from_be_bytes(*last) & !(u64::MAX << (8 * padding)) != 0 {
            self.padded(r)?;
        }
        Ok(self.value())
    }

    /// What is wrong with an item that is not of this type and its length.
    #[cold]
    #[inline(never)]
    fn another(&self, expected: Type, r: &Reader<'a>) -> Error {
        let found = self.ty();
        if found == expected {
            return r.error_at(*self, 4, ErrorKind::WrongLength(self.head().length()));
        }
        r.error_at(*self, 3, ErrorKind::WrongType { expected, found })
    }

    /// Fails because of padding that is not zero, unless that may pass.
    #[cold]
    #[inline(never)]
    fn padded(&self, r: &Reader<'a>) -> Result<()> {
        if r.cx.lenient.padding {
            Ok(())
        } else {
            Err(r.error_at(*self, HEADER + self.value().len(), ErrorKind::Padding))
        }
    }

    /// The value of an Integer.
    ///
    /// # Errors
    /// When it is of another type, its length is not the type's, or its padding not zero; so for all of these.
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
        Err(self.another(Type::BigInteger, r))
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

/// What decoding needs to know of its surroundings: the message's start (for offsets), version, limits, names.
pub struct Reader<'a> {
    base: &'a [u8],
    offset: usize,
    cx: Context,
    version: Cell<Version>,
    /// How many structures are entered.
    depth: Cell<usize>,
}

impl<'a> Reader<'a> {
    /// A reader of `message`.
    pub fn new(message: &'a [u8], cx: Context) -> Self {
        Reader {
            base: message,
            offset: 0,
            cx,
            version: Cell::new(cx.version),
            depth: Cell::new(0),
        }
    }

    /// A reader of a part that began at byte `offset` of its message.
    pub(crate) fn part(part: &'a [u8], offset: usize, cx: Context) -> Self {
        Reader {
            offset,
            ..Reader::new(part, cx)
        }
    }

    /// The protocol version that fields are judged by.
    #[inline]
    pub fn version(&self) -> Version {
        self.version.get()
    }

    /// Sets the version, once the message's header has told it.
    pub fn set_version(&self, version: Version) {
        self.version.set(version);
    }

    /// The context, with the version as it is now.
    pub fn context(&self) -> Context {
        Context {
            version: self.version.get(),
            ..self.cx
        }
    }

    /// Whether a field of this range of versions exists in the message's version.
    #[inline]
    pub fn has(&self, since: Version, until: Option<Version>) -> bool {
        self.version.get().is_within(since, until)
    }

    /// The place of `item` in the message.
    #[inline]
    pub fn offset(&self, item: Item<'a>) -> usize {
        self.place(item.raw)
    }

    #[inline]
    fn place(&self, slice: &[u8]) -> usize {
        self.offset + (slice.as_ptr() as usize).saturating_sub(self.base.as_ptr() as usize)
    }

    /// An error about `item`.
    #[cold]
    #[inline(never)]
    pub fn error(&self, item: Item<'a>, kind: ErrorKind) -> Error {
        self.error_at(item, 0, kind)
    }

    #[cold]
    #[inline(never)]
    fn error_at(&self, item: Item<'a>, behind: usize, kind: ErrorKind) -> Error {
        Error::new(kind)
            .at(self.place(item.raw) + behind)
            .named(self.cx.dictionary)
    }

    /// The items of a structure.
    ///
    /// # Errors
    /// When `item` is none.
    #[inline]
    pub fn children(&self, item: Item<'a>) -> Result<Children<'a>> {
        match item.raw.split_first_chunk::<HEADER>() {
            Some((_, rest)) if item.head().is_whole(Type::Structure) => Ok(Children { rest }),
            _ => Err(item.another(Type::Structure, self)),
        }
    }

    /// The items of a structure that a type is being read from: [`leave`](Reader::leave) ends it. Between the two it counts for the depth.
    ///
    /// # Errors
    /// When `item` is none, or stands too deep.
    #[inline]
    pub fn enter(&self, item: Item<'a>) -> Result<Children<'a>> {
        let children = self.children(item)?;
        let depth = self.depth.get();
        if depth >= self.cx.limits.depth {
            return Err(self.error(item, ErrorKind::Depth(self.cx.limits.depth)));
        }
        self.depth.set(depth + 1);
        Ok(children)
    }

    /// Ends what [`enter`](Reader::enter) began.
    ///
    /// # Errors
    /// When something stands at the structure's end that is no item.
    #[inline]
    pub fn leave(&self, children: Children<'a>) -> Result<()> {
        self.depth.set(self.depth.get().saturating_sub(1));
        children.end(self)
    }

    /// Reads in a way that may fail without harm: what it entered is left again.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn attempt<T>(&self, read: impl FnOnce() -> Result<T>) -> Result<T> {
        let depth = self.depth.get();
        read().inspect_err(|_| self.depth.set(depth))
    }

    /// The error for an item that does not belong where it stands.
    #[cold]
    #[inline(never)]
    pub fn unexpected(&self, item: Item<'a>) -> Error {
        let tag = item.tag();
        self.error(
            item,
            if tag.is_defined() {
                ErrorKind::Unexpected(tag)
            } else {
                ErrorKind::UnknownTag
            },
        )
    }

    /// Decodes `item`, putting its tag into the path of an error.
    #[inline]
    pub fn child<T: Decode>(&self, item: Item<'a>) -> Result<T> {
        T::decode(item, self).map_err(|e| e.within(item.tag()))
    }

    /// Decodes `item` into a field that may stand once.
    #[inline]
    pub fn once<T: Decode>(&self, field: &mut Option<T>, item: Item<'a>) -> Result<()> {
        if field.is_some() {
            return Err(self.error(item, ErrorKind::Repeated(item.tag())));
        }
        *field = Some(self.child(item)?);
        Ok(())
    }

    /// The error for a structure that lacks a required field.
    #[cold]
    #[inline(never)]
    pub fn missing(&self, structure: Item<'a>, tag: Tag) -> Error {
        self.error(structure, ErrorKind::Missing(tag))
    }

    /// Checks everything below `item`, whatever it is: headers, values, depth, number of items. Does not recurse.
    ///
    /// # Errors
    /// The first thing that is wrong, the path beginning below `item`'s own tag.
    pub fn check(&self, item: Item<'a>) -> Result<()> {
        self.check_all(item)
            .map_err(|error| self.located(item, error))
    }

    fn check_all(&self, item: Item<'a>) -> Result<()> {
        let limits = &self.cx.limits;
        let mut open: Vec<Children<'a>> = Vec::new();
        let mut next = Some(item);
        let mut items = 0;
        loop {
            if let Some(item) = next {
                if items >= limits.items {
                    return Err(self.error(item, ErrorKind::Items(limits.items)));
                }
                items += 1;
                item.check(self)?;
                if item.ty() == Type::Structure {
                    if self.depth.get() + open.len() >= limits.depth {
                        return Err(self.error(item, ErrorKind::Depth(limits.depth)));
                    }
                    open.push(self.children(item)?);
                }
            }
            let Some(innermost) = open.last_mut() else {
                return Ok(());
            };
            next = innermost.step();
            if next.is_none() {
                innermost.end(self)?;
                open.pop();
            }
        }
    }

    /// Finds the tags between `outer` and the place of an error in it.
    #[cold]
    #[inline(never)]
    fn located(&self, outer: Item<'a>, error: Error) -> Error {
        let at = error.offset().unwrap_or(0);
        let mut path = Vec::new();
        let mut inside = self.children(outer).ok();
        while let Some(mut children) = inside.take() {
            while let Some(child) = children.step() {
                if (self.offset(child)..self.offset(child) + child.raw().len()).contains(&at) {
                    path.push(child.tag());
                    inside = self.children(child).ok();
                    break;
                }
            }
        }
        path.into_iter().rev().fold(error, Error::within)
    }

    /// Fails when the message has more items than the limit. One that is too short for that is not looked at.
    pub(crate) fn check_count(&self, item: Item<'a>) -> Result<()> {
        if self.base.len() / HEADER > self.cx.limits.items {
            self.check(item).map_err(|e| e.within(item.tag()))
        } else {
            Ok(())
        }
    }
}

/// The items of one structure, one after another.
#[derive(Clone, Copy)]
pub struct Children<'a> {
    rest: &'a [u8],
}

impl<'a> Children<'a> {
    /// The next one. Not an `Iterator`, since it needs the reader to say where something is wrong.
    ///
    /// # Errors
    /// When what follows is no item, or a wrong one. What a structure holds is not looked into.
    pub fn next(&mut self, r: &Reader<'a>) -> Result<Option<Item<'a>>> {
        match self.step() {
            Some(item) => item
                .check(r)
                .map(|()| Some(item))
                .map_err(|e| e.within(item.tag())),
            None => self.end(r).map(|()| None),
        }
    }

    /// The next one, for a caller who is about to read its value, which is when it is checked. None at the end, and where what follows is
    /// no item, which [`end`](Children::end) tells: what fits two registers need not go through memory.
    ///
    /// ```
    /// # use keyferry_ttlv::{Context, Item, Reader, Result, Tag, Version};
    /// fn sum(structure: Item<'_>, r: &Reader<'_>) -> Result<i32> {
    ///     let (mut sum, mut children) = (0, r.children(structure)?);
    ///     while let Some(child) = children.step() {
    ///         sum += child.integer(r)?;
    ///     }
    ///     children.end(r)?;
    ///     Ok(sum)
    /// }
    /// # let message = [&[0x42, 0, 1, 1, 0, 0, 0, 16, 0x42, 0, 2, 2, 0, 0, 0, 4, 0, 0, 0, 7][..], &[0; 4]].concat();
    /// # assert_eq!(sum(Item::parse(&message)?, &Reader::new(&message, Context::new(Version::V2_1)))?, 7);
    /// # Ok::<(), keyferry_ttlv::Error>(())
    /// ```
    #[inline]
    pub fn step(&mut self) -> Option<Item<'a>> {
        let (item, rest) = Item::split(self.rest)?;
        self.rest = rest;
        Some(item)
    }

    /// Whether [`step`](Children::step) has come to the structure's end.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    /// Fails unless [`step`](Children::step) has come to the structure's end.
    ///
    /// # Errors
    /// What is wrong with the item that it stopped at.
    #[inline]
    pub fn end(&self, r: &Reader<'a>) -> Result<()> {
        if self.is_done() {
            Ok(())
        } else {
            Err(unsound(self.rest, r))
        }
    }
}

/// What is wrong with the item at the beginning of `rest`.
#[cold]
#[inline(never)]
fn unsound<'a>(rest: &'a [u8], r: &Reader<'a>) -> Error {
    let (kind, at) = match Item::object(rest) {
        // Not the input ends too early but the structure: its length and its content disagree.
        (ErrorKind::Truncated(missing), at) => (ErrorKind::Overrun(missing), at),
        wrong => wrong,
    };
    Error::new(kind)
        .at(r.place(rest) + at)
        .named(r.cx.dictionary)
}
