//! A session with a peer, without input and output, and [`Driven`], which makes it a conversation that the network drivers carry.

use crate::error::{Error, ErrorKind, Result};
use crate::report::Report;
use keyferry_kmip::{
    Conversation, Lost, Now, Random, RequestMessage, ResponseMessage, Tick, Ticket, Wake,
};
use keyferry_store::Store;
use keyferry_ttlv::Frame;
use std::fmt;
use std::sync::Arc;

/// What a session may use while it takes a step: the time, the store and randomness.
pub struct SessionContext<'a> {
    /// The time.
    pub now: Now,
    /// The store of this server.
    pub store: &'a dyn Store,
    /// The source of randomness.
    pub random: &'a mut dyn Random,
}

/// What the driver of a session is to do next.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step {
    /// Send this under the ticket that was offered.
    Send(Box<RequestMessage>),
    /// Send this Set Endpoint Role request under the ticket that was offered, once all other requests are answered. If the peer accepts it, the
    /// peer sends requests from then on. Poll the session again when the peer has turned the connection back, or on a new connection.
    Turn(Box<RequestMessage>),
    /// Wait for an answer, or until the tick if there is one.
    Wait(Option<Tick>),
    /// The session has finished with this report.
    Done(Box<Report>),
}

/// A conversation with a peer about the objects of a store. It does no input and output: its driver sends what [`poll`](Session::poll) returns,
/// and hands it each response.
///
/// # Contract
/// Several requests may be unanswered at a time; answers come in the order of the requests. [`Lost`] says that no answer will come any more:
/// then the session continues on the next connection from what it has stored. Only what an answer has confirmed counts as done.
pub trait Session: Send {
    /// Returns what to do next. A request is sent under `ticket`.
    ///
    /// # Errors
    /// When the session can't continue. What was confirmed so far is stored.
    fn poll(&mut self, cx: &mut SessionContext<'_>, ticket: Ticket) -> Result<Step>;

    /// Takes the answer to the request with this ticket.
    ///
    /// # Errors
    /// When the session can't continue.
    fn answer(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()>;
}

/// A session whose kind is chosen at run time.
impl<S: Session + ?Sized> Session for Box<S> {
    fn poll(&mut self, cx: &mut SessionContext<'_>, ticket: Ticket) -> Result<Step> {
        (**self).poll(cx, ticket)
    }

    fn answer(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()> {
        (**self).answer(cx, ticket, response)
    }
}

/// A session as a conversation in bytes, which the drivers of `keyferry-net` carry to the peer.
pub struct Driven<S> {
    session: S,
    store: Arc<dyn Store>,
    random: Box<dyn Random>,
    outcome: Option<Result<Report>>,
    wake: Option<Wake>,
}

impl fmt::Debug for SessionContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionContext")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

impl<S> fmt::Debug for Driven<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driven")
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl<S: Session> Driven<S> {
    /// A conversation that drives `session` over `store`.
    pub fn new(session: S, store: Arc<dyn Store>, random: Box<dyn Random>) -> Self {
        Driven {
            session,
            store,
            random,
            outcome: None,
            wake: None,
        }
    }

    /// Lets `wake` end a wait of the session: then it is polled at once.
    #[must_use]
    pub fn woken_by(mut self, wake: Wake) -> Self {
        self.wake = Some(wake);
        self
    }

    /// How the session ended; `None` if it has not ended yet, or was interrupted.
    pub fn into_outcome(self) -> Option<Result<Report>> {
        self.outcome
    }

    /// What the session reports.
    ///
    /// # Errors
    /// What the session ended by, and [`ErrorKind::Peer`] when it has not ended yet, or was interrupted.
    pub fn into_report(self) -> Result<Report> {
        self.outcome
            .unwrap_or_else(|| Err(Error::new(ErrorKind::Peer, "the session was interrupted")))
    }

    fn failed(&mut self, error: Error) {
        self.outcome = Some(Err(error));
    }
}

impl<S: Session> Conversation for Driven<S> {
    fn poll(&mut self, now: Now, ticket: Ticket) -> keyferry_kmip::Step {
        if self.outcome.is_some() {
            return keyferry_kmip::Step::Done;
        }
        let mut cx = SessionContext {
            now,
            store: &*self.store,
            random: &mut *self.random,
        };
        let step = self.session.poll(&mut cx, ticket).and_then(|step| {
            Ok(match step {
                Step::Send(message) => {
                    keyferry_kmip::Step::Send(message.to_frame().map_err(Error::encode)?)
                }
                Step::Turn(message) => {
                    keyferry_kmip::Step::Turn(message.to_frame().map_err(Error::encode)?)
                }
                Step::Wait(tick) => keyferry_kmip::Step::Wait(tick),
                Step::Done(report) => {
                    self.outcome = Some(Ok(*report));
                    keyferry_kmip::Step::Done
                }
            })
        });
        step.unwrap_or_else(|error| {
            self.failed(error);
            keyferry_kmip::Step::Done
        })
    }

    fn answer(&mut self, now: Now, ticket: Ticket, response: std::result::Result<Frame, Lost>) {
        if self.outcome.is_some() {
            return;
        }
        let response = match response {
            Ok(frame) => match ResponseMessage::from_frame(&frame) {
                Ok(message) => Ok(message),
                Err(error) => {
                    return self.failed(Error::new(
                        ErrorKind::Protocol,
                        format_args!("the peer's answer can't be read: {error}"),
                    ));
                }
            },
            Err(lost) => Err(lost),
        };
        let mut cx = SessionContext {
            now,
            store: &*self.store,
            random: &mut *self.random,
        };
        if let Err(error) = self.session.answer(&mut cx, ticket, response) {
            self.failed(error);
        }
    }

    fn wake(&self) -> Option<Wake> {
        self.wake.clone()
    }
}
