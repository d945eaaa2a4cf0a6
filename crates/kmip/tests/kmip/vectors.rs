//! The messages that OASIS gives as bytes.

use keyferry_kmip::{RequestMessage, ResponseMessage};
use std::io::Write;
use std::path::PathBuf;

/// Says that a test does nothing, and why. On the real standard error: what `println!` and `eprintln!` write, the test harness keeps to itself
/// when a test passes.
pub fn skip(why: &str) {
    let _ = std::io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes());
}

/// A folder beside the workspace, or beside the one that `KMIP_VECTORS` names; `None`, and a line on standard error, when it is not there.
pub fn shared(part: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    let folder = match std::env::var_os("KMIP_VECTORS") {
        Some(vectors) if part == "vectors" => PathBuf::from(vectors),
        Some(vectors) => PathBuf::from(vectors).join("..").join(part),
        None => beside.join(part),
    };
    if folder.is_dir() {
        return Some(folder);
    }
    skip(&format!(
        "{part} of the standard are not at {}: set KMIP_VECTORS",
        folder.display()
    ));
    None
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

#[test]
fn the_standards_messages_are_read_and_written_byte_for_byte() {
    let Some(folder) = shared("vectors") else {
        return;
    };
    let text = std::fs::read_to_string(folder.join("encodings/TTLV.tsv")).unwrap();
    let mut seen = 0;
    for line in text.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let (case, kind, bytes) = (columns[0], columns[2], unhex(columns[5]));
        let again = match kind {
            "RequestMessage" => RequestMessage::from_frame(&bytes).unwrap().to_frame(),
            _ => ResponseMessage::from_frame(&bytes).unwrap().to_frame(),
        };
        assert_eq!(again.unwrap().to_vec(), bytes, "{case} {kind}");
        seen += 1;
    }
    assert!(seen >= 12, "{seen} messages");
}
