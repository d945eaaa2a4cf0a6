//! The interfaces through which identity, time, randomness and connections come in. Nothing here opens a socket, reads a clock or draws
//! randomness by itself.

use crate::identity::Identity;
use crate::wake::Wake;
use keyferry_ttlv::{DateTime, Frame};
use std::fmt;

/// A monotonic clock's reading, in milliseconds from an arbitrary start.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u64);

/// The time, as the caller knows it.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic tick, for measuring and waiting.
    pub tick: Tick,
    /// The wall clock, for attributes and messages.
    pub wall: DateTime,
}

/// A source of randomness good enough for keys.
pub trait Random: Send {
    /// Fills `out`.
    ///
    /// # Errors
    /// When the source has failed; nothing may be made from `out` then.
    fn fill(&mut self, out: &mut [u8]) -> Result<(), RandomFailed>;
}

/// The source of randomness has failed.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the random number generator failed")]
pub struct RandomFailed;

/// The part of a server that answers requests.
///
/// # Contract
/// Requests that arrived together on one connection come together, in order, and may share one commit. There is one answer for each,
/// in the same order; after one that closes or turns, the rest is missing. A handler may answer fewer than it was given, but not none: the
/// others are offered again when those answers have left. Answers leave only after the commit.
pub trait Handler: Send + Sync {
    /// Answers the requests of `caller`.
    fn handle(&self, caller: &Identity, now: Now, requests: &[Frame]) -> Vec<Answer>;

    /// The message for a stream that could not be cut into messages (garbage, or one over the limit), where one is possible.
    /// The connection is closed behind it. This is called where nothing may block.
    fn refuse(&self, now: Now, why: &keyferry_ttlv::Error) -> Option<Frame>;
}

/// The answer of a [`Handler`] to one request.
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer {
    /// This message goes back.
    Reply(Frame),
    /// This message goes back and the connection is closed.
    ReplyAndClose(Frame),
    /// The connection is closed without an answer.
    Close,
    /// This message goes back, and from then on this side sends the requests: the connection is turned round (Set Endpoint Role, KMIP 2.1
    /// §6.1.54, since 2.0).
    Turn(Frame, Asking),
}

impl Answer {
    /// The message that goes back, whatever becomes of the connection; `None` when it is closed without one.
    pub fn into_message(self) -> Option<Frame> {
        match self {
            Answer::Reply(message) | Answer::ReplyAndClose(message) | Answer::Turn(message, _) => {
                Some(message)
            }
            Answer::Close => None,
        }
    }
}

/// The conversation by which a server asks on a connection that its client has turned round. When it asks to [turn](Step::Turn) the connection
/// back, and the peer accepts, it is dropped, and the peer's requests are answered again; when it is done, the connection is closed.
pub struct Asking(pub Box<dyn Conversation>);

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asking")
    }
}

/// Names one request of a conversation, so that its answer can be told from others under way.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The next step of a [`Conversation`].
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Debug)]
#[non_exhaustive]
pub enum Step {
    /// Send this request under the ticket that was offered.
    Send(Frame),
    /// Send this Set Endpoint Role request under the ticket that was offered, once nothing else is under way ([`turn_request`](crate::turn_request)
    /// makes it). When the answer accepts it, the peer asks from then on, and the conversation is next polled when the peer has turned the
    /// connection back, or on a new one.
    Turn(Frame),
    /// Nothing to send until an answer comes, the tick is reached, or the conversation is woken ([`Conversation::wake`]).
    Wait(Option<Tick>),
    /// Finished; the connection may be closed.
    Done,
}

/// The connection or its peer failed before an answer came.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection lost: {0}")]
pub struct Lost(pub String);

/// The side of a connection that sends the requests. `keyferry-net` or a simulator drives it.
///
/// # Contract
/// `poll` offers a ticket that no other request has; answers come in the order of the requests. A ticket that was not used for a
/// [`Step::Send`] or [`Step::Turn`] is offered again on the same connection. When the connection is lost, every ticket under way is answered with [`Lost`], and the next
/// `poll` comes on a new connection, or not at all.
pub trait Conversation: Send {
    /// Says what to do next.
    fn poll(&mut self, now: Now, ticket: Ticket) -> Step;

    /// Takes the answer to the request with this ticket.
    fn answer(&mut self, now: Now, ticket: Ticket, response: Result<Frame, Lost>);

    /// The [`Wake`] that wakes the conversation before its tick, if it has one. It is asked for once on each connection.
    fn wake(&self) -> Option<Wake> {
        None
    }
}
