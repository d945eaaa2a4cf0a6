//! This module reads the columns of rows and keeps the SQL that several modules use.

use crate::failure::corrupt;
use keyferry_store::{CommitId, Result};
use postgres::Row;
use postgres::types::FromSql;

/// Selects the last commit; [`last_commit`] reads the rows.
pub(crate) const LAST_COMMIT: &str =
    "SELECT last, id FROM keyferry_commits ORDER BY first DESC LIMIT 1";

/// Removes index entries, which are given by columns.
pub(crate) const REMOVE_KEYS: &str = "DELETE FROM keyferry_index USING unnest($1::INT2[], $2::BYTEA[], $3::INT8[]) AS gone (idx, key, number) \
     WHERE keyferry_index.idx = gone.idx AND keyferry_index.key = gone.key AND keyferry_index.number = gone.number";
/// Adds index entries, which are given by columns.
pub(crate) const INSERT_KEYS: &str = "INSERT INTO keyferry_index (idx, key, number) SELECT * FROM unnest($1::INT2[], $2::BYTEA[], $3::INT8[]) \
     ON CONFLICT DO NOTHING";

/// The feed number and the id of the last commit; 0 and [`CommitId::ZERO`] when there is none.
pub(crate) fn last_commit(rows: &[Row]) -> Result<(u64, CommitId)> {
    match rows.first() {
        Some(row) => Ok((unsigned(column(row, 0)?)?, commit_id(column(row, 1)?)?)),
        None => Ok((0, CommitId::ZERO)),
    }
}

pub(crate) fn commit_id(bytes: &[u8]) -> Result<CommitId> {
    bytes
        .try_into()
        .map(CommitId)
        .map_err(|_| corrupt("a commit id is not 16 bytes long"))
}

/// The value in one column of a row.
pub(crate) fn column<'r, T: FromSql<'r>>(row: &'r Row, at: usize) -> Result<T> {
    row.try_get(at).map_err(|error| {
        corrupt(&format!(
            "a column is not what it should be ({error}): were the tables changed?"
        ))
        .caused_by(error)
    })
}

/// A number as the database stores it; numbers stay far below its limit.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that the database stored.
pub(crate) fn unsigned(number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|_| corrupt("a number is negative"))
}
