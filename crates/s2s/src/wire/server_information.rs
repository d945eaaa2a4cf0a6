//! The Server Information in the answer to a Query, by which a keyferry server tells the incarnation of its store.

use crate::ask::Ask;
use keyferry_kmip::{Failure, QueryResponse, ServerInformation, Text, context, extension as x};
use keyferry_store::SnapshotExt;
use keyferry_ttlv::{Decode, Raw, Tag, Version};

/// The Server Information in a keyferry server's answer to Query. Beside the standard's fields it has the incarnation of the store, so that a peer
/// notices when the store was restored or replaced, the instance of the server, which a restored store has in common with the one before, and the
/// server id.
///
/// # Errors
/// When the store fails.
pub fn server_information(ask: &Ask<'_>) -> Result<ServerInformation, Failure> {
    let incarnation = ask.snapshot.incarnation()?;
    let mut information = ServerInformation::default();
    information
        .extra
        .push(Raw::of(x::INCARNATION, &incarnation.0[..], ask.cx)?);
    if let Some(home) = ask.snapshot.home()? {
        let instance = Raw::of(x::INSTANCE, &home.instance[..], ask.cx)?;
        information.extra.push(instance);
        let server = Raw::of(x::SERVER_ID, &home.server, ask.cx)?;
        information.extra.push(server);
    }
    Ok(information)
}

/// The incarnation in a peer's answer to Query, if it is there.
pub(crate) fn incarnation(query: &QueryResponse, version: Version) -> Option<Vec<u8>> {
    find(query, x::INCARNATION, version)
}

/// The most bytes of an instance that a peer is believed: it becomes part of a state key. Ours have 16.
const INSTANCE_BYTES: usize = 64;

/// The instance in a peer's answer to Query, if it is there and not too long.
pub(crate) fn instance(query: &QueryResponse, version: Version) -> Option<Vec<u8>> {
    let told: Option<Vec<u8>> = find(query, x::INSTANCE, version);
    told.filter(|instance| instance.len() <= INSTANCE_BYTES)
}

/// The most bytes of a server id that a peer is believed: it becomes part of a state key, too.
const SERVER_BYTES: usize = 256;

/// The server id in a peer's answer to Query, if it is there, and can be one.
pub(crate) fn server(query: &QueryResponse, version: Version) -> Option<Text> {
    let told: Option<Text> = find(query, x::SERVER_ID, version);
    told.filter(|server| {
        !server.is_empty() && server.len() <= SERVER_BYTES && !server.chars().any(char::is_control)
    })
}

fn find<T: for<'a> Decode>(query: &QueryResponse, tag: Tag, version: Version) -> Option<T> {
    let information = query.server_information.as_ref()?;
    information.extra.find(tag)?.read(context(version)).ok()
}
