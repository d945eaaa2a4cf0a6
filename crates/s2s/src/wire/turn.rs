//! The messages around a connection that is turned round: the poke, by which an issuer tells a replica that there are changes, and the request
//! that turns the connection.

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

/// The operation by which an issuer pokes a replica: it tells the replica that there are changes.
pub const POKE: Operation = Operation(0x8000_4B03);

/// The poke of an issuer.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::REQUEST_PAYLOAD)]
pub(crate) struct PokeRequest {
    /// The server id of the issuer.
    #[ttlv(tag = x::SERVER_ID)]
    pub(crate) server: Text,
    /// The head of its feed.
    #[ttlv(tag = x::HEAD)]
    pub(crate) head: Place,
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Payload for PokeRequest {
    const OPERATION: Operation = POKE;
}

/// The answer to a poke, which is empty.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::RESPONSE_PAYLOAD)]
pub(crate) struct PokeResponse {
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

impl Payload for PokeResponse {
    const OPERATION: Operation = POKE;
}

/// A message with one request of keyferry's.
pub(crate) fn message<P: Payload>(payload: &P) -> Result<RequestMessage> {
    let item = RequestItem::new(payload, context(SPOKEN)).map_err(Error::encode)?;
    Ok(RequestMessage::new(SPOKEN, vec![item]))
}

/// The step that turns the connection round. `committed` says up to which place this server has committed the peer's feed.
pub(crate) fn turn(committed: Option<Place>) -> Result<Step> {
    let mut message = message(&SetEndpointRoleRequest {
        endpoint_role: EndpointRole::CLIENT,
        extra: Extra::NONE,
    })?;
    if let (Some(place), [item]) = (committed, message.batch.as_mut_slice()) {
        let extension = KeyferryExtension {
            place: Some(place),
            ..KeyferryExtension::default()
        };
        item.message_extensions
            .push(extension.extension(false).map_err(Error::encode)?);
    }
    Ok(Step::Turn(Box::new(message)))
}

/// The place in this server's feed up to which a replica has committed it, by the replica's request to turn the connection round. It is the
/// beginning of the feed if the request does not say.
pub fn replica_position(request: &RequestMessage) -> Place {
    let extensions = request
        .batch
        .iter()
        .flat_map(|item| &item.message_extensions);
    KeyferryExtension::find(extensions)
        .ok()
        .and_then(|extension| extension.place)
        .unwrap_or_default()
}
