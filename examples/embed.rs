//! KMIP in someone else's tokio server: `cargo run --example embed`. What is keyferry's of the server is `handle`; sockets, TLS, threads and
//! the clock are the host's own. Another server then sends it a copy of a key.

use keyferry_crypto::{Ring, SystemRandom};
use keyferry_examples::{Result, pki::Pki};
use keyferry_kmip::spec::CryptographicAlgorithm;
use keyferry_kmip::{
    Answer, CreateRequest, DateTime, Identity, Now, RequestItem, RequestMessage, Tick, context,
};
use keyferry_net::{ClientConfig, Connector, drive};
use keyferry_s2s::{Bulk, BulkOptions, Driven, Peer, Policy, Strategy};
use keyferry_server::{Access, Options, Server};
use keyferry_store::{Incarnation, Memory};
use keyferry_ttlv::{Frame, Framer, Version};
use std::sync::{Arc, LazyLock};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The operations and the s2s responder, over any store.
fn kmip(name: &str, number: u8, policy: Policy) -> Result<Server> {
    let (store, crypto) = (
        Arc::new(Memory::new(Incarnation([number; 16]))),
        Arc::new(Ring::new()),
    );
    let random = Box::new(SystemRandom::new());
    Ok(Server::new(Options {
        server: name.into(),
        store,
        crypto,
        random,
        access: Access::Authenticated,
        policy,
    })?)
}

/// Request bytes in, response bytes out.
fn handle(kmip: &Server, caller: &Identity, now: Now, request: Frame) -> Option<Frame> {
    match kmip.answer(caller, now, &request) {
        Answer::Reply(answer) | Answer::ReplyAndClose(answer) => Some(answer),
        _ => None,
    }
}

fn now() -> Result<Now> {
    static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
    let wall = DateTime(std::time::UNIX_EPOCH.elapsed()?.as_secs().try_into()?);
    Ok(Now {
        tick: Tick(STARTED.elapsed().as_millis().try_into()?),
        wall,
    })
}

async fn connection(kmip: Arc<Server>, mut stream: TlsStream<TcpStream>) -> Result {
    let shown = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .ok_or("no certificate")?;
    let caller = keyferry_net::identity(shown)?;
    let mut framer = Framer::new(1 << 20);
    while let read @ 1.. = stream.read(framer.space()).await? {
        framer.filled(read)?;
        let (Some(request), now) = (framer.frame(), now()?) else {
            continue;
        };
        // A store may wait for its disk.
        let answer = tokio::task::block_in_place(|| handle(&kmip, &caller, now, request));
        stream
            .write_all(&answer.ok_or("closed by the handler")?)
            .await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result {
    let folder = tempfile::tempdir()?;
    let pki = Pki::open(folder.path())?;
    let (acceptor, listener) = (
        TlsAcceptor::from(pki.tls("branch")?),
        TcpListener::bind("127.0.0.1:0").await?,
    );
    let address = listener.local_addr()?.to_string();
    let branch = Arc::new(kmip(
        "branch",
        1,
        Policy::closed().with("centre", Peer::new("centre").may_send()),
    )?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (branch, acceptor) = (branch.clone(), acceptor.clone());
            tokio::spawn(async move { connection(branch, acceptor.accept(stream).await?).await });
        }
    });

    let connector = Connector::new(
        address,
        ClientConfig::new(&pki.credentials("centre", &[])?, "localhost")?,
    );
    let centre = kmip("centre", 2, Policy::closed())?;
    let create = RequestItem::new(
        &CreateRequest::symmetric_key(CryptographicAlgorithm::AES, 256),
        context(Version::V2_1),
    )?;
    let somebody = Identity {
        name: "somebody".into(),
        fingerprint: [0; 32],
    };
    handle(
        &centre,
        &somebody,
        now()?,
        RequestMessage::new(Version::V2_1, vec![create]).to_frame()?,
    );
    let session = Bulk::new(BulkOptions::new("branch", Strategy::Import));
    let mut transfer = Driven::new(
        session,
        centre.store().clone(),
        Box::new(SystemRandom::new()),
    );
    drive(&mut transfer, &connector).await?;
    println!(
        "{} created at branch",
        transfer
            .into_outcome()
            .ok_or("interrupted")??
            .counts
            .created
    );
    Ok(())
}
