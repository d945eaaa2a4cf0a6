//! This crate implements the KMIP operations: request bytes in, response bytes out, over any store.
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
//! let caller = Identity::new("a client");
//! let Answer::Reply(response) = server.answer(&caller, Now::default(), &request) else { panic!("no answer") };
//! assert!(ResponseMessage::from_frame(&response)?.batch[0].is_success());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It speaks KMIP 1.0 to 1.4, 2.0 and 2.1, and answers each request in its own version. The operations are Discover Versions, Query, Create, Create Key Pair, Register,
//! Re-key, Re-key Key Pair, Locate, Check, Get, Get Attributes, Get Attribute List, Add, Modify, Set, Adjust and Delete Attribute, Obtain
//! Lease, Get Usage Allocation, Activate, Revoke, Destroy, Archive, Recover, Ping, Log, Set Endpoint Role, Interop where it is switched on,
//! and, from the s2s responder, Import, Export, Put and Notify. Requests that arrive together share one commit, also those of several
//! connections; the answers leave after it. A batch with the option Undo is done as a whole or not at all. An application can add
//! operations or replace them ([`Server::with`]).
//!
//! An object belongs to its owner; other clients may use it when that is granted ([`Rights`]). The application checks credentials
//! ([`Authenticator`]). Denials, with their rule, and requests are logged with `tracing`, never with key material.
//!
//! Keys leave in the formats Raw, PKCS#1, PKCS#8, X.509, ECPrivateKey and transparent, wrapped by NIST key wrap or AES key wrap with padding.
//!
//! # Limits
//! - There are no cryptographic services, no certification, split keys, derivation, PKCS#11, log-in or asynchronous answers.
//! - Private keys that are encrypted with a password (PKCS#8, PKCS#12) are stored as they came, and not decrypted.
//! - It sends no requests itself: on a connection that a peer has turned round (Set Endpoint Role), a conversation of the application sends
//!   them ([`Server::with_turning`]); without one, this server stays the server.
//!
//! # OASIS test cases
//! These cases of 1.0 to 2.1 do not pass, although all their operations are above:
//!
//! | cases | why |
//! |---|---|
//! | TC-IMPEXP-4 | revives a destroyed object, which no keyferry server does |
//! | TC-142-11, -12 | want a key wrapped without encoding where none is said, against KMIP 1.1 and 1.2 §2.1.6 |
//! | TC-WRAP-2-14 | unwraps by a key that may only wrap; the later versions of the case may do both |
//! | TC-OFFSET-2-13 | wants the oldest object first in one answer and the newest in another |
//! | TC-CERTATTR-1-14 | has attributes of 2.0 in 1.4 |
//! | TC-CERTATTR-1-20 | has a Cryptographic Usage Mask that neither client nor certificate gives |
//! | TC-ECC-2, TC-PKCS12-1, -2 | want password-encrypted private keys opened or made |
//!
//! # Features
//! None.

mod access;
mod commit_queue;
mod error;
mod forward;
mod hooks;
mod operation;
mod request;
mod server;
mod turning;

pub use access::{Access, Authenticator, Grant, Granted, Level, Rights};
pub use error::Error;
pub use server::{Options, Server};
