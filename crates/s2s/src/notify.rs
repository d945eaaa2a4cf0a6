//! Notify: another server tells which attributes of an object have changed or are no more (KMIP 2.1 §6.2.2).

use crate::{Ask, Node, Outcome, store_failed};
use keyferry_kmip::spec::{AttributeValue, tag};
use keyferry_kmip::{Attribute, Attributes, Cause, Failure, NotifyRequest, NotifyResponse, RequestItem, lifecycle};
use keyferry_store::{Effects, Material, SnapshotExt};
use keyferry_ttlv::{Extra, Version};

/// Takes in a Notify of a peer that may send, about an object that this peer has Put here.
///
/// In 1.x an attribute with its index takes the place of the instance of that index; in 2.x the values that are told are all that are left.
/// State and dates of the lifecycle join: no state goes back (DESIGN: rule 5).
pub(crate) fn notify(node: &Node, ask: &mut Ask<'_>, item: &RequestItem) -> Result<Outcome, Failure> {
    let request: NotifyRequest = item.payload(ask.cx)?;
    if !node.policy.peer(ask.caller).is_some_and(|peer| peer.may_send) {
        return Err(Failure::new(Cause::PermissionDenied, "only a peer that may send may Notify"));
    }
    let (number, before) = ask.record(Some(&request.unique_identifier))?;
    node.check_issuer(&before)?;
    if before.owner.as_deref() != Some(ask.caller.name.as_str()) {
        return Err(Failure::new(Cause::PermissionDenied, "the object did not come from this peer"));
    }
    if request.attributes.iter().any(|a| matches!(a.value.tag(), tag::UNIQUE_IDENTIFIER | tag::OBJECT_TYPE)) {
        return Err(Failure::new(Cause::InvalidField, "an object keeps its identifier and its type"));
    }
    let mut after = before.clone();
    let named = ask.cx.version < Version::V2_0;
    for deleted in &request.deleted.0 {
        let index = deleted.index.unwrap_or(0);
        after.attributes.retain(|a| a.value.reference() != deleted.reference || named && a.index.unwrap_or(0) != index);
    }
    if !named {
        after.attributes.retain(|a| {
            is_of_lifecycle(&a.value) || !request.attributes.iter().any(|told| told.value.is_same_attribute(&a.value))
        });
    }
    for told in &request.attributes {
        if !is_of_lifecycle(&told.value) {
            take(&mut after.attributes, told, named);
        }
    }
    join(&mut after.attributes, &request.attributes);
    after.attributes.check_count()?;
    crate::arrival::check_attributes(&after.attributes)?;
    let incarnation = ask.snapshot.incarnation().map_err(store_failed)?;
    node.advance(&mut after, incarnation, ask.now.wall);
    let material = if after.is_destroyed() { Material::Remove } else { Material::Keep };
    let effects = Effects::change(Some((number, before)), after, material);
    Ok(Outcome::answer(&NotifyResponse { extra: Extra::NONE }, ask.cx)?.with(effects))
}

fn take(attributes: &mut Attributes, told: &Attribute, named: bool) {
    let single = !told.value.may_repeat();
    let index = told.index.unwrap_or(0);
    let is = |a: &&mut Attribute| a.value.is_same_attribute(&told.value) && (single || named && a.index.unwrap_or(0) == index);
    match attributes.iter_mut().find(is) {
        Some(held) => held.value = told.value.clone(),
        None => attributes.push(Attribute { index: told.index.filter(|_| named), value: told.value.clone() }),
    }
}

/// What moves with the State, and never back.
fn is_of_lifecycle(value: &AttributeValue) -> bool {
    use AttributeValue as V;
    matches!(
        value,
        V::State(_) | V::DestroyDate(_) | V::CompromiseDate(_) | V::CompromiseOccurrenceDate(_) | V::RevocationReason(_)
    )
}

fn join(held: &mut Attributes, told: &Attributes) {
    let (Some(here), Some(there)) = (held.state(), told.state()) else { return };
    let joined = lifecycle::Rank::of(here).join(lifecycle::Rank::of(there));
    if joined == here {
        return;
    }
    held.set(AttributeValue::State(joined));
    for attribute in told.iter().filter(|a| is_of_lifecycle(&a.value) && a.value.tag() != tag::STATE) {
        held.set(attribute.value.clone());
    }
}
