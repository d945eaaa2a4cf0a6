//! A store that many servers share: one PostgreSQL database, or an engine that speaks its protocol.
//!
//! ```no_run
//! use keyferry_store::{Incarnation, Store};
//! use keyferry_store_postgres::{Config, PostgresStore};
//!
//! let mut config = Config::new();
//! config.host("db.example").user("keyferry").dbname("keys");
//! // The incarnation is used when the database is new; it comes from a random source.
//! let store = PostgresStore::open(config, Incarnation([7; 16]))?;
//! store.write(&mut |tx| tx.set_state(b"greeting", Some(b"hello")))?;
//! # Ok::<(), keyferry_store::Error>(())
//! ```
//!
//! Writes run beside each other, in one server and in several: each is a `SERIALIZABLE` transaction, which is run again when the
//! database reports a conflict. At its end a write takes its *turn*, by a lock on one row, and puts its feed entries behind those of the
//! last commit; the turn lasts for two insertions and the commit. That the feed is one line does not rest on the turn: the commits'
//! first numbers are unique, so a write that lost its turn unnoticed is run again.
//!
//! The SQL is plain: no notifications, advisory locks, sequences or system columns.
//!
//! What it does not do:
//! - It does not use TLS by itself: `PostgresStore::open_tls` does, [`PostgresStore::open`] connects in the clear, and
//!   [`PostgresStore::open_with`] takes any way to connect.
//! - It does not encrypt. Key material is as readable in the database as it is given; [`Sealed`](keyferry_store::Sealed) seals it.
//! - It does not wipe the buffers of the database driver, only its own.
//! - It does not make commits durable beyond what the database does: leave `synchronous_commit` on.
//! - It does not serve an asynchronous thread: call it from a blocking one.
//!
//! Features: `tls` (TLS to the database, by rustls).

mod changes;
mod failure;
mod pool;
mod schema;
mod session;
mod store;

pub use postgres::Config;
pub use store::PostgresStore;
