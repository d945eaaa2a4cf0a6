use keyferry_store::{Error, ErrorKind};
use std::cell::Cell;
use std::fmt::Display;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

/// An error that names the file.
pub(crate) fn fail(kind: ErrorKind, path: &Path, what: impl Display) -> Error {
    Error::new(kind, format_args!("{}: {what}", path.display()))
}

fn corrupt(path: &Path, what: impl Display) -> Error {
    fail(
        ErrorKind::Corrupt,
        path,
        format_args!("the file is damaged: {what}"),
    )
}

/// One way to look at a file: where it is, and whose code runs.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) path: &'a Path,
    pub(crate) guard: &'a Guard,
}

impl View<'_> {
    /// What an error of redb means for a store; the file is then opened again before it is next used.
    pub(crate) fn explain(&self, error: impl Into<redb::Error>) -> Error {
        let error = explain(self.path, error.into());
        if error.kind() != ErrorKind::Misuse {
            self.guard.broken.set(true);
        }
        error
    }

    /// What is stored makes no sense.
    pub(crate) fn corrupt(&self, what: impl Display) -> Error {
        corrupt(self.path, what)
    }
}

fn explain(path: &Path, error: redb::Error) -> Error {
    match error {
        redb::Error::Io(error) => explain_io(path, &error),
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => fail(
            ErrorKind::Io,
            path,
            "the store is open already, in this process or another one",
        ),
        redb::Error::Corrupted(what) => corrupt(path, what),
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
        error @ (redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TableIsNotMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. }
        | redb::Error::TableDoesNotExist(_)) => corrupt(path, error),
        error => fail(ErrorKind::Io, path, error),
    }
}

pub(crate) fn explain_io(path: &Path, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            fail(ErrorKind::Full, path, error)
        }
        io::ErrorKind::InvalidData => {
            corrupt(path, format_args!("it is not a redb database ({error})"))
        }
        io::ErrorKind::UnexpectedEof => corrupt(path, format_args!("it ends too early ({error})")),
        _ => fail(ErrorKind::Io, path, error),
    }
}

/// Tells a panic of redb, which a damaged file can cause, from one of the caller's closures.
///
/// redb checks every page when it repairs a file, but trusts one that was closed properly.
#[derive(Default)]
pub(crate) struct Guard {
    inside: Cell<bool>,
    broken: Cell<bool>,
}

impl Guard {
    /// Whether the file failed.
    pub(crate) fn broken(&self) -> bool {
        self.broken.get()
    }

    /// Whether code of ours or of redb runs, or did when a panic came.
    pub(crate) fn is_inside(&self) -> bool {
        self.inside.get()
    }

    /// Runs code of ours and of redb.
    pub(crate) fn inside<T>(&self, f: impl FnOnce() -> T) -> T {
        let before = self.inside.replace(true);
        let value = f();
        self.inside.set(before);
        value
    }

    /// Runs code of the caller.
    pub(crate) fn outside<T>(&self, f: impl FnOnce() -> T) -> T {
        let before = self.inside.replace(false);
        let value = f();
        self.inside.set(before);
        value
    }

    /// Runs `f`; a panic from inside becomes an error, any other one goes on.
    pub(crate) fn catch<T>(
        &self,
        path: &Path,
        f: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(result) => result,
            Err(_) if self.inside.get() => {
                self.broken.set(true);
                Err(corrupt(path, "reading it made the database engine stop"))
            }
            Err(panic) => resume_unwind(panic),
        }
    }
}
