//! This module answers Import and Put: a client's Import of an object, and the copies that a peer sends with a Message Extension of ours.

use crate::ask::{Answered, Ask, Placeholder};
use crate::node::Node;
use crate::receive::apply::is_internal;
use crate::receive::check::{check_attributes, check_digest};
use crate::receive::collision::check_names;
use crate::receive::copy::{SeenObject, verify_copy};
use crate::receive::merge::{MergeResult, merge_with_held};
use crate::receive::refused::RefusedCopy;
use crate::refusals::Unauthorised;
use crate::relation::unkept::note_sender;
use crate::report::Outcome;
use crate::wire::copy::{Copy, Expected, Held, KeyferryExtension};
use keyferry_kmip::spec::{AttributeValue, KeyWrapType, ObjectType, PutFunction, tag};
use keyferry_kmip::{
    Attributes, Cause, Failure, ImportRequest, ImportResponse, Object, PutRequest, PutResponse,
    RequestItem, ResponseItem, Text, UniqueIdentifier, lifecycle,
};
use keyferry_store::{Effects, Incarnation, Material, ObjectId, Record, RecordNumber, SnapshotExt};
use keyferry_ttlv::Extra;

/// An object that comes in, by Import or Put.
struct Arrival {
    identifier: Text,
    /// The Object Type, where the request names it beside the object.
    object_type: Option<ObjectType>,
    attributes: Attributes,
    /// The object itself; a destroyed one has none.
    object: Option<Object>,
    /// Whether the object of a copy was wrapped for the way, and is to be unwrapped (KMIP 2.1 §6.1.25, Key Wrap Type).
    is_wrapped: bool,
    /// Whether an Import may replace an object of this identifier.
    replace: bool,
    /// What a keyferry server says of the object, when it is a copy.
    copy: Option<Copy>,
}

/// Answers an Import (KMIP 2.1 §6.1.25).
pub(crate) fn import(
    node: &Node,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let mut request: ImportRequest = item.payload(ask.cx)?;
    let mut extension = KeyferryExtension::find(&item.message_extensions)?;
    let copy = extension.copy.take();
    let is_copy = copy.is_some();
    let is_wrapped = request.key_wrap_type == Some(KeyWrapType::NOT_WRAPPED);
    let (mut object, mut attributes) = (request.object.take(), request.attributes);
    if is_wrapped
        && !is_copy
        && let Some(wrapped) = object.take()
    {
        let (clear, is_sensitive) = node.unwrapped(ask, wrapped)?;
        if is_sensitive {
            attributes.set(AttributeValue::Sensitive(true));
        }
        object = Some(clear);
    }
    if !is_copy && !ask.is_client {
        return Err(Failure::denied(
            "only a client may Import what is no copy of a peer's object",
        ));
    }
    let arrival = Arrival {
        identifier: identifier_text(&request.unique_identifier)?,
        object_type: request.object_type,
        attributes,
        object,
        is_wrapped,
        replace: request.replace_existing.unwrap_or(false),
        copy,
    };
    let (result, reply) = receive_as_expected(node, ask, arrival, &extension)?;
    let response = ImportResponse {
        unique_identifier: result.identifier.clone().into(),
        extra: Extra::NONE,
    };
    let mut answered = Answered::answer(&response, ask.cx)?
        .with(result.effects)
        .with_placeholder(result.identifier);
    if is_copy {
        answered.response.message_extension = Some(reply.extension(false)?);
    }
    Ok(answered)
}

/// Answers a Put, by which a server pushes an object (KMIP 2.1 §6.2.3). Only a peer that may send may do it.
///
/// The object that a Put Replace names as replaced stays as it is, since the standard does not say what becomes of it; where it is not known
/// here, the Put counts as a Put New.
pub(crate) fn put(node: &Node, ask: &mut Ask<'_>, item: &RequestItem) -> Result<Answered, Failure> {
    let request: PutRequest = item.payload(ask.cx)?;
    let Some(peer) = node.policy.peer(ask.tls).filter(|peer| peer.may_send) else {
        return Err(Failure::denied("only a peer that may send may Put"));
    };
    if request.put_function == PutFunction::REPLACE && request.replaced_unique_identifier.is_none()
    {
        return Err(Failure::new(
            Cause::InvalidField,
            "Put Replace needs a Replaced Unique Identifier",
        ));
    }
    let mut extension = KeyferryExtension::find(&item.message_extensions)?;
    let copy = extension.copy.take();
    let is_copy = copy.is_some();
    if !is_copy && !peer.is_foreign {
        return Err(Failure::denied(
            "a keyferry server Puts copies alone, with its Message Extension",
        ));
    }
    let arrival = Arrival {
        identifier: identifier_text(&request.unique_identifier)?,
        object_type: None,
        attributes: request.attributes,
        object: request.object,
        is_wrapped: false,
        replace: false,
        copy,
    };
    let (result, reply) = receive_as_expected(node, ask, arrival, &extension)?;
    let mut response = ResponseItem::success(&PutResponse { extra: Extra::NONE }, ask.cx)?;
    if is_copy {
        response.message_extension = Some(reply.extension(false)?);
    }
    Ok(Answered {
        response,
        effects: result.effects,
        placeholder: Placeholder::Set(result.identifier),
    })
}

/// Receives an object, unless it would become something else than its sender expects, and makes the extension of the answer. A dry run changes
/// nothing. A sender that [learns nothing](crate::Peer::learns_nothing) has one answer to every copy.
fn receive_as_expected(
    node: &Node,
    ask: &mut Ask<'_>,
    arrival: Arrival,
    extension: &KeyferryExtension,
) -> Result<(MergeResult, KeyferryExtension), Failure> {
    let hides = arrival.copy.as_ref().is_some_and(|_| {
        node.policy
            .peer(ask.tls)
            .is_some_and(|peer| peer.learns_nothing)
    });
    let (id, sent) = (
        arrival.copy.as_ref().map(|copy| copy.id.clone()),
        arrival.identifier.clone(),
    );
    let mut received = receive_if_expected(node, ask, arrival, extension);
    if let (true, Some(id)) = (hides, id) {
        received = hide_outcome(node, ask, &id, sent, received);
    }
    let (mut result, held) = received?;
    let dry_run = extension.dry_run == Some(true);
    if dry_run {
        result.effects = Effects::none();
    }
    let reply = KeyferryExtension {
        outcome: Some(result.outcome),
        held: held.filter(|_| dry_run && !hides),
        ..KeyferryExtension::default()
    };
    Ok((result, reply))
}

/// Receives an object, unless it would become something else than its sender expects. Also returns what was held of it before, where the sender
/// may know that.
fn receive_if_expected(
    node: &Node,
    ask: &mut Ask<'_>,
    arrival: Arrival,
    extension: &KeyferryExtension,
) -> Result<(MergeResult, Option<Held>), Failure> {
    let before = match &arrival.copy {
        Some(copy) if extension.dry_run == Some(true) || extension.expected.is_some() => {
            Some(HeldBefore::look_up(node, ask, copy)?)
        }
        _ => None,
    };
    let result = receive(node, ask, arrival)?;
    if let (Some(expected), Some(before)) = (&extension.expected, &before) {
        check_precondition(expected, before, result.outcome)?;
    }
    let known = before.filter(|before| before.may_be_known);
    Ok((result, known.map(|before| before.held)))
}

/// What the store holds of an object before a copy of it is received.
struct HeldBefore {
    held: Held,
    /// Whether it is the very copy that comes in, brought by an earlier run perhaps.
    is_same_copy: bool,
    /// Whether the sender may know what is held: as its issuer, or as a relay of it.
    may_be_known: bool,
}

impl HeldBefore {
    fn look_up(node: &Node, ask: &Ask<'_>, copy: &Copy) -> Result<HeldBefore, Failure> {
        let record = ask
            .snapshot
            .by_object_id(&copy.id)?
            .map(|(_, record)| record);
        let held = Held::of(record.as_ref())?;
        let is_same_copy = held.is(&copy.stamp, &copy.digest);
        let issuer = record
            .as_ref()
            .map_or(&copy.stamp.issuer, |held| &held.stamp.issuer);
        let peer = node.policy.peer(ask.tls);
        Ok(HeldBefore {
            may_be_known: peer.is_some_and(|peer| peer.speaks_for(issuer)),
            held,
            is_same_copy,
        })
    }
}

/// Fails when the store did not hold what the sender's plan says, or when the outcome is another one than planned. A copy that is held
/// already, as it was planned, is as good.
fn check_precondition(
    expected: &Expected,
    before: &HeldBefore,
    outcome: Outcome,
) -> Result<(), Failure> {
    let HeldBefore {
        held,
        is_same_copy,
        may_be_known,
    } = before;
    let is_held_as_planned =
        *is_same_copy || expected.held.as_ref().is_none_or(|planned| planned == held);
    if !is_held_as_planned && !may_be_known {
        return Err(Failure::new(
            Cause::WrongState,
            "what is held here is not what the plan says",
        ));
    }
    if !is_held_as_planned {
        let planned = expected.held.clone().unwrap_or_default();
        return Err(Failure::new(
            Cause::WrongState,
            format_args!("{planned} was to be held here, and {held} is"),
        ));
    }
    if outcome != expected.outcome && !(*is_same_copy && outcome == Outcome::Unchanged) {
        let planned = expected.outcome;
        return Err(Failure::new(
            Cause::WrongState,
            format_args!("it was to be {planned}, and would be {outcome}"),
        ));
    }
    Ok(())
}

/// The Unique Identifier that comes in, which must be a text.
fn identifier_text(identifier: &UniqueIdentifier) -> Result<Text, Failure> {
    match identifier {
        UniqueIdentifier::Text(text) if !text.is_empty() => Ok(text.clone()),
        _ => Err(Failure::new(
            Cause::InvalidField,
            "the Unique Identifier of what comes in must be a text that is not empty",
        )),
    }
}

/// Stores an object that came in: as a copy when a peer sends it as one, otherwise as an object of this server.
fn receive(node: &Node, ask: &mut Ask<'_>, mut arrival: Arrival) -> Result<MergeResult, Failure> {
    arrival.attributes.check_count()?;
    arrival.attributes.number();
    arrival.attributes.check_indices()?;
    let object_type = object_type_of(&arrival)?;
    // Identifier and type stand beside the attributes; the others are stored as they are (KMIP 2.1 §6.1.25).
    arrival.attributes.remove(tag::UNIQUE_IDENTIFIER);
    arrival.attributes.remove(tag::OBJECT_TYPE);
    match arrival.copy.take() {
        Some(copy) => {
            let sender = node.policy.peer(ask.tls).map(|peer| peer.server.clone());
            let mut received = receive_copy(node, ask, arrival, object_type, copy)?;
            if let Some(sender) = sender {
                let noted = note_sender(ask.snapshot, &sender, ask.now.wall)?;
                received.effects.state.extend(noted);
            }
            Ok(received)
        }
        None => import_object(node, ask, arrival, object_type),
    }
}

/// The Object Type by the request, the object and the attributes, which must agree.
fn object_type_of(arrival: &Arrival) -> Result<ObjectType, Failure> {
    let of_object = arrival.object.as_ref().map(Object::object_type);
    let of_attributes = arrival.attributes.iter().find_map(|a| match a.value {
        AttributeValue::ObjectType(object_type) => Some(object_type),
        _ => None,
    });
    let found = arrival.object_type.or(of_object).or(of_attributes);
    let object_type = found.ok_or_else(|| {
        Failure::new(
            Cause::MissingData,
            "neither an object nor its type is there",
        )
    })?;
    let differs = |other: Option<ObjectType>| other.is_some_and(|other| other != object_type);
    if differs(of_object) || differs(of_attributes) {
        return Err(Failure::new(
            Cause::InvalidField,
            format_args!("the Object Type is {object_type}, and the object is another one"),
        ));
    }
    Ok(object_type)
}

/// Stores an object that came without an extension of ours: this server issues it from now on, or replaces one that it issues.
fn import_object(
    node: &Node,
    ask: &mut Ask<'_>,
    mut arrival: Arrival,
    object_type: ObjectType,
) -> Result<MergeResult, Failure> {
    check_attributes(&arrival.attributes)?;
    check_digest(node, &arrival.attributes, arrival.object.as_ref())?;
    node.set_default_attributes(ask.snapshot, &mut arrival.attributes, ask.now)?;
    let state = arrival.attributes.state();
    let destroyed = state.is_some_and(lifecycle::is_destroyed);
    if arrival.object.is_none() && !destroyed {
        return Err(Failure::new(
            Cause::MissingData,
            "the object itself is missing",
        ));
    }
    arrival.object = arrival.object.filter(|_| !destroyed);
    let held = ask.snapshot.by_identifier(&arrival.identifier)?;
    let reign = ask.snapshot.reign()?;
    match held {
        None => create(node, ask, arrival, object_type, reign),
        Some(_) if !arrival.replace => Err(Failure::new(
            Cause::ObjectExists,
            format_args!("an object {:?} exists already", arrival.identifier),
        )),
        Some(held) => replace(node, ask, arrival, object_type, reign, held),
    }
}

/// Stores an imported object as a new one, which belongs to the caller.
fn create(
    node: &Node,
    ask: &Ask<'_>,
    arrival: Arrival,
    object_type: ObjectType,
    reign: Incarnation,
) -> Result<MergeResult, Failure> {
    let Arrival {
        identifier,
        mut attributes,
        object,
        ..
    } = arrival;
    check_names(node, ask, &attributes, None)?;
    if let Some(object) = &object {
        node.digest(&mut attributes, object);
    }
    let mut record = node.new_record(reign, identifier.clone(), object_type, attributes);
    record.owner = Some(ask.caller.name.as_str().into());
    // A peer that Puts brings what both sides have agreed on, as one that sends copies does.
    if !ask.is_client
        && let Some(peer) = node.policy.peer(ask.tls)
        && !peer.has_agreed(&record, ask.now.wall)?
    {
        return Err(outside_agreement());
    }
    if let Some(object) = &object {
        node.recognise(ask, &mut record, object)?;
    }
    let effects = Effects::change(
        None,
        record,
        object.map_or(Material::Keep, |object| Material::Set(object.into())),
    );
    Ok(MergeResult {
        identifier,
        effects,
        outcome: Outcome::Created,
    })
}

/// Replaces an object that this server issues by an imported one of the same identifier.
fn replace(
    node: &Node,
    ask: &Ask<'_>,
    arrival: Arrival,
    object_type: ObjectType,
    reign: Incarnation,
    (number, held): (RecordNumber, Record),
) -> Result<MergeResult, Failure> {
    check_replaceable(node, ask, &arrival, object_type, &held)?;
    let Arrival {
        identifier,
        mut attributes,
        object,
        ..
    } = arrival;
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
    // Known material stays known, also when this Import destroys it.
    record.fingerprint = record.fingerprint.or_else(|| held.fingerprint.clone());
    let effects = Effects::change(
        Some((number, held)),
        record,
        object.map_or(Material::Remove, |object| Material::Set(object.into())),
    );
    Ok(MergeResult {
        identifier,
        effects,
        outcome: Outcome::Updated,
    })
}

/// Fails unless the caller may replace the object, and its State, type, key material and Names allow it.
fn check_replaceable(
    node: &Node,
    ask: &Ask<'_>,
    arrival: &Arrival,
    object_type: ObjectType,
    held: &Record,
) -> Result<(), Failure> {
    ask.rights.check(ask.caller, ask.operation, held)?;
    node.check_issuer(ask.snapshot, held)?;
    check_state_change(ask, &arrival.attributes, held)?;
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
    let fingerprint = arrival
        .object
        .as_ref()
        .map(|object| node.fingerprint(object))
        .transpose()?;
    if held.fingerprint.is_some() && fingerprint.is_some() && held.fingerprint != fingerprint {
        return Err(Failure::new(
            Cause::InvalidField,
            "an object keeps its key material for life: Import other material under another identifier",
        ));
    }
    check_names(node, ask, &arrival.attributes, Some(held))
}

/// Fails when the imported attributes would take the State of the held object back.
fn check_state_change(
    ask: &Ask<'_>,
    attributes: &Attributes,
    held: &Record,
) -> Result<(), Failure> {
    let (Some(old), Some(new)) = (
        held.state(ask.now.wall),
        lifecycle::state_at(attributes, ask.now.wall),
    ) else {
        return Ok(());
    };
    let (from, to) = (lifecycle::Rank::of(old), lifecycle::Rank::of(new));
    if !held.is_compromised() && !lifecycle::is_destroyed(old) && from.may_become(to) {
        return Ok(());
    }
    let cause = if lifecycle::is_destroyed(old) {
        Cause::ObjectDestroyed
    } else {
        Cause::WrongState
    };
    Err(Failure::new(
        cause,
        format_args!("the object is {old}: it can't be replaced by one that is {new}"),
    ))
}

/// Merges a copy of an object that another server issues.
fn receive_copy(
    node: &Node,
    ask: &mut Ask<'_>,
    arrival: Arrival,
    object_type: ObjectType,
    copy: Copy,
) -> Result<MergeResult, Failure> {
    let Some(peer) = node.policy.peer(ask.tls).filter(|peer| peer.may_send) else {
        return Err(Failure::denied("only a peer that may send may send copies"));
    };
    let Arrival {
        identifier,
        attributes,
        object,
        is_wrapped,
        ..
    } = arrival;
    let (object, by) = node.opened(ask, peer, object, is_wrapped, &attributes)?;
    let held = ask.snapshot.by_object_id(&copy.id)?;
    let seen = SeenObject {
        identifier,
        object_type,
        attributes,
        object,
        wrapped_by: by,
    };
    let incoming = verify_copy(node, peer, seen, copy, held.as_ref().map(|(_, held)| held))?;
    if held.is_none() && !peer.has_agreed(&incoming.record, ask.now.wall)? {
        return Err(outside_agreement());
    }
    let ahead = crate::relation::retry::ahead(ask, &incoming.record)?;
    let mut result = merge_with_held(node, ask, &peer.collisions, held, incoming)?;
    if matches!(
        result.outcome,
        Outcome::Created | Outcome::Updated | Outcome::Renamed
    ) {
        result.effects.state.extend(ahead);
    }
    Ok(result)
}

/// The failure of a copy that is not among the objects which both servers have agreed on.
pub(crate) fn outside_agreement() -> Failure {
    Failure::denied("the agreement with this peer does not cover the object")
        .caused_by(Unauthorised)
}

/// Answers a copy of a sender that [learns nothing](crate::Peer::learns_nothing) as one that was created, whatever became of it. That it was
/// refused is noted here. A failure of this server itself is told: it says nothing of what is held, and the sender tries again.
fn hide_outcome(
    node: &Node,
    ask: &Ask<'_>,
    id: &ObjectId,
    sent: Text,
    received: Result<(MergeResult, Option<Held>), Failure>,
) -> Result<(MergeResult, Option<Held>), Failure> {
    let effects = match received {
        Ok((result, _)) => result.effects,
        Err(failure) if is_internal(&failure) => return Err(failure),
        Err(failure) => RefusedCopy::note(node, ask, id, &failure)?,
    };
    let result = MergeResult {
        identifier: sent,
        effects,
        outcome: Outcome::Created,
    };
    Ok((result, None))
}
