//! A KMIP server over one file.

use crate::Result;
use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::Random;
use keyferry_net::{Credentials, ServerConfig, ServerHandle};
use keyferry_s2s::Policy;
use keyferry_server::{Access, Options, Server};
use keyferry_store::{ErrorKind, Incarnation, Store};
use keyferry_store_redb::RedbStore;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server that runs, and what it serves.
pub struct Host {
    /// Its semantics.
    pub server: Arc<Server>,
    /// Its store.
    pub store: Arc<dyn Store>,
    /// Its sockets.
    pub handle: ServerHandle,
}

/// The page cache of a store. A larger one brought no speed with a million objects, and every thread's heap grows with it.
const CACHE: usize = 16 << 20;

/// Opens the store in `file`, or makes it.
///
/// # Errors
/// When the file can't be used.
pub fn open(file: &Path) -> Result<Arc<dyn Store>> {
    let mut incarnation = [0; 16];
    SystemRandom::new().fill(&mut incarnation)?;
    let options =
        keyferry_store_redb::Options { cache_bytes: CACHE, ..keyferry_store_redb::Options::new(Incarnation(incarnation)) };
    // A process that was just killed may hold its file for a moment yet.
    let patience = Instant::now() + Duration::from_secs(3);
    loop {
        match RedbStore::open(file, options) {
            Err(error) if error.kind() == ErrorKind::Io && Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(100))
            }
            opened => return Ok(Arc::new(opened?)),
        }
    }
}

/// Starts the server `name` on `address`; every client that the authority has signed may use it.
///
/// # Errors
/// When the file, the certificates or the address can't be used.
pub async fn start(name: &str, file: &Path, address: &str, credentials: &Credentials, policy: Policy) -> Result<Host> {
    let store = open(file)?;
    let server = Arc::new(Server::new(Options {
        server: name.into(),
        store: store.clone(),
        crypto: Arc::new(Ring::new()),
        random: Box::new(SystemRandom::new()),
        access: Access::Authenticated,
        policy,
    })?);
    let listener = keyferry_net::Server::bind(address, ServerConfig::new(credentials)?, server.clone()).await?;
    Ok(Host { server, store, handle: listener.serve() })
}
