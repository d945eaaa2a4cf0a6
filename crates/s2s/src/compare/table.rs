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

    /// Reads on in the store's own feed, `most` entries at the most; `leaf` says what stands for the record of an entry. Returns whether the head of
    /// the snapshot is reached, so that the sum is of this very snapshot.
    ///
    /// A table that is ahead of the snapshot, because another thread has read a later one, stays as it is. One that is [not of the snapshot's
    /// history](Table::is_of) begins anew.
    ///
    /// # Errors
    /// Those of the store, and of `leaf`.
    pub(crate) fn advance<E: From<keyferry_store::Error>>(
        &mut self,
        snapshot: &dyn Snapshot,
        most: usize,
        leaf: &mut dyn FnMut(&FeedRow<'_>, &ProofKey) -> Result<Option<Leaf>, E>,
    ) -> Result<bool, E> {
        let head = snapshot.head()?;
        if self.place.number() > head.number {
            return Ok(false);
        }
        if !self.is_of(snapshot)? {
            *self = Table::new(self.key.clone());
        }
        let (mut end, mut read, mut failed) = (self.place.number(), 0, None);
        snapshot.feed(self.place.number(), &mut |row| {
            match leaf(row, &self.key) {
                Ok(leaf) => self.set(row.record, leaf),
                Err(error) => {
                    failed = Some(error);
                    return Ok(ControlFlow::Break(()));
                }
            }
            (end, read) = (row.number, read + 1);
            Ok(match read < most {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            })
        })?;
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
