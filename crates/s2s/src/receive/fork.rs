//! This module keeps forks: changes of one object that do not descend from each other. Both are kept and named until a person decides
//! ([rule 3](crate::design#rule-3)).

use crate::ask::Ask;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{Limits, exceeded};
use crate::node::Node;
use crate::planted::planted;
use crate::receive::state::keep_known_state;
use crate::relation::keys::{self, Entry};
use keyferry_kmip::projection::Projection;
use keyferry_kmip::spec::{ObjectType, State};
use keyferry_kmip::{Attributes, DateTime, Failure, Now, Text, extension as x, lifecycle};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{
    Descent, Effects, Lineage, Material, ObjectId, Overlay, Record, RecordNumber, Snapshot,
    SnapshotExt, Span, Stamp, Store, StoreExt, descent,
};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::ops::ControlFlow;

/// Another server's version of an object, kept beside the one held here because neither descends from the other.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::FORK)]
pub struct Fork {
    /// The object.
    pub id: ObjectId,
    /// The server id of the sender.
    #[ttlv(tag = x::SERVER_ID)]
    pub from: Text,
    /// The time when it came in.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// The stamp of the change.
    pub stamp: Stamp,
    /// The earlier reigns that the change descends from.
    #[ttlv(group = ())]
    pub lineage: Lineage,
    /// The Object Type.
    pub object_type: ObjectType,
    /// The attributes at the sender.
    #[ttlv(group = Projection::Stored)]
    pub attributes: Attributes,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// The side of a fork that a person keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForkVersion {
    /// The version held here.
    Held,
    /// The version of the other server.
    Other,
}

/// A person's decision about a fork.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::DECISION)]
pub struct ForkDecision {
    /// The object.
    pub id: ObjectId,
    /// The person, by name.
    #[ttlv(tag = x::DECIDED_BY)]
    pub by: Text,
    /// The time of the decision.
    #[ttlv(tag = x::SINCE)]
    pub at: DateTime,
    /// The stamp of the change that was not kept.
    pub stamp: Stamp,
    /// The earlier reigns that the change descends from.
    #[ttlv(group = ())]
    pub lineage: Lineage,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

fn read_all<T: Decode + keyferry_ttlv::Tagged>(
    snapshot: &dyn Snapshot,
    prefix: &[u8],
) -> keyferry_store::Result<Vec<T>> {
    let mut all = Vec::new();
    snapshot.state(&Span::prefix(prefix), &mut |_, value| {
        all.push(read(value, "fork")?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(all)
}

impl Fork {
    /// All forks. There are as many as people leave undecided.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<Fork>> {
        Ok(read_all(snapshot, keys::FORK)?)
    }

    /// The number of forks.
    pub(crate) fn count(snapshot: &dyn Snapshot) -> keyferry_store::Result<i64> {
        let mut count = 0;
        snapshot.state(&Span::prefix(keys::FORK), &mut |_, _| {
            count += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(count)
    }

    /// The forks of one object.
    ///
    /// # Errors
    /// Those of the store.
    pub fn of_object(snapshot: &dyn Snapshot, id: &ObjectId) -> Result<Vec<Fork>> {
        Ok(of(snapshot, id)?)
    }

    /// The fork that a copy which came in would be kept as.
    pub(crate) fn of(record: &Record, from: &Text, since: DateTime) -> Fork {
        Fork {
            id: record.id.clone(),
            from: from.clone(),
            since,
            stamp: record.stamp.clone(),
            lineage: record.lineage.clone(),
            object_type: record.object_type,
            attributes: record.attributes.clone(),
            extra: Extra::NONE,
        }
    }

    fn history(&self) -> (&Stamp, &[Stamp]) {
        (&self.stamp, &self.lineage)
    }

    /// Its key and value in the store's state.
    fn entry(&self) -> keyferry_store::Result<Entry> {
        Ok((keys::fork(&self.id, &self.stamp)?, Some(bytes_of(self)?)))
    }

    /// The keys that it may be kept under: its own, and that of earlier builds.
    fn keys(&self) -> keyferry_store::Result<[Vec<u8>; 2]> {
        Ok([
            keys::fork(&self.id, &self.stamp)?,
            keys::fork_by_reign(&self.id, &self.stamp)?,
        ])
    }

    /// What removes it from the store's state.
    fn removal(&self) -> keyferry_store::Result<impl Iterator<Item = Entry>> {
        Ok(self.keys()?.into_iter().map(|key| (key, None)))
    }
}

fn of(snapshot: &dyn Snapshot, id: &ObjectId) -> keyferry_store::Result<Vec<Fork>> {
    let mut forks: Vec<Fork> = read_all(snapshot, &keys::forks_prefix(id)?)?;
    forks.retain(|fork| fork.id == *id);
    Ok(forks)
}

impl ForkDecision {
    /// All decisions that were made.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<ForkDecision>> {
        Ok(read_all(snapshot, keys::FORK_DECISION)?)
    }

    /// Its key and value in the store's state.
    fn entry(&self) -> keyferry_store::Result<Entry> {
        let key = keys::fork_decision(&self.id, self.at, &self.stamp)?;
        Ok((key, Some(bytes_of(self)?)))
    }
}

/// The State that a fork raises the held object to: the join of both. `None` when the held one is there already.
fn raised_state(held: &Record, fork: &Fork) -> Option<State> {
    let (here, there) = (held.stored_state()?, fork.attributes.state()?);
    let joined = lifecycle::Rank::of(here).joined_state(lifecycle::Rank::of(there));
    (joined != here).then_some(joined)
}

/// What is known of a fork already.
enum Knowledge {
    /// It is kept, or a later change of its line is, or a person has decided against it.
    Known,
    /// Nothing, or earlier changes of its line: these go, by the keys they are kept under.
    New(Vec<Vec<u8>>),
}

/// Compares a fork with those that are kept and decided. Of one line the change with the highest sequence is kept.
fn look_up(snapshot: &dyn Snapshot, fork: &Fork, limits: &Limits) -> Result<Knowledge, Failure> {
    let decided: Vec<ForkDecision> = read_all(snapshot, &keys::fork_decisions_prefix(&fork.id)?)?;
    let is_decided = decided.iter().any(|decision| {
        decision.id == fork.id && covers((&decision.stamp, &decision.lineage), fork)
    });
    let kept = of(snapshot, &fork.id)?;
    if is_decided || kept.iter().any(|kept| covers(kept.history(), fork)) {
        return Ok(Knowledge::Known);
    }
    let is_earlier = |kept: &&Fork| descent(kept.history(), fork.history()) == Descent::Newer;
    let earlier: Vec<&Fork> = kept.iter().filter(is_earlier).collect();
    if kept.len() - earlier.len() >= limits.forks {
        return Err(exceeded("undecided forks of one object", limits.forks));
    }
    let mut replaced = Vec::new();
    for kept in earlier {
        replaced.extend(kept.keys()?);
    }
    Ok(Knowledge::New(replaced))
}

/// Whether a change is that of the fork or descends from it.
fn covers(kept: (&Stamp, &[Stamp]), fork: &Fork) -> bool {
    matches!(
        descent(kept, fork.history()),
        Descent::Equal | Descent::Older
    )
}

/// Names what was held as a fork, because another version takes its place.
pub(crate) fn name(held: &Record, from: &Text, now: DateTime) -> Result<Effects, Failure> {
    let fork = Fork::of(held, from, now);
    let mut effects = Effects::none();
    effects.state.push(fork.entry()?);
    Ok(effects)
}

/// Keeps a fork at a replica: the copy stays as it is, and the State of the fork counts where it is further along.
pub(crate) fn keep_at_replica(
    node: &Node,
    ask: &Ask<'_>,
    (number, held): (RecordNumber, Record),
    fork: Fork,
) -> Result<Effects, Failure> {
    let mut effects = Effects::none();
    match look_up(ask.snapshot, &fork, &node.policy.limits)? {
        _ if planted!(ForkUnnamed) => return Ok(effects),
        Knowledge::Known => {}
        Knowledge::New(replaced) => {
            effects
                .state
                .extend(replaced.into_iter().map(|key| (key, None)));
            effects.state.push(fork.entry()?);
        }
    }
    if let Some(state) = raised_state(&held, &fork) {
        let mut after = held.clone();
        after.overlay.get_or_insert_with(Overlay::default).state = Some(state);
        let material = Material::left_to(&after);
        effects.extend(Effects::change(Some((number, held)), after, material));
    }
    Ok(effects)
}

/// Keeps a fork at the issuer, which has once made the change itself: the State that it had come to counts again, a destruction, too.
pub(crate) fn keep_at_issuer(
    node: &Node,
    ask: &Ask<'_>,
    (number, held): (RecordNumber, &Record),
    fork: Fork,
) -> Result<Effects, Failure> {
    let mut effects = Effects::none();
    match look_up(ask.snapshot, &fork, &node.policy.limits)? {
        Knowledge::Known => return Ok(effects),
        Knowledge::New(replaced) => {
            effects
                .state
                .extend(replaced.into_iter().map(|key| (key, None)));
            effects.state.push(fork.entry()?);
        }
    }
    let mut after = held.clone();
    keep_known_state(&mut after.attributes, &fork.attributes);
    if after.attributes != held.attributes {
        node.advance(&mut after, ask.snapshot.reign()?, ask.now.wall);
        let material = Material::left_to(&after);
        effects.extend(Effects::change(
            Some((number, held.clone())),
            after,
            material,
        ));
    }
    Ok(effects)
}

/// Removes the forks that a change descends from.
pub(crate) fn remove_ended_forks(
    snapshot: &dyn Snapshot,
    record: &Record,
) -> keyferry_store::Result<Effects> {
    let mut effects = Effects::none();
    for fork in of(snapshot, &record.id)? {
        let now = descent(fork.history(), (&record.stamp, &record.lineage));
        if matches!(now, Descent::Newer | Descent::Equal) {
            effects.state.extend(fork.removal()?);
        }
    }
    Ok(effects)
}

/// Ends a fork in favour of one side, as the person `by` has decided.
///
/// At the object's issuer the version that is kept becomes a change that descends from both sides, so that each holder of one of them takes it.
/// At a replica the decision says what the replica holds until the issuer decides. The State never moves back by it.
///
/// # Errors
/// [`ErrorKind::Relation`] when there is no fork with this stamp, and those of the store.
pub fn resolve_fork(
    store: &dyn Store,
    node: &Node,
    id: &ObjectId,
    other: &Stamp,
    keep: ForkVersion,
    by: &str,
    now: Now,
) -> Result<()> {
    store.transact(|transaction| {
        let forks = of(transaction, id)?;
        let found = forks.iter().find(|fork| fork.stamp == *other);
        let held = transaction.by_object_id(id)?;
        let (Some(fork), Some((number, held))) = (found, held) else {
            return Err(Error::new(
                ErrorKind::Relation,
                format_args!("{id} has no such fork"),
            ));
        };
        let mut effects = Effects::none();
        let after = resolved_record(transaction, node, &held, fork, keep, now.wall)?;
        if after != held {
            let material = Material::left_to(&after);
            effects.extend(Effects::change(
                Some((number, held.clone())),
                after,
                material,
            ));
        }
        let (stamp, lineage) = if keep == ForkVersion::Held {
            fork.history()
        } else {
            (&held.stamp, &held.lineage[..])
        };
        let decision = ForkDecision {
            id: id.clone(),
            by: by.into(),
            at: now.wall,
            stamp: stamp.clone(),
            lineage: lineage.to_vec().into(),
            extra: Extra::NONE,
        };
        effects.state.push(decision.entry()?);
        effects.state.extend(fork.removal()?);
        node.spread_compromise(transaction, now.wall, &mut effects)?;
        effects.apply(transaction)?;
        Ok(())
    })
}

/// The record as a decision leaves it.
fn resolved_record(
    snapshot: &dyn Snapshot,
    node: &Node,
    held: &Record,
    fork: &Fork,
    keep: ForkVersion,
    now: DateTime,
) -> keyferry_store::Result<Record> {
    let mut after = held.clone();
    if keep == ForkVersion::Other {
        after.attributes = fork.attributes.clone();
        after.stamp = fork.stamp.clone();
        after.lineage = fork.lineage.clone();
    }
    if node.issues(held) {
        keep_known_state(&mut after.attributes, &held.attributes);
        keep_known_state(&mut after.attributes, &fork.attributes);
        descend_from(&mut after, &[(&held.stamp, &held.lineage), fork.history()]);
        node.advance(&mut after, snapshot.reign()?, now);
        extend_reigns(&mut after);
    } else if keep == ForkVersion::Other {
        // A copy is kept verbatim, so the State that both join to goes into the overlay.
        let state = raised_state(held, fork).or_else(|| held.stored_state());
        after.overlay.get_or_insert_with(Overlay::default).state = state;
    }
    Ok(after)
}

/// Makes a record descend from several changes: its lineage gets all their reigns, and its sequence number is not below any of theirs.
fn descend_from(record: &mut Record, from: &[(&Stamp, &[Stamp])]) {
    let highest = from
        .iter()
        .map(|(stamp, _)| stamp.sequence)
        .max()
        .unwrap_or(0);
    let mut lineage: Vec<Stamp> = Vec::new();
    for (stamp, earlier) in from {
        let first = Stamp {
            sequence: 1,
            ..(*stamp).clone()
        };
        let reigns = if earlier.is_empty() {
            std::slice::from_ref(&first)
        } else {
            earlier
        };
        for reign in reigns {
            if !lineage
                .iter()
                .any(|known| (known.epoch, &known.incarnation) == (reign.epoch, &reign.incarnation))
            {
                lineage.push(reign.clone());
            }
        }
    }
    lineage.sort_by_key(|reign| (reign.epoch, reign.sequence));
    let most = lineage.len().saturating_sub(Lineage::MOST - 1);
    lineage.drain(..most);
    record.lineage = lineage.into();
    record.stamp.sequence = record.stamp.sequence.max(highest);
}

/// Lets no reign in the lineage end before the decision, so that every change made in any of them counts as an ancestor of it.
fn extend_reigns(record: &mut Record) {
    if planted!(DecisionKeepsOneLine) {
        return;
    }
    let decided = record.stamp.sequence;
    let own = (record.stamp.epoch, record.stamp.incarnation.clone());
    record
        .lineage
        .retain(|reign| (reign.epoch, &reign.incarnation) != (own.0, &own.1));
    record.lineage.push(Stamp {
        sequence: decided,
        ..record.stamp.clone()
    });
    record
        .lineage
        .iter_mut()
        .skip(1)
        .for_each(|reign| reign.sequence = decided);
}

#[cfg(test)]
mod tests;
