//! The tests of the crate: known answers, round trips, and OpenSSL as the other side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod known_answers;
#[cfg(feature = "rsa")]
mod oaep;
