//! A caller can tell the kinds of errors apart and reach what caused them.

use keyferry_store::{Error, ErrorKind, Record};
use std::error::Error as _;

#[test]
fn an_error_keeps_its_kind_and_its_source() {
    let device = std::io::Error::other("no space left on device");
    let error = Error::new(ErrorKind::Full, &device).caused_by(device);
    let error = error
        .clone()
        .with_context(format_args!("keys.redb: {error}"));
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.to_string().contains("keys.redb"), "{error}");
    let source = error.source().unwrap();
    assert!(source.is::<std::io::Error>(), "{source:?}");
    assert!(Error::aborted().source().is_none());
}

#[test]
fn what_cannot_be_decoded_is_corrupt_and_names_the_codec_error() {
    let error = Record::decode(b"no record").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.source().unwrap().is::<keyferry_ttlv::Error>());
}
