use crate::failure::corrupt;
use crate::pool::Pool;
use keyferry_store::{Error, ErrorKind, Incarnation, Result};

/// Raised when the tables change their meaning.
const VERSION: &[u8] = b"1";

/// The tables. `keyferry_turn` has one row, whose lock is the turn; `keyferry_counter` one row, the last record number.
///
/// Every commit with puts has a row of `keyferry_commits`, from its first feed number to its last; the first numbers are unique and
/// each is the last one of the commit before plus one, so that the commits are one line.
const TABLES: [&str; 12] = [
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
    // Alone at the end: the schema's version, which says that the rest is there.
    "INSERT INTO keyferry_meta (name, value) VALUES ('schema', '1') ON CONFLICT DO NOTHING",
];

/// Makes the tables unless they are there, and checks their version.
pub(crate) fn prepare(pool: &Pool, incarnation: Incarnation) -> Result<()> {
    for _ in 0..20 {
        match version(pool)? {
            Some(version) if version == VERSION => return Ok(()),
            Some(version) => {
                let version = String::from_utf8_lossy(&version);
                let what =
                    format_args!("PostgreSQL: the tables have schema version {version}, and this build knows version 1 alone");
                return Err(Error::new(ErrorKind::Schema, what));
            }
            None => {}
        }
        match make(pool, incarnation) {
            // Another server makes them at the same time.
            Err(error) if error.kind() == ErrorKind::Conflict => std::thread::sleep(std::time::Duration::from_millis(50)),
            other => other?,
        }
    }
    Err(Error::new(ErrorKind::Conflict, "PostgreSQL: the tables could not be made, since others were at it all the time"))
}

fn version(pool: &Pool) -> Result<Option<Vec<u8>>> {
    match pool.lease()?.query("SELECT value FROM keyferry_meta WHERE name = 'schema'", &[]) {
        Ok(rows) => rows.first().map(|row| row.try_get(0).map_err(|_| corrupt("the schema version cannot be read"))).transpose(),
        Err(error) if error.kind() == ErrorKind::Schema => Ok(None),
        Err(error) => Err(error),
    }
}

fn make(pool: &Pool, incarnation: Incarnation) -> Result<()> {
    let mut lease = pool.lease()?;
    let (last, tables) = TABLES.split_last().ok_or_else(|| corrupt("no tables"))?;
    for sql in tables {
        lease.batch(sql)?;
    }
    let value = incarnation.0.as_slice();
    lease.execute("INSERT INTO keyferry_meta (name, value) VALUES ('incarnation', $1) ON CONFLICT DO NOTHING", &[&value])?;
    lease.batch(last)
}
