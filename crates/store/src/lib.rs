//! The store contract, its pure parts and the memory store.

mod commit;
mod contract;
mod error;
mod memory;

pub use commit::{Chain, CommitId};
pub use contract::*;
pub use error::{Error, ErrorKind, Result};
pub use memory::Memory;
