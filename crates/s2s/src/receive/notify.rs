//! Notify: another server tells which attributes of an object have changed or are no more (KMIP 2.1 §6.2.2).

use crate::ask::{Answered, Ask};
use crate::node::Node;
use keyferry_kmip::spec::{AttributeValue, tag};
use keyferry_kmip::{
    Attribute, AttributeReference, Attributes, Cause, Failure, NotifyRequest, NotifyResponse,
    RequestItem, lifecycle,
};
use keyferry_store::{Effects, Material, SnapshotExt};
use keyferry_ttlv::{Extra, Version};
use std::collections::HashSet;

/// Takes in a Notify of a peer that may send, about an object that this peer has Put here.
///
/// In 1.x an attribute with its index takes the place of the instance of that index; in 2.x the values that are told are all that are left.
/// State and dates of the lifecycle join: no state goes back (DESIGN: rule 5).
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
    if let Some(settled) = request
        .deleted
        .0
        .iter()
        .find(|deleted| is_settled(&deleted.reference))
    {
        return Err(Failure::new(
            Cause::ReadOnlyAttribute,
            format_args!("{} is not deleted", settled.reference),
        ));
    }
    if request.deleted.0.len() > Attributes::MOST {
        return Err(Failure::new(
            Cause::ServerLimit,
            "too many attributes are told as deleted",
        ));
    }
    let mut after = before.clone();
    // What a date has led to stays so, whatever becomes of the date.
    lifecycle::store_state_at(&mut after.attributes, ask.now.wall);
    let named = ask.cx.version < Version::V2_0;
    let deleted: HashSet<(&AttributeReference, i32)> = request
        .deleted
        .0
        .iter()
        .map(|deleted| {
            (
                &deleted.reference,
                if named { deleted.index.unwrap_or(0) } else { 0 },
            )
        })
        .collect();
    after.attributes.retain(|a| {
        !deleted.contains(&(
            &a.value.reference(),
            if named { a.index.unwrap_or(0) } else { 0 },
        ))
    });
    if !named {
        let told: HashSet<AttributeReference> = request
            .attributes
            .iter()
            .map(|told| told.value.reference())
            .collect();
        after
            .attributes
            .retain(|a| is_of_lifecycle(&a.value) || !told.contains(&a.value.reference()));
    }
    for told in &request.attributes {
        if !is_of_lifecycle(&told.value) {
            take(&mut after.attributes, told, named);
        }
    }
    join(&mut after.attributes, &request.attributes);
    lifecycle::store_state_at(&mut after.attributes, ask.now.wall);
    after.attributes.check_count()?;
    after.attributes.check_indices()?;
    crate::receive::check::check_attributes(&after.attributes)?;
    crate::receive::collision::check_names(node, ask, &after.attributes, Some(&before))?;
    let reign = ask.snapshot.reign()?;
    node.advance(&mut after, reign, ask.now.wall);
    let material = if after.is_destroyed() {
        Material::Remove
    } else {
        Material::Keep
    };
    let effects = Effects::change(Some((number, before)), after, material);
    Ok(Answered::answer(&NotifyResponse { extra: Extra::NONE }, ask.cx)?.with(effects))
}

/// What is never deleted: what moves with the State, and what the server has found out.
fn is_settled(reference: &AttributeReference) -> bool {
    let AttributeReference::Standard(tag) = reference else {
        return false;
    };
    matches!(
        *tag,
        tag::STATE
            | tag::DESTROY_DATE
            | tag::COMPROMISE_DATE
            | tag::COMPROMISE_OCCURRENCE_DATE
            | tag::REVOCATION_REASON
            | tag::INITIAL_DATE
            | tag::LAST_CHANGE_DATE
            | tag::DIGEST
            | tag::ALWAYS_SENSITIVE
            | tag::NEVER_EXTRACTABLE
    )
}

fn take(attributes: &mut Attributes, told: &Attribute, named: bool) {
    let single = !told.value.may_repeat();
    let index = told.index.unwrap_or(0);
    let is = |a: &&mut Attribute| {
        a.value.is_same_attribute(&told.value) && (single || named && a.index.unwrap_or(0) == index)
    };
    match attributes.iter_mut().find(is) {
        Some(held) => held.value = told.value.clone(),
        None => attributes.push(Attribute {
            index: told.index.filter(|_| named),
            value: told.value.clone(),
        }),
    }
}

/// What moves with the State, and never back.
fn is_of_lifecycle(value: &AttributeValue) -> bool {
    use AttributeValue as V;
    matches!(
        value,
        V::State(_)
            | V::DestroyDate(_)
            | V::CompromiseDate(_)
            | V::CompromiseOccurrenceDate(_)
            | V::RevocationReason(_)
    )
}

fn join(held: &mut Attributes, told: &Attributes) {
    let (Some(here), Some(there)) = (held.state(), told.state()) else {
        return;
    };
    let joined = lifecycle::Rank::of(here).joined_state(lifecycle::Rank::of(there));
    if joined == here {
        return;
    }
    held.set(AttributeValue::State(joined));
    for attribute in told
        .iter()
        .filter(|a| is_of_lifecycle(&a.value) && a.value.tag() != tag::STATE)
    {
        held.set(attribute.value.clone());
    }
}
