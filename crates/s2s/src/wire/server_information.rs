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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::TestServer;

    fn answer(information: ServerInformation) -> QueryResponse {
        QueryResponse {
            server_information: Some(information),
            ..QueryResponse::default()
        }
    }

    #[test]
    fn a_server_tells_its_id_and_its_instance() {
        let told = TestServer::new(|peer| peer).asking(|ask| server_information(ask));
        let told = answer(told.unwrap());
        assert_eq!(server(&told, Version::V2_1).as_deref(), Some("a"));
        assert_eq!(instance(&told, Version::V2_1), Some(vec![2; 16]));
        assert_eq!(incarnation(&told, Version::V2_1), Some(vec![1; 16]));
        let none = answer(ServerInformation::default());
        assert_eq!(server(&none, Version::V2_1), None);
    }

    #[test]
    fn what_can_be_no_server_id_is_not_believed() {
        let longest = "x".repeat(SERVER_BYTES);
        let longer = "x".repeat(SERVER_BYTES + 1);
        for (told, is_believed) in [
            ("b", true),
            ("b of c, the second", true),
            (&longest, true),
            ("", false),
            (&longer, false),
            ("b\nc", false),
            ("b\0c", false),
        ] {
            let mut information = ServerInformation::default();
            let told = keyferry_kmip::Text::from(told);
            let raw = Raw::of(x::SERVER_ID, &told, context(Version::V2_1)).unwrap();
            information.extra.push(raw);
            let read = server(&answer(information), Version::V2_1);
            assert_eq!(read, is_believed.then_some(told));
        }
    }
}
