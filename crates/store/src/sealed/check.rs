//! This module makes the check row of a record: keyed hashes of all that belongs to it, bound to its number.

use super::keys::{CHECK, Key, PREFIX, Tag};
use crate::contract::RecordNumber;
use crate::contract::Span;
use crate::error::{Error, ErrorKind};
use keyferry_kmip::Crypto;
use std::fmt;

/// The error of something about a record that does not fit.
pub(super) fn corrupt(number: RecordNumber, what: impl fmt::Display) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format_args!("record {}: {what}", number.0),
    )
    .about_record(number.0)
}

/// Bytes in hexadecimal digits, for an error.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The state key of the check row of a record.
pub(super) fn name(number: u64) -> Vec<u8> {
    [PREFIX, &[CHECK], &number.to_be_bytes()].concat()
}

/// The record number in the state key of a check row.
pub(super) fn number(name: &[u8]) -> Option<u64> {
    let number = name.strip_prefix(PREFIX)?.strip_prefix(&[CHECK])?;
    number.try_into().ok().map(u64::from_be_bytes)
}

/// The check rows of the records from `from` (included) to `to` (excluded, or without an end).
pub(super) fn span(from: u64, to: Option<u64>) -> Span {
    Span {
        from: name(from),
        to: Some(to.map_or_else(|| [PREFIX, &[CHECK + 1]].concat(), name)),
    }
}

/// The check row of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// Whether the attributes are sealed.
    pub(super) is_sealed: bool,
    /// The number of the data key.
    pub(super) key: u32,
    /// The hash of the record and of the rest of this row.
    record: Tag,
    /// The hash of the feed entry.
    entry: Tag,
    /// The tag of the sealed key material, if there is any.
    pub(super) material: Option<Tag>,
}

/// A record as it stands in the wrapped store.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) number: RecordNumber,
    pub(super) id: &'a [u8],
    pub(super) attributes: &'a [u8],
    pub(super) is_sealed: bool,
    pub(super) material: Option<Tag>,
}

fn entry_tag(crypto: &dyn Crypto, key: &Key, number: RecordNumber, entry: &[u8]) -> Tag {
    key.tag(crypto, &[b"entry", &number.0.to_be_bytes(), entry])
}

fn record_tag(crypto: &dyn Crypto, key: &Key, stored: Stored<'_>, entry: &Tag) -> Tag {
    let length = |bytes: &[u8]| (bytes.len() as u64).to_be_bytes();
    let material = stored.material.unwrap_or_default();
    key.tag(
        crypto,
        &[
            b"record",
            &[
                u8::from(stored.is_sealed),
                u8::from(stored.material.is_some()),
            ],
            &stored.number.0.to_be_bytes(),
            entry,
            &material,
            &length(stored.id),
            stored.id,
            stored.attributes,
        ],
    )
}

impl Check {
    /// The check row of a record under the data key `key`.
    pub(super) fn new(
        crypto: &dyn Crypto,
        (number, key): (u32, &Key),
        stored: Stored<'_>,
        entry: &[u8],
    ) -> Check {
        let entry = entry_tag(crypto, key, stored.number, entry);
        Check {
            is_sealed: stored.is_sealed,
            key: number,
            record: record_tag(crypto, key, stored, &entry),
            entry,
            material: stored.material,
        }
    }

    /// Whether this is the check row of a record, given its stored object id and attributes.
    pub(super) fn fits(
        &self,
        crypto: &dyn Crypto,
        key: &Key,
        number: RecordNumber,
        (id, attributes): (&[u8], &[u8]),
    ) -> bool {
        let stored = Stored {
            number,
            id,
            attributes,
            is_sealed: self.is_sealed,
            material: self.material,
        };
        record_tag(crypto, key, stored, &self.entry) == self.record
    }

    /// Whether this is the check row of the record that has this feed entry.
    pub(super) fn fits_entry(
        &self,
        crypto: &dyn Crypto,
        key: &Key,
        number: RecordNumber,
        entry: &[u8],
    ) -> bool {
        entry_tag(crypto, key, number, entry) == self.entry
    }

    /// Encodes the row.
    pub(super) fn encoded(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + 4 + 3 * 16);
        bytes.push(1 + u8::from(self.is_sealed));
        bytes.extend_from_slice(&self.key.to_be_bytes());
        bytes.extend_from_slice(&self.record);
        bytes.extend_from_slice(&self.entry);
        bytes.extend(self.material.iter().flatten());
        bytes
    }

    /// Decodes a row; `None` when it is none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Check> {
        let (form, rest) = bytes.split_first()?;
        let (key, rest) = rest.split_first_chunk()?;
        let (record, rest) = rest.split_first_chunk()?;
        let (entry, material) = rest.split_first_chunk()?;
        Some(Check {
            is_sealed: match form {
                1 => false,
                2 => true,
                _ => return None,
            },
            key: u32::from_be_bytes(*key),
            record: *record,
            entry: *entry,
            material: match material {
                [] => None,
                tag => Some(tag.try_into().ok()?),
            },
        })
    }
}
