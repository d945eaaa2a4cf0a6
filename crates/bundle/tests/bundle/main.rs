//! Bundles from one server to another, and what becomes of bad ones.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod forged;
#[path = "../../../server/tests/server/objects.rs"]
mod objects;
mod options;
mod restore;
mod resume;
mod round_trip;
mod selection;
mod stale;
mod support;
mod tampered;
mod wrapped;
