use crate::medium::{View, fail};
use crate::reading::Reading;
use crate::tables::{
    self, COMMITS, FEED, INCARNATION, INDEX, MATERIAL, META, RECORDS, STATE, WRITES,
};
use crate::{batch, keys};
use keyferry_store::{
    Chain, CommitId, Cursor, Error, ErrorKind, FeedRow, Incarnation, Index, IndexKey,
    MaterialChange, Order, Part, Position, Put, RecordNumber, Result, Row, Snapshot, Span,
    Transaction,
};
use redb::{
    Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, Value, WriteTransaction,
};
use std::cell::OnceCell;
use std::collections::HashSet;
use std::ops::ControlFlow;

/// A table that is opened when it is first used.
struct Lazy<'t, K: Key + 'static, V: Value + 'static> {
    at: &'t WriteTransaction,
    definition: TableDefinition<'static, K, V>,
    table: OnceCell<Table<'t, K, V>>,
}

impl<'t, K: Key + 'static, V: Value + 'static> Lazy<'t, K, V> {
    fn new(at: &'t WriteTransaction, definition: TableDefinition<'static, K, V>) -> Self {
        Lazy {
            at,
            definition,
            table: OnceCell::new(),
        }
    }

    fn get(&self, view: View<'_>) -> Result<&Table<'t, K, V>> {
        if let Some(table) = self.table.get() {
            return Ok(table);
        }
        let table = self
            .at
            .open_table(self.definition)
            .map_err(|e| view.explain(e))?;
        Ok(self.table.get_or_init(|| table))
    }

    fn get_mut(&mut self, view: View<'_>) -> Result<&mut Table<'t, K, V>> {
        self.get(view)?;
        self.table
            .get_mut()
            .ok_or_else(|| fail(ErrorKind::Io, view.path, "a table could not be opened"))
    }
}

/// A transaction under way.
pub(crate) struct Writing<'t> {
    view: View<'t>,
    database: &'t Database,
    /// The moment before this transaction, for the feed; opened when asked for.
    before: OnceCell<ReadTransaction>,
    records: Lazy<'t, u64, &'static [u8]>,
    material: Lazy<'t, u64, &'static [u8]>,
    index: Lazy<'t, keys::Entry, ()>,
    feed: Lazy<'t, u64, &'static [u8]>,
    commits: Lazy<'t, u64, [u8; 16]>,
    state: Lazy<'t, &'static [u8], &'static [u8]>,
    meta: Lazy<'t, &'static str, &'static [u8]>,
    puts: Option<Puts>,
    changed: bool,
    failed: Option<ErrorKind>,
}

/// What the puts so far came to.
struct Puts {
    last_record: u64,
    last_feed: u64,
    chain: Chain,
}

impl<'t> Writing<'t> {
    pub(crate) fn new(
        view: View<'t>,
        database: &'t Database,
        at: &'t WriteTransaction,
    ) -> Writing<'t> {
        Writing {
            view,
            database,
            before: OnceCell::new(),
            records: Lazy::new(at, RECORDS),
            material: Lazy::new(at, MATERIAL),
            index: Lazy::new(at, INDEX),
            feed: Lazy::new(at, FEED),
            commits: Lazy::new(at, COMMITS),
            state: Lazy::new(at, STATE),
            meta: Lazy::new(at, META),
            puts: None,
            changed: false,
            failed: None,
        }
    }

    /// Writes what belongs to the commit as a whole, and returns the count of writes after it; `None` when there is nothing to commit.
    pub(crate) fn finish(&mut self) -> Result<Option<u64>> {
        if let Some(kind) = self.failed {
            return Err(fail(
                kind,
                self.view.path,
                "a call of this transaction failed, so it cannot be committed",
            ));
        }
        if !self.changed {
            return Ok(None);
        }
        let view = self.view;
        if let Some(puts) = self.puts.take() {
            let id = puts.chain.finish();
            self.commits
                .get_mut(view)?
                .insert(puts.last_feed, id.0)
                .map_err(|e| view.explain(e))?;
        }
        let meta = self.meta.get_mut(view)?;
        let writes = tables::writes(view, meta)? + 1;
        meta.insert(WRITES, writes.to_be_bytes().as_slice())
            .map_err(|e| view.explain(e))?;
        Ok(Some(writes))
    }

    /// Runs a change; when it fails half way, the transaction can no longer be committed.
    fn change<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if let Some(kind) = self.failed {
            return Err(fail(
                kind,
                self.view.path,
                "an earlier call of this transaction failed",
            ));
        }
        let guard = self.view.guard;
        let result = guard.inside(|| f(self));
        match &result {
            Ok(_) => self.changed = true,
            Err(error) => self.failed = Some(error.kind()),
        }
        result
    }

    fn before(&self) -> Result<&ReadTransaction> {
        if let Some(before) = self.before.get() {
            return Ok(before);
        }
        let before = self
            .database
            .begin_read()
            .map_err(|e| self.view.explain(e))?;
        Ok(self.before.get_or_init(|| before))
    }

    fn puts(&self) -> Result<Puts> {
        let view = self.view;
        let (last_feed, commit) = tables::last_commit(view, self.commits.get(view)?)?;
        let last_record = tables::last_record(view, self.records.get(view)?)?;
        Ok(Puts {
            last_record,
            last_feed,
            chain: Chain::after(commit),
        })
    }

    fn check(&self, puts: &[Put<'_>], last_record: u64) -> Result<()> {
        let mut seen = HashSet::new();
        for put in puts {
            if let Some(number) = put.number {
                // Records are never deleted, so every number up to the last one exists.
                if number.0 == 0 || number.0 > last_record {
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
            if put
                .remove
                .iter()
                .chain(put.insert)
                .any(|key| key.index == Index::ARRIVAL || key.key.len() > IndexKey::MAX)
            {
                return Err(Error::new(
                    ErrorKind::Misuse,
                    "an index key of the arrival index, or longer than 512 bytes",
                ));
            }
        }
        Ok(())
    }

    fn put_all(&mut self, puts: &[Put<'_>], mut so_far: Puts) -> Result<Vec<RecordNumber>> {
        let view = self.view;
        let first_feed = so_far.last_feed + 1;
        let numbers: Vec<RecordNumber> = puts
            .iter()
            .map(|put| {
                put.number.unwrap_or_else(|| {
                    so_far.last_record += 1;
                    RecordNumber(so_far.last_record)
                })
            })
            .collect();
        for put in puts {
            so_far.chain.add(put);
        }
        so_far.last_feed += puts.len() as u64;

        let all = || {
            puts.iter()
                .zip(numbers.iter().copied())
                .zip(first_feed..)
                .map(|((put, number), feed)| (put, number.0, feed))
        };
        let superseded =
            batch::records(self.records.get_mut(view)?, all()).map_err(|e| view.explain(e))?;
        if puts
            .iter()
            .any(|put| !matches!(put.material, MaterialChange::Keep))
        {
            batch::material(self.material.get_mut(view)?, all()).map_err(|e| view.explain(e))?;
        }
        batch::feed(self.feed.get_mut(view)?, &superseded, all()).map_err(|e| view.explain(e))?;
        if puts
            .iter()
            .any(|put| !put.remove.is_empty() || !put.insert.is_empty())
        {
            batch::index(self.index.get_mut(view)?, all()).map_err(|e| view.explain(e))?;
        }
        self.puts = Some(so_far);
        Ok(numbers)
    }
}

impl Snapshot for Writing<'_> {
    fn head(&self) -> Result<Position> {
        let view = self.view;
        self.view.guard.inside(|| {
            let incarnation = tables::incarnation(view, self.meta.get(view)?)?;
            let (number, commit) = tables::last_commit(view, self.commits.get(view)?)?;
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
            .inside(|| self.view.commit_id(self.commits.get(self.view)?, number))
    }

    fn count(&self) -> Result<u64> {
        let view = self.view;
        self.view
            .guard
            .inside(|| self.records.get(view)?.len().map_err(|e| view.explain(e)))
    }

    fn get(&self, number: RecordNumber, part: Part) -> Result<Option<Row>> {
        let view = self.view;
        self.view.guard.inside(|| {
            let records = self.records.get(view)?;
            let Some(record) = records.get(number.0).map_err(|e| view.explain(e))? else {
                return Ok(None);
            };
            let material = match part {
                Part::Attributes => None,
                Part::Whole => self
                    .material
                    .get(view)?
                    .get(number.0)
                    .map_err(|e| view.explain(e))?,
            };
            view.row(
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
        let view = self.view;
        self.view.guard.inside(|| match index {
            Index::ARRIVAL => {
                self.view
                    .scan_arrival(self.records.get(view)?, span, order, after, visit)
            }
            _ => self
                .view
                .scan(self.index.get(view)?, index, span, order, after, visit),
        })
    }

    fn feed(
        &self,
        after: u64,
        visit: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        Reading::new(self.view, self.view.guard.inside(|| self.before())?).feed(after, visit)
    }

    fn state(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.view
            .guard
            .inside(|| self.view.state(self.state.get(self.view)?, span, visit))
    }
}

impl Transaction for Writing<'_> {
    fn put(&mut self, puts: &[Put<'_>]) -> Result<Vec<RecordNumber>> {
        if puts.is_empty() {
            return Ok(Vec::new());
        }
        let so_far = match self.puts.take() {
            Some(so_far) => so_far,
            None => self.view.guard.inside(|| self.puts())?,
        };
        if let Err(error) = self.check(puts, so_far.last_record) {
            self.puts = Some(so_far).filter(|_| self.changed);
            return Err(error);
        }
        self.change(|this| this.put_all(puts, so_far))
    }

    fn set_state(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        self.change(|this| {
            let view = this.view;
            let state = this.state.get_mut(view)?;
            match value {
                Some(value) => state
                    .insert(key, value)
                    .map_err(|e| view.explain(e))
                    .map(|_| ()),
                None => state.remove(key).map_err(|e| view.explain(e)).map(|_| ()),
            }
        })
    }

    fn restored(&mut self, incarnation: Incarnation) -> Result<()> {
        self.change(|this| {
            let view = this.view;
            let meta = this.meta.get_mut(view)?;
            meta.insert(INCARNATION, incarnation.0.as_slice())
                .map_err(|e| view.explain(e))?;
            Ok(())
        })
    }
}
