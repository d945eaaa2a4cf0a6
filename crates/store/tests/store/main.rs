//! These are the integration tests of the store crate, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod conformance;
mod deferred;
mod errors;
mod faulty;
mod planted;
mod restored;
mod sealed;
