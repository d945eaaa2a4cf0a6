//! Changes of one object that do not descend from each other: both are kept and named, until a person decides (DESIGN: rule 3).

use crate::ask::Ask;
use crate::error::{Error, ErrorKind, Result};
use crate::node::Node;
use crate::planted::planted;
use crate::receive::state::join;
use keyferry_kmip::projection::Projection;
use keyferry_kmip::spec::{AttributeValue, ObjectType, State};
use keyferry_kmip::{Attributes, DateTime, Failure, Now, Text, extension as x, lifecycle};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{
    Descent, Effects, Material, ObjectId, Overlay, Record, RecordNumber, Snapshot, SnapshotExt,
    Span, Stamp, Store, StoreExt, descent, index,
};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::ops::ControlFlow;

/// What another server says of an object, beside what is held here.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::FORK)]
pub struct Fork {
    /// The object.
    pub id: ObjectId,
    /// The server id of whom it came from.
    #[ttlv(tag = x::SERVER_ID)]
    pub from: Text,
    /// Since when it is known.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// Which change.
    pub stamp: Stamp,
    /// Its earlier reigns.
    #[ttlv(tag = x::LINEAGE)]
    pub lineage: Vec<Stamp>,
    /// What it is.
    pub object_type: ObjectType,
    /// Its attributes there.
    #[ttlv(group = Projection::Stored)]
    pub attributes: Attributes,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// Which side of a fork is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForkVersion {
    /// What is held here.
    Held,
    /// What the other server said.
    Other,
}

/// What a person has decided.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::DECISION)]
pub struct ForkDecision {
    /// The object.
    pub id: ObjectId,
    /// Who.
    #[ttlv(tag = x::DECIDED_BY)]
    pub by: Text,
    /// When.
    #[ttlv(tag = x::SINCE)]
    pub at: DateTime,
    /// The change that was not kept.
    pub stamp: Stamp,
    /// Its earlier reigns.
    #[ttlv(tag = x::LINEAGE)]
    pub lineage: Vec<Stamp>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

const PREFIX: &[u8] = b"fork/";

fn of_object(prefix: &[u8], id: &ObjectId) -> keyferry_store::Result<Vec<u8>> {
    Ok([prefix, &index::object_id(id)?.key[..], b"/"].concat())
}

fn key(fork: &Fork) -> keyferry_store::Result<Vec<u8>> {
    Ok([&of_object(PREFIX, &fork.id)?[..], &fork.stamp.incarnation].concat())
}

fn under<T: Decode + keyferry_ttlv::Tagged>(
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
    /// All of them. There are as many as people leave undecided.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<Fork>> {
        Ok(under(snapshot, PREFIX)?)
    }

    /// How many there are.
    pub(crate) fn count(snapshot: &dyn Snapshot) -> keyferry_store::Result<i64> {
        let mut count = 0;
        snapshot.state(&Span::prefix(PREFIX), &mut |_, _| {
            count += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(count)
    }

    /// Those of one object.
    ///
    /// # Errors
    /// Those of the store.
    pub fn of_object(snapshot: &dyn Snapshot, id: &ObjectId) -> Result<Vec<Fork>> {
        Ok(of(snapshot, id)?)
    }

    /// What came in, as it would be kept.
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

    fn place(&self) -> (&Stamp, &[Stamp]) {
        (&self.stamp, &self.lineage)
    }
}

fn of(snapshot: &dyn Snapshot, id: &ObjectId) -> keyferry_store::Result<Vec<Fork>> {
    let mut forks: Vec<Fork> = under(snapshot, &of_object(PREFIX, id)?)?;
    forks.retain(|fork| fork.id == *id);
    Ok(forks)
}

impl ForkDecision {
    /// All that were made.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<ForkDecision>> {
        Ok(under(snapshot, b"decided/")?)
    }
}

/// The state in which a fork leaves an object here: the join of both. `None` when it is that of the held one.
fn joined(held: &Record, fork: &Fork) -> Option<State> {
    let (here, there) = (held.stored_state()?, fork.attributes.state()?);
    let joined = lifecycle::Rank::of(here).joined_state(lifecycle::Rank::of(there));
    (joined != here).then_some(joined)
}

/// Whether it was known, or a person has decided against it already.
fn is_known(snapshot: &dyn Snapshot, fork: &Fork) -> keyferry_store::Result<bool> {
    let covers = |stamp: &Stamp, lineage: &[Stamp]| {
        matches!(
            descent((stamp, lineage), fork.place()),
            Descent::Equal | Descent::Older
        )
    };
    let decided: Vec<ForkDecision> = under(snapshot, &of_object(b"decided/", &fork.id)?)?;
    Ok(of(snapshot, &fork.id)?
        .iter()
        .any(|kept| covers(&kept.stamp, &kept.lineage) && kept.attributes == fork.attributes)
        || decided
            .iter()
            .any(|decision| decision.id == fork.id && covers(&decision.stamp, &decision.lineage)))
}

/// Keeps a fork at a replica: its state counts here, and the copy stays.
pub(crate) fn at_replica(
    ask: &Ask<'_>,
    (number, held): (RecordNumber, Record),
    fork: Fork,
) -> Result<Effects, Failure> {
    if is_known(ask.snapshot, &fork)? || planted!(ForkUnnamed) {
        return Ok(Effects::none());
    }
    let mut effects = Effects::none();
    effects.state.push((key(&fork)?, Some(bytes_of(&fork)?)));
    if let Some(state) = joined(&held, &fork) {
        let mut after = held.clone();
        after.overlay.get_or_insert_with(Overlay::default).state = Some(state);
        let material = if after.is_destroyed() {
            Material::Remove
        } else {
            Material::Keep
        };
        effects.extend(Effects::change(Some((number, held)), after, material));
    }
    Ok(effects)
}

/// Keeps a fork at the issuer: what is compromised there is so here, and what is out of use there is so here; that it was destroyed waits for
/// the person who decides.
pub(crate) fn at_issuer(
    node: &Node,
    ask: &Ask<'_>,
    (number, held): (RecordNumber, &Record),
    fork: Fork,
) -> Result<Effects, Failure> {
    if is_known(ask.snapshot, &fork)? {
        return Ok(Effects::none());
    }
    let mut effects = Effects::none();
    effects.state.push((key(&fork)?, Some(bytes_of(&fork)?)));
    let (Some(here), Some(there)) = (held.attributes.state(), fork.attributes.state()) else {
        return Ok(effects);
    };
    let there = lifecycle::Rank::of(there);
    let there = lifecycle::Rank {
        step: there.step.min(2),
        ..there
    };
    let joined = lifecycle::Rank::of(here).joined_state(there);
    if joined != here {
        let mut after = held.clone();
        let mut told = fork.attributes.clone();
        told.set(AttributeValue::State(joined));
        join(&mut after.attributes, &told);
        node.advance(&mut after, ask.snapshot.reign()?, ask.now.wall);
        effects.extend(Effects::change(
            Some((number, held.clone())),
            after,
            Material::Keep,
        ));
    }
    Ok(effects)
}

/// What ends the forks that a change descends from.
pub(crate) fn ended_by(
    snapshot: &dyn Snapshot,
    record: &Record,
) -> keyferry_store::Result<Effects> {
    let mut effects = Effects::none();
    for fork in of(snapshot, &record.id)? {
        let now = descent(fork.place(), (&record.stamp, &record.lineage));
        if matches!(now, Descent::Newer | Descent::Equal) {
            effects.state.push((key(&fork)?, None));
        }
    }
    Ok(effects)
}

/// Decides a fork, as `by` has it. At the object's issuer, what is kept becomes a change that descends from both sides: whoever holds one of them
/// takes it. At a replica it says what the replica holds until its issuer decides. No state goes back by it.
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
        let mut after = held.clone();
        if keep == ForkVersion::Other {
            after.attributes = fork.attributes.clone();
            after.stamp = fork.stamp.clone();
            after.lineage = fork.lineage.clone();
            join(&mut after.attributes, &held.attributes);
        }
        if node.issues(&held) {
            join(&mut after.attributes, &fork.attributes);
            descend(&mut after, &[(&held.stamp, &held.lineage), fork.place()]);
            node.advance(&mut after, transaction.reign()?, now.wall);
            span_both(&mut after);
        } else if keep == ForkVersion::Other {
            // A copy is kept verbatim: what joins lies beside it.
            after.attributes = fork.attributes.clone();
            let state = joined(&held, fork).or_else(|| held.stored_state());
            after.overlay.get_or_insert_with(Overlay::default).state = state;
        }
        if after != held {
            let material = if after.is_destroyed() {
                Material::Remove
            } else {
                Material::Keep
            };
            effects.extend(Effects::change(
                Some((number, held.clone())),
                after,
                material,
            ));
        }
        let dropped = if keep == ForkVersion::Held {
            fork.place()
        } else {
            (&held.stamp, &held.lineage[..])
        };
        let decision = ForkDecision {
            id: id.clone(),
            by: by.into(),
            at: now.wall,
            stamp: dropped.0.clone(),
            lineage: dropped.1.to_vec(),
            extra: Extra::NONE,
        };
        let decided = [
            &of_object(b"decided/", id)?[..],
            &now.wall.0.to_be_bytes(),
            &dropped.0.incarnation,
        ]
        .concat();
        effects.state.push((decided, Some(bytes_of(&decision)?)));
        effects.state.push((key(fork)?, None));
        effects.apply(transaction)?;
        Ok(())
    })
}

/// Lets a record descend from several changes: their reigns are all in its lineage.
fn descend(record: &mut Record, from: &[(&Stamp, &[Stamp])]) {
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
    record.lineage = lineage;
    record.stamp.sequence = record.stamp.sequence.max(highest);
}

/// No reign in the lineage ends before the decision, so that whatever was done in any of them is an ancestor of it.
fn span_both(record: &mut Record) {
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
