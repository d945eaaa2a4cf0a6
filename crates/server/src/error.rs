//! This module defines the error of a server.

use std::fmt;

/// The reason why a server cannot be made, or why a request failed inside it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The store failed; [`keyferry_store::Error::kind`] tells how.
    Store(keyferry_store::Error),
    /// The source of randomness failed.
    Random(keyferry_kmip::RandomFailed),
    /// An answer cannot be encoded in its version.
    Encode(keyferry_ttlv::Error),
    /// An answer exceeds the size that the client accepts.
    TooLarge,
    /// An operation that counts as reading had effects.
    Misplaced,
    /// A commit that was shared with other requests broke off.
    Lost,
    /// The policy is refused; the error names its entries.
    Policy(keyferry_s2s::Error),
    /// A batch was undone; this is the answer to it.
    Undone(keyferry_ttlv::Frame),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Store(error) => error.fmt(f),
            Error::Random(error) => error.fmt(f),
            Error::Policy(error) => error.fmt(f),
            Error::Encode(error) => write!(f, "an answer can't be written: {error}"),
            Error::TooLarge => f.write_str("the answer is larger than the client takes"),
            Error::Lost => f.write_str("a commit that was shared broke off"),
            Error::Undone(_) => f.write_str("the batch was undone"),
            Error::Misplaced => f.write_str("an operation that only reads had effects"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Store(error) => Some(error),
            Error::Random(error) => Some(error),
            Error::Policy(error) => Some(error),
            Error::Encode(error) => Some(error),
            Error::TooLarge | Error::Misplaced | Error::Lost | Error::Undone(_) => None,
        }
    }
}

impl From<keyferry_store::Error> for Error {
    fn from(error: keyferry_store::Error) -> Self {
        Error::Store(error)
    }
}

impl From<keyferry_kmip::RandomFailed> for Error {
    fn from(error: keyferry_kmip::RandomFailed) -> Self {
        Error::Random(error)
    }
}

impl From<keyferry_s2s::Error> for Error {
    fn from(error: keyferry_s2s::Error) -> Self {
        Error::Policy(error)
    }
}

impl From<keyferry_ttlv::Error> for Error {
    fn from(error: keyferry_ttlv::Error) -> Self {
        Error::Encode(error)
    }
}
