use crate::ask::{Answered, Ask};
use crate::material::serve::RequestedForm;
use crate::node::Node;
use crate::wire::copy;
use keyferry_kmip::{ExportRequest, ExportResponse, Failure, RequestItem};
use keyferry_ttlv::Extra;

pub(crate) fn export(
    node: &Node,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    let request: ExportRequest = item.payload(ask.cx)?;
    let (number, record) = ask.record(request.unique_identifier.as_ref())?;
    let wanted = RequestedForm {
        key_format_type: request.key_format_type,
        key_wrap_type: request.key_wrap_type,
        key_compression_type: request.key_compression_type,
        key_wrapping_specification: request.key_wrapping_specification.as_ref(),
    };
    // A peer that pulls gets the copy verbatim, with what the message itself can't say.
    let puller = node.policy.peer(ask.tls).filter(|peer| peer.may_pull);
    if let Some(peer) = puller
        && !peer.has_agreed(&record, ask.now.wall)?
    {
        return Err(Failure::denied(
            "the agreement with this peer does not cover the object",
        ));
    }
    let object = node.served(ask, number, &record, &wanted)?;
    let (attributes, addition) = if puller.is_some() {
        let (attributes, rest) =
            keyferry_kmip::projection::split_by_version(&record.attributes, ask.cx.version);
        let copy = copy::Copy::of(&record, rest, None)?;
        let addition = copy::KeyferryExtension {
            copy: Some(copy),
            ..copy::KeyferryExtension::default()
        };
        (attributes, Some(addition.extension(false)?))
    } else {
        (
            keyferry_kmip::projection::visible_in_version(
                &crate::node::client_attributes(&record, ask.now.wall),
                ask.cx.version,
            ),
            None,
        )
    };
    let response = ExportResponse {
        object_type: record.object_type,
        unique_identifier: record.identifier.clone().into(),
        attributes,
        object,
        extra: Extra::NONE,
    };
    let mut outcome = Answered::answer(&response, ask.cx)?.placing(record.identifier);
    outcome.response.message_extension = addition;
    Ok(outcome)
}
