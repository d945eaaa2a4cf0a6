//! The names of attributes, as the whole Attribute Name items that stand in 1.x messages.
#![allow(clippy::panic)] // when the tables are built, not when they are used

use super::tag;
use keyferry_ttlv::{Tag, Type};

/// The length of an Attribute Name item.
pub(super) const fn item_length(name: &str) -> usize {
    8 + name.len().next_multiple_of(8)
}

/// An Attribute Name item: tag, type, length, text, padding.
pub(super) const fn item<const LENGTH: usize>(name: &str) -> [u8; LENGTH] {
    let mut item = [0; LENGTH];
    let [_, t0, t1, t2] = tag::ATTRIBUTE_NAME.number().to_be_bytes();
    [item[0], item[1], item[2], item[3], item[7]] =
        [t0, t1, t2, Type::TextString as u8, name.len() as u8];
    let mut at = 0;
    while at < name.len() {
        item[8 + at] = name.as_bytes()[at];
        at += 1;
    }
    item
}

/// The name of a tag, when the tables are built.
pub(super) const fn of(tag: Tag) -> &'static str {
    let mut at = 0;
    while at < tag::ROWS.len() {
        if tag::ROWS[at].tag.number() == tag.number() {
            return tag::ROWS[at].name;
        }
        at += 1;
    }
    panic!("an attribute's tag has no row")
}
