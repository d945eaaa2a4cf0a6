//! The KMIP model, 1.0 to 2.1, in one set of types: attributes, objects, payloads, messages, lifecycle, and the facts of the standard.
//!
//! ```
//! use keyferry_kmip::{*, spec::*};
//! use keyferry_ttlv::Version;
//!
//! // Locate by name, asked in 1.2: the same value would do for 2.1.
//! let locate = LocateRequest::by_name("backup key");
//! let frame = RequestMessage::of(Version::V1_2, [locate.clone().into()]).to_frame()?;
//!
//! let request = RequestMessage::from_frame(&frame)?;
//! assert_eq!(request.batch[0].payload::<LocateRequest>(context(request.version()?))?, locate);
//!
//! // What a version lacks is an error when it is written, or left behind and named when that is asked for.
//! let create = CreateRequest::symmetric_key(CryptographicAlgorithm::AES, 256).named("backup key");
//! let (create, loss) = downgraded(create, Version::V2_1, Version::V1_0);
//! assert!(create.is_some() && loss.is_empty());
//! # Ok::<(), keyferry_ttlv::Error>(())
//! ```
//!
//! A server keeps the payloads of a message as they came when it reads one ([`RequestMessage::from_frame`]), so that one bad item fails
//! alone. A client that knows what to expect reads all at once ([`ResponseMessage::typed`]). A tool reads every payload, whatever its
//! operation ([`RequestMessage::read_payloads`]).
//!
//! The version is context, set by a message's header: there is no type per version. A field that a version lacks is an error when it is
//! written and kept raw when it is read. Key material is a [`Secret`]: wiped, masked, compared in constant time; a transparent key's parts
//! are read when they are asked for ([`KeyBlock::transparent`]).
//!
//! An unknown field is kept, and written back behind the known ones of its structure. Four structures are closed, and refuse one: Protocol
//! Version, Attribute, Attribute Reference, and the message itself behind its items.
//!
//! Of KMIP 3.0 it knows tags and enumeration values only, and it knows no PKCS#11 function by name. It opens no connection, reads no clock
//! and draws no randomness: see [`Now`], [`Random`], [`Crypto`].
//!
//! Features: `xml` and `json` switch on the text forms of messages, `keyferry_ttlv::xml` and `keyferry_ttlv::json`; [`context`] has the names.
//! `serde` implements serde's traits for every type that is data, readable and with secrets masked, for logs and tools: see
//! `keyferry_ttlv::serde_form`, and its `Exposed` for tools that were asked to show secrets.

/// Structures with nothing to say about each field but its name in the standard.
macro_rules! structures {
    ($(
        $(#[$meta:meta])*
        $name:ident = $tag:ident { $($(#[$field_meta:meta])* $field:ident: $ty:ty,)* }
    )*) => {$(
        #[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
        #[ttlv(tag = tag::$tag)]
        #[allow(missing_docs)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $ty,)*
            #[ttlv(extra)]
            pub extra: Extra,
        }
    )*};
}

pub mod attribute;
mod credential;
mod crypto;
pub mod der;
mod downgrade;
mod escape;
pub mod extension;
mod failure;
mod host;
mod identifier;
mod identity;
pub mod lifecycle;
pub mod message;
pub mod object;
pub mod payload;
pub mod projection;
mod protocol_version;
mod secret;
#[cfg(feature = "serde")]
mod serde_form;
pub mod spec;
mod template;
mod transparent;
mod turn;
mod wake;

pub use attribute::*;
pub use credential::*;
pub use crypto::*;
pub use downgrade::{describe_loss, downgraded};
pub use escape::{Escaped, escaped, is_printable};
pub use failure::{Cause, Failure};
pub use host::*;
pub use identifier::{UniqueIdentifier, UniqueIdentifiers};
pub use identity::Identity;
pub use message::*;
pub use object::*;
pub use payload::*;
pub use projection::Projection;
pub use protocol_version::{ProtocolVersion, VERSIONS};
pub use secret::Secret;
pub use spec::names::context;
pub use template::{TemplateAttribute, TemplateTags};
pub use transparent::*;
pub use turn::{TURN, accepts_turn, asks_to_turn, is_turned, turn_answer, turn_request};
pub use wake::Wake;

#[cfg(feature = "serde")]
pub use keyferry_ttlv::serde_form::Exposed;
pub use keyferry_ttlv::{DateTime, DateTimeExtended, Enumeration, Interval, Text};
