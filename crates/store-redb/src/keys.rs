//! This module encodes index entries, and orders them for redb.

use redb::{Key, TypeName, Value};
use std::borrow::Cow;
use std::cmp::Ordering;

/// An index entry: the index in one byte, the key, and the record number in eight big-endian bytes.
///
/// Entries sort by (index, key, number). The order of plain bytes would be wrong: where one key is a prefix of another, it would
/// compare the number of the first with the rest of the second.
#[derive(Debug)]
pub(crate) struct Entry;

const NUMBER: usize = 8;

fn split(entry: &[u8]) -> (&[u8], &[u8]) {
    entry.split_at(entry.len().saturating_sub(NUMBER))
}

/// The index, key and number of an entry; `None` when it is too short to be one.
pub(crate) fn parts(entry: &[u8]) -> Option<(u8, &[u8], u64)> {
    let (rest, number) = entry
        .split_last_chunk::<NUMBER>()
        .map(|(rest, number)| (rest, u64::from_be_bytes(*number)))?;
    let (index, key) = rest.split_first()?;
    Some((*index, key, number))
}

/// Appends an entry to `to`.
pub(crate) fn append(to: &mut Vec<u8>, index: u8, key: &[u8], number: u64) {
    to.push(index);
    to.extend_from_slice(key);
    to.extend_from_slice(&number.to_be_bytes());
}

/// Encodes one entry.
pub(crate) fn entry(index: u8, key: &[u8], number: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + key.len() + NUMBER);
    append(&mut bytes, index, key, number);
    bytes
}

/// Orders two entries.
pub(crate) fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let ((left, left_number), (right, right_number)) = (split(left), split(right));
    left.cmp(right).then_with(|| left_number.cmp(right_number))
}

impl Value for Entry {
    type SelfType<'a> = &'a [u8];
    type AsBytes<'a> = &'a [u8];

    fn fixed_width() -> Option<usize> {
        None
    }

    fn from_bytes<'a>(data: &'a [u8]) -> &'a [u8]
    where
        Self: 'a,
    {
        data
    }

    fn as_bytes<'a, 'b: 'a>(value: &'a Self::SelfType<'b>) -> &'a [u8]
    where
        Self: 'b,
    {
        value
    }

    fn type_name() -> TypeName {
        TypeName::new("keyferry::IndexEntry")
    }
}

impl Key for Entry {
    fn compare(left: &[u8], right: &[u8]) -> Ordering {
        compare(left, right)
    }

    fn separator<'a>(left: &'a [u8], right: &'a [u8]) -> Cow<'a, [u8]> {
        let ((left_key, _), (right_key, _)) = (split(left), split(right));
        let common = left_key
            .iter()
            .zip(right_key)
            .take_while(|(l, r)| l == r)
            .count();
        // What both keys share, and one more byte of the right one: this is above the left key and not above the right one.
        match right_key.get(..=common) {
            Some(shortest)
                if shortest.len() < right_key.len() && shortest.len() < left_key.len() =>
            {
                let mut separator = Vec::with_capacity(shortest.len() + NUMBER);
                separator.extend_from_slice(shortest);
                separator.extend_from_slice(&[0; NUMBER]);
                Cow::Owned(separator)
            }
            _ => Cow::Borrowed(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_sort_by_index_key_and_number() {
        let keys: [&[u8]; 9] = [
            b"",
            b"\0",
            b"\0\0",
            b"a",
            b"a\0",
            b"a\0\0\0\0\0\0\0\x01",
            b"ab",
            b"abc",
            b"b",
        ];
        let mut entries = Vec::new();
        for index in [1, 2, 255] {
            for key in keys {
                for number in [1, 2, u64::MAX] {
                    entries.push(entry(index, key, number));
                }
            }
        }
        for (i, left) in entries.iter().enumerate() {
            assert_eq!(
                parts(left)
                    .map(|(index, key, number)| entry(index, key, number))
                    .as_ref(),
                Some(left)
            );
            for (j, right) in entries.iter().enumerate() {
                assert_eq!(compare(left, right), i.cmp(&j), "{left:?} and {right:?}");
                if i < j {
                    let separator = Entry::separator(left, right);
                    assert!(
                        compare(left, &separator).is_le(),
                        "{left:?} {separator:?} {right:?}"
                    );
                    assert!(
                        compare(&separator, right).is_lt(),
                        "{left:?} {separator:?} {right:?}"
                    );
                    assert!(separator.len() <= left.len());
                }
            }
        }
    }

    #[test]
    fn short_entries_are_refused_not_trusted() {
        for length in 0..9 {
            assert_eq!(parts(&vec![0; length]), None);
            assert!(compare(&vec![0; length], &[0; 20]).is_lt());
        }
    }
}
