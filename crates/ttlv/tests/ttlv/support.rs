//! Items written by hand, for the tests of the binary form.

use keyferry_ttlv::{Context, Encode, ErrorKind, Result, Tag, Version, Writer};

pub const T: Tag = Tag::new(0x420001);
pub const U: Tag = Tag::new(0x420002);
pub const V: Tag = Tag::new(0x540003);

pub fn cx() -> Context {
    Context::new(Version::V2_1)
}

/// Header, value as given, padding with zeros.
pub fn item(tag: u32, ty: u8, value: &[u8]) -> Vec<u8> {
    item_saying(tag, ty, value.len() as u32, value)
}

/// The same, announcing another length.
pub fn item_saying(tag: u32, ty: u8, length: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = tag.to_be_bytes()[1..].to_vec();
    bytes.push(ty);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len() + (value.len().wrapping_neg() & 7), 0);
    bytes
}

/// What `f` writes.
pub fn written(f: impl FnOnce(&mut Writer) -> Result<()>) -> Vec<u8> {
    let mut w = Writer::new(cx());
    f(&mut w).unwrap();
    w.finish().to_vec()
}

pub fn encoded<E: Encode>(value: &E) -> Vec<u8> {
    written(|w| value.encode(T, w))
}

/// Kind and offset of an error.
pub fn kind<X: std::fmt::Debug>(result: Result<X>) -> (ErrorKind, usize) {
    let error = result.unwrap_err();
    (error.kind().clone(), error.offset().unwrap())
}
