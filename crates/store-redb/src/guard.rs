//! This module tells a panic of the database engine from one of the caller's code, and notes whether the file failed.

use crate::failure::{Failure, damaged};
use keyferry_store::{Error, ErrorKind, Result};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

/// One use of a file: its path, and the guard that watches it.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) path: &'a Path,
    pub(crate) guard: &'a Guard,
}

impl View<'_> {
    /// Runs code of ours and of redb, and adds the name of the file to a failure.
    pub(crate) fn run<T>(&self, f: impl FnOnce() -> Result<T, Failure>) -> Result<T> {
        self.guard
            .inside(f)
            .map_err(|failure| self.explain(failure))
    }

    /// The error of a failure. After an error of redb the file is opened again before its next use.
    pub(crate) fn explain(&self, failure: impl Into<Failure>) -> Error {
        let failure = failure.into();
        let is_of_engine = matches!(failure, Failure::Engine(_));
        let error = failure.at(self.path);
        if is_of_engine && error.kind() != ErrorKind::Misuse {
            self.guard.broken.set(true);
        }
        error
    }
}

/// Tells a panic of redb, which a damaged file can cause, from one of the caller's closures.
///
/// redb checks every page when it repairs a file, but trusts a file that was closed properly.
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

    /// Whether code of ours or of redb is running, or was when a panic came.
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

    /// Runs `f`; a panic of our code or of redb becomes an error, any other panic goes on.
    pub(crate) fn catch<T>(&self, path: &Path, f: impl FnOnce() -> Result<T>) -> Result<T> {
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(result) => result,
            Err(_) if self.inside.get() => {
                self.broken.set(true);
                Err(damaged(path, "reading it made the database engine stop"))
            }
            Err(panic) => resume_unwind(panic),
        }
    }
}
