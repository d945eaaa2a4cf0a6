//! [`Writer`], which writes items one after another into one buffer.

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Frame;
use crate::frame::{reserve, wipe};
use crate::head::{HEADER, Head};
use crate::types::{Tag, Type, Version};
use alloc::vec::Vec;

/// Writes items one after another into one buffer, in a single pass: a structure's length is filled in when it ends.
pub struct Writer {
    buffer: Vec<u8>,
    cx: Context,
}

impl Writer {
    /// A writer for the context's version.
    pub fn new(cx: Context) -> Self {
        Writer {
            buffer: Vec::new(),
            cx,
        }
    }

    /// A writer with room for `bytes`.
    pub fn with_capacity(cx: Context, bytes: usize) -> Self {
        Writer {
            buffer: Vec::with_capacity(bytes),
            cx,
        }
    }

    /// The version to write for.
    #[inline]
    pub fn version(&self) -> Version {
        self.cx.version
    }

    /// The context.
    pub fn context(&self) -> Context {
        self.cx
    }

    /// The number of bytes written so far.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Ends the writing and returns what was written.
    pub fn finish(mut self) -> Frame {
        Frame::new(core::mem::take(&mut self.buffer))
    }

    #[inline]
    fn fixed(&mut self, tag: Tag, ty: Type, length: u32, value: [u8; 8]) {
        let [h0, h1, h2, h3, h4, h5, h6, h7] = Head::new(tag, ty, length).to_bytes();
        let [v0, v1, v2, v3, v4, v5, v6, v7] = value;
        reserve(&mut self.buffer, 16);
        self.buffer.extend_from_slice(&[
            h0, h1, h2, h3, h4, h5, h6, h7, v0, v1, v2, v3, v4, v5, v6, v7,
        ]);
    }

    #[inline]
    fn four(&mut self, tag: Tag, ty: Type, value: [u8; 4]) {
        let [v0, v1, v2, v3] = value;
        self.fixed(tag, ty, 4, [v0, v1, v2, v3, 0, 0, 0, 0]);
    }

    #[inline]
    fn string(&mut self, tag: Tag, ty: Type, value: &[u8]) -> Result<()> {
        let Ok(length) = u32::try_from(value.len()) else {
            return Err(self.too_long(tag, value.len()));
        };
        reserve(&mut self.buffer, value.len().saturating_add(16));
        self.buffer
            .extend_from_slice(&Head::new(tag, ty, length).to_bytes());
        self.buffer.extend_from_slice(value);
        // Eight zeros at once and the surplus taken back: cheaper than a copy whose length is not known before.
        let end = self.buffer.len().next_multiple_of(8);
        self.buffer.extend_from_slice(&[0; 8]);
        self.buffer.truncate(end);
        Ok(())
    }

    #[cold]
    fn too_long(&self, tag: Tag, size: usize) -> Error {
        self.error(
            tag,
            ErrorKind::Size {
                size,
                limit: u32::MAX as usize,
            },
        )
    }

    /// Writes an Integer.
    #[inline]
    pub fn integer(&mut self, tag: Tag, value: i32) {
        self.four(tag, Type::Integer, value.to_be_bytes());
    }

    /// Writes a Long Integer.
    #[inline]
    pub fn long_integer(&mut self, tag: Tag, value: i64) {
        self.fixed(tag, Type::LongInteger, 8, value.to_be_bytes());
    }

    /// Writes a Big Integer, extending its sign to a multiple of eight bytes.
    ///
    /// # Errors
    /// When it has no bytes at all, or, as with every string, more than the format can count.
    pub fn big_integer(&mut self, tag: Tag, value: &[u8]) -> Result<()> {
        let Some(first) = value.first() else {
            return Err(self.error(tag, ErrorKind::WrongLength(0)));
        };
        if value.len().is_multiple_of(8) {
            return self.string(tag, Type::BigInteger, value);
        }
        let sign = if first & 0x80 == 0 { 0u8 } else { 0xFF };
        let missing = value.len().wrapping_neg() & 7;
        let mut extended = zeroize::Zeroizing::new(Vec::with_capacity(value.len() + missing));
        extended.resize(missing, sign);
        extended.extend_from_slice(value);
        self.string(tag, Type::BigInteger, &extended)
    }

    /// Writes an Enumeration.
    #[inline]
    pub fn enumeration(&mut self, tag: Tag, value: u32) {
        self.four(tag, Type::Enumeration, value.to_be_bytes());
    }

    /// Writes a Boolean.
    #[inline]
    pub fn boolean(&mut self, tag: Tag, value: bool) {
        self.fixed(tag, Type::Boolean, 8, u64::from(value).to_be_bytes());
    }

    /// Writes a Text String.
    #[inline]
    pub fn text(&mut self, tag: Tag, value: &str) -> Result<()> {
        self.string(tag, Type::TextString, value.as_bytes())
    }

    /// Writes a Byte String.
    #[inline]
    pub fn bytes(&mut self, tag: Tag, value: &[u8]) -> Result<()> {
        self.string(tag, Type::ByteString, value)
    }

    /// Writes a Date-Time, in seconds since 1970.
    #[inline]
    pub fn date_time(&mut self, tag: Tag, value: i64) {
        self.fixed(tag, Type::DateTime, 8, value.to_be_bytes());
    }

    /// Writes an Interval, in seconds.
    #[inline]
    pub fn interval(&mut self, tag: Tag, value: u32) {
        self.four(tag, Type::Interval, value.to_be_bytes());
    }

    /// Writes a Date-Time Extended, in microseconds since 1970.
    #[inline]
    pub fn date_time_extended(&mut self, tag: Tag, value: i64) {
        self.fixed(tag, Type::DateTimeExtended, 8, value.to_be_bytes());
    }

    /// Writes a structure with what `content` writes. An error gets `tag` into its path.
    #[inline]
    pub fn structure(
        &mut self,
        tag: Tag,
        content: impl FnOnce(&mut Writer) -> Result<()>,
    ) -> Result<()> {
        reserve(&mut self.buffer, HEADER);
        self.buffer
            .extend_from_slice(&Head::new(tag, Type::Structure, 0).to_bytes());
        let start = self.buffer.len();
        content(self).map_err(|e| e.within(tag))?;
        let size = self.buffer.len() - start;
        let Ok(length) = u32::try_from(size) else {
            return Err(self.too_long(tag, size));
        };
        if let Some(place) = self.buffer.get_mut(start - 4..start) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }

    /// Writes a whole item as it is.
    #[inline]
    pub fn raw(&mut self, item: &[u8]) {
        reserve(&mut self.buffer, item.len());
        self.buffer.extend_from_slice(item);
    }

    /// Fails when the version to write for has no field `tag`.
    #[inline]
    pub fn require(&self, tag: Tag, since: Version, until: Option<Version>) -> Result<()> {
        let version = self.cx.version;
        if since <= version && until.is_none_or(|until| version <= until) {
            return Ok(());
        }
        Err(self.error(
            tag,
            ErrorKind::NotInVersion {
                version,
                since,
                until,
            },
        ))
    }

    /// An error about the field `tag`.
    #[cold]
    #[inline(never)]
    pub fn error(&self, tag: Tag, kind: ErrorKind) -> Error {
        Error::new(kind).within(tag).named(self.cx.dictionary)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        wipe(&mut self.buffer);
    }
}
