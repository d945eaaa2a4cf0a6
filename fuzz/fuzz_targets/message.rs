//! Any bytes as a request: binary -> typed -> binary -> typed, which must agree.
#![no_main]
use keyferry_kmip::RequestMessage;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(message) = RequestMessage::from_frame(data) else { return };
    let Ok(frame) = message.to_frame() else { return };
    assert_eq!(RequestMessage::from_frame(&frame).expect("what was written can be read"), message);
});
