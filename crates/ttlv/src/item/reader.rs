//! [`Reader`], the surroundings of items that are read, and [`Children`], the items of one structure, one after another.

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::head::HEADER;
use crate::item::Item;
use crate::types::{Tag, Type, Version};
use alloc::vec::Vec;
use core::cell::Cell;

/// The surroundings in which items are decoded: the message's start (for offsets), version, limits, names.
pub struct Reader<'a> {
    base: &'a [u8],
    offset: usize,
    pub(super) cx: Context,
    version: Cell<Version>,
    /// The number of structures entered and not left.
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

    /// A reader of a part that begins at byte `offset` of its message.
    pub(crate) fn part(part: &'a [u8], offset: usize, cx: Context) -> Self {
        Reader {
            offset,
            ..Reader::new(part, cx)
        }
    }

    /// The protocol version, which decides what fields there are.
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

    /// The byte of the message at which `item` begins.
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
    pub(super) fn error_at(&self, item: Item<'a>, behind: usize, kind: ErrorKind) -> Error {
        Error::new(kind)
            .at(self.place(item.raw) + behind)
            .named(self.cx.dictionary)
    }

    /// The items of a structure.
    ///
    /// # Errors
    /// When `item` is no structure.
    #[inline]
    pub fn children(&self, item: Item<'a>) -> Result<Children<'a>> {
        match item.raw.split_first_chunk::<HEADER>() {
            Some((_, rest)) if item.head().is_whole(Type::Structure) => Ok(Children { rest }),
            _ => Err(item.wrong_type(Type::Structure, self)),
        }
    }

    /// The items of a structure from which a type is read. The structure counts for the depth until [`leave`](Reader::leave) is called.
    ///
    /// # Errors
    /// When `item` is no structure, or stands too deep.
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

    /// Runs `read`, and when it fails leaves the structures that it entered, so that reading can go on.
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
    /// The next item, checked. This is no `Iterator`, since it needs the reader to say where something is wrong.
    ///
    /// # Errors
    /// When no item follows, or a wrong one. The content of a structure is not looked into.
    pub fn next(&mut self, r: &Reader<'a>) -> Result<Option<Item<'a>>> {
        match self.step() {
            Some(item) => item
                .check(r)
                .map(|()| Some(item))
                .map_err(|e| e.within(item.tag())),
            None => self.end(r).map(|()| None),
        }
    }

    /// The next item, for a caller who is about to read its value, which checks the item. `None` at the end, and also where no item follows:
    /// [`end`](Children::end) tells the two apart. (A result that fits two registers need not go through memory.)
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

/// The error for `rest`, which does not begin with an item.
#[cold]
#[inline(never)]
fn unsound<'a>(rest: &'a [u8], r: &Reader<'a>) -> Error {
    let (kind, at) = match Item::fault(rest) {
        // Not the input ends too early but the structure: its length and its content disagree.
        (ErrorKind::Truncated(missing), at) => (ErrorKind::Overrun(missing), at),
        wrong => wrong,
    };
    Error::new(kind)
        .at(r.place(rest) + at)
        .named(r.cx.dictionary)
}
