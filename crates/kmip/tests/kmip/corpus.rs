//! Replays the fuzzers' corpora: what they once found, and what they start from, stays sound. What each asks for is what its fuzzer does.

use keyferry_kmip::{RequestMessage, ResponseMessage, VERSIONS, context, downgraded};
use keyferry_ttlv::{ErrorKind, Item, Reader, Version, json, xml};
use std::path::{Path, PathBuf};

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let paths = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    paths
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

fn texts(target: &str) -> Vec<(PathBuf, String)> {
    seeds(target)
        .into_iter()
        .filter_map(|(path, bytes)| Some((path, String::from_utf8(bytes).ok()?)))
        .collect()
}

#[test]
fn every_folder_is_replayed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(
            ["message", "binary", "binary_xml", "xml", "json"]
                .iter()
                .any(|known| name == *known),
            "{}",
            name.display()
        );
    }
}

/// What can be read can be written and read again, payloads included, and what is left of it in another version can be written.
macro_rules! every_way {
    ($message:ident, $bytes:ident, $path:ident, $typed:ident) => {
        if let Ok(message) = $message::from_frame(&$bytes) {
            let frame = message.to_frame().unwrap();
            assert_eq!(
                $message::from_frame(&frame).unwrap(),
                message,
                "{}",
                $path.display()
            );
            if let Ok(message) = message.read_payloads() {
                $typed += 1;
                if let Ok(frame) = message.to_frame() {
                    assert_eq!(
                        $message::from_frame(&frame)
                            .unwrap()
                            .read_payloads()
                            .unwrap(),
                        message,
                        "{}",
                        $path.display()
                    );
                }
                for version in VERSIONS {
                    if let (Some(kept), _) = downgraded(message.clone(), Version::V2_1, *version) {
                        kept.to_frame()
                            .unwrap_or_else(|e| panic!("{}: {e}", $path.display()));
                    }
                }
            }
        }
    };
}

#[test]
fn every_message_reads_and_writes_back_the_same() {
    let seeds = seeds("message");
    assert!(seeds.len() >= 10, "only {} seeds", seeds.len());
    let mut typed = 0;
    for (path, bytes) in seeds {
        every_way!(RequestMessage, bytes, path, typed);
        every_way!(ResponseMessage, bytes, path, typed);
    }
    assert!(typed >= 100, "only {typed} messages");
}

#[test]
fn every_binary_seed_is_checked_and_carried_by_text() {
    let cx = context(Version::V2_1);
    let mut carried = 0;
    for (path, bytes) in seeds("binary").into_iter().chain(seeds("binary_xml")) {
        let r = Reader::new(&bytes, cx);
        let sound = Item::parse(&bytes).and_then(|item| r.check(item));
        let text = json::from_ttlv(&bytes, cx);
        assert_eq!(sound.is_ok(), text.is_ok(), "{}", path.display());
        let Ok(text) = text else { continue };
        assert_eq!(
            *json::to_ttlv(&text, cx).unwrap(),
            *bytes,
            "{}",
            path.display()
        );
        match xml::from_ttlv(&bytes, cx) {
            Ok(text) => assert_eq!(
                *xml::to_ttlv(&text, cx).unwrap(),
                *bytes,
                "{}",
                path.display()
            ),
            Err(error) => assert!(matches!(error.kind(), ErrorKind::Value(_)), "{error}"),
        }
        carried += 1;
    }
    assert!(carried >= 8, "only {carried} messages");
}

#[test]
fn every_text_reads_and_writes_back_the_same() {
    let cx = context(Version::V2_1);
    let mut read = 0;
    for (path, text) in texts("xml") {
        let Ok(message) = xml::to_ttlv(&text, cx) else {
            continue;
        };
        assert_eq!(
            *xml::to_ttlv(&xml::from_ttlv(&message, cx).unwrap(), cx).unwrap(),
            *message,
            "{}",
            path.display()
        );
        read += 1;
    }
    for (path, text) in texts("json") {
        let Ok(message) = json::to_ttlv(&text, cx) else {
            continue;
        };
        assert_eq!(
            *json::to_ttlv(&json::from_ttlv(&message, cx).unwrap(), cx).unwrap(),
            *message,
            "{}",
            path.display()
        );
        read += 1;
    }
    assert!(read >= 10, "only {read} messages");
}

/// Every seed with each of its bytes changed in turn: an error or a message, never a panic.
#[test]
fn changed_seeds_never_panic() {
    for (_, mut bytes) in seeds("message") {
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
