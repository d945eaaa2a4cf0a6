//! Get, Get Attributes and Get Attribute List.

use super::changed;
use keyferry_kmip::attribute::{AttributeReference, AttributeReferences};
use keyferry_kmip::projection::visible_in_version;
use keyferry_kmip::spec::{AttributeValue, tag};
use keyferry_kmip::{
    Attributes, Cause, Failure, GetAttributeListRequest, GetAttributeListResponse,
    GetAttributesRequest, GetAttributesResponse, GetRequest, GetResponse, RequestItem,
};
use keyferry_s2s::{Answered, Ask, Node, RequestedForm, client_attributes};
use keyferry_store::{Material, Record, RecordNumber};
use keyferry_ttlv::{Extra, Version};
use std::collections::HashSet;

/// Get (KMIP 2.1 §6.1.19).
pub(super) fn get(node: &Node, ask: &Ask<'_>, item: &RequestItem) -> Result<Answered, Failure> {
    let request: GetRequest = item.payload(ask.cx)?;
    let (number, record) = ask.record(request.unique_identifier.as_ref())?;
    if record.is_destroyed() {
        return Err(Failure::new(Cause::ObjectGone, "the object was destroyed"));
    }
    let wanted = RequestedForm {
        key_format_type: request.key_format_type,
        key_wrap_type: request.key_wrap_type,
        key_compression_type: request.key_compression_type,
        key_wrapping_specification: request.key_wrapping_specification.as_ref(),
    };
    let object = node.served(ask, number, &record, &wanted)?.ok_or_else(|| {
        Failure::new(
            Cause::KeyValueNotPresent,
            "the server does not hold the object itself",
        )
    })?;
    let response = GetResponse {
        object_type: record.object_type,
        unique_identifier: record.identifier.clone().into(),
        object,
        extra: Extra::NONE,
    };
    let outcome = Answered::answer(&response, ask.cx)?;
    // An object that was served is no longer fresh (KMIP 2.1 §4.24); its issuer stores that.
    if record.attributes.get(tag::FRESH) != Some(&AttributeValue::Fresh(true))
        || !node.issues(&record)
    {
        return Ok(outcome);
    }
    let (last, state) = (
        record.attributes.date(tag::LAST_CHANGE_DATE),
        record.attributes.state(),
    );
    let mut after = record.clone();
    after.attributes.set(AttributeValue::Fresh(false));
    let mut effects = changed(node, ask, (number, record), after, Material::Keep)?;
    // Get does not count as a change (KMIP 2.1 §4.29), unless a date has caused a State transition.
    for change in effects
        .changes
        .iter_mut()
        .filter(|change| change.after.attributes.state() == state)
    {
        last.into_iter().for_each(|last| {
            change
                .after
                .attributes
                .set(AttributeValue::LastChangeDate(last))
        });
    }
    Ok(outcome.with(effects))
}

/// All attributes of an object, with those that show what this server knows of other servers.
fn all(
    node: &Node,
    ask: &Ask<'_>,
    number: RecordNumber,
    record: &Record,
) -> Result<Attributes, Failure> {
    let mut all = client_attributes(record, ask.now.wall);
    node.shadow(ask.snapshot, number, record)?
        .into_iter()
        .for_each(|attribute| all.push(attribute));
    Ok(visible_in_version(&all, ask.cx.version))
}

/// Get Attributes (KMIP 2.1 §6.1.20): returns the attributes that the request names, in its order, or all. Names without a value are skipped.
pub(super) fn get_attributes(
    node: &Node,
    ask: &Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: GetAttributesRequest = item.payload(ask.cx)?;
    let (number, record) = ask.record(request.unique_identifier.as_ref())?;
    let mut attributes = all(node, ask, number, &record)?;
    let references = &request.references.0;
    let mut seen = HashSet::new();
    if let Some(twice) = references.iter().find(|reference| !seen.insert(*reference)) {
        return Err(Failure::new(
            Cause::InvalidMessage,
            format_args!("{twice} is named more than once"),
        ));
    }
    if references.len() > Attributes::MOST {
        return Err(Failure::new(
            Cause::ServerLimit,
            "too many attributes are named",
        ));
    }
    if !references.is_empty() {
        let all = std::mem::take(&mut attributes);
        for reference in references {
            all.of(reference)
                .for_each(|attribute| attributes.keep(attribute.clone()));
            // An object without a policy has the default one (KMIP 1.4 §3.18.1), which is returned on request only.
            let policy = AttributeReference::Standard(tag::OPERATION_POLICY_NAME);
            if *reference == policy && ask.cx.version < Version::V2_0 && !all.has(&policy) {
                attributes.push(AttributeValue::OperationPolicyName("default".into()));
            }
        }
    }
    let response = GetAttributesResponse {
        unique_identifier: record.identifier.clone().into(),
        attributes,
        extra: Extra::NONE,
    };
    Answered::answer(&response, ask.cx)
}

/// Get Attribute List (KMIP 2.1 §6.1.21): returns the names of the attributes that have values, each once.
pub(super) fn get_attribute_list(
    node: &Node,
    ask: &Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: GetAttributeListRequest = item.payload(ask.cx)?;
    let (number, record) = ask.record(request.unique_identifier.as_ref())?;
    let mut references = AttributeReferences::default();
    for attribute in &all(node, ask, number, &record)? {
        let reference = attribute.value.reference();
        if !references.0.contains(&reference) {
            references.0.push(reference);
        }
    }
    let response = GetAttributeListResponse {
        unique_identifier: record.identifier.clone().into(),
        references,
        extra: Extra::NONE,
    };
    Answered::answer(&response, ask.cx)
}
