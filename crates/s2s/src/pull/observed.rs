//! What a foreign server shows of an object, as a copy of which this server is the one observer ([rules 1](crate::design#rule-1) and [2](crate::design#rule-2)).

use crate::ask::Ask;
use crate::node::Node;
use crate::policy::Collisions;
use crate::receive::authority::Speaker;
use crate::receive::check::{check_attributes, check_digest};
use crate::receive::copy::SeenObject;
use crate::receive::merge;
use crate::receive::merge::{Incoming, MergeResult};
use crate::receive::same_object::check_same_object;
use crate::receive::state::keep_known_state;
use crate::relation::alarm::{Alarm, AlarmKind};
use crate::relation::receipts::ToldReceipts;
use crate::report::Outcome;
use crate::shadow::is_shadow;
use keyferry_kmip::lifecycle::Rank;
use keyferry_kmip::spec::{AttributeValue, State, tag};
use keyferry_kmip::{Attributes, Cause, Failure, Object, Text};
use keyferry_store::record::copy_digest;
use keyferry_store::{Effects, Lineage, Material, ObjectId, Record, SnapshotExt, Stamp};
use keyferry_ttlv::Extra;

/// Whose object it is that was seen.
pub(crate) struct Observed<'a> {
    pub(crate) server: &'a Text,
    pub(crate) instance: &'a [u8],
    /// The client that gets it for good, if this server takes it over.
    pub(crate) adopter: Option<&'a Text>,
}

/// The record of what was seen, as it would be held here. What the server does not tell stays as it was told, or is completed.
pub(crate) fn observed_copy(
    node: &Node,
    ask: &Ask<'_>,
    of: &Observed<'_>,
    sight: SeenObject,
) -> Result<(Incoming, Option<Record>), Failure> {
    let id = ObjectId {
        server: of.server.clone(),
        instance: of.instance.to_vec(),
        identifier: sight.identifier.clone(),
    };
    let held = ask.snapshot.by_object_id(&id)?.map(|(_, held)| held);
    let SeenObject {
        identifier,
        object_type,
        mut attributes,
        object,
        wrapped_by: _,
    } = sight;
    clean(node, &mut attributes, object.as_ref())?;
    keep_told(&mut attributes, held.as_ref());
    node.set_default_attributes(ask.snapshot, &mut attributes, ask.now)?;
    if let Some(object) = &object {
        node.digest(&mut attributes, object);
    }
    let digest = copy_digest(object_type, &attributes)?;
    let (stamp, lineage) = stamp(node, ask, of, held.as_ref(), &digest)?;
    let record = Record {
        id,
        identifier,
        owner: of.adopter.cloned(),
        stamp,
        lineage,
        object_type,
        attributes,
        overlay: None,
        fingerprint: None,
        lost: Vec::new(),
        extra: Extra::NONE,
    };
    Ok((
        Incoming {
            record,
            object,
            digest,
            observed: true,
            by_relation: false,
            from: of.server.clone(),
            speaker: Speaker::Issuer,
            receipts: ToldReceipts::default(),
            overrules: false,
            rotted: false,
        },
        held,
    ))
}

/// Keeps what every object has and was told before, where the server does not tell it any more.
fn keep_told(attributes: &mut Attributes, held: Option<&Record>) {
    for held in held.iter().flat_map(|held| &held.attributes) {
        if matches!(
            held.value.tag(),
            tag::STATE | tag::INITIAL_DATE | tag::LAST_CHANGE_DATE | tag::DIGEST
        ) && attributes.get(held.value.tag()).is_none()
        {
            attributes.keep(held.clone());
        }
    }
}

/// Leaves what the server says of other servers out, and fails where its attributes contradict each other or the material.
fn clean(node: &Node, attributes: &mut Attributes, object: Option<&Object>) -> Result<(), Failure> {
    attributes.remove(tag::UNIQUE_IDENTIFIER);
    attributes.remove(tag::OBJECT_TYPE);
    attributes.retain(|attribute| !is_shadow(&attribute.value));
    attributes.check_count()?;
    attributes.number();
    attributes.check_indices()?;
    check_attributes(attributes)?;
    check_digest(node, attributes, object)
}

/// The stamp of what was seen, and its lineage: a first one, that of what is held where nothing has changed, or the next one.
fn stamp(
    node: &Node,
    ask: &Ask<'_>,
    of: &Observed<'_>,
    held: Option<&Record>,
    digest: &[u8],
) -> Result<(Stamp, Lineage), Failure> {
    let reign = ask.snapshot.reign()?;
    Ok(match held {
        None if of.adopter.is_some() => {
            let first = Stamp::first(&node.home.server, reign);
            let adopted = Stamp {
                epoch: 2,
                sequence: 2,
                ..first.clone()
            };
            (adopted.clone(), vec![first, adopted].into())
        }
        None => (Stamp::first(&node.home.server, reign), Lineage::new()),
        Some(held) if held.copy_digest()? == digest => (held.stamp.clone(), held.lineage.clone()),
        Some(held) => {
            let mut next = held.clone();
            node.advance(&mut next, reign, ask.now.wall);
            (next.stamp, next.lineage)
        }
    })
}

/// Decides what becomes of what was seen, and what there is to say about it.
pub(crate) fn take_observed(
    node: &Node,
    ask: &mut Ask<'_>,
    collisions: &Collisions,
    incoming: Incoming,
    held: Option<&Record>,
) -> Result<(MergeResult, Option<String>), Failure> {
    if let Some(held) = held.filter(|held| !node.observes(held)) {
        if held.object_type != incoming.record.object_type {
            return Err(Failure::new(
                Cause::InvalidField,
                format_args!("{} is held here with another Object Type", held.id),
            ));
        }
        if node.issues(held) {
            return join_source(node, ask, held, &incoming);
        }
        let unchanged = unchanged(held, "another server issues it");
        return Ok(unchanged);
    }
    let back = held.and_then(|held| state_that_went_back(held, &incoming.record));
    let adopts = held.is_none() && incoming.record.stamp.epoch > 1;
    let mut decision = merge::merge_copy(node, ask, collisions, incoming)?;
    if adopts {
        decision
            .effects
            .changes
            .iter_mut()
            .for_each(|change| own_names(&mut change.after));
    }
    let Some((known, shown)) = back else {
        return Ok((decision, None));
    };
    if let Some(held) = held {
        let alarm = Alarm::raise(ask, &held.id.server, AlarmKind::STATE_WENT_BACK)?;
        decision.effects.state.extend(alarm);
    }
    let why = format!("it is {known}, and its server shows it as {shown}: {known} counts here");
    Ok((decision, Some(why)))
}

/// The State that is known of an object and the one that its server shows, where the second is a step back from the first.
fn state_that_went_back(held: &Record, seen: &Record) -> Option<(State, State)> {
    let (known, shown) = (held.stored_state()?, seen.attributes.state()?);
    (!Rank::of(known).may_become(Rank::of(shown))).then_some((known, shown))
}

fn unchanged(held: &Record, why: &str) -> (MergeResult, Option<String>) {
    let decision = MergeResult {
        identifier: held.identifier.clone(),
        effects: Effects::none(),
        outcome: Outcome::Unchanged,
    };
    (decision, Some(why.to_owned()))
}

/// Joins the State that an object has at its source into the one here, which this server has taken over: all else that is changed there does not
/// count any more ([rule 5](crate::design#rule-5)).
fn join_source(
    node: &Node,
    ask: &Ask<'_>,
    held: &Record,
    seen: &Incoming,
) -> Result<(MergeResult, Option<String>), Failure> {
    check_same_object(node, held, &seen.record, seen.object.as_ref())?;
    let mut after = held.clone();
    keep_known_state(&mut after.attributes, &seen.record.attributes);
    let found = ask.snapshot.by_object_id(&held.id)?;
    let Some((number, held)) = found.filter(|(_, held)| held.attributes != after.attributes) else {
        return Ok(unchanged(held, "this server has taken it over"));
    };
    node.advance(&mut after, ask.snapshot.reign()?, ask.now.wall);
    let material = Material::left_to(&after);
    let decision = MergeResult {
        identifier: held.identifier.clone(),
        effects: Effects::change(Some((number, held)), after, material),
        outcome: Outcome::Updated,
    };
    let why = "this server has taken it over: the State of its source is joined, and nothing else";
    Ok((decision, Some(why.to_owned())))
}

/// The Names that are shown become the object's own: it is no copy any more.
fn own_names(record: &mut Record) {
    if record.stamp.epoch == 1 {
        return;
    }
    let is_name = |value: Option<&AttributeValue>| matches!(value, Some(AttributeValue::Name(_)));
    let Some(overlay) = &mut record.overlay else {
        return;
    };
    for hidden in overlay
        .hidden
        .extract_if(.., |hidden| is_name(hidden.value()))
    {
        record
            .attributes
            .retain(|own| Some(&own.value) != hidden.value());
        if let Some(instead) = hidden.instead() {
            record.attributes.push(instead.clone());
        }
    }
    record
        .overlay
        .take_if(|overlay| *overlay == keyferry_store::Overlay::default());
}

#[cfg(test)]
mod tests;
