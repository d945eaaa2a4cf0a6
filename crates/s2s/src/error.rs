use std::fmt;

/// Why a session stopped. One opaque type; ask [`Error::kind`].
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    context: String,
}

/// The result of a session's step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Our own store failed.
    Store,
    /// What should be sent has no form in the version spoken.
    Encode,
    /// The peer's answer can't be understood, or does not fit the question.
    Protocol,
    /// The peer can't do what the strategy needs.
    Peer,
    /// The source of randomness failed.
    Random,
    /// What was selected can't be looked for.
    Selection,
    /// There is no such relation, or it does not allow this now.
    Relation,
    /// The plan can't be written, or is not whole, or for something else.
    Plan,
}

impl Error {
    /// An error; `context` never holds key material.
    pub fn new(kind: ErrorKind, context: impl fmt::Display) -> Self {
        Error {
            kind,
            context: context.to_string(),
        }
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl std::error::Error for Error {}

impl From<keyferry_store::Error> for Error {
    fn from(error: keyferry_store::Error) -> Self {
        Error::new(ErrorKind::Store, error)
    }
}
