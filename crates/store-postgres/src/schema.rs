//! This module makes the tables, and migrates those of an earlier schema version.

use crate::failure::corrupt;
use crate::pool::{Lease, Pool};
use crate::rows::{INSERT_KEYS, REMOVE_KEYS, column, signed, unsigned};
use keyferry_store::schema::{self, Progress, Rekeyed};
use keyferry_store::{Error, ErrorKind, Incarnation, IndexKey, Result};

/// The statements that make the tables. `keyferry_turn` has one row, whose lock is the turn; `keyferry_counter` has one row with the last
/// record number.
///
/// Every commit with puts has a row in `keyferry_commits`, with its first and its last feed number. The first numbers are unique, and each
/// is the last number of the commit before plus one, so the commits form one line.
const TABLES: [&str; 11] = [
    "CREATE TABLE IF NOT EXISTS keyferry_meta (name TEXT PRIMARY KEY, value BYTEA NOT NULL)",
    "CREATE TABLE IF NOT EXISTS keyferry_counter (id INT8 PRIMARY KEY, last INT8 NOT NULL)",
    "CREATE TABLE IF NOT EXISTS keyferry_turn (id INT8 PRIMARY KEY)",
    "CREATE TABLE IF NOT EXISTS keyferry_records (number INT8 PRIMARY KEY, id BYTEA NOT NULL, attributes BYTEA NOT NULL)",
    "CREATE TABLE IF NOT EXISTS keyferry_material (number INT8 PRIMARY KEY, material BYTEA NOT NULL)",
    "CREATE TABLE IF NOT EXISTS keyferry_index (idx INT2 NOT NULL, key BYTEA NOT NULL, number INT8 NOT NULL, PRIMARY KEY (idx, key, number))",
    "CREATE TABLE IF NOT EXISTS keyferry_feed (number INT8 PRIMARY KEY, record INT8 NOT NULL UNIQUE, entry BYTEA NOT NULL)",
    "CREATE TABLE IF NOT EXISTS keyferry_commits (first INT8 PRIMARY KEY, last INT8 NOT NULL, id BYTEA NOT NULL)",
    "CREATE TABLE IF NOT EXISTS keyferry_state (key BYTEA PRIMARY KEY, value BYTEA NOT NULL)",
    "INSERT INTO keyferry_counter (id, last) VALUES (1, 0) ON CONFLICT DO NOTHING",
    "INSERT INTO keyferry_turn (id) VALUES (1) ON CONFLICT DO NOTHING",
];

/// Makes the tables where they are missing, or migrates them.
pub(crate) fn prepare(pool: &Pool, incarnation: Incarnation) -> Result<()> {
    for _ in 0..20 {
        let done = match version(pool)? {
            Some(version) if !is_earlier(number_of(&version)?)? && !is_migrating(pool)? => {
                return Ok(());
            }
            Some(_) => migrate(pool),
            None => make(pool, incarnation),
        };
        match done {
            // Another server does the same at this moment.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                std::thread::sleep(std::time::Duration::from_millis(50))
            }
            other => other?,
        }
    }
    Err(Error::new(
        ErrorKind::Conflict,
        "PostgreSQL: the tables could not be made, since others were at it all the time",
    ))
}

const SELECT_VERSION: &str = "SELECT value FROM keyferry_meta WHERE name = 'schema'";

fn version(pool: &Pool) -> Result<Option<Vec<u8>>> {
    match pool.lease()?.query(SELECT_VERSION, &[]) {
        Ok(rows) => rows.first().map(|row| column(row, 0)).transpose(),
        Err(failure) if failure.kind() == ErrorKind::Schema => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

/// The schema version, which is stored in decimal digits.
fn number_of(version: &[u8]) -> Result<u32> {
    let number = std::str::from_utf8(version)
        .ok()
        .and_then(|text| text.parse().ok());
    number.ok_or_else(|| corrupt("the schema version is not a number"))
}

/// Whether tables of this version must be migrated.
fn is_earlier(version: u32) -> Result<bool> {
    schema::is_earlier(version).map_err(|error| {
        Error::new(error.kind(), format_args!("PostgreSQL: {error}")).caused_by(error)
    })
}

/// Whether a migration was begun and is not complete.
fn is_migrating(pool: &Pool) -> Result<bool> {
    Ok(!pool.lease()?.query(SELECT_PROGRESS, &[])?.is_empty())
}

fn make(pool: &Pool, incarnation: Incarnation) -> Result<()> {
    let mut lease = pool.lease()?;
    for sql in TABLES {
        lease.batch(sql)?;
    }
    let value = incarnation.0.as_slice();
    lease.execute(
        "INSERT INTO keyferry_meta (name, value) VALUES ('incarnation', $1) ON CONFLICT DO NOTHING",
        &[&value],
    )?;
    // The schema version comes last: it says that all the rest is there.
    let sql =
        "INSERT INTO keyferry_meta (name, value) VALUES ('schema', $1) ON CONFLICT DO NOTHING";
    lease.execute(sql, &[&schema::VERSION.to_string().as_bytes()])?;
    Ok(())
}

/// The number of records that are migrated in one transaction.
const PAGE: i64 = 1000;

const SELECT_PROGRESS: &str = "SELECT value FROM keyferry_meta WHERE name = 'migrating'";

/// Migrates the tables, a page of records in each transaction, however many servers start: each goes on where the last transaction of any of them
/// has ended.
///
/// Stop all servers of earlier builds before: a running one would go on writing the earlier form.
fn migrate(pool: &Pool) -> Result<()> {
    while migrate_page(pool)? {}
    Ok(())
}

/// Migrates the next records; `false` when there are no more.
fn migrate_page(pool: &Pool) -> Result<bool> {
    let mut at = pool.begin("BEGIN ISOLATION LEVEL SERIALIZABLE")?;
    let Some(progress) = progress(&mut at)? else {
        return Ok(false);
    };
    // Two servers never migrate the same page: the row is changed before anything is read.
    let sql = "UPDATE keyferry_meta SET value = $1 WHERE name = 'schema'";
    at.execute(sql, &[&schema::VERSION.to_string().as_bytes()])?;
    let sql = "SELECT number, attributes FROM keyferry_records WHERE number > $1 ORDER BY number LIMIT $2";
    let rows = at.query(sql, &[&signed(progress.after), &PAGE])?;
    let Some(last) = rows.last() else {
        at.execute("DELETE FROM keyferry_meta WHERE name = 'migrating'", &[])?;
        at.commit()?;
        return Ok(false);
    };
    let after = unsigned(column(last, 0)?)?;
    let mut page = Vec::with_capacity(rows.len());
    for row in &rows {
        let number: i64 = column(row, 0)?;
        let changed = schema::rekeyed(column(row, 1)?, progress.from);
        let failed = |e| {
            corrupt(&format!(
                "record {number} cannot be brought up to date: {e}"
            ))
            .caused_by(e)
        };
        page.push((number, changed.map_err(failed)?));
    }
    rekey(&mut at, &page)?;
    let note = Progress { after, ..progress }.to_bytes();
    let sql = "INSERT INTO keyferry_meta (name, value) VALUES ('migrating', $1) ON CONFLICT (name) DO UPDATE SET value = $1";
    at.execute(sql, &[&note.as_slice()])?;
    at.commit()?;
    Ok(true)
}

/// How far the migration has come; `None` when there is nothing to migrate.
fn progress(at: &mut Lease<'_>) -> Result<Option<Progress>> {
    if let Some(row) = at.query(SELECT_PROGRESS, &[])?.first() {
        let refused = |error: Error| {
            Error::new(error.kind(), format_args!("PostgreSQL: {error}")).caused_by(error)
        };
        return Progress::from_bytes(column(row, 0)?)
            .map(Some)
            .map_err(refused);
    }
    let rows = at.query(SELECT_VERSION, &[])?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let version = number_of(column(row, 0)?)?;
    Ok(is_earlier(version)?.then_some(Progress {
        from: version,
        after: 0,
    }))
}

/// Changes the index keys of a page of records.
fn rekey(at: &mut Lease<'_>, page: &[(i64, Rekeyed)]) -> Result<()> {
    let entries = |keys: fn(&Rekeyed) -> &Vec<IndexKey>| {
        let mut columns: (Vec<i16>, Vec<&[u8]>, Vec<i64>) = Default::default();
        for (number, changed) in page {
            for key in keys(changed) {
                columns.0.push(i16::from(key.index.0));
                columns.1.push(&key.key);
                columns.2.push(*number);
            }
        }
        columns
    };
    let (indexes, keys, numbers) = entries(|changed| &changed.remove);
    at.execute(REMOVE_KEYS, &[&indexes, &keys, &numbers])?;
    let (indexes, keys, numbers) = entries(|changed| &changed.insert);
    at.execute(INSERT_KEYS, &[&indexes, &keys, &numbers])?;
    Ok(())
}
