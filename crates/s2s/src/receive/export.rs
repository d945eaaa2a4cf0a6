//! This module answers Export: for a client, or for a peer that pulls copies (KMIP 2.1 §6.1.18).

use crate::ask::{Answered, Ask};
use crate::material::serve::RequestedForm;
use crate::material::transit::bound_attributes;
use crate::node::{Node, client_attributes};
use crate::relation::receipts::Sender;
use crate::wire::copy::{Copy, KeyferryExtension};
use keyferry_kmip::projection::{split_by_version, visible_in_version};
use keyferry_kmip::{ExportRequest, ExportResponse, Failure, RequestItem};
use keyferry_ttlv::Extra;

/// Answers an Export. A peer that may pull gets the copy verbatim, with an extension that holds what the message itself cannot say.
pub(crate) fn export(
    node: &Node,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: ExportRequest = item.payload(ask.cx)?;
    let (number, record) = ask.record(request.unique_identifier.as_ref())?;
    let puller = node.policy.peer(ask.tls).filter(|peer| peer.may_pull);
    let mut wrapping = request.key_wrapping_specification;
    if let (Some(wrapping), true) = (&mut wrapping, puller.is_some()) {
        wrapping.attribute_names = bound_attributes(&record, &wrapping.attribute_names);
    }
    let wanted = RequestedForm {
        key_format_type: request.key_format_type,
        key_wrap_type: request.key_wrap_type,
        key_compression_type: request.key_compression_type,
        key_wrapping_specification: wrapping.as_ref(),
    };
    if let Some(peer) = puller
        && !peer.has_agreed(&record, ask.now.wall)?
    {
        return Err(Failure::denied(
            "the agreement with this peer does not cover the object",
        ));
    }
    let object = node.served(ask, number, &record, &wanted)?;
    let (attributes, extension) = if puller.is_some() {
        let (attributes, unrepresentable) = split_by_version(&record.attributes, ask.cx.version);
        let mut copy = Copy::of(&record, unrepresentable, None)?;
        Sender::of(&node.home).sign(ask.snapshot, &record, &mut copy)?;
        let extension = KeyferryExtension {
            copy: Some(copy),
            ..KeyferryExtension::default()
        };
        (attributes, Some(extension.extension(false)?))
    } else {
        let attributes = client_attributes(&record, ask.now.wall);
        (visible_in_version(&attributes, ask.cx.version), None)
    };
    let response = ExportResponse {
        object_type: record.object_type,
        unique_identifier: record.identifier.clone().into(),
        attributes,
        object,
        extra: Extra::NONE,
    };
    let mut answered = Answered::answer(&response, ask.cx)?.with_placeholder(record.identifier);
    answered.response.message_extension = extension;
    Ok(answered)
}
