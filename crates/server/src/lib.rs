//! The semantics of the KMIP operations: request bytes in, response bytes out, over any store.
mod access;
mod error;
mod operation;
mod server;

pub use access::Access;
pub use error::Error;
pub use server::{Options, Server};
