//! One client's connection at the server: the TLS handshake, groups of requests and their answers, the end.

use super::Shared;
use super::handshakes::Place;
use crate::clock::clock;
use crate::counters::Open;
use crate::error::{Error, ErrorKind};
use crate::identity::identity;
use crate::input::{Broken, Input, Progress};
use crate::output::write_frames;
use crate::pump::{Ended, Pump, QUEUE, read, write};
use keyferry_kmip::{Answer, Asking, Identity, escaped};
use keyferry_ttlv::Frame;
use std::collections::VecDeque;
use std::fmt;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};

/// The time for which a connection that is being closed is still read, so that the peer gets to read what was sent to it.
const LINGER: Duration = Duration::from_secs(1);

/// One client's connection, after the TLS handshake.
pub(super) struct Connection<'a> {
    shared: &'a Shared,
    /// The place among the connections, until this one ends.
    permit: Option<OwnedSemaphorePermit>,
    _open: Open<'a>,
    stream: TlsStream<TcpStream>,
    input: Input,
    /// Requests that arrived right behind the answer by which the client turned the connection back, and why there are no more.
    arrived: VecDeque<Frame>,
    behind: Option<End>,
    stop: watch::Receiver<bool>,
    peer: SocketAddr,
    caller: Arc<Identity>,
    requests: u64,
}

/// Why a connection ends.
enum End {
    /// The client closed it.
    Client,
    /// The client said nothing for too long.
    Idle,
    /// The server is being shut down, after an answer or while the client was silent.
    Shutdown { silent: bool },
    /// The handler wants it closed.
    Handler,
    /// The handler panicked, or gave too few answers.
    HandlerFailed,
    /// The client did not take its answers.
    Unread,
    /// The connection failed.
    Stream(io::Error),
    /// These are no messages.
    Message(keyferry_ttlv::Error),
    /// The client has turned the connection round, and what was to be asked on it is done.
    NothingToAsk,
    /// The connection, or the client, failed while it was turned round.
    Turned(Error),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Client => f.write_str("closed by the client"),
            End::Idle => f.write_str("idle for too long"),
            End::Shutdown { .. } => f.write_str("server shutdown"),
            End::Handler => f.write_str("closed by the handler"),
            End::HandlerFailed => f.write_str("the handler failed"),
            End::Unread => f.write_str("the client does not take its answers"),
            End::Stream(error) => write!(f, "connection failed: {error}"),
            End::Message(error) => write!(f, "not a message: {error}"),
            End::NothingToAsk => {
                f.write_str("nothing more to ask on the connection that was turned round")
            }
            End::Turned(error) => write!(f, "turned round: {error}"),
        }
    }
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Stream(error) if error.kind() == io::ErrorKind::UnexpectedEof => End::Client,
            Broken::Stream(error) => End::Stream(error),
            Broken::Message(error) => End::Message(error),
        }
    }
}

/// Lets a client in, or logs why not.
pub(super) async fn accept(
    shared: &Shared,
    stream: TcpStream,
    peer: SocketAddr,
    mut stop: watch::Receiver<bool>,
) -> Option<Connection<'_>> {
    if let Err(error) = stream.set_nodelay(true) {
        refuse(shared, peer, &error);
        return None;
    }
    let place = shared.handshakes.enter();
    let mut stream = shake_hands(shared, stream, peer, &place, &mut stop).await?;
    let Some((caller, permit)) = admit(shared, &stream, peer) else {
        tokio::select! {
            () = close(&mut stream, shared.limits.message_size) => {}
            () = place.displaced() => {}
        }
        return None;
    };
    drop(place);
    let version = stream.get_ref().1.protocol_version();
    info!(%peer, ?caller, ?version, "connection accepted");
    Some(Connection {
        shared,
        permit: Some(permit),
        _open: Open::new(&shared.counters),
        stream,
        input: Input::new(shared.limits.message_size),
        arrived: VecDeque::new(),
        behind: None,
        stop,
        peer,
        caller,
        requests: 0,
    })
}

/// Counts and logs a client that is not let in.
fn refuse(shared: &Shared, peer: SocketAddr, reason: &dyn fmt::Display) {
    shared.counters.refuse();
    let reason = escaped(reason.to_string());
    warn!(%peer, %reason, "connection refused");
}

/// Makes the TLS handshake. When it fails, the client gets to read the alert.
async fn shake_hands(
    shared: &Shared,
    stream: TcpStream,
    peer: SocketAddr,
    place: &Place<'_>,
    stop: &mut watch::Receiver<bool>,
) -> Option<TlsStream<TcpStream>> {
    let handshake = timeout(
        shared.limits.handshake_time,
        shared.tls.acceptor().accept(stream).into_fallible(),
    );
    let result = tokio::select! {
        result = handshake => result,
        () = place.displaced() => {
            refuse(shared, peer, &"too many handshakes under way");
            return None;
        }
        _ = stop.wait_for(|stop| *stop) => return None,
    };
    match result {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err((error, mut stream))) => {
            refuse(shared, peer, &error);
            tokio::select! { // the alert has to get through
                () = linger(&mut stream, shared.limits.message_size) => {}
                () = place.displaced() => {}
            }
            None
        }
        Err(_) => {
            refuse(shared, peer, &"the TLS handshake took too long");
            None
        }
    }
}

/// The identity of a client, and its place among the connections; or nothing, and why in the log.
fn admit(
    shared: &Shared,
    stream: &TlsStream<TcpStream>,
    peer: SocketAddr,
) -> Option<(Arc<Identity>, OwnedSemaphorePermit)> {
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    let caller = match certificate.map(|certificate| identity(certificate)) {
        Some(Ok(caller)) => caller,
        Some(Err(error)) => {
            refuse(shared, peer, &error);
            return None;
        }
        None => {
            refuse(shared, peer, &"no client certificate");
            return None;
        }
    };
    match shared.connections.clone().try_acquire_owned() {
        Ok(permit) => Some((Arc::new(caller), permit)),
        Err(_) => {
            refuse(shared, peer, &"too many connections");
            None
        }
    }
}

impl Connection<'_> {
    /// Serves the client until the connection ends.
    pub(super) async fn run(mut self) {
        let end = loop {
            let (requests, end) = self.group().await;
            let end = match (self.answer(requests).await, end) {
                (Err(end), _) | (_, Some(end)) => Some(end),
                (Ok(Some(asking)), None) => self.ask(asking).await.err(),
                (Ok(None), None) => None,
            };
            if let Some(end) = end {
                break end;
            }
        };
        // Whoever is being closed takes no place from others: it stands among the handshakes, where the oldest gives way.
        drop(self.permit.take());
        self.input = Input::new(self.shared.limits.message_size); // half a message is nothing to keep
        let place = self.shared.handshakes.enter();
        tokio::select! {
            () = self.end(end) => {}
            () = place.displaced() => {}
        }
    }

    /// Says why the connection ends, to the log and as far as possible to the client.
    async fn end(&mut self, end: End) {
        let limit = self.shared.limits.message_size;
        match &end {
            End::Message(error) => {
                warn!(peer = %self.peer, caller = ?self.caller, reason = %end, requests = self.requests, "connection closed");
                if let Some(answer) = self.shared.handler.refuse(clock(), error)
                    && let Ok(bytes) =
                        write_frames(&mut self.stream, &[answer], self.shared.limits.message_time)
                            .await
                {
                    self.shared.counters.wrote(bytes);
                }
                close(&mut self.stream, limit).await;
            }
            End::Unread | End::HandlerFailed => {
                warn!(peer = %self.peer, caller = ?self.caller, reason = %end, requests = self.requests, "connection closed");
                if matches!(end, End::HandlerFailed) {
                    close(&mut self.stream, limit).await;
                }
            }
            End::Turned(error) if error.kind() == ErrorKind::Protocol => {
                warn!(peer = %self.peer, caller = ?self.caller, reason = %end, requests = self.requests, "connection closed");
                close(&mut self.stream, limit).await;
            }
            End::Turned(_)
            | End::Client
            | End::Stream(_)
            | End::Idle
            | End::Shutdown { silent: true } => {
                info!(peer = %self.peer, caller = ?self.caller, reason = %end, requests = self.requests, "connection closed");
                let _ = timeout(LINGER, self.stream.shutdown()).await; // the peer may be gone
            }
            End::Handler | End::NothingToAsk | End::Shutdown { silent: false } => {
                info!(peer = %self.peer, caller = ?self.caller, reason = %end, requests = self.requests, "connection closed");
                close(&mut self.stream, limit).await;
            }
        }
    }

    /// Waits for a request and takes those that are there behind it; says also whether they are the last.
    async fn group(&mut self) -> (Vec<Frame>, Option<End>) {
        let shared = self.shared;
        let limits = &shared.limits;
        let silent = !*self.stop.borrow() && !self.input.is_midway();
        let mut requests = Vec::new();
        let mut bytes = 0usize;
        let mut end = None;
        while requests.len() < limits.group_requests.max(1)
            && let Some(frame) = self.arrived.pop_front()
        {
            requests.push(frame);
        }
        if !requests.is_empty() || self.behind.is_some() {
            let behind = self.behind.take_if(|_| self.arrived.is_empty());
            return (requests, behind);
        }
        let first = tokio::select! {
            biased;
            _ = self.stop.wait_for(|stop| *stop) => {
                end = Some(End::Shutdown { silent }); // what is there already is still served, below
                None
            }
            first = first(&mut self.input, &mut self.stream, limits) => Some(first),
        };
        match first {
            Some(Ok(frame)) => {
                bytes = frame.len();
                requests.push(frame);
            }
            Some(Err(end)) => return (requests, Some(end)),
            None => {}
        }
        while requests.len() < limits.group_requests.max(1)
            && (requests.is_empty() || bytes < limits.group_bytes)
        {
            match self.input.ready(&mut self.stream).await {
                None => break,
                Some(Ok(Some(frame))) => {
                    bytes = bytes.saturating_add(frame.len());
                    requests.push(frame);
                }
                Some(Ok(None)) => {
                    end = Some(End::Client);
                    break;
                }
                Some(Err(broken)) => {
                    end = Some(broken.into());
                    break;
                }
            }
        }
        if let (Some(End::Shutdown { silent }), true) =
            (&mut end, self.input.is_midway() || !requests.is_empty())
        {
            *silent = false;
        }
        (requests, end)
    }

    /// Has a group answered and writes the answers; what the handler leaves over is offered to it again. The last answer may turn the
    /// connection round.
    async fn answer(&mut self, mut requests: Vec<Frame>) -> Result<Option<Asking>, End> {
        while !requests.is_empty() {
            let (left, asking) = self.answer_some(requests).await?;
            match asking {
                Some(_) if !left.is_empty() => {
                    let why = "it asks on although it has turned the connection round";
                    return Err(End::Turned(Error::new(ErrorKind::Protocol, why)));
                }
                Some(asking) => return Ok(Some(asking)),
                None => requests = left,
            }
        }
        Ok(None)
    }

    /// Asks on a connection that was turned round, until it is turned back.
    async fn ask(&mut self, Asking(mut conversation): Asking) -> Result<(), End> {
        info!(peer = %self.peer, caller = ?self.caller, "connection turned round");
        self.shared.counters.turn();
        let limits = &self.shared.limits;
        let (mut reader, mut writer) = split(&mut self.stream);
        let (outgoing, mut to_write) = mpsc::channel(QUEUE);
        let (arrived, incoming) = mpsc::channel(QUEUE);
        let input = &mut self.input;
        let mut pump = Pump::new(
            &mut *conversation,
            outgoing,
            incoming,
            limits.group_requests,
            limits.answer_time,
        )
        .stopped_by(self.stop.clone());
        let asked = tokio::select! {
            asked = pump.run() => asked,
            () = async {
                read(&mut reader, input, &arrived).await;
                pending().await
            } => return Ok(()),
            () = async {
                if let Err(error) = write(&mut writer, &mut to_write, limits.message_time).await {
                    debug!(%error, "a request could not be written"); // no answer will come
                }
                drop(to_write);
                pending().await
            } => return Ok(()),
        };
        let mut incoming = pump.incoming;
        match asked {
            Ok(Ended::Done) => Err(End::NothingToAsk),
            Ok(Ended::Stopped) => Err(End::Shutdown { silent: false }),
            Err(error) => Err(End::Turned(error)),
            Ok(Ended::Turned) => {
                info!(peer = %self.peer, caller = ?self.caller, "connection turned back");
                while let Ok(next) = incoming.try_recv() {
                    match next {
                        Ok(frame) => self.arrived.push_back(frame),
                        Err(error) => self.behind = Some(End::Turned(error)),
                    }
                }
                Ok(())
            }
        }
    }

    /// Calls the handler once; returns the requests that it did not answer yet, and the conversation that asks from now on.
    async fn answer_some(
        &mut self,
        requests: Vec<Frame>,
    ) -> Result<(Vec<Frame>, Option<Asking>), End> {
        let started = Instant::now();
        let count = requests.len();
        let (handler, caller) = (self.shared.handler.clone(), self.caller.clone());
        let handled =
            spawn_blocking(move || (handler.handle(&caller, clock(), &requests), requests)).await;
        let Ok((answers, mut requests)) = handled else {
            return Err(End::HandlerFailed);
        };
        let given = answers.len();
        let bytes_in = requests
            .iter()
            .take(given)
            .map(|request| request.len())
            .sum();
        self.requests += given.min(count) as u64;
        self.shared.counters.group(given.min(count), bytes_in);
        let left = requests.split_off(given.min(count));
        let (replies, result) = sort_answers(answers, count, left);
        let handled = started.elapsed();
        let bytes_out =
            match write_frames(&mut self.stream, &replies, self.shared.limits.message_time).await {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(End::Unread),
                Err(error) => return Err(End::Stream(error)),
            };
        self.shared.counters.wrote(bytes_out);
        debug!(
            peer = %self.peer, caller = ?self.caller, requests = count, bytes_in, answers = replies.len(), bytes_out,
            handled_us = handled.as_micros() as u64, total_us = started.elapsed().as_micros() as u64, "group answered"
        );
        result
    }
}

/// The frames that go back for a group of `count` requests, and what follows: the requests that were not answered yet, and who asks from now
/// on, or why the connection ends.
fn sort_answers(
    answers: Vec<Answer>,
    count: usize,
    left: Vec<Frame>,
) -> (Vec<Frame>, Result<(Vec<Frame>, Option<Asking>), End>) {
    let mut replies = Vec::with_capacity(answers.len());
    let mut result = if (1..=count).contains(&answers.len()) {
        Ok((left, None))
    } else {
        Err(End::HandlerFailed)
    };
    let mut answers = answers.into_iter().take(count);
    while let Some(answer) = answers.next() {
        match answer {
            Answer::Reply(frame) => replies.push(frame),
            Answer::Turn(frame, asking) => {
                replies.push(frame);
                result = match answers.next() {
                    None => result.map(|(left, _)| (left, Some(asking))),
                    Some(_) => Err(End::HandlerFailed),
                };
                break;
            }
            Answer::ReplyAndClose(frame) => {
                replies.push(frame);
                result = Err(End::Handler);
                break;
            }
            _ => {
                result = Err(End::Handler);
                break;
            }
        }
    }
    (replies, result)
}

/// Waits for the first request of a group.
async fn first(
    input: &mut Input,
    stream: &mut TlsStream<TcpStream>,
    limits: &crate::limits::Limits,
) -> Result<Frame, End> {
    if !input.is_midway() {
        match timeout(limits.idle_time, input.step(stream)).await {
            Err(_) => return Err(End::Idle),
            Ok(Ok(Progress::Frame(frame))) => return Ok(frame),
            Ok(Ok(Progress::Part)) => {}
            Ok(Ok(Progress::End)) => return Err(End::Client),
            Ok(Err(broken)) => return Err(broken.into()),
        }
    }
    match timeout(limits.message_time, input.frame(stream)).await {
        Err(_) => Err(End::Message(input.truncated())),
        Ok(Ok(Some(frame))) => Ok(frame),
        Ok(Ok(None)) => Err(End::Client),
        Ok(Err(broken)) => Err(broken.into()),
    }
}

/// Says goodbye in TLS and lets the peer read it.
async fn close(stream: &mut TlsStream<TcpStream>, limit: usize) {
    if let Ok(Ok(())) = timeout(LINGER, stream.shutdown()).await {
        linger(stream.get_mut().0, limit).await;
    }
}

/// Closes the sending side and throws away what still comes in, for a while: closing with unread input makes TCP reset the connection,
/// and the peer would lose what it has not read yet.
async fn linger(stream: &mut TcpStream, limit: usize) {
    let drain = async {
        let mut scratch = [0; 4096];
        let mut left = limit;
        let _ = stream.shutdown().await;
        while let Ok(n) = stream.read(&mut scratch).await {
            left = left.saturating_sub(n);
            if n == 0 || left == 0 {
                break;
            }
        }
    };
    let _ = timeout(LINGER, drain).await; // long enough for a peer that is listening
}
