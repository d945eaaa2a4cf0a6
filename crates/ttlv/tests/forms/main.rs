//! XML and JSON: every form of every value, what is no message, and trees that come back.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unit_arg
)]

mod json;
mod limits;
mod support;
mod trees;
mod values;
mod xml;
