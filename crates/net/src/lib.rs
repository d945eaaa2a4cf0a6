//! KMIP over mutual TLS: a server and a client for tokio, a blocking client, and drivers for sans-IO conversations.
//!
//! ```
//! use keyferry_kmip::{Answer, Handler, Identity, Now};
//! use keyferry_net::{Credentials, Server, ServerConfig, ServerHandle};
//! use keyferry_ttlv::{Error, Frame};
//!
//! struct Echo;
//! impl Handler for Echo {
//!     fn handle(&self, _: &Identity, _: Now, requests: &[Frame]) -> Vec<Answer> {
//!         requests.iter().map(|request| Answer::Reply(request.clone())).collect()
//!     }
//!     fn refuse(&self, _: Now, _: &Error) -> Option<Frame> { None }
//! }
//!
//! async fn start() -> keyferry_net::Result<ServerHandle> {
//!     let credentials = Credentials::from_files("clients-ca.pem", "server.pem", "server.key")?;
//!     let server = Server::bind("0.0.0.0:5696", ServerConfig::new(&credentials)?, std::sync::Arc::new(Echo)).await?;
//!     Ok(server.serve())
//! }
//! ```
//!
//! TLS 1.2 and 1.3 by rustls with the ring provider, whatever the process default is. Both sides show certificates; the one that the
//! client shows is its [`Identity`](keyferry_kmip::Identity). This is the one crate beside the PostgreSQL store that opens sockets, and the
//! only one that reads the clock: [`clock()`]. A [`Reloader`] gives a running server other certificates.
//!
//! A connection can be turned round (Set Endpoint Role since KMIP 2.0, [`TURN`](keyferry_kmip::TURN) before): a [`Driver`] answers what the
//! server asks on a connection that the driver has opened, until it is turned back; the server asks by the conversation that its handler
//! gives ([`Answer::Turn`](keyferry_kmip::Answer::Turn)). A conversation that waits can be woken ([`Wake`](keyferry_kmip::Wake)).
//!
//! # What it does not do
//! - It does not look into messages: it cuts the stream into frames and hands them on. Only on a connection that is turned round it looks for
//!   Set Endpoint Role, and everywhere it tells requests from answers.
//! - The blocking client can't turn a connection round.
//! - No TLS before 1.2, no certificate whose name stands only in the Common Name, no revocation lists unless
//!   [`ServerConfig::from_tls`] brings them.
//! - Nothing but TTLV over TLS: no HTTPS.
//! - Messages are wiped when they are dropped, but not the buffers inside the TLS library.
//!
//! # Logs
//! Through `tracing`: one line when a connection is accepted, refused or closed, and a debug line per group of requests. Never message
//! bytes. [`Counters`] has the same as numbers.
//!
//! # Features
//! None.

pub mod blocking;
mod client;
mod clock;
mod counters;
mod drive;
mod error;
mod identity;
mod input;
mod limits;
mod output;
pub mod pem;
mod pump;
mod retry;
mod server;
mod subject;
mod tls;
mod turned;

pub use client::{Connection, Connector};
pub use clock::clock;
pub use counters::Counters;
pub use drive::{Driver, drive, drive_with_retry};
pub use error::{Error, ErrorKind, Result};
pub use identity::identity;
pub use limits::Limits;
pub use retry::Retry;
pub use rustls;
pub use server::{Reloader, Server, ServerHandle};
pub use tls::{ClientConfig, Credentials, Protocols, ServerConfig};
