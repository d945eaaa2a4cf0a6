//! Any text as JSON: text -> binary -> text -> binary, which must agree.
#![no_main]
use keyferry_kmip::context;
use keyferry_ttlv::{Version, json};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let cx = context(Version::V2_1);
    let Ok(message) = json::to_ttlv(text, cx) else {
        return;
    };
    let again = json::from_ttlv(&message, cx).expect("what was read can be written");
    assert_eq!(
        *json::to_ttlv(&again, cx).expect("what was written can be read"),
        *message
    );
});
