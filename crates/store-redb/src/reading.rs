//! This module is the snapshot of a read: the tables as they were when it began.

use crate::ahead::Ahead;
use crate::failure::Failure;
use crate::guard::View;
use crate::scan;
use crate::tables::{self, COMMITS, FEED, INDEX, MATERIAL, META, RECORDS, STATE};
use keyferry_store::{
    CommitId, Cursor, FeedRow, Index, Order, Part, Position, RecordNumber, Result, Row, Snapshot,
    Span,
};
use redb::{ReadOnlyTable, ReadTransaction, ReadableTableMetadata, TableDefinition};
use std::cell::{OnceCell, RefCell};
use std::ops::ControlFlow;

/// A snapshot of the tables.
pub(crate) struct Reading<'a> {
    view: View<'a>,
    at: &'a ReadTransaction,
    /// These two tables are opened once, since `get` is called often.
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

    /// The table in `cell`, which is opened when it is first used.
    fn once<'s>(
        &'s self,
        cell: &'s OnceCell<Numbered>,
        definition: TableDefinition<'static, u64, &'static [u8]>,
    ) -> Result<&'s Numbered, Failure> {
        if let Some(table) = cell.get() {
            return Ok(table);
        }
        let table = self.at.open_table(definition)?;
        Ok(cell.get_or_init(|| table))
    }
}

impl Snapshot for Reading<'_> {
    fn head(&self) -> Result<Position> {
        self.view.run(|| {
            let incarnation = tables::incarnation(&self.at.open_table(META)?)?;
            let (number, commit) = tables::last_commit(&self.at.open_table(COMMITS)?)?;
            Ok(Position {
                incarnation,
                number,
                commit,
            })
        })
    }

    fn commit_id(&self, number: u64) -> Result<Option<CommitId>> {
        self.view
            .run(|| tables::commit_id(&self.at.open_table(COMMITS)?, number))
    }

    fn count(&self) -> Result<u64> {
        self.view
            .run(|| Ok(self.once(&self.records, RECORDS)?.len()?))
    }

    fn get(&self, number: RecordNumber, part: Part) -> Result<Option<Row>> {
        self.view.run(|| {
            let records = self.once(&self.records, RECORDS)?;
            let Some(record) = self.records_ahead.borrow_mut().get(records, number.0)? else {
                return Ok(None);
            };
            let material = match part {
                Part::Attributes => None,
                Part::Whole => {
                    let table = self.once(&self.material, MATERIAL)?;
                    self.material_ahead.borrow_mut().get(table, number.0)?
                }
            };
            let material = material.as_ref().map(|bytes| bytes.value());
            tables::row(number, record.value(), material).map(Some)
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
        let guard = self.view.guard;
        self.view.run(|| match index {
            Index::ARRIVAL => {
                let records = self.once(&self.records, RECORDS)?;
                scan::arrival(guard, records, span, order, after, visit)
            }
            _ => {
                let table = self.at.open_table(INDEX)?;
                scan::index(guard, &table, index, span, order, after, visit)
            }
        })
    }

    fn feed(
        &self,
        after: u64,
        visit: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.view
            .run(|| scan::feed(self.view.guard, &self.at.open_table(FEED)?, after, visit))
    }

    fn state(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.view
            .run(|| scan::state(self.view.guard, &self.at.open_table(STATE)?, span, visit))
    }
}
