//! These are the integration tests of the redb store, in one binary.
//!
//! Some tests of `crash` start this binary again as a child process and kill it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod conformance;
#[cfg(unix)]
mod crash;
mod damage;
#[cfg(unix)]
mod permissions;
mod restored;
mod schema;
