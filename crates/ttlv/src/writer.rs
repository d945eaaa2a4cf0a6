use crate::frame::grow;
use crate::{Context, Encode, Error, ErrorKind, Frame, Result, Tag, Type, Version};
use alloc::vec::Vec;
use zeroize::Zeroize;

/// Writes items one after another into one buffer, in a single pass: a structure's length is filled in when it ends.
pub struct Writer {
    buffer: Vec<u8>,
    cx: Context,
}

impl Writer {
    /// A writer for the context's version.
    pub fn new(cx: Context) -> Self {
        Writer { buffer: Vec::new(), cx }
    }

    /// A writer with room for `bytes`.
    pub fn with_capacity(cx: Context, bytes: usize) -> Self {
        Writer { buffer: Vec::with_capacity(bytes), cx }
    }

    /// The version to write for.
    pub fn version(&self) -> Version {
        self.cx.version
    }

    /// The context.
    pub fn context(&self) -> Context {
        self.cx
    }

    /// How many bytes there are so far.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// What was written.
    pub fn finish(mut self) -> Frame {
        Frame::new(core::mem::take(&mut self.buffer))
    }

    fn head(&mut self, tag: Tag, ty: Type, length: u32) {
        let [_, t0, t1, t2] = tag.number().to_be_bytes();
        let [l0, l1, l2, l3] = length.to_be_bytes();
        self.buffer.extend_from_slice(&[t0, t1, t2, ty as u8, l0, l1, l2, l3]);
    }

    fn fixed(&mut self, tag: Tag, ty: Type, length: u8, value: [u8; 8]) {
        grow(&mut self.buffer, 16);
        let [_, t0, t1, t2] = tag.number().to_be_bytes();
        let [v0, v1, v2, v3, v4, v5, v6, v7] = value;
        self.buffer.extend_from_slice(&[t0, t1, t2, ty as u8, 0, 0, 0, length, v0, v1, v2, v3, v4, v5, v6, v7]);
    }

    fn four(&mut self, tag: Tag, ty: Type, value: [u8; 4]) {
        let [v0, v1, v2, v3] = value;
        self.fixed(tag, ty, 4, [v0, v1, v2, v3, 0, 0, 0, 0]);
    }

    fn string(&mut self, tag: Tag, ty: Type, value: &[u8]) -> Result<()> {
        let length = u32::try_from(value.len())
            .map_err(|_| self.error(tag, ErrorKind::Size { size: value.len(), limit: u32::MAX as usize }))?;
        let padding = value.len().wrapping_neg() & 7;
        grow(&mut self.buffer, 16 + value.len());
        self.head(tag, ty, length);
        self.buffer.extend_from_slice(value);
        self.buffer.extend_from_slice([0u8; 7].get(..padding).unwrap_or_default());
        Ok(())
    }

    /// Writes an Integer.
    pub fn integer(&mut self, tag: Tag, value: i32) {
        self.four(tag, Type::Integer, value.to_be_bytes());
    }

    /// Writes a Long Integer.
    pub fn long_integer(&mut self, tag: Tag, value: i64) {
        self.fixed(tag, Type::LongInteger, 8, value.to_be_bytes());
    }

    /// Writes a Big Integer, extending its sign to a multiple of eight bytes.
    ///
    /// # Errors
    /// When it has no bytes at all, or more than the format can say; the latter so for all strings.
    pub fn big_integer(&mut self, tag: Tag, value: &[u8]) -> Result<()> {
        let Some(first) = value.first() else { return Err(self.error(tag, ErrorKind::WrongLength(0))) };
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
    pub fn enumeration(&mut self, tag: Tag, value: u32) {
        self.four(tag, Type::Enumeration, value.to_be_bytes());
    }

    /// Writes a Boolean.
    pub fn boolean(&mut self, tag: Tag, value: bool) {
        self.fixed(tag, Type::Boolean, 8, u64::from(value).to_be_bytes());
    }

    /// Writes a Text String.
    pub fn text(&mut self, tag: Tag, value: &str) -> Result<()> {
        self.string(tag, Type::TextString, value.as_bytes())
    }

    /// Writes a Byte String.
    pub fn bytes(&mut self, tag: Tag, value: &[u8]) -> Result<()> {
        self.string(tag, Type::ByteString, value)
    }

    /// Writes a Date-Time, in seconds since 1970.
    pub fn date_time(&mut self, tag: Tag, value: i64) {
        self.fixed(tag, Type::DateTime, 8, value.to_be_bytes());
    }

    /// Writes an Interval, in seconds.
    pub fn interval(&mut self, tag: Tag, value: u32) {
        self.four(tag, Type::Interval, value.to_be_bytes());
    }

    /// Writes a Date-Time Extended, in microseconds since 1970.
    pub fn date_time_extended(&mut self, tag: Tag, value: i64) {
        self.fixed(tag, Type::DateTimeExtended, 8, value.to_be_bytes());
    }

    /// Writes a structure with what `content` writes. An error gets `tag` into its path.
    pub fn structure(&mut self, tag: Tag, content: impl FnOnce(&mut Writer) -> Result<()>) -> Result<()> {
        grow(&mut self.buffer, 64);
        let start = self.buffer.len();
        self.head(tag, Type::Structure, 0);
        content(self).map_err(|e| e.within(tag))?;
        let size = self.buffer.len() - start - crate::item::HEADER;
        let length = u32::try_from(size).map_err(|_| self.error(tag, ErrorKind::Size { size, limit: u32::MAX as usize }))?;
        if let Some(place) = self.buffer.get_mut(start + 4..start + 8) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }

    /// Writes a whole item as it is.
    pub fn raw(&mut self, item: &[u8]) {
        grow(&mut self.buffer, item.len());
        self.buffer.extend_from_slice(item);
    }

    /// Writes `value` under `tag`.
    pub fn item<T: Encode + ?Sized>(&mut self, tag: Tag, value: &T) -> Result<()> {
        value.encode(tag, self)
    }

    /// Fails when the version to write for has no field `tag`.
    pub fn require(&self, tag: Tag, since: Version, until: Option<Version>) -> Result<()> {
        let version = self.cx.version;
        if since <= version && until.is_none_or(|until| version <= until) {
            return Ok(());
        }
        Err(self.error(tag, ErrorKind::NotInVersion { version, since, until }))
    }

    /// An error about the field `tag`.
    #[cold]
    pub fn error(&self, tag: Tag, kind: ErrorKind) -> Error {
        Error::new(kind).within(tag).named(self.cx.dictionary)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.buffer.zeroize();
    }
}
