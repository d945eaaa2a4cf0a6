//! This crate is a store that several servers share: one PostgreSQL database, or an engine that speaks its protocol.
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
//! Writes run concurrently, in one server and in several: each is a `SERIALIZABLE` transaction, which runs again when the database
//! reports a conflict. At its end a write takes its *turn*, the lock of one row, and appends its feed entries after those of the last
//! commit; the turn lasts for two insertions and the commit. The order of the feed does not depend on the turn: the first numbers of
//! commits are unique, so a write that lost its turn unnoticed meets a conflict and runs again.
//!
//! The SQL is plain: no notifications, advisory locks, sequences or system columns.
//!
//! Limits:
//! - It uses TLS only when it is told to: `PostgresStore::open_tls` does, [`PostgresStore::open`] connects in the clear, and
//!   [`PostgresStore::open_with`] takes any way to connect.
//! - It does not encrypt or authenticate: the database holds what it is given. [`Sealed`](keyferry_store::Sealed) does both.
//! - It does not wipe the buffers of the database driver, only its own.
//! - It does not make commits durable beyond what the database does: leave `synchronous_commit` on.
//! - It blocks: do not call it from an asynchronous thread.
//!
//! Features: `tls` (TLS to the database, by rustls).

mod changes;
mod failure;
mod pool;
mod rows;
mod schema;
mod session;
mod store;
mod writing;

pub use postgres::Config;
pub use store::PostgresStore;
