//! A store whose rows a test alters, as who can write to the medium does: a copy of another store, to be read only.

use keyferry_store::{
    CommitId, Cursor, Error, ErrorKind, FeedRow, Incarnation, Index, Order, Part, Position,
    RecordNumber, Result, Row, Snapshot, Span, Store, Transaction,
};
use std::ops::ControlFlow;
use zeroize::Zeroizing;

/// A record as it stands in the store.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) number: u64,
    pub(crate) id: Vec<u8>,
    pub(crate) attributes: Vec<u8>,
}

/// All rows of a store, in any order.
#[derive(Clone)]
pub(crate) struct Rows {
    pub(crate) incarnation: [u8; 16],
    head: (u64, CommitId),
    pub(crate) records: Vec<Stored>,
    pub(crate) material: Vec<(u64, Vec<u8>)>,
    /// Index, key, record number.
    pub(crate) index: Vec<(u8, Vec<u8>, u64)>,
    /// Feed number, record number, entry.
    pub(crate) feed: Vec<(u64, u64, Vec<u8>)>,
    pub(crate) state: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Rows {
    /// The rows of a store.
    pub(crate) fn of(store: &dyn Store) -> Rows {
        let mut rows = None;
        store
            .read(&mut |at| {
                rows = Some(copy(at)?);
                Ok(())
            })
            .unwrap();
        rows.unwrap()
    }

    fn visit<T>(
        mut items: Vec<T>,
        order: Order,
        visit: &mut dyn FnMut(&T) -> Result<ControlFlow<()>>,
    ) -> Result<()>
    where
        T: Ord,
    {
        items.sort_unstable();
        // A key stands once in a table.
        items.dedup();
        if order == Order::Descending {
            items.reverse();
        }
        for item in &items {
            if visit(item)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn copy(at: &dyn Snapshot) -> Result<Rows> {
    let head = at.head()?;
    let mut rows = Rows {
        incarnation: head.incarnation.0,
        head: (head.number, head.commit),
        records: Vec::new(),
        material: Vec::new(),
        index: Vec::new(),
        feed: Vec::new(),
        state: Vec::new(),
    };
    let (all, order) = (Span::all(), Order::Ascending);
    at.scan(Index::ARRIVAL, &all, order, None, &mut |_, number| {
        let row = at.get(number, Part::Whole)?.unwrap();
        rows.records.push(Stored {
            number: number.0,
            id: row.id,
            attributes: row.attributes,
        });
        rows.material
            .extend(row.material.map(|bytes| (number.0, bytes.to_vec())));
        Ok(ControlFlow::Continue(()))
    })?;
    for index in 1..=u8::MAX {
        at.scan(Index(index), &all, order, None, &mut |key, number| {
            rows.index.push((index, key.to_vec(), number.0));
            Ok(ControlFlow::Continue(()))
        })?;
    }
    at.feed(0, &mut |row| {
        rows.feed
            .push((row.number, row.record.0, row.entry.to_vec()));
        Ok(ControlFlow::Continue(()))
    })?;
    at.state(&all, &mut |key, value| {
        rows.state.push((key.to_vec(), value.to_vec()));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(rows)
}

impl Store for Rows {
    fn read(&self, f: &mut dyn FnMut(&dyn Snapshot) -> Result<()>) -> Result<()> {
        f(self)
    }

    fn write(&self, _: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        Err(Error::new(ErrorKind::Misuse, "these rows are only read"))
    }
}

impl Snapshot for Rows {
    fn head(&self) -> Result<Position> {
        Ok(Position {
            incarnation: Incarnation(self.incarnation),
            number: self.head.0,
            commit: self.head.1,
        })
    }

    fn commit_id(&self, _: u64) -> Result<Option<CommitId>> {
        Ok(None)
    }

    fn count(&self) -> Result<u64> {
        Ok(self.records.len() as u64)
    }

    fn get(&self, number: RecordNumber, part: Part) -> Result<Option<Row>> {
        let material = self.material.iter().find(|(at, _)| *at == number.0);
        let stored = self.records.iter().find(|stored| stored.number == number.0);
        Ok(stored.map(|stored| Row {
            id: stored.id.clone(),
            attributes: stored.attributes.clone(),
            material: material
                .filter(|_| part == Part::Whole)
                .map(|(_, bytes)| Zeroizing::new(bytes.clone())),
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
        let arrivals = self
            .records
            .iter()
            .map(|stored| (0, stored.number.to_be_bytes().to_vec(), stored.number));
        let found = self
            .index
            .iter()
            .cloned()
            .chain(arrivals)
            .filter(|(at, key, number)| {
                let behind = after.is_none_or(|after| {
                    let (seen, this) = ((&after.key, after.number.0), (key, *number));
                    match order {
                        Order::Ascending => this > seen,
                        Order::Descending => this < seen,
                    }
                });
                *at == index.0 && span.contains(key) && behind
            });
        Rows::visit(found.collect(), order, &mut |(_, key, number)| {
            visit(key, RecordNumber(*number))
        })
    }

    fn feed(
        &self,
        after: u64,
        visit: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut found = self.feed.clone();
        found.retain(|(number, ..)| *number > after);
        Rows::visit(found, Order::Ascending, &mut |(number, record, entry)| {
            visit(&FeedRow {
                number: *number,
                record: RecordNumber(*record),
                entry,
            })
        })
    }

    fn state(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut found = self.state.clone();
        found.retain(|(key, _)| span.contains(key));
        Rows::visit(found, Order::Ascending, &mut |(key, value)| {
            visit(key, value)
        })
    }
}
