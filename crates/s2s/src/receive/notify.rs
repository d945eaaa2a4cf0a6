//! This module answers Notify, by which another server says which attributes of an object have changed or were deleted (KMIP 2.1 §6.2.2).

use crate::ask::{Answered, Ask};
use crate::node::Node;
use crate::receive::check::check_attributes;
use crate::receive::collision::check_names;
use keyferry_kmip::lifecycle::{self, is_server_lifecycle_attribute};
use keyferry_kmip::spec::{AttributeValue, tag};
use keyferry_kmip::{
    Attribute, AttributeReference, Attributes, Cause, Failure, NotifyRequest, NotifyResponse,
    RequestItem,
};
use keyferry_store::{Effects, Material, SnapshotExt};
use keyferry_ttlv::{Extra, Version};
use std::collections::HashSet;

/// Answers a Notify of a peer that may send, about an object that this peer has Put here.
///
/// In 1.x an attribute with an index replaces the instance of that index; in 2.x the values in the message replace all instances. The State and
/// what belongs to it only move forward ([rule 5](crate::design#rule-5)).
pub(crate) fn notify(
    node: &Node,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: NotifyRequest = item.payload(ask.cx)?;
    if !node.policy.peer(ask.tls).is_some_and(|peer| peer.may_send) {
        return Err(Failure::denied("only a peer that may send may Notify"));
    }
    let (number, before) = ask.record(Some(&request.unique_identifier))?;
    node.check_issuer(ask.snapshot, &before)?;
    if before.owner.as_deref() != Some(ask.caller.name.as_str()) {
        return Err(Failure::denied(
            "a peer may Notify of what it has Put alone",
        ));
    }
    check_request(&request)?;
    let mut after = before.clone();
    // A State that a date has led to is kept, whatever the Notify does to the date.
    node.store_reached_state(ask.snapshot, &mut after.attributes, ask.now)?;
    let indexed = ask.cx.version < Version::V2_0;
    remove_deleted(&mut after.attributes, &request, indexed);
    set_changed(&mut after.attributes, &request, indexed);
    join_state(&mut after.attributes, &request.attributes);
    node.store_reached_state(ask.snapshot, &mut after.attributes, ask.now)?;
    after.attributes.check_count()?;
    after.attributes.check_indices()?;
    check_attributes(&after.attributes)?;
    check_names(node, ask, &after.attributes, Some(&before))?;
    let reign = ask.snapshot.reign()?;
    node.advance(&mut after, reign, ask.now.wall);
    let material = Material::left_to(&after);
    let effects = Effects::change(Some((number, before)), after, material);
    Ok(Answered::answer(&NotifyResponse { extra: Extra::NONE }, ask.cx)?.with(effects))
}

/// Fails when the request changes or deletes what must not change, or deletes too many attributes.
fn check_request(request: &NotifyRequest) -> Result<(), Failure> {
    if request
        .attributes
        .iter()
        .any(|a| matches!(a.value.tag(), tag::UNIQUE_IDENTIFIER | tag::OBJECT_TYPE))
    {
        return Err(Failure::new(
            Cause::InvalidField,
            "an object keeps its identifier and its type",
        ));
    }
    let deleted = &request.deleted.0;
    if let Some(refused) = deleted.iter().find(|one| is_never_deleted(&one.reference)) {
        return Err(Failure::new(
            Cause::ReadOnlyAttribute,
            format_args!("{} is not deleted", refused.reference),
        ));
    }
    if deleted.len() > Attributes::MOST {
        return Err(Failure::new(
            Cause::ServerLimit,
            "too many attributes are told as deleted",
        ));
    }
    Ok(())
}

/// Removes the attributes that the request names as deleted: in 1.x the instances of the given indices, in 2.x all instances.
fn remove_deleted(attributes: &mut Attributes, request: &NotifyRequest, indexed: bool) {
    let instance = |index: Option<i32>| if indexed { index.unwrap_or(0) } else { 0 };
    let deleted: HashSet<(&AttributeReference, i32)> = request
        .deleted
        .0
        .iter()
        .map(|deleted| (&deleted.reference, instance(deleted.index)))
        .collect();
    attributes.retain(|a| !deleted.contains(&(&a.value.reference(), instance(a.index))));
}

/// Sets the attributes that the request brings, but for those of the life cycle.
fn set_changed(attributes: &mut Attributes, request: &NotifyRequest, indexed: bool) {
    if !indexed {
        let replaced: HashSet<AttributeReference> = request
            .attributes
            .iter()
            .map(|changed| changed.value.reference())
            .collect();
        attributes.retain(|a| {
            is_server_lifecycle_attribute(a.value.tag()) || !replaced.contains(&a.value.reference())
        });
    }
    for changed in &request.attributes {
        if !is_server_lifecycle_attribute(changed.value.tag()) {
            set_attribute(attributes, changed, indexed);
        }
    }
}

/// Whether a Notify must not delete an attribute: those that belong to the State, and those that this server has found out itself.
fn is_never_deleted(reference: &AttributeReference) -> bool {
    let AttributeReference::Standard(tag) = reference else {
        return false;
    };
    is_server_lifecycle_attribute(*tag)
        || matches!(
            *tag,
            tag::INITIAL_DATE
                | tag::LAST_CHANGE_DATE
                | tag::DIGEST
                | tag::ALWAYS_SENSITIVE
                | tag::NEVER_EXTRACTABLE
        )
}

/// Sets one attribute: the instance of its index, where indices count, or the only instance; another one is added.
fn set_attribute(attributes: &mut Attributes, changed: &Attribute, indexed: bool) {
    let single = !changed.value.may_repeat();
    let index = changed.index.unwrap_or(0);
    let is = |a: &&mut Attribute| {
        a.value.is_same_attribute(&changed.value)
            && (single || indexed && a.index.unwrap_or(0) == index)
    };
    match attributes.iter_mut().find(is) {
        Some(held) => held.value = changed.value.clone(),
        None => attributes.push(Attribute {
            index: changed.index.filter(|_| indexed),
            value: changed.value.clone(),
        }),
    }
}

/// Raises the State to the join of both, and takes what belongs to it from the side that is further along.
fn join_state(held: &mut Attributes, brought: &Attributes) {
    let (Some(here), Some(there)) = (held.state(), brought.state()) else {
        return;
    };
    let joined = lifecycle::Rank::of(here).joined_state(lifecycle::Rank::of(there));
    if joined == here {
        return;
    }
    held.set(AttributeValue::State(joined));
    for attribute in brought
        .iter()
        .filter(|a| is_server_lifecycle_attribute(a.value.tag()) && a.value.tag() != tag::STATE)
    {
        held.set(attribute.value.clone());
    }
}
