//! The leaves of one side of a comparison, kept in memory by record number and brought up to date from the store's own feed.

use crate::compare::leaf::{CopySum, LeafSum, ProofKey};
use crate::compare::sketch::Leaf;
use crate::transport_key::is_transport_key;
use crate::wire::place::Place;
use keyferry_kmip::Text;
use keyferry_store::{FeedRow, ObjectId, Record, RecordNumber, Result, Snapshot, Stamp};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;

/// How many leaves one page of a table has: a table of few objects among many has small pages of them.
const PAGE: usize = 64;

/// What stands for a record that is no member. A real leaf is a keyed hash, and never this one.
const NONE: Leaf = Leaf {
    object: [0; 8],
    copy: [0; 8],
};

/// The leaves of the records that belong to a comparison: 16 bytes each.
pub(crate) struct Table {
    key: ProofKey,
    /// The place in the store's own feed up to which it was read.
    place: Place,
    pages: BTreeMap<u64, Box<[Leaf; PAGE]>>,
    sum: LeafSum,
    /// Leaves that belong to the comparison beside those of the records: what was told of objects that are not held so.
    listed: HashMap<ObjectId, Leaf>,
    /// The other servers where objects were made that were looked at.
    origins: BTreeSet<Text>,
    /// On what it depended which copies are kept true here, and those of which it is noted one by one that they are not, when that was looked at last.
    doubts: Option<([u8; 32], HashSet<ObjectId>)>,
}

impl Table {
    pub(crate) fn new(key: ProofKey) -> Table {
        Table {
            key,
            place: Place::default(),
            pages: BTreeMap::new(),
            sum: LeafSum::default(),
            listed: HashMap::new(),
            origins: BTreeSet::new(),
            doubts: None,
        }
    }

    /// Notes which copies are not kept true here. Returns those whose leaves are to be looked at anew; all are, where it depends on something else now
    /// who keeps which.
    pub(crate) fn doubt(&mut self, digest: [u8; 32], listed: &HashSet<ObjectId>) -> Vec<ObjectId> {
        let mut changed = Vec::new();
        match &self.doubts {
            Some((known, before)) if *known == digest => {
                changed = before.symmetric_difference(listed).cloned().collect();
            }
            Some(_) => *self = Table::new(self.key.clone()),
            None => {}
        }
        self.doubts = Some((digest, listed.clone()));
        changed
    }

    /// Whether an object that was looked at was made at this server.
    pub(crate) fn has_origin(&self, server: &Text) -> bool {
        self.origins.contains(server)
    }

    pub(crate) fn add_origins(&mut self, origins: BTreeSet<Text>) {
        self.origins.extend(origins);
    }

    pub(crate) fn key(&self) -> &ProofKey {
        &self.key
    }

    /// The place in the store's own feed up to which it was read.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The sum of the leaves.
    pub(crate) fn sum(&self) -> LeafSum {
        self.sum
    }

    /// The leaves.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = Leaf> {
        let pages = self.pages.values();
        pages
            .flat_map(|page| page.iter().copied())
            .filter(|leaf| *leaf != NONE)
            .chain(self.listed.values().copied())
    }

    /// Sets the leaf of an object that no record stands for as it was told, or removes it.
    pub(crate) fn list(&mut self, id: ObjectId, leaf: Option<Leaf>) {
        let before = match leaf {
            Some(leaf) => self.listed.insert(id, leaf),
            None => self.listed.remove(&id),
        };
        if let Some(before) = before {
            self.sum.remove(&self.key, before);
        }
        if let Some(leaf) = leaf {
            self.sum.add(&self.key, leaf);
        }
    }

    /// The objects with listed leaves that are about these objects.
    pub(crate) fn find_listed(&self, is_wanted: impl Fn(&[u8; 8]) -> bool) -> Vec<ObjectId> {
        let wanted = self
            .listed
            .iter()
            .filter(|(_, leaf)| is_wanted(&leaf.object));
        wanted.map(|(id, _)| id.clone()).collect()
    }

    /// Whether the table stands in the history of this snapshot, or ahead of it. One that does not is of no use: the store was put back.
    pub(crate) fn is_of(&self, snapshot: &dyn Snapshot) -> Result<bool> {
        Ok(self.place.number() > snapshot.head()?.number || self.place.is_of(snapshot)?)
    }

    /// The records whose leaves are about these objects.
    pub(crate) fn find(&self, is_wanted: impl Fn(&[u8; 8]) -> bool) -> Vec<RecordNumber> {
        let mut found = Vec::new();
        for (page, leaves) in &self.pages {
            for (at, leaf) in (0..).zip(leaves.iter()) {
                if *leaf != NONE && is_wanted(&leaf.object) {
                    found.push(RecordNumber(page * PAGE as u64 + at));
                }
            }
        }
        found
    }

    /// Sets the leaf of a record, or removes it.
    pub(crate) fn set(&mut self, number: RecordNumber, leaf: Option<Leaf>) {
        let (page, at) = (
            number.0 / PAGE as u64,
            usize::try_from(number.0 % PAGE as u64).unwrap_or_default(),
        );
        if leaf.is_none() && !self.pages.contains_key(&page) {
            return;
        }
        let leaves = self
            .pages
            .entry(page)
            .or_insert_with(|| Box::new([NONE; PAGE]));
        let Some(held) = leaves.get_mut(at) else {
            return;
        };
        let before = std::mem::replace(held, leaf.unwrap_or(NONE));
        if before == *held {
            return;
        }
        if before != NONE {
            self.sum.remove(&self.key, before);
        }
        if let Some(leaf) = leaf {
            self.sum.add(&self.key, leaf);
        }
        if leaves.iter().all(|leaf| *leaf == NONE) {
            self.pages.remove(&page);
        }
    }

    /// Takes what is known already of all entries that stand in the store's own feed between the place of the table and `end`.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn take(
        &mut self,
        snapshot: &dyn Snapshot,
        leaves: impl IntoIterator<Item = (RecordNumber, Option<Leaf>)>,
        end: u64,
    ) -> Result<()> {
        leaves
            .into_iter()
            .for_each(|(number, leaf)| self.set(number, leaf));
        self.place = Place::at(snapshot, end)?;
        Ok(())
    }

    /// Reads on in the store's own feed, `most` entries at the most, and none behind the number `to`; `leaf` says what stands for the record of an entry.
    /// Returns whether the head of the snapshot is reached, so that the sum is of this very snapshot.
    ///
    /// A table that is ahead of the snapshot, because another thread has read a later one, stays as it is. One that is [not of the snapshot's
    /// history](Table::is_of) begins anew.
    ///
    /// # Errors
    /// Those of the store, and of `leaf`.
    pub(crate) fn advance<E: From<keyferry_store::Error>>(
        &mut self,
        snapshot: &dyn Snapshot,
        (most, to): (usize, u64),
        leaf: &mut dyn FnMut(&FeedRow<'_>, &ProofKey) -> Result<Option<Leaf>, E>,
    ) -> Result<bool, E> {
        let head = snapshot.head()?;
        if self.place.number() > head.number {
            return Ok(false);
        }
        if !self.is_of(snapshot)? {
            *self = Table::new(self.key.clone());
        }
        let (mut end, mut rows) = (self.place.number(), Vec::new());
        // What stands for a record is asked of the snapshot, too, so the rows come first.
        if end < to.min(head.number) {
            snapshot.feed(end, &mut |row| {
                let is_within = row.number <= to;
                if is_within {
                    rows.push((row.number, row.record, row.entry.to_vec()));
                }
                Ok(match is_within && rows.len() < most {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                })
            })?;
        }
        let mut failed = None;
        for (number, record, entry) in &rows {
            let row = FeedRow {
                number: *number,
                record: *record,
                entry,
            };
            match leaf(&row, &self.key) {
                Ok(leaf) => self.set(*record, leaf),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
            end = *number;
        }
        self.place = Place::at(snapshot, end)?;
        match failed {
            Some(error) => Err(error),
            None => Ok(end == head.number),
        }
    }
}

/// What an answer tells of objects, so that their records need not be read again.
pub(crate) type Told = HashMap<ObjectId, (Stamp, CopySum)>;

/// Whether an object is among those that followers compare. A tombstone goes only where the object was offered, and a transport key where it is
/// used.
pub(crate) fn is_compared(record: &Record) -> bool {
    !record.is_destroyed() && !record.is_withdrawn() && !is_transport_key(record)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::compare::leaf::KEY_BYTES;
    use crate::testing::TestServer;
    use keyferry_store::{Error, Memory, SnapshotExt, Store, StoreExt};

    fn table() -> Table {
        Table::new(ProofKey::new([1; KEY_BYTES]))
    }

    fn leaf(n: u8) -> Leaf {
        Leaf {
            object: [n; 8],
            copy: [n + 100; 8],
        }
    }

    /// Every record is a member, by its number.
    fn advance(table: &mut Table, store: &Memory, most: usize) -> bool {
        let mut whole = false;
        store
            .read(&mut |snapshot| {
                let of = &mut |row: &FeedRow<'_>, _: &ProofKey| {
                    Ok::<_, Error>(Some(leaf(row.record.0 as u8 + 1)))
                };
                whole = table.advance(snapshot, (most, u64::MAX), of)?;
                Ok(())
            })
            .unwrap();
        whole
    }

    fn sum(leaves: impl IntoIterator<Item = u8>) -> LeafSum {
        let mut sum = LeafSum::default();
        let key = ProofKey::new([1; KEY_BYTES]);
        leaves.into_iter().for_each(|n| sum.add(&key, leaf(n)));
        sum
    }

    #[test]
    fn each_record_has_a_leaf_of_its_own_across_pages() {
        let mut table = table();
        let numbers = [0, 1, 63, 64, 65, 200];
        for (n, number) in (1..).zip(numbers) {
            table.set(RecordNumber(number), Some(leaf(n)));
        }
        assert_eq!((table.sum(), table.pages.len()), (sum(1..=6), 3));
        let mut all: Vec<Leaf> = table.leaves().collect();
        all.sort();
        assert_eq!(all, (1..=6).map(leaf).collect::<Vec<_>>());
        let found = table.find(|tag| [[2; 8], [5; 8], [9; 8]].contains(tag));
        assert_eq!(found, [RecordNumber(1), RecordNumber(65)]);
        // Another leaf takes the place of one; what is not there can't go.
        table.set(RecordNumber(64), Some(leaf(7)));
        table.set(RecordNumber(64), Some(leaf(7)));
        assert_eq!(table.sum(), sum([1, 2, 3, 7, 5, 6]));
        for number in [64, 65, 66, 300] {
            table.set(RecordNumber(number), None);
        }
        assert_eq!((table.sum(), table.pages.len()), (sum([1, 2, 3, 6]), 2));
    }

    #[test]
    fn what_is_listed_counts_beside_the_records() {
        let server = TestServer::new(|peer| peer);
        let ids = ["x", "xx"].map(|name| server.key(name, Vec::new()));
        let mut table = table();
        table.set(RecordNumber(1), Some(leaf(1)));
        table.list(ids[0].clone(), Some(leaf(2)));
        table.list(ids[1].clone(), Some(leaf(3)));
        assert_eq!((table.sum(), table.leaves().count()), (sum([1, 2, 3]), 3));
        assert_eq!(table.find_listed(|tag| *tag == [3; 8]), [ids[1].clone()]);
        table.list(ids[0].clone(), Some(leaf(4)));
        assert_eq!(table.sum(), sum([1, 4, 3]));
        table.list(ids[0].clone(), None);
        table.list(ids[0].clone(), None);
        assert_eq!((table.sum(), table.leaves().count()), (sum([1, 3]), 2));
    }

    #[test]
    fn the_feed_is_read_in_parts_and_anew_in_another_history() {
        let server = TestServer::new(|peer| peer);
        let older = server.store.clone();
        (1..=5).for_each(|n| drop(server.key(&"x".repeat(n), Vec::new())));
        let mut table = table();
        assert!(!advance(&mut table, &server.store, 2));
        assert_eq!(table.sum().count, 2);
        assert!(!advance(&mut table, &server.store, 2));
        assert!(advance(&mut table, &server.store, 2));
        assert_eq!((table.sum().count, table.place().number()), (5, 5));
        assert!(advance(&mut table, &server.store, 2), "nothing new");
        // One that has read a later snapshot waits for the earlier one to be over.
        let is_of =
            |table: &Table, store: &Memory| store.view(|snapshot| table.is_of(snapshot)).unwrap();
        assert!(is_of(&table, &older) && !advance(&mut table, &older, 9));
        assert_eq!(table.sum().count, 5);
        // The store was put back, and went another way.
        let other = TestServer {
            store: older,
            ..TestServer::new(|peer| peer)
        };
        (1..=6).for_each(|n| drop(other.key(&"y".repeat(n), Vec::new())));
        assert!(!is_of(&table, &other.store));
        assert!(advance(&mut table, &other.store, 9));
        assert_eq!(table.sum().count, 6);
    }

    #[test]
    fn the_feed_is_read_up_to_a_number() {
        let server = TestServer::new(|peer| peer);
        (1..=5).for_each(|n| drop(server.key(&"x".repeat(n), Vec::new())));
        let mut table = table();
        for (to, at) in [(0, 0), (2, 2), (1, 2), (4, 4), (9, 5)] {
            let mut whole = false;
            server
                .store
                .read(&mut |snapshot| {
                    let of = &mut |row: &FeedRow<'_>, _: &ProofKey| {
                        Ok::<_, Error>(Some(leaf(row.record.0 as u8 + 1)))
                    };
                    whole = table.advance(snapshot, (9, to), of)?;
                    Ok(())
                })
                .unwrap();
            assert_eq!((table.place().number(), table.sum().count), (at, at as i64));
            assert_eq!(whole, at == 5);
        }
        // What is known already of the next ones is taken without reading them.
        let known = server.store.view::<_, Error>(|snapshot| {
            let mut other = Table::new(ProofKey::new([1; KEY_BYTES]));
            let leaves = (1..=3).map(|n| (RecordNumber(n), Some(leaf(n as u8 + 1))));
            other.take(snapshot, leaves, 3)?;
            assert_eq!((other.place().number(), other.sum()), (3, sum(2..=4)));
            let of = &mut |row: &FeedRow<'_>, _: &ProofKey| {
                assert!(row.number > 3);
                Ok::<_, Error>(Some(leaf(row.record.0 as u8 + 1)))
            };
            assert!(other.advance(snapshot, (9, u64::MAX), of)?);
            Ok(other.sum())
        });
        assert_eq!(known.unwrap(), table.sum());
    }

    #[test]
    fn an_error_stops_where_it_happened() {
        let server = TestServer::new(|peer| peer);
        (1..=3).for_each(|n| drop(server.key(&"x".repeat(n), Vec::new())));
        let (mut table, mut seen) = (table(), 0);
        let failed = server.store.read(&mut |snapshot| {
            seen = 0;
            let of = &mut |_: &FeedRow<'_>, _: &ProofKey| {
                seen += 1;
                match seen {
                    2 => Err(Error::aborted()),
                    n => Ok(Some(leaf(n))),
                }
            };
            table.advance(snapshot, (9, u64::MAX), of).map(drop)
        });
        assert!(failed.is_err());
        assert_eq!((table.sum().count, table.place().number()), (1, 1));
        assert!(advance(&mut table, &server.store, 9));
        assert_eq!(table.sum().count, 3);
    }

    #[test]
    fn doubts_change_what_is_looked_at_anew() {
        let server = TestServer::new(|peer| peer);
        let ids: Vec<ObjectId> = (1..=3)
            .map(|n| server.key(&"x".repeat(n), Vec::new()))
            .collect();
        let listed = |ids: &[ObjectId]| ids.iter().cloned().collect::<HashSet<_>>();
        let mut table = table();
        table.set(RecordNumber(1), Some(leaf(1)));
        // What is read from the beginning is looked at anyway.
        assert_eq!(table.doubt([1; 32], &listed(&ids[..2])), []);
        assert_eq!(table.doubt([1; 32], &listed(&ids[..2])), []);
        let mut changed = table.doubt([1; 32], &listed(&ids[1..]));
        changed.sort_by(|one, other| one.identifier.cmp(&other.identifier));
        assert_eq!(changed, [ids[0].clone(), ids[2].clone()]);
        assert_eq!(table.sum(), sum([1]));
        assert_eq!(table.doubt([2; 32], &listed(&ids[1..])), []);
        assert_eq!(table.sum(), sum([]), "it is read from the beginning");
    }

    #[test]
    fn an_origin_is_known_once_it_was_seen() {
        let mut table = table();
        assert!(!table.has_origin(&"c".into()));
        table.add_origins(["c".into()].into_iter().collect());
        assert!(table.has_origin(&"c".into()) && !table.has_origin(&"d".into()));
        let server = TestServer::new(|peer| peer);
        let id = server.key("x", Vec::new());
        let found = server.asking(|ask| ask.snapshot.by_object_id(&id));
        assert!(is_compared(&found.unwrap().unwrap().1));
    }
}
