//! A few key servers on this machine, each over a file of its own, and an operator who is a client of all.

use crate::{Result, host, host::Files, host::Host, pki::Pki};
use keyferry_crypto::SystemRandom;
use keyferry_kmip::{Payload, RequestItem, RequestMessage, ResponseMessage, Text, context};
use keyferry_net::{ClientConfig, Connector, blocking};
use keyferry_s2s::{Driven, Policy, Report, Session};
use keyferry_ttlv::Version;

/// Where they play.
pub struct Stage {
    folder: tempfile::TempDir,
    pki: Pki,
    runtime: tokio::runtime::Runtime,
}

impl Stage {
    /// An empty one, with a certificate authority.
    ///
    /// # Errors
    /// When files or threads can't be made.
    pub fn new() -> Result<Stage> {
        let folder = tempfile::tempdir()?;
        let pki = Pki::open(folder.path().join("pki"))?;
        Ok(Stage { folder, pki, runtime: crate::runtime()? })
    }

    /// Starts the server `name`.
    ///
    /// # Errors
    /// As [`host::start`].
    pub fn server(&self, name: &str, policy: Policy) -> Result<Host> {
        let files = Files::beside(self.folder.path().join(name).with_extension("redb"));
        let credentials = self.pki.credentials(name, &[])?;
        self.runtime.block_on(host::start(name, &files, "127.0.0.1:0", &credentials, policy))
    }

    /// Runs a session of the server `name` with another one.
    ///
    /// # Errors
    /// When the session or its connection fails.
    pub fn run(&self, session: impl Session + 'static, name: &str, own: &Host, peer: &Host) -> Result<Report> {
        let config = ClientConfig::new(&self.pki.credentials(name, &[])?, "127.0.0.1")?;
        let connector = Connector::new(peer.handle.local_addr().to_string(), config);
        let mut driven = Driven::new(session, own.store.clone(), Box::new(SystemRandom::new()));
        blocking::drive(&mut driven, &connector)?;
        Ok(driven.into_outcome().ok_or("the session was interrupted")??)
    }

    /// A client of a server.
    ///
    /// # Errors
    /// When it can't connect.
    pub fn operator(&self, server: &Host) -> Result<Operator> {
        let config = ClientConfig::new(&self.pki.credentials("operator", &[])?, "127.0.0.1")?;
        Ok(Operator(blocking::Client::connect(server.handle.local_addr().to_string(), &config)?))
    }
}

/// A client that speaks 2.1.
pub struct Operator(blocking::Client);

impl Operator {
    /// Asks for one operation.
    ///
    /// # Errors
    /// The server's Result Reason and Message, or that of the connection.
    pub fn ask<A: Payload>(&mut self, request: &impl Payload) -> Result<A> {
        let cx = context(Version::V2_1);
        let request = RequestMessage::new(Version::V2_1, vec![RequestItem::new(request, cx)?]).to_frame()?;
        let answer = ResponseMessage::from_frame(&self.0.call(&request)?)?;
        let item = answer.batch.first().ok_or("an empty answer")?;
        if !item.is_success() {
            let reason = item.result_reason.map_or_else(String::new, |reason| reason.to_string());
            return Err(format!("{reason}: {}", item.result_message.as_ref().map_or("", Text::as_str)).into());
        }
        Ok(item.payload(cx)?)
    }
}
