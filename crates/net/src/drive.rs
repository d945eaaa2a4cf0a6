//! [`Driver`], which drives a conversation over connections that it opens.

use crate::client::{Connection, Connector, GOODBYE};
use crate::error::{ErrorKind, Result};
use crate::input::Input;
use crate::pump::{Ended, Incoming, Pump, QUEUE, read, write};
use crate::retry::Retry;
use crate::turned::Turned;
use keyferry_kmip::{Conversation, Handler};
use keyferry_ttlv::Frame;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tracing::{debug, warn};

/// Drives a conversation over one connection until it is done.
///
/// Requests are written and answers are read at the same time, on tasks of their own, so a long pipelined write can't block a peer that
/// is writing answers. At most [`in_flight`](crate::ClientConfig::in_flight) requests are under way. When the connection is lost, or no
/// answer comes for [`answer_time`](crate::ClientConfig::answer_time), every ticket under way is answered with [`Lost`](keyferry_kmip::Lost)
/// and the error says what happened; the caller decides whether to drive the conversation on over another connection, as
/// [`drive_with_retry`] does. Dropping the future closes the connection and answers nothing. A conversation that has a
/// [`Wake`](keyferry_kmip::Wake) is polled at once when it is woken. One that turns the connection round wants a [`Driver`].
///
/// # Runtime
/// A conversation may block, on a database for example. On tokio's multi-threaded runtime it is called by way of `block_in_place`, so
/// other tasks go on (don't do that from within a `LocalSet`, where `block_in_place` panics). On a current-thread runtime it is called
/// directly, and everything else on that runtime waits for it.
///
/// # Errors
/// Those of [`Connector::connect`] and of the connection; [`ErrorKind::Stalled`] when the conversation waits for an answer although
/// no request is under way and nothing could wake it, or wants the connection turned round.
pub async fn drive(conversation: &mut dyn Conversation, connector: &Connector) -> Result<()> {
    Driver::new(connector.clone()).drive(conversation).await
}

/// Drives a conversation until it is done, over as many connections as it takes.
///
/// After a connection that brought at least one answer, the count of attempts and the back-off start anew. The two errors that another
/// attempt does not cure end it at once: [`ErrorKind::Tls`] and [`ErrorKind::Stalled`].
///
/// # Errors
/// The last one, when `retry` allows no further attempt. As for [`drive`] otherwise, which says also which runtime is needed.
pub async fn drive_with_retry(
    conversation: &mut dyn Conversation,
    connector: &Connector,
    retry: &Retry,
) -> Result<()> {
    Driver::new(connector.clone())
        .with_retry(retry.clone())
        .drive(conversation)
        .await
}

/// Drives conversations that may turn their connection round: a server behind a firewall opens it, and the other side asks on it (Set
/// Endpoint Role, KMIP 2.1 §6.1.54, since 2.0).
#[derive(Clone)]
pub struct Driver {
    connector: Connector,
    retry: Option<Retry>,
    handler: Option<Arc<dyn Handler>>,
    silence: Option<Duration>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("connector", &self.connector)
            .field("answers", &self.handler.is_some())
            .finish_non_exhaustive()
    }
}

impl Driver {
    /// A driver that connects by way of `connector`, once.
    pub fn new(connector: Connector) -> Self {
        Driver {
            connector,
            retry: None,
            handler: None,
            silence: None,
        }
    }

    /// Connects again, as [`drive_with_retry`] does.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Has `handler` answer what the peer asks on a connection that the conversation has [turned round](keyferry_kmip::Step::Turn), under the
    /// identity of the certificate that the peer has shown. The peer's request to turn it back is answered without the handler; then the
    /// conversation is polled again, and not before, also when it is woken.
    #[must_use]
    pub fn answering(mut self, handler: Arc<dyn Handler>) -> Self {
        self.handler = Some(handler);
        self
    }

    /// Takes a connection that was turned round for lost when nothing was asked on it for so long. Without, it may be silent for ever, also
    /// when the peer is not there any more: let the peer send something in between.
    #[must_use]
    pub fn silent_for(mut self, time: Duration) -> Self {
        self.silence = Some(time);
        self
    }

    /// Drives a conversation until it is done.
    ///
    /// # Errors
    /// As for [`drive`] and [`drive_with_retry`]. On a connection that was turned round also [`ErrorKind::Timeout`] for a silent peer,
    /// [`ErrorKind::Protocol`] for one that answers what was not asked or asks on behind its turning back, and
    /// [`ErrorKind::Lost`] when the handler closed it or failed.
    pub async fn drive(&self, conversation: &mut dyn Conversation) -> Result<()> {
        let mut pauses = self.retry.as_ref().map(Retry::pauses);
        loop {
            let mut progress = false;
            let Err(error) = self.drive_once(conversation, &mut progress).await else {
                return Ok(());
            };
            if matches!(
                error.kind(),
                ErrorKind::Tls | ErrorKind::Stalled | ErrorKind::Config
            ) {
                return Err(error);
            }
            let Some(pauses) = &mut pauses else {
                return Err(error);
            };
            if progress {
                pauses.restart();
            }
            let Some(pause) = pauses.next() else {
                return Err(error);
            };
            warn!(%error, pause_ms = pause.as_millis() as u64, "conversation interrupted");
            tokio::time::sleep(pause).await;
        }
    }

    async fn drive_once(
        &self,
        conversation: &mut dyn Conversation,
        progress: &mut bool,
    ) -> Result<()> {
        let connection = self.connector.connect().await?;
        let config = self.connector.config();
        let peer = connection.peer().clone();
        let mut tasks = JoinSet::new(); // aborts both when dropped
        let (outgoing, incoming) = start(connection, config.answer_time, &mut tasks);
        let mut pump = Pump::new(
            conversation,
            outgoing,
            incoming,
            config.in_flight,
            config.answer_time,
        );
        pump.turns = self.handler.is_some();
        let result = loop {
            match (pump.run().await, &self.handler) {
                (Ok(Ended::Turned), Some(handler)) => {
                    let turned = Turned {
                        handler,
                        peer: &peer,
                        silence: self.silence,
                    };
                    if let Err(error) = turned
                        .serve(&mut pump.incoming, &pump.outgoing, &mut pump.progress)
                        .await
                    {
                        break Err(error);
                    }
                }
                (Ok(_), _) => break Ok(()),
                (Err(error), _) => break Err(error),
            }
        };
        *progress = pump.progress;
        drop(pump); // the writer says goodbye when there is nothing left to write
        let _ = timeout(GOODBYE, tasks.join_next()).await;
        result
    }
}

fn start(
    connection: Connection,
    time: Duration,
    tasks: &mut JoinSet<()>,
) -> (mpsc::Sender<Frame>, Incoming) {
    let (stream, input) = connection.into_parts();
    let (reader, writer) = split(stream);
    let (outgoing, to_write) = mpsc::channel(QUEUE);
    let (answered, incoming) = mpsc::channel(QUEUE);
    tasks.spawn(reading(reader, input, answered));
    tasks.spawn(writing(writer, to_write, time));
    (outgoing, incoming)
}

async fn reading(
    mut reader: ReadHalf<TlsStream<TcpStream>>,
    mut input: Input,
    answered: mpsc::Sender<Result<Frame>>,
) {
    read(&mut reader, &mut input, &answered).await;
}

async fn writing(
    mut writer: WriteHalf<TlsStream<TcpStream>>,
    mut requests: mpsc::Receiver<Frame>,
    time: Duration,
) {
    if let Err(error) = write(&mut writer, &mut requests, time).await {
        debug!(%error, "a message could not be written"); // the reader learns why
        return;
    }
    let _ = timeout(GOODBYE, writer.shutdown()).await; // the peer may be gone
}
