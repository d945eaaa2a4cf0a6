//! This module says what errors of redb, of the file system and of the stored bytes mean for a caller of the store.

use keyferry_store::{Error, ErrorKind, Result};
use std::fmt::Display;
use std::io;
use std::path::Path;

/// What stopped a call inside this crate. It becomes an [`Error`] when the name of the file is added.
pub(crate) enum Failure {
    /// An error of the database engine or of the file system.
    Engine(redb::Error),
    /// The stored bytes make no sense; the text says which.
    Damage(Box<str>),
    /// An error that is complete already, such as one of the caller's closure.
    Store(Error),
}

impl Failure {
    pub(crate) fn damage(what: impl Display) -> Failure {
        Failure::Damage(what.to_string().into())
    }

    /// The error of this failure for the file at `path`.
    pub(crate) fn at(self, path: &Path) -> Error {
        match self {
            Failure::Engine(error) => engine_error(path, error),
            Failure::Damage(what) => damaged(path, what),
            Failure::Store(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Store(error)
    }
}

macro_rules! from_engine {
    ($($error:ty)*) => {
        $(
            impl From<$error> for Failure {
                fn from(error: $error) -> Failure {
                    Failure::Engine(error.into())
                }
            }
        )*
    };
}
from_engine! {
    io::Error redb::Error redb::DatabaseError redb::TransactionError redb::TableError
    redb::StorageError redb::CommitError redb::CursorError
}

/// Names the file in a failure.
pub(crate) trait At<T> {
    fn at(self, path: &Path) -> Result<T>;
}

impl<T, E: Into<Failure>> At<T> for std::result::Result<T, E> {
    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|error| error.into().at(path))
    }
}

/// An error that names the file.
pub(crate) fn fail(kind: ErrorKind, path: &Path, what: impl Display) -> Error {
    Error::new(kind, format_args!("{}: {what}", path.display()))
}

/// The error of a damaged file.
pub(crate) fn damaged(path: &Path, what: impl Display) -> Error {
    fail(
        ErrorKind::Corrupt,
        path,
        format_args!("the file is damaged: {what}"),
    )
}

fn engine_error(path: &Path, error: redb::Error) -> Error {
    let explained = match &error {
        redb::Error::Io(error) => io_error(path, error),
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => fail(
            ErrorKind::Io,
            path,
            "the store is open already, in this process or another one",
        ),
        redb::Error::Corrupted(what) => damaged(path, what),
        redb::Error::UpgradeRequired(version) => fail(
            ErrorKind::Schema,
            path,
            format_args!("file format {version} of redb is too old to be read"),
        ),
        redb::Error::ValueTooLarge(length) => fail(
            ErrorKind::Misuse,
            path,
            format_args!("{length} bytes are too many for one value"),
        ),
        redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::LockPoisoned(_) => {
            fail(
                ErrorKind::Io,
                path,
                "an earlier failure closed the file; the next call opens it again",
            )
        }
        redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TableIsNotMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::TableDoesNotExist(_) => damaged(path, &error),
        _ => fail(ErrorKind::Io, path, &error),
    };
    match error {
        redb::Error::Io(error) => explained.caused_by(error),
        error => explained.caused_by(error),
    }
}

fn io_error(path: &Path, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            fail(ErrorKind::Full, path, error)
        }
        io::ErrorKind::InvalidData => {
            damaged(path, format_args!("it is not a redb database ({error})"))
        }
        io::ErrorKind::UnexpectedEof => damaged(path, format_args!("it ends too early ({error})")),
        _ => fail(ErrorKind::Io, path, error),
    }
}
