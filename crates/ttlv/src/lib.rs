//! The KMIP wire encoding: tag, type, length, value
#![cfg_attr(not(feature = "std"), no_std)]
extern crate alloc;

mod error;
mod frame;
mod types;

pub use error::{Error, ErrorKind, Result};
pub use frame::{Frame, Framer};
pub use types::{Tag, Type, Version};

/// Gives tags and values their names, for messages to people. The codec itself knows none.
pub trait Dictionary: Send + Sync {
    /// The name of a tag.
    fn tag_name(&self, tag: Tag) -> Option<&'static str>;
    /// The name of an enumeration value under a tag.
    fn value_name(&self, tag: Tag, value: u32) -> Option<&'static str>;
}
