//! The facts of the standard, one row each: tags, enumeration values, mask bits, attributes and their rules, with the versions that have
//! them. No other module of the workspace knows such a number, name or version.

use keyferry_ttlv::Tag;

pub(crate) mod attribute;
pub(crate) mod attribute_by_name;
mod attribute_name;
mod attribute_rule;
pub(crate) mod domain;
pub(crate) mod enumeration;
pub(crate) mod mask;
pub(crate) mod names;
pub mod tag;
#[cfg(feature = "serde")]
pub(crate) mod tag_form;
mod tag_row;
pub(crate) mod versions;

pub use attribute::{AttributeRow, AttributeValue};
pub use attribute_rule::{ChangeRule, ObjectKinds, SetBy};
pub use domain::{Domain, ValueRow};
pub use enumeration::*;
pub use mask::*;
pub use names::Names;
pub use tag_row::TagRow;
pub use versions::{V3_0, Versions};

/// The row of a tag.
pub fn tag_row(tag: Tag) -> Option<&'static TagRow> {
    tag::ROWS
        .binary_search_by_key(&tag, |row| row.tag)
        .ok()
        .and_then(|i| tag::ROWS.get(i))
}

/// A tag by its name in the standard.
pub fn tag_named(name: &str) -> Option<Tag> {
    static BY_NAME: std::sync::OnceLock<std::collections::HashMap<&'static str, Tag>> =
        std::sync::OnceLock::new();
    BY_NAME
        .get_or_init(|| tag::ROWS.iter().map(|row| (row.name, row.tag)).collect())
        .get(name)
        .copied()
}

/// All enumerations.
pub fn enumeration_domains() -> impl Iterator<Item = &'static Domain> {
    enumeration::GROUPS.iter().flat_map(|group| group.iter())
}

/// All masks.
pub fn mask_domains() -> impl Iterator<Item = &'static Domain> {
    mask::DOMAINS.iter()
}

/// The row of an attribute by its tag.
pub fn attribute_row(tag: Tag) -> Option<&'static AttributeRow> {
    attribute::row(tag)
}

/// The row of an attribute by its name.
pub(crate) fn attribute_row_named(name: &str) -> Option<&'static AttributeRow> {
    tag_named(name).and_then(attribute_row)
}

/// The rows of all attributes.
pub fn attribute_rows() -> &'static [AttributeRow] {
    attribute::ROWS
}

/// Whether what stands under a tag is key material or another secret, which nobody shows unasked.
pub fn is_secret(tag: Tag) -> bool {
    const SECRETS: &[Tag] = &[
        tag::KEY_MATERIAL,
        tag::KEY_VALUE,
        tag::KEY,
        tag::D,
        tag::J,
        tag::P,
        tag::Q,
        tag::X,
        tag::PRIME_EXPONENT_P,
        tag::PRIME_EXPONENT_Q,
        tag::CRT_COEFFICIENT,
        tag::PRIVATE_EXPONENT,
        tag::OPAQUE_DATA_VALUE,
        tag::DERIVATION_DATA,
        tag::DATA,
        tag::PASSWORD,
        tag::ONE_TIME_PASSWORD,
        tag::HASHED_PASSWORD,
        tag::SERVER_HASHED_PASSWORD,
        tag::SALTED_PASSWORD,
        tag::HASHED_USERNAME_PASSWORD,
        tag::HASHED_PASSWORD_USERNAME,
        tag::TICKET_VALUE,
        tag::OTP_SEED,
        crate::extension::FINGERPRINT_KEY,
    ];
    SECRETS.contains(&tag)
}
