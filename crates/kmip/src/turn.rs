//! Turning a connection round: Set Endpoint Role as both sides of a connection and their drivers see it (KMIP 2.1 §6.1.54 and §6.2.5, since
//! 2.0).
//!
//! Whoever asks on a connection asks the other side to apply the role Client: from its answer on that one asks, and the first one answers.
//! The same request turns the connection back.

use crate::spec::{EndpointRole, Operation};
use crate::{
    DateTime, RequestItem, RequestMessage, ResponseItem, ResponseMessage, SetEndpointRoleRequest, SetEndpointRoleResponse,
    context,
};
use keyferry_ttlv::{Extra, Frame, Result, Version};

/// The request that turns a connection round, in 2.0 or later: earlier versions have no such operation.
///
/// # Errors
/// When it can't be written.
pub fn turn_request(version: Version) -> Result<Frame> {
    let role = SetEndpointRoleRequest { endpoint_role: EndpointRole::CLIENT, extra: Extra::NONE };
    RequestMessage::new(version, vec![RequestItem::new(&role, context(version))?]).to_frame()
}

/// Whether a message asks for nothing but to turn the connection round.
pub fn asks_to_turn(message: &RequestMessage) -> bool {
    let (Ok(version), [item]) = (message.version(), message.batch.as_slice()) else { return false };
    let role = |item: &RequestItem| item.payload::<SetEndpointRoleRequest>(context(version)).map(|role| role.endpoint_role);
    version >= Version::V2_0
        && item.operation == Operation::SET_ENDPOINT_ROLE
        && item.message_extensions.iter().all(|extension| !extension.criticality_indicator)
        && role(item).is_ok_and(|role| role == EndpointRole::CLIENT)
}

/// The answer that accepts to turn the connection round.
///
/// # Errors
/// When it can't be written.
pub fn turn_answer(request: &RequestMessage, now: DateTime) -> Result<Frame> {
    let version = request.version()?;
    let role = SetEndpointRoleResponse { endpoint_role: EndpointRole::CLIENT, extra: Extra::NONE };
    let item = ResponseItem {
        unique_batch_item_id: request.batch.first().and_then(|item| item.unique_batch_item_id.clone()),
        ..ResponseItem::success(&role, context(version))?
    };
    ResponseMessage::new(version, now, vec![item]).to_frame()
}

/// Whether an answer to [`turn_request`] accepts it: from then on the other side asks.
pub fn is_turned(answer: &Frame) -> bool {
    ResponseMessage::from_frame(answer).is_ok_and(|message| accepts_turn(&message))
}

/// The same of an answer that was read.
pub fn accepts_turn(message: &ResponseMessage) -> bool {
    let (Ok(version), [item]) = (message.version(), message.batch.as_slice()) else { return false };
    let role = item.payload::<SetEndpointRoleResponse>(context(version)).map(|role| role.endpoint_role);
    item.is_success() && role.is_ok_and(|role| role == EndpointRole::CLIENT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Cause, Failure};

    #[test]
    fn a_request_and_its_answers() {
        let early = RequestMessage::from_frame(&turn_request(Version::V1_4).unwrap()).unwrap();
        assert!(!asks_to_turn(&early), "no operation of that version");
        for version in [Version::V2_0, Version::V2_1] {
            let request = RequestMessage::from_frame(&turn_request(version).unwrap()).unwrap();
            assert!(asks_to_turn(&request));
            assert!(is_turned(&turn_answer(&request, DateTime(0)).unwrap()));
            let refused =
                ResponseItem::failure(Some(Operation::SET_ENDPOINT_ROLE), &Failure::new(Cause::PermissionDenied, "no"), version);
            assert!(!is_turned(&ResponseMessage::new(version, DateTime(0), vec![refused]).to_frame().unwrap()));
            let mut twice = request.clone();
            twice.batch.push(request.batch[0].clone());
            assert!(!asks_to_turn(&twice), "alone in its message");
            let stays = SetEndpointRoleRequest { endpoint_role: EndpointRole::SERVER, extra: Extra::NONE };
            let item = RequestItem::new(&stays, context(version)).unwrap();
            assert!(!asks_to_turn(&RequestMessage::new(version, vec![item])));
        }
        assert!(!is_turned(&Frame::new(vec![0x42; 8])));
    }
}
