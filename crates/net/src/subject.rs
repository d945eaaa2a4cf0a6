//! The subject of a certificate as a text that no other subject has, by RFC 4514.
//!
//! RFC 4514 leaves out how a value was encoded, so two subjects could share its text. Here the encoding is part of the text, as an option of
//! the attribute's type (RFC 4512 §2.5): `CN=shop` is a UTF8String, `CN;printable=shop` a PrintableString. From the text the subject can be
//! encoded again, byte for byte; a subject for which this does not hold is written in hexadecimal as a whole.

use keyferry_kmip::{der, is_printable};
use ring::digest::{SHA256, digest};
use std::fmt::Write as _;
use x509_parser::asn1_rs::{Any, Class};
use x509_parser::prelude::{AttributeTypeAndValue, X509Name};

/// The most bytes of a subject that are written out; a longer one is named by its SHA-256.
const LONGEST: usize = 1024;

/// The types with a short name (RFC 4514 §3, and those that CAs use besides): the bytes of the object identifier, and the name.
const TYPES: &[(&[u8], &str)] = &[
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 5], "serialNumber"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1],
        "UID",
    ),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25],
        "DC",
    ),
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1],
        "emailAddress",
    ),
];

/// The object identifier of the Common Name.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// The strings of ASN.1 whose characters are read: the tag, and the option by which the text names it.
const STRINGS: &[(u8, &str)] = &[
    (0x0c, ""),
    (0x13, ";printable"),
    (0x14, ";t61"),
    (0x16, ";ia5"),
    (0x1c, ";universal"),
    (0x1e, ";bmp"),
];

/// The one Common Name of a subject; `None` if there is none, are several, or its characters are not certain.
pub(crate) fn common_name(subject: &X509Name<'_>) -> Option<String> {
    let mut found = subject
        .iter_attributes()
        .filter(|part| part.attr_type().as_bytes() == COMMON_NAME);
    match (found.next(), found.next()) {
        // T.61 has several alphabets; only what is ASCII reads the same in all.
        (Some(one), None) => string(one.attr_value())
            .filter(|(tag, text)| *tag != 0x14 || text.is_ascii())
            .map(|(_, text)| text),
        _ => None,
    }
}

/// The subject as a text from which it can be encoded again, its last part first (RFC 4514 §2.1); `#` and hexadecimal digits, or `sha256:` and
/// the hash, where that is not so.
pub(crate) fn text(subject: &X509Name<'_>) -> String {
    let raw = subject.as_raw();
    if raw.len() > LONGEST {
        return format!("sha256:{}", hex(digest(&SHA256, raw).as_ref()));
    }
    written(subject).unwrap_or_else(|| format!("#{}", hex(raw)))
}

/// The subject by its parts, if these are all that there is to it.
fn written(subject: &X509Name<'_>) -> Option<String> {
    let (mut names, mut encoded) = (Vec::new(), Vec::new());
    for set in subject.iter_rdn() {
        let (mut parts, mut bytes) = (Vec::new(), Vec::new());
        for part in set.iter() {
            let element = value_element(part.attr_value())?;
            let oid = part.attr_type().as_bytes();
            let oid_element = der::element(der::OBJECT_IDENTIFIER, &[oid]);
            bytes.extend_from_slice(&der::element(der::SEQUENCE, &[&oid_element, &element]));
            parts.push(written_part(part, &element)?);
        }
        encoded.extend_from_slice(&der::element(SET, &[&bytes]));
        names.push(parts.join("+"));
    }
    let is_whole = *der::element(der::SEQUENCE, &[&encoded]) == subject.as_raw();
    names.reverse();
    is_whole.then(|| names.join(","))
}

/// The tag of a SET.
const SET: u8 = 0x31;

/// A value with its tag and length, if it is primitive and of a type of ASN.1's own.
fn value_element(value: &Any<'_>) -> Option<Vec<u8>> {
    let tag = u8::try_from(value.tag().0).ok().filter(|tag| *tag < 0x1f)?;
    let is_simple = value.class() == Class::Universal && !value.header.is_constructed();
    is_simple.then(|| der::element(tag, &[value.data]).to_vec())
}

/// `type=value`. A value that is no string whose characters are known is its element in hexadecimal (RFC 4514 §2.4).
fn written_part(part: &AttributeTypeAndValue<'_>, element: &[u8]) -> Option<String> {
    let oid = part.attr_type().as_bytes();
    let named = TYPES.iter().find(|(known, _)| *known == oid);
    let kind = match named {
        Some((_, name)) => (*name).to_owned(),
        None => dotted(oid)?,
    };
    Some(match string(part.attr_value()) {
        Some((tag, text)) => {
            let (_, option) = STRINGS.iter().find(|(known, _)| *known == tag)?;
            format!("{kind}{option}={}", escaped(&text))
        }
        None => format!("{kind}=#{}", hex(element)),
    })
}

/// The tag and the characters of a string, from which its bytes can be had again.
fn string(value: &Any<'_>) -> Option<(u8, String)> {
    let bytes = value.data;
    let tag = u8::try_from(value.tag().0).ok()?;
    if value.class() != Class::Universal || value.header.is_constructed() {
        return None;
    }
    let ascii = || {
        let text = std::str::from_utf8(bytes).ok()?;
        text.is_ascii().then(|| text.to_owned())
    };
    let text = match tag {
        0x0c => std::str::from_utf8(bytes).ok()?.to_owned(),
        0x13 | 0x16 => ascii()?,
        // CAs mean Latin-1 by it. One byte is one character, whichever it is.
        0x14 => bytes.iter().copied().map(char::from).collect(),
        0x1c => {
            let (units, rest) = bytes.as_chunks::<4>();
            let chars = units
                .iter()
                .map(|unit| char::from_u32(u32::from_be_bytes(*unit)));
            chars
                .collect::<Option<String>>()
                .filter(|_| rest.is_empty())?
        }
        0x1e => {
            let (units, rest) = bytes.as_chunks::<2>();
            let units = units.iter().map(|unit| u16::from_be_bytes(*unit));
            let text: Result<String, _> = char::decode_utf16(units).collect();
            text.ok().filter(|_| rest.is_empty())?
        }
        _ => return None,
    };
    Some((tag, text))
}

/// A value by RFC 4514 §2.4: what has a meaning in the text stands behind a backslash, what does not print is written as the hexadecimal
/// digits of its UTF-8.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    let mut bytes = [0; 4];
    for (place, c) in text.chars().enumerate() {
        let means = matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '=' | '\\')
            || c == '#' && place == 0
            || c == ' ' && (place == 0 || place == last);
        let encoded = c.encode_utf8(&mut bytes);
        if !is_printable(encoded) {
            for byte in encoded.bytes() {
                let _ = write!(out, "\\{byte:02x}"); // writing to a String can't fail
            }
            continue;
        }
        if means {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// An object identifier by its numbers; `None` if it is not encoded in the one way that DER has, or a number is beyond 64 bits.
fn dotted(oid: &[u8]) -> Option<String> {
    let (mut numbers, mut number, mut begins) = (Vec::new(), 0u64, true);
    for byte in oid {
        if begins && *byte == 0x80 {
            return None;
        }
        number = number
            .checked_mul(128)?
            .checked_add(u64::from(byte & 0x7f))?;
        begins = byte & 0x80 == 0;
        if begins {
            numbers.push(std::mem::take(&mut number));
        }
    }
    let (first, rest) = numbers.split_first().filter(|_| begins)?;
    let root = (*first / 40).min(2);
    let mut text = format!("{root}.{}", first - 40 * root);
    for number in rest {
        let _ = write!(text, ".{number}");
    }
    Some(text)
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
