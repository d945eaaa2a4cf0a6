//! The little of DER that key formats take: reading and writing elements of definite length.

use zeroize::Zeroizing;

/// The tag of an INTEGER.
pub const INTEGER: u8 = 0x02;
/// The tag of a BIT STRING.
pub const BIT_STRING: u8 = 0x03;
/// The tag of an OCTET STRING.
pub const OCTET_STRING: u8 = 0x04;
/// The tag of an OBJECT IDENTIFIER.
pub const OBJECT_IDENTIFIER: u8 = 0x06;
/// The tag of a NULL.
pub const NULL: u8 = 0x05;
/// The tag of a SEQUENCE.
pub const SEQUENCE: u8 = 0x30;

/// An explicit, constructed context tag.
pub const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// An element with these parts as its contents.
pub fn element(tag: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Zeroizing::new(Vec::with_capacity(length + 10));
    out.push(tag);
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let zeroes = bytes.iter().take_while(|byte| **byte == 0).count();
        out.push(0x80 | (bytes.len() - zeroes) as u8);
        out.extend(bytes.iter().skip(zeroes));
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// Takes an element with this tag off the front: its contents, and what follows it.
pub fn take(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        // Up to four bytes of length, the fewest that it takes.
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(*length & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0usize, |length, byte| length << 8 | usize::from(*byte));
            if bytes.first() == Some(&0) || length < 0x80 {
                return None;
            }
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let contents = vec![7; length];
            let mut bytes = element(OCTET_STRING, &[&contents]).to_vec();
            bytes.push(9);
            assert_eq!(take(OCTET_STRING, &bytes), Some((&contents[..], &[9][..])));
            assert_eq!(take(SEQUENCE, &bytes), None);
            assert_eq!(take(OCTET_STRING, &bytes[..bytes.len() - 2]), None);
        }
        assert_eq!(
            element(SEQUENCE, &[&[0; 200], &[0; 100]])[..4],
            [0x30, 0x82, 0x01, 0x2c]
        );
    }
}
