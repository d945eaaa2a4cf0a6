//! This module scans the tables: it turns spans and cursors into ranges, and hands the entries to the caller's visitor.

use crate::failure::Failure;
use crate::guard::Guard;
use crate::keys::{self, Entry};
use crate::tables::Bytes;
use keyferry_store::{Cursor, FeedRow, Index, Order, RecordNumber, Result, Span};
use redb::{Range, ReadableTable};
use std::ops::{Bound, ControlFlow};

/// Visits the entries of one index.
pub(crate) fn index(
    guard: &Guard,
    table: &impl ReadableTable<Entry, ()>,
    index: Index,
    span: &Span,
    order: Order,
    after: Option<&Cursor>,
    visit: &mut dyn FnMut(&[u8], RecordNumber) -> Result<ControlFlow<()>>,
) -> Result<(), Failure> {
    let mut from = Bound::Included(keys::entry(index.0, &span.from, 0));
    let mut to = match (&span.to, index.0.checked_add(1)) {
        (Some(to), _) => Bound::Excluded(keys::entry(index.0, to, 0)),
        (None, Some(next)) => Bound::Excluded(keys::entry(next, &[], 0)),
        (None, None) => Bound::Unbounded,
    };
    if let Some(cursor) = after {
        let seen = keys::entry(index.0, &cursor.key, cursor.number.0);
        let beside = |bound: &Bound<Vec<u8>>| end(bound).map(|end| keys::compare(&seen, end));
        match order {
            Order::Ascending if beside(&from).is_none_or(|side| side.is_ge()) => {
                from = Bound::Excluded(seen)
            }
            Order::Descending if beside(&to).is_none_or(|side| side.is_lt()) => {
                to = Bound::Excluded(seen)
            }
            _ => {}
        }
    }
    if let (Some(first), Some(last)) = (end(&from), end(&to))
        && keys::compare(first, last).is_ge()
    {
        return Ok(());
    }
    let range = (
        from.as_ref().map(Vec::as_slice),
        to.as_ref().map(Vec::as_slice),
    );
    let range = table.range::<&[u8]>(range)?;
    walk(range, order, &mut |entry, ()| {
        let (_, key, number) =
            keys::parts(entry).ok_or_else(|| Failure::damage("an index entry is cut short"))?;
        Ok(guard.outside(|| visit(key, RecordNumber(number)))?)
    })
}

/// Visits the records in the order of arrival.
pub(crate) fn arrival(
    guard: &Guard,
    records: &impl ReadableTable<u64, Bytes>,
    span: &Span,
    order: Order,
    after: Option<&Cursor>,
    visit: &mut dyn FnMut(&[u8], RecordNumber) -> Result<ControlFlow<()>>,
) -> Result<(), Failure> {
    let Some((mut from, mut to)) = span.arrivals() else {
        return Ok(());
    };
    if let Some(Cursor { number, .. }) = after {
        match order {
            Order::Ascending => from = from.max(number.0.saturating_add(1)),
            Order::Descending => to = Some(to.map_or(number.0, |to| to.min(number.0))),
        }
    }
    if to.is_some_and(|to| from >= to) {
        return Ok(());
    }
    let range = (
        Bound::Included(from),
        to.map_or(Bound::Unbounded, Bound::Excluded),
    );
    let range = records.range::<u64>(range)?;
    walk(range, order, &mut |number, _| {
        Ok(guard.outside(|| visit(&number.to_be_bytes(), RecordNumber(number)))?)
    })
}

/// Visits the feed.
pub(crate) fn feed(
    guard: &Guard,
    feed: &impl ReadableTable<u64, Bytes>,
    after: u64,
    visit: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
) -> Result<(), Failure> {
    let range = (Bound::Excluded(after), Bound::Unbounded);
    let range = feed.range::<u64>(range)?;
    walk(range, Order::Ascending, &mut |number, stored| {
        let damaged = || Failure::damage(format_args!("feed entry {number} is cut short"));
        let (record, entry) = stored.split_first_chunk().ok_or_else(damaged)?;
        let row = FeedRow {
            number,
            record: RecordNumber(u64::from_be_bytes(*record)),
            entry,
        };
        Ok(guard.outside(|| visit(&row))?)
    })
}

/// Visits the s2s state.
pub(crate) fn state(
    guard: &Guard,
    state: &impl ReadableTable<Bytes, Bytes>,
    span: &Span,
    visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
) -> Result<(), Failure> {
    if span.to.as_ref().is_some_and(|to| span.from >= *to) {
        return Ok(());
    }
    // Most questions are for one key, which needs no range.
    let behind = span
        .to
        .as_deref()
        .and_then(|to| to.strip_prefix(&*span.from));
    if behind == Some(&[0]) {
        if let Some(value) = state.get(span.from.as_slice())? {
            let _ = guard.outside(|| visit(&span.from, value.value()))?;
        }
        return Ok(());
    }
    let to = span.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
    let range = state.range::<&[u8]>((Bound::Included(span.from.as_slice()), to))?;
    walk(range, Order::Ascending, &mut |key, value| {
        Ok(guard.outside(|| visit(key, value))?)
    })
}

fn walk<K: redb::Key + 'static, V: redb::Value + 'static>(
    mut range: Range<'_, K, V>,
    order: Order,
    step: &mut dyn for<'x> FnMut(
        K::SelfType<'x>,
        V::SelfType<'x>,
    ) -> Result<ControlFlow<()>, Failure>,
) -> Result<(), Failure> {
    loop {
        let next = match order {
            Order::Ascending => range.next(),
            Order::Descending => range.next_back(),
        };
        let Some(next) = next else { return Ok(()) };
        let (key, value) = next?;
        if step(key.value(), value.value())?.is_break() {
            return Ok(());
        }
    }
}

fn end(bound: &Bound<Vec<u8>>) -> Option<&[u8]> {
    match bound {
        Bound::Included(at) | Bound::Excluded(at) => Some(at),
        Bound::Unbounded => None,
    }
}
