//! The model against the standard's tables and messages, and by itself.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cloned_ref_to_slice_refs
)]

mod downgrade;
mod encodings;
mod lifecycle;
mod messages;
mod parts;
mod projection;
mod reasons;
mod tables;
mod vectors;
