//! This module knows the schema versions of a store, and how one is migrated to the next.
//!
//! The version changes with the form of records, index keys and feed entries, and with any backend's tables. A backend stores the
//! version, migrates an earlier one when it opens the store, all or nothing, and refuses a later one.
//!
//! - 1: every object has an entry in the index of object ids, and every Unique Identifier is indexed as text.
//! - 2: an object is in the index of object ids only when its local identifier differs from the one in the id; a UUID takes 17 bytes in
//!   its index; an object that a date will move on from its State is in the index of those dates.

use crate::contract::IndexKey;
use crate::error::{Error, ErrorKind, Result};
use crate::index;
use crate::record::Record;

/// The version that this build writes.
pub const VERSION: u32 = 2;

/// The earliest version that this build can migrate.
pub const EARLIEST: u32 = 1;

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

/// The changes of the index keys of a record, given its stored attributes, from an earlier version to [`VERSION`].
///
/// # Errors
/// [`ErrorKind::Corrupt`] when these are not the attributes of a record.
pub fn rekeyed(attributes: &[u8]) -> Result<Rekeyed> {
    let record = Record::decode(attributes)?;
    let identifier = (
        index::identifier_as_text(&record.identifier),
        index::identifier(&record.identifier),
    );
    let mut changed = Rekeyed::default();
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
