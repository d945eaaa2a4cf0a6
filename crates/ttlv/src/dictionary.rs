//! [`Dictionary`], the interface through which names of tags and values come in. The codec knows none itself.

use crate::types::Tag;

/// The names of tags and values, for error messages and for the text forms. The codec itself knows none.
///
/// # Contract
/// A name is found in the standard's form and in that of XML and JSON: `Activation Date` and `ActivationDate`. A name that several tags or
/// values share always leads to the same one of them.
pub trait Dictionary: Send + Sync {
    /// The name of a tag.
    fn tag_name(&self, tag: Tag) -> Option<&'static str>;
    /// The name of an enumeration value under a tag.
    fn value_name(&self, tag: Tag, value: u32) -> Option<&'static str>;
    /// The name of one bit of an Integer that is a mask under this tag.
    fn bit_name(&self, tag: Tag, bit: u32) -> Option<&'static str>;
    /// The tag that has this name.
    fn tag_named(&self, name: &str) -> Option<Tag>;
    /// The enumeration value that has this name under a tag. By default no value has a name.
    fn value_named(&self, _tag: Tag, _name: &str) -> Option<u32> {
        None
    }
    /// The bit that has this name in an Integer that is a mask under this tag. By default no bit has a name.
    fn bit_named(&self, _tag: Tag, _name: &str) -> Option<u32> {
        None
    }
    /// Two tags, of which the text of the first names the values of the second: Attribute Name and Attribute Value (KMIP 1.4 §2.1.1, since
    /// 1.0).
    fn attribute_tags(&self) -> Option<(Tag, Tag)> {
        None
    }
}
