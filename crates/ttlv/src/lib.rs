//! The KMIP wire encoding (tag, type, length, value), without a single KMIP name in it.
//!
//! ```
//! use keyferry_ttlv::{Context, Framer, Item, Reader, Tag, Version, Writer};
//!
//! let mut w = Writer::new(Context::new(Version::V2_1));
//! w.structure(Tag::new(0x420069), |w| {
//!     w.integer(Tag::new(0x42006A), 2);
//!     w.integer(Tag::new(0x42006B), 1);
//!     Ok(())
//! })?;
//! let message = w.finish();
//!
//! let r = Reader::new(&message, Context::new(Version::V2_1));
//! let mut fields = r.children(Item::parse(&message)?)?;
//! assert_eq!(fields.next(&r)?.map(|item| item.integer(&r)).transpose()?, Some(2));
//! # Ok::<(), keyferry_ttlv::Error>(())
//! ```
//!
//! [`Item`] borrows from the message, for people who only look. [`Decode`] and [`Encode`] make owned types of it; the derive of the
//! same names writes them for structures and choices. [`Framer`] cuts a stream into messages and does no input or output.
//!
//! Strict both ways: wrong lengths, non-zero padding, other Booleans than 0 and 1 and texts that are not UTF-8 are errors which say the
//! byte and the path of tags; a field that the version to encode for lacks is one too. Unknown fields are kept and written back.
//!
//! XML and JSON are renderings of the same items, both ways: the modules `xml` and `json`, behind the features of these names.
//!
//! It opens no connection, and knows no tag by name: a [`Dictionary`] brings names for errors and for the text forms.
//!
//! Features: `std` (default; without it the crate needs `alloc` alone), `derive` (default), `inspect` (the forgiving reader), `xml`, `json`.
#![cfg_attr(not(feature = "std"), no_std)]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod codec;
mod error;
mod frame;
#[cfg(feature = "inspect")]
pub mod inspect;
mod item;
#[cfg(feature = "json")]
pub mod json;
mod name;
mod text;
#[cfg(any(feature = "inspect", feature = "xml", feature = "json"))]
mod text_form;
mod types;
mod writer;
#[cfg(feature = "xml")]
pub mod xml;

pub use codec::{
    Choice, Context, DateTime, DateTimeExtended, Decode, Encode, Enumeration, Extra, Group, Interval, Lenient, Limits, Raw,
    Tagged, Value, decode, encode,
};
pub use error::{Error, ErrorKind, Result};
pub use frame::{Frame, Framer};
pub use item::{Children, Item, Reader};
#[cfg(feature = "derive")]
pub use keyferry_ttlv_derive::{Decode, Encode};
pub use name::normalized;
pub use text::Text;
pub use types::{Tag, Type, Version};
pub use writer::Writer;

/// Gives tags and values their names, for messages to people and for the text forms. The codec itself knows none.
///
/// # Contract
/// What has a name is found by the standard's form of it and by the one of XML and JSON: `Activation Date` and `ActivationDate`. A name that
/// several have leads to one of them, always the same.
pub trait Dictionary: Send + Sync {
    /// The name of a tag.
    fn tag_name(&self, tag: Tag) -> Option<&'static str>;
    /// The name of an enumeration value under a tag.
    fn value_name(&self, tag: Tag, value: u32) -> Option<&'static str>;
    /// The name of one bit of an Integer that is a mask under this tag.
    fn bit_name(&self, tag: Tag, bit: u32) -> Option<&'static str>;
    /// The tag that has this name.
    fn tag_named(&self, name: &str) -> Option<Tag>;
    /// The enumeration value that has this name under a tag. None has, unless this says otherwise; so for what follows.
    fn value_named(&self, _tag: Tag, _name: &str) -> Option<u32> {
        None
    }
    /// The bit that has this name in an Integer that is a mask under this tag.
    fn bit_named(&self, _tag: Tag, _name: &str) -> Option<u32> {
        None
    }
    /// The tag whose text says what the value behind it is, and the tag of that value: Attribute Name and Attribute Value (KMIP 1.4 §2.1.1,
    /// since 1.0).
    fn attribute_tags(&self) -> Option<(Tag, Tag)> {
        None
    }
}

#[doc(hidden)]
pub mod __private {
    pub use alloc::vec::Vec;
}
