//! This module decides what becomes of a copy that comes in: it is created here, it updates what is held, it is kept as a fork, or it
//! changes nothing.
//!
//! A copy comes from the server that issues the object, from a relay, or from a foreign server that this one observes. Its attributes are
//! stored verbatim. What this server adds to them (another Name, a State that is further along) is kept in the record's overlay.

use crate::ask::Ask;
use crate::node::{Node, new_identifier};
use crate::planted::planted;
use crate::policy::{Collisions, OnIdentifier};
use crate::receive::authority::Speaker;
use crate::receive::collision::{resolve_links, resolve_names, resolve_waiting_links};
use crate::receive::fork::{self, Fork};
use crate::receive::same_object::{check_same_object, has_other_object};
use crate::relation::emergency::EmergencyRevoke;
use crate::relation::followed::Upstream;
use crate::relation::receipts::{Receipts, ToldReceipts};
use crate::report::Outcome;
use keyferry_kmip::spec::State;
use keyferry_kmip::{Cause, DateTime, Failure, Object, Text, lifecycle};
use keyferry_store::{
    Descent, Effects, Material, Overlay, Record, RecordNumber, SnapshotExt, descent,
};

/// The result of merging an object that came in with what is held here.
pub(crate) struct MergeResult {
    /// The object's identifier here.
    pub(crate) identifier: Text,
    /// The changes to make in the store.
    pub(crate) effects: Effects,
    /// The outcome that the sender is told.
    pub(crate) outcome: Outcome,
}

/// A copy that came in.
pub(crate) struct Incoming {
    /// The record of the copy: its identifier is the one that it should get here, and its overlay holds what the relation says of it.
    pub(crate) record: Record,
    /// The object itself, where it came along.
    pub(crate) object: Option<Object>,
    /// The digest of the copy's attributes.
    pub(crate) digest: Vec<u8>,
    /// Whether this server saw the object at a foreign server, and issues the copy itself.
    pub(crate) observed: bool,
    /// Whether a relation brings it: its server goes on telling of the object.
    pub(crate) by_relation: bool,
    /// The server id of the sender.
    pub(crate) from: Text,
    /// As whom the sender speaks.
    pub(crate) speaker: Speaker,
    /// The receipts that came along.
    pub(crate) receipts: ToldReceipts,
    /// Whether the issuer itself, asked for the object after this server got what it holds of it, does not know that change, which relays alone
    /// have told of: then the change was made up.
    pub(crate) overrules: bool,
    /// Whether what is held has changed by itself since it came, so that the very same copy takes its place.
    pub(crate) rotted: bool,
}

/// Merges a copy with what the store holds of its object.
pub(crate) fn merge_copy(
    node: &Node,
    ask: &mut Ask<'_>,
    collisions: &Collisions,
    incoming: Incoming,
) -> Result<MergeResult, Failure> {
    let held = ask.snapshot.by_object_id(&incoming.record.id)?;
    merge_with_held(node, ask, collisions, held, incoming)
}

/// Merges a copy with what is held of its object, when the caller has looked that up already.
pub(crate) fn merge_with_held(
    node: &Node,
    ask: &mut Ask<'_>,
    collisions: &Collisions,
    held: Option<(RecordNumber, Record)>,
    mut incoming: Incoming,
) -> Result<MergeResult, Failure> {
    let id = incoming.record.id.clone();
    let (from, receipts) = (&incoming.from, incoming.receipts.clone());
    Receipts::put_into(&mut incoming.record, from, receipts)?;
    let mut merged = merge_incoming(node, ask, collisions, held, incoming)?;
    if matches!(
        merged.outcome,
        Outcome::Created | Outcome::Updated | Outcome::Renamed
    ) {
        let forgotten = Receipts::forget_later(ask.snapshot, &id)?;
        merged.effects.state.extend(forgotten);
    }
    Ok(merged)
}

fn merge_incoming(
    node: &Node,
    ask: &mut Ask<'_>,
    collisions: &Collisions,
    held: Option<(RecordNumber, Record)>,
    incoming: Incoming,
) -> Result<MergeResult, Failure> {
    let destroyed = incoming.record.is_destroyed();
    match held {
        Some(held) => merge_known(node, ask, collisions, held, incoming),
        None if incoming.object.is_none() && !destroyed => Err(Failure::new(
            Cause::MissingData,
            "the object itself is missing",
        )),
        None => create(
            node,
            ask,
            collisions,
            None,
            incoming.record,
            incoming.object.filter(|_| !destroyed),
        ),
    }
}

/// Stores a copy of an object that is not held here; `before` is the tombstone of a copy that was withdrawn.
fn create(
    node: &Node,
    ask: &mut Ask<'_>,
    collisions: &Collisions,
    before: Option<(RecordNumber, Record)>,
    mut record: Record,
    object: Option<Object>,
) -> Result<MergeResult, Failure> {
    let mut outcome = Outcome::Created;
    if ask.snapshot.by_identifier(&record.identifier)?.is_some() {
        match collisions.identifier {
            OnIdentifier::Fail => {
                let why = format_args!(
                    "another object has the identifier {:?} here",
                    record.identifier
                );
                return Err(Failure::new(Cause::ObjectExists, why));
            }
            OnIdentifier::Skip => {
                return Ok(MergeResult {
                    identifier: record.identifier,
                    effects: Effects::none(),
                    outcome: Outcome::Skipped,
                });
            }
            OnIdentifier::Assign => {
                record.identifier = new_identifier(&mut *ask.random)?;
                outcome = Outcome::Renamed;
            }
        }
    }
    if resolve_names(node, ask, &mut record, None, &collisions.name)? {
        outcome = Outcome::Renamed;
    }
    if let Some(object) = &object {
        node.recognise(ask, &mut record, object)?;
    }
    let mut effects = Effects::none();
    resolve_links(ask, &mut record, &mut effects)?;
    resolve_waiting_links(ask, &record, &mut effects)?;
    let identifier = record.identifier.clone();
    effects.extend(Effects::change(
        before,
        record,
        object.map_or(Material::Keep, |object| Material::Set(object.into())),
    ));
    Ok(MergeResult {
        identifier,
        effects,
        outcome,
    })
}

/// Stores a copy of an object whose earlier copy was withdrawn; the State that was known of it still counts.
fn revive(
    node: &Node,
    ask: &mut Ask<'_>,
    collisions: &Collisions,
    held: (RecordNumber, Record),
    incoming: Incoming,
) -> Result<MergeResult, Failure> {
    let destroyed = incoming.record.is_destroyed();
    if incoming.object.is_none() && !destroyed {
        return Err(Failure::new(
            Cause::MissingData,
            "the object was withdrawn, and comes again without its material",
        ));
    }
    let mut record = incoming.record;
    // Whoever knew it by its identifier here finds it there again.
    if record.identifier != held.1.identifier
        && ask.snapshot.by_identifier(&held.1.identifier)?.is_none()
    {
        record.identifier = held.1.identifier.clone();
    }
    let known = held.1.overlay.as_ref().and_then(|overlay| overlay.state);
    overlay_known_state(&mut record, known);
    record.fingerprint = held.1.fingerprint.clone();
    let has_no_material = destroyed || record.is_destroyed();
    create(
        node,
        ask,
        collisions,
        Some(held),
        record,
        incoming.object.filter(|_| !has_no_material),
    )
}

/// Puts the State that is known here into the overlay, where the copy's State would be a step back from it.
fn overlay_known_state(record: &mut Record, known: Option<State>) {
    let (Some(here), Some(there)) = (known, record.attributes.state()) else {
        return;
    };
    if planted!(StateFollowsTheCopy) {
        return;
    }
    let (own, new) = (lifecycle::Rank::of(here), lifecycle::Rank::of(there));
    let kept = (!own.may_become(new)).then(|| own.joined_state(new));
    if kept.is_some() || record.overlay.is_some() {
        record.overlay.get_or_insert_with(Overlay::default).state = kept;
    }
}

/// Merges a copy with a record of the same object.
fn merge_known(
    node: &Node,
    ask: &mut Ask<'_>,
    collisions: &Collisions,
    (number, held): (RecordNumber, Record),
    incoming: Incoming,
) -> Result<MergeResult, Failure> {
    if incoming.rotted {
        return update(node, ask, collisions, (number, held), incoming);
    }
    if incoming.overrules {
        return overrule(node, ask, collisions, (number, held), incoming);
    }
    let object = incoming.object.as_ref();
    let collision = check_same_object(node, &held, &incoming.record, object);
    let differs = collision.is_err() || has_other_object(ask, number, object)?;
    // What a relay made up gives way to the issuer's own word.
    if differs && incoming.speaker == Speaker::Issuer && Receipts::is_hearsay(ask.snapshot, &held)?
    {
        return overrule(node, ask, collisions, (number, held), incoming);
    }
    collision?;
    let unchanged = |effects| MergeResult {
        identifier: held.identifier.clone(),
        effects,
        outcome: Outcome::Unchanged,
    };
    if is_barred(ask, &held, &incoming)? {
        let there = incoming.record.attributes.state();
        return Ok(unchanged(join_state(node, (number, &held), there)));
    }
    match choose_merge(node, &held, &incoming)? {
        Merge::Ignore | Merge::FullerHeld => Ok(unchanged(Effects::none())),
        Merge::JoinState => Ok(unchanged(join_state(
            node,
            (number, &held),
            incoming.record.attributes.state(),
        ))),
        Merge::SameCopy => {
            let mut effects = Effects::none();
            let Incoming { from, receipts, .. } = incoming;
            let added = Receipts::add(ask.snapshot, &held, &from, receipts)?;
            effects.state.extend(added);
            Ok(unchanged(effects))
        }
        Merge::Revive => revive(node, ask, collisions, (number, held), incoming),
        Merge::Update => update(node, ask, collisions, (number, held), incoming),
        Merge::KeepFork => keep_fork(node, ask, (number, held), &incoming),
    }
}

/// Whether a relay brings what its issuer has withdrawn from this server, which follows it: only the issuer brings that back
/// ([rule 6](crate::design#rule-6)).
fn is_barred(ask: &Ask<'_>, held: &Record, incoming: &Incoming) -> Result<bool, Failure> {
    let by_issuer = held.overlay.as_ref().and_then(|overlay| overlay.by_issuer);
    if !held.is_withdrawn() || by_issuer != Some(true) || incoming.speaker != Speaker::Relay {
        return Ok(false);
    }
    let upstreams = Upstream::all(ask.snapshot)?;
    Ok(upstreams
        .iter()
        .any(|upstream| upstream.server == held.stamp.issuer && upstream.ended.is_none()))
}

/// What a copy does to a record of the same object.
enum Merge {
    /// Nothing: the record is the tombstone of a withdrawn copy.
    Ignore,
    /// The record is newer, and only a State that it lacks is joined.
    JoinState,
    /// The record holds the same already; the receipts that the copy came with are added.
    SameCopy,
    /// The record holds the same change with more attributes.
    FullerHeld,
    /// The record is the tombstone of a withdrawn copy, and the new one takes its place.
    Revive,
    /// The copy is newer and replaces what is held.
    Update,
    /// Neither descends from the other: the copy is kept as a fork.
    KeepFork,
}

/// Chooses by how the changes descend from each other.
fn choose_merge(node: &Node, held: &Record, incoming: &Incoming) -> Result<Merge, Failure> {
    let newer = &incoming.record;
    let relation = descent((&held.stamp, &held.lineage), (&newer.stamp, &newer.lineage));
    let replaces = match relation {
        Descent::Older if planted!(OlderApplies) => !node.issues(held),
        Descent::Older => return Ok(Merge::JoinState),
        // A copy that was withdrawn does not come back by an old bundle: nobody would tell this server what becomes of it.
        Descent::Equal if held.is_withdrawn() && !incoming.by_relation => {
            return Ok(Merge::Ignore);
        }
        _ if held.is_withdrawn() && relation != Descent::Fork => return Ok(Merge::Revive),
        Descent::Equal if held.copy_digest()? == incoming.digest => {
            return Ok(Merge::SameCopy);
        }
        // The same change, of which two relations leave out different attributes: the fuller copy counts.
        Descent::Equal if omitted_attributes(held) != omitted_attributes(newer) => {
            if omitted_attributes(held)
                .iter()
                .all(|name| omitted_attributes(newer).contains(name))
            {
                return Ok(Merge::FullerHeld);
            }
            true
        }
        Descent::Newer => !node.issues(held) || incoming.observed,
        // Nobody else can have changed further what only this server may change.
        Descent::Equal | Descent::Fork => planted!(ForkOverwrites),
    };
    Ok(if replaces {
        Merge::Update
    } else {
        Merge::KeepFork
    })
}

/// Raises the State of a record to the join with one that is told of it without the copy, or with an older one: no word of a compromise is lost because it is late
/// ([rule 3](crate::design#rule-3)). What this server issues has heard of it already.
pub(crate) fn join_state(
    node: &Node,
    (number, held): (RecordNumber, &Record),
    there: Option<State>,
) -> Effects {
    let (Some(here), Some(there)) = (held.stored_state(), there) else {
        return Effects::none();
    };
    let joined = lifecycle::Rank::of(here).joined_state(lifecycle::Rank::of(there));
    if joined == here || node.issues(held) {
        return Effects::none();
    }
    let mut after = held.clone();
    after.overlay.get_or_insert_with(Overlay::default).state = Some(joined);
    let material = Material::left_to(&after);
    Effects::change(Some((number, held.clone())), after, material)
}

/// Replaces what relays alone have told of an object by the word of its issuer. What was held is named as a fork.
fn overrule(
    node: &Node,
    ask: &mut Ask<'_>,
    collisions: &Collisions,
    (number, held): (RecordNumber, Record),
    incoming: Incoming,
) -> Result<MergeResult, Failure> {
    let destroyed = incoming.record.is_destroyed();
    if incoming.object.is_none() && !destroyed {
        return Err(Failure::new(
            Cause::MissingData,
            "what a relay told of the object was made up, and its issuer has not sent the object itself yet",
        ));
    }
    let mut named = fork::name(&held, &incoming.from, ask.now.wall)?;
    let mut record = incoming.record;
    record.identifier = held.identifier.clone();
    // What was said here in an emergency is no hearsay.
    let emergency = EmergencyRevoke::find(ask.snapshot, &record.id)?;
    overlay_known_state(&mut record, emergency.map(|_| State::COMPROMISED));
    if let Some(object) = incoming.object.as_ref().filter(|_| !destroyed) {
        node.recognise(ask, &mut record, object)?;
    }
    resolve_names(node, ask, &mut record, None, &collisions.name)?;
    resolve_links(ask, &mut record, &mut named)?;
    let identifier = record.identifier.clone();
    let material = match incoming.object.filter(|_| !destroyed) {
        Some(object) => Material::Set(object.into()),
        None => Material::Remove,
    };
    named.extend(Effects::change(Some((number, held)), record, material));
    Ok(MergeResult {
        identifier,
        effects: named,
        outcome: Outcome::Updated,
    })
}

/// Keeps a copy that does not descend from the record, nor the record from it, as a fork.
fn keep_fork(
    node: &Node,
    ask: &Ask<'_>,
    (number, held): (RecordNumber, Record),
    incoming: &Incoming,
) -> Result<MergeResult, Failure> {
    let fork = Fork::of(&incoming.record, &incoming.from, ask.now.wall);
    let identifier = held.identifier.clone();
    let effects = if node.issues(&held) {
        fork::keep_at_issuer(node, ask, (number, &held), fork)
    } else {
        fork::keep_at_replica(node, ask, (number, held), fork)
    }?;
    Ok(MergeResult {
        identifier,
        effects,
        outcome: Outcome::Forked,
    })
}

/// Replaces a record by a newer copy of the same object. The copy stays verbatim; what is local is carried over.
fn update(
    node: &Node,
    ask: &mut Ask<'_>,
    collisions: &Collisions,
    (number, held): (RecordNumber, Record),
    incoming: Incoming,
) -> Result<MergeResult, Failure> {
    let Incoming {
        record: mut after,
        object,
        rotted,
        ..
    } = incoming;
    carry_over_local_fields(&mut after, &held);
    let known = match rotted {
        true => held.overlay.as_ref().and_then(|overlay| overlay.state),
        false => known_state(&held, ask.now.wall),
    };
    overlay_known_state(&mut after, known);
    let material = updated_material(node, ask, &mut after, &held, object, rotted)?;
    resolve_names(node, ask, &mut after, Some(&held), &collisions.name)?;
    let mut effects = fork::remove_ended_forks(ask.snapshot, &after)?;
    resolve_links(ask, &mut after, &mut effects)?;
    let identifier = after.identifier.clone();
    effects.extend(Effects::change(Some((number, held)), after, material));
    Ok(MergeResult {
        identifier,
        effects,
        outcome: Outcome::Updated,
    })
}

/// Gives a copy the identifier, owner and overlay of the record that it replaces, and adds what the relation says of the copy.
fn carry_over_local_fields(after: &mut Record, held: &Record) {
    let by_relation = after.overlay.take();
    after.identifier = held.identifier.clone();
    let owner_there = |overlay: &Option<Overlay>| overlay.as_ref().and_then(|it| it.owner.clone());
    if owner_there(&by_relation) == owner_there(&held.overlay) {
        // Whom the object belongs to here, as policy has it or as somebody has said since.
        after.owner = held.owner.clone().or(after.owner.take());
    }
    after.overlay = held.overlay.clone();
    let Some(by_relation) = by_relation else {
        if let Some(overlay) = &mut after.overlay {
            (overlay.owner, overlay.receipts) = (None, None);
        }
        return;
    };
    let overlay = after.overlay.get_or_insert_with(Overlay::default);
    overlay.without = by_relation.without;
    overlay.owner = by_relation.owner;
    overlay.receipts = by_relation.receipts;
}

/// The State of a record that no update takes back. It is the stored one: what a date has led to counts only when the issuer says so,
/// because the issuer may have put the date off.
fn known_state(held: &Record, now: DateTime) -> Option<State> {
    if planted!(DerivedStateCounts) {
        return held.state(now);
    }
    held.overlay
        .as_ref()
        .and_then(|overlay| overlay.state)
        .or_else(|| held.attributes.state())
}

/// Decides what becomes of the key material in an update, and sets the fingerprint.
fn updated_material(
    node: &Node,
    ask: &Ask<'_>,
    after: &mut Record,
    held: &Record,
    object: Option<Object>,
    rotted: bool,
) -> Result<Material, Failure> {
    let material = match (after.is_destroyed(), object) {
        (true, _) => Material::Remove,
        (false, Some(object)) if rotted || held.fingerprint.is_none() => {
            node.recognise(ask, after, &object)?;
            Material::Set(object.into())
        }
        _ => Material::Keep,
    };
    after.fingerprint = after
        .fingerprint
        .take()
        .or_else(|| held.fingerprint.clone());
    Ok(material)
}

/// The names of the attributes that relations leave out of a copy.
fn omitted_attributes(record: &Record) -> &[Text] {
    record
        .overlay
        .as_ref()
        .map_or(&[], |overlay| &overlay.without)
}

#[cfg(test)]
mod tests;
