//! This module is a transaction of the database, and the snapshot that it shows.

use crate::changes::Changes;
use crate::failure::{Failure, corrupt};
use crate::pool::{Lease, Params, Pool};
use crate::rows::{LAST_COMMIT, column, commit_id, last_commit, signed, unsigned};
use keyferry_store::{
    CommitId, Cursor, Error, ErrorKind, FeedRow, Incarnation, Index, Order, Part, Position,
    RecordNumber, Result, Row, Snapshot, Span,
};
use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use zeroize::Zeroizing;

/// The number of rows in the first page of a scan. Each page is four times as large as the one before, up to `MOST`, so that a scan that
/// stops soon costs little.
const FIRST: i64 = 50;
/// The most rows in a page of a scan.
const MOST: i64 = 2000;

/// A transaction of the database, with the changes of a write.
pub(crate) struct Session<'p> {
    pub(crate) pool: &'p Pool,
    lease: RefCell<Lease<'p>>,
    failed: Cell<Option<ErrorKind>>,
    pub(crate) changes: Changes,
}

impl<'p> Session<'p> {
    pub(crate) fn begin(pool: &'p Pool, begin: &'static str) -> Result<Session<'p>> {
        let lease = RefCell::new(pool.begin(begin)?);
        Ok(Session {
            pool,
            lease,
            failed: Cell::new(None),
            changes: Changes::default(),
        })
    }

    /// The kind of the first failed call to the database. After it the transaction cannot go on, whatever the closure did with the error.
    pub(crate) fn failed(&self) -> Option<ErrorKind> {
        self.failed.get()
    }

    /// Remembers the kind of a failure. Later failures get this kind as well, since they only say that the transaction is over.
    pub(crate) fn note<T>(&self, result: Result<T, Failure>) -> Result<T> {
        result.map_err(|failure| {
            let error = Error::from(failure);
            let Some(kind) = self.failed.get() else {
                self.failed.set(Some(error.kind()));
                return error;
            };
            let text = format_args!("an earlier call of this transaction failed; {error}");
            Error::new(kind, text).caused_by(error)
        })
    }

    pub(crate) fn query(
        &self,
        sql: &'static str,
        params: Params<'_>,
    ) -> Result<Vec<postgres::Row>> {
        self.note(self.lease.borrow_mut().query(sql, params))
    }

    pub(crate) fn execute(&self, sql: &'static str, params: Params<'_>) -> Result<u64> {
        self.note(self.lease.borrow_mut().execute(sql, params))
    }

    pub(crate) fn commit(&self) -> Result<()> {
        self.note(self.lease.borrow_mut().commit())
    }

    /// Writes the rows of the state that were gathered.
    pub(crate) fn write_state(&self) -> Result<()> {
        let state = self.changes.state.take();
        if state.is_empty() {
            return Ok(());
        }
        let (set, removed): (Vec<_>, Vec<_>) = state.iter().partition(|(_, value)| value.is_some());
        let removed: Vec<&[u8]> = removed.iter().map(|(key, _)| key.as_slice()).collect();
        if !removed.is_empty() {
            let sql = "DELETE FROM keyferry_state WHERE key = ANY($1)";
            self.execute(sql, &[&removed])?;
        }
        let keys: Vec<&[u8]> = set.iter().map(|(key, _)| key.as_slice()).collect();
        let values: Vec<&[u8]> = set
            .iter()
            .filter_map(|(_, value)| value.as_deref())
            .collect();
        if !keys.is_empty() {
            let sql = "INSERT INTO keyferry_state (key, value) SELECT * FROM unnest($1::BYTEA[], $2::BYTEA[]) \
                       ON CONFLICT (key) DO UPDATE SET value = excluded.value";
            self.execute(sql, &[&keys, &values])?;
        }
        Ok(())
    }

    fn incarnation(&self) -> Result<Incarnation> {
        let rows = self.query(
            "SELECT value FROM keyferry_meta WHERE name = 'incarnation'",
            &[],
        )?;
        let row = rows
            .first()
            .ok_or_else(|| corrupt("the incarnation is missing"))?;
        let bytes: &[u8] = column(row, 0)?;
        bytes
            .try_into()
            .map(Incarnation)
            .map_err(|_| corrupt("the incarnation is not 16 bytes long"))
    }

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
        // Both ends are included.
        let (mut low, mut high) = (
            signed(from),
            to.map_or(i64::MAX, |to| signed(to.saturating_sub(1))),
        );
        if let Some(cursor) = after {
            match order {
                Order::Ascending => low = low.max(signed(cursor.number.0.saturating_add(1))),
                Order::Descending => high = high.min(signed(cursor.number.0) - 1),
            }
        }
        let sql = match order {
            Order::Ascending => {
                "SELECT number FROM keyferry_records WHERE number >= $1 AND number <= $2 ORDER BY number LIMIT $3"
            }
            Order::Descending => {
                "SELECT number FROM keyferry_records WHERE number >= $1 AND number <= $2 ORDER BY number DESC LIMIT $3"
            }
        };
        let mut pages = Pages::new();
        while low <= high {
            let rows = self.query(sql, &[&low, &high, &pages.size])?;
            for row in &rows {
                let number: i64 = column(row, 0)?;
                let unsigned = unsigned(number)?;
                if visit(&unsigned.to_be_bytes(), RecordNumber(unsigned))?.is_break() {
                    return Ok(());
                }
                match order {
                    Order::Ascending => low = number.saturating_add(1),
                    Order::Descending => high = number - 1,
                }
            }
            if pages.was_last(rows.len()) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Selects the entries of an index above one entry and, where there is an end, below another.
fn index_sql(order: Order, end: bool) -> &'static str {
    match (order, end) {
        (Order::Ascending, false) => {
            "SELECT key, number FROM keyferry_index WHERE idx = $1 AND (key, number) > ($2, $3) ORDER BY key, number LIMIT $4"
        }
        (Order::Ascending, true) => {
            "SELECT key, number FROM keyferry_index WHERE idx = $1 AND (key, number) > ($2, $3) AND (key, number) < ($5, $6) \
             ORDER BY key, number LIMIT $4"
        }
        (Order::Descending, false) => {
            "SELECT key, number FROM keyferry_index WHERE idx = $1 AND (key, number) > ($2, $3) ORDER BY key DESC, number DESC LIMIT $4"
        }
        (Order::Descending, true) => {
            "SELECT key, number FROM keyferry_index WHERE idx = $1 AND (key, number) > ($2, $3) AND (key, number) < ($5, $6) \
             ORDER BY key DESC, number DESC LIMIT $4"
        }
    }
}

/// The size of the pages of a scan.
struct Pages {
    size: i64,
}

impl Pages {
    fn new() -> Pages {
        Pages { size: FIRST }
    }

    /// Returns whether a page of `rows` rows was the last, and makes the next one larger.
    fn was_last(&mut self, rows: usize) -> bool {
        let last = (rows as i64) < self.size;
        self.size = (self.size * 4).min(MOST);
        last
    }
}

impl Snapshot for Session<'_> {
    fn head(&self) -> Result<Position> {
        let incarnation = self.incarnation()?;
        let (number, commit) = last_commit(&self.query(LAST_COMMIT, &[])?)?;
        Ok(Position {
            incarnation,
            number,
            commit,
        })
    }

    fn commit_id(&self, number: u64) -> Result<Option<CommitId>> {
        let Ok(number @ 1..) = i64::try_from(number) else {
            return Ok(None);
        };
        let rows = self.query(
            "SELECT last, id FROM keyferry_commits WHERE first <= $1 ORDER BY first DESC LIMIT 1",
            &[&number],
        )?;
        match rows.first() {
            Some(row) if column::<i64>(row, 0)? >= number => Ok(Some(commit_id(column(row, 1)?)?)),
            _ => Ok(None),
        }
    }

    fn count(&self) -> Result<u64> {
        let rows = self.query("SELECT count(*) FROM keyferry_records", &[])?;
        unsigned(column(
            rows.first()
                .ok_or_else(|| corrupt("a count without a row"))?,
            0,
        )?)
    }

    fn get(&self, number: RecordNumber, part: Part) -> Result<Option<Row>> {
        let number = signed(number.0);
        let rows = match part {
            Part::Attributes => self.query("SELECT id, attributes FROM keyferry_records WHERE number = $1", &[&number])?,
            Part::Whole => self.query(
                "SELECT r.id, r.attributes, m.material FROM keyferry_records r LEFT JOIN keyferry_material m ON m.number = r.number \
                 WHERE r.number = $1",
                &[&number],
            )?,
        };
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let material = match part {
            Part::Attributes => None,
            Part::Whole => {
                column::<Option<&[u8]>>(row, 2)?.map(|bytes| Zeroizing::new(bytes.to_vec()))
            }
        };
        Ok(Some(Row {
            id: column(row, 0)?,
            attributes: column(row, 1)?,
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
        if index == Index::ARRIVAL {
            return self.scan_arrival(span, order, after, visit);
        }
        let idx = i16::from(index.0);
        // Both ends are excluded: record numbers begin with 1, so number 0 is before all entries with the same key.
        let mut low = (span.from.clone(), 0_i64);
        let mut high = span.to.clone().map(|to| (to, 0_i64));
        if let Some(cursor) = after {
            let seen = (cursor.key.clone(), signed(cursor.number.0));
            match order {
                Order::Ascending => low = low.max(seen),
                Order::Descending => high = Some(high.map_or(seen.clone(), |high| high.min(seen))),
            }
        }
        let mut pages = Pages::new();
        loop {
            if high.as_ref().is_some_and(|high| low >= *high) {
                return Ok(());
            }
            let sql = index_sql(order, high.is_some());
            let rows = match &high {
                None => self.query(sql, &[&idx, &low.0, &low.1, &pages.size])?,
                Some(high) => {
                    self.query(sql, &[&idx, &low.0, &low.1, &pages.size, &high.0, &high.1])?
                }
            };
            let mut last = None;
            for row in &rows {
                let (key, number): (&[u8], i64) = (column(row, 0)?, column(row, 1)?);
                if visit(key, RecordNumber(unsigned(number)?))?.is_break() {
                    return Ok(());
                }
                last = Some((key, number));
            }
            match (last, pages.was_last(rows.len())) {
                (Some((key, number)), false) if order == Order::Ascending => {
                    low = (key.to_vec(), number)
                }
                (Some((key, number)), false) => high = Some((key.to_vec(), number)),
                _ => return Ok(()),
            }
        }
    }

    fn feed(
        &self,
        after: u64,
        visit: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut after = signed(after);
        let mut pages = Pages::new();
        loop {
            let sql = "SELECT number, record, entry FROM keyferry_feed WHERE number > $1 ORDER BY number LIMIT $2";
            let rows = self.query(sql, &[&after, &pages.size])?;
            for row in &rows {
                after = column(row, 0)?;
                let record = RecordNumber(unsigned(column(row, 1)?)?);
                if visit(&FeedRow {
                    number: unsigned(after)?,
                    record,
                    entry: column(row, 2)?,
                })?
                .is_break()
                {
                    return Ok(());
                }
            }
            if pages.was_last(rows.len()) {
                return Ok(());
            }
        }
    }

    fn state(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.write_state()?;
        let mut from = span.from.clone();
        let mut pages = Pages::new();
        loop {
            let rows = match &span.to {
                None => self.query(
                    "SELECT key, value FROM keyferry_state WHERE key >= $1 ORDER BY key LIMIT $2",
                    &[&from, &pages.size],
                )?,
                Some(to) => {
                    let sql = "SELECT key, value FROM keyferry_state WHERE key >= $1 AND key < $3 ORDER BY key LIMIT $2";
                    self.query(sql, &[&from, &pages.size, to])?
                }
            };
            for row in &rows {
                if visit(column(row, 0)?, column(row, 1)?)?.is_break() {
                    return Ok(());
                }
            }
            match (rows.last(), pages.was_last(rows.len())) {
                (Some(last), false) => {
                    // The key that comes next after the last one seen.
                    from = column(last, 0)?;
                    from.push(0);
                }
                _ => return Ok(()),
            }
        }
    }
}
