//! The error of this crate: its kind, what happened, and the error beneath.

use keyferry_kmip::escaped;
use std::fmt;
use std::io;

/// The error of a connection. One opaque type; ask [`Error::kind`].
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    context: Box<str>,
    source: Option<Source>,
}

/// The error beneath.
type Source = Box<dyn std::error::Error + Send + Sync>;

/// The result of a call to this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of failure that a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file, certificate, key or name that can't be used. Nothing was sent.
    Config,
    /// The address can't be listened on.
    Listen,
    /// No connection came about.
    Connect,
    /// One side did not accept the other's certificate or way of speaking TLS.
    Tls,
    /// The connection ended before its time.
    Lost,
    /// The peer took too long.
    Timeout,
    /// What the peer sent is no message, is too long, or answers nothing.
    Protocol,
    /// A conversation waits although nothing is under way.
    Stalled,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, context: impl fmt::Display) -> Self {
        Error {
            kind,
            context: escaped(context.to_string()).into(),
            source: None,
        }
    }

    /// An error of which another one says all there is to say.
    pub(crate) fn of(kind: ErrorKind, source: impl Into<Source>) -> Self {
        let source = source.into();
        Error::new(kind, &source).with_source(source)
    }

    /// The same error, with its source.
    pub(crate) fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The error of a stream.
    pub(crate) fn stream(error: io::Error) -> Self {
        Error::of(ErrorKind::of_stream(&error), error)
    }

    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What happened, without the kind.
    pub(crate) fn context(&self) -> &str {
        &self.context
    }
}

impl ErrorKind {
    /// The kind of what a stream said: a TLS alert arrives as an ordinary error of reading.
    pub(crate) fn of_stream(error: &io::Error) -> ErrorKind {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (tls, error.kind()) {
            (Some(_), _) => ErrorKind::Tls,
            (None, io::ErrorKind::TimedOut) => ErrorKind::Timeout,
            _ => ErrorKind::Lost,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ErrorKind::Config => "unusable configuration",
            ErrorKind::Listen => "cannot listen",
            ErrorKind::Connect => "cannot connect",
            ErrorKind::Tls => "TLS refused",
            ErrorKind::Lost => "connection lost",
            ErrorKind::Timeout => "timed out",
            ErrorKind::Protocol => "not the protocol",
            ErrorKind::Stalled => "conversation stalled",
        };
        write!(f, "{kind}: {}", self.context)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
