//! This module is the contract between stores and their users: [`Store`], [`Snapshot`], [`Transaction`] and what they exchange.

use crate::error::Result;
use crate::position::{CommitId, Incarnation, Position};
use std::fmt;
use std::ops::ControlFlow;
use zeroize::Zeroizing;

/// A store keeps managed objects, their indexes, the feed and the s2s state.
///
/// A backend sees bytes: it never looks into a record, an index key or a feed entry. The code that gives them a meaning
/// ([`crate::Record`], [`crate::index`]) needs no backend.
///
/// # Contract
///
/// Every clause has a test of its name in the conformance kit (feature `conformance`).
///
/// - `one_snapshot`: everything that one [`read`](Store::read) sees belongs to one moment.
/// - `all_or_nothing`: records, indexes, feed and state of one [`write`](Store::write) become visible together, or not at all when the
///   closure or the commit fails.
/// - `own_writes`: a transaction sees its own puts and state changes through [`Snapshot`], except in the feed.
/// - `serialisable`: the outcome of concurrent writes is that of some order of them, one after another.
/// - `durable`: what `write` returned `Ok` for survives a crash at any later moment.
/// - `reruns`: the closure of `write` may run several times; when the store saw a conflict it runs it again, whatever the closure made
///   of the error. A closure has no effect outside but on what it captures, and resets that first.
/// - `numbers_arrive`: a new record gets a [`RecordNumber`] above those of all records committed before; numbers are never used again.
/// - `index_is_exact`: an index holds exactly what puts inserted and did not remove.
/// - `newest_entry_only`: the feed holds one entry per record, its newest.
/// - `feed_order`: a reader who has seen position n is never later shown a new entry at or below n; if write B began after
///   write A returned, A's entries stand before B's.
/// - `commit_ids`: the commit id at a position is the hash chain of [`CommitId::next`] over all commits so far.
/// - `state_is_sorted`: s2s state is visited in ascending order of its keys.
/// - `restored_changes_incarnation`: [`Transaction::restored`] changes the incarnation and nothing else.
///
/// No `Snapshot` may be kept beyond its closure, and no closure may call the same store again.
pub trait Store: Send + Sync {
    /// Runs `f` over a consistent snapshot.
    ///
    /// # Errors
    /// Those of `f`, and those of the medium.
    fn read(&self, f: &mut dyn FnMut(&dyn Snapshot) -> Result<()>) -> Result<()>;

    /// Runs `f` in a transaction and commits it durably when `f` returns `Ok`; rolls back otherwise.
    ///
    /// # Errors
    /// Those of `f` (after a rollback), and those of the medium.
    fn write(&self, f: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()>;
}

impl<S: Store + ?Sized> Store for std::sync::Arc<S> {
    fn read(&self, f: &mut dyn FnMut(&dyn Snapshot) -> Result<()>) -> Result<()> {
        (**self).read(f)
    }

    fn write(&self, f: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        (**self).write(f)
    }
}

/// A consistent view of a store at one moment.
pub trait Snapshot {
    /// Returns the position of the newest committed feed entry (number 0 in an empty store).
    fn head(&self) -> Result<Position>;

    /// Returns the id of the commit that wrote the feed entry `number`, also when that entry has been superseded since; `None`
    /// above the head and for 0.
    fn commit_id(&self, number: u64) -> Result<Option<CommitId>>;

    /// Returns the number of records.
    fn count(&self) -> Result<u64>;

    /// Returns a record by its number; `part` says whether its key material is wanted.
    fn get(&self, number: RecordNumber, part: Part) -> Result<Option<Row>>;

    /// Visits the entries of `index` whose key is in `span`, in `order` of (key, record number), starting after `after`.
    ///
    /// Puts do not store [`Index::ARRIVAL`]: its entries are the records themselves, and the key is the record number in eight
    /// big-endian bytes.
    fn scan(
        &self,
        index: Index,
        span: &Span,
        order: Order,
        after: Option<&Cursor>,
        visit: &mut dyn FnMut(&[u8], RecordNumber) -> Result<ControlFlow<()>>,
    ) -> Result<()>;

    /// Visits feed entries with a number above `after`, in ascending order.
    fn feed(
        &self,
        after: u64,
        visit: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()>;

    /// Visits s2s state whose key is in `span`, in ascending order of keys.
    fn state(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()>;

    /// Returns what is left of a record that can't be read, so that another one can take its place. A store that notices damage answers this without
    /// looking at what is damaged; others need not implement it. It reads all indexes.
    fn remains(&self, number: RecordNumber) -> Result<Option<Remains>> {
        let Some(row) = self.get(number, Part::Attributes)? else {
            return Ok(None);
        };
        let mut keys = Vec::new();
        for index in (1..=u8::MAX).map(Index) {
            let all = Span::all();
            self.scan(index, &all, Order::Ascending, None, &mut |key, of| {
                if of == number {
                    let key = key.into();
                    keys.push(IndexKey { index, key });
                }
                Ok(ControlFlow::Continue(()))
            })?;
        }
        Ok(Some(Remains { id: row.id, keys }))
    }
}

/// What is left of a record that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// The encoded object id that stands there.
    pub id: Vec<u8>,
    /// The index entries that lead to the record.
    pub keys: Vec<IndexKey>,
}

/// A snapshot that can be changed; it sees its own changes, except in the feed.
pub trait Transaction: Snapshot {
    /// Creates or changes records, each with its index keys and its feed entry, and returns their numbers in the same order.
    ///
    /// # Errors
    /// [`Misuse`](crate::ErrorKind::Misuse) when a number to change does not exist or stands twice in `puts`.
    fn put(&mut self, puts: &[Put<'_>]) -> Result<Vec<RecordNumber>>;

    /// Sets (`Some`) or removes (`None`) one key of the s2s state.
    fn set_state(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()>;

    /// Replaces the incarnation, and nothing else, because this store is a copy of an older moment: peers notice by it.
    ///
    /// Applications call [`TransactionExt::mark_restored`](crate::TransactionExt::mark_restored), which also begins a new reign.
    fn restored(&mut self, incarnation: Incarnation) -> Result<()>;
}

/// One record to create or to change.
///
/// The commit chain covers `id`, `attributes` and `entry`, as the backend gets them: a wrapper may have encrypted some.
#[derive(Clone, Copy)]
pub struct Put<'a> {
    /// `None` creates a record.
    pub number: Option<RecordNumber>,
    /// The encoded object id. It never changes for a record; [`Sealed`](crate::Sealed) binds key material to it.
    pub id: &'a [u8],
    /// Everything but key material.
    pub attributes: &'a [u8],
    /// The key material.
    pub material: MaterialChange<'a>,
    /// Index entries to remove for this record.
    pub remove: &'a [IndexKey],
    /// Index entries to add for this record.
    pub insert: &'a [IndexKey],
    /// The encoded feed entry; it replaces the earlier entry of this record.
    pub entry: &'a [u8],
}

/// The change that a put makes to key material.
#[derive(Clone, Copy)]
pub enum MaterialChange<'a> {
    /// Leaves it as it is (absent, for a new record).
    Keep,
    /// Sets it.
    Set(&'a [u8]),
    /// Removes it for ever.
    Remove,
}

impl fmt::Debug for MaterialChange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MaterialChange::Keep => "Keep",
            MaterialChange::Set(_) => "Set(..)",
            MaterialChange::Remove => "Remove",
        })
    }
}

/// A stored record as a backend returns it.
pub struct Row {
    /// The encoded object id.
    pub id: Vec<u8>,
    /// Everything but key material.
    pub attributes: Vec<u8>,
    /// Key material: `None` when there is none, or when it was not asked for.
    pub material: Option<Zeroizing<Vec<u8>>>,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row")
            .field("id", &self.id)
            .field("attributes", &self.attributes.len())
            .finish_non_exhaustive()
    }
}

/// The part of a record that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but key material, which is then neither read nor unsealed.
    Attributes,
    /// Everything, key material included.
    Whole,
}

/// The number of a record in the order of arrival, from 1. It means something in one store only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordNumber(pub u64);

/// The number of an index. The numbers are part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u8);

impl Index {
    /// All records by arrival; see [`Snapshot::scan`].
    pub const ARRIVAL: Index = Index(0);
}

/// One entry of an index: which index, and the order-preserving key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexKey {
    /// The index.
    pub index: Index,
    /// The key; at most [`IndexKey::MAX`] bytes.
    pub key: Box<[u8]>,
}

impl IndexKey {
    /// The longest key that a backend takes.
    pub const MAX: usize = 512;
}

/// A range of keys: from `from` (included) to `to` (excluded, or without an end).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first key that belongs to it.
    pub from: Vec<u8>,
    /// The first key that no longer belongs to it.
    pub to: Option<Vec<u8>>,
}

impl Span {
    /// Every key.
    pub fn all() -> Span {
        Span {
            from: Vec::new(),
            to: None,
        }
    }

    /// This key alone.
    pub fn exact(key: &[u8]) -> Span {
        let mut to = key.to_vec();
        to.push(0);
        Span {
            from: key.to_vec(),
            to: Some(to),
        }
    }

    /// Every key that starts with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Span {
        let mut to = prefix.to_vec();
        while let Some(last) = to.pop() {
            if last < u8::MAX {
                to.push(last + 1);
                return Span {
                    from: prefix.to_vec(),
                    to: Some(to),
                };
            }
        }
        Span {
            from: prefix.to_vec(),
            to: None,
        }
    }

    /// The record numbers whose [`Index::ARRIVAL`] keys belong to the span: from the first (included) to the second (excluded, or
    /// without an end). `None` when there are none.
    pub fn arrivals(&self) -> Option<(u64, Option<u64>)> {
        // The smallest number whose key is not below `bytes`.
        let at_least = |bytes: &[u8]| {
            let mut key = [0; 8];
            for (to, from) in key.iter_mut().zip(bytes) {
                *to = *from;
            }
            u64::from_be_bytes(key).checked_add((bytes.len() > 8).into())
        };
        let from = at_least(&self.from)?;
        let to = self.to.as_deref().and_then(at_least);
        to.is_none_or(|to| from < to).then_some((from, to))
    }

    /// Whether `key` belongs to the span.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.from.as_slice() <= key && self.to.as_deref().is_none_or(|to| key < to)
    }
}

/// The direction of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first, oldest record first.
    Ascending,
    /// Largest key first, newest record first.
    Descending,
}

/// A place in a scan: stable, since it names an entry and not a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The key of the last entry seen.
    pub key: Vec<u8>,
    /// The record of the last entry seen.
    pub number: RecordNumber,
}

/// One entry of the feed as a backend returns it.
#[derive(Clone, Copy, Debug)]
pub struct FeedRow<'a> {
    /// Its number, from 1.
    pub number: u64,
    /// The record that it is about.
    pub record: RecordNumber,
    /// The encoded entry.
    pub entry: &'a [u8],
}
