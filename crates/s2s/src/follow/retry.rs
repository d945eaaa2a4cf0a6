//! What is kept of objects that could not be taken, were withdrawn, or are missing at the issuer.

use crate::Result;
use keyferry_kmip::{DateTime, Text, extension as x};
use keyferry_store::record::read;
use keyferry_store::{ObjectId, Snapshot, Span, index};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::ops::ControlFlow;

/// An object that could not be taken.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::RETRY)]
pub struct Retry {
    /// The object.
    pub id: ObjectId,
    /// Why.
    #[ttlv(tag = x::WHY)]
    pub why: Text,
    /// How often it was tried.
    #[ttlv(tag = x::ATTEMPTS)]
    pub attempts: i32,
    /// When it is tried again.
    #[ttlv(tag = x::DUE)]
    pub due: DateTime,
    /// The pass in which it was counted as failed.
    #[ttlv(tag = x::SESSION)]
    pub(crate) pass: i64,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

pub(crate) fn retry_prefix(relation: &str) -> Vec<u8> {
    [b"retry/", relation.as_bytes(), &[0]].concat()
}

pub(crate) fn missing_prefix(relation: &str) -> Vec<u8> {
    [b"missing/", relation.as_bytes(), &[0]].concat()
}

/// The copies that are held here and that the server which a relation is with does not have any more, or not the change of them that is
/// held, or has not told of yet what a relay was faster to tell. They are kept (DESIGN: rule 6).
///
/// # Errors
/// Those of the store.
pub fn missing(snapshot: &dyn Snapshot, relation: &str) -> Result<Vec<ObjectId>> {
    let mut all = Vec::new();
    snapshot.state(&Span::prefix(&missing_prefix(relation)), &mut |_, value| {
        all.push(read(value, "missing object")?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(all)
}

pub(crate) fn done_prefix(relation: &str) -> Vec<u8> {
    [b"withdrawn/", relation.as_bytes(), &[0]].concat()
}

/// The key under which something about an object is kept.
pub(crate) fn about(prefix: Vec<u8>, id: &ObjectId) -> keyferry_store::Result<Vec<u8>> {
    Ok([&prefix[..], &index::object_id(id)?.key].concat())
}

impl Retry {
    /// What could not be taken so far of what a relation brings.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot, relation: &str) -> Result<Vec<Retry>> {
        let mut all = Vec::new();
        snapshot.state(&Span::prefix(&retry_prefix(relation)), &mut |_, value| {
            all.push(read(value, "object to retry")?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(all)
    }
}
