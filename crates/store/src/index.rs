//! This module computes the index keys of a record, and encodes values as order-preserving bytes.

use crate::contract::{Index, IndexKey, Span};
use crate::error::Result;
use crate::record::{ObjectId, Record};
use keyferry_kmip::spec::{AttributeValue, ObjectType, State, tag};
use keyferry_kmip::{DateTime, Text};
use keyferry_ttlv::{Tag, Value};
use sha2::{Digest as _, Sha256};

/// The index of local Unique Identifiers.
pub const IDENTIFIER: Index = Index(1);
/// The index of object ids, for objects whose local identifier differs from the one in the id; the others are found by that.
pub const OBJECT_ID: Index = Index(2);
/// The index of Names.
pub const NAME: Index = Index(3);
/// The index of Object Groups.
pub const OBJECT_GROUP: Index = Index(4);
/// The index of Object Types.
pub const OBJECT_TYPE: Index = Index(5);
/// The index of stored States, without regard to dates that have passed.
pub const STATE: Index = Index(6);
/// The index of dates, each by its tag.
pub const DATE: Index = Index(7);
/// The index of custom attributes.
pub const CUSTOM: Index = Index(8);
/// The index of fingerprints of compromised material.
pub const COMPROMISED: Index = Index(9);

/// The index of the times at which a date moves an object on from its stored State.
pub const DUE: Index = Index(10);

/// The index of fingerprints of keys and secrets, whatever their State.
pub const FINGERPRINT: Index = Index(11);

/// The longest text, in bytes, that a key holds as a whole.
const WHOLE: usize = 200;

/// Appends a text with an end mark, so that no key is the beginning of another. A long text is cut and followed by its digest.
fn push_text(key: &mut Vec<u8>, text: &str) {
    let (shown, long) = match text.as_bytes().get(..WHOLE) {
        Some(start) if text.len() > WHOLE => (start, true),
        _ => (text.as_bytes(), false),
    };
    for byte in shown {
        key.push(*byte);
        if *byte == 0 {
            key.push(0xFF);
        }
    }
    key.extend_from_slice(&[0, u8::from(long)]);
    if long {
        key.extend(Sha256::digest(text.as_bytes()).iter().take(16));
    }
}

fn text_key(index: Index, text: &str) -> IndexKey {
    let mut key = Vec::with_capacity(text.len().min(WHOLE) + 18);
    push_text(&mut key, text);
    IndexKey {
        index,
        key: key.into(),
    }
}

fn signed(value: i64) -> [u8; 8] {
    (value.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// The key of a Unique Identifier. A UUID in its usual form, which most are, takes 17 bytes.
pub fn identifier(identifier: &str) -> IndexKey {
    match uuid(identifier) {
        // No text begins with this byte.
        Some(uuid) => IndexKey {
            index: IDENTIFIER,
            key: std::iter::once(0xFF).chain(uuid).collect(),
        },
        None => identifier_as_text(identifier),
    }
}

/// The key of a Unique Identifier that is no UUID; in schema version 1, of any Unique Identifier.
pub(crate) fn identifier_as_text(identifier: &str) -> IndexKey {
    text_key(IDENTIFIER, identifier)
}

/// The bytes of a UUID that is written as 8-4-4-4-12 lower-case hexadecimal digits; `None` for any other text.
fn uuid(text: &str) -> Option<[u8; 16]> {
    if text.len() != 36 {
        return None;
    }
    let mut bytes = [0; 16];
    let mut digits = 0;
    for (place, character) in text.bytes().enumerate() {
        let digit = match character {
            b'-' if matches!(place, 8 | 13 | 18 | 23) => continue,
            b'0'..=b'9' => character - b'0',
            b'a'..=b'f' => character - b'a' + 10,
            _ => return None,
        };
        let byte = bytes.get_mut(digits / 2)?;
        *byte = *byte << 4 | digit;
        digits += 1;
    }
    (digits == 32).then_some(bytes)
}

/// The key of an object id.
///
/// # Errors
/// None in practice.
pub fn object_id(id: &ObjectId) -> Result<IndexKey> {
    let digest = Sha256::digest(id.encoded()?);
    Ok(IndexKey {
        index: OBJECT_ID,
        key: digest.iter().take(16).copied().collect(),
    })
}

/// The key of a Name.
pub fn name(value: &str) -> IndexKey {
    text_key(NAME, value)
}

/// The key of an Object Group.
pub fn object_group(value: &str) -> IndexKey {
    text_key(OBJECT_GROUP, value)
}

/// The key of an Object Type.
pub fn object_type(object_type: ObjectType) -> IndexKey {
    IndexKey {
        index: OBJECT_TYPE,
        key: object_type.0.to_be_bytes().into(),
    }
}

/// The key of a stored State.
pub fn state(state: State) -> IndexKey {
    IndexKey {
        index: STATE,
        key: state.0.to_be_bytes().into(),
    }
}

/// The key of a date.
pub fn date(tag: Tag, date: DateTime) -> IndexKey {
    let mut key = Vec::with_capacity(12);
    key.extend_from_slice(&tag.number().to_be_bytes());
    key.extend_from_slice(&signed(date.0));
    IndexKey {
        index: DATE,
        key: key.into(),
    }
}

/// The key of a custom attribute; `None` when its value cannot be looked for, which is anything but a text, a number, a date, a
/// Boolean or an enumeration.
pub fn custom(vendor: &Text, name: &Text, value: &Value) -> Option<IndexKey> {
    let mut key = Vec::new();
    push_text(&mut key, vendor);
    push_text(&mut key, name);
    key.push(value.ty() as u8);
    match value {
        Value::Text(text) => push_text(&mut key, text),
        Value::Integer(n) => key.extend_from_slice(&signed((*n).into())),
        Value::LongInteger(n) => key.extend_from_slice(&signed(*n)),
        Value::DateTime(date) => key.extend_from_slice(&signed(date.0)),
        Value::Enumeration(n) => key.extend_from_slice(&n.to_be_bytes()),
        Value::Boolean(b) => key.push(u8::from(*b)),
        _ => return None,
    }
    // Vendor and name may be long on their own.
    if key.len() > 500 {
        let digest = Sha256::digest(&key);
        key.truncate(480);
        key.extend(digest.iter().take(16));
    }
    Some(IndexKey {
        index: CUSTOM,
        key: key.into(),
    })
}

/// The key of the fingerprint of compromised material.
pub fn compromised(fingerprint: &[u8]) -> IndexKey {
    IndexKey {
        index: COMPROMISED,
        key: fingerprint.iter().take(64).copied().collect(),
    }
}

/// The key of the fingerprint of a key or secret.
pub fn fingerprint(fingerprint: &[u8]) -> IndexKey {
    IndexKey {
        index: FINGERPRINT,
        key: fingerprint.iter().take(64).copied().collect(),
    }
}

/// Whether an object of this type has an entry in the index of fingerprints: it may be a secret that nobody has by chance.
pub fn may_be_secret(object_type: ObjectType) -> bool {
    matches!(
        object_type,
        ObjectType::SYMMETRIC_KEY
            | ObjectType::PRIVATE_KEY
            | ObjectType::SPLIT_KEY
            | ObjectType::SECRET_DATA
    )
}

/// The key of a record in the index of fingerprints, if it has one. A copy that was withdrawn has none.
pub(crate) fn fingerprint_of(record: &Record) -> Option<IndexKey> {
    let known = record.fingerprint.as_deref()?;
    (may_be_secret(record.object_type) && !record.is_withdrawn()).then(|| fingerprint(known))
}

/// The span of Names that begin with `start`; `None` when `start` is empty or too long.
pub(crate) fn name_prefix(start: &str) -> Option<Span> {
    if start.is_empty() || start.len() > WHOLE {
        return None;
    }
    let mut key = Vec::with_capacity(start.len() + 2);
    push_text(&mut key, start);
    key.truncate(key.len() - 2);
    Some(Span::prefix(&key))
}

/// The key of the date that will move a record on from its stored State (transitions 4 and 6), if there is one.
pub(crate) fn due(record: &Record) -> Option<IndexKey> {
    let date = match record.stored_state()? {
        State::PRE_ACTIVE => record.attributes.date(tag::ACTIVATION_DATE),
        State::ACTIVE => record.attributes.date(tag::DEACTIVATION_DATE),
        _ => None,
    };
    date.map(|date| IndexKey {
        index: DUE,
        key: signed(date.0).into(),
    })
}

/// The span of the records whose date has come at the time `now`.
pub fn due_until(now: DateTime) -> Span {
    Span {
        from: Vec::new(),
        to: now.0.checked_add(1).map(|end| signed(end).to_vec()),
    }
}

/// All index keys of a record, sorted and without duplicates.
///
/// # Errors
/// None in practice.
pub fn keys(record: &Record) -> Result<Vec<IndexKey>> {
    if record.is_withdrawn() {
        let compromised = record
            .fingerprint
            .as_deref()
            .filter(|_| record.is_compromised())
            .map(compromised);
        let mut keys: Vec<IndexKey> = [object_id(&record.id)?]
            .into_iter()
            .chain(compromised)
            .collect();
        keys.sort_unstable();
        return Ok(keys);
    }
    let mut keys = vec![
        identifier(&record.identifier),
        object_type(record.object_type),
    ];
    if record.identifier != record.id.identifier {
        keys.push(object_id(&record.id)?);
    }
    keys.extend(
        record
            .fingerprint
            .as_deref()
            .filter(|_| record.is_compromised())
            .map(compromised),
    );
    keys.extend(record.stored_state().map(state));
    keys.extend(due(record));
    keys.extend(fingerprint_of(record));
    for attribute in record.client_attributes() {
        match &attribute.value {
            AttributeValue::Name(value) => keys.push(name(&value.value)),
            AttributeValue::ObjectGroup(group) => keys.push(object_group(group)),
            AttributeValue::Custom(attribute) => {
                keys.extend(
                    attribute
                        .value
                        .as_ref()
                        .and_then(|value| custom(&attribute.vendor, &attribute.name, value)),
                );
            }
            value => keys.extend(value.date().map(|at| date(value.tag(), at))),
        }
    }
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_short_and_no_two_identifiers_share_a_key() {
        let uuid = "0123abcd-4567-89ef-0011-223344556677";
        assert_eq!(identifier(uuid).key.len(), 17);
        let near = [
            "0123ABCD-4567-89ef-0011-223344556677",
            "0123abcd-4567-89ef-0011-22334455667",
            "0123abcd-4567-89ef-0011-2233445566777",
            "0123abcd045670890ef00110223344556677",
            "0123abcd-4567-89ef-001-1223344556677",
            "0123abcd-4567-89ef-0011-22334455667g",
            "------------------------------------",
            "00000000000000000000000000000000\u{e9}\u{e9}",
            "1123abcd-4567-89ef-0011-223344556677",
            "",
        ];
        let mut keys: Vec<_> = near
            .iter()
            .copied()
            .chain([uuid])
            .map(|text| identifier(text).key)
            .collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), near.len() + 1);
    }
}
