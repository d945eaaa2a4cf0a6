//! The model in serde's formats: readable, with secrets masked unless somebody was asked to show them.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod form;
mod masked;
mod support;
