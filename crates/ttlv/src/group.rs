//! [`Group`], the trait of a field that consists of different items in different protocol versions.

use crate::downgrade::Loss;
use crate::error::Result;
use crate::item::Item;
use crate::item::reader::Reader;
use crate::types::Version;
use crate::writer::Writer;

/// A field that consists of different items in different versions: several of one tag in one version, one structure in another.
pub trait Group: Default {
    /// The parameter by which one type serves several fields.
    type How: Copy;
    /// Whether an item belongs to it, in the reader's version. Fields that stand before it in the type are asked first.
    fn accepts(how: Self::How, item: Item<'_>, r: &Reader<'_>) -> bool;
    /// Reads an item that was accepted, after `before` others.
    ///
    /// # Errors
    /// What is wrong with it, or that it is one too many.
    fn absorb<'a>(
        &mut self,
        how: Self::How,
        before: usize,
        item: Item<'a>,
        r: &Reader<'a>,
    ) -> Result<()>;
    /// Checks at the end of the structure whether enough items came.
    ///
    /// # Errors
    /// When an item is missing.
    fn finish<'a>(
        &self,
        _how: Self::How,
        _taken: usize,
        _structure: Item<'a>,
        _r: &Reader<'a>,
    ) -> Result<()> {
        Ok(())
    }
    /// Writes the items of the writer's version.
    ///
    /// # Errors
    /// When that version has no form for it.
    fn write(&self, how: Self::How, w: &mut Writer) -> Result<()>;
    /// Leaves behind what `version` lacks; false when the structure around it makes no sense without it.
    fn downgrade(&mut self, _how: Self::How, _version: Version, _loss: &mut Loss) -> bool {
        true
    }
}

/// A group that may be absent. It is `None` when no item came, or when it had to be left behind.
impl<T: Group> Group for Option<T> {
    type How = T::How;

    fn accepts(how: T::How, item: Item<'_>, r: &Reader<'_>) -> bool {
        T::accepts(how, item, r)
    }

    fn absorb<'a>(
        &mut self,
        how: T::How,
        before: usize,
        item: Item<'a>,
        r: &Reader<'a>,
    ) -> Result<()> {
        self.get_or_insert_default().absorb(how, before, item, r)
    }

    fn finish<'a>(
        &self,
        how: T::How,
        taken: usize,
        structure: Item<'a>,
        r: &Reader<'a>,
    ) -> Result<()> {
        self.as_ref()
            .map_or(Ok(()), |group| group.finish(how, taken, structure, r))
    }

    fn write(&self, how: T::How, w: &mut Writer) -> Result<()> {
        self.as_ref().map_or(Ok(()), |group| group.write(how, w))
    }

    fn downgrade(&mut self, how: T::How, version: Version, loss: &mut Loss) -> bool {
        if self
            .as_mut()
            .is_some_and(|group| !group.downgrade(how, version, loss))
        {
            *self = None;
        }
        true
    }
}
