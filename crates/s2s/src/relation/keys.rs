use crate::error::{Error, ErrorKind, Result};
use keyferry_store::record::read;
use keyferry_store::{ObjectId, Snapshot, Span, Transaction, index};
use keyferry_ttlv::Decode;
use std::ops::ControlFlow;

pub(crate) fn slave_key(server: &str, relation: &str) -> Vec<u8> {
    [b"slave/", server.as_bytes(), &[0], relation.as_bytes()].concat()
}

pub(crate) fn master_key(relation: &str) -> Vec<u8> {
    [b"master/", relation.as_bytes()].concat()
}

pub(crate) fn all<T: Decode + keyferry_ttlv::Tagged>(
    snapshot: &dyn Snapshot,
    prefix: &[u8],
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    snapshot.state(&Span::prefix(prefix), &mut |_, value| {
        all.push(read(value, "relation")?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(all)
}

pub(crate) fn none(relation: &str) -> Error {
    Error::new(
        ErrorKind::Relation,
        format_args!("there is no relation {relation:?}"),
    )
}

/// Removes everything that is kept under a prefix.
pub(crate) fn forget(
    transaction: &mut dyn Transaction,
    prefix: &[u8],
) -> keyferry_store::Result<()> {
    let mut keys = Vec::new();
    transaction.state(&Span::prefix(prefix), &mut |key, _| {
        keys.push(key.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    keys.iter()
        .try_for_each(|key| transaction.set_state(key, None))
}

pub(crate) fn retry_prefix(relation: &str) -> Vec<u8> {
    [b"retry/", relation.as_bytes(), &[0]].concat()
}

pub(crate) fn missing_prefix(relation: &str) -> Vec<u8> {
    [b"missing/", relation.as_bytes(), &[0]].concat()
}

pub(crate) fn done_prefix(relation: &str) -> Vec<u8> {
    [b"withdrawn/", relation.as_bytes(), &[0]].concat()
}

/// The key under which something about an object is kept.
pub(crate) fn about(prefix: Vec<u8>, id: &ObjectId) -> keyferry_store::Result<Vec<u8>> {
    Ok([&prefix[..], &index::object_id(id)?.key].concat())
}
