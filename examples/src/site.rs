//! Several key servers on one machine, for the examples that move objects between them over mutual TLS.

use crate::host::{self, Files, Host};
use crate::pki::Pki;
use crate::{Result, log, runtime};
use keyferry_crypto::SystemRandom;
use keyferry_kmip::spec::{AttributeValue as V, CryptographicAlgorithm, CryptographicUsageMask};
use keyferry_kmip::*;
use keyferry_net::{ClientConfig, Connector, drive};
use keyferry_s2s::{Driven, Policy, Report, Session};
use keyferry_server::Rights;
use keyferry_store::{Record, SnapshotExt, StoreExt};
use keyferry_ttlv::{Extra, Version};
use std::ops::ControlFlow;
use std::path::Path;

/// A folder with servers' files and certificates, which vanishes.
pub struct Site {
    folder: tempfile::TempDir,
    pki: Pki,
}

/// The client whose objects the examples make.
pub const OPERATOR: &str = "operator";

impl Site {
    /// An empty one.
    ///
    /// # Errors
    /// When no folder can be made.
    pub fn new() -> Result<Site> {
        let folder = tempfile::tempdir()?;
        let pki = Pki::open(folder.path().join("pki"))?;
        Ok(Site { folder, pki })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a server, where [`OPERATOR`] may read all copies.
    ///
    /// # Errors
    /// When a file or an address can't be used.
    pub async fn start(&self, name: &str, policy: Policy) -> Result<Host> {
        self.start_with(name, policy, host::copies_for(OPERATOR))
            .await
    }

    /// Starts a server with these rights of its clients.
    ///
    /// # Errors
    /// As for [`start`](Site::start).
    pub async fn start_with(&self, name: &str, policy: Policy, rights: Rights) -> Result<Host> {
        let files = Files::beside(self.folder().join(format!("{name}.redb")));
        host::start_with(
            name,
            &files,
            "127.0.0.1:0",
            &self.pki.credentials(name, &[])?,
            policy,
            rights,
        )
        .await
    }

    /// Drives a session of `here`, seen as `caller`, to its end at `there`.
    ///
    /// # Errors
    /// Those of the connection and of the session, and when its counts do not add up.
    pub async fn run(
        &self,
        here: &Host,
        caller: &str,
        there: &Host,
        session: impl Session,
    ) -> Result<Report> {
        run(session, here, &self.connector(caller, there)?).await
    }

    /// Connects to a server as `caller`.
    ///
    /// # Errors
    /// When there is no certificate to be had.
    pub fn connector(&self, caller: &str, there: &Host) -> Result<Connector> {
        self.connector_to(caller, there.handle.local_addr())
    }

    /// Connects as `caller` to a server by way of an address.
    ///
    /// # Errors
    /// When there is no certificate to be had.
    pub fn connector_to(&self, caller: &str, address: std::net::SocketAddr) -> Result<Connector> {
        let config = ClientConfig::new(&self.pki.credentials(caller, &[])?, "127.0.0.1")?;
        Ok(Connector::new(address.to_string(), config))
    }
}

/// Drives a session over the store of `here` to its end.
///
/// # Errors
/// As [`Site::run`].
pub async fn run(session: impl Session, here: &Host, connector: &Connector) -> Result<Report> {
    let mut driven = Driven::new(session, here.store.clone(), Box::new(SystemRandom::new()));
    drive(&mut driven, connector).await?;
    let report = driven
        .into_outcome()
        .ok_or("the session was interrupted")??;
    if !report.counts.add_up() {
        return Err(format!("the counts do not add up: {report}").into());
    }
    Ok(report)
}

/// Runs an example to its end.
pub fn main(example: impl Future<Output = Result>) -> std::process::ExitCode {
    log();
    crate::finish(
        runtime()
            .map_err(Into::into)
            .and_then(|runtime| runtime.block_on(example))
            .map(|()| std::process::ExitCode::SUCCESS),
    )
}

/// Fails with these words unless it holds.
///
/// # Errors
/// The words.
pub fn check(holds: bool, words: impl std::fmt::Display) -> Result {
    if holds {
        Ok(())
    } else {
        Err(format!("this does not hold: {words}").into())
    }
}

/// Has a client of a server do something.
///
/// # Errors
/// What the server refuses.
pub fn ask<Q: Payload, A: Payload>(host: &Host, client: &str, request: &Q) -> Result<A> {
    let cx = context(Version::V2_1);
    let message = RequestMessage::new(Version::V2_1, vec![RequestItem::new(request, cx)?]);
    let caller = Identity::new(client);
    let (Answer::Reply(frame) | Answer::ReplyAndClose(frame)) =
        host.server
            .answer(&caller, keyferry_net::clock(), &message.to_frame()?)
    else {
        return Err("the server did not answer".into());
    };
    let response = ResponseMessage::from_frame(&frame)?;
    let item = response
        .batch
        .first()
        .ok_or("the server answered nothing")?;
    if !item.is_success() {
        return Err(format!(
            "{}: {}",
            Q::OPERATION,
            item.result_message.as_deref().unwrap_or("refused")
        )
        .into());
    }
    Ok(item.payload(cx)?)
}

/// Imports an AES key of 128 bits under an identifier, Active at once.
///
/// # Errors
/// What the server refuses.
pub fn import(
    host: &Host,
    client: &str,
    identifier: &str,
    bytes: [u8; 16],
    attributes: Attributes,
) -> Result {
    let usage = CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::DECRYPT;
    let mut attributes = attributes.with(V::ActivationDate(DateTime(1_600_000_000)));
    attributes.set_default(V::CryptographicUsageMask(usage));
    let object = Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(&bytes));
    let request = ImportRequest {
        unique_identifier: identifier.into(),
        object_type: Some(object.object_type()),
        replace_existing: None,
        key_wrap_type: None,
        attributes,
        object: Some(object),
        extra: Extra::NONE,
    };
    ask::<_, ImportResponse>(host, client, &request).map(drop)
}

/// A Name.
pub fn named(name: impl Into<Text>) -> Attributes {
    Attributes::new().with(V::Name(Name::text(name)))
}

/// All records of a server with their objects, oldest change first.
///
/// # Errors
/// Those of the store.
pub fn held(host: &Host) -> Result<Vec<(Record, Option<Object>)>> {
    Ok(host.store.view::<_, keyferry_store::Error>(|snapshot| {
        let mut numbers = Vec::new();
        snapshot.feed(0, &mut |row| {
            numbers.push(row.record);
            Ok(ControlFlow::Continue(()))
        })?;
        let all = numbers.into_iter().map(|number| snapshot.whole(number));
        Ok(all
            .collect::<std::result::Result<Vec<_>, _>>()?
            .into_iter()
            .flatten()
            .collect())
    })?)
}
