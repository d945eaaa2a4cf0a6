use std::fmt;

/// What went wrong in a store. One opaque type; ask [`Error::kind`].
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    context: Box<str>,
}

/// The result of a store call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of failure that a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another transaction got in the way. `write` handles it by running the closure again; a caller sees it only when that was in vain.
    Conflict,
    /// No room on the device or in the quota. Nothing of the transaction was kept.
    Full,
    /// What is stored contradicts itself or can't be read.
    Corrupt,
    /// The store was written by a schema version that this build does not know.
    Schema,
    /// The medium or the connection to it failed.
    Io,
    /// The closure asked for a rollback: an [`aborted`](Error::aborted) error that the caller made.
    Aborted,
    /// A call that the contract forbids.
    Misuse,
    /// The key that a [sealed](crate::Sealed) store is opened with is not its key, or none.
    Key,
}

impl Error {
    /// An error of `kind`; `context` says what was being done and to what, never with key material.
    pub fn new(kind: ErrorKind, context: impl fmt::Display) -> Self {
        Error {
            kind,
            context: context.to_string().into(),
        }
    }

    /// What a closure returns to roll its transaction back.
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

impl std::error::Error for Error {}

/// A client is told that the store failed and in which way, and nothing of the store itself. The failure's source has the rest.
impl From<Error> for keyferry_kmip::Failure {
    fn from(error: Error) -> Self {
        let message = format_args!("the server's store failed ({:?})", error.kind());
        keyferry_kmip::Failure::new(keyferry_kmip::Cause::Internal, message).caused_by(error)
    }
}
