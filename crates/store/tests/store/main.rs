//! These are the integration tests of the store crate, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod authentic;
mod conformance;
mod deferred;
mod earlier_seal;
mod errors;
mod faulty;
mod lost_keys;
mod objects;
mod planted;
mod restored;
mod rows;
mod sealed;
