//! [`Decode`], the trait of the types that can be read from an item, and what a [`Reader`] does with such types.

use crate::error::{ErrorKind, Result};
use crate::item::Item;
use crate::item::reader::Reader;

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

impl<'a> Reader<'a> {
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
}
