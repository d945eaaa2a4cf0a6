//! The version of what a store holds, and what changes from one to the next.
//!
//! It counts changes of records, index keys and feed entries, which are pure code here, and of any backend's tables. A backend stores it,
//! brings an earlier version up to date while it opens the store, all or nothing, and refuses a later one.
//!
//! - 1: every object had an entry by object id, and every Unique Identifier stood in its index as text.
//! - 2: an object has an entry by object id only when it has another identifier here, and a UUID stands in the index in 17 bytes. What a date will
//!   move on from its State has a key for that date.

use crate::{Error, ErrorKind, IndexKey, Record, Result, index};

/// The version that this build writes.
pub const VERSION: u32 = 2;

/// The earliest version that this build brings up to date.
pub const EARLIEST: u32 = 1;

/// The index keys of a record that change with the version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rekeyed {
    /// Those that it loses.
    pub remove: Vec<IndexKey>,
    /// Those that it gains.
    pub insert: Vec<IndexKey>,
}

/// Whether a store of this version has to be brought up to date.
///
/// # Errors
/// [`ErrorKind::Schema`] when this build does not know the version; the text says both.
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

/// What becomes of the index keys of a record, whose stored attributes these are, from an earlier version to [`VERSION`].
///
/// # Errors
/// [`ErrorKind::Corrupt`] when it is not a record.
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
