//! This crate is the embedded store: one file, pure Rust, crash-safe, over [redb].
//!
//! ```
//! use keyferry_store::{Incarnation, Store};
//! use keyferry_store_redb::{Options, RedbStore};
//!
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! // The incarnation is used when the file is new; it comes from a random source.
//! let store = RedbStore::open(folder.join("keys.redb"), Options::new(Incarnation([7; 16])))?;
//! store.write(&mut |tx| tx.set_state(b"greeting", Some(b"hello")))?;
//! store.read(&mut |at| {
//!     assert_eq!(at.count()?, 0);
//!     Ok(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Limits:
//! - It does not encrypt or authenticate: the file holds what it is given. [`Sealed`](keyferry_store::Sealed) does both.
//! - It does not overwrite what was removed: old pages stay in the file until they are used again.
//! - It does not share the file: only one process can have it open at a time.
//! - It does not shrink the file.
//! - It does not look for damage when it opens a file that was closed properly, unless [`Options::check`] says so.

mod ahead;
mod batch;
mod failure;
mod guard;
mod keys;
mod migration;
mod reading;
mod scan;
mod store;
mod tables;
mod writing;

pub use store::{Options, RedbStore};
