//! What comes in: Import and Put, with and without our Message Extension.

use crate::copy::{Addition, Copy, Fate, PROJECTION};
use crate::respond::store_failed;
use crate::{Ask, Node, Outcome, Placeholder, complete};
use keyferry_kmip::spec::{AttributeValue, KeyWrapType, ObjectType, PutFunction, tag};
use keyferry_kmip::{
    Attributes, Cause, Failure, ImportRequest, ImportResponse, Object, PutRequest, PutResponse, RequestItem, ResponseItem, Text,
    UniqueIdentifier, lifecycle,
};
use keyferry_store::record::copy_digest;
use keyferry_store::{Descent, Effects, Material, Overlay, Record, RecordNumber, SnapshotExt, descent, index};
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

/// What is to be done about it.
struct Decision {
    identifier: Text,
    effects: Effects,
    fate: Fate,
}

pub(crate) fn import(node: &Node, ask: &mut Ask<'_>, item: &RequestItem) -> Result<Outcome, Failure> {
    let request: ImportRequest = item.payload(ask.cx)?;
    let mut attributes = request.attributes;
    let object = match request.object {
        Some(object) if request.key_wrap_type == Some(KeyWrapType::NOT_WRAPPED) => {
            let (object, sensitive) = node.unwrapped(ask, object)?;
            if sensitive {
                attributes.set(AttributeValue::Sensitive(true));
            }
            Some(object)
        }
        object => object,
    };
    let copy = Addition::find(&item.message_extensions, ask.cx)?.copy;
    let is_copy = copy.is_some();
    if !is_copy && !ask.is_client {
        return Err(Failure::denied("only a client may Import what is no copy of a peer's object"));
    }
    let decision = decide(
        node,
        ask,
        Arrival {
            identifier: text(&request.unique_identifier)?,
            object_type: request.object_type,
            attributes,
            object,
            replace: request.replace_existing.unwrap_or(false),
            copy,
        },
    )?;
    let response = ImportResponse { unique_identifier: decision.identifier.clone().into(), extra: Extra::NONE };
    let mut outcome = Outcome::answer(&response, ask.cx)?.with(decision.effects).placing(decision.identifier);
    if is_copy {
        outcome.response.message_extension = Some(fate(decision.fate, ask)?);
    }
    Ok(outcome)
}

/// Put: a server's push (KMIP 2.1 §6.2.3). Only a peer that may send may do it. An object that is to be replaced stays what it is: the
/// standard does not say what becomes of it, and one that is not known makes the Put a New.
pub(crate) fn put(node: &Node, ask: &mut Ask<'_>, item: &RequestItem) -> Result<Outcome, Failure> {
    let request: PutRequest = item.payload(ask.cx)?;
    if !node.policy.peer(ask.tls).is_some_and(|peer| peer.may_send) {
        return Err(Failure::denied("only a peer that may send may Put"));
    }
    if request.put_function == PutFunction::REPLACE && request.replaced_unique_identifier.is_none() {
        return Err(Failure::new(Cause::InvalidField, "Put Replace needs a Replaced Unique Identifier"));
    }
    let copy = Addition::find(&item.message_extensions, ask.cx)?.copy;
    let is_copy = copy.is_some();
    let decision = decide(
        node,
        ask,
        Arrival {
            identifier: text(&request.unique_identifier)?,
            object_type: None,
            attributes: request.attributes,
            object: request.object,
            replace: false,
            copy,
        },
    )?;
    let mut response = ResponseItem::success(&PutResponse { extra: Extra::NONE }, ask.cx)?;
    if is_copy {
        response.message_extension = Some(fate(decision.fate, ask)?);
    }
    Ok(Outcome { response, effects: decision.effects, placeholder: Placeholder::Set(decision.identifier) })
}

fn fate(fate: Fate, ask: &Ask<'_>) -> Result<keyferry_kmip::MessageExtension, Failure> {
    Ok(Addition { fate: Some(fate), ..Addition::default() }.extension(false, ask.cx)?)
}

fn text(identifier: &UniqueIdentifier) -> Result<Text, Failure> {
    match identifier {
        UniqueIdentifier::Text(text) if !text.is_empty() => Ok(text.clone()),
        _ => Err(Failure::new(Cause::InvalidField, "the Unique Identifier of what comes in must be a text that is not empty")),
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
    let object_type = arrival
        .object_type
        .or(brought)
        .or(named)
        .ok_or_else(|| Failure::new(Cause::MissingData, "neither an object nor its type is there"))?;
    if brought.is_some_and(|brought| brought != object_type) || named.is_some_and(|named| named != object_type) {
        return Err(Failure::new(
            Cause::InvalidField,
            format_args!("the Object Type is {object_type}, and the object is another one"),
        ));
    }
    // Identifier and type are told beside the attributes; the rest is taken as it is (KMIP 2.1 §6.1.25).
    arrival.attributes.remove(tag::UNIQUE_IDENTIFIER);
    arrival.attributes.remove(tag::OBJECT_TYPE);
    match arrival.copy.take() {
        Some(copy) => decide_copy(node, ask, arrival, object_type, copy),
        None => decide_import(node, ask, arrival, object_type),
    }
}

/// An Import without our extension: the object becomes ours, or replaces one that is.
fn decide_import(node: &Node, ask: &mut Ask<'_>, arrival: Arrival, object_type: ObjectType) -> Result<Decision, Failure> {
    let Arrival { identifier, mut attributes, object, replace, .. } = arrival;
    check_attributes(&attributes)?;
    complete(&mut attributes, ask.now.wall);
    let destroyed = attributes.state().is_some_and(lifecycle::is_destroyed);
    if object.is_none() && !destroyed {
        return Err(Failure::new(Cause::MissingData, "the object itself is missing"));
    }
    let object = object.filter(|_| !destroyed);
    let held = ask.snapshot.by_identifier(&identifier).map_err(store_failed)?;
    let incarnation = ask.snapshot.incarnation().map_err(store_failed)?;
    let Some((number, held)) = held else {
        check_names(node, ask, &attributes, None)?;
        if let Some(object) = &object {
            node.digest(&mut attributes, object);
        }
        let mut record = node.born(incarnation, identifier.clone(), object_type, attributes);
        record.owner = Some(ask.caller.name.as_str().into());
        if let Some(object) = &object {
            node.recognise(ask, &mut record, object).map_err(store_failed)?;
        }
        let effects = Effects::change(None, record, object.map_or(Material::Keep, |object| Material::Set(object.into())));
        return Ok(Decision { identifier, effects, fate: Fate::CREATED });
    };
    if !replace {
        return Err(Failure::new(Cause::ObjectExists, format_args!("an object {identifier:?} exists already")));
    }
    ask.rights.check(ask.caller, ask.operation, &held)?;
    node.check_issuer(&held)?;
    let (old, new) = (held.state(ask.now.wall), lifecycle::derived(&attributes, ask.now.wall));
    if let (Some(old), Some(new)) = (old, new) {
        let (from, to) = (lifecycle::Rank::of(old), lifecycle::Rank::of(new));
        if held.is_compromised() || lifecycle::is_destroyed(old) || !from.may_become(to) {
            let cause = if lifecycle::is_destroyed(old) { Cause::ObjectDestroyed } else { Cause::WrongState };
            return Err(Failure::new(cause, format_args!("the object is {old}: it can't be replaced by one that is {new}")));
        }
    }
    if held.object_type != object_type {
        return Err(Failure::new(
            Cause::InvalidField,
            format_args!("the object is a {}, and can't become a {object_type}", held.object_type),
        ));
    }
    // Other servers know this object by its material: another one needs another identifier.
    let fingerprint = object.as_ref().map(|object| node.fingerprint(object)).transpose().map_err(store_failed)?;
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
    let mut record = Record { attributes, fingerprint: None, ..held.clone() };
    node.advance(&mut record, incarnation, ask.now.wall);
    if let Some(date) = last_change {
        record.attributes.set(AttributeValue::LastChangeDate(date));
    }
    if let Some(object) = &object {
        node.recognise(ask, &mut record, object).map_err(store_failed)?;
    }
    // Known material stays known, also when it is destroyed by this.
    record.fingerprint = record.fingerprint.or_else(|| held.fingerprint.clone());
    let effects =
        Effects::change(Some((number, held)), record, object.map_or(Material::Remove, |object| Material::Set(object.into())));
    Ok(Decision { identifier, effects, fate: Fate::UPDATED })
}

/// A copy of an object that another server issues.
fn decide_copy(
    node: &Node,
    ask: &mut Ask<'_>,
    arrival: Arrival,
    object_type: ObjectType,
    copy: Copy,
) -> Result<Decision, Failure> {
    let denied = |rule: &str| Err(Failure::denied(rule));
    let Some(peer) = node.policy.peer(ask.tls).filter(|peer| peer.may_send) else {
        return denied("only a peer that may send may send copies");
    };
    if copy.stamp.issuer != peer.server && !peer.may_relay {
        return denied("this peer may not relay what another server issues");
    }
    if copy.projection != PROJECTION {
        return Err(Failure::new(Cause::FeatureNotSupported, "the copy's digest is of a kind that is not known here"));
    }
    let mut attributes = arrival.attributes;
    for attribute in copy.rest.clone() {
        attributes.keep(attribute);
    }
    attributes.check_count()?;
    if copy_digest(object_type, &attributes).map_err(store_failed)? != copy.digest {
        return Err(Failure::new(
            Cause::InvalidMessage,
            "the attributes that arrived are not those that were sent: their digest differs",
        ));
    }
    check_attributes(&attributes)?;
    let incoming = Record {
        id: copy.id,
        identifier: arrival.identifier,
        owner: None,
        stamp: copy.stamp,
        lineage: copy.lineage,
        object_type,
        attributes,
        overlay: None,
        fingerprint: None,
        lost: Vec::new(),
        extra: Extra::NONE,
    };
    let destroyed = incoming.is_destroyed();
    match ask.snapshot.by_object_id(&incoming.id).map_err(store_failed)? {
        Some((number, held)) => update_copy(node, ask, (number, held), incoming, arrival.object, copy.digest),
        None if incoming.stamp.issuer == node.home.server => Err(Failure::new(
            Cause::PermissionDenied,
            "a copy of an object of this very server, which does not hold it: the server was restored, or is another of the same name",
        )),
        None => {
            if arrival.object.is_none() && !destroyed {
                return Err(Failure::new(Cause::MissingData, "the object itself is missing"));
            }
            create_copy(node, ask, incoming, arrival.object.filter(|_| !destroyed))
        }
    }
}

fn create_copy(node: &Node, ask: &Ask<'_>, mut incoming: Record, object: Option<Object>) -> Result<Decision, Failure> {
    if ask.snapshot.by_identifier(&incoming.identifier).map_err(store_failed)?.is_some() {
        return Err(Failure::new(
            Cause::ObjectExists,
            format_args!("another object has the identifier {:?}, which {} should take", incoming.identifier, incoming.id),
        ));
    }
    check_names(node, ask, &incoming.attributes, Some(&incoming))?;
    if let Some(object) = &object {
        node.recognise(ask, &mut incoming, object).map_err(store_failed)?;
    }
    let identifier = incoming.identifier.clone();
    let effects = Effects::change(None, incoming, object.map_or(Material::Keep, |object| Material::Set(object.into())));
    Ok(Decision { identifier, effects, fate: Fate::CREATED })
}

fn update_copy(
    node: &Node,
    ask: &Ask<'_>,
    (number, held): (RecordNumber, Record),
    incoming: Record,
    object: Option<Object>,
    digest: Vec<u8>,
) -> Result<Decision, Failure> {
    let collision = |what: &str| {
        Err(Failure::new(
            Cause::InvalidField,
            format_args!("{} is held here with another {what}: a collision, not an update", held.id),
        ))
    };
    if held.object_type != incoming.object_type {
        return collision("Object Type");
    }
    let fingerprint = object.as_ref().map(|object| node.fingerprint(object)).transpose().map_err(store_failed)?;
    if let (Some(one), Some(other)) = (&held.fingerprint, &fingerprint)
        && one != other
    {
        return collision("key material");
    }
    let unchanged = Decision { identifier: held.identifier.clone(), effects: Effects::none(), fate: Fate::UNCHANGED };
    let fork = || {
        Err(Failure::new(
            Cause::WrongState,
            format_args!(
                "{} was changed on both sides: here up to {}, there up to {}",
                held.id, held.stamp.sequence, incoming.stamp.sequence
            ),
        ))
    };
    match descent((&held.stamp, &held.lineage), (&incoming.stamp, &incoming.lineage)) {
        Descent::Equal if held.copy_digest().map_err(store_failed)? == digest => Ok(unchanged),
        Descent::Older => Ok(unchanged),
        Descent::Equal | Descent::Fork => fork(),
        // What only we may change can't have been changed further by others.
        Descent::Newer if node.issues(&held) => fork(),
        Descent::Newer if incoming.stamp.epoch > held.stamp.epoch => {
            Err(Failure::new(Cause::PermissionDenied, "a new issuer needs a grant, which can't be checked here yet"))
        }
        Descent::Newer => {
            // The state that counts here stays, where the master's lies behind it; the copy itself is kept verbatim.
            let mut overlay = held.overlay.clone();
            // As stored: what a date has led to counts when its issuer says so, who may have put the date off.
            let here = overlay.as_ref().and_then(|overlay| overlay.state).or_else(|| held.attributes.state());
            let there = incoming.attributes.state();
            if let (Some(here), Some(there)) = (here, there) {
                let (own, new) = (lifecycle::Rank::of(here), lifecycle::Rank::of(there));
                let stays = (!own.may_become(new)).then(|| own.join(new));
                if stays.is_some() || overlay.is_some() {
                    overlay.get_or_insert_with(Overlay::default).state = stays;
                }
            }
            let mut after = Record { identifier: held.identifier.clone(), owner: held.owner.clone(), overlay, ..incoming };
            let destroyed = after.is_destroyed();
            let material = match (destroyed, object) {
                (true, _) => Material::Remove,
                (false, Some(object)) if held.fingerprint.is_none() => {
                    node.recognise(ask, &mut after, &object).map_err(store_failed)?;
                    Material::Set(object.into())
                }
                _ => Material::Keep,
            };
            after.fingerprint = after.fingerprint.or_else(|| held.fingerprint.clone());
            check_names(node, ask, &after.attributes, Some(&held))?;
            let identifier = after.identifier.clone();
            Ok(Decision { identifier, effects: Effects::change(Some((number, held)), after, material), fate: Fate::UPDATED })
        }
    }
}

/// Fails when what comes in would leave open which value counts, or claims what only the server's own map of other servers can say.
pub(crate) fn check_attributes(attributes: &Attributes) -> Result<(), Failure> {
    for (n, attribute) in attributes.iter().enumerate() {
        let value = &attribute.value;
        if matches!(value, AttributeValue::Custom(custom) if custom.vendor == "x" && custom.name.starts_with("s2s-")) {
            return Err(Failure::new(
                Cause::ReadOnlyAttribute,
                "attributes x-s2s-... show what the server knows of other servers",
            ));
        }
        if matches!(value, AttributeValue::Custom(custom) if custom.is_nested()) {
            return Err(Failure::new(
                Cause::InvalidAttribute,
                "a custom attribute may be a structure of values, and no deeper one",
            ));
        }
        if !value.may_repeat() && attributes.iter().take(n).any(|earlier| earlier.value.is_same_attribute(value)) {
            return Err(Failure::new(Cause::InvalidAttribute, format_args!("{} is given more than once", value.reference())));
        }
    }
    Ok(())
}

/// Fails when a Name is another object's. Names of another issuer's objects do not clash among themselves: it has seen to that, and they
/// may arrive in another order than they were given in.
pub(crate) fn check_names(node: &Node, ask: &Ask<'_>, attributes: &Attributes, own: Option<&Record>) -> Result<(), Failure> {
    for name in attributes.names() {
        let clashes = |other: &Record| {
            other.attributes.names().any(|theirs| theirs == name)
                && own.is_none_or(|own| other.id != own.id && (node.issues(own) || other.stamp.issuer != own.stamp.issuer))
        };
        if ask.snapshot.first(&index::name(&name.value), &clashes).map_err(store_failed)?.is_some() {
            return Err(Failure::new(Cause::NameExists, format_args!("another object has the Name {:?}", name.value)));
        }
    }
    Ok(())
}
