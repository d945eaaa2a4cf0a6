//! This module is the store in memory.

use crate::commit::Chain;
use crate::contract::{
    Cursor, FeedRow, Index, IndexKey, MaterialChange, Order, Part, Put, RecordNumber, Row,
    Snapshot, Span, Store, Transaction,
};
use crate::error::{Error, ErrorKind, Result};
use crate::position::{CommitId, Incarnation, Position};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::{Bound, ControlFlow};
use std::sync::{PoisonError, RwLock};
use zeroize::Zeroizing;

/// A store in memory, for tests, for short-lived tools, and as the reference implementation of the contract.
///
/// Reads share a lock that a write holds alone, so a long read delays every write. Nothing is on disk: the clause `durable` holds
/// for the life of the value.
///
/// ```
/// use keyferry_store::{Incarnation, Memory, Store};
///
/// let store = Memory::new(Incarnation([1; 16]));
/// store.write(&mut |tx| tx.set_state(b"greeting", Some(b"hello")))?;
/// store.read(&mut |at| {
///     assert_eq!(at.head()?.number, 0); // state alone is no feed entry
///     Ok(())
/// })?;
/// # Ok::<(), keyferry_store::Error>(())
/// ```
pub struct Memory {
    maps: RwLock<Maps>,
}

impl Memory {
    /// An empty store.
    pub fn new(incarnation: Incarnation) -> Memory {
        Memory {
            maps: RwLock::new(Maps {
                incarnation,
                last_record: 0,
                head: 0,
                commit: CommitId::ZERO,
                records: BTreeMap::new(),
                index: BTreeSet::new(),
                feed: BTreeMap::new(),
                commits: BTreeMap::new(),
                state: BTreeMap::new(),
            }),
        }
    }
}

/// Copies the store as it is now into an independent one, like a backup of a file or database.
impl Clone for Memory {
    fn clone(&self) -> Memory {
        Memory {
            maps: RwLock::new(
                self.maps
                    .read()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone(),
            ),
        }
    }
}

impl Store for Memory {
    fn read(&self, f: &mut dyn FnMut(&dyn Snapshot) -> Result<()>) -> Result<()> {
        // A panic in a closure cannot leave the maps half changed, since `Change` undoes it: a poisoned lock is harmless.
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        f(&*maps)
    }

    fn write(&self, f: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        let chain = Chain::after(maps.commit);
        let mut change = Change {
            maps: &mut maps,
            undo: Vec::new(),
            entries: Vec::new(),
            chain,
        };
        f(&mut change)?;
        change.commit();
        Ok(())
    }
}

#[derive(Clone)]
struct Stored {
    id: Vec<u8>,
    attributes: Vec<u8>,
    material: Option<Zeroizing<Vec<u8>>>,
    /// The feed number of its newest committed entry; 0 before its first commit.
    feed: u64,
}

type Entry = (Index, Box<[u8]>, u64);

#[derive(Clone)]
struct Maps {
    incarnation: Incarnation,
    last_record: u64,
    head: u64,
    commit: CommitId,
    records: BTreeMap<u64, Stored>,
    index: BTreeSet<Entry>,
    feed: BTreeMap<u64, (RecordNumber, Box<[u8]>)>,
    /// The last feed number of each commit.
    commits: BTreeMap<u64, CommitId>,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Maps {
    fn scan_arrival(
        &self,
        span: &Span,
        order: Order,
        after: Option<&Cursor>,
        visit: &mut dyn FnMut(&[u8], RecordNumber) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let Some((from, to)) = span.arrivals() else {
            return Ok(());
        };
        let (mut from, mut to) = (
            Bound::Included(from),
            to.map_or(Bound::Unbounded, Bound::Excluded),
        );
        if let Some(Cursor { number, .. }) = after {
            match order {
                Order::Ascending if starts(&from).is_none_or(|first| number.0 >= *first) => {
                    from = Bound::Excluded(number.0)
                }
                Order::Descending if starts(&to).is_none_or(|last| number.0 < *last) => {
                    to = Bound::Excluded(number.0)
                }
                _ => {}
            }
        }
        // BTreeMap::range panics on a range that ends before it starts.
        if let (Some(first), Some(last)) = (starts(&from), starts(&to))
            && first >= last
        {
            return Ok(());
        }
        let range = self.records.range((from, to));
        let mut step =
            |(number, _): (&u64, &Stored)| visit(&number.to_be_bytes(), RecordNumber(*number));
        match order {
            Order::Ascending => walk(range, &mut step),
            Order::Descending => walk(range.rev(), &mut step),
        }
    }
}

fn walk<T>(
    items: impl Iterator<Item = T>,
    step: &mut dyn FnMut(T) -> Result<ControlFlow<()>>,
) -> Result<()> {
    for item in items {
        if step(item)?.is_break() {
            break;
        }
    }
    Ok(())
}

impl Snapshot for Maps {
    fn head(&self) -> Result<Position> {
        Ok(Position {
            incarnation: self.incarnation,
            number: self.head,
            commit: self.commit,
        })
    }

    fn commit_id(&self, number: u64) -> Result<Option<CommitId>> {
        match number {
            0 => Ok(None),
            _ => Ok(self.commits.range(number..).next().map(|(_, id)| *id)),
        }
    }

    fn count(&self) -> Result<u64> {
        Ok(self.records.len() as u64)
    }

    fn get(&self, number: RecordNumber, part: Part) -> Result<Option<Row>> {
        Ok(self.records.get(&number.0).map(|stored| Row {
            id: stored.id.clone(),
            attributes: stored.attributes.clone(),
            material: match part {
                Part::Attributes => None,
                Part::Whole => stored.material.clone(),
            },
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
        if index == Index::ARRIVAL {
            return self.scan_arrival(span, order, after, visit);
        }
        let mut from = Bound::Included((index, span.from.clone().into_boxed_slice(), 0));
        let mut to = match (&span.to, index.0.checked_add(1)) {
            (Some(to), _) => Bound::Excluded((index, to.clone().into_boxed_slice(), 0)),
            (None, Some(next)) => Bound::Excluded((Index(next), Box::default(), 0)),
            (None, None) => Bound::Unbounded,
        };
        if let Some(cursor) = after {
            let seen = (
                index,
                cursor.key.clone().into_boxed_slice(),
                cursor.number.0,
            );
            match order {
                Order::Ascending if starts(&from).is_none_or(|first| seen >= *first) => {
                    from = Bound::Excluded(seen)
                }
                Order::Descending if starts(&to).is_none_or(|last| seen < *last) => {
                    to = Bound::Excluded(seen)
                }
                _ => {}
            }
        }
        // BTreeSet::range panics on a range that ends before it starts.
        if let (Some(first), Some(last)) = (starts(&from), starts(&to))
            && first >= last
        {
            return Ok(());
        }
        let range = self.index.range((from, to));
        let mut step = |entry: &Entry| visit(&entry.1, RecordNumber(entry.2));
        match order {
            Order::Ascending => walk(range, &mut step),
            Order::Descending => walk(range.rev(), &mut step),
        }
    }

    fn feed(
        &self,
        after: u64,
        visit: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        walk(
            self.feed.range((Bound::Excluded(after), Bound::Unbounded)),
            &mut |(number, (record, entry))| {
                visit(&FeedRow {
                    number: *number,
                    record: *record,
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
        let from = self.state.range(span.from.clone()..);
        walk(
            from.take_while(|(key, _)| span.contains(key)),
            &mut |(key, value)| visit(key, value),
        )
    }
}

fn starts<T>(bound: &Bound<T>) -> Option<&T> {
    match bound {
        Bound::Included(at) | Bound::Excluded(at) => Some(at),
        Bound::Unbounded => None,
    }
}

/// What undoes one step of a change.
enum Undo {
    Created(u64),
    Attributes(u64, Vec<u8>),
    Material(u64, Option<Zeroizing<Vec<u8>>>),
    Inserted(Entry),
    Removed(Entry),
    State(Vec<u8>, Option<Vec<u8>>),
    Incarnation(Incarnation),
}

/// A transaction under way: it changes the maps in place, and undoes that when it is dropped uncommitted.
struct Change<'a> {
    maps: &'a mut Maps,
    undo: Vec<Undo>,
    /// The feed entries, which become visible with the commit: a transaction does not see its own.
    entries: Vec<(RecordNumber, Box<[u8]>)>,
    chain: Chain,
}

impl Change<'_> {
    fn commit(mut self) {
        self.undo.clear();
        let entries = std::mem::take(&mut self.entries);
        if entries.is_empty() {
            return;
        }
        for (record, entry) in entries {
            self.maps.head += 1;
            if let Some(stored) = self.maps.records.get_mut(&record.0) {
                let earlier = std::mem::replace(&mut stored.feed, self.maps.head);
                self.maps.feed.remove(&earlier);
            }
            self.maps.feed.insert(self.maps.head, (record, entry));
        }
        self.maps.commit = self.chain.clone().finish();
        self.maps.commits.insert(self.maps.head, self.maps.commit);
    }

    fn check(&self, puts: &[Put<'_>]) -> Result<()> {
        let mut seen = HashSet::new();
        for put in puts {
            if let Some(number) = put.number {
                if !self.maps.records.contains_key(&number.0) {
                    return Err(Error::new(
                        ErrorKind::Misuse,
                        format_args!("record {} does not exist", number.0),
                    ));
                }
                if !seen.insert(number) {
                    return Err(Error::new(
                        ErrorKind::Misuse,
                        format_args!("record {} stands twice in one put", number.0),
                    ));
                }
            }
            for key in put.remove.iter().chain(put.insert) {
                if key.index == Index::ARRIVAL || key.key.len() > IndexKey::MAX {
                    let problem = "an index key of the arrival index, or longer than 512 bytes";
                    return Err(Error::new(ErrorKind::Misuse, problem));
                }
            }
        }
        Ok(())
    }

    fn put_one(&mut self, put: &Put<'_>) -> RecordNumber {
        let number = match put.number {
            Some(number) => {
                if let Some(stored) = self.maps.records.get_mut(&number.0) {
                    let before = std::mem::replace(&mut stored.attributes, put.attributes.to_vec());
                    self.undo.push(Undo::Attributes(number.0, before));
                }
                number
            }
            None => {
                self.maps.last_record += 1;
                let number = self.maps.last_record;
                let stored = Stored {
                    id: put.id.to_vec(),
                    attributes: put.attributes.to_vec(),
                    material: None,
                    feed: 0,
                };
                self.maps.records.insert(number, stored);
                self.undo.push(Undo::Created(number));
                RecordNumber(number)
            }
        };
        let material = match put.material {
            MaterialChange::Keep => None,
            MaterialChange::Set(bytes) => Some(Some(Zeroizing::new(bytes.to_vec()))),
            MaterialChange::Remove => Some(None),
        };
        if let (Some(material), Some(stored)) = (material, self.maps.records.get_mut(&number.0)) {
            let before = std::mem::replace(&mut stored.material, material);
            self.undo.push(Undo::Material(number.0, before));
        }
        for key in put.remove {
            let entry = (key.index, key.key.clone(), number.0);
            if self.maps.index.remove(&entry) {
                self.undo.push(Undo::Removed(entry));
            }
        }
        for key in put.insert {
            let entry = (key.index, key.key.clone(), number.0);
            if self.maps.index.insert(entry.clone()) {
                self.undo.push(Undo::Inserted(entry));
            }
        }
        self.chain.add(put);
        self.entries.push((number, put.entry.into()));
        number
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        while let Some(step) = self.undo.pop() {
            match step {
                Undo::Created(number) => {
                    self.maps.records.remove(&number);
                    self.maps.last_record = number - 1;
                }
                Undo::Attributes(number, before) => {
                    if let Some(stored) = self.maps.records.get_mut(&number) {
                        stored.attributes = before;
                    }
                }
                Undo::Material(number, before) => {
                    if let Some(stored) = self.maps.records.get_mut(&number) {
                        stored.material = before;
                    }
                }
                Undo::Inserted(entry) => {
                    self.maps.index.remove(&entry);
                }
                Undo::Removed(entry) => {
                    self.maps.index.insert(entry);
                }
                Undo::State(key, Some(value)) => {
                    self.maps.state.insert(key, value);
                }
                Undo::State(key, None) => {
                    self.maps.state.remove(&key);
                }
                Undo::Incarnation(before) => self.maps.incarnation = before,
            }
        }
    }
}

impl Snapshot for Change<'_> {
    fn head(&self) -> Result<Position> {
        self.maps.head()
    }

    fn commit_id(&self, number: u64) -> Result<Option<CommitId>> {
        self.maps.commit_id(number)
    }

    fn count(&self) -> Result<u64> {
        self.maps.count()
    }

    fn get(&self, number: RecordNumber, part: Part) -> Result<Option<Row>> {
        self.maps.get(number, part)
    }

    fn scan(
        &self,
        index: Index,
        span: &Span,
        order: Order,
        after: Option<&Cursor>,
        visit: &mut dyn FnMut(&[u8], RecordNumber) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.maps.scan(index, span, order, after, visit)
    }

    fn feed(
        &self,
        after: u64,
        visit: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.maps.feed(after, visit)
    }

    fn state(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.maps.state(span, visit)
    }
}

impl Transaction for Change<'_> {
    fn put(&mut self, puts: &[Put<'_>]) -> Result<Vec<RecordNumber>> {
        self.check(puts)?;
        Ok(puts.iter().map(|put| self.put_one(put)).collect())
    }

    fn set_state(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let before = match value {
            Some(value) => self.maps.state.insert(key.to_vec(), value.to_vec()),
            None => self.maps.state.remove(key),
        };
        self.undo.push(Undo::State(key.to_vec(), before));
        Ok(())
    }

    fn restored(&mut self, incarnation: Incarnation) -> Result<()> {
        self.undo.push(Undo::Incarnation(self.maps.incarnation));
        self.maps.incarnation = incarnation;
        Ok(())
    }
}
