//! What goes into a bundle: what was chosen, and what the recipient is to hear about what it was offered earlier.

use crate::{Error, ErrorKind, Manifest, Result, SealOptions};
use keyferry_kmip::spec::StorageStatusMask;
use keyferry_kmip::{DateTime, Object, lifecycle};
use keyferry_store::plan::Query;
use keyferry_store::{Record, RecordNumber, Snapshot, SnapshotExt, Store, StoreExt};
use std::ops::ControlFlow;

/// What one recipient is offered.
pub(crate) struct Offer {
    /// `None`: everything.
    query: Option<Query>,
    /// Under which the numbers of records stand that the recipient was offered.
    prefix: Vec<u8>,
    now: DateTime,
}

/// Objects of the feed that go into one segment.
pub(crate) struct Stretch {
    /// The objects, in the order of the feed. One that is gone, or chosen no more, has no material.
    pub(crate) objects: Vec<(RecordNumber, Record, Option<Object>)>,
    /// The feed number behind which it ends.
    pub(crate) end: u64,
}

/// How a record goes.
#[derive(Clone, Copy, PartialEq)]
enum Goes {
    Whole,
    /// It was offered and is chosen no more: what counts is that it may not be used any more.
    State,
    Not,
}

impl Offer {
    /// # Errors
    /// [`ErrorKind::Misuse`] when an attribute can't be looked for.
    pub(crate) fn new(options: &SealOptions<'_>) -> Result<Offer> {
        let mask =
            StorageStatusMask::ON_LINE_STORAGE | StorageStatusMask::ARCHIVAL_STORAGE | StorageStatusMask::DESTROYED_STORAGE;
        let query = match options.selection.is_empty() {
            true => None,
            false => Some(Query::new(&options.selection, Some(mask), true).map_err(|e| Error::new(ErrorKind::Misuse, e))?),
        };
        let prefix = [b"bundle/offered/", options.recipient.as_bytes(), b"/"].concat();
        Ok(Offer { query, prefix, now: options.now })
    }

    fn key(&self, number: RecordNumber) -> Vec<u8> {
        [self.prefix.as_slice(), &number.0.to_be_bytes()].concat()
    }

    fn goes(&self, snapshot: &dyn Snapshot, number: RecordNumber, record: &Record) -> Result<Goes> {
        let Some(query) = &self.query else { return Ok(Goes::Whole) };
        if query.matches(record, self.now) {
            return Ok(Goes::Whole);
        }
        let over = record.stored_state().is_some_and(|state| lifecycle::Rank::of(state).step >= 2) || record.is_compromised();
        let offered = over && snapshot.state_value(&self.key(number))?.is_some();
        Ok(if offered { Goes::State } else { Goes::Not })
    }

    /// How many objects there are to offer now.
    pub(crate) fn count(&self, store: &dyn Store) -> Result<u64> {
        if self.query.is_none() {
            return store.view::<_, Error>(|snapshot| Ok(snapshot.count()?));
        }
        let (mut count, mut after) = (0, 0);
        loop {
            let (found, end) = store.view::<_, Error>(|snapshot| {
                let (mut found, mut end) = (0, after);
                for (at, number) in entries(snapshot, after, 1000)? {
                    end = at;
                    found += u64::from(self.goes(snapshot, number, &held(snapshot.record(number)?)?)? != Goes::Not);
                }
                Ok((found, end))
            })?;
            count += found;
            if end == after {
                return Ok(count);
            }
            after = end;
        }
    }

    /// Reads what stands behind the feed number `after`: so many entries at the most, and about so many bytes. `None` at the end of the feed.
    pub(crate) fn stretch(&self, store: &dyn Store, after: u64, most: usize, bytes: usize) -> Result<Option<Stretch>> {
        let (objects, end) = store.view::<_, Error>(|snapshot| {
            let (mut objects, mut size, mut end) = (Vec::new(), 0, after);
            for (at, number) in entries(snapshot, after, most)? {
                end = at;
                // Material that does not go is not even unsealed.
                let goes = match self.query {
                    None => Goes::Whole,
                    Some(_) => self.goes(snapshot, number, &held(snapshot.record(number)?)?)?,
                };
                let (record, object) = match goes {
                    Goes::Not => continue,
                    Goes::State => (held(snapshot.record(number)?)?, None),
                    Goes::Whole => held(snapshot.whole(number)?)?,
                };
                size += 600 + object.as_ref().map_or(0, Object::material_len);
                objects.push((number, record, object));
                if size >= bytes {
                    break;
                }
            }
            Ok((objects, end))
        })?;
        Ok((end != after).then_some(Stretch { objects, end }))
    }

    /// Keeps in mind what the recipient is offered, before it can have it: of these it hears when they are no more.
    pub(crate) fn note(&self, store: &dyn Store, numbers: &[RecordNumber]) -> Result<()> {
        let new = store.view::<_, Error>(|snapshot| {
            let mut new = Vec::new();
            for number in numbers {
                let key = self.key(*number);
                if snapshot.state_value(&key)?.is_none() {
                    new.push(key);
                }
            }
            Ok(new)
        })?;
        if new.is_empty() {
            return Ok(());
        }
        store.transact::<_, Error>(|transaction| Ok(new.iter().try_for_each(|key| transaction.set_state(key, Some(&[])))?))
    }
}

/// The number of the next bundle for a recipient, from 1: no two manifests of one store are the same.
pub(crate) fn number(store: &dyn Store, recipient: &str) -> Result<i64> {
    let key = [b"bundle/number/", recipient.as_bytes()].concat();
    store.transact::<_, Error>(|transaction| {
        let held = transaction.state_value(&key)?.and_then(|bytes| bytes.try_into().ok()).map_or(0, i64::from_be_bytes);
        let next = held.saturating_add(1);
        transaction.set_state(&key, Some(&next.to_be_bytes()))?;
        Ok(next)
    })
}

/// The next feed entries, so many at the most: numbers and records.
fn entries(snapshot: &dyn Snapshot, after: u64, most: usize) -> Result<Vec<(u64, RecordNumber)>> {
    let mut entries = Vec::new();
    snapshot.feed(after, &mut |row| {
        entries.push((row.number, row.record));
        Ok(if entries.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(entries)
}

fn held<T>(found: Option<T>) -> Result<T> {
    found.ok_or_else(|| Error::new(ErrorKind::Store, "the feed names an object that the store does not hold"))
}

impl Manifest {
    /// Whether everything that the sender had was to go.
    pub fn is_everything(&self) -> bool {
        self.selection.is_empty()
    }
}
