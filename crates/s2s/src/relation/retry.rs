//! Objects that a relation could not bring, and copies that the issuer does not have: what is kept of them, and when an object is tried again.

use crate::ask::Ask;
use crate::error::Result;
use crate::relation::followed::Upstream;
use crate::relation::keys;
use crate::relation::keys::{Entry, about, missing_prefix};
use crate::relation::stored;
use keyferry_kmip::{DateTime, Failure, Random, Text, extension as x};
use keyferry_store::record::bytes_of;
use keyferry_store::{ObjectId, Record, Snapshot};
use keyferry_ttlv::{Decode, Encode, Extra};

/// The longest pause between two attempts, in seconds.
const LONGEST: i64 = 3600;

/// What notes that a copy arrived on another way before the relations with its issuer have brought it.
pub(crate) fn ahead(ask: &Ask<'_>, record: &Record) -> Result<Vec<Entry>, Failure> {
    let mut ahead = Vec::new();
    for upstream in Upstream::all(ask.snapshot)? {
        let is_followed = upstream.server == record.stamp.issuer;
        if is_followed && upstream.selection().is_match(record, ask.now.wall)? {
            let key = about(missing_prefix(&upstream.relation), &record.id)?;
            ahead.push((key, Some(bytes_of(&record.id)?)));
        }
    }
    Ok(ahead)
}

/// When an object is tried again: after a pause that doubles with each attempt. The pause differs from object to object, so that not all are
/// asked for at once.
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

/// An object that a relation could not bring and that is tried again.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::RETRY)]
#[non_exhaustive]
pub struct Retry {
    /// The object.
    pub id: ObjectId,
    /// Why it could not be brought.
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

/// The copies held here that the issuer, by its relation with this server, does not have any more, or not in the change that is held, or has
/// not sent yet because a relay was faster. They are kept ([rule 6](crate::design#rule-6)).
///
/// # Errors
/// Those of the store.
pub fn objects_missing_at_issuer(snapshot: &dyn Snapshot, relation: &str) -> Result<Vec<ObjectId>> {
    stored::all_under(snapshot, &missing_prefix(relation), "missing object")
}

impl Retry {
    /// The objects that an [`Upstream`] could not bring so far.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot, relation: &str) -> Result<Vec<Retry>> {
        Retry::all_under(snapshot, &keys::retry_prefix(relation))
    }

    /// The objects to retry under a prefix.
    pub(crate) fn all_under(snapshot: &dyn Snapshot, prefix: &[u8]) -> Result<Vec<Retry>> {
        stored::all_under(snapshot, prefix, "object to retry")
    }
}
