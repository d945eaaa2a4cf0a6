//! This module defines the tables of the file, and reads single facts from them.

use crate::failure::Failure;
use crate::keys::Entry;
use keyferry_store::{CommitId, Incarnation, RecordNumber, Result, Row};
use redb::{ReadableTable, TableDefinition};
use zeroize::Zeroizing;

pub(crate) type Bytes = &'static [u8];

/// From record number to the stored record; [`split_record`] takes it apart.
pub(crate) const RECORDS: TableDefinition<u64, Bytes> = TableDefinition::new("records");
/// From record number to key material.
pub(crate) const MATERIAL: TableDefinition<u64, Bytes> = TableDefinition::new("material");
/// The entries of all indexes.
pub(crate) const INDEX: TableDefinition<Entry, ()> = TableDefinition::new("index");
/// From feed number to record number and entry.
pub(crate) const FEED: TableDefinition<u64, Bytes> = TableDefinition::new("feed");
/// From the last feed number of a commit to its id.
pub(crate) const COMMITS: TableDefinition<u64, [u8; 16]> = TableDefinition::new("commits");
/// The s2s state.
pub(crate) const STATE: TableDefinition<Bytes, Bytes> = TableDefinition::new("state");
/// Facts about the store: its schema version, its incarnation, its count of writes.
pub(crate) const META: TableDefinition<&str, Bytes> = TableDefinition::new("meta");

/// The key of the [schema version](keyferry_store::schema) in `META`.
pub(crate) const SCHEMA: &str = "schema";
/// The key of the note in `META` of how far a migration has come, while one is under way.
pub(crate) const MIGRATING: &str = "migrating";
/// The key of the incarnation in `META`.
pub(crate) const INCARNATION: &str = "incarnation";
/// The key of the count of writes in `META`, which tells after a failed commit whether it took effect.
pub(crate) const WRITES: &str = "writes";

/// Appends the stored form of a record: the number of its feed entry, its object id, its attributes.
pub(crate) fn join_record(to: &mut Vec<u8>, feed: u64, id: &[u8], attributes: &[u8]) {
    to.extend_from_slice(&feed.to_be_bytes());
    to.extend_from_slice(&(id.len() as u32).to_be_bytes());
    to.extend_from_slice(id);
    to.extend_from_slice(attributes);
}

/// The parts of a stored record: feed number, object id, attributes.
pub(crate) fn split_record(stored: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (feed, rest) = stored.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (id, attributes) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((u64::from_be_bytes(*feed), id, attributes))
}

/// The schema version of the file.
pub(crate) fn version(meta: &impl ReadableTable<&'static str, Bytes>) -> Result<u32, Failure> {
    fact(meta, SCHEMA)?
        .map(u32::from_be_bytes)
        .ok_or_else(|| Failure::damage("it does not say which schema it has"))
}

pub(crate) fn incarnation(
    meta: &impl ReadableTable<&'static str, Bytes>,
) -> Result<Incarnation, Failure> {
    fact(meta, INCARNATION)?
        .map(Incarnation)
        .ok_or_else(|| Failure::damage("it has no incarnation"))
}

/// The number of writes so far.
pub(crate) fn writes(meta: &impl ReadableTable<&'static str, Bytes>) -> Result<u64, Failure> {
    Ok(fact(meta, WRITES)?.map_or(0, u64::from_be_bytes))
}

fn fact<const N: usize>(
    meta: &impl ReadableTable<&'static str, Bytes>,
    name: &str,
) -> Result<Option<[u8; N]>, Failure> {
    let Some(stored) = meta.get(name)? else {
        return Ok(None);
    };
    let value = stored
        .value()
        .try_into()
        .map_err(|_| Failure::damage(format_args!("its {name} is not {N} bytes long")))?;
    Ok(Some(value))
}

/// The last commit: its feed number and its id.
pub(crate) fn last_commit(
    commits: &impl ReadableTable<u64, [u8; 16]>,
) -> Result<(u64, CommitId), Failure> {
    Ok(commits.last()?.map_or((0, CommitId::ZERO), |(number, id)| {
        (number.value(), CommitId(id.value()))
    }))
}

pub(crate) fn last_record(records: &impl ReadableTable<u64, Bytes>) -> Result<u64, Failure> {
    Ok(records.last()?.map_or(0, |(number, _)| number.value()))
}

/// The id of the commit that wrote the feed entry `number`.
pub(crate) fn commit_id(
    commits: &impl ReadableTable<u64, [u8; 16]>,
    number: u64,
) -> Result<Option<CommitId>, Failure> {
    if number == 0 {
        return Ok(None);
    }
    let first = commits.range(number..)?.next().transpose()?;
    Ok(first.map(|(_, id)| CommitId(id.value())))
}

/// A record as a store returns it, made of its stored forms.
pub(crate) fn row(
    number: RecordNumber,
    record: &[u8],
    material: Option<&[u8]>,
) -> Result<Row, Failure> {
    let damage = || Failure::damage(format_args!("record {} is cut short", number.0));
    let (_, id, attributes) = split_record(record).ok_or_else(damage)?;
    Ok(Row {
        id: id.to_vec(),
        attributes: attributes.to_vec(),
        material: material.map(|bytes| Zeroizing::new(bytes.to_vec())),
    })
}
