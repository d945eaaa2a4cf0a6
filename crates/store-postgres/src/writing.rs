//! This module is the transaction of a write: puts and state go to the tables at once, the feed follows at the end, in the write's turn.

use crate::changes::Pending;
use crate::failure::corrupt;
use crate::rows::{INSERT_KEYS, LAST_COMMIT, REMOVE_KEYS, column, last_commit, signed, unsigned};
use crate::session::Session;
use keyferry_store::{
    Chain, Error, ErrorKind, Incarnation, Index, IndexKey, MaterialChange, Put, RecordNumber,
    Result, Transaction,
};
use std::collections::{BTreeMap, BTreeSet};

const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// The most rows of the state that are gathered before they go to the table.
const GATHERED: usize = 1000;

impl Session<'_> {
    /// Gives the feed entries their numbers and commits.
    ///
    /// The turn is the lock of a row. Another connection takes it, because the snapshot of this one is older than the last commit. In its
    /// turn a write waits for nobody: the rows that it inserts have new numbers, and those that it removes belong to records that it
    /// has changed already.
    pub(crate) fn finish(&mut self) -> Result<()> {
        if !self.changes.any {
            return Ok(());
        }
        self.write_state()?;
        if self.changes.puts.is_empty() {
            return self.commit();
        }
        let superseded: Vec<i64> = self.changes.superseded.iter().copied().collect();
        if !superseded.is_empty() {
            self.execute(
                "DELETE FROM keyferry_feed WHERE record = ANY($1)",
                &[&superseded],
            )?;
        }
        let mut turn = self.note(self.pool.begin(BEGIN))?;
        self.note(turn.query("SELECT id FROM keyferry_turn WHERE id = 1 FOR UPDATE", &[]))?;
        let (head, before) = last_commit(&self.note(turn.query(LAST_COMMIT, &[]))?)?;

        let mut chain = Chain::after(before);
        let mut newest = BTreeMap::new();
        for (number, put) in (head + 1..).zip(&self.changes.puts) {
            chain.add(&Put {
                number: None,
                id: &put.id,
                attributes: &put.attributes,
                material: MaterialChange::Keep,
                remove: &[],
                insert: &[],
                entry: &put.entry,
            });
            newest.insert(put.record, (signed(number), put.entry.as_ref()));
        }
        let (records, entries): (Vec<i64>, Vec<(i64, &[u8])>) = newest.into_iter().unzip();
        let (numbers, entries): (Vec<i64>, Vec<&[u8]>) = entries.into_iter().unzip();
        self.execute(
            "INSERT INTO keyferry_feed (number, record, entry) SELECT * FROM unnest($1::INT8[], $2::INT8[], $3::BYTEA[])",
            &[&numbers, &records, &entries],
        )?;
        let (first, last) = (
            signed(head + 1),
            signed(head + self.changes.puts.len() as u64),
        );
        let id = chain.finish();
        let sql = "INSERT INTO keyferry_commits (first, last, id) VALUES ($1, $2, $3)";
        self.execute(sql, &[&first, &last, &id.0.as_slice()])?;
        self.commit()
        // The turn ends when its connection is dropped, which rolls back.
    }

    /// Checks that the contract allows these puts, and locks the records that they change.
    fn check(&self, puts: &[Put<'_>]) -> Result<()> {
        let mut changed: Vec<i64> = puts
            .iter()
            .filter_map(|put| put.number)
            .map(|number| signed(number.0))
            .collect();
        changed.sort_unstable();
        if let Some([twice, _]) = changed
            .windows(2)
            .find_map(|pair| <[i64; 2]>::try_from(pair).ok().filter(|[a, b]| a == b))
        {
            return Err(Error::new(
                ErrorKind::Misuse,
                format_args!("record {twice} stands twice in one put"),
            ));
        }
        if puts
            .iter()
            .flat_map(|put| put.remove.iter().chain(put.insert))
            .any(|key| key.index == Index::ARRIVAL || key.key.len() > IndexKey::MAX)
        {
            return Err(Error::new(
                ErrorKind::Misuse,
                "an index key of the arrival index, or longer than 512 bytes",
            ));
        }
        if changed.is_empty() {
            return Ok(());
        }
        // They are locked in the order of their numbers, so that two writes never wait for each other.
        let sql =
            "SELECT number FROM keyferry_records WHERE number = ANY($1) ORDER BY number FOR UPDATE";
        let found = self.query(sql, &[&changed])?;
        let found = found
            .iter()
            .map(|row| column(row, 0))
            .collect::<Result<BTreeSet<i64>>>()?;
        match changed.iter().find(|number| !found.contains(number)) {
            Some(absent) => Err(Error::new(
                ErrorKind::Misuse,
                format_args!("record {absent} does not exist"),
            )),
            None => Ok(()),
        }
    }

    /// Reserves numbers for `count` new records and returns the last one.
    ///
    /// Another transaction reserves them: this one would block all others that create records until its end. The numbers of a
    /// transaction that fails stay unused.
    fn reserve_numbers(&self, count: usize) -> Result<i64> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let sql = "UPDATE keyferry_counter SET last = last + $1 WHERE id = 1 RETURNING last";
        let rows = self.note(self.pool.begin(BEGIN).and_then(|mut lease| {
            let rows = lease.query(sql, &[&count])?;
            lease.commit()?;
            Ok(rows)
        }))?;
        column(
            rows.first()
                .ok_or_else(|| corrupt("the counter of records is missing"))?,
            0,
        )
    }

    fn put_all(&mut self, puts: &[Put<'_>]) -> Result<Vec<RecordNumber>> {
        let new = puts.iter().filter(|put| put.number.is_none()).count();
        let mut next = match new {
            0 => 0,
            _ => self.reserve_numbers(new)? - new as i64,
        };
        let numbered: Vec<(&Put<'_>, i64)> = puts
            .iter()
            .map(|put| match put.number {
                Some(number) => (put, signed(number.0)),
                None => {
                    next += 1;
                    (put, next)
                }
            })
            .collect();
        self.put_records(&numbered)?;
        self.put_material(&numbered)?;
        self.put_index(&numbered)?;
        for (put, record) in &numbered {
            if put.number.is_some() {
                self.changes.superseded.insert(*record);
            }
            let (id, attributes, entry) = (put.id.into(), put.attributes.into(), put.entry.into());
            self.changes.puts.push(Pending {
                record: *record,
                id,
                attributes,
                entry,
            });
        }
        numbered
            .iter()
            .map(|(_, number)| unsigned(*number).map(RecordNumber))
            .collect()
    }

    fn put_records(&self, numbered: &[(&Put<'_>, i64)]) -> Result<()> {
        let (changed, new): (Vec<_>, Vec<_>) = numbered
            .iter()
            .copied()
            .partition(|(put, _)| put.number.is_some());
        let numbers =
            |puts: &[(&Put<'_>, i64)]| puts.iter().map(|(_, number)| *number).collect::<Vec<_>>();
        if !new.is_empty() {
            let ids: Vec<&[u8]> = new.iter().map(|(put, _)| put.id).collect();
            let attributes: Vec<&[u8]> = new.iter().map(|(put, _)| put.attributes).collect();
            self.execute(
                "INSERT INTO keyferry_records (number, id, attributes) SELECT * FROM unnest($1::INT8[], $2::BYTEA[], $3::BYTEA[])",
                &[&numbers(&new), &ids, &attributes],
            )?;
        }
        if !changed.is_empty() {
            let attributes: Vec<&[u8]> = changed.iter().map(|(put, _)| put.attributes).collect();
            self.execute(
                "UPDATE keyferry_records SET attributes = changed.attributes \
                 FROM unnest($1::INT8[], $2::BYTEA[]) AS changed (number, attributes) WHERE keyferry_records.number = changed.number",
                &[&numbers(&changed), &attributes],
            )?;
        }
        Ok(())
    }

    fn put_material(&self, numbered: &[(&Put<'_>, i64)]) -> Result<()> {
        let mut set: (Vec<i64>, Vec<&[u8]>) = Default::default();
        let mut removed = Vec::new();
        for (put, number) in numbered {
            match put.material {
                MaterialChange::Set(bytes) => {
                    set.0.push(*number);
                    set.1.push(bytes);
                }
                MaterialChange::Remove if put.number.is_some() => removed.push(*number),
                MaterialChange::Remove | MaterialChange::Keep => {}
            }
        }
        if !set.0.is_empty() {
            self.execute(
                "INSERT INTO keyferry_material (number, material) SELECT * FROM unnest($1::INT8[], $2::BYTEA[]) \
                 ON CONFLICT (number) DO UPDATE SET material = excluded.material",
                &[&set.0, &set.1],
            )?;
        }
        if !removed.is_empty() {
            self.execute(
                "DELETE FROM keyferry_material WHERE number = ANY($1)",
                &[&removed],
            )?;
        }
        Ok(())
    }

    fn put_index(&self, numbered: &[(&Put<'_>, i64)]) -> Result<()> {
        let columns = |keys: for<'a> fn(&'a Put<'_>) -> &'a [IndexKey]| {
            let mut entries: Vec<(i16, &[u8], i64)> = Vec::new();
            for (put, number) in numbered {
                entries.extend(
                    keys(put)
                        .iter()
                        .map(|key| (i16::from(key.index.0), key.key.as_ref(), *number)),
                );
            }
            entries.sort_unstable();
            entries.dedup();
            let indexes: Vec<i16> = entries.iter().map(|(index, ..)| *index).collect();
            let keys: Vec<&[u8]> = entries.iter().map(|(_, key, _)| *key).collect();
            let numbers: Vec<i64> = entries.iter().map(|(.., number)| *number).collect();
            (indexes, keys, numbers)
        };
        let (indexes, keys, numbers) = columns(|put| put.remove);
        if !keys.is_empty() {
            self.execute(REMOVE_KEYS, &[&indexes, &keys, &numbers])?;
        }
        let (indexes, keys, numbers) = columns(|put| put.insert);
        if !keys.is_empty() {
            self.execute(INSERT_KEYS, &[&indexes, &keys, &numbers])?;
        }
        Ok(())
    }
}

impl Transaction for Session<'_> {
    fn put(&mut self, puts: &[Put<'_>]) -> Result<Vec<RecordNumber>> {
        if puts.is_empty() {
            return Ok(Vec::new());
        }
        self.check(puts)?;
        self.changes.any = true;
        self.put_all(puts)
    }

    fn set_state(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        self.changes.any = true;
        let state = self.changes.state.get_mut();
        state.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        match state.len() < GATHERED {
            true => Ok(()),
            false => self.write_state(),
        }
    }

    fn restored(&mut self, incarnation: Incarnation) -> Result<()> {
        self.changes.any = true;
        let value = incarnation.0.as_slice();
        self.execute(
            "UPDATE keyferry_meta SET value = $1 WHERE name = 'incarnation'",
            &[&value],
        )?;
        Ok(())
    }
}
