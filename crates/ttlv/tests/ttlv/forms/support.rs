//! Names and messages by hand, and the check of an error, for the tests of both text forms.

use keyferry_ttlv::{
    Context, Dictionary, Error, ErrorKind, Frame, Result, Tag, Version, Writer, json, normalized,
    xml,
};

pub const MESSAGE: Tag = Tag::new(0x420078);
pub const NAME: Tag = Tag::new(0x42000A);
pub const VALUE: Tag = Tag::new(0x42000B);
pub const STATE: Tag = Tag::new(0x42008D);
pub const MASK: Tag = Tag::new(0x42002C);
pub const PLAIN: Tag = Tag::new(0x42000D);
/// A tag without a name.
pub const OTHER: Tag = Tag::new(0x54FFFF);

const TAGS: &[(Tag, &str)] = &[
    (MESSAGE, "Request Message"),
    (NAME, "Attribute Name"),
    (VALUE, "Attribute Value"),
    (STATE, "State"),
    (MASK, "Cryptographic Usage Mask"),
    (PLAIN, "Batch Count"),
    // Names that can't stand for themselves.
    (Tag::new(0x420001), "TTLV"),
    (Tag::new(0x420002), "Überschrift"),
    (Tag::new(0x420003), "State"),
    (Tag::new(0x420004), "123"),
];
const STATES: &[(u32, &str)] = &[
    (1, "Pre-Active"),
    (2, "Active"),
    (7, "Active"),
    (8, "8"),
    (9, ""),
];
const BITS: &[(u32, &str)] = &[
    (1, "Sign"),
    (4, "Encrypt"),
    (8, "Decrypt"),
    (0x1000, "Certificate Sign"),
];

pub struct Names;

fn number<T: Copy>(rows: &[(T, &str)], name: &str) -> Option<T> {
    rows.iter()
        .find(|row| row.1 == name || normalized(row.1) == name)
        .map(|row| row.0)
}

fn name<T: PartialEq>(rows: &[(T, &'static str)], number: T) -> Option<&'static str> {
    rows.iter().find(|row| row.0 == number).map(|row| row.1)
}

impl Dictionary for Names {
    fn tag_name(&self, tag: Tag) -> Option<&'static str> {
        name(TAGS, tag)
    }
    fn value_name(&self, tag: Tag, value: u32) -> Option<&'static str> {
        name(STATES, value).filter(|_| tag == STATE)
    }
    fn bit_name(&self, tag: Tag, bit: u32) -> Option<&'static str> {
        name(BITS, bit).filter(|_| tag == MASK)
    }
    fn tag_named(&self, name: &str) -> Option<Tag> {
        number(TAGS, name)
    }
    fn value_named(&self, tag: Tag, name: &str) -> Option<u32> {
        number(STATES, name).filter(|_| tag == STATE)
    }
    fn bit_named(&self, tag: Tag, name: &str) -> Option<u32> {
        number(BITS, name).filter(|_| tag == MASK)
    }
    fn attribute_tags(&self) -> Option<(Tag, Tag)> {
        Some((NAME, VALUE))
    }
}

pub fn cx() -> Context {
    Context {
        dictionary: Some(&Names),
        ..nameless()
    }
}

pub fn nameless() -> Context {
    Context::new(Version::V2_1)
}

pub fn written(content: impl FnOnce(&mut Writer) -> Result<()>) -> Vec<u8> {
    let mut w = Writer::new(cx());
    content(&mut w).unwrap();
    w.finish().to_vec()
}

/// One item of a message as XML.
pub fn xml_value(ty: &str, value: &str) -> Result<Frame> {
    xml::to_ttlv(
        &format!("<BatchCount type=\"{ty}\" value=\"{value}\"/>"),
        cx(),
    )
}

/// One item of a message as JSON; the value with its quotes.
pub fn json_value(ty: &str, value: &str) -> Result<Frame> {
    json::to_ttlv(
        &format!("{{\"tag\":\"BatchCount\",\"type\":\"{ty}\",\"value\":{value}}}"),
        cx(),
    )
}

/// Checks an error: its kind, the text at its place, and its path.
#[track_caller]
pub fn assert_wrong(result: Result<Frame>, text: &str, kind: &ErrorKind, at: &str, path: &[Tag]) {
    let error: Error = result.map(|frame| frame.len()).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    let offset = error.offset().unwrap();
    assert!(
        text[offset..].starts_with(at),
        "{error}: {:?}",
        &text[offset..]
    );
    assert_eq!(error.path(), path, "{error}");
}
