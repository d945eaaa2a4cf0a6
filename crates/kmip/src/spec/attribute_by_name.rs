//! The attribute that an Attribute Name item of a 1.x message names: a hash table, built when the crate is compiled.
#![allow(clippy::panic)] // when the table is built, not when it is used

use super::attribute::{AttributeRow, ROWS};

/// The row of an attribute by the whole item that holds its name. On the hot path of 1.x: one hash, one comparison.
#[inline]
pub(crate) fn row(name_item: &[u8]) -> Option<&'static AttributeRow> {
    let row = ROWS.get(usize::from(*BY_NAME.get(slot(name_item))?))?;
    (row.name_item == name_item).then_some(row)
}

const SLOTS: usize = 512;

/// The places of the attributes' rows by the hash of their names. A place behind the rows is free.
static BY_NAME: [u8; SLOTS] = match places() {
    Some(places) => places,
    None => panic!("two names share a place: another seed is needed"),
};

/// The seed of the hash, with which no two names share a place. It was found by trying; a table with more names may need another one.
const SEED: u64 = 0xBC93_1A8C_6C83_019B;

const fn places() -> Option<[u8; SLOTS]> {
    let mut places = [u8::MAX; SLOTS];
    let mut at = 0;
    while at < ROWS.len() {
        let slot = slot(ROWS[at].name_item);
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
