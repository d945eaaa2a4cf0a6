//! The network crate from outside: real sockets on ports that the system chooses, certificates made for each test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod blocking;
mod drive;
mod groups;
mod hostile;
mod identity;
mod logs;
mod pem;
mod shutdown;
mod support;
mod tls;
mod turn;
mod turn_hostile;
