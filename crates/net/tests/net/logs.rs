//! What the server logs: one line per event, and never a message.
//!
//! tracing remembers for the whole process whether anybody wants the events of a place in the code. A test on another thread could so silence
//! the subscriber of this one; therefore the test starts the test binary again, for itself alone.

use crate::support::{Authority, Rig, frame, within};
use keyferry_net::Connector;
use std::fmt::{Debug, Write};
use std::process::Command;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps the lines of this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(Level, String)>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("keyferry_net")
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = Text(String::new());
        span.record(&mut text);
        self.0.lock().unwrap().push((Level::TRACE, text.0));
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0
            .lock()
            .unwrap()
            .push((*event.metadata().level(), text.0));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Lines {
    /// The server's lines of a level that have this in them.
    fn count(&self, level: Level, part: &str) -> usize {
        self.0
            .lock()
            .unwrap()
            .iter()
            .filter(|(l, text)| *l == level && text.contains(part))
            .count()
    }

    fn warnings(&self) -> usize {
        self.count(Level::WARN, "")
    }
}

/// Set for the process that has this one test to run.
const ALONE: &str = "KEYFERRY_TEST_ALONE";

#[test]
fn one_line_per_event() {
    if std::env::var_os(ALONE).is_some() {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(log_events());
        return;
    }
    let alone = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "logs::one_line_per_event", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&alone.stdout);
    assert!(
        alone.status.success() && output.contains("1 passed"),
        "{output}{}",
        String::from_utf8_lossy(&alone.stderr)
    );
}

async fn log_events() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    within(async {
        let rig = Rig::new().await;
        let mut connection = rig.connect().await;
        connection.call(&frame(1, 64)).await.unwrap();
        connection.call(&frame(2, 64)).await.unwrap();
        connection.close().await;
        rig.until(|counters| counters.open() == 0).await;
        assert_eq!(lines.count(Level::INFO, "connection accepted"), 1);
        assert_eq!(lines.count(Level::INFO, "connection closed"), 1);
        assert_eq!(lines.count(Level::DEBUG, "group answered"), 2);
        assert_eq!(lines.warnings(), 0);

        // An unknown client.
        let pair = Authority::new().issue(&[]);
        let trust = vec![rig.authority.certificate.clone()];
        let credentials = keyferry_net::Credentials::new(trust, vec![pair.certificate], pair.key);
        let stranger = Connector::new(
            rig.address(),
            keyferry_net::ClientConfig::new(&credentials, "localhost").unwrap(),
        );
        stranger
            .connect()
            .await
            .unwrap()
            .call(&frame(3, 64))
            .await
            .unwrap_err();
        rig.until(|counters| counters.refused() == 1).await;
        assert_eq!(
            (
                lines.warnings(),
                lines.count(Level::WARN, "connection refused")
            ),
            (1, 1)
        );

        // No TLS.
        let mut plain = TcpStream::connect(rig.address()).await.unwrap();
        plain.write_all(&[0x1b; 300]).await.unwrap();
        let _ = plain.read_to_end(&mut Vec::new()).await;
        rig.until(|counters| counters.refused() == 2).await;
        assert_eq!(
            (
                lines.warnings(),
                lines.count(Level::WARN, "connection refused")
            ),
            (2, 2)
        );

        // No message.
        let mut garbage = rig.connect().await.into_stream();
        garbage.write_all(&[0x1b; 300]).await.unwrap();
        garbage.flush().await.unwrap();
        garbage.read_to_end(&mut Vec::new()).await.unwrap();
        drop(garbage);
        rig.until(|counters| counters.open() == 0).await;
        assert_eq!(
            (
                lines.warnings(),
                lines.count(Level::WARN, "connection closed")
            ),
            (3, 1)
        );

        // Nothing of what was sent, however it might be printed. (The three bytes that are no tag are named as such.)
        let sent = ["165, 165", "a5a5", "A5A5", "27, 27", "1b1b1b1b", "1B1B1B1B"];
        for (_, line) in lines.0.lock().unwrap().iter() {
            let found = sent.iter().find(|bytes| line.contains(**bytes));
            assert_eq!(found, None, "{line}");
        }
    })
    .await;
}
