//! The TLS side of the configuration: credentials, versions, and what a server or a client needs to know.

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::pem;
use rustls::RootCertStore;
use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The versions of TLS that may be spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocols {
    /// TLS 1.2 and 1.3.
    #[default]
    Both,
    /// TLS 1.2 only.
    Tls12,
    /// TLS 1.3 only.
    Tls13,
}

impl Protocols {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        use rustls::version::{TLS12, TLS13};
        static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        match self {
            Protocols::Both => &BOTH,
            Protocols::Tls12 => BOTH.get(1..).unwrap_or_default(),
            Protocols::Tls13 => BOTH.get(..1).unwrap_or_default(),
        }
    }
}

/// The certificates that one side shows to the other, and the roots that it trusts. The same for a server and a client.
pub struct Credentials {
    roots: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    protocols: Protocols,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Credentials({} roots, {} certificates, {:?})",
            self.roots.len(),
            self.chain.len(),
            self.protocols
        )
    }
}

impl Credentials {
    /// Trusts certificates below `roots`; shows `chain`, own certificate first, whose private key is `key`.
    pub fn new(
        roots: Vec<CertificateDer<'static>>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Self {
        Credentials {
            roots,
            chain,
            key,
            protocols: Protocols::default(),
        }
    }

    /// Credentials from three PEM files.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], naming the file and the reason.
    pub fn from_files(
        roots: impl AsRef<Path>,
        chain: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self> {
        Ok(Credentials::new(
            pem::certificates(roots)?,
            pem::certificates(chain)?,
            pem::private_key(key)?,
        ))
    }

    /// Speaks only these versions of TLS.
    pub fn with_protocols(mut self, protocols: Protocols) -> Self {
        self.protocols = protocols;
        self
    }

    fn root_store(&self) -> Result<RootCertStore> {
        let mut store = RootCertStore::empty();
        for root in &self.roots {
            store
                .add(root.clone())
                .map_err(|error| config("a root certificate", error))?;
        }
        if store.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                "no root certificate: nobody would be trusted",
            ));
        }
        Ok(store)
    }
}

fn config(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Config, format_args!("{what}: {error}")).with_source(error)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The configuration of a [`Server`](crate::Server).
#[derive(Clone)]
pub struct ServerConfig {
    pub(crate) tls: Arc<rustls::ServerConfig>,
    /// The limits of its connections.
    pub limits: Limits,
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl ServerConfig {
    /// Clients must show a certificate below the roots of `credentials`, on every connection anew: sessions are not resumed.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when a certificate or the key is unusable, or they do not belong together.
    pub fn new(credentials: &Credentials) -> Result<Self> {
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(credentials.root_store()?),
            provider(),
        )
        .build()
        .map_err(|error| config("root certificates", error))?;
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(credentials.protocols.versions())
            .map_err(|error| config("TLS versions", error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(credentials.chain.clone(), credentials.key.clone_key())
            .map_err(|error| config("certificate and private key", error))?;
        tls.session_storage = Arc::new(NoServerSessionStorage {});
        tls.send_tls13_tickets = 0;
        Ok(ServerConfig::from_tls(Arc::new(tls)))
    }

    /// Takes a TLS configuration made elsewhere: keys in hardware, revocation lists.
    /// It must ask for client certificates; a connection without one is closed.
    pub fn from_tls(tls: Arc<rustls::ServerConfig>) -> Self {
        ServerConfig {
            tls,
            limits: Limits::default(),
        }
    }
}

/// The configuration of a client.
#[derive(Clone)]
pub struct ClientConfig {
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) server_name: ServerName<'static>,
    /// Time for the TCP connection and the TLS handshake. 10 s.
    pub connect_time: Duration,
    /// Time without any answer while requests are under way. 60 s.
    pub answer_time: Duration,
    /// The longest answer, header included. 16 MiB.
    pub message_size: usize,
    /// Requests under way at once. 64.
    pub in_flight: usize,
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("server_name", &self.server_name)
            .field("connect_time", &self.connect_time)
            .field("answer_time", &self.answer_time)
            .field("message_size", &self.message_size)
            .field("in_flight", &self.in_flight)
            .finish_non_exhaustive()
    }
}

impl ClientConfig {
    /// The server must show a certificate below the roots of `credentials`, with `server_name` among its Subject Alternative Names.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when a certificate or the key is unusable, or `server_name` is neither a DNS name nor an IP address.
    pub fn new(credentials: &Credentials, server_name: &str) -> Result<Self> {
        let tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(credentials.protocols.versions())
            .map_err(|error| config("TLS versions", error))?
            .with_root_certificates(credentials.root_store()?)
            .with_client_auth_cert(credentials.chain.clone(), credentials.key.clone_key())
            .map_err(|error| config("certificate and private key", error))?;
        ClientConfig::from_tls(Arc::new(tls), server_name)
    }

    /// Takes a TLS configuration made elsewhere.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when `server_name` is neither a DNS name nor an IP address.
    pub fn from_tls(tls: Arc<rustls::ClientConfig>, server_name: &str) -> Result<Self> {
        let server_name = ServerName::try_from(server_name.to_owned())
            .map_err(|error| config(server_name, error))?;
        Ok(ClientConfig {
            tls,
            server_name,
            connect_time: Duration::from_secs(10),
            answer_time: Duration::from_secs(60),
            message_size: 16 << 20,
            in_flight: 64,
        })
    }
}
