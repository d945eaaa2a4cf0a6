//! The slow reading of the whole store, which finds what has changed by itself since it was written ([rule 17](crate::design#rule-17)).

use crate::error::{Error, Result};
use crate::node::Node;
use crate::relation::keys;
use crate::relation::mended::{is_indexed, mend, mend_feed};
use crate::relation::receipts::Receipts;
use crate::relation::rotten::{RottenRecord, Scrub, readable};
use keyferry_kmip::DateTime;
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{
    Effects, ErrorKind, Index, ObjectId, Order, RecordNumber, Snapshot, SnapshotExt, Span, Store,
    StoreExt,
};
use keyferry_ttlv::Extra;
use std::collections::HashSet;
use std::ops::ControlFlow;

/// What one part of the reading has found.
struct Part {
    /// The number of the record behind the last one that was read; `None` at the end of the store.
    next: Option<u64>,
    /// What was read, and what is wrong with it.
    looked_at: Vec<(RecordNumber, Option<RottenRecord>)>,
    /// Records to which an index entry does not lead that should.
    unindexed: Vec<RecordNumber>,
}

/// What is wrong with a record.
enum Fault {
    /// It is not what was written. The object, where that can be told, and why.
    Rotten(Option<ObjectId>, String),
    /// It is right, and an index entry of it is not.
    Unindexed,
}

impl Node {
    /// Reads the next `most` records of the store, with their material, and finds out whether they are what was written: that the store can read them,
    /// that the material is that of the fingerprint, and that one of its receipts is of a copy. What is rotten is listed ([`RottenRecord`]); a
    /// following session has its keeper send it again. It reads as many entries of the feed, and all index entries of these records; those that have
    /// rotted are made anew from the record ([`Scrub::mended`]). Returns how far it has come; behind the last record it begins anew.
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
        for number in &part.unindexed {
            mend(store, *number)?;
        }
        let fed = u64::try_from(scrub.fed.unwrap_or(0)).unwrap_or(0);
        scrub.fed = i64::try_from(mend_feed(store, fed, most)?).ok();
        scrub.next = part
            .next
            .and_then(|next| i64::try_from(next).ok())
            .unwrap_or(0);
        if part.next.is_none() {
            scrub.last_pass = Some(now);
        }
        store.transact::<_, Error>(|transaction| {
            // Sessions make entries anew, too.
            let mended = Scrub::of(transaction)?.mended;
            let scrub = Scrub {
                mended,
                ..scrub.clone()
            };
            let (key, value) = scrub.entry()?;
            transaction.set_state(&key, value.as_deref())?;
            effects.apply(transaction)?;
            Ok(scrub)
        })
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
        let rotten = |number, id, why: &str| rotten(number, id, (why, now));
        let mut looked_at = Vec::with_capacity(numbers.len());
        let mut unindexed = Vec::new();
        for number in &numbers {
            let found = match self.fault(snapshot, *number)? {
                Some(Fault::Rotten(id, why)) => Some(rotten(*number, id, &why)),
                Some(Fault::Unindexed) => {
                    unindexed.push(*number);
                    None
                }
                None => None,
            };
            looked_at.push((*number, found));
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
        Ok(Part {
            next,
            looked_at,
            unindexed,
        })
    }

    /// What is wrong with a record.
    fn fault(&self, snapshot: &dyn Snapshot, number: RecordNumber) -> Result<Option<Fault>> {
        let whole = match snapshot.whole(number) {
            Ok(whole) => whole,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let remains = readable(snapshot.remains(number))?.flatten();
                let id =
                    remains.and_then(|remains| read::<ObjectId>(&remains.id, "object id").ok());
                return Ok(Some(Fault::Rotten(id, error.to_string())));
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
        let has_material = record.is_destroyed() || record.is_withdrawn() || object.is_some();
        let why = if !is_of_fingerprint {
            "the material is not that of its fingerprint"
        } else if !has_material && record.fingerprint.is_some() {
            "the material is not there any more"
        } else if Receipts::are_of_another_copy(snapshot, &record)? {
            "no receipt that came with the copy is of it"
        } else {
            let is_indexed = is_indexed(snapshot, number, &record)?;
            return Ok((!is_indexed).then_some(Fault::Unindexed));
        };
        Ok(Some(Fault::Rotten(Some(record.id), why.to_owned())))
    }
}

fn rotten(
    number: RecordNumber,
    id: Option<ObjectId>,
    (why, since): (&str, DateTime),
) -> RottenRecord {
    RottenRecord {
        number: i64::try_from(number.0).unwrap_or(i64::MAX),
        id,
        why: why.into(),
        since,
        extra: Extra::NONE,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::testing::TestServer;
    use keyferry_kmip::spec::State;
    use keyferry_store::{Material, Overlay, Record};

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
        // What is not there any more is missed, as long as the object is in use.
        let change = |state: Option<State>, withdrawn: Option<bool>| {
            let found = server.asking(|ask| ask.snapshot.by_object_id(&id));
            let (number, held) = found.unwrap().unwrap();
            let mut after = held.clone();
            after.overlay = Some(Overlay {
                state,
                withdrawn,
                ..Overlay::default()
            });
            server.apply(Effects::change(
                Some((number, held)),
                after,
                Material::Remove,
            ));
        };
        change(None, None);
        assert_eq!(scrub(&server, 100, 8).found, 2);
        assert!(listed(&server)[0].why.contains("not there any more"));
        change(None, Some(true));
        assert_eq!(scrub(&server, 100, 8).found, 2);
        change(Some(State::DESTROYED), None);
        let read = scrub(&server, 100, 8);
        assert_eq!((read.found, listed(&server)), (2, Vec::new()));
        change(None, None);
        // Without a fingerprint there is nothing to compare.
        set(&server, &id, |record| record.fingerprint = None);
        assert_eq!(scrub(&server, 100, 8).found, 2);
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
}
