//! Records that have changed by themselves since they were written, as the slow reading of the whole store finds them
//! ([rule 17](crate::design#rule-17)). The server that keeps a copy true is asked for it again; what this server issues itself is named for a person.

use crate::error::{Error, Result};
use crate::node::Node;
use crate::relation::keys::{self, ROTTEN};
use crate::relation::receipts::Receipts;
use crate::relation::stored;
use keyferry_kmip::{DateTime, Text, extension as x};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{
    Effects, ErrorKind, Index, ObjectId, Order, RecordNumber, Snapshot, SnapshotExt, Span, Store,
    StoreExt,
};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// A record that is not what was written, or can't be read.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::ROTTEN)]
#[non_exhaustive]
pub struct RottenRecord {
    /// Its record number in this store.
    #[ttlv(tag = x::POSITION_NUMBER)]
    pub number: i64,
    /// The object, where that can still be told.
    pub id: Option<ObjectId>,
    /// What is wrong with it.
    #[ttlv(tag = x::WHY)]
    pub why: Text,
    /// When it was found.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// How far the slow reading of the whole store has come.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[ttlv(tag = x::SCRUB)]
#[non_exhaustive]
pub struct Scrub {
    /// The number of the record that is read next.
    #[ttlv(tag = x::POSITION_NUMBER)]
    pub next: i64,
    /// When all records had been read for the last time.
    #[ttlv(tag = x::LAST_FULL_PASS)]
    pub last_pass: Option<DateTime>,
    /// How many records were found rotten, ever.
    #[ttlv(tag = x::COUNT_FAILED)]
    pub found: i64,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl Scrub {
    /// How far it has come.
    ///
    /// # Errors
    /// Those of the store.
    pub fn of(snapshot: &dyn Snapshot) -> Result<Scrub> {
        let stored = snapshot.state_value(keys::SCRUB)?;
        Ok(stored
            .map(|bytes| read(&bytes, "scrub"))
            .transpose()?
            .unwrap_or_default())
    }
}

/// What one part of the reading has found.
struct Part {
    /// The number of the record behind the last one that was read; `None` at the end of the store.
    next: Option<u64>,
    /// What was read, and what is wrong with it.
    looked_at: Vec<(RecordNumber, Option<RottenRecord>)>,
}

impl RottenRecord {
    /// The records that were found rotten and are not right again yet, as many as [`Limits::rotten`](crate::Limits::rotten) keeps.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<RottenRecord>> {
        stored::all_under(snapshot, ROTTEN, "rotten record")
    }

    /// The number of the record.
    pub(crate) fn record_number(&self) -> RecordNumber {
        RecordNumber(u64::try_from(self.number).unwrap_or(0))
    }
}

impl Node {
    /// Reads the next `most` records of the store, with their material, and finds out whether they are what was written: that the store can read them,
    /// that the material is that of the fingerprint, and that one of its receipts is of a copy. What is rotten is listed ([`RottenRecord`]); a
    /// following session has its keeper send it again. Returns how far it has come; behind the last record it begins anew.
    ///
    /// To be called from time to time: with 1000 records every minute a store of 10⁶ objects is read in 17 hours.
    ///
    /// # Errors
    /// Those of the store.
    pub fn scrub(&self, store: &dyn Store, most: usize, now: DateTime) -> Result<Scrub> {
        let (scrub, part, listed) = store.view::<_, Error>(|snapshot| {
            let scrub = Scrub::of(snapshot)?;
            let from = u64::try_from(scrub.next).unwrap_or(0);
            let part = self.read_part(snapshot, from, most, now)?;
            Ok((scrub, part, RottenRecord::all(snapshot)?))
        })?;
        let mut scrub = scrub;
        let mut effects = Effects::none();
        let mut listed: HashSet<RecordNumber> =
            listed.iter().map(RottenRecord::record_number).collect();
        for (number, rotten) in &part.looked_at {
            let key = keys::rotten(*number);
            match (listed.contains(number), rotten) {
                (false, Some(rotten)) if listed.len() < self.policy.limits.rotten => {
                    listed.insert(*number);
                    scrub.found += 1;
                    effects.state.push((key, Some(bytes_of(rotten)?)));
                }
                (true, None) => effects.state.push((key, None)),
                _ => {}
            }
        }
        scrub.next = part
            .next
            .and_then(|next| i64::try_from(next).ok())
            .unwrap_or(0);
        if part.next.is_none() {
            scrub.last_pass = Some(now);
        }
        effects
            .state
            .push((keys::SCRUB.to_vec(), Some(bytes_of(&scrub)?)));
        store.transact::<_, Error>(|transaction| Ok(effects.apply(transaction).map(drop)?))?;
        Ok(scrub)
    }

    fn read_part(
        &self,
        snapshot: &dyn Snapshot,
        from: u64,
        most: usize,
        now: DateTime,
    ) -> Result<Part> {
        let mut numbers = Vec::new();
        let span = Span {
            from: from.to_be_bytes().to_vec(),
            to: None,
        };
        let order = Order::Ascending;
        let listed = snapshot.scan(Index::ARRIVAL, &span, order, None, &mut |_, number| {
            numbers.push(number);
            Ok(match numbers.len() < most {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            })
        });
        let rotten = |number: RecordNumber, id, why: &str| RottenRecord {
            number: i64::try_from(number.0).unwrap_or(i64::MAX),
            id,
            why: why.into(),
            since: now,
            extra: Extra::NONE,
        };
        let mut looked_at = Vec::with_capacity(numbers.len());
        for number in &numbers {
            let found = self.fault(snapshot, *number)?;
            looked_at.push((*number, found.map(|(id, why)| rotten(*number, id, &why))));
        }
        let mut next = (numbers.len() >= most)
            .then(|| numbers.last().map(|last| last.0.saturating_add(1)))
            .flatten();
        // A record that is gone, though its check is there, ends the list.
        if let Err(error) = listed {
            let Some(number) = error
                .record()
                .filter(|_| error.kind() == ErrorKind::Corrupt)
            else {
                return Err(error.into());
            };
            let gone = RecordNumber(number);
            looked_at.push((gone, Some(rotten(gone, None, &error.to_string()))));
            next = Some(number.saturating_add(1));
        }
        Ok(Part { next, looked_at })
    }

    /// What is wrong with a record, and of which object it is, where that can be told.
    fn fault(
        &self,
        snapshot: &dyn Snapshot,
        number: RecordNumber,
    ) -> Result<Option<(Option<ObjectId>, String)>> {
        let whole = match snapshot.whole(number) {
            Ok(whole) => whole,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let remains = readable(snapshot.remains(number))?.flatten();
                let id =
                    remains.and_then(|remains| read::<ObjectId>(&remains.id, "object id").ok());
                return Ok(Some((id, error.to_string())));
            }
            Err(error) => return Err(error.into()),
        };
        let Some((record, object)) = whole else {
            return Ok(None);
        };
        let is_of_fingerprint = match (&object, &record.fingerprint) {
            (Some(object), Some(fingerprint)) => self
                .fingerprint(object)
                .is_ok_and(|own| own == *fingerprint),
            _ => true,
        };
        let why = if !is_of_fingerprint {
            "the material is not that of its fingerprint"
        } else if Receipts::are_of_another_copy(snapshot, &record)? {
            "no receipt that came with the copy is of it"
        } else {
            return Ok(None);
        };
        Ok(Some((Some(record.id), why.to_owned())))
    }
}

/// What was read, or nothing where the store says that it has rotted.
pub(crate) fn readable<T>(read: keyferry_store::Result<T>) -> keyferry_store::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::testing::TestServer;
    use keyferry_store::{Material, Record};

    fn scrub(server: &TestServer, most: usize, now: i64) -> Scrub {
        let read = server.node.scrub(&server.store, most, DateTime(now));
        let read = read.unwrap();
        assert_eq!(server.asking(|ask| Scrub::of(ask.snapshot)).unwrap(), read);
        read
    }

    fn listed(server: &TestServer) -> Vec<RottenRecord> {
        server
            .asking(|ask| RottenRecord::all(ask.snapshot))
            .unwrap()
    }

    fn set(server: &TestServer, id: &ObjectId, change: impl Fn(&mut Record)) {
        let found = server.asking(|ask| ask.snapshot.by_object_id(id));
        let (number, held) = found.unwrap().unwrap();
        let mut after = held.clone();
        change(&mut after);
        server.apply(Effects::change(Some((number, held)), after, Material::Keep));
    }

    #[test]
    fn a_pass_goes_on_where_the_last_part_ended_and_begins_anew() {
        let server = TestServer::new(|peer| peer);
        assert_eq!(
            scrub(&server, 3, 10).last_pass,
            Some(DateTime(10)),
            "nothing to read"
        );
        for n in 0..7 {
            server.key(&"x".repeat(n + 1), Vec::new());
        }
        let parts: Vec<_> = (20..25)
            .map(|now| scrub(&server, 3, now))
            .map(|read| (read.next, read.last_pass.unwrap().0))
            .collect();
        // Numbers from the first record's on.
        let first = parts[0].0 - 3;
        let expected = [(3, 10), (6, 10), (0, 22), (3, 22), (6, 22)];
        let expected =
            expected.map(|(next, pass)| (if next == 0 { 0 } else { first + next }, pass));
        assert_eq!(parts, expected);
        assert_eq!(
            (scrub(&server, 3, 30).found, listed(&server)),
            (0, Vec::new())
        );
    }

    #[test]
    fn a_part_that_ends_with_the_last_record_is_followed_by_an_empty_one() {
        let server = TestServer::new(|peer| peer);
        (0..3).for_each(|n| drop(server.key(&"x".repeat(n + 1), Vec::new())));
        assert_eq!(scrub(&server, 3, 1).last_pass, None);
        let end = scrub(&server, 3, 2);
        assert_eq!((end.next, end.last_pass), (0, Some(DateTime(2))));
    }

    #[test]
    fn what_is_rotten_is_listed_once_until_it_is_right_again() {
        let server = TestServer::new(|peer| peer);
        let (id, _) = (
            server.key("one", Vec::new()),
            server.key("other", Vec::new()),
        );
        let right = server.record(&id).unwrap().fingerprint;
        set(&server, &id, |record| {
            record.fingerprint = Some(vec![1; 16])
        });
        for now in [5, 6] {
            assert_eq!(scrub(&server, 100, now).found, 1);
        }
        let named = &listed(&server)[0];
        assert_eq!((named.id.as_ref(), named.since), (Some(&id), DateTime(5)));
        assert!(named.why.contains("fingerprint"), "{}", named.why);
        let found = server.asking(|ask| ask.snapshot.by_object_id(&id)).unwrap();
        assert_eq!(named.record_number(), found.unwrap().0);
        set(&server, &id, |record| record.fingerprint = right.clone());
        let read = scrub(&server, 100, 7);
        assert_eq!((read.found, listed(&server)), (1, Vec::new()));
        // Without a fingerprint there is nothing to compare.
        set(&server, &id, |record| record.fingerprint = None);
        assert_eq!(scrub(&server, 100, 8).found, 1);
    }

    #[test]
    fn so_many_are_kept_by_name_and_the_others_are_found_later() {
        let mut server = TestServer::new(|peer| peer);
        server.node.policy.limits.rotten = 2;
        let ids: Vec<ObjectId> = (1..=4)
            .map(|n| server.key(&"x".repeat(n), Vec::new()))
            .collect();
        for id in &ids {
            set(&server, id, |record| record.fingerprint = Some(vec![1; 16]));
        }
        let names = |server: &TestServer| -> Vec<ObjectId> {
            let listed = listed(server).into_iter();
            listed.filter_map(|one| one.id).collect()
        };
        assert_eq!(scrub(&server, 100, 5).found, 2);
        assert_eq!(names(&server), ids[..2]);
        set(&server, &ids[0], |record| record.fingerprint = None);
        scrub(&server, 100, 6);
        assert_eq!(scrub(&server, 100, 7).found, 3);
        assert_eq!(names(&server), ids[1..3]);
    }

    #[test]
    fn only_rot_is_nothing() {
        let error = |kind| Err::<u8, _>(keyferry_store::Error::new(kind, "on order"));
        assert_eq!(readable(Ok(1)).unwrap(), Some(1));
        assert_eq!(readable(error(ErrorKind::Corrupt)).unwrap(), None);
        assert_eq!(
            readable(error(ErrorKind::Io)).unwrap_err().kind(),
            ErrorKind::Io
        );
    }
}
