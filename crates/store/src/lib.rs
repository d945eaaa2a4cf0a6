//! The store contract, its pure parts and the memory store.

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
mod memory;
pub mod plan;
pub mod record;

pub use commit::{Chain, CommitId};
pub use contract::*;
pub use deferred::Deferred;
pub use effects::{Change, Effects, Material};
pub use error::{Error, ErrorKind, Result};
pub use faulty::{Fault, Faulty};
pub use ext::{Home, SnapshotExt, StoreExt};
pub use memory::Memory;
pub use record::{Descent, Entry, EntryKind, ObjectId, Overlay, Record, Stamp, descent};
