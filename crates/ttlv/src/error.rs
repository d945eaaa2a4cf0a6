//! The error of encoding and decoding: what is wrong, at which byte, on which path of tags.

use crate::dictionary::Dictionary;
use crate::types::{Tag, Type, Version};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

/// The error of encoding or decoding: what is wrong with a message, where, and on which path of tags.
///
/// `Request Payload > Attributes > State: expected Enumeration, found Integer (byte 112)`
#[derive(Clone, PartialEq)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    offset: Option<usize>,
    path: Vec<Tag>,
    dictionary: Option<&'static dyn Dictionary>,
}

impl PartialEq for Inner {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.offset == other.offset && self.path == other.path
    }
}

/// The result of encoding or decoding.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// The kinds of error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum ErrorKind {
    /// The input ends before an item does; this many bytes are missing.
    Truncated(usize),
    /// An item reaches this many bytes beyond the end of the structure that it stands in: the two lengths disagree.
    Overrun(usize),
    /// There are this many bytes behind the item.
    TrailingBytes(usize),
    /// A tag outside 42xxxx and 54xxxx.
    UnknownTag,
    /// A type byte that the standard does not define.
    UnknownType(u8),
    /// An item of another type than its tag asks for.
    WrongType {
        /// The type that was asked for.
        expected: Type,
        /// The type that is there.
        found: Type,
    },
    /// Another tag than the one asked for.
    WrongTag {
        /// The tag that was asked for.
        expected: Tag,
        /// The tag that is there.
        found: Tag,
    },
    /// A length that the type does not allow.
    WrongLength(u32),
    /// Padding bytes other than zero.
    Padding,
    /// A Boolean other than 0 and 1.
    Boolean,
    /// A text that is not UTF-8.
    Utf8,
    /// Structures nested deeper than the limit.
    Depth(usize),
    /// A message, or an item of it, longer than the limit.
    Size {
        /// Its length in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// More items than the limit.
    Items(usize),
    /// A required field is absent.
    Missing(Tag),
    /// A field that does not belong there.
    Unexpected(Tag),
    /// A field that may occur once occurs again.
    Repeated(Tag),
    /// A field that the protocol version to encode for does not have.
    NotInVersion {
        /// The version to encode for.
        version: Version,
        /// The first version that has it.
        since: Version,
        /// The last version that has it, where there is one.
        until: Option<Version>,
    },
    /// A value that the field does not allow; the text says why.
    Value(&'static str),
    /// Text that is no XML or JSON, or not this encoding of a message; the text says why.
    Syntax(&'static str),
    /// A name that the dictionary lacks: that of a tag, a type, a value or a bit.
    UnknownName(&'static str),
}

impl Error {
    /// An error without a place; see [`Reader::error`](crate::Reader::error) for one that has it.
    #[cold]
    pub fn new(kind: ErrorKind) -> Self {
        Error(Box::new(Inner {
            kind,
            offset: None,
            path: Vec::new(),
            dictionary: None,
        }))
    }

    /// Adds the byte offset, unless one is known already.
    pub fn at(mut self, offset: usize) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// The same error in a larger input, in which `bytes` come before the part that it was found in.
    #[cfg(feature = "inspect")]
    pub(crate) fn shifted(mut self, bytes: usize) -> Self {
        self.0.offset = self.0.offset.map(|offset| offset + bytes);
        self
    }

    /// Puts `tag` in front of the path, unless it lies in neither range of tags: it may then be any bytes.
    #[cold]
    #[inline(never)]
    pub fn within(mut self, tag: Tag) -> Self {
        if tag.is_defined() {
            self.0.path.insert(0, tag);
        }
        self
    }

    /// Adds the names that the path is printed with, unless there are some already.
    pub fn named(mut self, dictionary: Option<&'static dyn Dictionary>) -> Self {
        if self.0.dictionary.is_none() {
            self.0.dictionary = dictionary;
        }
        self
    }

    /// The kind of error.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// The byte at which it was found, counted from the start of the message.
    pub fn offset(&self) -> Option<usize> {
        self.0.offset
    }

    /// The tags around the place, outermost first.
    pub fn path(&self) -> &[Tag] {
        &self.0.path
    }
}

struct Named(Option<&'static dyn Dictionary>, Tag);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.and_then(|dictionary| dictionary.tag_name(self.1)) {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.1),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        let named = |tag: &Tag| Named(inner.dictionary, *tag);
        for (i, tag) in inner.path.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { " > " }, named(tag))?;
        }
        if !inner.path.is_empty() {
            f.write_str(": ")?;
        }
        match &inner.kind {
            ErrorKind::Truncated(missing) => write!(f, "the input ends {missing} bytes too early")?,
            ErrorKind::Overrun(n) => write!(
                f,
                "an item reaches {n} bytes beyond the structure around it"
            )?,
            ErrorKind::TrailingBytes(n) => write!(f, "{n} bytes too many")?,
            // Not the bytes themselves, here and below: behind a wrong length they may be key material.
            ErrorKind::UnknownTag => f.write_str("there is no tag here")?,
            ErrorKind::UnknownType(_) => f.write_str("there is no item type here")?,
            ErrorKind::WrongType { expected, found } => {
                write!(f, "expected {expected}, found {found}")?
            }
            ErrorKind::WrongTag { expected, found } => {
                write!(f, "expected {}, found {}", named(expected), named(found))?
            }
            ErrorKind::WrongLength(length) => {
                write!(f, "a length of {length} does not fit the type")?
            }
            ErrorKind::Padding => f.write_str("padding is not zero")?,
            ErrorKind::Boolean => f.write_str("Boolean is neither 0 nor 1")?,
            ErrorKind::Utf8 => f.write_str("text is not UTF-8")?,
            ErrorKind::Depth(limit) => write!(f, "nested deeper than {limit} structures")?,
            ErrorKind::Size { size, limit } => {
                write!(f, "{size} bytes, more than the limit of {limit}")?
            }
            ErrorKind::Items(limit) => write!(f, "more than {limit} items")?,
            ErrorKind::Missing(tag) => write!(f, "{} is missing", named(tag))?,
            ErrorKind::Unexpected(tag) => write!(f, "{} does not belong here", named(tag))?,
            ErrorKind::Repeated(tag) => write!(f, "{} stands more than once", named(tag))?,
            ErrorKind::NotInVersion {
                version,
                since,
                until,
            } => {
                write!(f, "not in KMIP {version}, only since {since}")?;
                if let Some(until) = until {
                    write!(f, " and until {until}")?;
                }
            }
            ErrorKind::Value(why) | ErrorKind::Syntax(why) => f.write_str(why)?,
            // Not the name itself: it may be anything.
            ErrorKind::UnknownName(what) => write!(f, "no {what} has this name")?,
        }
        match inner.offset {
            Some(offset) => write!(f, " (byte {offset})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({self})")
    }
}

/// It has no source: what the libraries beneath say (of XML, JSON) may quote the message, and so a key.
impl core::error::Error for Error {}
