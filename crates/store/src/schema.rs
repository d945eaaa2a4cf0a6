//! This module knows the schema versions of a store, and how one is migrated to the next.
//!
//! The version changes with the form of records, index keys and feed entries, and with any backend's tables. A backend stores the
//! version, migrates an earlier one when it opens the store, and refuses a later one. It migrates some records at a time ([`BATCH`]), each time in
//! one transaction with a note of how far it has come, and a store whose migration was interrupted goes on there when it is opened again. With the
//! first of these transactions the store has the new version, so that no earlier build writes to it from then on; nobody uses it before the last.
//!
//! - 1: every object has an entry in the index of object ids, and every Unique Identifier is indexed as text.
//! - 2: an object is in the index of object ids only when its local identifier differs from the one in the id; a UUID takes 17 bytes in
//!   its index; an object that a date will move on from its State is in the index of those dates.
//! - 3: a key or secret whose fingerprint is known is in the index of fingerprints.

use crate::contract::IndexKey;
use crate::error::{Error, ErrorKind, Result};
use crate::index;
use crate::record::Record;

/// The version that this build writes.
pub const VERSION: u32 = 3;

/// The earliest version that this build can migrate.
pub const EARLIEST: u32 = 1;

/// The records that a backend migrates in one transaction, about.
pub const BATCH: usize = 10_000;

/// How far a migration has come. A backend stores it beside the version until the migration is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The version that the store had before.
    pub from: u32,
    /// The number of the last record that was migrated.
    pub after: u64,
}

impl Progress {
    /// Its stored form.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        let (from, after) = bytes.split_at_mut(4);
        from.copy_from_slice(&self.from.to_be_bytes());
        after.copy_from_slice(&self.after.to_be_bytes());
        bytes
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when these are not the bytes of one, and [`ErrorKind::Schema`] when this build can't migrate the version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Progress> {
        let parts = bytes.split_first_chunk().and_then(|(from, after)| {
            let after = after.try_into().ok()?;
            Some((u32::from_be_bytes(*from), u64::from_be_bytes(after)))
        });
        let Some((from, after)) = parts else {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "the note of how far a migration has come is damaged",
            ));
        };
        is_earlier(from)?;
        Ok(Progress { from, after })
    }
}

/// The changes of the index keys of one record in a migration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rekeyed {
    /// The keys to remove.
    pub remove: Vec<IndexKey>,
    /// The keys to add.
    pub insert: Vec<IndexKey>,
}

/// Whether a store of this version must be migrated.
///
/// # Errors
/// [`ErrorKind::Schema`] when this build does not know the version; the text says which it is, and which are known.
pub fn is_earlier(version: u32) -> Result<bool> {
    match version {
        VERSION => Ok(false),
        EARLIEST..VERSION => Ok(true),
        _ => Err(Error::new(
            ErrorKind::Schema,
            format_args!(
                "the store has schema version {version}, and this build knows versions {EARLIEST} to {VERSION}"
            ),
        )),
    }
}

/// The changes of the index keys of a record, given its stored attributes, from the earlier version `from` to [`VERSION`].
///
/// # Errors
/// [`ErrorKind::Corrupt`] when these are not the attributes of a record.
pub fn rekeyed(attributes: &[u8], from: u32) -> Result<Rekeyed> {
    let record = Record::decode(attributes)?;
    let mut changed = Rekeyed::default();
    changed.insert.extend(index::fingerprint_of(&record));
    if from >= 2 {
        return Ok(changed);
    }
    let identifier = (
        index::identifier_as_text(&record.identifier),
        index::identifier(&record.identifier),
    );
    if identifier.0 != identifier.1 {
        changed.remove.push(identifier.0);
        changed.insert.push(identifier.1);
    }
    if record.identifier == record.id.identifier {
        changed.remove.push(index::object_id(&record.id)?);
    }
    changed.insert.extend(index::due(&record));
    Ok(changed)
}
