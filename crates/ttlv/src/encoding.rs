//! [`Encode`], the trait of the types that can be written as an item, and what a [`Writer`] does with such types.

use crate::error::Result;
use crate::types::Tag;
use crate::writer::Writer;

/// A type that can be written as an item.
pub trait Encode {
    /// Writes the value under `tag`.
    ///
    /// # Errors
    /// When the version to write for has no form for it, or it is too long.
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()>;
}

impl Writer {
    /// Writes `value` under `tag`.
    #[inline]
    pub fn item<T: Encode + ?Sized>(&mut self, tag: Tag, value: &T) -> Result<()> {
        value.encode(tag, self)
    }
}
