//! What comes in: Import and Put, with and without our Message Extension.

use crate::ask::{Answered, Ask, Placeholder};
use crate::node::{Node, set_default_attributes};
use crate::receive::check::check_attributes;
use crate::receive::collision::check_names;
use crate::receive::copy::{SeenObject, copied};
use crate::receive::merge;
use crate::receive::merge::Decision;
use crate::report::Outcome;
use crate::wire::copy::{Copy, Held, KeyferryExtension};
use keyferry_kmip::spec::{AttributeValue, ObjectType, PutFunction, tag};
use keyferry_kmip::{
    Attributes, Cause, Failure, ImportRequest, ImportResponse, Object, PutRequest, PutResponse,
    RequestItem, ResponseItem, Text, UniqueIdentifier, lifecycle,
};
use keyferry_store::{Effects, Material, Record, SnapshotExt};
use keyferry_ttlv::Extra;

/// An object that comes in, by whichever operation.
struct Arrival {
    identifier: Text,
    object_type: Option<ObjectType>,
    attributes: Attributes,
    object: Option<Object>,
    replace: bool,
    copy: Option<Copy>,
}

pub(crate) fn import(
    node: &Node,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let mut request: ImportRequest = item.payload(ask.cx)?;
    let mut addition = KeyferryExtension::find(&item.message_extensions)?;
    let copy = addition.copy.take();
    let is_copy = copy.is_some();
    let (object, sensitive) = node.brought(ask, &mut request, is_copy)?;
    let mut attributes = request.attributes;
    if sensitive && !is_copy {
        attributes.set(AttributeValue::Sensitive(true));
    }
    if !is_copy && !ask.is_client {
        return Err(Failure::denied(
            "only a client may Import what is no copy of a peer's object",
        ));
    }
    let arrival = Arrival {
        identifier: text(&request.unique_identifier)?,
        object_type: request.object_type,
        attributes,
        object,
        replace: request.replace_existing.unwrap_or(false),
        copy,
    };
    let (decision, told) = weigh(node, ask, arrival, &addition)?;
    let response = ImportResponse {
        unique_identifier: decision.identifier.clone().into(),
        extra: Extra::NONE,
    };
    let mut outcome = Answered::answer(&response, ask.cx)?
        .with(decision.effects)
        .placing(decision.identifier);
    if is_copy {
        outcome.response.message_extension = Some(told.extension(false)?);
    }
    Ok(outcome)
}

/// Put: a server's push (KMIP 2.1 §6.2.3). Only a peer that may send may do it. An object that is to be replaced stays what it is: the
/// standard does not say what becomes of it, and one that is not known makes the Put a New.
pub(crate) fn put(node: &Node, ask: &mut Ask<'_>, item: &RequestItem) -> Result<Answered, Failure> {
    let request: PutRequest = item.payload(ask.cx)?;
    if !node.policy.peer(ask.tls).is_some_and(|peer| peer.may_send) {
        return Err(Failure::denied("only a peer that may send may Put"));
    }
    if request.put_function == PutFunction::REPLACE && request.replaced_unique_identifier.is_none()
    {
        return Err(Failure::new(
            Cause::InvalidField,
            "Put Replace needs a Replaced Unique Identifier",
        ));
    }
    let mut addition = KeyferryExtension::find(&item.message_extensions)?;
    let copy = addition.copy.take();
    let is_copy = copy.is_some();
    let arrival = Arrival {
        identifier: text(&request.unique_identifier)?,
        object_type: None,
        attributes: request.attributes,
        object: request.object,
        replace: false,
        copy,
    };
    let (decision, told) = weigh(node, ask, arrival, &addition)?;
    let mut response = ResponseItem::success(&PutResponse { extra: Extra::NONE }, ask.cx)?;
    if is_copy {
        response.message_extension = Some(told.extension(false)?);
    }
    Ok(Answered {
        response,
        effects: decision.effects,
        placeholder: Placeholder::Set(decision.identifier),
    })
}

/// Decides, and tells what the sender of a copy is to know. Nothing is done when only the answer was wanted, or when things are not as the
/// sender has planned them.
fn weigh(
    node: &Node,
    ask: &mut Ask<'_>,
    arrival: Arrival,
    addition: &KeyferryExtension,
) -> Result<(Decision, KeyferryExtension), Failure> {
    let dry_run = addition.dry_run == Some(true);
    let copy = arrival
        .copy
        .as_ref()
        .filter(|_| dry_run || addition.expected.is_some());
    let known = match copy {
        Some(copy) => {
            let held = ask.snapshot.by_object_id(&copy.id)?;
            let held = Held::of(held.as_ref().map(|(_, held)| held))?;
            let is_here = held.is(&copy.stamp, &copy.digest);
            Some((held, is_here))
        }
        None => None,
    };
    let mut decision = decide(node, ask, arrival)?;
    if let (Some(expected), Some((held, is_here))) = (&addition.expected, &known) {
        // What is here already as it was planned, an earlier run may have brought.
        let as_planned = *is_here || expected.held.as_ref().is_none_or(|planned| planned == held);
        if !as_planned {
            let planned = expected.held.clone().unwrap_or_default();
            return Err(Failure::new(
                Cause::WrongState,
                format_args!("{planned} was to be held here, and {held} is"),
            ));
        }
        if decision.outcome != expected.outcome
            && !(*is_here && decision.outcome == Outcome::Unchanged)
        {
            let (planned, now) = (expected.outcome, decision.outcome);
            return Err(Failure::new(
                Cause::WrongState,
                format_args!("it was to be {planned}, and would be {now}"),
            ));
        }
    }
    if dry_run {
        decision.effects = Effects::none();
    }
    let held = known.filter(|_| dry_run).map(|(held, _)| held);
    let told = KeyferryExtension {
        outcome: Some(decision.outcome),
        held,
        ..KeyferryExtension::default()
    };
    Ok((decision, told))
}

fn text(identifier: &UniqueIdentifier) -> Result<Text, Failure> {
    match identifier {
        UniqueIdentifier::Text(text) if !text.is_empty() => Ok(text.clone()),
        _ => Err(Failure::new(
            Cause::InvalidField,
            "the Unique Identifier of what comes in must be a text that is not empty",
        )),
    }
}

fn decide(node: &Node, ask: &mut Ask<'_>, mut arrival: Arrival) -> Result<Decision, Failure> {
    arrival.attributes.check_count()?;
    arrival.attributes.number();
    arrival.attributes.check_indices()?;
    let brought = arrival.object.as_ref().map(Object::object_type);
    let named = arrival.attributes.iter().find_map(|a| match a.value {
        AttributeValue::ObjectType(object_type) => Some(object_type),
        _ => None,
    });
    let object_type = arrival.object_type.or(brought).or(named).ok_or_else(|| {
        Failure::new(
            Cause::MissingData,
            "neither an object nor its type is there",
        )
    })?;
    if brought.is_some_and(|brought| brought != object_type)
        || named.is_some_and(|named| named != object_type)
    {
        return Err(Failure::new(
            Cause::InvalidField,
            format_args!("the Object Type is {object_type}, and the object is another one"),
        ));
    }
    // Identifier and type are told beside the attributes; the rest is taken as it is (KMIP 2.1 §6.1.25).
    arrival.attributes.remove(tag::UNIQUE_IDENTIFIER);
    arrival.attributes.remove(tag::OBJECT_TYPE);
    match arrival.copy.take() {
        Some(copy) => {
            let sent = arrival.identifier.clone();
            let decided = decide_copy(node, ask, arrival, object_type, copy);
            unlearned(node, ask, &sent, decided)
        }
        None => decide_import(node, ask, arrival, object_type),
    }
}

/// An Import without our extension: the object becomes ours, or replaces one that is.
fn decide_import(
    node: &Node,
    ask: &mut Ask<'_>,
    arrival: Arrival,
    object_type: ObjectType,
) -> Result<Decision, Failure> {
    let Arrival {
        identifier,
        mut attributes,
        object,
        replace,
        ..
    } = arrival;
    check_attributes(&attributes)?;
    set_default_attributes(&mut attributes, ask.now.wall);
    let destroyed = attributes.state().is_some_and(lifecycle::is_destroyed);
    if object.is_none() && !destroyed {
        return Err(Failure::new(
            Cause::MissingData,
            "the object itself is missing",
        ));
    }
    let object = object.filter(|_| !destroyed);
    let held = ask.snapshot.by_identifier(&identifier)?;
    let reign = ask.snapshot.reign()?;
    let Some((number, held)) = held else {
        check_names(node, ask, &attributes, None)?;
        if let Some(object) = &object {
            node.digest(&mut attributes, object);
        }
        let mut record = node.born(reign, identifier.clone(), object_type, attributes);
        record.owner = Some(ask.caller.name.as_str().into());
        if let Some(object) = &object {
            node.recognise(ask, &mut record, object)?;
        }
        let effects = Effects::change(
            None,
            record,
            object.map_or(Material::Keep, |object| Material::Set(object.into())),
        );
        return Ok(Decision {
            identifier,
            effects,
            outcome: Outcome::Created,
        });
    };
    if !replace {
        return Err(Failure::new(
            Cause::ObjectExists,
            format_args!("an object {identifier:?} exists already"),
        ));
    }
    ask.rights.check(ask.caller, ask.operation, &held)?;
    node.check_issuer(ask.snapshot, &held)?;
    let (old, new) = (
        held.state(ask.now.wall),
        lifecycle::state_at(&attributes, ask.now.wall),
    );
    if let (Some(old), Some(new)) = (old, new) {
        let (from, to) = (lifecycle::Rank::of(old), lifecycle::Rank::of(new));
        if held.is_compromised() || lifecycle::is_destroyed(old) || !from.may_become(to) {
            let cause = if lifecycle::is_destroyed(old) {
                Cause::ObjectDestroyed
            } else {
                Cause::WrongState
            };
            return Err(Failure::new(
                cause,
                format_args!("the object is {old}: it can't be replaced by one that is {new}"),
            ));
        }
    }
    if held.object_type != object_type {
        return Err(Failure::new(
            Cause::InvalidField,
            format_args!(
                "the object is a {}, and can't become a {object_type}",
                held.object_type
            ),
        ));
    }
    // Other servers know this object by its material: another one needs another identifier.
    let fingerprint = object
        .as_ref()
        .map(|object| node.fingerprint(object))
        .transpose()?;
    if held.fingerprint.is_some() && fingerprint.is_some() && held.fingerprint != fingerprint {
        return Err(Failure::new(
            Cause::InvalidField,
            "an object keeps its key material for life: Import other material under another identifier",
        ));
    }
    check_names(node, ask, &attributes, Some(&held))?;
    if let Some(object) = &object {
        node.digest(&mut attributes, object);
    }
    let last_change = attributes.date(tag::LAST_CHANGE_DATE);
    let mut record = Record {
        attributes,
        fingerprint: None,
        ..held.clone()
    };
    node.advance(&mut record, reign, ask.now.wall);
    if let Some(date) = last_change {
        record.attributes.set(AttributeValue::LastChangeDate(date));
    }
    if let Some(object) = &object {
        node.recognise(ask, &mut record, object)?;
    }
    // Known material stays known, also when it is destroyed by this.
    record.fingerprint = record.fingerprint.or_else(|| held.fingerprint.clone());
    let effects = Effects::change(
        Some((number, held)),
        record,
        object.map_or(Material::Remove, |object| Material::Set(object.into())),
    );
    Ok(Decision {
        identifier,
        effects,
        outcome: Outcome::Updated,
    })
}

/// A copy of an object that another server issues.
fn decide_copy(
    node: &Node,
    ask: &mut Ask<'_>,
    arrival: Arrival,
    object_type: ObjectType,
    copy: Copy,
) -> Result<Decision, Failure> {
    let Some(peer) = node.policy.peer(ask.tls).filter(|peer| peer.may_send) else {
        return Err(Failure::denied("only a peer that may send may send copies"));
    };
    let Arrival {
        identifier,
        attributes,
        object,
        ..
    } = arrival;
    let incoming = copied(
        peer,
        SeenObject {
            identifier,
            object_type,
            attributes,
            object,
        },
        copy,
    )?;
    let agreed = peer.has_agreed(&incoming.record, ask.now.wall)?;
    if !agreed && ask.snapshot.by_object_id(&incoming.record.id)?.is_none() {
        return Err(Failure::denied(
            "the agreement with this peer does not cover the object",
        ));
    }
    let ahead = crate::relation::retry::ahead(ask, &incoming.record)?;
    let mut decision = merge::take(node, ask, &peer.collisions, incoming)?;
    if matches!(
        decision.outcome,
        Outcome::Created | Outcome::Updated | Outcome::Renamed
    ) {
        decision.effects.state.extend(ahead);
    }
    Ok(decision)
}

/// What a sender that learns nothing is told of a copy of its.
fn unlearned(
    node: &Node,
    ask: &Ask<'_>,
    sent: &Text,
    decided: Result<Decision, Failure>,
) -> Result<Decision, Failure> {
    if !node
        .policy
        .peer(ask.tls)
        .is_some_and(|peer| peer.learns_nothing)
    {
        return decided;
    }
    match decided {
        Ok(decision) => Ok(Decision {
            identifier: sent.clone(),
            outcome: Outcome::Created,
            ..decision
        }),
        Err(failure) => Err(Failure::denied(failure)),
    }
}
