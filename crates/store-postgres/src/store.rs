//! This module connects to the database, and runs transactions until they meet no conflict.

use crate::pool::Pool;
use crate::schema;
use crate::session::Session;
use keyferry_store::{Error, ErrorKind, Incarnation, Result, Snapshot, Store, Transaction};
use postgres::{Client, Config, NoTls};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const WRITE: &str = "BEGIN ISOLATION LEVEL SERIALIZABLE";

/// The number of conflicts after which a transaction gives up.
const ATTEMPTS: u32 = 200;

/// A store in a database that several servers use at the same time.
///
/// Each transaction has a connection of its own; a write that puts records needs a second one for a moment. Idle connections are kept.
///
/// The feed and the records of one write appear together. Record numbers rise from one write to the next; of two concurrent writes, the
/// one that commits last may have the lower numbers.
pub struct PostgresStore {
    pool: Pool,
    /// Held by a transaction that met a conflict, so that this server runs only one such transaction at a time.
    queue: Mutex<()>,
}

impl PostgresStore {
    /// Connects without TLS, and makes the tables where they are missing.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when there is no connection, [`Schema`](ErrorKind::Schema) when a later version made the tables.
    pub fn open(config: Config, incarnation: Incarnation) -> Result<PostgresStore> {
        PostgresStore::open_with(move || config.connect(NoTls), incarnation)
    }

    /// Connects over TLS, whatever `config` says about that, and makes the tables where they are missing. `tls` has the trusted
    /// authorities and the client certificate; the server's certificate must be valid for the host that `config` names.
    ///
    /// # Errors
    /// Those of [`open`](PostgresStore::open); a database without TLS, or with a certificate that is not trusted, counts as no connection.
    #[cfg(feature = "tls")]
    pub fn open_tls(
        mut config: Config,
        tls: rustls::ClientConfig,
        incarnation: Incarnation,
    ) -> Result<PostgresStore> {
        config.ssl_mode(postgres::config::SslMode::Require);
        let tls = tokio_postgres_rustls::MakeRustlsConnect::new(tls);
        PostgresStore::open_with(move || config.connect(tls.clone()), incarnation)
    }

    /// Connects by `connect`, which is called for every new connection: it may choose among hosts or fetch a password.
    ///
    /// # Errors
    /// Those of [`open`](PostgresStore::open).
    pub fn open_with(
        connect: impl Fn() -> std::result::Result<Client, postgres::Error> + Send + Sync + 'static,
        incarnation: Incarnation,
    ) -> Result<PostgresStore> {
        let pool = Pool::new(Box::new(connect));
        schema::prepare(&pool, incarnation)?;
        Ok(PostgresStore {
            pool,
            queue: Mutex::new(()),
        })
    }

    /// Runs `attempt` until it meets no conflict.
    fn until_no_conflict(&self, attempt: &mut dyn FnMut() -> Attempt) -> Result<()> {
        let mut queue = None;
        for tries in 1..=ATTEMPTS {
            match attempt() {
                Attempt::Ended(result) => return result,
                Attempt::Conflict => {
                    queue.get_or_insert_with(|| {
                        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
                    });
                    std::thread::sleep(pause(tries));
                }
            }
        }
        Err(Error::new(
            ErrorKind::Conflict,
            format_args!("PostgreSQL: other transactions got in the way {ATTEMPTS} times"),
        ))
    }
}

/// The end of one attempt at a transaction.
enum Attempt {
    /// It succeeded, or failed for good.
    Ended(Result<()>),
    /// It met a conflict and is to be run again.
    Conflict,
}

impl Attempt {
    /// The end of an attempt with this result. The result counts only when the session saw no failure: after a conflict the closure runs
    /// again, whatever it returned.
    fn of(session: &Session<'_>, result: Result<()>) -> Attempt {
        match (session.failed(), result) {
            (Some(ErrorKind::Conflict), _) => Attempt::Conflict,
            (Some(kind), Ok(())) => Attempt::Ended(Err(Error::new(
                kind,
                "PostgreSQL: a call of this transaction failed, so it cannot be committed",
            ))),
            (_, result) => Attempt::Ended(result),
        }
    }
}

/// A random pause, longer from one try to the next.
fn pause(tries: u32) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let most = 1000 << tries.min(6);
    Duration::from_micros(RandomState::new().hash_one(tries) % most)
}

impl Store for PostgresStore {
    fn read(&self, f: &mut dyn FnMut(&dyn Snapshot) -> Result<()>) -> Result<()> {
        self.until_no_conflict(&mut || {
            let session = match Session::begin(&self.pool, READ) {
                Ok(session) => session,
                Err(error) => return Attempt::Ended(Err(error)),
            };
            let result = f(&session);
            Attempt::of(&session, result)
        })
    }

    fn write(&self, f: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        self.until_no_conflict(&mut || {
            let mut session = match Session::begin(&self.pool, WRITE) {
                Ok(session) => session,
                Err(error) => return Attempt::Ended(Err(error)),
            };
            let mut result = f(&mut session);
            if result.is_ok() && session.failed().is_none() {
                result = session.finish();
            }
            Attempt::of(&session, result)
        })
    }
}
