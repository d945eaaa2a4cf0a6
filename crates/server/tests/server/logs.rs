//! Failures and log lines show no key material.
//!
//! `tracing` caches for the whole process whether anybody listens to a place in the code, so tests on other threads could silence the log
//! lines that this one looks for. It therefore runs in a process of its own: this test binary again, with `--exact` and `KEYFERRY_CHILD`.

use crate::printed::{SECRET, shows_it};
use crate::support::*;
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_ttlv::{Frame, Version};
use std::sync::{Arc, Mutex};

/// Where log lines go.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A name that would begin a log line of its own, clear the screen, and turn the direction of writing.
const FORGED: &str = "x\n2026 ERROR \u{1b}[2J\u{202e}";

const CHILD: &str = "KEYFERRY_CHILD";

#[test]
fn failures_and_log_lines_show_no_material() {
    if std::env::var_os(CHILD).is_some() {
        return check_failures_and_log_lines();
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "logs::failures_and_log_lines_show_no_material"])
        .args(["--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && output.contains("1 passed"),
        "{output}{}",
        String::from_utf8_lossy(&child.stderr)
    );
}

fn check_failures_and_log_lines() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        let host = Host::new();
        for version in ALL {
            let client = host.client(version);
            let id = client.register(key(SECRET), none());
            // Every byte of a Register changed in turn: whatever the complaint, it must not quote the key.
            let register = RegisterRequest {
                object_type: ObjectType::SYMMETRIC_KEY,
                attributes: named("n").into(),
                object: Some(key(SECRET)),
                protection_storage_masks: None,
                extra: Default::default(),
            };
            let whole = RequestMessage::new(version, vec![client.item(&register)])
                .to_frame()
                .unwrap();
            for at in 0..whole.len() {
                let mut bytes = whole.to_vec();
                bytes[at] ^= 0x41;
                let response = host
                    .server
                    .answer(&client.identity, host.now(), &Frame::new(bytes));
                let Answer::Reply(frame) = response else {
                    panic!()
                };
                for item in ResponseMessage::from_frame(&frame).unwrap().batch {
                    assert!(
                        !shows_it(item.result_message.as_deref().unwrap_or_default()),
                        "byte {at}: {:?}",
                        item.result_message
                    );
                }
            }
            client
                .revoke(&id, RevocationReasonCode::SUPERSEDED)
                .unwrap_err();
            client.destroy(&id).unwrap();
            client.get(&id).unwrap_err();
            host.store.fail(
                1,
                keyferry_store::Fault::Refuse(keyferry_store::ErrorKind::Io),
            );
            client
                .register_with(ObjectType::SYMMETRIC_KEY, Some(key(SECRET)), none())
                .unwrap_err();
        }
        // Names, identifiers and messages from outside stay in their lines.
        let forged = host.client_named(FORGED, Version::V2_1);
        forged.create_with(aes(none())).unwrap_err();
        let client = host.client(Version::V2_1);
        client.get(FORGED).unwrap_err();
        client
            .import(FORGED, Some(key(&[3; 16])), none(), false)
            .unwrap();
        client.get(FORGED).unwrap();
        let log = LogRequest {
            log_message: FORGED.into(),
            extra: Default::default(),
        };
        client.call::<_, LogResponse>(&log).unwrap();
        let stranger = Host::named(
            "x",
            keyferry_server::Access::Closed,
            keyferry_s2s::Policy::closed(),
        );
        stranger
            .client(Version::V2_1)
            .register_with(ObjectType::SYMMETRIC_KEY, Some(key(SECRET)), none())
            .unwrap_err();
    });
    let text = String::from_utf8_lossy(&lines.0.lock().unwrap()).into_owned();
    assert!(
        text.contains("failed") && text.contains("denied"),
        "there are log lines: {text}"
    );
    assert!(!shows_it(&text));
    let shown = "x\\u{a}2026 ERROR \\u{1b}[2J\\u{202e}";
    assert!(text.contains(shown), "it is logged, escaped");
    let forged = ["\n2026 ERROR", "\u{1b}[2J", "\u{202e}"];
    assert!(!forged.iter().any(|part| text.contains(part)), "{text}");
    // One line a request, with all that a reader of logs looks for.
    let line = text
        .lines()
        .find(|line| line.contains(": request ") && line.contains("operation=\"Register\""))
        .unwrap();
    for field in [
        "peer=client",
        "version=1.0",
        "identifier=\"",
        "result=\"Success\"",
        "items=1",
        "time=1700000000",
    ] {
        assert!(line.contains(field), "{field} in {line}");
    }
}
