//! Connections that peers turn round, and who hears of commits: what an application needs to tell its replicas at once.

use crate::Server;
use crate::server::Asked;
use keyferry_kmip::{
    Answer, Asking, Conversation, Identity, Now, RequestMessage, asks_to_turn, turn_answer,
};

/// Says who asks on a connection that a peer wants turned round.
pub(crate) type Turning =
    dyn Fn(&Identity, &RequestMessage) -> Option<Box<dyn Conversation>> + Send + Sync;

/// Hears of commits.
pub(crate) type Committed = dyn Fn() + Send + Sync;

impl Server {
    /// Lets peers whose policy allows it ([`Peer::may_turn`](keyferry_s2s::Peer)) turn their connections round (Set Endpoint Role, KMIP 2.1
    /// §6.1.54, since 2.0; before, [`TURN`](keyferry_kmip::TURN)): `asking` gives the conversation that asks on the connection from then on, for
    /// the peer's TLS identity and its request, or refuses. Without it, and for all others, this server stays one.
    #[must_use]
    pub fn with_turning(
        mut self,
        asking: impl Fn(&Identity, &RequestMessage) -> Option<Box<dyn Conversation>>
        + Send
        + Sync
        + 'static,
    ) -> Server {
        self.turning = Some(Box::new(asking));
        self
    }

    /// Calls `heard` after each commit that has moved the head of the feed, before the answers leave: for requests, and for
    /// [`settle`](Server::settle). It must not block; it wakes whoever tells replicas. What a session takes into the store goes past
    /// this server: the session's own observer hears of it.
    #[must_use]
    pub fn on_commit(mut self, heard: impl Fn() + Send + Sync + 'static) -> Server {
        self.committed.push(Box::new(heard));
        self
    }

    pub(crate) fn committed(&self, moved: bool) {
        if moved {
            self.committed.iter().for_each(|heard| heard());
        }
    }

    /// Whether a request is one to turn the connection round, from somebody who may.
    pub(crate) fn may_turn(&self, asked: &Asked) -> bool {
        self.turning.is_some()
            && asks_to_turn(&asked.message)
            && self
                .node()
                .policy
                .peer(&asked.tls)
                .is_some_and(|peer| peer.may_turn)
    }

    /// Turns the connection round, where the application has somebody who asks on it.
    pub(crate) fn turn(&self, asked: &Asked, now: Now) -> Option<Answer> {
        let asking = self.turning.as_ref()?(&asked.tls, &asked.message)?;
        let answer = turn_answer(&asked.message, now.wall).ok()?;
        Some(Answer::Turn(answer, Asking(asking)))
    }
}
