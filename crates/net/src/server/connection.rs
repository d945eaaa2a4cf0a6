use super::Shared;
use crate::counters::Open;
use crate::input::{Broken, Input, Progress};
use crate::output::write_frames;
use crate::{clock, identity};
use keyferry_kmip::{Answer, Identity};
use keyferry_ttlv::Frame;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};

/// How long a connection that is being closed is still listened to, so that the peer gets to read what was sent to it.
const LINGER: Duration = Duration::from_secs(1);

/// One client's connection, TLS established.
pub(super) struct Connection<'a> {
    shared: &'a Shared,
    /// Until it ends.
    permit: Option<OwnedSemaphorePermit>,
    _open: Open<'a>,
    stream: TlsStream<TcpStream>,
    input: Input,
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
    let refuse = |reason: &dyn fmt::Display| {
        shared.counters.refuse();
        warn!(%peer, %reason, "connection refused");
    };
    if let Err(error) = stream.set_nodelay(true) {
        refuse(&error);
        return None;
    }
    let limits = &shared.limits;
    let place = shared.handshakes.enter();
    let handshake = timeout(limits.handshake_time, shared.tls.acceptor().accept(stream).into_fallible());
    let result = tokio::select! {
        result = handshake => result,
        () = place.displaced() => {
            refuse(&"too many handshakes under way");
            return None;
        }
        _ = stop.wait_for(|stop| *stop) => return None,
    };
    let mut stream = match result {
        Ok(Ok(stream)) => stream,
        Ok(Err((error, mut stream))) => {
            refuse(&error);
            tokio::select! { // the alert has to get through
                () = linger(&mut stream, limits.message_size) => {}
                () = place.displaced() => {}
            }
            return None;
        }
        Err(_) => {
            refuse(&"the TLS handshake took too long");
            return None;
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let caller = certificate.map(|certificate| identity(certificate));
    let (caller, permit) = match (caller, shared.connections.clone().try_acquire_owned()) {
        (Some(Ok(caller)), Ok(permit)) => (Arc::new(caller), permit),
        (caller, permit) => {
            match (caller, permit) {
                (None, _) => refuse(&"no client certificate"),
                (Some(Err(error)), _) => refuse(&error),
                _ => refuse(&"too many connections"),
            }
            tokio::select! {
                () = close(&mut stream, limits.message_size) => {}
                () = place.displaced() => {}
            }
            return None;
        }
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
        stop,
        peer,
        caller,
        requests: 0,
    })
}

impl Connection<'_> {
    /// Serves the client until the connection ends.
    pub(super) async fn run(mut self) {
        let end = loop {
            let (requests, end) = self.group().await;
            let end = match requests.is_empty() {
                true => end,
                false => self.answer(requests).await.err().or(end),
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
                    && let Ok(bytes) = write_frames(&mut self.stream, &[answer], self.shared.limits.message_time).await
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
            End::Client | End::Stream(_) | End::Idle | End::Shutdown { silent: true } => {
                info!(peer = %self.peer, caller = ?self.caller, reason = %end, requests = self.requests, "connection closed");
                let _ = timeout(LINGER, self.stream.shutdown()).await; // the peer may be gone
            }
            End::Handler | End::Shutdown { silent: false } => {
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
        while requests.len() < limits.group_requests.max(1) && (requests.is_empty() || bytes < limits.group_bytes) {
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
        if let (Some(End::Shutdown { silent }), true) = (&mut end, self.input.is_midway() || !requests.is_empty()) {
            *silent = false;
        }
        (requests, end)
    }

    /// Has a group answered and writes the answers; what the handler leaves over is offered to it again.
    async fn answer(&mut self, mut requests: Vec<Frame>) -> Result<(), End> {
        while !requests.is_empty() {
            requests = self.answer_some(requests).await?;
        }
        Ok(())
    }

    /// One call of the handler; returns the requests that it did not answer yet.
    async fn answer_some(&mut self, requests: Vec<Frame>) -> Result<Vec<Frame>, End> {
        let started = Instant::now();
        let count = requests.len();
        let (handler, caller) = (self.shared.handler.clone(), self.caller.clone());
        let handled = spawn_blocking(move || (handler.handle(&caller, clock(), &requests), requests)).await;
        let Ok((answers, mut requests)) = handled else { return Err(End::HandlerFailed) };
        let given = answers.len();
        let bytes_in = requests.iter().take(given).map(|request| request.len()).sum();
        self.requests += given.min(count) as u64;
        self.shared.counters.group(given.min(count), bytes_in);
        let mut replies = Vec::with_capacity(given);
        let left = requests.split_off(given.min(count));
        let mut result = if (1..=count).contains(&given) { Ok(left) } else { Err(End::HandlerFailed) };
        for answer in answers.into_iter().take(count) {
            match answer {
                Answer::Reply(frame) => replies.push(frame),
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
        let handled = started.elapsed();
        let bytes_out = match write_frames(&mut self.stream, &replies, self.shared.limits.message_time).await {
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

/// Waits for the first request of a group.
async fn first(input: &mut Input, stream: &mut TlsStream<TcpStream>, limits: &crate::Limits) -> Result<Frame, End> {
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
