use super::{changed, own};
use keyferry_kmip::lifecycle::{Event, apply};
use keyferry_kmip::spec::RevocationReasonCode;
use keyferry_kmip::{
    ActivateRequest, ActivateResponse, Cause, DestroyRequest, DestroyResponse, Failure, RequestItem, RevokeRequest,
    RevokeResponse, Text, UniqueIdentifier,
};
use keyferry_s2s::{Ask, Node, Outcome};
use keyferry_store::{Effects, Material};
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
pub(super) fn activate(node: &Node, ask: &mut Ask<'_>, item: &RequestItem) -> Result<Outcome, Failure> {
    let request: ActivateRequest = item.payload(ask.cx)?;
    let (identifier, effects) = transition(node, ask, request.unique_identifier.as_ref(), &Event::Activate, Material::Keep)?;
    let response = ActivateResponse { unique_identifier: identifier.clone().into(), extra: Extra::NONE };
    Ok(Outcome::answer(&response, ask.cx)?.with(effects).placing(identifier))
}

/// Revoke (KMIP 2.1 §6.1.44).
pub(super) fn revoke(node: &Node, ask: &mut Ask<'_>, item: &RequestItem) -> Result<Outcome, Failure> {
    let request: RevokeRequest = item.payload(ask.cx)?;
    let code = request.revocation_reason.code;
    let compromise = matches!(code, RevocationReasonCode::KEY_COMPROMISE | RevocationReasonCode::CA_COMPROMISE);
    // Earlier versions say nothing of such a date (KMIP 1.4 §4.20).
    if !compromise && request.compromise_occurrence_date.is_some() && ask.cx.version >= Version::V1_4 {
        return Err(Failure::new(Cause::InvalidField, "Compromise Occurrence Date is for a compromise alone"));
    }
    let event = Event::Revoke(request.revocation_reason, request.compromise_occurrence_date);
    let (identifier, effects) = transition(node, ask, request.unique_identifier.as_ref(), &event, Material::Keep)?;
    let response = RevokeResponse { unique_identifier: identifier.clone().into(), extra: Extra::NONE };
    Ok(Outcome::answer(&response, ask.cx)?.with(effects).placing(identifier))
}

/// Destroy (KMIP 2.1 §6.1.15): the material goes, the attributes stay for ever.
pub(super) fn destroy(node: &Node, ask: &mut Ask<'_>, item: &RequestItem) -> Result<Outcome, Failure> {
    let request: DestroyRequest = item.payload(ask.cx)?;
    let (identifier, effects) = transition(node, ask, request.unique_identifier.as_ref(), &Event::Destroy, Material::Remove)?;
    let response = DestroyResponse { unique_identifier: identifier.clone().into(), extra: Extra::NONE };
    Ok(Outcome::answer(&response, ask.cx)?.with(effects).placing(identifier))
}
