//! Activate, Revoke, Destroy, Archive and Recover.

use super::{changed, own};
use keyferry_kmip::lifecycle::{Event, apply};
use keyferry_kmip::spec::{AttributeValue, RevocationReasonCode, tag};
use keyferry_kmip::{
    ActivateRequest, ActivateResponse, ArchiveRequest, ArchiveResponse, Cause, DestroyRequest,
    DestroyResponse, Failure, RecoverRequest, RecoverResponse, RequestItem, RevokeRequest,
    RevokeResponse, Text, UniqueIdentifier,
};
use keyferry_s2s::{Answered, Ask, Node, check_no_pending_give_back};
use keyferry_store::{Effects, Material, Record, RecordNumber};
use keyferry_ttlv::{Extra, Version};

fn transition(
    node: &Node,
    ask: &Ask<'_>,
    given: Option<&UniqueIdentifier>,
    event: &Event,
    material: Material,
) -> Result<(Text, Effects), Failure> {
    let before = own(node, ask, given)?;
    let mut after = before.1.clone();
    apply(&mut after.attributes, event, ask.now.wall)?;
    let identifier = after.identifier.clone();
    Ok((identifier, changed(node, ask, before, after, material)?))
}

/// Activate (KMIP 2.1 §6.1.1).
pub(super) fn activate(
    node: &Node,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: ActivateRequest = item.payload(ask.cx)?;
    let (identifier, effects) = transition(
        node,
        ask,
        request.unique_identifier.as_ref(),
        &Event::Activate,
        Material::Keep,
    )?;
    let response = ActivateResponse {
        unique_identifier: identifier.clone().into(),
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?.with(effects))
}

/// Revoke (KMIP 2.1 §6.1.44).
pub(super) fn revoke(
    node: &Node,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: RevokeRequest = item.payload(ask.cx)?;
    let code = request.revocation_reason.code;
    let compromise = matches!(
        code,
        RevocationReasonCode::KEY_COMPROMISE | RevocationReasonCode::CA_COMPROMISE
    );
    // Earlier versions do not mention such a date (KMIP 1.4 §4.20).
    if !compromise
        && request.compromise_occurrence_date.is_some()
        && ask.cx.version >= Version::V1_4
    {
        return Err(Failure::new(
            Cause::InvalidField,
            "Compromise Occurrence Date is for a compromise alone",
        ));
    }
    let (given, occurrence) = (
        request.unique_identifier.as_ref(),
        request.compromise_occurrence_date,
    );
    let (identifier, effects) = match emergency(node, ask, given, compromise)? {
        Some(held) => (
            held.1.identifier.clone(),
            node.revoke_compromised(ask, held, request.revocation_reason, occurrence)?,
        ),
        None => {
            let event = Event::Revoke(request.revocation_reason, occurrence);
            transition(node, ask, given, &event, Material::Keep)?
        }
    };
    let response = RevokeResponse {
        unique_identifier: identifier.clone().into(),
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?.with(effects))
}

/// The object of a Revoke for a compromise that can't be an ordinary change: it is a copy, or the server waits for what it has lost. That is taken all
/// the same ([rule 5](keyferry_s2s::design#rule-5)).
fn emergency(
    node: &Node,
    ask: &Ask<'_>,
    given: Option<&UniqueIdentifier>,
    is_compromise: bool,
) -> Result<Option<(RecordNumber, Record)>, Failure> {
    if !is_compromise {
        return Ok(None);
    }
    let held = ask.record(given)?;
    let is_ordinary = node.check_issuer(ask.snapshot, &held.1).is_ok()
        && check_no_pending_give_back(ask.snapshot).is_ok();
    Ok((!is_ordinary).then_some(held))
}

/// Destroy (KMIP 2.1 §6.1.15): removes the key material; the attributes stay for ever.
pub(super) fn destroy(
    node: &Node,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: DestroyRequest = item.payload(ask.cx)?;
    let (identifier, effects) = transition(
        node,
        ask,
        request.unique_identifier.as_ref(),
        &Event::Destroy,
        Material::Remove,
    )?;
    let response = DestroyResponse {
        unique_identifier: identifier.clone().into(),
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?.with(effects))
}

/// Archive (KMIP 2.1 §6.1.4): marks the object as archived; it is not served until it is recovered.
pub(super) fn archive(
    node: &Node,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: ArchiveRequest = item.payload(ask.cx)?;
    let before = own(node, ask, request.unique_identifier.as_ref())?;
    if before.1.is_destroyed() {
        return Err(Failure::new(
            Cause::ObjectDestroyed,
            "the object was destroyed",
        ));
    }
    let mut after = before.1.clone();
    after
        .attributes
        .set(AttributeValue::ArchiveDate(ask.now.wall));
    let identifier = after.identifier.clone();
    let effects = changed(node, ask, before, after, Material::Keep)?;
    let response = ArchiveResponse {
        unique_identifier: identifier.clone().into(),
        extra: Extra::NONE,
    };
    Ok(Answered::answer(&response, ask.cx)?.with(effects))
}

/// Recover (KMIP 2.1 §6.1.42): makes an archived object available again; another object stays as it is.
pub(super) fn recover(
    node: &Node,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: RecoverRequest = item.payload(ask.cx)?;
    let before = ask.record(request.unique_identifier.as_ref())?;
    node.check_issuer(ask.snapshot, &before.1)?;
    let identifier = before.1.identifier.clone();
    let response = RecoverResponse {
        unique_identifier: identifier.clone().into(),
        extra: Extra::NONE,
    };
    let answer = Answered::answer(&response, ask.cx)?.with_placeholder(identifier);
    if before.1.attributes.get(tag::ARCHIVE_DATE).is_none() {
        return Ok(answer);
    }
    let mut after = before.1.clone();
    after.attributes.remove(tag::ARCHIVE_DATE);
    Ok(answer.with(changed(node, ask, before, after, Material::Keep)?))
}
