//! This module reads all of a sealed store and names what does not fit.

use super::check;
use super::view::{Behind, View, beside_the_seal};
use crate::contract::{Cursor, Index, IndexKey, Order, Part, RecordNumber, Snapshot, Span};
use crate::error::{ErrorKind, Result};
use crate::index;
use crate::record::{Entry, Record};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::ControlFlow;

/// What [`Sealed::verify`](crate::Sealed::verify) has read, and what of it does not fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// The number of records.
    pub records: u64,
    /// The number of index entries.
    pub index_entries: u64,
    /// The number of feed entries.
    pub feed_entries: u64,
    /// The number of rows of the s2s state.
    pub state_rows: u64,
    /// The number of faults.
    pub faults: u64,
    /// The first [`Verification::NAMED`] faults, each with its place.
    pub named: Vec<String>,
}

impl Verification {
    /// The most faults that are named.
    pub const NAMED: usize = 100;

    /// Whether all of it is what was written.
    pub fn is_sound(&self) -> bool {
        self.faults == 0
    }

    fn add(&mut self, fault: impl fmt::Display) {
        self.faults += 1;
        if self.named.len() < Verification::NAMED {
            self.named.push(fault.to_string());
        }
    }

    /// Notes damage and goes on; returns other errors.
    fn note<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.add(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} records, {} index entries, {} feed entries, {} rows of state: {} faults",
            self.records, self.index_entries, self.feed_entries, self.state_rows, self.faults
        )
    }
}

/// Reads all of a snapshot.
pub(super) fn verify<T: Behind>(view: &View<'_, T>) -> Result<Verification> {
    let mut found = Verification::default();
    let head = view.head();
    found.note(head)?;
    let keys = records(view, &mut found)?;
    indexes(view, keys, &mut found)?;
    feed(view, &mut found)?;
    state(view, &mut found)?;
    Ok(found)
}

/// Reads all records; returns how many index entries they must have, `None` when that can't be told.
fn records<T: Behind>(view: &View<'_, T>, found: &mut Verification) -> Result<Option<u64>> {
    let mut keys = Some(0_u64);
    let behind = view.behind();
    let (all, order) = (Span::all(), Order::Ascending);
    behind.scan(Index::ARRIVAL, &all, order, None, &mut |_, number| {
        found.records += 1;
        let row = found.note(view.get(number, Part::Whole))?.flatten();
        let own = match row.map(|row| Record::decode(&row.attributes)) {
            Some(Ok(record)) => index::keys(&record)?,
            _ => {
                keys = None;
                return Ok(ControlFlow::Continue(()));
            }
        };
        keys = keys.map(|keys| keys + own.len() as u64);
        for key in &own {
            if !has_entry(behind, key, number)? {
                let place = format_args!("index {}, key {}", key.index.0, check::Hex(&key.key));
                found.add(check::corrupt(
                    number,
                    format_args!("{place}: the entry is missing"),
                ));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    behind.state(&check::span(0, None), &mut |name, _| {
        let number = RecordNumber(check::number(name).unwrap_or_default());
        if behind.get(number, Part::Attributes)?.is_none() {
            found.add(check::corrupt(
                number,
                "it is missing, and its check is there",
            ));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(keys)
}

fn has_entry(at: &dyn Snapshot, key: &IndexKey, number: RecordNumber) -> Result<bool> {
    let before = Cursor {
        key: key.key.to_vec(),
        number: RecordNumber(number.0.saturating_sub(1)),
    };
    let mut is_there = false;
    let (span, order) = (Span::exact(&key.key), Order::Ascending);
    at.scan(key.index, &span, order, Some(&before), &mut |_, next| {
        is_there = next == number;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(is_there)
}

/// Counts the index entries. Where they are not as many as `expected`, each is asked of its record.
fn indexes<T: Behind>(
    view: &View<'_, T>,
    expected: Option<u64>,
    found: &mut Verification,
) -> Result<()> {
    let (all, order) = (Span::all(), Order::Ascending);
    for index in 1..=u8::MAX {
        view.behind()
            .scan(Index(index), &all, order, None, &mut |_, _| {
                found.index_entries += 1;
                Ok(ControlFlow::Continue(()))
            })?;
    }
    if expected == Some(found.index_entries) {
        return Ok(());
    }
    for index in (1..=u8::MAX).map(Index) {
        view.behind()
            .scan(index, &all, order, None, &mut |key, number| {
                found.note(view.check_entry(index, key, number))?;
                Ok(ControlFlow::Continue(()))
            })?;
    }
    Ok(())
}

/// Reads the feed; every record must have one entry, with the record's stamp.
fn feed<T: Behind>(view: &View<'_, T>, found: &mut Verification) -> Result<()> {
    let head = view.behind().head()?.number;
    let mut met = BTreeSet::new();
    view.behind().feed(0, &mut |row| {
        found.feed_entries += 1;
        found.note(view.check_feed(row))?;
        if !met.insert(row.record) {
            found.add(check::corrupt(row.record, "it has two feed entries"));
        }
        if row.number > head {
            found.add(check::corrupt(
                row.record,
                "its feed entry stands above the head",
            ));
        }
        // The check binds the two; this tells what went wrong where the code that wrote them did.
        let record = found
            .note(view.get(row.record, Part::Attributes))?
            .flatten();
        let record = record.map(|record| Record::decode(&record.attributes));
        if let (Some(Ok(record)), Ok(entry)) = (record, Entry::decode(row.entry))
            && record.stamp != entry.stamp
        {
            found.add(check::corrupt(
                row.record,
                "its feed entry has another stamp",
            ));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let (all, order) = (Span::all(), Order::Ascending);
    view.behind()
        .scan(Index::ARRIVAL, &all, order, None, &mut |_, number| {
            if !met.contains(&number) {
                found.add(check::corrupt(number, "it has no feed entry"));
            }
            Ok(ControlFlow::Continue(()))
        })
}

fn state<T: Behind>(view: &View<'_, T>, found: &mut Verification) -> Result<()> {
    for part in beside_the_seal(&Span::all()).iter().flatten() {
        view.behind().state(part, &mut |key, sealed| {
            found.state_rows += 1;
            found.note(view.state_value(key, sealed))?;
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(())
}
