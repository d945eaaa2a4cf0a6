use crate::{Ask, store_failed};
use keyferry_kmip::spec::tag;
use keyferry_kmip::{Failure, QueryResponse, context, extension as x};
use keyferry_store::SnapshotExt;
use keyferry_ttlv::{Decode, Encode, Extra, Raw, Version};

/// What a keyferry server tells of itself in Query's Server Information, a structure that the standard leaves to vendors.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::SERVER_INFORMATION)]
struct ServerInformation {
    /// Which history its store has, so that a peer notices when it is another one.
    #[ttlv(tag = x::INCARNATION)]
    incarnation: Option<Vec<u8>>,
    #[ttlv(extra)]
    extra: Extra,
}

/// The Server Information that a keyferry server answers Query with.
///
/// # Errors
/// When the store fails.
pub fn server_information(ask: &Ask<'_>) -> Result<Raw, Failure> {
    let incarnation = ask.snapshot.incarnation().map_err(store_failed)?;
    let information = ServerInformation { incarnation: Some(incarnation.0.to_vec()), extra: Extra::NONE };
    Ok(Raw::of(tag::SERVER_INFORMATION, &information, ask.cx)?)
}

/// The incarnation that a keyferry peer told of, if it did.
pub(crate) fn incarnation(query: &QueryResponse, version: Version) -> Option<Vec<u8>> {
    query.server_information.as_ref()?.read::<ServerInformation>(context(version)).ok()?.incarnation
}
