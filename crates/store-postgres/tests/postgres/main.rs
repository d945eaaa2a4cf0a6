//! These are the integration tests of the PostgreSQL store, in one binary.
//!
//! They need the programs of a PostgreSQL server, and say SKIPPED where there are none. Some tests of `crash` start this binary again as
//! a child process and kill it.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
mod conformance;
mod crash;
mod upkeep;
