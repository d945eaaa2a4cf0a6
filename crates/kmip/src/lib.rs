//! The KMIP model, 1.0 to 2.1, in one set of types: attributes, objects, payloads, messages, lifecycle, and the facts of the standard.
//!
//! ```
//! use keyferry_kmip::{*, spec::*};
//! use keyferry_ttlv::Version;
//!
//! // Locate by name, asked in 1.2: the same value would do for 2.1.
//! let attributes = Attributes::new().with(AttributeValue::Name(Name::text("backup key")));
//! let locate = LocateRequest {
//!     maximum_items: Some(10), offset_items: None, storage_status_mask: None, object_group_member: None, attributes, extra: Default::default(),
//! };
//! let item = RequestItem::new(&locate, context(Version::V1_2))?;
//! let frame = RequestMessage::new(Version::V1_2, vec![item]).to_frame()?;
//!
//! let request = RequestMessage::from_frame(&frame)?;
//! assert_eq!(request.batch[0].payload::<LocateRequest>(context(request.version()?))?, locate);
//! # Ok::<(), keyferry_ttlv::Error>(())
//! ```
//!
//! The version is context, set by a message's header: there is no type per version. A field that a version lacks is an error when it is
//! written and kept raw when it is read. Key material is a [`Secret`]: wiped, masked, compared in constant time.
//!
//! It does not know yet: payloads beyond those of [`payload`] (they pass through as they came), the fields of transparent keys, downgrade
//! with a loss report, serde. It opens no connection, reads no clock and draws no randomness: see [`Now`], [`Random`], [`Crypto`].
//!
//! Features: `xml` and `json` switch on the text forms of messages, `keyferry_ttlv::xml` and `keyferry_ttlv::json`; [`context`] has the names.

pub mod attribute;
mod credential;
mod crypto;
mod downgrade;
pub mod extension;
mod failure;
mod host;
mod identifier;
pub mod lifecycle;
pub mod message;
pub mod object;
pub mod payload;
mod projection;
mod secret;
pub mod spec;
mod template;
mod transparent;

pub use attribute::*;
pub use credential::*;
pub use crypto::*;
pub use downgrade::{described, downgraded};
pub use failure::{Cause, Failure};
pub use host::*;
pub use identifier::{UniqueIdentifier, UniqueIdentifiers};
pub use message::*;
pub use object::*;
pub use payload::*;
pub use secret::Secret;
pub use template::{TemplateAttribute, TemplateTags};
pub use transparent::*;

pub use keyferry_ttlv::{DateTime, DateTimeExtended, Enumeration, Interval, Text};
