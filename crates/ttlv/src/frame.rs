//! [`Frame`], the bytes of a message, and [`Framer`], which cuts a stream of bytes into messages.

use crate::error::{Error, ErrorKind, Result};
use crate::head::HEADER;
use crate::types::Type;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;
use nom::Parser;
use nom::number::streaming::{be_u24, be_u32, u8 as byte};
use zeroize::Zeroize;

/// The bytes of one message: never printed, wiped on drop.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Frame(Vec<u8>);

impl Frame {
    /// A frame of these bytes, which it owns and wipes from now on.
    pub fn new(bytes: Vec<u8>) -> Self {
        Frame(bytes)
    }
}

impl From<Vec<u8>> for Frame {
    fn from(bytes: Vec<u8>) -> Self {
        Frame(bytes)
    }
}

impl Deref for Frame {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes)", self.0.len())
    }
}

/// Overwrites bytes for good. It works on the slice, since a vector's own method goes byte by byte.
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.zeroize();
}

/// Makes room in a vector without leaving copies behind in memory when it has to move.
#[inline]
pub(crate) fn reserve(buffer: &mut Vec<u8>, additional: usize) {
    if buffer.capacity() - buffer.len() < additional {
        grow(buffer, additional, usize::MAX);
    }
}

/// Moves the buffer to a larger place. It gets more room than was asked for, but beyond `most` only what was asked for.
#[cold]
#[inline(never)]
fn grow(buffer: &mut Vec<u8>, additional: usize, most: usize) {
    // Each move copies and wipes what there is, so a small buffer soon becomes a large one.
    let factor = if buffer.capacity() < 64 * 1024 { 4 } else { 2 };
    let least = buffer.len().saturating_add(additional);
    let wanted = buffer
        .capacity()
        .saturating_mul(factor)
        .max(512)
        .min(most)
        .max(least);
    let mut larger = Vec::with_capacity(wanted);
    larger.extend_from_slice(buffer);
    wipe(buffer);
    *buffer = larger;
}

/// Cuts a byte stream into messages, without doing input or output itself.
///
/// The caller reads into [`space`](Framer::space), reports with [`filled`](Framer::filled) how many bytes came, and asks
/// [`frame`](Framer::frame) for the message. Each message gets a buffer of its own, which grows with what has been received and never beyond
/// the limit.
pub struct Framer {
    limit: usize,
    buffer: Vec<u8>,
    filled: usize,
    total: Option<usize>,
}

const STEP: usize = 64 * 1024;

impl Framer {
    /// A framer for messages of at most `limit` bytes, header included.
    pub fn new(limit: usize) -> Self {
        Framer {
            limit,
            buffer: Vec::new(),
            filled: 0,
            total: None,
        }
    }

    /// The number of bytes that the message under way still needs, as far as is known: those of its header first, then the rest.
    pub fn needed(&self) -> usize {
        self.total.unwrap_or(HEADER) - self.filled
    }

    /// Whether a message has begun and is not complete.
    pub fn is_midway(&self) -> bool {
        self.filled > 0
    }

    /// The buffer for the next bytes: not longer than what the message under way still needs.
    pub fn space(&mut self) -> &mut [u8] {
        let end = (self.filled + STEP).min(self.total.unwrap_or(HEADER));
        if self.buffer.len() < end {
            let more = end - self.buffer.len();
            if self.buffer.capacity() < end {
                grow(&mut self.buffer, more, self.total.unwrap_or(HEADER));
            }
            self.buffer.resize(end, 0);
        }
        self.buffer.get_mut(self.filled..end).unwrap_or_default()
    }

    /// Says that `n` bytes were put into [`space`](Framer::space).
    ///
    /// # Errors
    /// When these bytes are no message's beginning, or the message would be longer than the limit. The stream can't be
    /// used any further then.
    pub fn filled(&mut self, n: usize) -> Result<()> {
        self.filled = (self.filled + n).min(self.buffer.len());
        if self.total.is_none() && self.filled >= HEADER {
            self.total = Some(header(
                self.buffer.get(..HEADER).unwrap_or_default(),
                self.limit,
            )?);
        }
        Ok(())
    }

    /// The message, once it is complete; the framer is then ready for the next one.
    pub fn frame(&mut self) -> Option<Frame> {
        if self.total != Some(self.filled) {
            return None;
        }
        self.filled = 0;
        self.total = None;
        Some(Frame(core::mem::take(&mut self.buffer)))
    }
}

impl Drop for Framer {
    fn drop(&mut self) {
        wipe(&mut self.buffer);
    }
}

/// The whole length that a message's first eight bytes announce.
fn header(bytes: &[u8], limit: usize) -> Result<usize> {
    let parsed: nom::IResult<&[u8], (u32, u8, u32)> = (be_u24, byte, be_u32).parse(bytes);
    let (tag, ty, length) = match parsed {
        Ok((_, header)) => header,
        Err(nom::Err::Incomplete(nom::Needed::Size(n))) => {
            return Err(Error::new(ErrorKind::Truncated(n.get())).at(0));
        }
        Err(_) => return Err(Error::new(ErrorKind::Truncated(HEADER)).at(0)),
    };
    if !matches!(tag >> 16, 0x42 | 0x54) {
        return Err(Error::new(ErrorKind::UnknownTag).at(0));
    }
    if ty != Type::Structure as u8 {
        return Err(match Type::from_number(ty) {
            Some(found) => Error::new(ErrorKind::WrongType {
                expected: Type::Structure,
                found,
            })
            .at(3),
            None => Error::new(ErrorKind::UnknownType(ty)).at(3),
        });
    }
    if !length.is_multiple_of(8) {
        return Err(Error::new(ErrorKind::WrongLength(length)).at(4));
    }
    let size = HEADER.saturating_add(length as usize);
    if size > limit {
        return Err(Error::new(ErrorKind::Size { size, limit }).at(4));
    }
    Ok(size)
}
