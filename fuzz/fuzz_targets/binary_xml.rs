//! Any bytes: binary -> XML -> binary and binary -> JSON -> binary, which must be the same, where a text form can carry the message.
#![no_main]
use keyferry_kmip::context;
use keyferry_ttlv::{ErrorKind, Version, json, xml};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let cx = context(Version::V2_1);
    let Ok(text) = json::from_ttlv(data, cx) else {
        return assert!(xml::from_ttlv(data, cx).is_err());
    };
    assert_eq!(
        *json::to_ttlv(&text, cx).expect("what was written can be read"),
        *data
    );
    match xml::from_ttlv(data, cx) {
        Ok(text) => assert_eq!(
            *xml::to_ttlv(&text, cx).expect("what was written can be read"),
            *data
        ),
        Err(error) => assert!(matches!(error.kind(), ErrorKind::Value(_)), "{error}"),
    }
});
