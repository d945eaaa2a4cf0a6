//! The server from outside: request bytes in, response bytes out, over a memory store.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cloned_ref_to_slice_refs
)]

mod attributes;
mod batch;
mod discover;
mod faults;
mod get;
mod hostile;
mod import;
mod keys;
mod lifecycle;
mod locate;
mod objects;
mod peers;
mod printed;
mod property;
mod register;
mod rights;
mod secrets;
mod support;
mod usage;
