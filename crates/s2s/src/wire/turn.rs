use crate::error::{Error, Result};
use crate::session::Step;
use crate::wire::copy::KeyferryExtension;
use crate::wire::follow::SPOKEN;
use crate::wire::place::Place;
use keyferry_kmip::spec::{EndpointRole, Operation, tag};
use keyferry_kmip::{
    Payload, RequestItem, RequestMessage, SetEndpointRoleRequest, Text, context, extension as x,
};
use keyferry_ttlv::{Decode, Encode, Extra};

/// The operation by which an issuer pokes a replica.
pub const POKE: Operation = Operation(0x8000_4B03);

/// What is told.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::REQUEST_PAYLOAD)]
pub(crate) struct PokeRequest {
    /// The issuer.
    #[ttlv(tag = x::SERVER_ID)]
    pub(crate) server: Text,
    /// The head of its feed.
    #[ttlv(tag = x::HEAD)]
    pub(crate) head: Place,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Payload for PokeRequest {
    const OPERATION: Operation = POKE;
}

/// The answer says nothing.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::RESPONSE_PAYLOAD)]
pub(crate) struct PokeResponse {
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Payload for PokeResponse {
    const OPERATION: Operation = POKE;
}

pub(crate) fn message<P: Payload>(payload: &P) -> Result<RequestMessage> {
    let item = RequestItem::new(payload, context(SPOKEN)).map_err(Error::encode)?;
    Ok(RequestMessage::new(SPOKEN, vec![item]))
}

/// The step that turns the connection round, telling what was taken of the other side's feed.
pub(crate) fn turn(taken: Option<Place>) -> Result<Step> {
    let mut message = message(&SetEndpointRoleRequest {
        endpoint_role: EndpointRole::CLIENT,
        extra: Extra::NONE,
    })?;
    if let (Some(place), [item]) = (taken, message.batch.as_mut_slice()) {
        let addition = KeyferryExtension {
            place: Some(place),
            ..KeyferryExtension::default()
        };
        item.message_extensions
            .push(addition.extension(false).map_err(Error::encode)?);
    }
    Ok(Step::Turn(Box::new(message)))
}

/// What of this server's feed a replica has taken, as it tells when it turns the connection round; nothing known where it does not tell.
pub fn replica_position(request: &RequestMessage) -> Place {
    let extensions = request
        .batch
        .iter()
        .flat_map(|item| &item.message_extensions);
    KeyferryExtension::find(extensions)
        .ok()
        .and_then(|addition| addition.place)
        .unwrap_or_default()
}
