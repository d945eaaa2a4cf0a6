//! Turning a connection round: Set Endpoint Role as both sides of a connection and their drivers see it (KMIP 2.1 §6.1.54 and §6.2.5, since
//! 2.0).
//!
//! The side that sends requests asks the other side to apply the role Client. From the answer on, that other side sends the requests and the
//! first side answers them. The same request turns the connection back.
//!
//! KMIP 1.x has no such operation. There [`TURN`] takes its place, which only keyferry servers know: others answer that they do not support
//! it.

use crate::message::request::{RequestItem, RequestMessage};
use crate::message::response::{ResponseItem, ResponseMessage};
use crate::payload::Payload;
use crate::payload::server::SetEndpointRoleRequest;
use crate::payload::server::SetEndpointRoleResponse;
use crate::spec::enumeration::message::{EndpointRole, Operation};
use crate::spec::names::context;
use crate::spec::tag;
use keyferry_ttlv::{DateTime, Decode, Encode, Extra, Frame, Result, Version};

/// The vendor operation that turns a connection round in KMIP 1.0 to 1.4.
pub const TURN: Operation = Operation(0x8000_4B04);

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::REQUEST_PAYLOAD)]
struct TurnRequest {
    #[ttlv(extra)]
    extra: Extra,
}

impl Payload for TurnRequest {
    const OPERATION: Operation = TURN;
}

#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::RESPONSE_PAYLOAD)]
struct TurnResponse {
    #[ttlv(extra)]
    extra: Extra,
}

impl Payload for TurnResponse {
    const OPERATION: Operation = TURN;
}

/// The request that turns a connection round: by Set Endpoint Role since 2.0, by [`TURN`] before.
///
/// # Errors
/// When it can't be written.
pub fn turn_request(version: Version) -> Result<Frame> {
    let cx = context(version);
    let item = if version >= Version::V2_0 {
        RequestItem::new(
            &SetEndpointRoleRequest {
                endpoint_role: EndpointRole::CLIENT,
                extra: Extra::NONE,
            },
            cx,
        )?
    } else {
        RequestItem::new(&TurnRequest { extra: Extra::NONE }, cx)?
    };
    RequestMessage::new(version, vec![item]).to_frame()
}

/// Whether a message asks to turn the connection round, and for nothing else.
pub fn asks_to_turn(message: &RequestMessage) -> bool {
    let (Ok(version), [item]) = (message.version(), message.batch.as_slice()) else {
        return false;
    };
    let cx = context(version);
    let asks = match item.operation {
        Operation::SET_ENDPOINT_ROLE if version >= Version::V2_0 => item
            .payload::<SetEndpointRoleRequest>(cx)
            .is_ok_and(|request| request.endpoint_role == EndpointRole::CLIENT),
        TURN if version < Version::V2_0 => item.payload::<TurnRequest>(cx).is_ok(),
        _ => false,
    };
    asks && item
        .message_extensions
        .iter()
        .all(|extension| !extension.criticality_indicator)
}

/// The answer that accepts to turn the connection round.
///
/// # Errors
/// When it can't be written.
pub fn turn_answer(request: &RequestMessage, now: DateTime) -> Result<Frame> {
    let version = request.version()?;
    let accepted = if version >= Version::V2_0 {
        let role = SetEndpointRoleResponse {
            endpoint_role: EndpointRole::CLIENT,
            extra: Extra::NONE,
        };
        ResponseItem::success(&role, context(version))?
    } else {
        ResponseItem::success(&TurnResponse { extra: Extra::NONE }, context(version))?
    };
    let item = ResponseItem {
        unique_batch_item_id: request
            .batch
            .first()
            .and_then(|item| item.unique_batch_item_id.clone()),
        ..accepted
    };
    ResponseMessage::new(version, now, vec![item]).to_frame()
}

/// Whether an answer to [`turn_request`] accepts it: from then on the other side asks.
pub fn is_turned(answer: &Frame) -> bool {
    ResponseMessage::from_frame(answer).is_ok_and(|message| accepts_turn(&message))
}

/// Whether an answer to [`turn_request`], read already, accepts it.
pub fn accepts_turn(message: &ResponseMessage) -> bool {
    let (Ok(version), [item]) = (message.version(), message.batch.as_slice()) else {
        return false;
    };
    let cx = context(version);
    let accepts = || match item.operation {
        Some(TURN) if version < Version::V2_0 => item.payload::<TurnResponse>(cx).is_ok(),
        _ => item
            .payload::<SetEndpointRoleResponse>(cx)
            .is_ok_and(|role| {
                version >= Version::V2_0 && role.endpoint_role == EndpointRole::CLIENT
            }),
    };
    item.is_success() && accepts()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::failure::{Cause, Failure};

    #[test]
    fn a_request_and_its_answers() {
        for version in crate::VERSIONS.iter().copied() {
            let request = RequestMessage::from_frame(&turn_request(version).unwrap()).unwrap();
            assert!(asks_to_turn(&request), "{version}");
            assert!(
                is_turned(&turn_answer(&request, DateTime(0)).unwrap()),
                "{version}"
            );
            let operation = Some(request.batch[0].operation);
            let refused = ResponseItem::failure(
                operation,
                &Failure::new(Cause::PermissionDenied, "no"),
                version,
            );
            assert!(!is_turned(
                &ResponseMessage::new(version, DateTime(0), vec![refused])
                    .to_frame()
                    .unwrap()
            ));
            let mut twice = request.clone();
            twice.batch.push(request.batch[0].clone());
            assert!(!asks_to_turn(&twice), "alone in its message");
        }
        for version in [Version::V2_0, Version::V2_1] {
            let stays = SetEndpointRoleRequest {
                endpoint_role: EndpointRole::SERVER,
                extra: Extra::NONE,
            };
            let item = RequestItem::new(&stays, context(version)).unwrap();
            assert!(!asks_to_turn(&RequestMessage::new(version, vec![item])));
            let ours =
                RequestItem::new(&TurnRequest { extra: Extra::NONE }, context(version)).unwrap();
            assert!(
                !asks_to_turn(&RequestMessage::new(version, vec![ours])),
                "there the standard has its own"
            );
        }
        assert!(!is_turned(&Frame::new(vec![0x42; 8])));
    }
}
