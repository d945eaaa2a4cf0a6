//! The semantics of the KMIP operations: request bytes in, response bytes out, over any store.
//!
//! ```
//! use keyferry_crypto::{Ring, SystemRandom};
//! use keyferry_kmip::*;
//! use keyferry_server::{Access, Options, Server};
//! use keyferry_store::{Incarnation, Memory};
//! use keyferry_ttlv::Version;
//! use std::sync::Arc;
//!
//! let server = Server::new(Options {
//!     server: "centre".into(),
//!     store: Arc::new(Memory::new(Incarnation([1; 16]))),
//!     crypto: Arc::new(Ring::new()),
//!     random: Box::new(SystemRandom::new()),
//!     access: Access::Authenticated,
//!     policy: keyferry_s2s::Policy::closed(),
//! })?;
//! let ask = DiscoverVersionsRequest { protocol_versions: vec![], extra: Default::default() };
//! let request = RequestMessage::new(Version::V1_4, vec![RequestItem::new(&ask, context(Version::V1_4))?]).to_frame()?;
//! let caller = Identity { name: "a client".into(), fingerprint: [0; 32] };
//! let Answer::Reply(response) = server.answer(&caller, Now::default(), &request) else { panic!("no answer") };
//! assert!(ResponseMessage::from_frame(&response)?.batch[0].is_success());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! KMIP 1.0 to 1.4, 2.0 and 2.1, each request answered in its own version: Discover Versions, Query, Create (symmetric keys), Register,
//! Locate, Get, Get Attributes, Get Attribute List, Add, Modify and Delete Attribute, Activate, Revoke, Destroy, and from the s2s responder
//! Import, Export and Put. Requests that arrive together share one commit; answers leave after it.
//!
//! # What it does not do yet
//! - No other operations ([`Server::with`] takes an application's own), no wrapping, no conversion of key formats, no credentials.
//! - No owner's rights: [`Access`] says who may use the server, and every client may use every object.
//! - Locate looks for a State that dates lead to, for ranges of dates and for offsets by looking at records one by one.
//! - Batch Error Continuation Option Undo and asynchronous answers are refused.
//!
//! # Features
//! None.

mod access;
mod error;
mod operation;
mod server;

pub use access::{Access, Authenticator, Grant, Granted, Level, Rights};
pub use error::Error;
pub use server::{Options, Server};
