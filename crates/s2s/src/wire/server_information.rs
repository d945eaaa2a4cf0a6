use crate::ask::Ask;
use keyferry_kmip::{Failure, QueryResponse, ServerInformation, context, extension as x};
use keyferry_store::SnapshotExt;
use keyferry_ttlv::{Raw, Version};

/// The Server Information that a keyferry server answers Query with: beside the standard's fields, which history its store has, so that a
/// peer notices when it is another one.
///
/// # Errors
/// When the store fails.
pub fn server_information(ask: &Ask<'_>) -> Result<ServerInformation, Failure> {
    let incarnation = ask.snapshot.incarnation()?;
    let mut information = ServerInformation::default();
    information
        .extra
        .push(Raw::of(x::INCARNATION, &incarnation.0[..], ask.cx)?);
    Ok(information)
}

/// The incarnation that a keyferry peer told of, if it did.
pub(crate) fn incarnation(query: &QueryResponse, version: Version) -> Option<Vec<u8>> {
    query
        .server_information
        .as_ref()?
        .extra
        .find(x::INCARNATION)?
        .read(context(version))
        .ok()
}
