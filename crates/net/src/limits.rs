//! The limits of a server: how much it takes from a connection, and how long it waits.

use std::time::Duration;

/// The limits of a server: how much it takes from a connection, and how long it waits.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// The longest message, header included. 16 MiB.
    pub message_size: usize,
    /// Connections open at once, TLS established. Further ones are closed. 1024.
    pub connections: usize,
    /// TLS handshakes under way at once. When there is one more, the oldest of them is given up, so that silent peers can't
    /// keep others out. Twice the connections: after a restart all clients come at once. 2048.
    pub handshakes: usize,
    /// Time for the TLS handshake. 10 s.
    pub handshake_time: Duration,
    /// Time for one message to arrive whole once it has begun, and for an answer to be taken by the client. 30 s.
    pub message_time: Duration,
    /// Time without any answer while requests are under way on a connection that its client has turned round. 60 s.
    pub answer_time: Duration,
    /// Time that a connection may stay silent between messages, unless it is turned round. 10 min.
    pub idle_time: Duration,
    /// Requests that arrived together and go to the handler as one group, by number; also requests under way at once on a connection that
    /// its client has turned round. 64.
    pub group_requests: usize,
    /// Bytes in a group of requests: once it has this many, it takes no further request. 2 MiB.
    pub group_bytes: usize,
    /// Time for what has begun to be finished at a shutdown. 30 s.
    pub shutdown_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message_size: 16 << 20,
            connections: 1024,
            handshakes: 2048,
            handshake_time: Duration::from_secs(10),
            message_time: Duration::from_secs(30),
            answer_time: Duration::from_secs(60),
            idle_time: Duration::from_secs(600),
            group_requests: 64,
            group_bytes: 2 << 20,
            shutdown_time: Duration::from_secs(30),
        }
    }
}
