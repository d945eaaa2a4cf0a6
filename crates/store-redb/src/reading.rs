use crate::ahead::Ahead;
use crate::medium::View;
use crate::tables::{self, COMMITS, FEED, INDEX, MATERIAL, META, RECORDS, STATE};
use keyferry_store::{
    CommitId, Cursor, FeedRow, Index, Order, Part, Position, RecordNumber, Result, Row, Snapshot,
    Span,
};
use redb::{Key, ReadOnlyTable, ReadTransaction, ReadableTableMetadata, TableDefinition, Value};
use std::cell::{OnceCell, RefCell};
use std::ops::ControlFlow;

/// The tables at one moment.
pub(crate) struct Reading<'a> {
    view: View<'a>,
    at: &'a ReadTransaction,
    /// Opened once, since `get` is called again and again.
    records: OnceCell<Numbered>,
    material: OnceCell<Numbered>,
    records_ahead: RefCell<Ahead>,
    material_ahead: RefCell<Ahead>,
}

type Numbered = ReadOnlyTable<u64, &'static [u8]>;

impl<'a> Reading<'a> {
    pub(crate) fn new(view: View<'a>, at: &'a ReadTransaction) -> Reading<'a> {
        Reading {
            view,
            at,
            records: OnceCell::new(),
            material: OnceCell::new(),
            records_ahead: RefCell::default(),
            material_ahead: RefCell::default(),
        }
    }

    fn once<'s>(
        &'s self,
        cell: &'s OnceCell<Numbered>,
        definition: TableDefinition<'static, u64, &'static [u8]>,
    ) -> Result<&'s Numbered> {
        if let Some(table) = cell.get() {
            return Ok(table);
        }
        let table = self.table(definition)?;
        Ok(cell.get_or_init(|| table))
    }

    fn table<K: Key, V: Value>(
        &self,
        table: TableDefinition<'_, K, V>,
    ) -> Result<ReadOnlyTable<K, V>> {
        self.at.open_table(table).map_err(|e| self.view.explain(e))
    }
}

impl Snapshot for Reading<'_> {
    fn head(&self) -> Result<Position> {
        self.view.guard.inside(|| {
            let incarnation = tables::incarnation(self.view, &self.table(META)?)?;
            let (number, commit) = tables::last_commit(self.view, &self.table(COMMITS)?)?;
            Ok(Position {
                incarnation,
                number,
                commit,
            })
        })
    }

    fn commit_id(&self, number: u64) -> Result<Option<CommitId>> {
        self.view
            .guard
            .inside(|| self.view.commit_id(&self.table(COMMITS)?, number))
    }

    fn count(&self) -> Result<u64> {
        self.view.guard.inside(|| {
            self.once(&self.records, RECORDS)?
                .len()
                .map_err(|e| self.view.explain(e))
        })
    }

    fn get(&self, number: RecordNumber, part: Part) -> Result<Option<Row>> {
        self.view.guard.inside(|| {
            let records = self.once(&self.records, RECORDS)?;
            let Some(record) = self
                .records_ahead
                .borrow_mut()
                .get(self.view, records, number.0)?
            else {
                return Ok(None);
            };
            let material = match part {
                Part::Attributes => None,
                Part::Whole => {
                    let table = self.once(&self.material, MATERIAL)?;
                    self.material_ahead
                        .borrow_mut()
                        .get(self.view, table, number.0)?
                }
            };
            self.view.row(
                number,
                record.value(),
                material.as_ref().map(|bytes| bytes.value()),
            )
        })
    }

    fn scan(
        &self,
        index: Index,
        span: &Span,
        order: Order,
        after: Option<&Cursor>,
        visit: &mut dyn FnMut(&[u8], RecordNumber) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.view.guard.inside(|| match index {
            Index::ARRIVAL => self.view.scan_arrival(
                self.once(&self.records, RECORDS)?,
                span,
                order,
                after,
                visit,
            ),
            _ => self
                .view
                .scan(&self.table(INDEX)?, index, span, order, after, visit),
        })
    }

    fn feed(
        &self,
        after: u64,
        visit: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.view
            .guard
            .inside(|| self.view.feed(&self.table(FEED)?, after, visit))
    }

    fn state(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.view
            .guard
            .inside(|| self.view.state(&self.table(STATE)?, span, visit))
    }
}
