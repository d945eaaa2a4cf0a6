//! What is kept of objects that could not be taken, were withdrawn, or are missing at the issuer.

use crate::ask::Ask;
use crate::error::Result;
use crate::relation::followed::Upstream;
use crate::relation::keys::{about, missing_prefix, retry_prefix};
use keyferry_kmip::{DateTime, Failure, Random, Text, extension as x};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{ObjectId, Record, Snapshot, Span};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::ops::ControlFlow;

/// Seconds between attempts at the most.
const LONGEST: i64 = 3600;

/// What notes that a copy which came by another way is ahead of what the relations with its issuer have brought.
pub(crate) fn ahead(
    ask: &Ask<'_>,
    record: &Record,
) -> Result<Vec<(Vec<u8>, Option<Vec<u8>>)>, Failure> {
    let mut ahead = Vec::new();
    for master in Upstream::all(ask.snapshot)? {
        let follows = master.server == record.stamp.issuer;
        if follows && master.selection().is_match(record, ask.now.wall)? {
            let key = about(missing_prefix(&master.relation), &record.id)?;
            ahead.push((key, Some(bytes_of(&record.id)?)));
        }
    }
    Ok(ahead)
}

/// When to try again: after a time that doubles, and differs from object to object, so that not all are asked for at once.
pub(crate) fn later(now: DateTime, tried: Option<&Retry>, random: &mut dyn Random) -> DateTime {
    let attempts = tried
        .map_or(0, |tried| u32::try_from(tried.attempts).unwrap_or(0))
        .min(12);
    let pause = 1_i64.checked_shl(attempts).unwrap_or(LONGEST).min(LONGEST);
    let mut byte = [0];
    let jitter = if random.fill(&mut byte).is_ok() {
        i64::from(byte[0]) * pause / 1024
    } else {
        0
    };
    DateTime(now.0.saturating_add(pause).saturating_add(jitter))
}

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

/// The copies that are held here and that the server which a relation is with does not have any more, or not the change of them that is
/// held, or has not told of yet what a relay was faster to tell. They are kept (DESIGN: rule 6).
///
/// # Errors
/// Those of the store.
pub fn objects_missing_at_issuer(snapshot: &dyn Snapshot, relation: &str) -> Result<Vec<ObjectId>> {
    let mut all = Vec::new();
    snapshot.state(&Span::prefix(&missing_prefix(relation)), &mut |_, value| {
        all.push(read(value, "missing object")?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(all)
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
