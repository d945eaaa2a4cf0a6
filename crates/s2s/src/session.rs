use crate::error::{Error, ErrorKind, Result};
use crate::report::Report;
use keyferry_kmip::{
    Conversation, Lost, Now, Random, RequestMessage, ResponseMessage, Tick, Ticket, Wake,
};
use keyferry_store::Store;
use keyferry_ttlv::Frame;
use std::sync::Arc;

/// What a session may use while it takes a step.
pub struct SessionContext<'a> {
    /// The time.
    pub now: Now,
    /// Our own store.
    pub store: &'a dyn Store,
    /// Randomness.
    pub random: &'a mut dyn Random,
}

/// What a session wants next.
#[derive(Debug)]
#[non_exhaustive]
pub enum Step {
    /// Send this under the ticket that was offered.
    Send(Box<RequestMessage>),
    /// Send this Set Endpoint Role request under the ticket that was offered, once nothing else is under way. When it is accepted, the peer
    /// asks from then on, and the session is polled again when the peer has turned the connection back, or on a new one.
    Turn(Box<RequestMessage>),
    /// Nothing until an answer comes or the tick is reached.
    Wait(Option<Tick>),
    /// Finished.
    Done(Box<Report>),
}

/// A conversation with a peer about the objects of a store, without input and output: whoever drives it has those.
///
/// # Contract
/// Several requests may be under way; answers come in the order of the requests. [`Lost`] says that no answer will come any more: the
/// session goes on from what it has stored, on the next connection. Nothing that an answer did not confirm counts as done.
pub trait Session: Send {
    /// Says what to do next.
    ///
    /// # Errors
    /// When it can't go on. What was confirmed so far is stored.
    fn poll(&mut self, cx: &mut SessionContext<'_>, ticket: Ticket) -> Result<Step>;

    /// Takes the answer to the request with this ticket.
    ///
    /// # Errors
    /// When it can't go on.
    fn answer(
        &mut self,
        cx: &mut SessionContext<'_>,
        ticket: Ticket,
        response: std::result::Result<ResponseMessage, Lost>,
    ) -> Result<()>;
}

/// A way that is chosen at run time.
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

/// A session as the byte-level conversation that the drivers of `net` take.
pub struct Driven<S> {
    session: S,
    store: Arc<dyn Store>,
    random: Box<dyn Random>,
    outcome: Option<Result<Report>>,
    wake: Option<Wake>,
}

impl<S: Session> Driven<S> {
    /// Drives `session` over `store`.
    pub fn new(session: S, store: Arc<dyn Store>, random: Box<dyn Random>) -> Self {
        Driven {
            session,
            store,
            random,
            outcome: None,
            wake: None,
        }
    }

    /// Has the session asked for its next step at once when `wake` is used, although it waits.
    #[must_use]
    pub fn woken_by(mut self, wake: Wake) -> Self {
        self.wake = Some(wake);
        self
    }

    /// How it ended; `None` while it is under way or was interrupted.
    pub fn into_outcome(self) -> Option<Result<Report>> {
        self.outcome
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
