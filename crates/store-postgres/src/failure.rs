use keyferry_store::{Error, ErrorKind};
use std::error::Error as _;

/// What an error of the driver or the database means for a store.
pub(crate) fn explain(error: &postgres::Error) -> Error {
    let kind = kind(error);
    // The driver's own text leaves out what the database said.
    let cause = error
        .source()
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    let code = error
        .code()
        .map(|code| format!(" (SQLSTATE {})", code.code()))
        .unwrap_or_default();
    Error::new(kind, format_args!("PostgreSQL: {error}{cause}{code}"))
}

/// The kind by SQLSTATE: its class is the first two characters.
fn kind(error: &postgres::Error) -> ErrorKind {
    match error.code().map(postgres::error::SqlState::code) {
        // Serialisation failure and deadlock; a number that another commit took first, a table that another server made first.
        Some("40001" | "40P01" | "23505" | "42710" | "42P07") => ErrorKind::Conflict,
        Some("53100") => ErrorKind::Full,
        // Undefined table or column: another schema.
        Some("42P01" | "42703") => ErrorKind::Schema,
        // A value beyond the limits of the database, such as a state key of many kilobytes.
        Some("54000") => ErrorKind::Misuse,
        // Data or an index that makes no sense to the database; other internal errors say nothing of what is stored.
        Some("XX001" | "XX002") => ErrorKind::Corrupt,
        _ => ErrorKind::Io,
    }
}

/// What is stored makes no sense.
pub(crate) fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format_args!("PostgreSQL: {what}"))
}

/// The tables are of a version that this build does not know.
pub(crate) fn explain_schema(error: Error) -> Error {
    Error::new(error.kind(), format_args!("PostgreSQL: {error}"))
}

/// A number as the database has it; numbers stay far below its limit.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number of the database.
pub(crate) fn unsigned(number: i64) -> Result<u64, Error> {
    u64::try_from(number).map_err(|_| corrupt("a number is negative"))
}
