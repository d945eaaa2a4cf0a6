//! This module gathers the effects of several operations, to apply them in one go.

use crate::contract::{
    Cursor, FeedRow, Index, IndexKey, Order, Part, RecordNumber, Remains, Row, Snapshot, Span,
    Transaction,
};
use crate::effects::{Effects, Encoded, write};
use crate::error::{Error, ErrorKind, Result};
use crate::ext::TransactionExt;
use crate::position::{CommitId, Position};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

/// A transaction whose changes are gathered and applied together, which costs a backend far less than one by one.
///
/// As a [`Snapshot`] it shows the transaction with all effects that were added. [`get`](Snapshot::get) answers from the gathered
/// changes; any other question that they could have a bearing on applies them first.
pub struct Deferred<'a, 't> {
    inner: RefCell<Inner<'a, 't>>,
}

struct Inner<'a, 't> {
    transaction: &'a mut (dyn Transaction + 't),
    gathered: Vec<Encoded>,
    state: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Whether there is any state of a kind, where that was looked up.
    kinds: BTreeMap<Vec<u8>, bool>,
    /// The index keys that gathered changes add or remove.
    keys: BTreeSet<IndexKey>,
    /// The place, in `gathered`, of the change of a record.
    places: HashMap<RecordNumber, usize>,
    /// The records that were written, with their encoded object ids.
    written: Vec<(RecordNumber, Vec<u8>)>,
}

/// The most changes that are gathered before they are applied, so that memory does not grow with the number of operations.
const GATHERED: usize = 1024;

/// The kind of state that a key belongs to: what it begins with, up to the first `/`.
fn kind_of(key: &[u8]) -> Option<&[u8]> {
    let end = key.iter().position(|byte| *byte == b'/')?;
    key.get(..=end)
}

/// The kind of state that all keys of a span belong to.
fn kind_of_span(span: &Span) -> Option<&[u8]> {
    let kind = kind_of(&span.from)?;
    let last = Span::prefix(kind).to;
    let is_within = match (&span.to, &last) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(to), Some(last)) => to <= last,
    };
    is_within.then_some(kind)
}

impl<'a, 't> Deferred<'a, 't> {
    /// A gathering for `transaction`, empty so far.
    pub fn new(transaction: &'a mut (dyn Transaction + 't)) -> Self {
        let inner = Inner {
            transaction,
            gathered: Vec::new(),
            state: BTreeMap::new(),
            kinds: BTreeMap::new(),
            keys: BTreeSet::new(),
            places: HashMap::new(),
            written: Vec::new(),
        };
        Deferred {
            inner: RefCell::new(inner),
        }
    }

    /// Adds effects.
    ///
    /// # Errors
    /// Those of the store, when the gathered effects are applied; roll the transaction back then.
    pub fn add(&mut self, effects: Effects) -> Result<()> {
        let inner = self.inner.get_mut();
        let encoded = effects.encoded()?;
        // A put may change a record only once.
        if encoded
            .iter()
            .filter_map(Encoded::number)
            .any(|number| inner.places.contains_key(&number))
        {
            inner.apply()?;
        }
        for (place, change) in (inner.gathered.len()..).zip(&encoded) {
            inner
                .places
                .extend(change.number().map(|number| (number, place)));
            inner.keys.extend(change.moved().cloned());
        }
        inner.gathered.extend(encoded);
        for (key, value) in effects.state {
            if let (Some(kind), true) = (kind_of(&key), value.is_some()) {
                inner.kinds.remove(kind);
            }
            inner.state.insert(key, value);
        }
        if let Some(incarnation) = effects.restored {
            inner.apply()?;
            inner.transaction.mark_restored(incarnation)?;
        }
        if inner.gathered.len() >= GATHERED {
            inner.apply()
        } else {
            Ok(())
        }
    }

    /// Applies what is gathered, and returns the records that effects have created or changed here since this was asked last, with their encoded object ids:
    /// once for each change, in the order of the feed entries.
    ///
    /// # Errors
    /// Those of the store.
    pub fn written(&mut self) -> Result<Vec<(RecordNumber, Vec<u8>)>> {
        let inner = self.inner.get_mut();
        if !inner.gathered.is_empty() {
            inner.apply()?;
        }
        Ok(std::mem::take(&mut inner.written))
    }

    /// Applies the effects that are still gathered.
    ///
    /// # Errors
    /// Those of the store.
    pub fn finish(self) -> Result<()> {
        self.inner.into_inner().apply()
    }

    /// Whether there is any state of a kind. Of most kinds there is none, and each object that comes in asks for several.
    fn has_kind(&self, kind: &[u8]) -> Result<bool> {
        if let Some(has) = self.inner.borrow().kinds.get(kind) {
            return Ok(*has);
        }
        let span = Span::prefix(kind);
        let mut has = self.inner.borrow().asks_of_gathered_state(&span);
        if !has {
            let inner = self.inner.borrow();
            inner.transaction.state(&span, &mut |_, _| {
                has = true;
                Ok(ControlFlow::Break(()))
            })?;
        }
        // Inside the visitor of a scan, what was found is not kept.
        if let Ok(mut inner) = self.inner.try_borrow_mut() {
            inner.kinds.insert(kind.to_vec(), has);
        }
        Ok(has)
    }

    /// Asks the transaction, after applying what is gathered when `concerned` says that the answer may depend on it.
    fn ask<T>(
        &self,
        concerned: impl FnOnce(&Inner<'_, '_>) -> bool,
        question: impl FnOnce(&dyn Snapshot) -> Result<T>,
    ) -> Result<T> {
        if concerned(&self.inner.borrow()) {
            // This fails only inside the visitor of a scan, and the scan applied everything when it began.
            let mut inner = self
                .inner
                .try_borrow_mut()
                .map_err(|_| Error::new(ErrorKind::Misuse, "effects gathered during a scan"))?;
            inner.apply()?;
        }
        question(&*self.inner.borrow().transaction)
    }
}

impl Inner<'_, '_> {
    fn apply(&mut self) -> Result<()> {
        let (gathered, state) = (
            std::mem::take(&mut self.gathered),
            std::mem::take(&mut self.state),
        );
        self.keys.clear();
        self.places.clear();
        let numbers = write(self.transaction, &gathered, &state)?;
        let ids = gathered.into_iter().map(Encoded::into_id);
        self.written.extend(numbers.into_iter().zip(ids));
        Ok(())
    }

    fn asks_of_gathered_state(&self, span: &Span) -> bool {
        let mut behind = self.state.range(span.from.clone()..);
        behind.next().is_some_and(|(key, _)| span.contains(key))
    }
}

impl Snapshot for Deferred<'_, '_> {
    fn head(&self) -> Result<Position> {
        self.ask(|_| false, |snapshot| snapshot.head())
    }

    fn commit_id(&self, number: u64) -> Result<Option<CommitId>> {
        self.ask(|_| false, |snapshot| snapshot.commit_id(number))
    }

    fn count(&self) -> Result<u64> {
        self.ask(
            |inner| !inner.gathered.is_empty(),
            |snapshot| snapshot.count(),
        )
    }

    fn get(&self, number: RecordNumber, part: Part) -> Result<Option<Row>> {
        let inner = self.inner.borrow();
        match inner
            .places
            .get(&number)
            .and_then(|place| inner.gathered.get(*place))
        {
            Some(change) => change
                .row(part, || inner.transaction.get(number, part))
                .map(Some),
            None => inner.transaction.get(number, part),
        }
    }

    fn scan(
        &self,
        index: Index,
        span: &Span,
        order: Order,
        after: Option<&Cursor>,
        visit: &mut dyn FnMut(&[u8], RecordNumber) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let concerned = |inner: &Inner<'_, '_>| {
            if index == Index::ARRIVAL {
                return !inner.gathered.is_empty();
            }
            let first = IndexKey {
                index,
                key: span.from.as_slice().into(),
            };
            let next = inner.keys.range(first..).next();
            next.is_some_and(|key| key.index == index && span.contains(&key.key))
        };
        self.ask(concerned, |snapshot| {
            snapshot.scan(index, span, order, after, visit)
        })
    }

    fn feed(
        &self,
        after: u64,
        visit: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.ask(|_| false, |snapshot| snapshot.feed(after, visit))
    }

    fn remains(&self, number: RecordNumber) -> Result<Option<Remains>> {
        self.ask(
            |inner| inner.places.contains_key(&number),
            |snapshot| snapshot.remains(number),
        )
    }

    fn state(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        if let Some(kind) = kind_of_span(span)
            && !self.has_kind(kind)?
        {
            return Ok(());
        }
        self.ask(
            |inner| inner.asks_of_gathered_state(span),
            |snapshot| snapshot.state(span, visit),
        )
    }
}
