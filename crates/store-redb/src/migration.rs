//! This module migrates a file of an earlier schema version.

use crate::failure::Failure;
use crate::keys;
use crate::tables::{INDEX, META, MIGRATING, RECORDS, SCHEMA, split_record, version};
use keyferry_store::schema::{self, Progress};
use keyferry_store::{Error, Result};
use redb::{Database, ReadableDatabase, ReadableTable};

/// Migrates the file to the current schema version, a batch of records in each transaction. A process that is killed meanwhile leaves the file
/// with a note of how far it has come, and the next one goes on there. A file of the current version stays as it is.
///
/// `refused` makes the failure of a version that this build does not know.
pub(crate) fn migrate(
    database: &Database,
    refused: &dyn Fn(Error) -> Failure,
) -> Result<(), Failure> {
    let meta = database.begin_read()?.open_table(META)?;
    let version = version(&meta)?;
    let noted = meta.get(MIGRATING)?;
    let mut progress = match &noted {
        Some(note) => Progress::from_bytes(note.value()).map_err(refused)?,
        None if schema::is_earlier(version).map_err(refused)? => Progress {
            from: version,
            after: 0,
        },
        None => return Ok(()),
    };
    drop(noted);
    drop(meta);
    while let Some(reached) = migrate_batch(database, progress)? {
        progress.after = reached;
    }
    Ok(())
}

/// Migrates the next records, and says which was the last; `None` when there are no more.
fn migrate_batch(database: &Database, progress: Progress) -> Result<Option<u64>, Failure> {
    let mut at = database.begin_write()?;
    at.set_quick_repair(true);
    let mut reached = None;
    {
        let records = at.open_table(RECORDS)?;
        let mut index = at.open_table(INDEX)?;
        for next in records
            .range(progress.after.saturating_add(1)..)?
            .take(schema::BATCH)
        {
            let (number, stored) = next?;
            let number = number.value();
            let damage = |what: &str| Failure::damage(format_args!("record {number} {what}"));
            let (_, _, attributes) =
                split_record(stored.value()).ok_or_else(|| damage("is cut short"))?;
            let changed = schema::rekeyed(attributes, progress.from)
                .map_err(|e| damage(&format!("cannot be brought up to date: {e}")))?;
            for key in &changed.remove {
                index.remove(keys::entry(key.index.0, &key.key, number).as_slice())?;
            }
            for key in &changed.insert {
                index.insert(keys::entry(key.index.0, &key.key, number).as_slice(), ())?;
            }
            reached = Some(number);
        }
        let mut meta = at.open_table(META)?;
        meta.insert(SCHEMA, schema::VERSION.to_be_bytes().as_slice())?;
        match reached {
            Some(after) => {
                let note = Progress { after, ..progress }.to_bytes();
                meta.insert(MIGRATING, note.as_slice())?;
            }
            None => {
                meta.remove(MIGRATING)?;
            }
        }
    }
    at.commit()?;
    Ok(reached)
}
