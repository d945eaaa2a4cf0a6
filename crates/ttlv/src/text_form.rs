//! What the forms of a message for people have in common: names, hexadecimal, dates.

#[cfg(any(feature = "inspect", feature = "xml", feature = "json"))]
use crate::dictionary::Dictionary;
#[cfg(any(feature = "inspect", feature = "xml", feature = "json"))]
use crate::types::Tag;
use std::vec::Vec;
use zeroize::Zeroizing;

#[cfg(any(feature = "xml", feature = "json", feature = "serde"))]
pub(crate) mod date;
#[cfg(any(feature = "xml", feature = "json"))]
pub(crate) mod name;
#[cfg(any(feature = "xml", feature = "json"))]
pub(crate) mod read;
#[cfg(any(feature = "xml", feature = "json"))]
pub(crate) mod write;

/// The tags that name the values of one structure: an Attribute Value is what the Attribute Name before it says.
#[cfg(any(feature = "inspect", feature = "xml", feature = "json"))]
#[derive(Clone, Copy, Default)]
pub(crate) struct Scope(Option<Tag>);

#[cfg(any(feature = "inspect", feature = "xml", feature = "json"))]
impl Scope {
    /// The tag whose names a value under `tag` takes.
    pub(crate) fn domain(self, tag: Tag, dictionary: Option<&dyn Dictionary>) -> Tag {
        let attribute = dictionary.and_then(|dictionary| dictionary.attribute_tags());
        self.0
            .filter(|_| attribute.is_some_and(|(_, value)| value == tag))
            .unwrap_or(tag)
    }

    /// Takes note of a text under `tag`.
    pub(crate) fn note(&mut self, tag: Tag, text: &str, dictionary: Option<&dyn Dictionary>) {
        let Some(dictionary) = dictionary else { return };
        if dictionary
            .attribute_tags()
            .is_some_and(|(name, _)| name == tag)
        {
            self.0 = dictionary.tag_named(text);
        }
    }
}

/// The bits that are set in a mask, lowest first.
#[cfg(any(feature = "inspect", feature = "xml", feature = "json"))]
pub(crate) fn bits(mask: i32) -> impl Iterator<Item = u32> {
    (0..32)
        .map(|n| 1u32 << n)
        .filter(move |bit| mask.cast_unsigned() & bit != 0)
}

/// Two digits a byte, in lower case.
pub(crate) fn hex(bytes: &[u8]) -> impl Iterator<Item = char> {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
}

/// The bytes that an even number of digits stands for.
pub(crate) fn unhex(digits: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(pairs.len()));
    for [high, low] in pairs {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        bytes.push((digit(*high)? << 4 | digit(*low)?) as u8);
    }
    Some(bytes)
}
