//! The error of sessions and relations, with the kinds by which callers tell failures apart.

use keyferry_kmip::{Cause, Failure, escaped};
use std::fmt;

/// Why a session or a change of a relation failed. [`Error::kind`] says in which way; [`source`](std::error::Error::source) has the cause.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    context: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of a session's step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// This server's own store failed; [`Error::store_kind`] says in which way.
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
    /// The relation does not exist, or its state does not allow this now.
    Relation,
    /// More came than a limit of this server allows; the error names the limit ([`Limits`](crate::Limits)).
    Limit,
    /// The plan can't be written or read, is not whole, or is for another transfer.
    Plan,
    /// The policy can't be used as it is.
    Policy,
}

impl Error {
    /// An error without a cause of its own. `context` never holds key material; what does not print in it is
    /// [escaped](keyferry_kmip::Escaped), as it may come from a peer.
    pub fn new(kind: ErrorKind, context: impl fmt::Display) -> Self {
        Error {
            kind,
            context: escaped(context.to_string()),
            source: None,
        }
    }

    /// An error that another one caused: it reads like its cause, which [`source`](std::error::Error::source) gives.
    pub fn caused_by(
        kind: ErrorKind,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Error {
            kind,
            context: escaped(source.to_string()),
            source: Some(Box::new(source)),
        }
    }

    /// [`ErrorKind::Encode`] with its cause.
    pub(crate) fn encode(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Error::caused_by(ErrorKind::Encode, source)
    }

    /// [`ErrorKind::Protocol`] with its cause.
    pub(crate) fn protocol(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Error::caused_by(ErrorKind::Protocol, source)
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The kind of the store's failure that caused this one, however far down: full, conflict and corrupt are different things to a caller.
    pub fn store_kind(&self) -> Option<keyferry_store::ErrorKind> {
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<keyferry_store::Error>() {
                return Some(error.kind());
            }
            cause = error.source();
        }
        None
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
    }
}

impl From<keyferry_store::Error> for Error {
    fn from(error: keyferry_store::Error) -> Self {
        Error::caused_by(ErrorKind::Store, error)
    }
}

/// A peer is told that this server failed and in which way, and no more. The failure's source has the rest.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = format_args!("the server failed ({:?})", error.kind());
        Failure::new(Cause::Internal, message).caused_by(error)
    }
}
