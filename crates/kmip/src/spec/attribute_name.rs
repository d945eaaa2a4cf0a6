//! The names of attributes as the items that stand in 1.x messages, and the way from such an item to the attribute.
#![allow(clippy::panic)] // when the tables are built, not when they are used

use super::{AttributeRow, attribute, tag};
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

/// The row of an attribute by the whole item that holds its name. On the hot path of 1.x: one hash, one comparison.
#[inline]
pub(crate) fn row(name_item: &[u8]) -> Option<&'static AttributeRow> {
    let row = attribute::ROWS.get(usize::from(*BY_NAME.get(slot(name_item))?))?;
    (row.name_item == name_item).then_some(row)
}

const SLOTS: usize = 512;

/// The places of the attributes' rows by the hash of their names. A place behind the rows is free.
static BY_NAME: [u8; SLOTS] = match places() {
    Some(places) => places,
    None => panic!("two names share a place: another seed is needed"),
};

/// With it no two names share a place. Found by trying; a table with more names may need another one.
const SEED: u64 = 0xBC93_1A8C_6C83_019B;

const fn places() -> Option<[u8; SLOTS]> {
    let mut places = [u8::MAX; SLOTS];
    let mut at = 0;
    while at < attribute::ROWS.len() {
        let slot = slot(attribute::ROWS[at].name_item);
        if places[slot] != u8::MAX {
            return None;
        }
        places[slot] = at as u8;
        at += 1;
    }
    Some(places)
}

/// A hash of the item's header, which holds the name's length, of the eight bytes behind it and of the last eight.
#[inline]
const fn slot(name_item: &[u8]) -> usize {
    let (Some(first), Some(last)) = (name_item.first_chunk::<16>(), name_item.last_chunk::<8>())
    else {
        return 0;
    };
    let first = u128::from_le_bytes(*first);
    let mixed = (first >> 64) as u64
        ^ u64::from_le_bytes(*last).rotate_left(29)
        ^ (first >> 56) as u64 & 0xFF;
    (mixed.wrapping_mul(SEED) >> 55) as usize
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
