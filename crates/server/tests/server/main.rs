//! These are the integration tests of the server, in one binary: request bytes in, response bytes out, over a memory store.
//!
//! The test in `logs` starts this binary again as a child process.
#![allow(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cloned_ref_to_slice_refs
)]

mod attributes;
mod batch;
mod bulk;
mod clocks;
mod discover;
mod faults;
mod get;
mod hostile;
mod identities;
mod import;
mod keys;
mod lifecycle;
mod locate;
mod logs;
mod objects;
mod peers;
mod printed;
mod property;
mod register;
mod rights;
mod secrets;
mod support;
mod usage;
