//! Types that know their own tag: [`Tagged`] ones always have the same, and of a [`Choice`] the tag tells the form.

use crate::error::Result;
use crate::item::Item;
use crate::item::reader::Reader;
use crate::types::Tag;
use crate::writer::Writer;
use alloc::boxed::Box;

/// A type that usually stands under one tag: by `#[derive(Encode)]` with `#[ttlv(tag = …)]` on the type.
#[diagnostic::on_unimplemented(
    note = "a type gets its tag by `#[derive(Encode)]` with `#[ttlv(tag = …)]` on it; a field of another type needs the tag on the field"
)]
pub trait Tagged {
    /// The tag.
    const TAG: Tag;
}

/// A type whose tag says which of several things it is.
pub trait Choice: Sized {
    /// The tag of this value's form.
    fn tag(&self) -> Tag;
    /// Whether one of the forms has this tag, in the reader's version.
    fn accepts(tag: Tag, r: &Reader<'_>) -> bool;
    /// Reads the form that `item`'s tag names.
    fn decode_choice<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self>;
    /// Writes the value under its form's own tag.
    fn encode_choice(&self, w: &mut Writer) -> Result<()>;
}

impl<T: Tagged> Tagged for Box<T> {
    const TAG: Tag = T::TAG;
}
