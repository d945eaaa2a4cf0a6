//! Records that have changed by themselves since they were written, as the slow reading of the whole store finds them
//! ([rule 17](crate::design#rule-17)). The server that keeps a copy true is asked for it again; what this server issues itself, a replica
//! may give back.

use crate::error::Result;
use crate::relation::keys::{self, ROTTEN};
use crate::relation::stored;
use keyferry_kmip::{DateTime, Text, extension as x};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{ErrorKind, ObjectId, RecordNumber, Snapshot, SnapshotExt};
use keyferry_ttlv::{Decode, Encode, Extra};

/// A record that is not what was written, or can't be read.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::ROTTEN)]
#[non_exhaustive]
pub struct RottenRecord {
    /// Its record number in this store.
    #[ttlv(tag = x::POSITION_NUMBER)]
    pub number: i64,
    /// The object, where that can still be told.
    pub id: Option<ObjectId>,
    /// What is wrong with it.
    #[ttlv(tag = x::WHY)]
    pub why: Text,
    /// When it was found.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// How far the slow reading of the whole store has come.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[ttlv(tag = x::SCRUB)]
#[non_exhaustive]
pub struct Scrub {
    /// The number of the record that is read next.
    #[ttlv(tag = x::POSITION_NUMBER)]
    pub next: i64,
    /// When all records had been read for the last time.
    #[ttlv(tag = x::LAST_FULL_PASS)]
    pub last_pass: Option<DateTime>,
    /// How many records were found rotten, ever.
    #[ttlv(tag = x::COUNT_FAILED)]
    pub found: i64,
    /// Behind which number of the feed its entries are read next.
    #[ttlv(tag = x::AFTER)]
    pub(crate) fed: Option<i64>,
    /// How many records' index or feed entries had rotted and were made anew, ever.
    #[ttlv(tag = x::COUNT_REPAIRED)]
    pub mended: Option<i64>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl Scrub {
    /// How far it has come.
    ///
    /// # Errors
    /// Those of the store.
    pub fn of(snapshot: &dyn Snapshot) -> Result<Scrub> {
        let stored = snapshot.state_value(keys::SCRUB)?;
        Ok(stored
            .map(|bytes| read(&bytes, "scrub"))
            .transpose()?
            .unwrap_or_default())
    }

    pub(crate) fn entry(&self) -> keyferry_store::Result<keys::Entry> {
        Ok((keys::SCRUB.to_vec(), Some(bytes_of(self)?)))
    }
}

impl RottenRecord {
    /// The records that were found rotten and are not right again yet, as many as [`Limits::rotten`](crate::Limits::rotten) keeps.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<RottenRecord>> {
        stored::all_under(snapshot, ROTTEN, "rotten record")
    }

    /// The number of the record.
    pub(crate) fn record_number(&self) -> RecordNumber {
        RecordNumber(u64::try_from(self.number).unwrap_or(0))
    }
}

/// What was read, or nothing where the store says that it has rotted.
pub(crate) fn readable<T>(read: keyferry_store::Result<T>) -> keyferry_store::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_rot_is_nothing() {
        let error = |kind| Err::<u8, _>(keyferry_store::Error::new(kind, "on order"));
        assert_eq!(readable(Ok(1)).unwrap(), Some(1));
        assert_eq!(readable(error(ErrorKind::Corrupt)).unwrap(), None);
        assert_eq!(
            readable(error(ErrorKind::Io)).unwrap_err().kind(),
            ErrorKind::Io
        );
    }
}
