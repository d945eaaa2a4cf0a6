//! The client for programs that are not asynchronous.
//!
//! Each [`Client`] brings a small runtime of its own that works only while a call is under way, on the caller's thread. (Looking up a
//! host name takes a thread for a moment.) Don't use it from within an asynchronous task, where tokio panics rather than block;
//! `spawn_blocking` is fine.

use crate::client::{Connection, Connector};
use crate::error::{Error, ErrorKind, Result};
use crate::retry::Retry;
use crate::tls::ClientConfig;
use keyferry_kmip::{Conversation, Identity};
use keyferry_ttlv::Frame;
use std::future::Future;
use tokio::runtime::{Builder, Runtime};

/// A runtime that may be dropped anywhere.
struct Own(Option<Runtime>);

impl Own {
    fn new() -> Result<Own> {
        let built = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build();
        built
            .map(|runtime| Own(Some(runtime)))
            .map_err(|error| Error::of(ErrorKind::Connect, error))
    }

    fn block_on<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        match &self.0 {
            Some(runtime) => runtime.block_on(future),
            None => Err(Error::new(ErrorKind::Lost, "the client is closed")),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A connection to a server.
pub struct Client {
    connection: Connection,
    runtime: Own, // after the connection, which it serves
}

impl Client {
    /// Connects to `address`, as [`Connector`] does.
    ///
    /// # Errors
    /// Those of [`Connector::connect`].
    pub fn connect(address: impl Into<String>, config: &ClientConfig) -> Result<Client> {
        let runtime = Own::new()?;
        let connection = runtime.block_on(Connector::new(address, config.clone()).connect())?;
        Ok(Client {
            connection,
            runtime,
        })
    }

    /// The server's identity.
    pub fn peer(&self) -> &Identity {
        self.connection.peer()
    }

    /// Sends a request and waits for its answer, for [`answer_time`](ClientConfig::answer_time) at most.
    ///
    /// # Errors
    /// Those of [`Connection::call`].
    pub fn call(&mut self, request: &Frame) -> Result<Frame> {
        self.runtime.block_on(self.connection.call(request))
    }

    /// Sends requests without waiting for the answers in between, and returns the answers in the order of the requests.
    ///
    /// # Errors
    /// Those of [`Connection::call_all`].
    pub fn call_all(&mut self, requests: &[Frame]) -> Result<Vec<Frame>> {
        self.runtime.block_on(self.connection.call_all(requests))
    }

    /// Says goodbye and closes the connection.
    pub fn close(self) {
        let Client {
            connection,
            runtime,
        } = self;
        let _ = runtime.block_on(async {
            connection.close().await;
            Ok(())
        });
    }
}

/// Drives a conversation over one connection until it is done, as [`drive`](crate::drive()) does.
///
/// # Errors
/// Those of [`drive`](crate::drive()).
pub fn drive(conversation: &mut dyn Conversation, connector: &Connector) -> Result<()> {
    Own::new()?.block_on(crate::drive(conversation, connector))
}

/// Drives a conversation until it is done, over as many connections as it takes, as [`drive_with_retry`](crate::drive_with_retry) does.
///
/// # Errors
/// Those of [`drive_with_retry`](crate::drive_with_retry).
pub fn drive_with_retry(
    conversation: &mut dyn Conversation,
    connector: &Connector,
    retry: &Retry,
) -> Result<()> {
    Own::new()?.block_on(crate::drive::drive_with_retry(
        conversation,
        connector,
        retry,
    ))
}
