//! This module looks into stored attributes without decoding them: whether a Digest among them tells a guess, and the identifier.

use crate::index;
use keyferry_kmip::extension;
use keyferry_kmip::spec::{ObjectType, tag};

/// The length in bits below which a key can be found by trying all.
const SHORT: i32 = 112;

/// An item of the codec: its tag and its value.
type Item<'a> = (u32, &'a [u8]);

/// Takes the first item off.
fn first(bytes: &[u8]) -> Option<(Item<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    let [a, b, c, _, length @ ..] = *head;
    let length = u32::from_be_bytes(length) as usize;
    let (padded, rest) = rest.split_at_checked(length.checked_next_multiple_of(8)?)?;
    let tag = u32::from_be_bytes([0, a, b, c]);
    Some(((tag, padded.get(..length)?), rest))
}

/// The value of the first item of a structure that has this tag.
fn find(mut structure: &[u8], tag: u32) -> Option<&[u8]> {
    loop {
        let ((found, value), rest) = first(structure)?;
        if found == tag {
            return Some(value);
        }
        structure = rest;
    }
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// The items of a record, given its attributes.
fn record(attributes: &[u8]) -> Option<&[u8]> {
    match first(attributes)? {
        ((tag, record), []) if tag == extension::RECORD.number() => Some(record),
        _ => None,
    }
}

/// Whether these are the attributes of a record that surely has this key in the index of identifiers: no overlay can have withdrawn it.
pub(super) fn has_identifier(attributes: &[u8], key: &[u8]) -> bool {
    let items =
        record(attributes).filter(|record| find(record, extension::OVERLAY.number()).is_none());
    let identifier = items
        .and_then(|record| find(record, extension::LOCAL_IDENTIFIER.number()))
        .and_then(|text| std::str::from_utf8(text).ok());
    identifier.is_some_and(|identifier| *index::identifier(identifier).key == *key)
}

/// Whether these are the attributes of a record whose material may be guessed: a password or another Secret Data, an Opaque Object, a
/// short key, an object of a type that this build does not know.
pub(super) fn is_guessable(attributes: &[u8]) -> bool {
    let Some(record) = record(attributes) else {
        return false;
    };
    let Some(object_type) = find(record, tag::OBJECT_TYPE.number()).and_then(number) else {
        return false;
    };
    match ObjectType(object_type) {
        ObjectType::CERTIFICATE
        | ObjectType::CERTIFICATE_REQUEST
        | ObjectType::PUBLIC_KEY
        | ObjectType::PRIVATE_KEY
        | ObjectType::TEMPLATE => false,
        ObjectType::SYMMETRIC_KEY | ObjectType::SPLIT_KEY => {
            let length = find(record, tag::ATTRIBUTES.number())
                .and_then(|attributes| find(attributes, tag::CRYPTOGRAPHIC_LENGTH.number()))
                .and_then(number);
            length.is_none_or(|bits| bits.cast_signed() < SHORT)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::position::Incarnation;
    use crate::record::{ObjectId, Record};
    use crate::stamp::Stamp;
    use keyferry_kmip::Attributes;
    use keyferry_kmip::spec::AttributeValue;
    use keyferry_ttlv::Extra;

    fn record(object_type: ObjectType, bits: Option<i32>) -> Vec<u8> {
        let id = ObjectId {
            server: "s".into(),
            instance: vec![1; 16],
            identifier: "o".into(),
        };
        let attributes = bits.map(AttributeValue::CryptographicLength);
        let attributes = attributes.map_or(Attributes::new(), |bits| Attributes::new().with(bits));
        Record {
            identifier: id.identifier.clone(),
            stamp: Stamp::first(&id.server, Incarnation([1; 16])),
            id,
            owner: None,
            lineage: crate::lineage::Lineage::new(),
            object_type,
            attributes,
            overlay: None,
            fingerprint: None,
            lost: Vec::new(),
            extra: Extra::NONE,
        }
        .encoded()
        .unwrap()
    }

    #[test]
    fn what_can_be_guessed_is_told_by_type_and_length() {
        for (object_type, bits, expected) in [
            (ObjectType::SECRET_DATA, Some(256), true),
            (ObjectType::OPAQUE_OBJECT, None, true),
            (ObjectType(0x8000_0001), None, true),
            (ObjectType::SYMMETRIC_KEY, Some(256), false),
            (ObjectType::SYMMETRIC_KEY, Some(112), false),
            (ObjectType::SYMMETRIC_KEY, Some(111), true),
            (ObjectType::SPLIT_KEY, None, true),
            (ObjectType::PRIVATE_KEY, Some(256), false),
            (ObjectType::CERTIFICATE, None, false),
        ] {
            assert_eq!(
                is_guessable(&record(object_type, bits)),
                expected,
                "{object_type:?} {bits:?}"
            );
        }
    }

    #[test]
    fn an_identifier_is_found_unless_there_is_an_overlay() {
        let plain = record(ObjectType::SYMMETRIC_KEY, None);
        let (own, other) = (index::identifier("o"), index::identifier("p"));
        assert!(has_identifier(&plain, &own.key) && !has_identifier(&plain, &other.key));
        let mut withdrawn = Record::decode(&plain).unwrap();
        withdrawn.overlay = Some(Default::default());
        assert!(!has_identifier(&withdrawn.encoded().unwrap(), &own.key));
        assert!(!has_identifier(b"", &own.key));
    }

    #[test]
    fn bytes_that_are_no_record_are_nobodys() {
        let whole = record(ObjectType::SECRET_DATA, None);
        for end in 0..whole.len() {
            assert!(!is_guessable(&whole[..end]), "{end}");
        }
        assert!(!is_guessable(&[0xFF; 64]));
        assert!(!is_guessable(&[whole.as_slice(), &[0; 8]].concat()));
    }
}
