//! Any bytes as a message: binary -> typed -> binary -> typed, which must agree; and what is left of it in every other version can be written.
#![no_main]
use keyferry_kmip::*;
use keyferry_ttlv::{Context, Item, Reader, Version};

/// Typed values are checked where they are read: nothing may pass that the check of everything would refuse, but for the depth, which for a
/// part that is kept counts from there.
fn sound(bytes: &[u8], mut cx: Context) {
    cx.limits.depth *= 2;
    let r = Reader::new(bytes, cx);
    r.check(Item::parse(bytes).expect("an item was read"))
        .expect("what was read is sound");
}

/// The same for both kinds of message. What can be read can be written and read again, unless it is a value that the version has no form for.
macro_rules! every_way {
    ($message:ident, $data:ident) => {
        if let Ok(message) = $message::from_frame($data) {
            sound($data, context(Version::V2_1));
            if let Ok(frame) = message.to_frame() {
                assert_eq!(
                    $message::from_frame(&frame).expect("what was written can be read"),
                    message
                );
            }
            let Ok(message) = message.read_payloads() else {
                return;
            };
            if let Ok(frame) = message.to_frame() {
                let read = $message::from_frame(&frame).and_then($message::read_payloads);
                assert_eq!(read.expect("what was written can be read"), message);
            }
            for version in VERSIONS {
                if let (Some(kept), _) = downgraded(message.clone(), Version::V2_1, *version) {
                    kept.to_frame().expect("what is left can be written");
                }
            }
        }
    };
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    every_way!(RequestMessage, data);
    every_way!(ResponseMessage, data);
});
