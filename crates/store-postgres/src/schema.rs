//! This module makes the tables, and migrates those of an earlier schema version.

use crate::failure::corrupt;
use crate::pool::{Lease, Pool};
use crate::rows::{INSERT_KEYS, REMOVE_KEYS, column};
use keyferry_store::schema::{self, Rekeyed};
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
            Some(version) if !is_earlier(&version)? => return Ok(()),
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

/// Whether tables of this version, given in decimal digits, must be migrated.
fn is_earlier(version: &[u8]) -> Result<bool> {
    let number = std::str::from_utf8(version)
        .ok()
        .and_then(|text| text.parse().ok());
    schema::is_earlier(number.ok_or_else(|| corrupt("the schema version is not a number"))?)
        .map_err(|error| {
            Error::new(error.kind(), format_args!("PostgreSQL: {error}")).caused_by(error)
        })
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

/// The number of records that are migrated at a time.
const PAGE: i64 = 1000;

/// Migrates the tables in one transaction: as a whole and only once, however many servers start.
///
/// Stop all servers of earlier builds before: a running one would go on writing the earlier form.
fn migrate(pool: &Pool) -> Result<()> {
    let mut at = pool.begin("BEGIN ISOLATION LEVEL SERIALIZABLE")?;
    let sql = "UPDATE keyferry_meta SET value = $1 WHERE name = 'schema' AND value <> $1";
    if at.execute(sql, &[&schema::VERSION.to_string().as_bytes()])? == 0 {
        return Ok(());
    }
    let mut after = 0_i64;
    loop {
        let sql = "SELECT number, attributes FROM keyferry_records WHERE number > $1 ORDER BY number LIMIT $2";
        let rows = at.query(sql, &[&after, &PAGE])?;
        let Some(last) = rows.last() else {
            return Ok(at.commit()?);
        };
        after = column(last, 0)?;
        let mut page = Vec::with_capacity(rows.len());
        for row in &rows {
            let number: i64 = column(row, 0)?;
            let changed = schema::rekeyed(column(row, 1)?);
            let failed = |e| {
                corrupt(&format!(
                    "record {number} cannot be brought up to date: {e}"
                ))
                .caused_by(e)
            };
            page.push((number, changed.map_err(failed)?));
        }
        rekey(&mut at, &page)?;
    }
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
