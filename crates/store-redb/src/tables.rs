use crate::keys::{self, Entry};
use crate::medium::View;
use keyferry_store::{
    CommitId, Cursor, FeedRow, Incarnation, Index, Order, RecordNumber, Result, Row, Span,
};
use redb::{Range, ReadableTable, TableDefinition};
use std::ops::{Bound, ControlFlow};
use zeroize::Zeroizing;

type Bytes = &'static [u8];

/// Record number to [`split_record`]'s three parts.
pub(crate) const RECORDS: TableDefinition<u64, Bytes> = TableDefinition::new("records");
/// Record number to key material.
pub(crate) const MATERIAL: TableDefinition<u64, Bytes> = TableDefinition::new("material");
/// All indexes.
pub(crate) const INDEX: TableDefinition<Entry, ()> = TableDefinition::new("index");
/// Feed number to record number and entry.
pub(crate) const FEED: TableDefinition<u64, Bytes> = TableDefinition::new("feed");
/// The last feed number of a commit to its id.
pub(crate) const COMMITS: TableDefinition<u64, [u8; 16]> = TableDefinition::new("commits");
/// The s2s state.
pub(crate) const STATE: TableDefinition<Bytes, Bytes> = TableDefinition::new("state");
/// Facts about the store itself.
pub(crate) const META: TableDefinition<&str, Bytes> = TableDefinition::new("meta");

/// What `META` holds its [version](keyferry_store::schema) under.
pub(crate) const SCHEMA: &str = "schema";
pub(crate) const INCARNATION: &str = "incarnation";
/// Counts writes, so that after a failed commit it can be told whether it took effect.
pub(crate) const WRITES: &str = "writes";

/// Appends a record's stored form: the number of its feed entry, its object id, its attributes.
pub(crate) fn join_record(to: &mut Vec<u8>, feed: u64, id: &[u8], attributes: &[u8]) {
    to.extend_from_slice(&feed.to_be_bytes());
    to.extend_from_slice(&(id.len() as u32).to_be_bytes());
    to.extend_from_slice(id);
    to.extend_from_slice(attributes);
}

/// The parts of a stored record: feed number, object id, attributes.
pub(crate) fn split_record(stored: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (feed, rest) = stored.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (id, attributes) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((u64::from_be_bytes(*feed), id, attributes))
}

pub(crate) fn version(
    view: View<'_>,
    meta: &impl ReadableTable<&'static str, Bytes>,
) -> Result<u32> {
    let version = fact(view, meta, SCHEMA)?.map(u32::from_be_bytes);
    version.ok_or_else(|| view.corrupt("it does not say which schema it has"))
}

pub(crate) fn incarnation(
    view: View<'_>,
    meta: &impl ReadableTable<&'static str, Bytes>,
) -> Result<Incarnation> {
    fact(view, meta, INCARNATION)?
        .map(Incarnation)
        .ok_or_else(|| view.corrupt("it has no incarnation"))
}

pub(crate) fn writes(
    view: View<'_>,
    meta: &impl ReadableTable<&'static str, Bytes>,
) -> Result<u64> {
    Ok(fact(view, meta, WRITES)?.map_or(0, u64::from_be_bytes))
}

fn fact<const N: usize>(
    view: View<'_>,
    meta: &impl ReadableTable<&'static str, Bytes>,
    name: &str,
) -> Result<Option<[u8; N]>> {
    let Some(stored) = meta.get(name).map_err(|e| view.explain(e))? else {
        return Ok(None);
    };
    let value = stored
        .value()
        .try_into()
        .map_err(|_| view.corrupt(format_args!("its {name} is not {N} bytes long")))?;
    Ok(Some(value))
}

/// The last commit: its feed number and its id.
pub(crate) fn last_commit(
    view: View<'_>,
    commits: &impl ReadableTable<u64, [u8; 16]>,
) -> Result<(u64, CommitId)> {
    let last = commits.last().map_err(|e| view.explain(e))?;
    Ok(last.map_or((0, CommitId::ZERO), |(number, id)| {
        (number.value(), CommitId(id.value()))
    }))
}

pub(crate) fn last_record(view: View<'_>, records: &impl ReadableTable<u64, Bytes>) -> Result<u64> {
    let last = records.last().map_err(|e| view.explain(e))?;
    Ok(last.map_or(0, |(number, _)| number.value()))
}

impl View<'_> {
    pub(crate) fn commit_id(
        &self,
        commits: &impl ReadableTable<u64, [u8; 16]>,
        number: u64,
    ) -> Result<Option<CommitId>> {
        if number == 0 {
            return Ok(None);
        }
        let mut range = commits.range(number..).map_err(|e| self.explain(e))?;
        let first = range.next().transpose().map_err(|e| self.explain(e))?;
        Ok(first.map(|(_, id)| CommitId(id.value())))
    }

    /// A record as the tables hold it.
    pub(crate) fn row(
        &self,
        number: RecordNumber,
        record: &[u8],
        material: Option<&[u8]>,
    ) -> Result<Option<Row>> {
        let damaged = || self.corrupt(format_args!("record {} is cut short", number.0));
        let (_, id, attributes) = split_record(record).ok_or_else(damaged)?;
        let material = material.map(|bytes| Zeroizing::new(bytes.to_vec()));
        Ok(Some(Row {
            id: id.to_vec(),
            attributes: attributes.to_vec(),
            material,
        }))
    }

    pub(crate) fn scan(
        &self,
        table: &impl ReadableTable<Entry, ()>,
        index: Index,
        span: &Span,
        order: Order,
        after: Option<&Cursor>,
        visit: &mut dyn FnMut(&[u8], RecordNumber) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
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
        let range = table.range::<&[u8]>(range).map_err(|e| self.explain(e))?;
        self.walk(range, order, &mut |entry, ()| {
            let (_, key, number) =
                keys::parts(entry).ok_or_else(|| self.corrupt("an index entry is cut short"))?;
            self.guard.outside(|| visit(key, RecordNumber(number)))
        })
    }

    pub(crate) fn scan_arrival(
        &self,
        records: &impl ReadableTable<u64, Bytes>,
        span: &Span,
        order: Order,
        after: Option<&Cursor>,
        visit: &mut dyn FnMut(&[u8], RecordNumber) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
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
        let range = records.range::<u64>(range).map_err(|e| self.explain(e))?;
        self.walk(range, order, &mut |number, _| {
            self.guard
                .outside(|| visit(&number.to_be_bytes(), RecordNumber(number)))
        })
    }

    pub(crate) fn feed(
        &self,
        feed: &impl ReadableTable<u64, Bytes>,
        after: u64,
        visit: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let range = (Bound::Excluded(after), Bound::Unbounded);
        let range = feed.range::<u64>(range).map_err(|e| self.explain(e))?;
        self.walk(range, Order::Ascending, &mut |number, stored| {
            let damaged = || self.corrupt(format_args!("feed entry {number} is cut short"));
            let (record, entry) = stored.split_first_chunk().ok_or_else(damaged)?;
            let row = FeedRow {
                number,
                record: RecordNumber(u64::from_be_bytes(*record)),
                entry,
            };
            self.guard.outside(|| visit(&row))
        })
    }

    pub(crate) fn state(
        &self,
        state: &impl ReadableTable<Bytes, Bytes>,
        span: &Span,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        if span.to.as_ref().is_some_and(|to| span.from >= *to) {
            return Ok(());
        }
        let to = span.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let range = state
            .range::<&[u8]>((Bound::Included(span.from.as_slice()), to))
            .map_err(|e| self.explain(e))?;
        self.walk(range, Order::Ascending, &mut |key, value| {
            self.guard.outside(|| visit(key, value))
        })
    }

    fn walk<K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        mut range: Range<'_, K, V>,
        order: Order,
        step: &mut dyn for<'x> FnMut(K::SelfType<'x>, V::SelfType<'x>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        loop {
            let next = match order {
                Order::Ascending => range.next(),
                Order::Descending => range.next_back(),
            };
            let Some(next) = next else { return Ok(()) };
            let (key, value) = next.map_err(|e| self.explain(e))?;
            if step(key.value(), value.value())?.is_break() {
                return Ok(());
            }
        }
    }
}

fn end(bound: &Bound<Vec<u8>>) -> Option<&[u8]> {
    match bound {
        Bound::Included(at) | Bound::Excluded(at) => Some(at),
        Bound::Unbounded => None,
    }
}
