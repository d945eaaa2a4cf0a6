//! This module checks the attributes of an object that comes in, by whichever operation.

use crate::node::Node;
use keyferry_kmip::spec::{AttributeValue, HashingAlgorithm, KeyFormatType, tag};
use keyferry_kmip::{Attributes, Cause, Failure, Object};

/// Fails when an attribute that has one value is given several, when a custom attribute is nested too deeply, and when the attributes claim what only
/// the server's own map of other servers may say (those named `x-s2s-…`).
pub(crate) fn check_attributes(attributes: &Attributes) -> Result<(), Failure> {
    for (n, attribute) in attributes.iter().enumerate() {
        let value = &attribute.value;
        if matches!(value, AttributeValue::Custom(custom) if custom.vendor == "x" && custom.name.starts_with("s2s-"))
        {
            return Err(Failure::new(
                Cause::ReadOnlyAttribute,
                "attributes x-s2s-... show what the server knows of other servers",
            ));
        }
        if matches!(value, AttributeValue::Custom(custom) if custom.is_nested()) {
            return Err(Failure::new(
                Cause::InvalidAttribute,
                "a custom attribute may be a structure of values, and no deeper one",
            ));
        }
        if !value.may_repeat()
            && attributes
                .iter()
                .take(n)
                .any(|earlier| earlier.value.is_same_attribute(value))
        {
            return Err(Failure::new(
                Cause::InvalidAttribute,
                format_args!("{} is given more than once", value.reference()),
            ));
        }
    }
    Ok(())
}

/// Fails when the material is not what its Digest says ([rule 15](crate::design#rule-15)).
pub(crate) fn check_digest(
    node: &Node,
    attributes: &Attributes,
    object: Option<&Object>,
) -> Result<(), Failure> {
    let Some(object) = object else { return Ok(()) };
    let Some(bytes) = object.digestible() else {
        return Ok(());
    };
    let format = object
        .key_block()
        .map_or(KeyFormatType::RAW, |block| block.key_format_type);
    for value in attributes.all(tag::DIGEST) {
        if let AttributeValue::Digest(digest) = value
            && digest.hashing_algorithm == HashingAlgorithm::SHA_256
            && digest.key_format_type == Some(format)
            && digest
                .value
                .as_ref()
                .is_some_and(|told| **told != node.crypto.sha256(&[bytes]))
        {
            return Err(Failure::new(
                Cause::InvalidMessage,
                "the material is not what the Digest says",
            ));
        }
    }
    Ok(())
}
