//! Names of tags, types and values, as they are written and read.

use crate::dictionary::Dictionary;
use crate::name::normalized;
use crate::types::{Tag, Type};
use nom::bytes::complete::{tag, take_while_m_n};
use nom::combinator::{all_consuming, map_res};
use nom::sequence::preceded;
use nom::{IResult, Parser};
use std::string::String;

/// A name as it is written, where it can be told from everything else that may stand in its place.
fn written(name: &str) -> Option<String> {
    let name = normalized(name);
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (begins && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && name != "TTLV")
        .then_some(name)
}

// A name is written only where it leads back to what it stands for, so that no dictionary can make a message another one.

pub(super) fn of_tag(tag: Tag, dictionary: Option<&dyn Dictionary>) -> Option<String> {
    let dictionary = dictionary?;
    written(dictionary.tag_name(tag)?).filter(|name| dictionary.tag_named(name) == Some(tag))
}

pub(super) fn of_value(
    domain: Tag,
    value: u32,
    dictionary: Option<&dyn Dictionary>,
) -> Option<String> {
    let dictionary = dictionary?;
    written(dictionary.value_name(domain, value)?)
        .filter(|name| dictionary.value_named(domain, name) == Some(value))
}

pub(super) fn of_bit(domain: Tag, bit: u32, dictionary: Option<&dyn Dictionary>) -> Option<String> {
    let dictionary = dictionary?;
    written(dictionary.bit_name(domain, bit)?)
        .filter(|name| dictionary.bit_named(domain, name) == Some(bit))
}

/// The tag of this name, or with this number.
pub(crate) fn tag_of(text: &str, dictionary: Option<&dyn Dictionary>) -> Option<Tag> {
    match prefixed(text, 6, 6) {
        Some(number) => Some(Tag::new(number as u32)),
        None => dictionary.and_then(|dictionary| dictionary.tag_named(text)),
    }
}

/// The name of a type (§4.1.4; DateTimeExtended since KMIP 2.0).
pub(super) const fn of_type(ty: Type) -> &'static str {
    match ty {
        Type::Structure => "Structure",
        Type::Integer => "Integer",
        Type::LongInteger => "LongInteger",
        Type::BigInteger => "BigInteger",
        Type::Enumeration => "Enumeration",
        Type::Boolean => "Boolean",
        Type::TextString => "TextString",
        Type::ByteString => "ByteString",
        Type::DateTime => "DateTime",
        Type::Interval => "Interval",
        Type::DateTimeExtended => "DateTimeExtended",
    }
}

/// The type of this name.
pub(crate) fn type_named(name: &str) -> Option<Type> {
    (1..)
        .map_while(Type::from_number)
        .find(|ty| of_type(*ty) == name)
}

/// The number behind a `0x`, of so many digits.
pub(super) fn prefixed(text: &str, least: usize, most: usize) -> Option<u64> {
    let digits = take_while_m_n(least, most, |c: char| c.is_ascii_hexdigit());
    let parsed: IResult<&str, u64> = all_consuming(preceded(
        tag("0x"),
        map_res(digits, |digits| u64::from_str_radix(digits, 16)),
    ))
    .parse(text);
    parsed.ok().map(|(_, number)| number)
}
