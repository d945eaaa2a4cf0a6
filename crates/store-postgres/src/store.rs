use crate::pool::Pool;
use crate::schema;
use crate::session::Session;
use keyferry_store::{Error, ErrorKind, Incarnation, Result, Snapshot, Store, Transaction};
use postgres::{Client, Config, NoTls};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const WRITE: &str = "BEGIN ISOLATION LEVEL SERIALIZABLE";

/// After so many conflicts a write gives up.
const ATTEMPTS: u32 = 200;

/// A store in a database, which other servers use at the same time.
///
/// Each transaction has a connection of its own, and a write that puts records a second one for a moment. Idle ones are kept.
///
/// The feed and the records of one write appear together. Record numbers rise from one write to the next; of two writes at the same time the
/// one that commits last may have the lower numbers.
pub struct PostgresStore {
    pool: Pool,
    /// Held by a write that met a conflict, so that at most one of this server is in anyone's way again.
    queue: Mutex<()>,
}

impl PostgresStore {
    /// Connects without TLS, and makes the tables when they are not there.
    ///
    /// # Errors
    /// [`Io`](ErrorKind::Io) when there is no connection, [`Schema`](ErrorKind::Schema) when a later version made the tables.
    pub fn open(config: Config, incarnation: Incarnation) -> Result<PostgresStore> {
        PostgresStore::open_with(move || config.connect(NoTls), incarnation)
    }

    /// Connects over TLS, whatever `config` says of it, and makes the tables when they are not there. `tls` says whom to trust and what to
    /// show; the certificate must be good for the host that `config` names.
    ///
    /// # Errors
    /// As [`open`](PostgresStore::open); a database without TLS, or with a certificate that is not trusted, is no connection.
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

    /// Connects by `connect`, which is called for every connection: other hosts, changing passwords are its affair.
    ///
    /// # Errors
    /// As [`open`](PostgresStore::open).
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

    /// Runs `attempt` until it meets no conflict; it says whether what went wrong was one.
    fn until_settled(&self, attempt: &mut dyn FnMut() -> Settled) -> Result<()> {
        let mut queue = None;
        for tries in 1..=ATTEMPTS {
            match attempt() {
                Settled::Is(result) => return result,
                Settled::Not => {
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

/// How an attempt ended.
enum Settled {
    Is(Result<()>),
    /// By a conflict.
    Not,
}

impl Settled {
    /// A result of the closure counts only when the session saw no failure: a conflict is run again, whatever the closure made of it.
    fn from(session: &Session<'_>, result: Result<()>) -> Settled {
        match (session.failed(), result) {
            (Some(ErrorKind::Conflict), _) => Settled::Not,
            (Some(kind), Ok(())) => Settled::Is(Err(Error::new(
                kind,
                "PostgreSQL: a call of this transaction failed, so it cannot be committed",
            ))),
            (_, result) => Settled::Is(result),
        }
    }
}

/// Longer from try to try, and different for every server and thread that waits.
fn pause(tries: u32) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let most = 1000 << tries.min(6);
    Duration::from_micros(RandomState::new().hash_one(tries) % most)
}

impl Store for PostgresStore {
    fn read(&self, f: &mut dyn FnMut(&dyn Snapshot) -> Result<()>) -> Result<()> {
        self.until_settled(&mut || {
            let session = match Session::begin(&self.pool, READ) {
                Ok(session) => session,
                Err(error) => return Settled::Is(Err(error)),
            };
            let result = f(&session);
            Settled::from(&session, result)
        })
    }

    fn write(&self, f: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        self.until_settled(&mut || {
            let mut session = match Session::begin(&self.pool, WRITE) {
                Ok(session) => session,
                Err(error) => return Settled::Is(Err(error)),
            };
            let mut result = f(&mut session);
            if result.is_ok() && session.failed().is_none() {
                result = session.finish();
            }
            Settled::from(&session, result)
        })
    }
}
