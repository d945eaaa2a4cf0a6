//! An application can let peers turn connections round, and can be called after commits: both serve to send changes to replicas at once.

use crate::request::Request;
use crate::server::Server;
use keyferry_kmip::{
    Answer, Asking, Conversation, Identity, Now, RequestMessage, asks_to_turn, turn_answer,
};

impl Server {
    /// Lets peers turn their connections round, so that this server asks on them (Set Endpoint Role, KMIP 2.1 §6.1.54, since 2.0; before,
    /// [`TURN`](keyferry_kmip::TURN)), where the policy allows it ([`Peer::may_turn`](keyferry_s2s::Peer)).
    ///
    /// `asking` gets the TLS identity of the peer and its request, and returns the conversation that asks on the connection from then on,
    /// or `None` to refuse. Without it, and to all other peers, this server stays the server.
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

    /// Calls `heard` after each commit of requests or of [`store_due_states`](Server::store_due_states) that moved the head of the feed, before the answers leave.
    ///
    /// `heard` must not block; it wakes the code that sends changes to replicas. It is not called for what a session stores, since that
    /// does not pass this server; the observer of the session is.
    #[must_use]
    pub fn on_commit(mut self, heard: impl Fn() + Send + Sync + 'static) -> Server {
        self.committed.push(Box::new(heard));
        self
    }

    /// Calls the hooks for commits when the head of the feed moved.
    pub(crate) fn committed(&self, moved: bool) {
        if moved {
            self.committed.iter().for_each(|heard| heard());
        }
    }

    /// Whether a request asks to turn the connection round and comes from a peer that may.
    pub(crate) fn may_turn(&self, request: &Request) -> bool {
        self.turning.is_some()
            && asks_to_turn(&request.message)
            && self
                .node()
                .policy
                .peer(&request.tls)
                .is_some_and(|peer| peer.may_turn)
    }

    /// Turns the connection round, if the application has a conversation for it.
    pub(crate) fn turn(&self, request: &Request, now: Now) -> Option<Answer> {
        let asking = self.turning.as_ref()?(&request.tls, &request.message)?;
        let answer = turn_answer(&request.message, now.wall).ok()?;
        Some(Answer::Turn(answer, Asking(asking)))
    }
}
