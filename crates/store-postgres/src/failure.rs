//! This module says what an error of the driver or of the database means for a caller of the store.

use keyferry_store::{Error, ErrorKind};
use std::error::Error as _;

/// An error of the driver, or a store's, on its way to a function that returns the store's: `?` converts both ways.
pub(crate) struct Failure(Error);

impl Failure {
    pub(crate) fn kind(&self) -> ErrorKind {
        self.0.kind()
    }
}

impl From<postgres::Error> for Failure {
    fn from(error: postgres::Error) -> Failure {
        let kind = kind(&error);
        // The driver's own text leaves out what the database said.
        let cause = error
            .source()
            .map(|cause| format!(": {cause}"))
            .unwrap_or_default();
        let code = error
            .code()
            .map(|code| format!(" (SQLSTATE {})", code.code()))
            .unwrap_or_default();
        let text = format!("PostgreSQL: {error}{cause}{code}");
        Failure(Error::new(kind, text).caused_by(error))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        failure.0
    }
}

/// The kind of an error by its SQLSTATE, whose first two characters are its class.
fn kind(error: &postgres::Error) -> ErrorKind {
    match error.code().map(postgres::error::SqlState::code) {
        // Serialisation failure, deadlock; a number that another commit took first; a table that another server made first.
        Some("40001" | "40P01" | "23505" | "42710" | "42P07") => ErrorKind::Conflict,
        Some("53100") => ErrorKind::Full,
        // Undefined table or column: another schema.
        Some("42P01" | "42703") => ErrorKind::Schema,
        // A value beyond the limits of the database, such as a state key of many kilobytes.
        Some("54000") => ErrorKind::Misuse,
        // Data or an index that makes no sense to the database. Other internal errors say nothing about what is stored.
        Some("XX001" | "XX002") => ErrorKind::Corrupt,
        _ => ErrorKind::Io,
    }
}

/// The error of stored data that makes no sense.
pub(crate) fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format_args!("PostgreSQL: {what}"))
}
