//! The error of making and taking bundles.

use keyferry_kmip::escaped;
use std::fmt;

/// Why a bundle could not be made or taken. One opaque type; ask [`Error::kind`].
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    context: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of working with a bundle.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of failure. Whatever the kind, nothing of the part that it was found in has been handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller's arguments make no sense together.
    Misuse,
    /// A text or bytes that should be a key are none.
    Key,
    /// The store failed.
    Store,
    /// The source of randomness failed.
    Random,
    /// Something has no form in the version that bundles are written in.
    Encode,
    /// The file could not be read or written.
    Io,
    /// The input is no age file, or one of another version.
    NotABundle,
    /// The file is encrypted, and not to this key or passphrase.
    NotForThisKey,
    /// The file was altered: it does not authenticate.
    Damaged,
    /// The file ends too early, or its very end was altered: the two can't be told apart.
    Truncated,
    /// The file is whole, and no segment in it is marked as the last.
    Unfinished,
    /// Something stands behind the last segment.
    Trailing,
    /// What was decrypted has not the form of a bundle.
    Malformed,
    /// A part is longer than the limit.
    TooLarge,
    /// The bundle's format is one that this build does not know.
    Format,
    /// Nobody that is trusted has the key it was signed with.
    UnknownSigner,
    /// The signer is trusted, and not as the server that the bundle says it is from.
    WrongSender,
    /// A signature does not fit.
    Signature,
    /// The bundle is meant for another server.
    Misdirected,
    /// The bundle's time is over.
    Expired,
    /// A segment came again.
    Repeated,
    /// A segment came before its turn, or one before it is missing.
    OutOfOrder,
    /// A segment has the right number and does not belong behind those before it.
    Chain,
    /// A segment is signed and holds what a bundle may not hold.
    Content,
}

impl Error {
    /// An error; `context` never holds key material.
    pub fn new(kind: ErrorKind, context: impl fmt::Display) -> Self {
        Error {
            kind,
            context: escaped(context.to_string()),
            source: None,
        }
    }

    /// An error that another one caused: it reads like its cause, which [`source`](std::error::Error::source) gives.
    pub(crate) fn caused_by(
        kind: ErrorKind,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Error {
            kind,
            context: escaped(source.to_string()),
            source: Some(Box::new(source)),
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

impl From<keyferry_s2s::Error> for Error {
    fn from(error: keyferry_s2s::Error) -> Self {
        let kind = match error.kind() {
            keyferry_s2s::ErrorKind::Store => ErrorKind::Store,
            keyferry_s2s::ErrorKind::Random => ErrorKind::Random,
            keyferry_s2s::ErrorKind::Selection => ErrorKind::Misuse,
            _ => ErrorKind::Encode,
        };
        Error::caused_by(kind, error)
    }
}
