//! This crate has the store contract, which any vendor can implement, the code that needs no backend, and a store in memory.
//!
//! ```
//! use keyferry_store::{Error, Incarnation, Memory, SnapshotExt, StoreExt};
//!
//! let store = Memory::new(Incarnation([1; 16]));
//! store.transact::<_, Error>(|transaction| transaction.set_state(b"greeting", Some(b"hello")))?;
//! let greeting = store.view::<_, Error>(|snapshot| snapshot.state_value(b"greeting"))?;
//! assert_eq!(greeting.as_deref(), Some(&b"hello"[..]));
//! # Ok::<(), Error>(())
//! ```
//!
//! [`Store`] states the contract, clause by clause. A backend sees bytes: [`record`] says what they mean, [`index`] which index keys an object
//! has, [`plan`] finds objects, and [`Effects`] are the changes that an operation asks for. [`Memory`] is a store in memory, [`Sealed`]
//! keeps secrets at rest and notices what was altered there, in any store, and [`Faulty`] fails as planned, for tests.
//!
//! # Features
//! - `conformance`: the kit that checks every clause of the contract on any implementation.

mod commit;
#[cfg(feature = "conformance")]
pub mod conformance;
mod contract;
mod deferred;
mod effects;
mod error;
mod ext;
mod faulty;
pub mod index;
mod lineage;
mod memory;
pub mod plan;
mod position;
pub mod record;
pub mod schema;
mod sealed;
mod stamp;

pub use commit::Chain;
pub use contract::{
    Cursor, FeedRow, Index, IndexKey, MaterialChange, Order, Part, Put, RecordNumber, Remains, Row,
    Snapshot, Span, Store, Transaction,
};
pub use deferred::Deferred;
pub use effects::{Change, Effects, Material};
pub use error::{Error, ErrorKind, Result};
pub use ext::{Home, SnapshotExt, StoreExt, TransactionExt};
pub use faulty::{Fault, Faulty};
pub use lineage::Lineage;
pub use memory::Memory;
pub use position::{CommitId, Incarnation, Position};
pub use record::{Entry, EntryKind, Hidden, ObjectId, Overlay, Record};
pub use sealed::{Sealed, Verification};
pub use stamp::{Descent, Stamp, descent};
