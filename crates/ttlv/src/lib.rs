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
//! It does not read XML or JSON yet, opens no connection, and knows no tag by name: a [`Dictionary`] brings names for errors.
//!
//! Features: `std` (default; without it the crate needs `alloc` alone), `derive` (default), `inspect` (the forgiving reader).
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
mod types;
mod writer;

pub use codec::{
    Choice, Context, DateTime, DateTimeExtended, Decode, Encode, Enumeration, Extra, Group, Interval, Limits, Raw, Tagged, Value,
    decode, encode,
};
pub use error::{Error, ErrorKind, Result};
pub use frame::{Frame, Framer};
pub use item::{Children, Item, Reader};
#[cfg(feature = "derive")]
pub use keyferry_ttlv_derive::{Decode, Encode};
pub use types::{Tag, Type, Version};
pub use writer::Writer;

/// Gives tags and values their names, for messages to people. The codec itself knows none.
pub trait Dictionary: Send + Sync {
    /// The name of a tag.
    fn tag_name(&self, tag: Tag) -> Option<&'static str>;
    /// The name of an enumeration value under a tag.
    fn value_name(&self, tag: Tag, value: u32) -> Option<&'static str>;
    /// The name of one bit of an Integer that is a mask under this tag.
    fn bit_name(&self, tag: Tag, bit: u32) -> Option<&'static str>;
    /// The tag that has this name: what an Attribute Value is, its Attribute Name says.
    fn tag_named(&self, name: &str) -> Option<Tag>;
}

#[doc(hidden)]
pub mod __private {
    pub use alloc::vec::Vec;
}
