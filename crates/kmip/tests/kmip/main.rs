//! The model against the standard's tables and messages, and by itself.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cloned_ref_to_slice_refs
)]

#[cfg(feature = "serde")]
mod arbitrary;
mod corpus;
mod downgrade;
mod downgrade_messages;
mod encodings;
mod lifecycle;
mod messages;
mod parts;
mod projection;
mod reasons;
#[cfg(feature = "serde")]
mod serde_form;
mod tables;
mod vectors;
