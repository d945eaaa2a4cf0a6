//! The store contract, its pure parts and the memory store.

mod commit;
#[cfg(feature = "conformance")]
pub mod conformance;
mod contract;
mod error;
mod faulty;
mod memory;

pub use commit::{Chain, CommitId};
pub use contract::*;
pub use error::{Error, ErrorKind, Result};
pub use faulty::{Fault, Faulty};
pub use memory::Memory;
