//! For tests that kill a process while it writes: the writer, and the check of what it left behind.
//!
//! A child calls [`write_on`] and tells its parent every write that was acknowledged. The parent kills it, opens the store and hands it
//! to [`Ledger::check`], which compares everything in it with the same writes in memory.

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

/// Writes until a write fails, and calls `done` with the number of each that was acknowledged: 0 is the first in the life of the store.
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

/// What the store should hold.
pub struct Ledger(Memory);

impl Ledger {
    /// Of a store that is empty and began with this incarnation.
    pub fn new(incarnation: Incarnation) -> Ledger {
        Ledger(Memory::new(incarnation))
    }

    /// Checks that the store holds as many writes as were acknowledged, or one more that was under way, and nothing else: records,
    /// material, indexes, feed, commit ids and state. Returns how many writes there are.
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

/// How many writes the store has seen.
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

/// Write `n`: the same on every store that has seen the `n` writes before, whatever numbers it gave to records.
fn write(tx: &mut dyn Transaction, n: u64) -> Result<()> {
    let new = if n.is_multiple_of(7) {
        400
    } else {
        scatter(n) % 12
    };
    let born = counter(tx, b"born")?;
    let text = n.to_be_bytes();
    let key = |index: u8, key: &[u8]| IndexKey {
        index: Index(index),
        key: key.into(),
    };
    let put = |number, remove, insert| {
        let (attributes, material) = (&[b'a'; 700], MaterialChange::Set(&[b'm'; 150]));
        Put {
            number,
            id: b"an object",
            attributes,
            material,
            remove,
            insert,
            entry: &text,
        }
    };
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
    let mut puts: Vec<_> = keys.iter().map(|keys| put(None, &[], keys)).collect();

    // Some that are there already move to this write in index 2; the state remembers under which one they stand.
    let mut changed: Vec<u64> = (0..born.min(5))
        .map(|i| scatter(n + i) % (born / 5).max(1) * 5 + i)
        .collect();
    changed.retain(|serial| *serial < born);
    let mut numbers = Vec::new();
    let mut old = Vec::new();
    for serial in &changed {
        let found = scan(
            tx,
            Index(3),
            &Span::exact(&serial.to_be_bytes()),
            Order::Ascending,
        )?;
        assert_eq!(found.len(), 1, "record {serial} has {found:?} in its index");
        numbers.push(RecordNumber(found[0].1));
        old.push([key(
            2,
            &value(tx, &serial.to_be_bytes())?.unwrap_or_default(),
        )]);
    }
    let new_keys = [key(2, &text)];
    puts.extend(
        numbers
            .iter()
            .zip(&old)
            .map(|(number, old)| put(Some(*number), old, &new_keys)),
    );
    tx.put(&puts)?;
    for serial in serials.iter().chain(&changed) {
        tx.set_state(&serial.to_be_bytes(), Some(&text))?;
    }
    tx.set_state(b"born", Some(&(born + new).to_be_bytes()))?;
    tx.set_state(b"written", Some(&(n + 1).to_be_bytes()))
}

/// Everything that a snapshot shows, as text; records by their place in the order of arrival, since numbers may leave gaps.
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
