//! This module writes the puts of one call, table by table and in the order of the keys, which suits a B-tree.

use crate::keys;
use crate::tables::join_record;
use keyferry_store::{MaterialChange, Put};
use redb::{CursorError, Table};
use std::ops::Bound;

/// A put with its record number and its feed number.
pub(crate) type Item<'a> = (&'a Put<'a>, u64, u64);

type Numbered<'t> = Table<'t, u64, &'static [u8]>;

/// Writes the records and returns the feed numbers of their earlier entries.
///
/// New records have the highest numbers, so they are appended; changed ones are looked up.
pub(crate) fn records<'a>(
    table: &mut Numbered<'_>,
    all: impl Iterator<Item = Item<'a>> + Clone,
) -> Result<Vec<u64>, CursorError> {
    let mut superseded = Vec::new();
    let mut value = Vec::new();
    for (put, number, feed) in all.clone().filter(|(put, ..)| put.number.is_some()) {
        value.clear();
        join_record(&mut value, feed, put.id, put.attributes);
        if let Some(before) = table.insert(number, value.as_slice())?
            && let Some(feed) = before.value().first_chunk()
        {
            superseded.push(u64::from_be_bytes(*feed));
        }
    }
    superseded.sort_unstable();
    let mut end = table.upper_bound_mut(Bound::<u64>::Unbounded)?;
    for (put, number, feed) in all.filter(|(put, ..)| put.number.is_none()) {
        value.clear();
        join_record(&mut value, feed, put.id, put.attributes);
        end.insert_before(number, value.as_slice())?;
    }
    end.close()?;
    Ok(superseded)
}

/// Sets and removes key material.
pub(crate) fn material<'a>(
    table: &mut Numbered<'_>,
    all: impl Iterator<Item = Item<'a>> + Clone,
) -> Result<(), CursorError> {
    for (put, number, _) in all.clone().filter(|(put, ..)| put.number.is_some()) {
        match put.material {
            MaterialChange::Keep => {}
            MaterialChange::Set(bytes) => drop(table.insert(number, bytes)?),
            MaterialChange::Remove => drop(table.remove(number)?),
        }
    }
    let mut end = table.upper_bound_mut(Bound::<u64>::Unbounded)?;
    for (put, number, _) in all.filter(|(put, ..)| put.number.is_none()) {
        if let MaterialChange::Set(bytes) = put.material {
            end.insert_before(number, bytes)?;
        }
    }
    Ok(end.close()?)
}

/// Removes the superseded entries and appends the new ones.
pub(crate) fn feed<'a>(
    table: &mut Numbered<'_>,
    superseded: &[u64],
    all: impl Iterator<Item = Item<'a>>,
) -> Result<(), CursorError> {
    for number in superseded {
        table.remove(number)?;
    }
    let mut value = Vec::new();
    let mut end = table.upper_bound_mut(Bound::<u64>::Unbounded)?;
    for (put, number, feed) in all {
        value.clear();
        value.extend_from_slice(&number.to_be_bytes());
        value.extend_from_slice(put.entry);
        end.insert_before(feed, value.as_slice())?;
    }
    Ok(end.close()?)
}

/// Changes the indexes in the order of the entries, so that neighbours share the pages that are copied for writing.
pub(crate) fn index<'a>(
    table: &mut Table<'_, keys::Entry, ()>,
    all: impl Iterator<Item = Item<'a>> + Clone,
) -> Result<(), CursorError> {
    let mut removed = Entries::default();
    let mut inserted = Entries::default();
    for (put, number, _) in all {
        put.remove
            .iter()
            .for_each(|key| removed.add(key.index.0, &key.key, number));
        put.insert
            .iter()
            .for_each(|key| inserted.add(key.index.0, &key.key, number));
    }
    for entry in removed.sorted() {
        table.remove(entry)?;
    }
    insert(table, &inserted.sorted())
}

/// The number of entries to insert one by one before a run is looked for again.
const SCATTERED: usize = 64;

/// Inserts sorted entries.
///
/// New records form runs in the indexes of dates, States and the like: no stored entry lies between one new entry and the next. A
/// cursor inserts a run far faster than single insertions do, but is slower where there is no run.
fn insert(
    table: &mut Table<'_, keys::Entry, ()>,
    mut entries: &[&[u8]],
) -> Result<(), CursorError> {
    while let Some((first, _)) = entries.split_first() {
        let mut cursor = table.lower_bound_mut(Bound::Included(*first))?;
        let mut inserted = 0;
        for entry in entries {
            match cursor.insert_before(*entry, ()) {
                Ok(()) => inserted += 1,
                Err(CursorError::UnorderedKey) => break,
                Err(error) => return Err(error),
            }
        }
        cursor.close()?;
        entries = entries.get(inserted..).unwrap_or_default();
        if inserted > 1 {
            continue;
        }
        // The first entry may exist already, which stops a cursor but not an insertion.
        let scattered = entries.len().min(SCATTERED);
        let (scattered, rest) = entries.split_at(scattered);
        for entry in scattered {
            table.insert(*entry, ())?;
        }
        entries = rest;
    }
    Ok(())
}

/// A list of index entries in one buffer.
#[derive(Default)]
struct Entries {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Entries {
    fn add(&mut self, index: u8, key: &[u8], number: u64) {
        keys::append(&mut self.bytes, index, key, number);
        self.ends.push(self.bytes.len());
    }

    fn sorted(&self) -> Vec<&[u8]> {
        let mut rest = self.bytes.as_slice();
        let mut start = 0;
        let mut entries: Vec<&[u8]> = self
            .ends
            .iter()
            .map(|end| {
                let (entry, after) = rest.split_at(end - std::mem::replace(&mut start, *end));
                rest = after;
                entry
            })
            .collect();
        entries.sort_unstable_by(|left, right| keys::compare(left, right));
        entries
    }
}
