//! This module serves tests that kill a process while it writes: it has the writer, and the check of what that left behind.
//!
//! A child process calls [`write_on`] and reports to its parent every write that was acknowledged. The parent kills it, opens the store and
//! calls [`Ledger::check`], which compares everything in the store with the same writes in memory.

use super::image::{look, scan, state, value};
use crate::contract::{
    FeedRow, Index, IndexKey, MaterialChange, Order, Part, Put, RecordNumber, Snapshot, Span,
    Store, Transaction,
};
use crate::error::{Error, Result};
use crate::memory::Memory;
use crate::position::Incarnation;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

const CLAUSE: &str = "durable";

/// Writes until a write fails, and calls `done` with the number of each acknowledged write; the first in the life of the store is 0.
pub fn write_on(store: &dyn Store, done: &mut dyn FnMut(u64)) -> Error {
    loop {
        let mut n = 0;
        let result = store.write(&mut |tx| {
            n = written(tx)?;
            write(tx, n)
        });
        match result {
            Ok(()) => done(n),
            Err(error) => return error,
        }
    }
}

/// The expected contents of the store.
pub struct Ledger(Memory);

impl Ledger {
    /// The expected contents of an empty store with this incarnation.
    pub fn new(incarnation: Incarnation) -> Ledger {
        Ledger(Memory::new(incarnation))
    }

    /// Checks that the store holds all acknowledged writes, perhaps the one that was under way, and nothing else: records, material, indexes,
    /// feed, commit ids and state. Returns the number of writes in it.
    pub fn check(&mut self, store: &dyn Store, acknowledged: u64) -> u64 {
        let count = look(CLAUSE, store, written);
        assert!(
            count >= acknowledged,
            "{acknowledged} writes were acknowledged, and {count} are there"
        );
        assert!(
            count <= acknowledged + 1,
            "{acknowledged} writes were acknowledged, one was under way, and {count} are there"
        );
        for n in look(CLAUSE, &self.0, written)..count {
            self.0.write(&mut |tx| write(tx, n)).unwrap();
        }
        let (found, expected) = (look(CLAUSE, store, dump), look(CLAUSE, &self.0, dump));
        let mut differences = found
            .iter()
            .zip(&expected)
            .filter(|(found, expected)| found != expected);
        let first = differences.next();
        assert!(
            first.is_none(),
            "after {count} writes the store differs: {first:?}"
        );
        assert_eq!(
            found.len(),
            expected.len(),
            "after {count} writes the store has another number of entries"
        );
        count
    }
}

/// Returns the number of writes in the store.
pub fn written(at: &dyn Snapshot) -> Result<u64> {
    counter(at, b"written")
}

fn counter(at: &dyn Snapshot, key: &[u8]) -> Result<u64> {
    Ok(value(at, key)?.map_or(0, |bytes| {
        u64::from_be_bytes(bytes.as_slice().try_into().unwrap())
    }))
}

/// splitmix64.
fn scatter(n: u64) -> u64 {
    let mut z = n
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(0x1234_5678);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn key(index: u8, key: &[u8]) -> IndexKey {
    IndexKey {
        index: Index(index),
        key: key.into(),
    }
}

fn put<'a>(
    number: Option<RecordNumber>,
    remove: &'a [IndexKey],
    insert: &'a [IndexKey],
    entry: &'a [u8],
) -> Put<'a> {
    Put {
        number,
        id: b"an object",
        attributes: &[b'a'; 700],
        material: MaterialChange::Set(&[b'm'; 150]),
        remove,
        insert,
        entry,
    }
}

/// Makes write `n`, which is the same on every store that has seen the `n` writes before, whatever record numbers the store gave.
fn write(tx: &mut dyn Transaction, n: u64) -> Result<()> {
    let new = if n.is_multiple_of(7) {
        400
    } else {
        scatter(n) % 12
    };
    let born = counter(tx, b"born")?;
    let text = n.to_be_bytes();
    let serials: Vec<u64> = (born..born + new).collect();
    let keys: Vec<_> = serials
        .iter()
        .map(|serial| {
            [
                key(1, &scatter(n * 1000 + serial).to_be_bytes()),
                key(2, &text),
                key(3, &serial.to_be_bytes()),
            ]
        })
        .collect();
    let mut puts: Vec<_> = keys
        .iter()
        .map(|keys| put(None, &[], keys, &text))
        .collect();
    let (changed, old) = records_to_change(tx, n, born)?;
    let new_keys = [key(2, &text)];
    puts.extend(
        old.iter()
            .map(|(number, old)| put(Some(*number), old, &new_keys, &text)),
    );
    tx.put(&puts)?;
    for serial in serials.iter().chain(&changed) {
        tx.set_state(&serial.to_be_bytes(), Some(&text))?;
    }
    tx.set_state(b"born", Some(&(born + new).to_be_bytes()))?;
    tx.set_state(b"written", Some(&(n + 1).to_be_bytes()))
}

/// Up to five of the `born` records, by their serial numbers, with the record number and the key in index 2 of each. Write `n` gives them
/// another key there; the state holds the current one.
fn records_to_change(
    tx: &dyn Transaction,
    n: u64,
    born: u64,
) -> Result<(Vec<u64>, Vec<(RecordNumber, [IndexKey; 1])>)> {
    let mut changed: Vec<u64> = (0..born.min(5))
        .map(|i| scatter(n + i) % (born / 5).max(1) * 5 + i)
        .collect();
    changed.retain(|serial| *serial < born);
    let mut old = Vec::new();
    for serial in &changed {
        let span = Span::exact(&serial.to_be_bytes());
        let found = scan(tx, Index(3), &span, Order::Ascending)?;
        assert_eq!(found.len(), 1, "record {serial} has {found:?} in its index");
        let held = value(tx, &serial.to_be_bytes())?.unwrap_or_default();
        old.push((RecordNumber(found[0].1), [key(2, &held)]));
    }
    Ok((changed, old))
}

/// Everything that a snapshot shows, as text. Records are named by their place in the order of arrival, since numbers may have gaps.
fn dump(at: &dyn Snapshot) -> Result<Vec<String>> {
    let mut lines = vec![format!("head {:?} count {}", at.head()?, at.count()?)];
    let mut places = BTreeMap::new();
    for (_, number) in scan(at, Index::ARRIVAL, &Span::all(), Order::Ascending)? {
        places.insert(number, places.len());
        let row = at
            .get(RecordNumber(number), Part::Whole)?
            .expect("a record that was scanned");
        lines.push(format!(
            "record {:?} {} {:?}",
            row.id,
            row.attributes.len(),
            row.material.map(|m| m.len())
        ));
    }
    for index in 1..=4 {
        for (key, number) in scan(at, Index(index), &Span::all(), Order::Ascending)? {
            lines.push(format!("index {index} {key:?} {:?}", places.get(&number)));
        }
    }
    at.feed(0, &mut |FeedRow {
                         number,
                         record,
                         entry,
                     }: &FeedRow<'_>| {
        lines.push(format!(
            "feed {number} {:?} {entry:?} {:?}",
            places.get(&record.0),
            at.commit_id(*number)?
        ));
        Ok(ControlFlow::Continue(()))
    })?;
    lines.extend(
        state(at, &Span::all())?
            .into_iter()
            .map(|(key, value)| format!("state {key:?} {value:?}")),
    );
    Ok(lines)
}
