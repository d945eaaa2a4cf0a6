//! The embedded store: one file, pure Rust, crash-safe, over [redb].
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
//! What it does not do:
//! - It does not encrypt. Key material is as readable in the file as it is given; wrap the store to seal it.
//! - It does not overwrite what was removed. Old pages stay in the file until they are used again.
//! - It does not share the file: one process has it open at a time.
//! - It does not shrink the file.
//! - It does not look for damage while it opens a file that was closed properly, unless [`Options::check`] says so.

mod ahead;
mod batch;
mod keys;
mod medium;
mod migration;
mod reading;
mod store;
mod tables;
mod writing;

pub use store::{Options, RedbStore};
