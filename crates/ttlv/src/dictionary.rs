//! [`Dictionary`], the interface through which names of tags and values come in. The codec knows none itself.

use crate::types::Tag;

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
