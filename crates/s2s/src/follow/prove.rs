//! The issuer's side of the comparison: what an answer that reaches the head says about all that was told in the relation
//! ([rule 17](crate::design#rule-17)).
//!
//! The leaves stand in a table in memory. Followers with the same terms share one, whatever their number, and each answer takes it a bit further
//! through the feed. It holds what the terms let through and is not destroyed; what a single follower lacks all the same, that one lists.

use crate::ask::Ask;
use crate::compare::leaf::{CopySum, ProofKey};
use crate::compare::sketch::{Key, Leaf, cells, to_bytes};
use crate::compare::table::{Table, is_compared};
use crate::follow::form::leave_out;
use crate::follow::page::ChangesBuilder;
use crate::relation::followed::Downstream;
use crate::relation::rotten::readable;
use crate::selection::Selection;
use crate::wire::follow::{FollowRequest, SPOKEN};
use crate::wire::proof::SetProof;
use keyferry_kmip::{Cause, Failure, Text, context, extension as x};
use keyferry_store::record::read;
use keyferry_store::{Entry, ObjectId, Record, RecordNumber, SnapshotExt};
use keyferry_ttlv::{Encode, Extra, Tagged, Writer};
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

/// Feed entries that one answer takes a table further, beside those that the answer itself tells of; not behind where the answer ends.
const ENTRIES: usize = 4096;

/// Cells of a sketch that one answer has at the most. A changed object takes about 2.8 of them, one that only one side has, half of that.
pub(super) const MOST_CELLS: u32 = 1 << 16;

/// Who shares a table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// All followers that get the objects which this server issues, by the same terms.
    Alike,
    /// One server alone: it is not told of what it issues itself, nor of what was once its own.
    Alone,
}

impl ChangesBuilder<'_> {
    /// What an answer says about all that was told; `None` when another answer is using the table of these terms. The table goes a bit further with
    /// each answer, and the sum is told where both have reached the head.
    pub(super) fn prove(
        &self,
        ask: &Ask<'_>,
        downstream: &Downstream,
        request: &FollowRequest,
        reaches_head: bool,
    ) -> Result<Option<SetProof>, Failure> {
        for sharing in self.sharings() {
            let table = self.table(ask, downstream, *sharing)?;
            let Ok(mut table) = table.try_lock() else {
                return Ok(None);
            };
            let is_whole = self.take_further(ask, &mut table, request, *sharing)?;
            if *sharing == Sharing::Alone || !table.has_origin(&self.peer.server) {
                return Ok(Some(proof(&table, request, is_whole && reaches_head)));
            }
        }
        Ok(None)
    }

    /// The objects that the follower names by the tags of their leaves.
    ///
    /// # Errors
    /// [`Cause::InvalidField`] for what is no tag, and those of the store.
    pub(super) fn wanted(
        &self,
        ask: &Ask<'_>,
        downstream: &Downstream,
        tags: &[Vec<u8>],
    ) -> Result<Vec<ObjectId>, Failure> {
        let mut wanted: HashSet<[u8; 8]> = HashSet::new();
        for tag in tags {
            wanted.insert(tag.as_slice().try_into().map_err(|_| {
                Failure::new(Cause::InvalidField, "the tag of an object has 8 bytes")
            })?);
        }
        let mut ids = Vec::new();
        for sharing in self.sharings().iter().filter(|_| !wanted.is_empty()) {
            let table = self.table(ask, downstream, *sharing)?;
            let table = table.lock().unwrap_or_else(PoisonError::into_inner);
            if *sharing == Sharing::Alike && table.has_origin(&self.peer.server) {
                continue;
            }
            for number in table.find(|tag| wanted.contains(tag)) {
                let record = readable(ask.snapshot.record(number))?.flatten();
                ids.extend(record.map(|record| record.id));
            }
            break;
        }
        Ok(ids)
    }

    /// Who may share the table of this follower, the first of them that fits.
    fn sharings(&self) -> &'static [Sharing] {
        match self.peer.may_follow_copies {
            true => &[Sharing::Alone],
            false => &[Sharing::Alike, Sharing::Alone],
        }
    }

    /// The table of the terms of this relation: of all on which it depends which objects are told, and how.
    fn table(
        &self,
        ask: &Ask<'_>,
        downstream: &Downstream,
        sharing: Sharing,
    ) -> Result<Arc<Mutex<Table>>, Failure> {
        let mut writer = Writer::new(context(SPOKEN));
        let internal = |e: keyferry_ttlv::Error| Failure::new(Cause::Internal, e);
        let selected = &downstream.selected;
        selected
            .encode(Selection::TAG, &mut writer)
            .map_err(internal)?;
        for name in &downstream.without {
            name.encode(x::WITHOUT, &mut writer).map_err(internal)?;
        }
        if let Some(agreed) = &downstream.agreed {
            agreed.encode(x::AGREED, &mut writer).map_err(internal)?;
        }
        let mut terms = writer.finish().to_vec();
        if sharing == Sharing::Alone {
            terms.push(u8::from(self.peer.may_follow_copies));
            terms.extend_from_slice(self.peer.server.as_bytes());
        }
        let incarnation = ask.snapshot.incarnation()?;
        let key = self.key.of_terms(&incarnation.0, &terms);
        Ok(self
            .node
            .tables
            .of(&terms, || Table::new(ProofKey::new(key))))
    }

    /// Takes what was read of the feed for the page, where it goes on from the place of the table.
    fn take_read(
        &self,
        ask: &Ask<'_>,
        table: &mut Table,
        sharing: Sharing,
        origins: &mut BTreeSet<Text>,
    ) -> Result<(), Failure> {
        let (read, here) = (&self.read, &self.node.home.server);
        let goes_on = table.place().number() == read.behind && table.is_of(ask.snapshot)?;
        if !goes_on || read.entries.is_empty() {
            return Ok(());
        }
        let mut leaves = Vec::with_capacity(read.entries.len());
        for (number, id) in &read.entries {
            let told = id.as_ref().and_then(|id| Some((id, self.told.get(id)?)));
            let own = told.filter(|(_, (stamp, _))| stamp.issuer == *here);
            let leaf = match own {
                Some((id, (_, sum))) => {
                    origins.extend((id.server != *here).then(|| id.server.clone()));
                    Some(table.key().leaf(id, *sum))
                }
                None => match readable(ask.snapshot.record(*number))?.flatten() {
                    Some(record) => {
                        let there = &record.id.server;
                        origins.extend((*there != *here).then(|| there.clone()));
                        self.leaf(ask, (*number, &record), table.key(), sharing)?
                    }
                    None => None,
                },
            };
            leaves.push((*number, leaf));
        }
        Ok(table.take(ask.snapshot, leaves, read.end)?)
    }

    /// Takes a table further through the feed; `true` when it is at the head.
    fn take_further(
        &self,
        ask: &Ask<'_>,
        table: &mut Table,
        request: &FollowRequest,
        sharing: Sharing,
    ) -> Result<bool, Failure> {
        let (mut origins, here) = (BTreeSet::new(), &self.node.home.server);
        let doubted = match &self.doubtful {
            Some(doubtful) => table.doubt(doubtful.digest()?, &doubtful.listed),
            None => Vec::new(),
        };
        self.take_read(ask, table, sharing, &mut origins)?;
        let most = ENTRIES + self.told.len();
        // What later pages tell of is read with them.
        let to = self.read.end;
        let is_whole = table.advance(ask.snapshot, (most, to), &mut |row, key| {
            let of = |id: &ObjectId| (id.server != *here).then(|| id.server.clone());
            if !self.told.is_empty() {
                let entry: Entry = read(row.entry, "feed entry")?;
                if let Some((stamp, sum)) = self.told.get(&entry.id)
                    && *stamp == entry.stamp
                    && stamp.issuer == *here
                {
                    origins.extend(of(&entry.id));
                    return Ok(Some(key.leaf(&entry.id, *sum)));
                }
            }
            let Some(record) = readable(ask.snapshot.record(row.record))?.flatten() else {
                return Ok(None);
            };
            origins.extend(of(&record.id));
            self.leaf(ask, (row.record, &record), key, sharing)
        })?;
        table.add_origins(origins);
        // What a follower asks about is looked at anew: whether an object belongs to a selection may depend on the time.
        let claimed = request.held.iter().map(|claim| &claim.id);
        for id in request.again.iter().chain(claimed).chain(&doubted) {
            if let Some((number, record)) = readable(ask.snapshot.by_object_id(id))?.flatten() {
                let leaf = self.leaf(ask, (number, &record), table.key(), sharing)?;
                table.set(number, leaf);
            }
        }
        Ok(is_whole)
    }

    /// The leaf of a record, if these terms let it through.
    fn leaf(
        &self,
        ask: &Ask<'_>,
        (number, record): (RecordNumber, &Record),
        key: &ProofKey,
        sharing: Sharing,
    ) -> Result<Option<Leaf>, Failure> {
        let is_theirs = sharing == Sharing::Alone && self.is_theirs(record);
        if is_theirs || !is_compared(record) || !self.lets_through(ask, number, record)? {
            return Ok(None);
        }
        if let Some(doubtful) = &self.doubtful
            && doubtful.has((self.node, ask.now.wall), ask.snapshot, (number, record))?
        {
            return Ok(None);
        }
        let sum = if self.without.is_empty() {
            CopySum::of_record(record)?
        } else {
            let mut told = record.clone();
            leave_out(&mut told.attributes, self.without);
            CopySum::of_record(&told)?
        };
        Ok(Some(key.leaf(&record.id, sum)))
    }
}

/// What the table says; when it is of the head, with its sum and as many cells of the sketch as were asked for.
fn proof(table: &Table, request: &FollowRequest, is_of_head: bool) -> SetProof {
    let key = table.key().bytes();
    let sum = is_of_head.then(|| table.sum());
    let cell = |number: i32| u32::try_from(number).unwrap_or(0).min(MOST_CELLS);
    // What stands before is of the same sketch, if nothing has happened since.
    let from = request
        .cells_from
        .filter(|_| table.place().is_same(&request.head));
    let sketch = |to: i32| {
        let range = from.map_or(0, cell)..cell(to);
        to_bytes(&cells(&Key::new(key), table.leaves(), range))
    };
    SetProof {
        key: key.to_vec(),
        sum: sum.map(|sum| sum.bytes()),
        count: sum.map(|sum| sum.count),
        cells: request.cells.filter(|_| is_of_head).map(sketch),
        cells_from: from.filter(|_| request.cells.is_some() && is_of_head),
        extra: Extra::NONE,
    }
}
