//! [`Pump`], which sends a conversation's requests on a connection and hands it the answers, whichever side opened the connection.

use crate::clock::{clock, instant};
use crate::error::{Error, ErrorKind, Result};
use crate::input::Input;
use crate::output::write_frames;
use keyferry_kmip::{Conversation, Lost, Step, Tick, Ticket, Wake, is_turned};
use keyferry_ttlv::Frame;
use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, watch};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

/// The number of messages that may wait to be written, and of those that may wait to be taken. It is small: a conversation should see answers
/// early.
pub(crate) const QUEUE: usize = 4;

pub(crate) type Incoming = mpsc::Receiver<Result<Frame>>;

/// Tickets are numbered through the whole process, so that none is ever mistaken for another.
pub(crate) fn fresh_ticket() -> Ticket {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    Ticket(NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Calls something that may block.
pub(crate) fn call_blocking<T>(call: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => block_in_place(call),
        _ => call(),
    }
}

/// Reads messages until there are no more, or nobody takes them. May be dropped at any time without losing one: nothing is read for which
/// there is no room.
pub(crate) async fn read<S: AsyncRead + Unpin>(
    reader: &mut S,
    input: &mut Input,
    arrived: &mpsc::Sender<Result<Frame>>,
) {
    while let Ok(room) = arrived.reserve().await {
        let next = match input.frame(reader).await {
            Ok(Some(frame)) => Ok(frame),
            Ok(None) => Err(Error::new(ErrorKind::Lost, "closed by the peer")),
            Err(broken) => Err(broken.into()),
        };
        let last = next.is_err();
        room.send(next);
        if last {
            return;
        }
    }
}

/// Writes messages until there are no more.
///
/// # Errors
/// When one can't be written.
pub(crate) async fn write<S: AsyncWrite + Unpin>(
    writer: &mut S,
    messages: &mut mpsc::Receiver<Frame>,
    time: Duration,
) -> io::Result<()> {
    let mut frames = Vec::with_capacity(QUEUE);
    while messages.recv_many(&mut frames, QUEUE).await > 0 {
        write_frames(writer, &frames, time).await?;
        frames.clear();
    }
    Ok(())
}

/// Whether the conversation waits, since its last step was to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    Awake,
    /// It waits until this tick.
    Until(Tick),
    /// It waits until an answer comes, or somebody wakes it.
    ForEver,
}

/// Moves messages between a conversation and the tasks that read and write.
pub(crate) struct Pump<'a> {
    pub(crate) conversation: &'a mut dyn Conversation,
    pub(crate) outgoing: mpsc::Sender<Frame>,
    pub(crate) incoming: Incoming,
    /// Whether the connection can be turned round.
    pub(crate) turns: bool,
    /// Becomes true when nothing more is to be asked.
    stop: Option<watch::Receiver<bool>>,
    stopped: bool,
    arrived: Option<Result<Frame>>,
    under_way: VecDeque<(Ticket, Instant)>,
    in_flight: usize,
    answer_time: Duration,
    last_answer: Instant,
    sleep: Sleep,
    wake: Option<Wake>,
    turning: Option<Turning>,
    ticket: Ticket,
    /// Whether there was an answer, or a request of the other side.
    pub(crate) progress: bool,
}

/// The state of the conversation's wish to turn the connection round.
enum Turning {
    /// The request waits until those before it are answered.
    Waits(Ticket, Frame),
    /// The request is under way, alone.
    UnderWay,
}

/// The reason why no more requests are sent.
#[derive(Debug, PartialEq)]
pub(crate) enum Ended {
    /// The conversation is done.
    Done,
    /// The peer asks from now on.
    Turned,
    /// The server is shutting down.
    Stopped,
}

/// What follows when the pump has done all that can be done without waiting.
enum Next {
    /// There is nothing more to ask.
    End(Ended),
    /// The connection failed, or the conversation.
    Failed(Error),
    /// It has to wait.
    Wait {
        /// Also for room among the requests to be written.
        room: bool,
    },
}

impl Next {
    /// The conversation can't go on.
    fn stalled(why: &str) -> Next {
        Next::Failed(Error::new(ErrorKind::Stalled, why))
    }
}

impl<'a> Pump<'a> {
    pub(crate) fn new(
        conversation: &'a mut dyn Conversation,
        outgoing: mpsc::Sender<Frame>,
        incoming: Incoming,
        in_flight: usize,
        answer_time: Duration,
    ) -> Self {
        Pump {
            wake: conversation.wake(),
            conversation,
            outgoing,
            incoming,
            turns: true,
            stop: None,
            stopped: false,
            arrived: None,
            under_way: VecDeque::new(),
            in_flight: in_flight.max(1),
            answer_time,
            last_answer: Instant::now(),
            sleep: Sleep::Awake,
            turning: None,
            ticket: fresh_ticket(),
            progress: false,
        }
    }

    pub(crate) fn stopped_by(mut self, stop: watch::Receiver<bool>) -> Self {
        self.stop = Some(stop);
        self
    }

    /// Asks until there is nothing more to ask. May be called again when the connection was turned round and back.
    ///
    /// # Errors
    /// What ended the connection; everything under way was answered with the loss.
    pub(crate) async fn run(&mut self) -> Result<Ended> {
        loop {
            match call_blocking(|| self.advance()) {
                Next::End(end) => return Ok(end),
                Next::Failed(error) => {
                    call_blocking(|| self.lose(&error));
                    return Err(error);
                }
                Next::Wait { room } => self.wait(room).await,
            }
        }
    }

    /// Does all that can be done without waiting.
    fn advance(&mut self) -> Next {
        loop {
            if let Some(next) = self.take_arrived() {
                return next;
            }
            if let Some(next) = self.held_up() {
                return next;
            }
            match self.next_request() {
                // A writer that has failed meanwhile shows when the next request is due.
                Ok(Some(frame)) => drop(self.outgoing.try_send(frame)),
                Ok(None) => {}
                Err(next) => return next,
            }
        }
    }

    /// Takes the answers that have arrived; says what follows when one of them ends the asking.
    fn take_arrived(&mut self) -> Option<Next> {
        while let Some(next) = self
            .arrived
            .take()
            .or_else(|| self.incoming.try_recv().ok())
        {
            match next.and_then(|frame| self.take_answer(frame)) {
                Ok(false) => {}
                // What has arrived behind it is the peer's to ask.
                Ok(true) => return Some(Next::End(Ended::Turned)),
                Err(error) => return Some(Next::Failed(error)),
            }
        }
        None
    }

    /// Says what follows when no further request may be sent now.
    fn held_up(&mut self) -> Option<Next> {
        if self
            .deadline()
            .is_some_and(|deadline| deadline <= Instant::now())
        {
            let error = Error::new(ErrorKind::Timeout, "no answer in time");
            return Some(Next::Failed(error));
        }
        let idle = self.under_way.is_empty();
        if self.stopped {
            return Some(if idle {
                Next::End(Ended::Stopped)
            } else {
                Next::Wait { room: false }
            });
        }
        let waits = match self.turning {
            None => self.under_way.len() >= self.in_flight || self.sleeps(),
            Some(Turning::Waits(..)) => !idle,
            Some(Turning::UnderWay) => true,
        };
        if waits {
            let stalled = idle && self.sleep == Sleep::ForEver && self.wake.is_none();
            return Some(if stalled {
                Next::stalled("it waits, but nothing is under way")
            } else {
                Next::Wait { room: false }
            });
        }
        match self.outgoing.try_reserve() {
            Ok(_) => None,
            Err(mpsc::error::TrySendError::Full(())) => Some(Next::Wait { room: true }),
            Err(mpsc::error::TrySendError::Closed(())) if idle => {
                let why = "nothing can be written any more";
                Some(Next::Failed(Error::new(ErrorKind::Lost, why)))
            }
            // The writer has failed. Answers may still come in; what ends the reader is the better reason.
            Err(mpsc::error::TrySendError::Closed(())) => Some(Next::Wait { room: false }),
        }
    }

    /// The request to send now, which counts as under way from here on; none when the conversation has to be looked at again.
    ///
    /// # Errors
    /// What follows when it asks for nothing more, or for what can't be done.
    fn next_request(&mut self) -> Result<Option<Frame>, Next> {
        if let Some(Turning::Waits(ticket, frame)) = self.turning.take() {
            self.under_way.push_back((ticket, Instant::now()));
            self.turning = Some(Turning::UnderWay);
            return Ok(Some(frame));
        }
        match self.conversation.poll(clock(), self.ticket) {
            Step::Send(frame) => {
                self.under_way.push_back((self.ticket, Instant::now()));
                self.ticket = fresh_ticket();
                return Ok(Some(frame));
            }
            Step::Turn(frame) if self.turns => {
                self.turning = Some(Turning::Waits(self.ticket, frame));
                self.ticket = fresh_ticket();
            }
            Step::Turn(_) => {
                let why = "it wants the connection turned round, and nobody answers on this side";
                return Err(Next::stalled(why));
            }
            Step::Wait(Some(until)) => self.sleep = Sleep::Until(until),
            Step::Wait(None) => self.sleep = Sleep::ForEver,
            Step::Done => return Err(Next::End(Ended::Done)),
            _ => return Err(Next::stalled("a step that this driver does not know")),
        }
        Ok(None)
    }

    /// Takes an answer; says whether it has turned the connection round.
    fn take_answer(&mut self, answer: Frame) -> Result<bool> {
        if is_request(&answer) {
            return Err(Error::new(
                ErrorKind::Protocol,
                "a request where answers are due",
            ));
        }
        let Some((ticket, _)) = self.under_way.pop_front() else {
            return Err(Error::new(
                ErrorKind::Protocol,
                "an answer without a request",
            ));
        };
        self.last_answer = Instant::now();
        self.sleep = Sleep::Awake;
        self.progress = true;
        let turned = match self.turning {
            Some(Turning::UnderWay) => {
                self.turning = None;
                is_turned(&answer)
            }
            _ => false,
        };
        self.conversation.answer(clock(), ticket, Ok(answer));
        Ok(turned)
    }

    fn sleeps(&self) -> bool {
        match self.sleep {
            Sleep::Awake => false,
            Sleep::ForEver => true,
            Sleep::Until(until) => clock().tick < until,
        }
    }

    /// When the oldest request under way has waited too long.
    fn deadline(&self) -> Option<Instant> {
        let (_, sent) = self.under_way.front()?;
        (*sent).max(self.last_answer).checked_add(self.answer_time)
    }

    /// Waits for whatever comes first.
    async fn wait(&mut self, room: bool) {
        let tick = match self.sleep {
            Sleep::Until(until) => instant(until).map(Instant::from_std),
            _ => None,
        };
        let until = match (tick, self.deadline()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let wake = self.wake.as_ref();
        let woken = async {
            match wake {
                Some(wake) => poll_fn(|cx| wake.poll(cx)).await,
                None => pending().await,
            }
        };
        let stops = !self.stopped;
        tokio::select! {
            next = self.incoming.recv() => {
                self.arrived = Some(next.unwrap_or_else(|| Err(Error::new(ErrorKind::Lost, "the reading task has ended"))));
            }
            _ = self.outgoing.reserve(), if room => {}
            () = woken => self.sleep = Sleep::Awake,
            () = stop(self.stop.as_mut()), if stops => self.stopped = true,
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
        if let Some(Turning::Waits(ticket, _)) = self.turning.take() {
            self.under_way.push_back((ticket, Instant::now()));
        }
        while let Some((ticket, _)) = self.under_way.pop_front() {
            self.conversation
                .answer(clock(), ticket, Err(Lost(reason.clone())));
        }
    }
}

/// Whether a message is a Request Message.
pub(crate) fn is_request(frame: &Frame) -> bool {
    frame.starts_with(&[0x42, 0x00, 0x78])
}

async fn stop(stop: Option<&mut watch::Receiver<bool>>) {
    match stop {
        Some(stop) => drop(stop.wait_for(|stop| *stop).await), // fails when the server is gone, which is a reason, too
        None => pending().await,
    }
}
