//! KMIP in someone else's tokio server: `cargo run --example embed`. What is keyferry's of the server is `handle`; sockets, TLS and threads are
//! the host's own. Another server then sends it a copy of a key.

use keyferry_crypto::{Ring, SystemRandom};
use keyferry_examples::{Result, pki::Pki};
use keyferry_kmip::spec::CryptographicAlgorithm;
use keyferry_kmip::{CreateRequest, Identity, RequestMessage};
use keyferry_net::{ClientConfig, Connector, clock, drive};
use keyferry_s2s::{Bulk, BulkOptions, Driven, Peer, Policy, Strategy};
use keyferry_server::{Access, Options, Server};
use keyferry_store::{Incarnation, Memory};
use keyferry_ttlv::{Frame, Framer, Version};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The operations and the s2s responder, over any store.
fn kmip(name: &str, number: u8, policy: Policy) -> Result<Server> {
    let store = Arc::new(Memory::new(Incarnation([number; 16])));
    let mut options = Options::new(name, store, Arc::new(Ring::new()), SystemRandom::new());
    (options.access, options.policy) = (Access::Authenticated, policy);
    Ok(Server::new(options)?)
}

/// Request bytes in, response bytes out.
fn handle(kmip: &Server, caller: &Identity, request: Frame) -> Result<Frame> {
    let answer = kmip.answer(caller, clock(), &request);
    Ok(answer.into_message().ok_or("closed by the handler")?)
}

async fn connection(kmip: Arc<Server>, mut stream: TlsStream<TcpStream>) -> Result {
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let caller = keyferry_net::identity(certificates.first().ok_or("no certificate")?)?;
    let mut framer = Framer::new(1 << 20);
    while let read @ 1.. = stream.read(framer.space()).await? {
        framer.filled(read)?;
        if let Some(request) = framer.frame() {
            // A store may wait for its disk.
            let answer = tokio::task::block_in_place(|| handle(&kmip, &caller, request))?;
            stream.write_all(&answer).await?;
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result {
    let folder = tempfile::tempdir()?;
    let pki = Pki::open(folder.path())?;
    let acceptor = TlsAcceptor::from(pki.tls("branch")?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let policy = Policy::closed().with("centre", Peer::new("centre").may_send());
    let branch = Arc::new(kmip("branch", 1, policy)?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (branch, acceptor) = (branch.clone(), acceptor.clone());
            tokio::spawn(async move { connection(branch, acceptor.accept(stream).await?).await });
        }
    });

    let centre = kmip("centre", 2, Policy::closed())?;
    let somebody = Identity::new("somebody");
    let create = CreateRequest::symmetric_key(CryptographicAlgorithm::AES, 256);
    let create = RequestMessage::with_item(Version::V2_1, &create)?;
    handle(&centre, &somebody, create.to_frame()?)?;

    let config = ClientConfig::new(&pki.credentials("centre", &[])?, "localhost")?;
    let session = Bulk::new(BulkOptions::new("branch", Strategy::Import));
    let random = Box::new(SystemRandom::new());
    let mut transfer = Driven::new(session, centre.store().clone(), random);
    drive(&mut transfer, &Connector::new(address, config)).await?;
    let created = transfer.into_report()?.counts.created;
    println!("{created} created at branch");
    Ok(())
}
