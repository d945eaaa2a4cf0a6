//! What a row of the table of tags says, and the macro that makes the table.

use super::versions::Versions;
use keyferry_ttlv::{Tag, Type};

/// The row of a tag: what the standard says of it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TagRow {
    /// The tag itself.
    pub tag: Tag,
    /// The tag's name.
    pub name: &'static str,
    /// The versions that have it.
    pub versions: Versions,
    /// The types it may have; several where versions differ, none where the text gives none.
    pub types: &'static [Type],
}

macro_rules! tags {
    ($($id:ident = $number:literal, $name:literal, $since:ident $(.. $until:ident)?, [$($ty:ident),*];)*) => {
        use keyferry_ttlv::{Tag, Type};
        $(#[doc = $name] pub const $id: Tag = Tag::new($number);)*
        /// All rows, by number.
        pub const ROWS: &[super::tag_row::TagRow] = &[$(super::tag_row::TagRow {
            tag: $id, name: $name, versions: super::versions::versions!($since $($until)?), types: &[$(Type::$ty),*],
        },)*];
    };
}
pub(super) use tags;
