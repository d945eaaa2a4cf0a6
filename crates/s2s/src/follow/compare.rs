//! The replica's side of the comparison: whether what is held here is what was told in a relation, where it is not, and what is asked for then
//! ([rule 17](crate::design#rule-17)).
//!
//! The leaves of the copies that come by the relation stand in a table in memory, which each answer takes a bit further through this server's own
//! feed. Copies that are not held as they were told are listed in the store ([`DifferingCopy`]), and count as they were told. When an answer that
//! reaches the head tells another sum than the table has, the replica asks for the sketch, in parts that grow, until it says which objects
//! differ; it asks for these again.

use crate::compare::held::HeldTable;
use crate::compare::leaf::{CopySum, KEY_BYTES, ProofKey};
use crate::compare::sketch::{Cell, Decoder, Key, Leaf, Outcome, cells, from_bytes, subtract};
use crate::compare::table::{Table, Told};
use crate::error::{Error, Result};
use crate::follow::apply::{Applied, Written};
use crate::follow::prove::MOST_CELLS;
use crate::follow::{Asked, Follow};
use crate::planted::{compares, planted};
use crate::relation::alarm::{Alarm, AlarmKind};
use crate::relation::differing::DifferingCopy;
use crate::relation::followed::Upstream;
use crate::relation::kept::KeptCopies;
use crate::relation::receipts::Receipts;
use crate::relation::rotten::{RottenRecord, readable};
use crate::session::SessionContext;
use crate::transport_key::is_transport_key;
use crate::wire::follow::{FollowRequest, FollowResponse, HeldCopy};
use crate::wire::proof::SetProof;
use keyferry_kmip::{Tick, lifecycle};
use keyferry_store::record::read;
use keyferry_store::{Entry, ObjectId, Record, RecordNumber, Snapshot, SnapshotExt, StoreExt};
use std::collections::{HashMap, HashSet};
use std::sync::PoisonError;

/// Entries of the own feed that one answer takes the table further, beside what the answer itself brings.
const ENTRIES: usize = 4096;

/// Cells of the sketch that are asked for first.
const FIRST_CELLS: u32 = 32;

/// Objects that one question asks about because they differ, of each kind: fewer than an issuer lets a question name, with what it asks for anyway.
const AT_ONCE: usize = 400;

/// Searches in a row that end with copies which differ still.
const SEARCHES: u32 = 3;

/// Milliseconds for which nothing is compared after that.
const PAUSE: u64 = 3_600_000;

/// Seconds after which it is noted again that all copies are as they were told.
const NOTED_EVERY: i64 = 3600;

/// What a following session knows of the comparison with the server that is followed.
#[derive(Default)]
pub(super) struct Comparison {
    /// What is being searched for, where something differs.
    search: Option<Search>,
    /// How many searches in a row were answered and have not helped.
    searches: u32,
    /// Until when nothing is compared, since searches did not help.
    rests_until: Option<Tick>,
}

/// How far a search for what differs has come.
enum Search {
    /// The cells of the sketch that have come, and up to which one is asked for.
    Cells(Vec<Cell>, u32),
    /// These objects are asked about.
    Repair(Differences),
}

/// Objects that are not held as they were told.
#[derive(Default)]
struct Differences {
    /// Those that are listed otherwise: they are asked for again.
    again: Vec<ObjectId>,
    /// Those that are held otherwise: they are asked for again, too.
    changed: Vec<RecordNumber>,
    /// Those that are not known here, by the tags of their leaves.
    wanted: Vec<[u8; 8]>,
    /// Those that are held and were not told.
    claimed: Vec<RecordNumber>,
}

/// What a question asks because of the comparison.
#[derive(Default)]
pub(super) struct Searched {
    cells: Option<i32>,
    cells_from: Option<i32>,
    again: Vec<ObjectId>,
    wanted: Vec<Vec<u8>>,
    claimed: Vec<HeldCopy>,
}

impl Searched {
    /// Whether anything is asked about.
    pub(super) fn is_about_objects(&self) -> bool {
        !self.again.is_empty() || !self.wanted.is_empty() || !self.claimed.is_empty()
    }

    /// The question with what is asked beside.
    pub(super) fn add_to(self, mut request: FollowRequest) -> FollowRequest {
        let known: HashSet<ObjectId> = request.again.iter().cloned().collect();
        let again = self.again.into_iter().filter(|id| !known.contains(id));
        request.again.extend(again);
        request.wanted = self.wanted;
        request.held.extend(self.claimed);
        (request.cells, request.cells_from) = (self.cells, self.cells_from);
        request
    }
}

impl Comparison {
    /// Whether something is to be asked for at once.
    pub(super) fn is_searching(&self) -> bool {
        self.search.is_some()
    }

    /// Forgets what belonged to a connection that is lost.
    pub(super) fn forget_connection(&mut self) {
        self.search = None;
    }

    /// What the next question asks.
    pub(super) fn ask(&mut self, snapshot: &dyn Snapshot, upstream: &Upstream) -> Result<Searched> {
        let mut searched = Searched::default();
        match &mut self.search {
            None => {}
            Some(Search::Cells(come, to)) => {
                searched.cells = i32::try_from(*to).ok();
                searched.cells_from = i32::try_from(come.len()).ok().filter(|from| *from > 0);
            }
            Some(Search::Repair(differences)) => {
                searched.again = take(&mut differences.again);
                searched.wanted = take(&mut differences.wanted)
                    .into_iter()
                    .map(|tag| tag.to_vec())
                    .collect();
                for number in take(&mut differences.changed) {
                    let record = readable(snapshot.record(number))?.flatten();
                    searched.again.extend(record.map(|record| record.id));
                }
                for number in take(&mut differences.claimed) {
                    if let Some(record) = readable(snapshot.record(number))?.flatten() {
                        searched
                            .claimed
                            .push(Receipts::claim(snapshot, &upstream.server, record)?);
                    }
                }
                if differences.len() == 0 {
                    self.search = None;
                }
            }
        }
        Ok(searched)
    }
}

/// Takes as many as one question asks about.
fn take<T>(from: &mut Vec<T>) -> Vec<T> {
    from.split_off(from.len().saturating_sub(AT_ONCE))
}

/// What comparing has come to.
enum Found {
    /// The two can't be compared by this answer.
    Nothing,
    /// All is held as it was told, or listed.
    Equal,
    /// Something differs.
    Differs,
    /// This many objects differ, and are asked for.
    Located(usize),
    /// No sketch says what differs.
    Lost,
}

impl Follow {
    /// Compares what is held with what an answer says was told.
    pub(super) fn compare(
        &mut self,
        cx: &SessionContext<'_>,
        answer: &FollowResponse,
        (asked, applied): (&Asked, &Applied),
    ) -> Result<Option<Upstream>> {
        let (upstream, tick) = (&applied.upstream, cx.now.tick);
        let comparison = &mut self.comparison;
        // All that was to be asked about has been answered.
        comparison.searches += u32::from(asked.searches && comparison.search.is_none());
        let relation = upstream.relation.as_bytes();
        let held = self.node.held.of(relation, HeldTable::default);
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        let rests = comparison.rests_until.is_some_and(|until| tick < until)
            || planted!(NothingCompared)
            || !compares();
        let Some(proof) = answer.proof.as_ref().filter(|_| !rests) else {
            // What is listed meanwhile is read when the two are compared again.
            held.loaded_for = held.loaded_for.filter(|_| applied.differing.is_empty());
            return Ok(None);
        };
        comparison.rests_until = None;
        let found = cx.store.view(|snapshot| {
            let is_whole = held.take_further(snapshot, upstream, proof, applied)?;
            let is_settled = answer.place.number == answer.head.number
                && upstream.anew != Some(true)
                && upstream.checking.is_none()
                && upstream.uncompared != Some(true);
            match (is_whole && is_settled, &proof.sum) {
                (true, Some(sum)) => Ok::<_, Error>(comparison.find(&held, proof, sum)),
                _ => Ok(Found::Nothing),
            }
        })?;
        drop(held);
        self.act_on(cx, upstream, found)
    }

    /// Does what the comparison has shown to be due; returns the relation where that has changed it.
    fn act_on(
        &mut self,
        cx: &SessionContext<'_>,
        upstream: &Upstream,
        found: Found,
    ) -> Result<Option<Upstream>> {
        let (now, session) = (cx.now.wall, self.session());
        let comparison = &mut self.comparison;
        match found {
            Found::Nothing => Ok(None),
            Found::Equal => {
                (comparison.search, comparison.searches) = (None, 0);
                let is_noted = upstream
                    .proved
                    .is_some_and(|last| (0..NOTED_EVERY).contains(&now.0.saturating_sub(last.0)));
                if is_noted {
                    return Ok(None);
                }
                self.change_upstream(cx, session, |upstream| upstream.proved = Some(now))
                    .map(Some)
            }
            Found::Differs => {
                if comparison.searches < SEARCHES {
                    comparison.search = Some(Search::Cells(Vec::new(), FIRST_CELLS));
                    return Ok(None);
                }
                // What was asked for has not helped: a person has to look.
                (comparison.search, comparison.searches) = (None, 0);
                comparison.rests_until = Some(Tick(cx.now.tick.0.saturating_add(PAUSE)));
                self.raise_difference(cx)?;
                self.change_upstream(cx, session, |upstream| upstream.proved = None)
                    .map(Some)
            }
            Found::Located(count) => self
                .change_upstream(cx, session, |upstream| {
                    let more = i64::try_from(count).unwrap_or(i64::MAX);
                    let known = upstream.repaired.unwrap_or(0);
                    upstream.repaired = Some(known.saturating_add(more));
                })
                .map(Some),
            // Too much differs for a sketch: the whole feed is read again, with the material.
            Found::Lost => {
                (comparison.search, comparison.searches) = (None, SEARCHES);
                self.change_upstream(cx, session, |upstream| {
                    upstream.read_anew();
                    upstream.anew = Some(true);
                })
                .map(Some)
            }
        }
    }

    /// Raises the alarm that copies differ from what was told, although they were asked for again.
    fn raise_difference(&self, cx: &SessionContext<'_>) -> Result<()> {
        let server = (&self.options.from.server, AlarmKind::COPIES_DIFFER);
        cx.store.transact(|transaction| {
            let alarm = Alarm::raise_at(transaction, cx.now.wall, server.0, server.1)?;
            if let Some((key, value)) = alarm {
                transaction.set_state(&key, value.as_deref())?;
            }
            Ok(())
        })
    }
}

impl HeldTable {
    /// Empties the table where it is of no use: under another key, after the store was put back, or when an answer that was not compared has moved something
    /// in the relation's account, which can be anywhere. What the answer at hand has moved is looked at by itself.
    fn begin_anew_where_due(
        &mut self,
        snapshot: &dyn Snapshot,
        key: ProofKey,
        (upstream, applied): (&Upstream, &Applied),
    ) -> Result<()> {
        let moves = i64::from(!applied.moved.is_empty());
        let before = upstream.account.map(|count| count - moves);
        let is_current = [before, upstream.account].contains(&self.account);
        self.account = upstream.account;
        let is_of_use = match &self.table {
            Some(table) => {
                is_current && table.key().bytes() == key.bytes() && table.is_of(snapshot)?
            }
            None => false,
        };
        if !is_of_use {
            (self.listed, self.loaded_for) = (HashMap::new(), None);
            self.table = Some(Table::new(key));
        }
        Ok(())
    }

    /// Looks again at what an answer has listed, and at what it has moved in the relation's account.
    fn look_again(
        &mut self,
        snapshot: &dyn Snapshot,
        (upstream, applied): (&Upstream, &Applied),
        kept: &mut KeptCopies,
    ) -> Result<()> {
        let Some(table) = &mut self.table else {
            return Ok(());
        };
        let changed = if self.loaded_for == Some(upstream.session) {
            applied.differing.clone()
        } else {
            self.loaded_for = Some(upstream.session);
            changed_since(&self.listed, snapshot, upstream)?
        };
        let mut moved = applied.moved.clone();
        for (id, told) in changed {
            let leaf = told.flatten().map(|sum| table.key().leaf(&id, sum));
            match told {
                Some(told) => self.listed.insert(id.clone(), told),
                None => self.listed.remove(&id),
            };
            moved.extend(
                readable(snapshot.by_object_id(&id))?
                    .flatten()
                    .map(|it| it.0),
            );
            table.list(id, leaf);
        }
        for number in moved {
            if let Some(record) = readable(snapshot.record(number))?.flatten() {
                let of = (&mut *kept, &self.listed);
                let leaf = leaf_of(snapshot, (number, &record), of, table.key())?;
                table.set(number, leaf);
            }
        }
        Ok(())
    }

    /// Takes the table further through this server's own feed; `true` when it is at the head.
    fn take_further(
        &mut self,
        snapshot: &dyn Snapshot,
        upstream: &Upstream,
        proof: &SetProof,
        applied: &Applied,
    ) -> Result<bool> {
        let Ok(key) = <[u8; KEY_BYTES]>::try_from(proof.key.as_slice()) else {
            return Ok(false);
        };
        self.begin_anew_where_due(snapshot, ProofKey::new(key), (upstream, applied))?;
        let mut kept = KeptCopies::of(&upstream.server, &upstream.relation);
        self.look_again(snapshot, (upstream, applied), &mut kept)?;
        let Some(table) = &mut self.table else {
            return Ok(false);
        };
        let rotten = RottenRecord::all(snapshot)?;
        let rotten: HashSet<RecordNumber> =
            rotten.iter().map(RottenRecord::record_number).collect();
        // What has rotted is not held.
        rotten.iter().for_each(|number| table.set(*number, None));
        let (listed, told) = (&self.listed, &applied.told);
        if let Some(written) = &applied.written {
            take_written(snapshot, table, (&mut kept, listed), (written, told))?;
        }
        table.advance(
            snapshot,
            (ENTRIES + told.len(), u64::MAX),
            &mut |row, key| {
                if !told.is_empty() {
                    let entry: Entry = read(row.entry, "feed entry")?;
                    if let Some((stamp, sum)) = told.get(&entry.id)
                        && *stamp == entry.stamp
                        && !listed.contains_key(&entry.id)
                    {
                        return Ok(Some(key.leaf(&entry.id, *sum)));
                    }
                }
                // What can't be read is not held.
                let record = readable(snapshot.record(row.record))?.flatten();
                match record.filter(|_| !rotten.contains(&row.record)) {
                    Some(record) => {
                        leaf_of(snapshot, (row.record, &record), (&mut kept, listed), key)
                    }
                    None => Ok(None),
                }
            },
        )
    }
}

/// Takes what the answer has written, where nothing else stands in the feed behind the place of the table.
fn take_written(
    snapshot: &dyn Snapshot,
    table: &mut Table,
    (kept, listed): (&mut KeptCopies, &HashMap<ObjectId, Option<CopySum>>),
    (written, told): (&Written, &Told),
) -> Result<()> {
    let end = written.behind + written.records.len() as u64;
    if written.records.is_empty()
        || table.place().number() != written.behind
        || snapshot.head()?.number != end
    {
        return Ok(());
    }
    let mut by_id: HashMap<Vec<u8>, Leaf> = HashMap::with_capacity(told.len());
    for (id, (_, sum)) in told.iter().filter(|(id, _)| !listed.contains_key(*id)) {
        by_id.insert(id.encoded()?, table.key().leaf(id, *sum));
    }
    let mut leaves = Vec::with_capacity(written.records.len());
    for (number, id) in &written.records {
        let leaf = match by_id.get(id) {
            Some(leaf) => Some(*leaf),
            None => match readable(snapshot.record(*number))?.flatten() {
                Some(record) => {
                    let of = (&mut *kept, listed);
                    leaf_of(snapshot, (*number, &record), of, table.key())?
                }
                None => None,
            },
        };
        leaves.push((*number, leaf));
    }
    Ok(table.take(snapshot, leaves, end)?)
}

impl Comparison {
    /// Compares the sums, and the sketches where that of the other server has come.
    fn find(&mut self, held: &HeldTable, proof: &SetProof, sum: &[u8]) -> Found {
        let Some(table) = &held.table else {
            return Found::Nothing;
        };
        let own = table.sum();
        if own.bytes() == sum && Some(own.count) == proof.count {
            return Found::Equal;
        }
        let (Some(bytes), Some(Search::Cells(come, to))) = (&proof.cells, &mut self.search) else {
            return match self.search {
                // Not all is asked for yet.
                Some(Search::Repair(_)) => Found::Nothing,
                _ => Found::Differs,
            };
        };
        let from = usize::try_from(proof.cells_from.unwrap_or(0)).unwrap_or(usize::MAX);
        let Some(more) = from_bytes(bytes).filter(|_| from <= come.len()) else {
            return Found::Lost;
        };
        come.truncate(from);
        come.extend(more);
        let key = Key::new(table.key().bytes());
        let ours = cells(&key, table.leaves(), 0..*to);
        let Some(difference) = subtract(come, &ours) else {
            return Found::Lost;
        };
        let mut decoder = Decoder::new(key);
        decoder.extend(difference);
        match decoder.decode() {
            Outcome::Done {
                only_there,
                only_here,
            } => {
                let differences = Differences::of(table, &only_there, &only_here);
                let count = differences.len();
                self.search = Some(Search::Repair(differences));
                Found::Located(count)
            }
            Outcome::More if *to < MOST_CELLS => {
                *to = next_cells(*to);
                Found::Nothing
            }
            Outcome::More | Outcome::Garbage => Found::Lost,
        }
    }
}

/// The objects whose listing in the store may be another one than is known, as they are listed there.
fn changed_since(
    known: &HashMap<ObjectId, Option<CopySum>>,
    snapshot: &dyn Snapshot,
    upstream: &Upstream,
) -> Result<Vec<(ObjectId, Option<Option<CopySum>>)>> {
    let listed = DifferingCopy::all(snapshot, &upstream.relation)?;
    let stored: HashMap<ObjectId, Option<CopySum>> = listed
        .into_iter()
        .map(|copy| (copy.id.clone(), copy.sum()))
        .collect();
    let gone = known.keys().filter(|id| !stored.contains_key(id));
    let mut changed: Vec<_> = gone.map(|id| (id.clone(), None)).collect();
    changed.extend(stored.into_iter().map(|(id, told)| (id, Some(told))));
    Ok(changed)
}

/// How many cells are asked for when so many did not suffice: few more where they are many, so that little goes in vain.
fn next_cells(most: u32) -> u32 {
    let next = match most {
        0..256 => most * 8,
        256..2048 => most * 2,
        _ => most + most * 2 / 5,
    };
    next.min(MOST_CELLS)
}

impl Differences {
    /// The objects of these leaves.
    fn of(table: &Table, only_there: &[Leaf], only_here: &[Leaf]) -> Differences {
        let there: HashSet<[u8; 8]> = only_there.iter().map(|leaf| leaf.object).collect();
        let here: HashSet<[u8; 8]> = only_here.iter().map(|leaf| leaf.object).collect();
        let changed: HashSet<[u8; 8]> = there.intersection(&here).copied().collect();
        Differences {
            again: table.find_listed(|tag| here.contains(tag)),
            changed: table.find(|tag| changed.contains(tag)),
            wanted: there.difference(&here).copied().collect(),
            claimed: table.find(|tag| here.contains(tag) && !changed.contains(tag)),
        }
    }

    fn len(&self) -> usize {
        self.again.len() + self.changed.len() + self.wanted.len() + self.claimed.len()
    }
}

/// The leaf of a copy that comes by the relation and is not listed.
fn leaf_of(
    snapshot: &dyn Snapshot,
    (number, record): (RecordNumber, &Record),
    (kept, listed): (&mut KeptCopies, &HashMap<ObjectId, Option<CopySum>>),
    key: &ProofKey,
) -> Result<Option<Leaf>> {
    if !is_compared_here(record)
        || listed.contains_key(&record.id)
        || !kept.has(snapshot, number)?
    {
        return Ok(None);
    }
    Ok(Some(key.leaf(&record.id, CopySum::of_record(record)?)))
}

/// Whether a copy that comes by a relation is compared: it is no tombstone, whatever its State was raised to here.
pub(super) fn is_compared_here(record: &Record) -> bool {
    let state = record.attributes.state();
    !state.is_some_and(lifecycle::is_destroyed)
        && !record.is_withdrawn()
        && !is_transport_key(record)
}

#[cfg(test)]
mod tests;
