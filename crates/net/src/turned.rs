//! The answering side of a connection that this one has opened and turned round (Set Endpoint Role).

use crate::clock::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::pump::{Incoming, is_request};
use keyferry_kmip::{Answer, Handler, Identity, RequestMessage, asks_to_turn, turn_answer};
use keyferry_ttlv::Frame;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::debug;

/// Requests that the handler is given as one group.
const GROUP: usize = 64;

/// The answering side of a connection that was turned round.
pub(crate) struct Turned<'a> {
    pub(crate) handler: &'a Arc<dyn Handler>,
    pub(crate) peer: &'a Identity,
    /// The time for which the peer may be silent.
    pub(crate) silence: Option<Duration>,
}

impl Turned<'_> {
    /// Answers the peer's requests until it turns the connection back.
    ///
    /// # Errors
    /// What ended the connection: the peer, its silence, what it sent, or the handler.
    pub(crate) async fn serve(
        &self,
        incoming: &mut Incoming,
        outgoing: &mpsc::Sender<Frame>,
        progress: &mut bool,
    ) -> Result<()> {
        debug!(peer = ?self.peer, "the peer asks from now on");
        loop {
            let first = match self.silence {
                Some(silence) => timeout(silence, incoming.recv()).await.map_err(|_| {
                    Error::new(
                        ErrorKind::Timeout,
                        "the peer has been silent for too long on the connection that was turned round",
                    )
                })?,
                None => incoming.recv().await,
            };
            let mut requests = vec![request(first.unwrap_or_else(lost))?];
            let mut broken = None;
            while requests.len() < GROUP && broken.is_none() {
                match incoming.try_recv() {
                    Ok(next) => match request(next) {
                        Ok(frame) => requests.push(frame),
                        Err(error) => broken = Some(error),
                    },
                    Err(_) => break,
                }
            }
            *progress = true;
            let back = requests.iter().position(|frame| turn(frame).is_some());
            let behind = back.map(|at| requests.split_off(at));
            let mut turned = self.answer(requests, outgoing).await?;
            let mut behind = behind.into_iter().flatten();
            if let (false, Some(answer)) = (turned, behind.next().as_ref().and_then(turn)) {
                send(outgoing, answer).await?;
                turned = true;
            }
            if turned {
                if behind.next().is_some() {
                    return Err(asks_on());
                }
                debug!(peer = ?self.peer, "the connection is turned back");
                return broken.map_or(Ok(()), Err);
            }
            if let Some(error) = broken {
                return Err(error);
            }
        }
    }

    /// Calls the handler and sends its answers; true when one of them has turned the connection back.
    async fn answer(
        &self,
        mut requests: Vec<Frame>,
        outgoing: &mpsc::Sender<Frame>,
    ) -> Result<bool> {
        while !requests.is_empty() {
            let (handler, peer, count) = (self.handler.clone(), self.peer.clone(), requests.len());
            let handled =
                spawn_blocking(move || (handler.handle(&peer, clock(), &requests), requests)).await;
            let Ok((answers, mut handled)) = handled else {
                return Err(Error::new(ErrorKind::Lost, "the handler failed"));
            };
            if !(1..=count).contains(&answers.len()) {
                return Err(Error::new(
                    ErrorKind::Lost,
                    "the handler failed: not an answer to each request",
                ));
            }
            requests = handled.split_off(answers.len());
            debug!(peer = ?self.peer, requests = count, answers = answers.len(), "group answered");
            let mut answers = answers.into_iter();
            while let Some(answer) = answers.next() {
                match answer {
                    Answer::Reply(frame) => send(outgoing, frame).await?,
                    // What a handler that turns connections round itself would ask is not asked: this side has its own conversation.
                    Answer::Turn(frame, _) => {
                        send(outgoing, frame).await?;
                        let last = requests.is_empty() && answers.next().is_none();
                        return if last { Ok(true) } else { Err(asks_on()) };
                    }
                    Answer::ReplyAndClose(frame) => {
                        send(outgoing, frame).await?;
                        return Err(Error::new(ErrorKind::Lost, "closed by the handler"));
                    }
                    _ => return Err(Error::new(ErrorKind::Lost, "closed by the handler")),
                }
            }
        }
        Ok(false)
    }
}

fn asks_on() -> Error {
    Error::new(
        ErrorKind::Protocol,
        "the peer asks on although it has turned the connection back",
    )
}

fn lost() -> Result<Frame> {
    Err(Error::new(ErrorKind::Lost, "the reading task has ended"))
}

fn request(next: Result<Frame>) -> Result<Frame> {
    match next {
        Ok(frame) if !is_request(&frame) => Err(Error::new(
            ErrorKind::Protocol,
            "an answer without a request, on the connection that was turned round",
        )),
        next => next,
    }
}

/// The answer to a request to turn the connection back. It is always accepted: this side has asked to turn it.
fn turn(frame: &Frame) -> Option<Frame> {
    let message = RequestMessage::from_frame(frame)
        .ok()
        .filter(asks_to_turn)?;
    turn_answer(&message, clock().wall).ok()
}

/// Fails when the writer has failed, which happens also when the peer does not take its answers.
async fn send(outgoing: &mpsc::Sender<Frame>, frame: Frame) -> Result<()> {
    outgoing
        .send(frame)
        .await
        .map_err(|_| Error::new(ErrorKind::Lost, "an answer could not be written"))
}
