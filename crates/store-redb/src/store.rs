//! This module opens, reads and writes a store in a file, and opens the file again after a failure.

use crate::failure::{At, Failure, fail};
use crate::guard::{Guard, View};
use crate::migration;
use crate::reading::Reading;
use crate::tables::{
    self, COMMITS, FEED, INCARNATION, INDEX, MATERIAL, META, RECORDS, SCHEMA, STATE, WRITES,
};
use crate::writing::Writing;
use keyferry_store::{Error, ErrorKind, Incarnation, Result, Snapshot, Store, Transaction, schema};
use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, TableError};
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::{fs, io};

/// The options for opening a store.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The incarnation of a new store; a file that exists keeps its own.
    pub incarnation: Incarnation,
    /// The size of the page cache, in bytes.
    pub cache_bytes: usize,
    /// Whether every page is read and checked when the store is opened, for a file that may have been altered. This takes about a second
    /// for each GB. Without it, damage becomes an error when it is read, except that damage in the engine's own bookkeeping can end the
    /// process.
    pub check: bool,
}

impl Options {
    /// The default page cache: 32 MiB.
    pub const CACHE_BYTES: usize = 32 << 20;

    /// The defaults.
    pub fn new(incarnation: Incarnation) -> Options {
        Options {
            incarnation,
            cache_bytes: Options::CACHE_BYTES,
            check: false,
        }
    }
}

/// A store in one file.
///
/// Reads run beside each other and beside the one write. A commit is on the device when `write` returns. After a
/// failure of the device the file is closed, and the next call opens it again.
pub struct RedbStore {
    path: PathBuf,
    options: Options,
    /// `None` after a failure from which the file could not be opened again.
    database: RwLock<Option<Database>>,
    /// Whether the file must be opened again before its next use.
    broken: AtomicBool,
    /// Whether redb panicked in a transaction, which still holds the file: no more writes until the process ends.
    stuck: AtomicBool,
    /// Held for a whole write, so that after a failed commit nobody writes before its outcome is known.
    writer: Mutex<()>,
}

impl RedbStore {
    /// Opens the store in the file `path`, or makes it. A file of an earlier [schema version](keyferry_store::schema) is migrated.
    ///
    /// A new file gets its name when it is complete; until then it is called `path` with `.new` appended. An empty file counts as a
    /// new one. On Unix only its owner may read and write a new file; one that exists keeps its permissions.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) when the file is no store or is damaged, [`Schema`](ErrorKind::Schema) when a later version
    /// made it, [`Io`](ErrorKind::Io) when it is in use or the medium fails, [`Full`](ErrorKind::Full) when there is no room to make it.
    pub fn open(path: impl Into<PathBuf>, options: Options) -> Result<RedbStore> {
        let path = path.into();
        let database = open_or_make(&path, options)?;
        Ok(RedbStore {
            path,
            options,
            database: RwLock::new(Some(database)),
            broken: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            writer: Mutex::new(()),
        })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `f` on the open database, after opening it again if an earlier failure closed it.
    fn with<T>(&self, f: impl FnOnce(View<'_>, &Database) -> Result<T>) -> Result<T> {
        if self.broken.load(Ordering::Acquire) && !self.stuck.load(Ordering::Acquire) {
            self.open_again()?;
        }
        let slot = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = &*slot else {
            return Err(fail(
                ErrorKind::Io,
                &self.path,
                "the file could not be opened again after a failure",
            ));
        };
        let guard = Guard::default();
        let result = guard.catch(&self.path, || {
            f(
                View {
                    path: &self.path,
                    guard: &guard,
                },
                database,
            )
        });
        if guard.broken() {
            self.broken.store(true, Ordering::Release);
        }
        result
    }

    fn open_again(&self) -> Result<()> {
        let mut slot = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if self.broken.load(Ordering::Acquire) {
            // An error here would only repeat the failure that is known already.
            let _ = close(&self.path, slot.take());
            *slot = Some(open_existing(&self.path, self.options)?);
            self.broken.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// Runs the closure once and commits.
    fn attempt(&self, f: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<Outcome> {
        self.with(|view, database| {
            let guard = view.guard;
            let mut at = view.run(|| Ok(database.begin_write()?))?;
            // Then no opening after a crash has to walk through the whole file.
            at.set_quick_repair(true);
            let mut writing = Writing::new(view, database, &at);
            // redb rolls back only when no panic is under way, so a panic of the closure is held back until then.
            let ran = catch_unwind(AssertUnwindSafe(|| {
                f(&mut writing)?;
                guard.inside(|| writing.finish())
            }));
            if ran.is_err() && guard.is_inside() {
                // redb itself panicked over a damaged page: what it left behind cannot even be dropped.
                std::mem::forget(writing);
                std::mem::forget(at);
                self.stuck.store(true, Ordering::Release);
                return Err(view.explain(Failure::damage(
                    "writing to it made the database engine stop; nothing was written, and nothing can be",
                )));
            }
            guard.inside(|| drop(writing));
            match ran {
                Ok(Ok(Some(writes))) => Ok(match guard.inside(|| at.commit()) {
                    Ok(()) => Outcome::Done,
                    Err(error) => Outcome::Unknown {
                        writes,
                        error: view.explain(error),
                    },
                }),
                Ok(Ok(None)) => view.run(|| Ok(at.abort()?)).map(|()| Outcome::Done),
                // If the rollback fails as well, then for the same reason, and the file is opened again.
                Ok(Err(error)) => {
                    let _ = view.run(|| Ok(at.abort()?));
                    Err(error)
                }
                Err(panic) => {
                    let _ = view.run(|| Ok(at.abort()?));
                    Ok(Outcome::Panicked(panic))
                }
            }
        })
    }

    /// Opens the file again after a commit that failed, and returns the error that says whether it took effect.
    fn failed_commit(&self, writes: u64, error: Error) -> Error {
        let found = self.with(|view, database| {
            view.run(|| tables::writes(&database.begin_read()?.open_table(META)?))
        });
        let what = match found {
            Ok(found) if found < writes => return error,
            Ok(_) => format!("the commit failed ({error}), yet the transaction is in the store"),
            Err(again) => format!(
                "the commit failed ({error}), and its outcome is unknown, since the file cannot be opened: {again}"
            ),
        };
        fail(ErrorKind::Io, &self.path, what).caused_by(error)
    }
}

/// The end of a write that no error rolled back.
enum Outcome {
    Done,
    /// The commit failed; `writes` is the count of writes if it took effect.
    Unknown {
        writes: u64,
        error: Error,
    },
    /// The closure panicked, and all is rolled back.
    Panicked(Box<dyn std::any::Any + Send>),
}

impl Store for RedbStore {
    fn read(&self, f: &mut dyn FnMut(&dyn Snapshot) -> Result<()>) -> Result<()> {
        self.with(|view, database| {
            let at = view.run(|| Ok(database.begin_read()?))?;
            f(&Reading::new(view, &at))
        })
    }

    fn write(&self, f: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        let _alone = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stuck.load(Ordering::Acquire) {
            return Err(fail(
                ErrorKind::Corrupt,
                &self.path,
                "the file is damaged, and an earlier write met that: only reads are possible",
            ));
        }
        match self.attempt(f)? {
            Outcome::Done => Ok(()),
            Outcome::Unknown { writes, error } => Err(self.failed_commit(writes, error)),
            Outcome::Panicked(panic) => resume_unwind(panic),
        }
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        // Everything committed is on the device; closing only saves the next opening some work.
        let _ = close(
            &self.path,
            self.database
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }
}

fn close(path: &Path, database: Option<Database>) -> Result<()> {
    guarded(path, || Ok(database.map_or(Ok(()), Database::close)?))
}

/// Runs `f` so that a panic over the contents of the file becomes an error.
fn guarded<T>(path: &Path, f: impl FnOnce() -> Result<T, Failure>) -> Result<T> {
    let guard = Guard::default();
    let view = View {
        path,
        guard: &guard,
    };
    guard.catch(path, || view.run(f))
}

fn open_or_make(path: &Path, options: Options) -> Result<Database> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(fail(ErrorKind::Io, path, "it is a folder, not a file")),
        Ok(found) if found.len() > 0 => open_existing(path, options),
        Ok(_) => make(path, options),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut name = OsString::from(path);
            name.push(".new");
            make_under_other_name(path, &PathBuf::from(name), options)?;
            open_existing(path, options)
        }
        Err(error) => Err(error).at(path),
    }
}

/// Makes a store in the file `new` and gives it the name `path`, so that no incomplete file ever has that name.
fn make_under_other_name(path: &Path, new: &Path, options: Options) -> Result<()> {
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at(new)?,
        _ => {}
    }
    drop(make(new, options)?);
    // Unlike a renamed file, a link does not replace a store that another process made meanwhile. Not every file system has links.
    match fs::hard_link(new, path) {
        Ok(()) => fs::remove_file(new).at(new)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(new).at(new)?
        }
        Err(_) => fs::rename(new, path).at(path)?,
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    // The name is durable once the folder is; where a folder cannot be opened, there is no way to see to that.
    match fs::File::open(folder) {
        Ok(folder) => folder.sync_all().at(path),
        Err(_) => Ok(()),
    }
}

fn builder(options: Options) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_bytes);
    builder.set_check_integrity_on_open(options.check);
    builder
}

fn open_existing(path: &Path, options: Options) -> Result<Database> {
    guarded(path, || {
        let database = builder(options).open(path)?;
        let at = database.begin_read()?;
        match at.open_table(META) {
            Ok(meta) => tables::version(&meta)?,
            Err(TableError::TableDoesNotExist(_)) => {
                return Err(Failure::damage(
                    "it is a redb database, but not a store of keyferry",
                ));
            }
            Err(error) => return Err(error.into()),
        };
        at.close()?;
        migration::migrate(&database, &|error| {
            fail(error.kind(), path, &error).caused_by(error).into()
        })?;
        Ok(database)
    })
}

/// Makes the file and the tables of a new store.
fn make(path: &Path, options: Options) -> Result<Database> {
    guarded(path, || {
        let mut file = fs::OpenOptions::new();
        file.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
        let file = FileBackend::new(file.open(path)?)?;
        let database = builder(options).create_with_backend(file)?;
        let mut at = database.begin_write()?;
        at.set_quick_repair(true);
        {
            at.open_table(RECORDS)?;
            at.open_table(MATERIAL)?;
            at.open_table(INDEX)?;
            at.open_table(FEED)?;
            at.open_table(COMMITS)?;
            at.open_table(STATE)?;
            let mut meta = at.open_table(META)?;
            meta.insert(SCHEMA, schema::VERSION.to_be_bytes().as_slice())?;
            meta.insert(INCARNATION, options.incarnation.0.as_slice())?;
            meta.insert(WRITES, 0_u64.to_be_bytes().as_slice())?;
        }
        at.commit()?;
        Ok(database)
    })
}
