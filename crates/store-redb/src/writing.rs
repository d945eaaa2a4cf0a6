//! This module is the transaction of a write.

use crate::failure::{Failure, fail};
use crate::guard::View;
use crate::reading::Reading;
use crate::scan;
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
use std::io;
use std::ops::ControlFlow;

/// A table of the transaction, which is opened when it is first used.
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

    fn get(&self) -> Result<&Table<'t, K, V>, Failure> {
        if let Some(table) = self.table.get() {
            return Ok(table);
        }
        let table = self.at.open_table(self.definition)?;
        Ok(self.table.get_or_init(|| table))
    }

    fn get_mut(&mut self) -> Result<&mut Table<'t, K, V>, Failure> {
        if self.table.get().is_none() {
            self.table = OnceCell::from(self.at.open_table(self.definition)?);
        }
        let missing = || io::Error::other("a table could not be opened");
        Ok(self.table.get_mut().ok_or_else(missing)?)
    }
}

/// A transaction under way.
pub(crate) struct Writing<'t> {
    view: View<'t>,
    database: &'t Database,
    /// The store as it was before this transaction, for the feed; opened when it is first asked for.
    before: OnceCell<ReadTransaction>,
    records: Lazy<'t, u64, &'static [u8]>,
    material: Lazy<'t, u64, &'static [u8]>,
    index: Lazy<'t, keys::Entry, ()>,
    feed: Lazy<'t, u64, &'static [u8]>,
    commits: Lazy<'t, u64, [u8; 16]>,
    state: Lazy<'t, &'static [u8], &'static [u8]>,
    meta: Lazy<'t, &'static str, &'static [u8]>,
    puts: Option<Puts>,
    /// Whether anything was changed.
    changed: bool,
    /// The kind of the first failure, after which the transaction cannot be committed.
    failed: Option<ErrorKind>,
}

/// The numbers and the commit chain after the puts so far.
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

    /// Completes the transaction for its commit, and returns the count of writes after it; `None` when there is nothing to commit.
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
        view.run(|| {
            if let Some(puts) = self.puts.take() {
                let id = puts.chain.finish();
                self.commits.get_mut()?.insert(puts.last_feed, id.0)?;
            }
            let meta = self.meta.get_mut()?;
            let writes = tables::writes(meta)? + 1;
            meta.insert(WRITES, writes.to_be_bytes().as_slice())?;
            Ok(Some(writes))
        })
    }

    /// Runs a change; when it fails half way, the transaction can no longer be committed.
    fn change<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T, Failure>) -> Result<T> {
        if let Some(kind) = self.failed {
            return Err(fail(
                kind,
                self.view.path,
                "an earlier call of this transaction failed",
            ));
        }
        let view = self.view;
        let result = view.run(|| f(self));
        match &result {
            Ok(_) => self.changed = true,
            Err(error) => self.failed = Some(error.kind()),
        }
        result
    }

    fn before(&self) -> Result<&ReadTransaction, Failure> {
        if let Some(before) = self.before.get() {
            return Ok(before);
        }
        let before = self.database.begin_read()?;
        Ok(self.before.get_or_init(|| before))
    }

    /// The numbers and the commit chain before the first put of this transaction.
    fn puts(&self) -> Result<Puts, Failure> {
        let (last_feed, commit) = tables::last_commit(self.commits.get()?)?;
        Ok(Puts {
            last_record: tables::last_record(self.records.get()?)?,
            last_feed,
            chain: Chain::after(commit),
        })
    }

    /// Checks that the contract allows these puts.
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

    fn put_all(
        &mut self,
        puts: &[Put<'_>],
        mut so_far: Puts,
    ) -> Result<Vec<RecordNumber>, Failure> {
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
        let superseded = batch::records(self.records.get_mut()?, all())?;
        if puts
            .iter()
            .any(|put| !matches!(put.material, MaterialChange::Keep))
        {
            batch::material(self.material.get_mut()?, all())?;
        }
        batch::feed(self.feed.get_mut()?, &superseded, all())?;
        if puts
            .iter()
            .any(|put| !put.remove.is_empty() || !put.insert.is_empty())
        {
            batch::index(self.index.get_mut()?, all())?;
        }
        self.puts = Some(so_far);
        Ok(numbers)
    }
}

impl Snapshot for Writing<'_> {
    fn head(&self) -> Result<Position> {
        self.view.run(|| {
            let incarnation = tables::incarnation(self.meta.get()?)?;
            let (number, commit) = tables::last_commit(self.commits.get()?)?;
            Ok(Position {
                incarnation,
                number,
                commit,
            })
        })
    }

    fn commit_id(&self, number: u64) -> Result<Option<CommitId>> {
        self.view
            .run(|| tables::commit_id(self.commits.get()?, number))
    }

    fn count(&self) -> Result<u64> {
        self.view.run(|| Ok(self.records.get()?.len()?))
    }

    fn get(&self, number: RecordNumber, part: Part) -> Result<Option<Row>> {
        self.view.run(|| {
            let Some(record) = self.records.get()?.get(number.0)? else {
                return Ok(None);
            };
            let material = match part {
                Part::Attributes => None,
                Part::Whole => self.material.get()?.get(number.0)?,
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
            Index::ARRIVAL => scan::arrival(guard, self.records.get()?, span, order, after, visit),
            _ => scan::index(guard, self.index.get()?, index, span, order, after, visit),
        })
    }

    fn feed(
        &self,
        after: u64,
        visit: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let before = self.view.run(|| self.before())?;
        Reading::new(self.view, before).feed(after, visit)
    }

    fn state(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.view
            .run(|| scan::state(self.view.guard, self.state.get()?, span, visit))
    }
}

impl Transaction for Writing<'_> {
    fn put(&mut self, puts: &[Put<'_>]) -> Result<Vec<RecordNumber>> {
        if puts.is_empty() {
            return Ok(Vec::new());
        }
        let so_far = match self.puts.take() {
            Some(so_far) => so_far,
            None => self.view.run(|| self.puts())?,
        };
        if let Err(error) = self.check(puts, so_far.last_record) {
            self.puts = Some(so_far).filter(|_| self.changed);
            return Err(error);
        }
        self.change(|this| this.put_all(puts, so_far))
    }

    fn set_state(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        self.change(|this| {
            let state = this.state.get_mut()?;
            match value {
                Some(value) => drop(state.insert(key, value)?),
                None => drop(state.remove(key)?),
            }
            Ok(())
        })
    }

    fn restored(&mut self, incarnation: Incarnation) -> Result<()> {
        self.change(|this| {
            let meta = this.meta.get_mut()?;
            meta.insert(INCARNATION, incarnation.0.as_slice())?;
            Ok(())
        })
    }
}
