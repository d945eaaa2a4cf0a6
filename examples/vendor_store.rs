//! A store of one's own, checked clause by clause: `cargo run --example vendor_store`.
//!
//! `keyferry_examples::engine` stands for what a vendor has already: an ordered map of bytes that takes a batch of changes as a whole and
//! makes it durable. The store here puts the contract of `keyferry_store::Store` on top of it, and would be much the same over any other
//! ordered map. At the end the conformance kit runs every clause of the contract against it. As tests that takes one line:
//!
//! ```ignore
//! keyferry_store::conformance!(|| Some(OneFile::new()));
//! ```

use keyferry_examples::engine::{Changes, Engine, Map, corrupt};
use keyferry_store::conformance::{CLAUSES, Subject};
use keyferry_store::{
    Chain, CommitId, Cursor, Error, ErrorKind, FeedRow, Incarnation, Index, IndexKey,
    MaterialChange, Order, Part, Position, Put, RecordNumber, Result, Row, Snapshot, Span, Store,
    Transaction,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock};
use zeroize::Zeroizing;

// What lies where in the map: the first byte of a key names a kind; numbers are eight big-endian bytes.

/// Record number to the number of its feed entry, the length of its id, its id, its attributes.
const RECORD: u8 = b'r';
/// Record number to material.
const MATERIAL: u8 = b'm';
/// Index, key and record number to nothing.
const INDEX: u8 = b'i';
/// Feed number to record number and entry.
const FEED: u8 = b'f';
/// The last feed number of a commit to its id.
const COMMIT: u8 = b'c';
/// S2s state.
const STATE: u8 = b's';
/// The incarnation.
const INCARNATION: u8 = b'n';

fn numbered(kind: u8, number: u64) -> Vec<u8> {
    [&[kind][..], &number.to_be_bytes()].concat()
}

fn number(bytes: &[u8]) -> Result<u64> {
    bytes
        .first_chunk()
        .map(|bytes| u64::from_be_bytes(*bytes))
        .ok_or_else(|| corrupt("a number is cut short"))
}

/// The first key behind this one.
fn behind(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

/// Keys must sort by (key, number) though one may be the beginning of another: each 0 becomes 0 255, and 0 0 ends the key.
fn indexed(index: Index, key: &[u8], number: Option<u64>) -> Vec<u8> {
    let mut bytes = vec![INDEX, index.0];
    for byte in key {
        bytes.extend_from_slice(if *byte == 0 {
            &[0, 0xFF]
        } else {
            std::slice::from_ref(byte)
        });
    }
    if let Some(number) = number {
        bytes.extend([0, 0]);
        bytes.extend(number.to_be_bytes());
    }
    bytes
}

/// The key and the number of an index entry.
fn unindexed(bytes: &[u8]) -> Result<(Vec<u8>, u64)> {
    let (rest, number) = bytes
        .split_last_chunk::<8>()
        .ok_or_else(|| corrupt("an index entry is cut short"))?;
    let mut key = Vec::with_capacity(rest.len());
    let mut zero = false;
    for byte in rest
        .get(2..rest.len().saturating_sub(2))
        .unwrap_or_default()
    {
        // The 255 behind a 0 is no part of the key.
        if !(zero && *byte == 0xFF) {
            key.push(*byte);
        }
        zero = *byte == 0 && !zero;
    }
    Ok((key, u64::from_be_bytes(*number)))
}

/// One moment of the map, and what the transaction that looks has changed since.
struct View<'a> {
    map: &'a Map,
    changes: Changes,
    /// What the commit needs of the puts so far.
    entries: Vec<(u64, Vec<u8>)>,
    chain: Chain,
}

impl<'a> View<'a> {
    fn new(map: &'a Map) -> Result<View<'a>> {
        let mut view = View {
            map,
            changes: Changes::new(),
            entries: Vec::new(),
            chain: Chain::after(CommitId::ZERO),
        };
        view.chain = Chain::after(view.head()?.commit);
        Ok(view)
    }

    fn value(&self, key: &[u8]) -> Option<&[u8]> {
        match self.changes.get(key) {
            Some(changed) => changed.as_deref(),
            None => self.map.get(key).map(Vec::as_slice),
        }
    }

    /// Visits the entries from one key (included) to another (excluded), in order.
    fn range(
        &self,
        (from, to): (Vec<u8>, Vec<u8>),
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        let mut entries: Box<dyn DoubleEndedIterator<Item = (&Vec<u8>, &Vec<u8>)>> =
            Box::new(self.map.range(from.clone()..to.clone()));
        if self
            .changes
            .range(from.clone()..to.clone())
            .next()
            .is_some()
        {
            let mut merged: BTreeMap<_, _> = entries.collect();
            for (key, value) in self.changes.range(from..to) {
                match value {
                    Some(value) => _ = merged.insert(key, value),
                    None => _ = merged.remove(key),
                }
            }
            entries = Box::new(merged.into_iter());
        }
        loop {
            let next = if order == Order::Ascending {
                entries.next()
            } else {
                entries.next_back()
            };
            match next {
                Some((key, value)) if visit(key, value)?.is_continue() => {}
                _ => return Ok(()),
            }
        }
    }

    /// The last number of a kind that is in the map, without the changes.
    fn last(&self, kind: u8) -> Result<(u64, Option<&[u8]>)> {
        let last = self.map.range(vec![kind]..vec![kind + 1]).next_back();
        last.map_or(Ok((0, None)), |(key, value)| {
            Ok((number(key.get(1..).unwrap_or_default())?, Some(value)))
        })
    }

    /// What a transaction comes to, feed and commit included.
    fn finish(mut self) -> Result<Changes> {
        if self.entries.is_empty() {
            return Ok(self.changes);
        }
        let (mut head, _) = self.last(COMMIT)?;
        for (record, entry) in std::mem::take(&mut self.entries) {
            head += 1;
            let key = numbered(RECORD, record);
            let mut stored = self
                .value(&key)
                .ok_or_else(|| corrupt("a record vanished"))?
                .to_vec();
            let feed = stored
                .first_chunk_mut()
                .ok_or_else(|| corrupt("a record is cut short"))?;
            self.changes
                .insert(numbered(FEED, u64::from_be_bytes(*feed)), None);
            *feed = head.to_be_bytes();
            self.changes.insert(key, Some(stored));
            self.changes.insert(
                numbered(FEED, head),
                Some([&record.to_be_bytes()[..], &entry].concat()),
            );
        }
        self.changes
            .insert(numbered(COMMIT, head), Some(self.chain.finish().0.to_vec()));
        Ok(self.changes)
    }
}

impl Snapshot for View<'_> {
    fn head(&self) -> Result<Position> {
        let incarnation = self
            .value(&[INCARNATION])
            .and_then(|value| value.try_into().ok());
        let (number, id) = self.last(COMMIT)?;
        let commit = id
            .map_or(Ok([0; 16]), <[u8; 16]>::try_from)
            .map_err(|_| corrupt("a commit id is cut short"))?;
        let incarnation =
            Incarnation(incarnation.ok_or_else(|| corrupt("there is no incarnation"))?);
        Ok(Position {
            incarnation,
            number,
            commit: CommitId(commit),
        })
    }

    fn commit_id(&self, number: u64) -> Result<Option<CommitId>> {
        let id = (number > 0)
            .then(|| {
                self.map
                    .range(numbered(COMMIT, number)..vec![COMMIT + 1])
                    .next()
            })
            .flatten();
        id.map(|(_, id)| {
            id.as_slice()
                .try_into()
                .map(CommitId)
                .map_err(|_| corrupt("a commit id is cut short"))
        })
        .transpose()
    }

    fn count(&self) -> Result<u64> {
        let mut count = 0;
        self.range(
            (vec![RECORD], vec![RECORD + 1]),
            Order::Ascending,
            &mut |_, _| {
                count += 1;
                Ok(ControlFlow::Continue(()))
            },
        )?;
        Ok(count)
    }

    fn get(&self, number: RecordNumber, part: Part) -> Result<Option<Row>> {
        let Some(stored) = self.value(&numbered(RECORD, number.0)) else {
            return Ok(None);
        };
        let split = || {
            let (length, rest) = stored.get(8..)?.split_first_chunk()?;
            rest.split_at_checked(u32::from_be_bytes(*length) as usize)
        };
        let (id, attributes) = split().ok_or_else(|| corrupt("a record is cut short"))?;
        let material = match part {
            Part::Attributes => None,
            Part::Whole => self
                .value(&numbered(MATERIAL, number.0))
                .map(|bytes| Zeroizing::new(bytes.to_vec())),
        };
        Ok(Some(Row {
            id: id.to_vec(),
            attributes: attributes.to_vec(),
            material,
        }))
    }

    fn scan(
        &self,
        index: Index,
        span: &Span,
        order: Order,
        after: Option<&Cursor>,
        visit: &mut dyn FnMut(&[u8], RecordNumber) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let (mut from, mut to, seen);
        if index == Index::ARRIVAL {
            let Some((first, end)) = span.arrivals() else {
                return Ok(());
            };
            (from, to) = (
                numbered(RECORD, first),
                end.map_or(vec![RECORD + 1], |end| numbered(RECORD, end)),
            );
            seen = after.map(|cursor| numbered(RECORD, cursor.number.0));
        } else {
            from = indexed(index, &span.from, None);
            let end = index
                .0
                .checked_add(1)
                .map_or(vec![INDEX + 1], |next| vec![INDEX, next]);
            to = span.to.as_ref().map_or(end, |to| indexed(index, to, None));
            seen = after.map(|cursor| indexed(index, &cursor.key, Some(cursor.number.0)));
        }
        match (seen, order) {
            (None, _) => {}
            (Some(seen), Order::Ascending) => from = from.max(behind(seen)),
            (Some(seen), Order::Descending) => to = to.min(seen),
        }
        self.range((from, to), order, &mut |key, _| match index {
            Index::ARRIVAL => key
                .get(1..)
                .map_or(Err(corrupt("a key is cut short")), |key| {
                    visit(key, RecordNumber(number(key)?))
                }),
            _ => unindexed(key).and_then(|(key, number)| visit(&key, RecordNumber(number))),
        })
    }

    fn feed(
        &self,
        after: u64,
        visit: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        // Entries are made by the commit, so that a transaction does not see its own.
        self.range(
            (behind(numbered(FEED, after)), vec![FEED + 1]),
            Order::Ascending,
            &mut |key, value| {
                let entry = value.get(8..).unwrap_or_default();
                visit(&FeedRow {
                    number: number(key.get(1..).unwrap_or_default())?,
                    record: RecordNumber(number(value)?),
                    entry,
                })
            },
        )
    }

    fn state(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let place = |key: &[u8]| [&[STATE], key].concat();
        let to = span.to.as_deref().map_or(vec![STATE + 1], place);
        self.range(
            (place(&span.from), to),
            Order::Ascending,
            &mut |key, value| visit(key.get(1..).unwrap_or_default(), value),
        )
    }
}

impl Transaction for View<'_> {
    fn put(&mut self, puts: &[Put<'_>]) -> Result<Vec<RecordNumber>> {
        let misuse = |what: &str| Err(Error::new(ErrorKind::Misuse, what));
        let changed: Vec<u64> = puts
            .iter()
            .filter_map(|put| put.number)
            .map(|number| number.0)
            .collect();
        if changed
            .iter()
            .any(|number| self.value(&numbered(RECORD, *number)).is_none())
        {
            return misuse("a record that does not exist");
        }
        if changed.iter().collect::<BTreeSet<_>>().len() < changed.len() {
            return misuse("a record twice in one put");
        }
        let mut keys = puts
            .iter()
            .flat_map(|put| put.remove.iter().chain(put.insert));
        if keys.any(|key| key.index == Index::ARRIVAL || key.key.len() > IndexKey::MAX) {
            return misuse("an index key of the arrival index, or too long");
        }
        let mut numbers = Vec::with_capacity(puts.len());
        for put in puts {
            let (number, feed) = match put.number {
                Some(RecordNumber(old)) => (
                    old,
                    self.value(&numbered(RECORD, old)).map_or(Ok(0), number)?,
                ),
                None => {
                    let own = self
                        .changes
                        .range(vec![RECORD]..vec![RECORD + 1])
                        .next_back();
                    let own =
                        own.map_or(Ok(0), |(key, _)| number(key.get(1..).unwrap_or_default()))?;
                    (own.max(self.last(RECORD)?.0) + 1, 0)
                }
            };
            let length = (put.id.len() as u32).to_be_bytes();
            let stored = [&feed.to_be_bytes()[..], &length, put.id, put.attributes].concat();
            self.changes.insert(numbered(RECORD, number), Some(stored));
            match put.material {
                MaterialChange::Keep => {}
                MaterialChange::Set(bytes) => {
                    _ = self
                        .changes
                        .insert(numbered(MATERIAL, number), Some(bytes.to_vec()))
                }
                MaterialChange::Remove => _ = self.changes.insert(numbered(MATERIAL, number), None),
            }
            for key in put.remove {
                self.changes
                    .insert(indexed(key.index, &key.key, Some(number)), None);
            }
            for key in put.insert {
                self.changes
                    .insert(indexed(key.index, &key.key, Some(number)), Some(Vec::new()));
            }
            self.chain.add(put);
            self.entries.push((number, put.entry.to_vec()));
            numbers.push(RecordNumber(number));
        }
        Ok(numbers)
    }

    fn set_state(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        self.changes
            .insert([&[STATE][..], key].concat(), value.map(<[u8]>::to_vec));
        Ok(())
    }

    fn restored(&mut self, incarnation: Incarnation) -> Result<()> {
        self.changes
            .insert(vec![INCARNATION], Some(incarnation.0.to_vec()));
        Ok(())
    }
}

/// Readers share a lock, and a write holds it alone: so writes are one after another, and every read sees one moment.
struct VendorStore(RwLock<Engine>);

impl VendorStore {
    fn open(path: &Path, incarnation: Incarnation) -> Result<VendorStore> {
        let mut engine = Engine::open(path)?;
        if engine.map().is_empty() {
            engine.commit(Changes::from([(
                vec![INCARNATION],
                Some(incarnation.0.to_vec()),
            )]))?;
        }
        Ok(VendorStore(RwLock::new(engine)))
    }
}

impl Store for VendorStore {
    fn read(&self, f: &mut dyn FnMut(&dyn Snapshot) -> Result<()>) -> Result<()> {
        f(&View::new(
            self.0.read().unwrap_or_else(PoisonError::into_inner).map(),
        )?)
    }

    fn write(&self, f: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        // A closure that panicked has changed nothing yet, so poison means nothing.
        let mut engine = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut view = View::new(engine.map())?;
        f(&mut view)?;
        let changes = view.finish()?;
        if changes.is_empty() {
            Ok(())
        } else {
            engine.commit(changes)
        }
    }
}

/// What the kit needs: a new store, and the same one opened again.
struct OneFile(tempfile::TempDir);

impl OneFile {
    fn path(&self) -> PathBuf {
        self.0.path().join("store.log")
    }
}

impl Subject for OneFile {
    #[allow(clippy::expect_used)] // a kit fails by panicking
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(VendorStore::open(&self.path(), Incarnation([7; 16])).expect("the store opens"))
    }

    #[allow(clippy::expect_used)]
    fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        // As if a crash had cut a batch short.
        let mut file = OpenOptions::new()
            .append(true)
            .open(self.path())
            .expect("the file is there");
        file.write_all(&[0, 0, 0, 0, 0, 0, 1, 0, 1, 2, 3])
            .expect("it can be written");
        self.open()
    }
}

fn main() -> std::io::Result<ExitCode> {
    // A broken clause panics and says what was seen; so does, on purpose, one closure of the kit.
    std::panic::set_hook(Box::new(|_| {}));
    let mut broken = 0;
    for (clause, check) in CLAUSES {
        let subject = OneFile(tempfile::tempdir()?);
        match catch_unwind(AssertUnwindSafe(|| check(&subject))) {
            Ok(()) => println!("{clause:30} holds"),
            Err(why) => {
                broken += 1;
                println!(
                    "{clause:30} {}",
                    why.downcast_ref::<String>()
                        .map_or("is broken", String::as_str)
                );
            }
        }
    }
    println!("{} clauses checked, {broken} broken", CLAUSES.len());
    Ok(if broken == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
