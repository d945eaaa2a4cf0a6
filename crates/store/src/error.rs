//! This module defines the error of all stores: its kind tells a caller what to do, its source keeps the backend's own error.

use keyferry_kmip::escaped;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// What went wrong in a store.
///
/// [`Error::kind`] tells the kinds of failure apart; [`source`](StdError::source) returns the error of the backend (of the
/// database driver, of the file system), where there is one. The text of the error includes that of its source.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    context: Box<str>,
    record: Option<u64>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// The result of a store call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of failure that a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another transaction got in the way. `write` runs its closure again by itself; a caller sees this kind only when that
    /// did not help.
    Conflict,
    /// There is no room on the device or in the quota. Nothing of the transaction was kept.
    Full,
    /// What is stored contradicts itself or cannot be read.
    Corrupt,
    /// The store was written by a schema version that this build does not know.
    Schema,
    /// The medium, or the connection to it, failed: the store is unavailable, for the moment at least.
    Io,
    /// The closure asked for a rollback: an [`aborted`](Error::aborted) error that the caller made.
    Aborted,
    /// The contract forbids the call.
    Misuse,
    /// The key that a [sealed](crate::Sealed) store is opened with is the wrong one, or there is none.
    Key,
}

impl Error {
    /// An error of `kind`; `context` says what was being done and to what, never with key material.
    pub fn new(kind: ErrorKind, context: impl fmt::Display) -> Self {
        Error {
            kind,
            context: escaped(context.to_string()).into(),
            record: None,
            source: None,
        }
    }

    /// This error, which is about the record of this number.
    #[must_use]
    pub fn about_record(self, number: u64) -> Self {
        Error {
            record: Some(number),
            ..self
        }
    }

    /// The number of the record that it is about, where one record alone is damaged ([`Corrupt`](ErrorKind::Corrupt)).
    pub fn record(&self) -> Option<u64> {
        self.record
    }

    /// This error, caused by `source`, which [`source`](StdError::source) then returns.
    #[must_use]
    pub fn caused_by(self, source: impl StdError + Send + Sync + 'static) -> Self {
        Error {
            source: Some(Arc::new(source)),
            ..self
        }
    }

    /// This error with another text around it, such as the name of a file: kind and source stay.
    #[must_use]
    pub fn with_context(self, context: impl fmt::Display) -> Self {
        Error {
            context: escaped(context.to_string()).into(),
            ..self
        }
    }

    /// The error that a closure returns to roll its transaction back.
    pub fn aborted() -> Self {
        Error::new(ErrorKind::Aborted, "rolled back by the caller")
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ErrorKind::Conflict => "conflict",
            ErrorKind::Full => "store is full",
            ErrorKind::Corrupt => "store is corrupt",
            ErrorKind::Schema => "unknown store schema",
            ErrorKind::Io => "store input/output failed",
            ErrorKind::Aborted => "aborted",
            ErrorKind::Misuse => "store misused",
            ErrorKind::Key => "wrong key for the store",
        };
        write!(f, "{kind}: {}", self.context)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

/// The failure that a client gets when the store fails: it names the kind, and nothing of the store itself. The source has the rest.
impl From<Error> for keyferry_kmip::Failure {
    fn from(error: Error) -> Self {
        let message = format_args!("the server's store failed ({:?})", error.kind());
        keyferry_kmip::Failure::new(keyferry_kmip::Cause::Internal, message).caused_by(error)
    }
}
