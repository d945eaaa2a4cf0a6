//! What the four kinds of relation ([`Downstream`](crate::Downstream), [`Upstream`](crate::Upstream),
//! [`ForeignMaster`](crate::ForeignMaster), [`ForeignReplica`](crate::ForeignReplica)) have in common as entries of the s2s state.

use crate::error::{Error, ErrorKind, Result};
use crate::relation::keys::Entry;
use crate::report::Counts;
use crate::selection::Selection;
use keyferry_kmip::Text;
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{Snapshot, SnapshotExt, Span, Store, StoreExt, Transaction};
use keyferry_ttlv::{Decode, Encode, Tagged};
use std::ops::ControlFlow;

/// A relation, which is one entry of the s2s state.
pub(crate) trait Relation: Decode + Encode + Tagged {
    /// What the keys of its kind begin with.
    const PREFIX: &'static [u8];
    /// What an error calls one that can't be read.
    const KIND: &'static str;

    /// Its key.
    fn key(&self) -> Vec<u8>;

    /// Where it says whether it is paused.
    fn paused(&mut self) -> &mut Option<bool>;
}

/// Which relation is meant.
pub(crate) struct Address<'a> {
    pub(crate) key: Vec<u8>,
    /// What an error calls it.
    pub(crate) name: &'a str,
}

impl Address<'_> {
    fn missing(&self) -> Error {
        Error::new(
            ErrorKind::Relation,
            format_args!("there is no relation {:?}", self.name),
        )
    }
}

/// Everything that is kept under a prefix; `what` is what an error calls one that can't be read.
pub(crate) fn all_under<T: Decode + Tagged>(
    snapshot: &dyn Snapshot,
    prefix: &[u8],
    what: &str,
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    snapshot.state(&Span::prefix(prefix), &mut |_, value| {
        all.push(read(value, what)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(all)
}

/// Removes everything that is kept under a prefix.
fn remove_under(transaction: &mut dyn Transaction, prefix: &[u8]) -> keyferry_store::Result<()> {
    let mut keys = Vec::new();
    transaction.state(&Span::prefix(prefix), &mut |key, _| {
        keys.push(key.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    keys.iter()
        .try_for_each(|key| transaction.set_state(key, None))
}

/// The relations of one kind.
pub(crate) fn all<R: Relation>(snapshot: &dyn Snapshot) -> Result<Vec<R>> {
    all_under(snapshot, R::PREFIX, R::KIND)
}

/// The relation under a key.
pub(crate) fn find<R: Relation>(snapshot: &dyn Snapshot, key: &[u8]) -> Result<Option<R>> {
    let stored = snapshot.state_value(key)?;
    Ok(stored.map(|bytes| read(&bytes, R::KIND)).transpose()?)
}

/// The relation of an address; without one it fails.
pub(crate) fn existing<R: Relation>(snapshot: &dyn Snapshot, address: &Address<'_>) -> Result<R> {
    find(snapshot, &address.key)?.ok_or_else(|| address.missing())
}

/// What storing a relation changes.
pub(crate) fn entry<R: Relation>(relation: &R) -> keyferry_store::Result<Entry> {
    Ok((relation.key(), Some(bytes_of(relation)?)))
}

/// Stores a relation.
pub(crate) fn put<R: Relation>(transaction: &mut dyn Transaction, relation: &R) -> Result<()> {
    Ok(transaction.set_state(&relation.key(), Some(&bytes_of(relation)?))?)
}

/// Changes a relation as it is stored, and returns it as it is then.
pub(crate) fn change<R: Relation>(
    store: &dyn Store,
    address: &Address<'_>,
    change: impl Fn(&mut R) -> Result<()>,
) -> Result<R> {
    store.transact(|transaction| {
        let mut relation: R = existing(transaction, address)?;
        change(&mut relation)?;
        put(transaction, &relation)?;
        Ok(relation)
    })
}

/// Marks a relation as paused.
pub(crate) fn pause<R: Relation>(store: &dyn Store, address: &Address<'_>) -> Result<()> {
    set_paused::<R>(store, address, Some(true))
}

/// Removes the mark of [`pause`].
pub(crate) fn resume<R: Relation>(store: &dyn Store, address: &Address<'_>) -> Result<()> {
    set_paused::<R>(store, address, None)
}

fn set_paused<R: Relation>(
    store: &dyn Store,
    address: &Address<'_>,
    paused: Option<bool>,
) -> Result<()> {
    change(store, address, |relation: &mut R| {
        *relation.paused() = paused;
        Ok(())
    })
    .map(drop)
}

/// Removes a relation and what else is kept for it: single entries, and all that is under some prefixes.
pub(crate) fn end<R: Relation>(
    store: &dyn Store,
    address: &Address<'_>,
    entries: &[Vec<u8>],
    prefixes: &[Vec<u8>],
) -> Result<()> {
    store.transact(|transaction| end_in::<R>(transaction, address, entries, prefixes))
}

/// The same in a transaction.
pub(crate) fn end_in<R: Relation>(
    transaction: &mut dyn Transaction,
    address: &Address<'_>,
    entries: &[Vec<u8>],
    prefixes: &[Vec<u8>],
) -> Result<()> {
    existing::<R>(transaction, address)?;
    transaction.set_state(&address.key, None)?;
    for key in entries {
        transaction.set_state(key, None)?;
    }
    for prefix in prefixes {
        remove_under(transaction, prefix)?;
    }
    Ok(())
}

/// The counts that are kept under a key.
pub(crate) fn counts(snapshot: &dyn Snapshot, key: &[u8]) -> Result<Counts> {
    let stored = snapshot.state_value(key)?;
    Ok(stored
        .map(|bytes| read(&bytes, "progress of a transfer"))
        .transpose()?
        .unwrap_or_default())
}

/// Why nobody follows what Links reach.
pub(crate) const LINKS: &str = "what Links reach can't be followed: a change of one object would select others that did not change";

/// Fails when a relation can't have this selection.
pub(crate) fn check_selection(selection: &Selection) -> Result<()> {
    if selection.with_links {
        return Err(Error::new(ErrorKind::Selection, LINKS));
    }
    selection.query().map(drop)
}

/// The error of a relation that is with another server than was said.
pub(crate) fn is_with_another(relation: &str, server: &Text, more: &str) -> Error {
    Error::new(
        ErrorKind::Relation,
        format_args!("the relation {relation:?} is with the server {server:?}{more}"),
    )
}
