//! This module migrates a file of an earlier schema version.

use crate::failure::Failure;
use crate::keys;
use crate::tables::{INDEX, META, RECORDS, SCHEMA, split_record};
use keyferry_store::{Result, schema};
use redb::{Database, ReadableTable};

/// Migrates the file to the current schema version, in one transaction: a process that is killed meanwhile leaves the file as it was.
pub(crate) fn migrate(database: &Database) -> Result<(), Failure> {
    let mut at = database.begin_write()?;
    at.set_quick_repair(true);
    {
        let records = at.open_table(RECORDS)?;
        let mut index = at.open_table(INDEX)?;
        for next in records.iter()? {
            let (number, stored) = next?;
            let number = number.value();
            let damage = |what: &str| Failure::damage(format_args!("record {number} {what}"));
            let (_, _, attributes) =
                split_record(stored.value()).ok_or_else(|| damage("is cut short"))?;
            let changed = schema::rekeyed(attributes)
                .map_err(|e| damage(&format!("cannot be brought up to date: {e}")))?;
            for key in &changed.remove {
                index.remove(keys::entry(key.index.0, &key.key, number).as_slice())?;
            }
            for key in &changed.insert {
                index.insert(keys::entry(key.index.0, &key.key, number).as_slice(), ())?;
            }
        }
        let mut meta = at.open_table(META)?;
        meta.insert(SCHEMA, schema::VERSION.to_be_bytes().as_slice())?;
    }
    Ok(at.commit()?)
}
