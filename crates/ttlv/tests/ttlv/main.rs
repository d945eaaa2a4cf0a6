//! The codec from outside.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cloned_ref_to_slice_refs
)]

mod derive;
mod frames;
mod limits;
mod strict;
mod support;
mod trees;
mod types;
