//! [`Server`], which answers clients over mutual TLS, and the handle of one that runs.

mod connection;
mod handshakes;
mod reload;

use crate::counters::Counters;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::tls::ServerConfig;
use handshakes::Handshakes;
use keyferry_kmip::Handler;
pub use reload::Reloader;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

/// A KMIP server over mutual TLS: it hands the messages of its clients to a [`Handler`] and sends back what that answers.
///
/// Each connection is a task of its own; the handler runs on tokio's blocking threads. Requests that have arrived together on one
/// connection are handed over as one group, in order.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// The state that the connections of a server share.
struct Shared {
    tls: Reloader,
    limits: Limits,
    handler: Arc<dyn Handler>,
    counters: Arc<Counters>,
    handshakes: Handshakes,
    connections: Arc<Semaphore>,
}

impl Server {
    /// Listens on `address`; port 0 lets the system choose one.
    ///
    /// # Errors
    /// [`ErrorKind::Listen`] when the address can't be had.
    pub async fn bind(
        address: impl ToSocketAddrs,
        config: ServerConfig,
        handler: Arc<dyn Handler>,
    ) -> Result<Server> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|error| Error::of(ErrorKind::Listen, error))?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::of(ErrorKind::Listen, error))?;
        let ServerConfig { tls, limits } = config;
        let shared = Arc::new(Shared {
            tls: Reloader::new(TlsAcceptor::from(tls)),
            handler,
            counters: Arc::default(),
            handshakes: Handshakes::new(limits.handshakes),
            connections: Arc::new(Semaphore::new(
                limits.connections.min(Semaphore::MAX_PERMITS),
            )),
            limits,
        });
        Ok(Server {
            listener,
            address,
            shared,
        })
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The counters of what the server has done so far.
    pub fn counters(&self) -> Arc<Counters> {
        self.shared.counters.clone()
    }

    /// The means to give the server other certificates while it runs.
    pub fn reloader(&self) -> Reloader {
        self.shared.tls.clone()
    }

    /// Serves until `shutdown` is ready, then finishes what has begun: requests that have arrived whole are answered, half messages
    /// are not waited for. Dropping this future stops everything at once.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Server {
            listener,
            address,
            shared,
        } = self;
        let (stop, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        info!(%address, "listening");
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        connections.spawn(serve(shared.clone(), stream, peer, stopped.clone()));
                    }
                    Err(error) => {
                        // Mostly too many open files: others may give some back soon.
                        warn!(%address, %error, "no connection could be accepted");
                        sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
        drop(listener);
        let _ = stop.send(true); // fails only when nobody is left to hear it
        let rest = async {
            while let Some(ended) = connections.join_next().await {
                report(ended);
            }
        };
        if timeout(shared.limits.shutdown_time, rest).await.is_err() {
            warn!(%address, connections = shared.counters.open(), "connections cut off at shutdown");
        }
        info!(%address, "stopped");
    }

    /// Serves on a task of its own.
    pub fn serve(self) -> ServerHandle {
        let (stop, stopped) = oneshot::channel();
        let (address, counters, reloader) = (self.address, self.counters(), self.reloader());
        let task = tokio::spawn(self.run(async {
            let _ = stopped.await; // a handle that is gone aborts the task anyway
        }));
        ServerHandle {
            address,
            counters,
            reloader,
            stop: Some(stop),
            task,
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        warn!("a connection's task panicked");
    }
}

async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    stop: watch::Receiver<bool>,
) {
    if let Some(connection) = connection::accept(&shared, stream, peer, stop).await {
        connection.run().await;
    }
}

/// A server that runs on a task of its own. Dropping it stops the server at once; [`ServerHandle::shutdown`] lets it finish.
#[must_use = "the server stops when its handle is dropped"]
pub struct ServerHandle {
    address: SocketAddr,
    counters: Arc<Counters>,
    reloader: Reloader,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl ServerHandle {
    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The counters of what the server has done so far.
    pub fn counters(&self) -> Arc<Counters> {
        self.counters.clone()
    }

    /// The means to give the server other certificates while it runs.
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Stops listening, finishes what has begun and closes all connections.
    pub async fn shutdown(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(()); // fails only when the server has ended already
        }
        let _ = (&mut self.task).await; // run() has nothing to return
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}
