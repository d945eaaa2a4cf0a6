//! This module resolves collisions: a copy has an identifier or a Name that another object has here, or a Link to an object that has another
//! identifier here, or none.
//!
//! The copy itself stays verbatim. What clients see in place of such a Name or Link is in the record's overlay.

use crate::ask::Ask;
use crate::material::serve::id_at_origin;
use crate::node::{Node, is_observed_by};
use crate::policy::OnName;
use crate::relation::keys;
use keyferry_kmip::spec::{AlternativeNameType, AttributeValue};
use keyferry_kmip::{
    AlternativeName, Attributes, Cause, Failure, Link, Name, Text, UniqueIdentifier,
};
use keyferry_store::{
    Change, Effects, Hidden, Material, ObjectId, Overlay, Record, SnapshotExt, Span, index,
};
use keyferry_ttlv::Extra;
use std::ops::ControlFlow;

/// The largest number that is tried as the end of a new Name.
const LARGEST_SUFFIX: u32 = 1000;

/// Whether another object has the Name here.
///
/// Two objects that one server has named do not clash, unless `local` says that this server makes the Name: that server has seen to it, and its
/// changes may arrive in another order than they were made in.
fn is_name_taken(
    node: &Node,
    ask: &Ask<'_>,
    name: &Name,
    own: Option<&Record>,
    local: bool,
) -> Result<bool, Failure> {
    let is_copy = own.is_some_and(|own| !node.issues(own) || node.observes(own));
    let owner = own.map_or(Some(ask.caller.name.as_str()), |own| own.owner.as_deref());
    let clashes = |other: &Record| {
        other.names().any(|theirs| theirs == name)
            && (is_copy || blocks_name(other, &node.home.server, owner))
            && own.is_none_or(|own| {
                other.id != own.id
                    && (local
                        || node.issues(own) && !node.observes(own)
                        || !is_of_same_source(own, other))
            })
    };
    Ok(ask
        .snapshot
        .first(&index::name(&name.value), &clashes)?
        .is_some())
}

/// Whether an object that has a Name keeps other objects of the `owner` from having it at the server `server`. A copy of another server's object
/// does so only where both belong to one client ([rule G](crate::design#rule-g)).
pub fn blocks_name(other: &Record, server: &str, owner: Option<&str>) -> bool {
    let is_copy = *other.stamp.issuer != *server || is_observed_by(server, other);
    !is_copy || other.owner.is_some() && other.owner.as_deref() == owner
}

/// Whether one server has named both objects. An observer issues objects that several foreign masters have named.
fn is_of_same_source(one: &Record, other: &Record) -> bool {
    let origin = |record: &Record| (record.id.server.clone(), record.id.instance.clone());
    one.stamp.issuer == other.stamp.issuer
        && (one.stamp.issuer == one.id.server || origin(one) == origin(other))
}

/// Fails when another object has one of the Names.
pub(crate) fn check_names(
    node: &Node,
    ask: &Ask<'_>,
    attributes: &Attributes,
    own: Option<&Record>,
) -> Result<(), Failure> {
    for name in attributes.names() {
        if is_name_taken(node, ask, name, own, false)? {
            return Err(name_exists(name));
        }
    }
    Ok(())
}

/// The failure for a Name that another object has.
pub(crate) fn name_exists(name: &Name) -> Failure {
    Failure::new(
        Cause::NameExists,
        format_args!("another object has the Name {:?}", name.value),
    )
}

/// Gives a copy that comes in another Name for each of its Names that another object has here, as the policy `on` says; `true` when it has
/// such a Name.
///
/// A Name that was resolved earlier, or that the copy `held` here has, is not looked at again: no other object can have got it since.
pub(crate) fn resolve_names(
    node: &Node,
    ask: &Ask<'_>,
    record: &mut Record,
    held: Option<&Record>,
    on: &OnName,
) -> Result<bool, Failure> {
    let mut hidden = remove_hidden(record, |value| matches!(value, AttributeValue::Name(_)));
    hidden.retain(|hidden| {
        record
            .attributes
            .iter()
            .any(|own| hidden.value() == Some(&own.value))
    });
    for name in record.attributes.names() {
        let value = AttributeValue::Name(name.clone());
        let is_resolved = hidden.iter().any(|hidden| hidden.value() == Some(&value))
            || held.is_some_and(|held| held.attributes.names().any(|known| known == name));
        if is_resolved || !is_name_taken(node, ask, name, Some(record), false)? {
            continue;
        }
        let instead = match on {
            OnName::Fail => return Err(name_exists(name)),
            OnName::Rename(rule) => {
                AttributeValue::Name(find_free_name(node, ask, record, name, rule)?)
            }
            OnName::Park => AttributeValue::AlternativeName(AlternativeName {
                value: name.value.clone(),
                alternative_name_type: AlternativeNameType::UNINTERPRETED_TEXT_STRING,
                extra: Extra::NONE,
            }),
        };
        hidden.push(Hidden::new(value, Some(instead)));
    }
    let any = !hidden.is_empty();
    add_hidden(record, hidden);
    Ok(any)
}

/// A Name made by `rule` from the object's server and Name, with a number at its end where needed, that no other object has.
fn find_free_name(
    node: &Node,
    ask: &Ask<'_>,
    record: &Record,
    name: &Name,
    rule: &str,
) -> Result<Name, Failure> {
    let base = rule
        .replace("{server}", &record.id.server)
        .replace("{name}", &name.value);
    for number in 1..=LARGEST_SUFFIX {
        let value = if number == 1 {
            base.clone()
        } else {
            format!("{base} {number}")
        };
        let candidate = Name {
            value: value.into(),
            ..name.clone()
        };
        if candidate != *name && !is_name_taken(node, ask, &candidate, Some(record), true)? {
            return Ok(candidate);
        }
    }
    Err(name_exists(name))
}

/// Removes the hidden values that `is` selects from the overlay, and returns them.
fn remove_hidden(record: &mut Record, is: impl Fn(&AttributeValue) -> bool) -> Vec<Hidden> {
    let Some(overlay) = &mut record.overlay else {
        return Vec::new();
    };
    overlay
        .hidden
        .extract_if(.., |hidden| hidden.value().is_some_and(&is))
        .collect()
}

/// Adds hidden values to the overlay, and removes an overlay that holds nothing.
fn add_hidden(record: &mut Record, hidden: Vec<Hidden>) {
    if !hidden.is_empty() {
        record
            .overlay
            .get_or_insert_with(Overlay::default)
            .hidden
            .extend(hidden);
    }
    record
        .overlay
        .take_if(|overlay| *overlay == Overlay::default());
}

/// Points the Links of a copy to the identifiers that their targets have here.
///
/// A target that is not here yet is waited for. Until it comes, a Link whose identifier another object has here is hidden.
pub(crate) fn resolve_links(
    ask: &Ask<'_>,
    record: &mut Record,
    effects: &mut Effects,
) -> Result<(), Failure> {
    resolve_links_with(ask, record, effects, None)
}

/// The same; `arriving` is an object that the snapshot does not hold yet.
fn resolve_links_with(
    ask: &Ask<'_>,
    record: &mut Record,
    effects: &mut Effects,
    arriving: Option<&Record>,
) -> Result<(), Failure> {
    drop(remove_hidden(record, |value| {
        matches!(value, AttributeValue::Link(_))
    }));
    let mut hidden = Vec::new();
    for attribute in &record.attributes {
        let AttributeValue::Link(link) = &attribute.value else {
            continue;
        };
        let UniqueIdentifier::Text(identifier) = &link.target else {
            continue;
        };
        let id = id_at_origin(record, identifier);
        let here = local_identifier(ask, record, &id, arriving)?;
        let instead = match here {
            Some(here) if here == *identifier => continue,
            Some(here) => Some(AttributeValue::Link(Link {
                target: UniqueIdentifier::Text(here),
                ..link.clone()
            })),
            None => {
                let key = [&keys::awaited_prefix(&id)?, record.identifier.as_bytes()].concat();
                effects.state.push((key, Some(Vec::new())));
                let is_another = ask.snapshot.by_identifier(identifier)?.is_some();
                if !is_another {
                    continue;
                }
                None
            }
        };
        hidden.push(Hidden::new(attribute.value.clone(), instead));
    }
    add_hidden(record, hidden);
    Ok(())
}

/// The identifier of an object here, when it is here: the record itself, the object that arrives, or one that the store holds.
fn local_identifier(
    ask: &Ask<'_>,
    record: &Record,
    id: &ObjectId,
    arriving: Option<&Record>,
) -> Result<Option<Text>, Failure> {
    let mut at_hand = [Some(record), arriving].into_iter().flatten();
    if let Some(found) = at_hand.find(|one| one.id == *id) {
        return Ok(Some(found.identifier.clone()));
    }
    let stored = ask.snapshot.by_object_id(id)?;
    Ok(stored.map(|(_, target)| target.identifier))
}

/// Points the Links that have waited for this object to it.
pub(crate) fn resolve_waiting_links(
    ask: &Ask<'_>,
    record: &Record,
    effects: &mut Effects,
) -> Result<(), Failure> {
    let prefix = keys::awaited_prefix(&record.id)?;
    let mut keys = Vec::new();
    ask.snapshot.state(&Span::prefix(&prefix), &mut |key, _| {
        keys.push(key.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    for key in keys {
        let identifier = key
            .get(prefix.len()..)
            .and_then(|rest| std::str::from_utf8(rest).ok())
            .unwrap_or_default();
        let waiting = ask.snapshot.by_identifier(identifier)?;
        effects.state.push((key.clone(), None));
        let Some((number, before)) = waiting.filter(|(_, waiting)| waiting.id != record.id) else {
            continue;
        };
        let mut after = before.clone();
        let mut waits = Effects::none();
        resolve_links_with(ask, &mut after, &mut waits, Some(record))?;
        effects
            .state
            .extend(waits.state.into_iter().filter(|(other, _)| *other != key));
        if after != before {
            effects.changes.push(Change {
                before: Some((number, before)),
                after,
                material: Material::Keep,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
