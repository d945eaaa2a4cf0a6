//! Any bytes as a request: binary -> typed -> binary -> typed, which must agree; every payload as each of several types.
#![no_main]
use keyferry_kmip::*;
use keyferry_ttlv::{Context, Item, Raw, Reader, Version};

/// What can be read can be written and read again, unless it is a value that the version has no form for.
fn round_trip<P: Payload + PartialEq + std::fmt::Debug>(raw: &Raw, cx: Context) {
    let Ok(payload) = raw.read::<P>(cx) else { return };
    sound(raw.bytes(), cx);
    let Ok(written) = Raw::of(raw.tag(), &payload, cx) else { return };
    assert_eq!(written.read::<P>(cx).expect("what was written can be read"), payload);
}

/// Typed values are checked where they are read: nothing may pass that the check of everything would refuse, but for the depth, which for a
/// part counts from there.
fn sound(bytes: &[u8], mut cx: Context) {
    cx.limits.depth *= 2;
    let r = Reader::new(bytes, cx);
    r.check(Item::parse(bytes).expect("an item was read")).expect("what was read is sound");
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(message) = RequestMessage::from_frame(data) else { return };
    sound(data, context(Version::V2_1));
    let Ok(frame) = message.to_frame() else { return };
    assert_eq!(RequestMessage::from_frame(&frame).expect("what was written can be read"), message);
    let Ok(version) = message.version() else { return };
    for item in &message.batch {
        let (raw, cx) = (&item.request_payload, context(version));
        round_trip::<ImportRequest>(raw, cx);
        round_trip::<RegisterRequest>(raw, cx);
        round_trip::<LocateRequest>(raw, cx);
        round_trip::<PutRequest>(raw, cx);
        round_trip::<ModifyAttributeRequest>(raw, cx);
        round_trip::<DeleteAttributeRequest>(raw, cx);
        round_trip::<GetAttributesRequest>(raw, cx);
        round_trip::<GetRequest>(raw, cx);
        round_trip::<QueryResponse>(raw, cx);
    }
});
