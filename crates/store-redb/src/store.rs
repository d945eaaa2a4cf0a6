use crate::medium::{Guard, View, explain_io, fail};
use crate::migration;
use crate::reading::Reading;
use crate::tables::{
    self, COMMITS, FEED, INCARNATION, INDEX, MATERIAL, META, RECORDS, SCHEMA, STATE, WRITES,
};
use crate::writing::Writing;
use keyferry_store::{Error, ErrorKind, Incarnation, Result, Snapshot, Store, Transaction, schema};
use redb::{Builder, Database, ReadableDatabase, TableError};
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::{fs, io};

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The incarnation of a new store; a file that exists keeps its own.
    pub incarnation: Incarnation,
    /// How much memory the page cache may take.
    pub cache_bytes: usize,
    /// Whether every page is read and checked when the store is opened: for a file that may have been altered. It takes about a second
    /// for each GB. Without it damage is met when it is read, which is an error too, except that damage in the engine's own bookkeeping
    /// can end the process.
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
    /// The file must be opened again before it is used.
    broken: AtomicBool,
    /// redb panicked in a transaction, which still holds the file: no more writes until the process ends.
    stuck: AtomicBool,
    /// Held for a whole write, so that after a failed commit nobody writes before its outcome is known.
    writer: Mutex<()>,
}

impl RedbStore {
    /// Opens the store in the file `path`, or makes it. A file of an earlier [schema version](keyferry_store::schema) is brought up to
    /// date.
    ///
    /// A new file appears under its name when it is complete; until then it is called `path` with `.new` behind. A file
    /// without content is taken for a new one.
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

    /// Where the store is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `f` on the open database, after opening it again if an earlier failure closed it.
    fn with<T>(&self, f: impl FnOnce(View<'_>, &Database) -> Result<T>) -> Result<T> {
        if self.broken.load(Ordering::Acquire) && !self.stuck.load(Ordering::Acquire) {
            let mut slot = self
                .database
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            if self.broken.load(Ordering::Acquire) {
                // What this reports is the failure that is known already.
                let _ = close(&self.path, slot.take());
                *slot = Some(guarded(&self.path, |view| {
                    open_existing(view, self.options)
                })?);
                self.broken.store(false, Ordering::Release);
            }
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

    /// One run of the closure and its commit.
    fn attempt(&self, f: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<Outcome> {
        self.with(|view, database| {
            let guard = view.guard;
            let mut at = guard.inside(|| database.begin_write()).map_err(|e| view.explain(e))?;
            // Reopening after a crash then takes no walk through the whole file.
            at.set_quick_repair(true);
            let mut writing = Writing::new(view, database, &at);
            // redb cleans up after a transaction only when no panic is under way, so one of the closure is held back until then.
            let ran = catch_unwind(AssertUnwindSafe(|| {
                f(&mut writing)?;
                guard.inside(|| writing.finish())
            }));
            if ran.is_err() && guard.is_inside() {
                // redb itself panicked, over a damaged page: what it left cannot even be dropped.
                std::mem::forget(writing);
                std::mem::forget(at);
                self.stuck.store(true, Ordering::Release);
                return Err(view.corrupt("writing to it made the database engine stop; nothing was written, and nothing can be"));
            }
            guard.inside(|| drop(writing));
            guard.inside(|| {
                match ran {
                    Ok(Ok(Some(writes))) => Ok(match at.commit() {
                        Ok(()) => Outcome::Done,
                        Err(error) => Outcome::Unknown { writes, error: view.explain(error) },
                    }),
                    Ok(Ok(None)) => at.abort().map_err(|e| view.explain(e)).map(|()| Outcome::Done),
                    // When the rollback fails too, then by the same failure, and the file is opened again.
                    Ok(Err(error)) => {
                        let _ = at.abort().map_err(|e| view.explain(e));
                        Err(error)
                    }
                    Err(panic) => {
                        let _ = at.abort().map_err(|e| view.explain(e));
                        Ok(Outcome::Panicked(panic))
                    }
                }
            })
        })
    }

    /// Opens the file again after a commit that failed, and says what became of it.
    fn settle(&self, writes: u64, error: Error) -> Error {
        let found = self.with(|view, database| {
            view.guard.inside(|| {
                let at = database.begin_read().map_err(|e| view.explain(e))?;
                tables::writes(view, &at.open_table(META).map_err(|e| view.explain(e))?)
            })
        });
        match found {
            Ok(found) if found < writes => error,
            Ok(_) => fail(
                ErrorKind::Io,
                &self.path,
                format_args!("the commit failed ({error}), yet the transaction is in the store"),
            ),
            Err(again) => {
                let what = format_args!(
                    "the commit failed ({error}), and its outcome is unknown, since the file cannot be opened: {again}"
                );
                fail(ErrorKind::Io, &self.path, what)
            }
        }
    }
}

/// How a run of a write ended, when it was not an error that rolled it back.
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
            let at = view
                .guard
                .inside(|| database.begin_read())
                .map_err(|e| view.explain(e))?;
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
            Outcome::Unknown { writes, error } => Err(self.settle(writes, error)),
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
    guarded(path, |view| {
        database
            .map_or(Ok(()), Database::close)
            .map_err(|e| view.explain(e))
    })
}

/// Runs `f` so that a panic over what the file holds becomes an error.
fn guarded<T>(path: &Path, f: impl FnOnce(View<'_>) -> Result<T>) -> Result<T> {
    let guard = Guard::default();
    guard.catch(path, || {
        guard.inside(|| {
            f(View {
                path,
                guard: &guard,
            })
        })
    })
}

fn open_or_make(path: &Path, options: Options) -> Result<Database> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |error| explain_io(&path, &error)
    };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            return Err(fail(ErrorKind::Io, path, "it is a folder, not a file"));
        }
        Ok(found) if found.len() > 0 => return guarded(path, |view| open_existing(view, options)),
        Ok(_) => return guarded(path, |view| make(view, options)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(explain_io(path, &error)),
    }
    let mut name = OsString::from(path);
    name.push(".new");
    let new = PathBuf::from(name);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(explain_io(&new, &error));
        }
        _ => {}
    }
    drop(guarded(&new, |view| make(view, options))?);
    // A link does not replace a store that another process made meanwhile; not every file system has links.
    match fs::hard_link(&new, path) {
        Ok(()) => fs::remove_file(&new).map_err(io(&new))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(&new).map_err(io(&new))?
        }
        Err(_) => fs::rename(&new, path).map_err(io(path))?,
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    // The name is durable when the folder is; where a folder cannot be opened, there is no such thing to do.
    if let Ok(folder) = fs::File::open(folder) {
        folder.sync_all().map_err(io(path))?;
    }
    guarded(path, |view| open_existing(view, options))
}

fn builder(options: Options) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_bytes);
    builder.set_check_integrity_on_open(options.check);
    builder
}

fn open_existing(view: View<'_>, options: Options) -> Result<Database> {
    let database = builder(options)
        .open(view.path)
        .map_err(|e| view.explain(e))?;
    let at = database.begin_read().map_err(|e| view.explain(e))?;
    let due = match at.open_table(META) {
        Ok(meta) => migration::is_due(view, &meta)?,
        Err(TableError::TableDoesNotExist(_)) => {
            return Err(view.corrupt("it is a redb database, but not a store of keyferry"));
        }
        Err(error) => return Err(view.explain(error)),
    };
    at.close().map_err(|e| view.explain(e))?;
    if due {
        migration::migrate(view, &database)?;
    }
    Ok(database)
}

/// Makes the file and the tables of a new store.
fn make(view: View<'_>, options: Options) -> Result<Database> {
    let database = builder(options)
        .create(view.path)
        .map_err(|e| view.explain(e))?;
    let mut at = database.begin_write().map_err(|e| view.explain(e))?;
    at.set_quick_repair(true);
    let made = (|| {
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
        Ok::<(), redb::Error>(())
    })();
    made.map_err(|e| view.explain(e))?;
    at.commit().map_err(|e| view.explain(e))?;
    Ok(database)
}
