//! Bulk sessions from one server's store into another server, in memory.
#![allow(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cloned_ref_to_slice_refs
)]

mod agreements;
mod collisions;
mod copies;
mod drive;
mod explorations;
mod follows;
mod foreign;
mod losses;
mod many;
mod matrix;
mod notifying;
#[path = "../server/objects.rs"]
mod objects;
mod observing;
mod overlays;
mod plans;
mod pokes;
mod progress;
mod property;
mod publications;
mod publishing;
mod pulls;
mod registers;
mod restored;
mod rsa;
mod selections;
#[path = "../server/support.rs"]
mod support;
mod transfers;
mod wrappings;
