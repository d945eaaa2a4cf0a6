//! Replays the fuzzers' corpus: what they once found, and what they start from, stays sound.
#![allow(clippy::unwrap_used, clippy::panic)]

use keyferry_kmip::RequestMessage;
use std::path::Path;

#[test]
fn every_seed_reads_and_writes_back_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/message");
    let mut seeds = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if let Ok(message) = RequestMessage::from_frame(&bytes) {
            let frame = message.to_frame().unwrap();
            assert_eq!(RequestMessage::from_frame(&frame).unwrap(), message, "{}", path.display());
        }
        seeds += 1;
    }
    assert!(seeds >= 10, "only {seeds} seeds");
}

/// Every seed with each of its bytes changed in turn: an error or a message, never a panic.
#[test]
fn changed_seeds_never_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/message");
    for entry in std::fs::read_dir(folder).unwrap() {
        let mut bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for place in 0..bytes.len() {
            for change in [0x01, 0x80, 0xFF] {
                bytes[place] ^= change;
                if let Ok(message) = RequestMessage::from_frame(&bytes) {
                    let _ = message.to_frame();
                }
                bytes[place] ^= change;
            }
        }
    }
}
