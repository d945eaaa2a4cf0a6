//! Sessions that bring objects of this server's store to a peer.
//!
//! `bulk` sends by Import or Put, `register` emulates a transfer by Register, and `publication` and `notifier` keep a foreign server up to date.
//! `publish` is the machinery behind all of them that go to a foreign server; `explore` finds out which of these ways a peer knows.

pub(crate) mod bulk;
pub(crate) mod explore;
mod notice;
pub(crate) mod notifier;
pub(crate) mod publication;
mod publish;
pub(crate) mod register;
mod running;
