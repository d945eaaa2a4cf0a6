use crate::client::GOODBYE;
use crate::clock::instant;
use crate::input::Input;
use crate::output::write_frames;
use crate::retry::Retry;
use crate::{Connection, Connector, Error, ErrorKind, Result, clock};
use keyferry_kmip::{Conversation, Lost, Step, Tick, Ticket};
use keyferry_ttlv::Frame;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::client::TlsStream;
use tracing::{debug, warn};

/// Requests that wait to be written, and answers that wait to be taken. Few: a conversation should see answers early.
const QUEUE: usize = 4;

/// Drives a conversation over one connection until it is done.
///
/// Requests are written and answers are read at the same time, on tasks of their own, so a long pipelined write can't block a peer that
/// is writing answers. At most [`in_flight`](crate::ClientConfig::in_flight) requests are under way. When the connection is lost, or no
/// answer comes for [`answer_time`](crate::ClientConfig::answer_time), every ticket under way is answered with [`Lost`] and the error
/// says what happened; the caller decides whether to drive the conversation on over another connection, as
/// [`drive_with_retry`] does. Dropping the future closes the connection and answers nothing.
///
/// # Runtime
/// A conversation may block, on a database for example. On tokio's multi-threaded runtime it is called by way of `block_in_place`, so
/// other tasks go on (don't do that from within a `LocalSet`, where `block_in_place` panics). On a current-thread runtime it is called
/// directly, and everything else on that runtime waits for it.
///
/// # Errors
/// Those of [`Connector::connect`] and of the connection; [`ErrorKind::Stalled`] when the conversation waits for an answer although
/// no request is under way.
pub async fn drive(conversation: &mut dyn Conversation, connector: &Connector) -> Result<()> {
    drive_once(conversation, connector, &mut fresh_ticket(), &mut false).await
}

/// Drives a conversation until it is done, over as many connections as it takes.
///
/// After a connection that brought at least one answer, the count of attempts and the back-off start anew. The two errors that another
/// attempt does not cure end it at once: [`ErrorKind::Tls`] and [`ErrorKind::Stalled`].
///
/// # Errors
/// The last one, when `retry` allows no further attempt. As for [`drive`] otherwise, which says also which runtime is needed.
pub async fn drive_with_retry(conversation: &mut dyn Conversation, connector: &Connector, retry: &Retry) -> Result<()> {
    let mut ticket = fresh_ticket();
    let mut pauses = retry.pauses();
    loop {
        let mut progress = false;
        let Err(error) = drive_once(conversation, connector, &mut ticket, &mut progress).await else {
            return Ok(());
        };
        if matches!(error.kind(), ErrorKind::Tls | ErrorKind::Stalled | ErrorKind::Config) {
            return Err(error);
        }
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

/// Tickets are numbered through the whole process, so that none is ever mistaken for another.
fn fresh_ticket() -> Ticket {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    Ticket(NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn drive_once(
    conversation: &mut dyn Conversation,
    connector: &Connector,
    ticket: &mut Ticket,
    progress: &mut bool,
) -> Result<()> {
    let connection = connector.connect().await?;
    let mut tasks = JoinSet::new(); // aborts both when dropped
    let (outgoing, incoming) = start(connection, connector.config().answer_time, &mut tasks);
    let mut pump = Pump {
        conversation,
        outgoing,
        incoming,
        arrived: None,
        under_way: VecDeque::new(),
        in_flight: connector.config().in_flight.max(1),
        answer_time: connector.config().answer_time,
        last_answer: Instant::now(),
        asleep: None,
        ticket,
        progress,
    };
    loop {
        match unhurried(|| pump.turn()) {
            Turn::Done => break,
            Turn::Failed(error) => {
                unhurried(|| pump.lose(&error));
                return Err(error);
            }
            Turn::Wait { room } => pump.wait(room).await,
        }
    }
    drop(pump); // the writer says goodbye when there is nothing left to write
    let _ = timeout(GOODBYE, tasks.join_next()).await;
    Ok(())
}

/// Calls something that may block.
fn unhurried<T>(call: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(call),
        _ => call(),
    }
}

type Incoming = mpsc::Receiver<Result<Frame>>;

fn start(connection: Connection, time: Duration, tasks: &mut JoinSet<()>) -> (mpsc::Sender<Frame>, Incoming) {
    let (stream, input) = connection.into_parts();
    let (reader, writer) = split(stream);
    let (outgoing, to_write) = mpsc::channel(QUEUE);
    let (answered, incoming) = mpsc::channel(QUEUE);
    tasks.spawn(read(reader, input, answered));
    tasks.spawn(write(writer, to_write, time));
    (outgoing, incoming)
}

async fn read(mut reader: ReadHalf<TlsStream<TcpStream>>, mut input: Input, answered: mpsc::Sender<Result<Frame>>) {
    loop {
        let next = match input.frame(&mut reader).await {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => Err(Error::new(ErrorKind::Lost, "closed by the peer")),
            Err(broken) => Err(broken.into()),
        };
        let last = next.is_err();
        if answered.send(next).await.is_err() || last {
            return;
        }
    }
}

async fn write(mut writer: WriteHalf<TlsStream<TcpStream>>, mut requests: mpsc::Receiver<Frame>, time: Duration) {
    let mut frames = Vec::with_capacity(QUEUE);
    while requests.recv_many(&mut frames, QUEUE).await > 0 {
        if let Err(error) = write_frames(&mut writer, &frames, time).await {
            debug!(%error, "a request could not be written"); // the reader learns why
            return;
        }
        frames.clear();
    }
    let _ = timeout(GOODBYE, writer.shutdown()).await; // the peer may be gone
}

/// Moves messages between the conversation and the two tasks.
struct Pump<'a> {
    conversation: &'a mut dyn Conversation,
    outgoing: mpsc::Sender<Frame>,
    incoming: Incoming,
    arrived: Option<Result<Frame>>,
    under_way: VecDeque<(Ticket, Instant)>,
    in_flight: usize,
    answer_time: Duration,
    last_answer: Instant,
    /// What the conversation said last, if it was to wait.
    asleep: Option<Option<Tick>>,
    ticket: &'a mut Ticket,
    progress: &'a mut bool,
}

enum Turn {
    Done,
    Failed(Error),
    Wait {
        /// Also for room among the requests to be written.
        room: bool,
    },
}

impl Pump<'_> {
    /// Does all that can be done without waiting.
    fn turn(&mut self) -> Turn {
        loop {
            while let Some(next) = self.arrived.take().or_else(|| self.incoming.try_recv().ok()) {
                if let Err(error) = next.and_then(|frame| self.take(frame)) {
                    return Turn::Failed(error);
                }
            }
            if self.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
                return Turn::Failed(Error::new(ErrorKind::Timeout, "no answer in time"));
            }
            if self.under_way.len() >= self.in_flight || self.sleeps() {
                return match (self.asleep, self.under_way.is_empty()) {
                    (Some(None), true) => Turn::Failed(Error::new(ErrorKind::Stalled, "it waits, but nothing is under way")),
                    _ => Turn::Wait { room: false },
                };
            }
            let room = match self.outgoing.try_reserve() {
                Ok(room) => room,
                Err(mpsc::error::TrySendError::Full(())) => return Turn::Wait { room: true },
                Err(mpsc::error::TrySendError::Closed(())) if self.under_way.is_empty() => {
                    return Turn::Failed(Error::new(ErrorKind::Lost, "nothing can be written any more"));
                }
                // The writer has failed. Answers may still come in; what ends the reader is the better reason.
                Err(mpsc::error::TrySendError::Closed(())) => return Turn::Wait { room: false },
            };
            match self.conversation.poll(clock(), *self.ticket) {
                Step::Send(frame) => {
                    self.under_way.push_back((*self.ticket, Instant::now()));
                    *self.ticket = fresh_ticket();
                    room.send(frame);
                }
                Step::Wait(until) => self.asleep = Some(until),
                Step::Done => return Turn::Done,
                _ => return Turn::Failed(Error::new(ErrorKind::Stalled, "a step that this driver does not know")),
            }
        }
    }

    fn take(&mut self, answer: Frame) -> Result<()> {
        let Some((ticket, _)) = self.under_way.pop_front() else {
            return Err(Error::new(ErrorKind::Protocol, "an answer without a request"));
        };
        self.last_answer = Instant::now();
        self.asleep = None;
        *self.progress = true;
        self.conversation.answer(clock(), ticket, Ok(answer));
        Ok(())
    }

    fn sleeps(&self) -> bool {
        match self.asleep {
            None => false,
            Some(None) => true,
            Some(Some(until)) => clock().tick < until,
        }
    }

    /// When the oldest request under way has waited too long.
    fn deadline(&self) -> Option<Instant> {
        let (_, sent) = self.under_way.front()?;
        (*sent).max(self.last_answer).checked_add(self.answer_time)
    }

    /// Waits for whatever comes first.
    async fn wait(&mut self, room: bool) {
        let wake = match self.asleep {
            Some(Some(until)) => instant(until).map(Instant::from_std),
            _ => None,
        };
        let until = match (wake, self.deadline()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        tokio::select! {
            next = self.incoming.recv() => {
                self.arrived = Some(next.unwrap_or_else(|| Err(Error::new(ErrorKind::Lost, "the reading task has ended"))));
            }
            _ = self.outgoing.reserve(), if room => {}
            () = async { sleep_until(until.unwrap_or_else(Instant::now)).await }, if until.is_some() => {}
        }
    }

    /// Answers everything under way with the loss.
    fn lose(&mut self, error: &Error) {
        let reason = match error.kind() {
            ErrorKind::Lost => error.context().to_owned(),
            _ => error.to_string(),
        };
        debug!(%error, under_way = self.under_way.len(), "conversation lost its connection");
        while let Some((ticket, _)) = self.under_way.pop_front() {
            self.conversation.answer(clock(), ticket, Err(Lost(reason.clone())));
        }
    }
}
