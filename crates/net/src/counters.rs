//! [`Counters`], what a server has done so far, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of what a server has done since it was bound. Reading is cheap and never blocks.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    refused: AtomicU64,
    open: AtomicU64,
    turned: AtomicU64,
    requests: AtomicU64,
    groups: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Counters {
    /// Connections whose client was accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that ended before a client was accepted: no TLS, an unknown client, too many connections.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Accepted connections that are open now.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// The number of times that a client has turned its connection round.
    pub fn turned(&self) -> u64 {
        self.turned.load(Ordering::Relaxed)
    }

    /// Requests handed to the handler.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Groups that these requests were handed over in.
    pub fn groups(&self) -> u64 {
        self.groups.load(Ordering::Relaxed)
    }

    /// Bytes of requests handed to the handler.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes of answers written.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn turn(&self) {
        self.turned.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn group(&self, requests: usize, bytes: usize) {
        self.groups.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(requests as u64, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn wrote(&self, bytes: u64) {
        self.bytes_out.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One open connection, for as long as it lives.
pub(crate) struct Open<'a>(&'a Counters);

impl<'a> Open<'a> {
    pub(crate) fn new(counters: &'a Counters) -> Self {
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        counters.open.fetch_add(1, Ordering::Relaxed);
        Open(counters)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
