//! [`Reloader`], which gives a running server other certificates.

use crate::tls::ServerConfig;
use std::sync::{Arc, PoisonError, RwLock};
use tokio_rustls::TlsAcceptor;

/// Gives a running server other certificates.
#[derive(Clone)]
pub struct Reloader(Arc<RwLock<TlsAcceptor>>);

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reloader")
    }
}

impl Reloader {
    pub(super) fn new(acceptor: TlsAcceptor) -> Self {
        Reloader(Arc::new(RwLock::new(acceptor)))
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// From now on the server shows what is in `config`, and trusts whom that trusts. Connections that are open stay, and so do the
    /// server's limits.
    pub fn reload(&self, config: &ServerConfig) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) =
            TlsAcceptor::from(config.tls.clone());
    }
}
