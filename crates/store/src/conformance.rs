//! This module is the conformance kit: one test for each clause of the [`Store`] contract, and random operations against a model.
//!
//! A backend or a wrapper implements [`Subject`], which says how it is made, and gets a `#[test]` for each clause:
//!
//! ```
//! use keyferry_store::{Incarnation, Memory, Store, conformance::Subject};
//! use std::sync::Arc;
//!
//! struct InMemory;
//!
//! impl Subject for InMemory {
//!     fn open(&self) -> Arc<dyn Store> {
//!         Arc::new(Memory::new(Incarnation([7; 16])))
//!     }
//!     fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
//!         store
//!     }
//! }
//!
//! keyferry_store::conformance!(|| Some(InMemory));
//! # fn main() {}
//! ```
//!
//! The test of a broken clause panics; the text names the clause and what was seen.

// A test kit fails by panicking.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod clauses;
mod commits;
mod concurrent;
pub mod crash;
mod feed_order;
mod feeds;
mod image;
mod model;
mod numbers;
mod own_writes;
mod reruns;
mod scans;
mod serialisable;
mod states;

pub use clauses::{all_or_nothing, durable, restored_changes_incarnation};
pub use commits::commit_ids;
pub use concurrent::one_snapshot;
pub use feed_order::feed_order;
pub use feeds::newest_entry_only;
pub use model::{against_model, against_model_seeded};
pub use numbers::numbers_arrive;
pub use own_writes::own_writes;
pub use reruns::reruns;
pub use scans::index_is_exact;
pub use serialisable::serialisable;
pub use states::state_is_sorted;

use crate::contract::{Index, IndexKey, MaterialChange, Put, RecordNumber, Store};
use crate::position::{CommitId, Incarnation};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A way to make the store under test. Each clause gets a subject of its own.
pub trait Subject: Sync {
    /// An empty store. Called once.
    fn open(&self) -> Arc<dyn Store>;

    /// Closes `store` and opens it again from its medium. A store without a medium returns it as it is.
    ///
    /// The kit holds no other reference to the store at that moment.
    fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store>;

    /// Opens the same store a second time, as another server would; returns `store` itself by default.
    fn beside(&self, store: &Arc<dyn Store>) -> Arc<dyn Store> {
        store.clone()
    }
}

/// All clauses by name, for a program that runs them without a test harness; a broken one panics.
pub const CLAUSES: [(&str, fn(&dyn Subject)); 14] = [
    ("one_snapshot", one_snapshot),
    ("all_or_nothing", all_or_nothing),
    ("own_writes", own_writes),
    ("serialisable", serialisable),
    ("durable", durable),
    ("reruns", reruns),
    ("numbers_arrive", numbers_arrive),
    ("index_is_exact", index_is_exact),
    ("newest_entry_only", newest_entry_only),
    ("feed_order", feed_order),
    ("commit_ids", commit_ids),
    ("state_is_sorted", state_is_sorted),
    ("restored_changes_incarnation", restored_changes_incarnation),
    ("against_model", against_model),
];

/// Makes one `#[test]` per clause of the contract.
///
/// The argument is an expression that can be called without arguments and returns an `Option` of a
/// [`Subject`](crate::conformance::Subject); `None` when the tests cannot run here, after printing why.
#[macro_export]
macro_rules! conformance {
    ($factory:expr) => {
        $crate::conformance!(@each $factory;
            one_snapshot all_or_nothing own_writes serialisable durable reruns numbers_arrive index_is_exact
            newest_entry_only feed_order commit_ids state_is_sorted restored_changes_incarnation against_model);
    };
    (@each $factory:expr; $($clause:ident)*) => {
        $(
            #[test]
            fn $clause() {
                if let Some(subject) = ($factory)() {
                    $crate::conformance::$clause(&subject);
                }
            }
        )*
    };
}

/// Panics with the clause's name unless the condition holds.
macro_rules! clause {
    ($clause:expr, $holds:expr, $($seen:tt)+) => {
        if !$holds {
            panic!("conformance clause `{}` is broken: {}", $clause, format_args!($($seen)+));
        }
    };
}
use clause;

/// An incarnation that no subject starts with.
const RESTORED: Incarnation = Incarnation([0xA5; 16]);

/// A put that owns its data.
#[derive(Clone, Default)]
struct Change {
    number: Option<RecordNumber>,
    id: Vec<u8>,
    attributes: Vec<u8>,
    material: Material,
    remove: Vec<IndexKey>,
    insert: Vec<IndexKey>,
    entry: Vec<u8>,
}

#[derive(Clone, Default)]
enum Material {
    #[default]
    Keep,
    Set(Vec<u8>),
    Remove,
}

impl Change {
    fn new(id: impl AsRef<[u8]>) -> Change {
        let id = id.as_ref();
        Change {
            id: id.to_vec(),
            attributes: [b"attributes of ", id].concat(),
            entry: [b"entry of ", id].concat(),
            ..Change::default()
        }
    }

    fn of(number: RecordNumber, id: impl AsRef<[u8]>) -> Change {
        Change {
            number: Some(number),
            ..Change::new(id)
        }
    }

    fn attributes(mut self, attributes: impl AsRef<[u8]>) -> Change {
        self.attributes = attributes.as_ref().to_vec();
        self
    }

    fn entry(mut self, entry: impl AsRef<[u8]>) -> Change {
        self.entry = entry.as_ref().to_vec();
        self
    }

    fn material(mut self, material: Material) -> Change {
        self.material = material;
        self
    }

    fn insert(mut self, index: u8, key: impl AsRef<[u8]>) -> Change {
        self.insert.push(IndexKey {
            index: Index(index),
            key: key.as_ref().into(),
        });
        self
    }

    fn remove(mut self, index: u8, key: impl AsRef<[u8]>) -> Change {
        self.remove.push(IndexKey {
            index: Index(index),
            key: key.as_ref().into(),
        });
        self
    }

    fn put(&self) -> Put<'_> {
        Put {
            number: self.number,
            id: &self.id,
            attributes: &self.attributes,
            material: match &self.material {
                Material::Keep => MaterialChange::Keep,
                Material::Set(bytes) => MaterialChange::Set(bytes),
                Material::Remove => MaterialChange::Remove,
            },
            remove: &self.remove,
            insert: &self.insert,
            entry: &self.entry,
        }
    }
}

/// Commits `changes` in one put and returns their numbers.
#[track_caller]
fn commit(clause: &str, store: &dyn Store, changes: &[Change]) -> Vec<RecordNumber> {
    let puts: Vec<Put<'_>> = changes.iter().map(Change::put).collect();
    let mut numbers = Vec::new();
    must(
        clause,
        "a write",
        store.write(&mut |tx| {
            numbers = tx.put(&puts)?;
            Ok(())
        }),
    );
    numbers
}

/// The commit id after a commit of `changes`.
fn chain(before: CommitId, changes: &[Change]) -> CommitId {
    let puts: Vec<Put<'_>> = changes.iter().map(Change::put).collect();
    before.next(&puts)
}

/// Returns the value, or panics with the name of the clause and what failed.
#[track_caller]
fn must<T>(clause: &str, what: &str, result: crate::error::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!(
            "conformance clause `{clause}` is broken: {what} failed: {error} ({:?})",
            error.kind()
        ),
    }
}

/// Sets the flag when it is dropped, also by a panic, so that no thread waits for one that is gone.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
