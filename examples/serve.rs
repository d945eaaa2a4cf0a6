//! One KMIP server over a file, until Ctrl-C: `cargo run --release --example serve -- --data DIR --listen ADDR`.

use keyferry_examples::{Result, finish, host, host::Files, log, pki::Pki, runtime};
use keyferry_net::ServerConfig;
use keyferry_s2s::{Peer, PeerName, Policy, RottenRecord};
use keyferry_server::{Grant, Granted, Level, Rights};
use keyferry_store::{Store, StoreExt};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

const HELP: &str = "\
serve: a KMIP server, 1.0 to 2.1, over mutual TLS

  --data DIR       where its objects and certificates are (made if there are none)
  --name NAME      its server id among others (server)
  --seal-key FILE  the key that the store is sealed under, 64 hexadecimal digits (DATA/objects.seal, made if there is none)
  --verify         reads all of the store first, names what was altered, and then does not serve
  --restored       the data folder was put back from a backup: peers notice, and its objects do not change until each replica (--replica)
                   that has followed it has given back what it holds
  --listen ADDR    where it listens (127.0.0.1:5696)
  --peer NAME      a server whose certificate has this name may send copies of its objects; may be given several times. No client may use
                   the copies unless a --reader is given. NAME is the Common Name of its certificate and its server id. With
                   NAME=key:SHA256 the certificate must hold the public key of this hash (64 hexadecimal digits), whatever its name: a
                   renewed certificate may keep the key, and one that somebody else got for the same name does not have it
  --replica NAME   a server with this name or key may follow this one, and give back what a restored one has lost; the same
  --reader CLIENT  the client whose certificate has this name may find and read ALL copies of other servers' objects, whoever owns them
                   there; may be given several times. ALL-CLIENTS lets every client with a certificate of this authority do so
";

fn main() -> ExitCode {
    log();
    finish(
        runtime()
            .map_err(Into::into)
            .and_then(|runtime| runtime.block_on(run()))
            .map(|()| ExitCode::SUCCESS),
    )
}

async fn run() -> Result {
    let (mut data, mut listen) = (None::<PathBuf>, "127.0.0.1:5696".to_owned());
    let (mut peers, mut readers) = (BTreeMap::<PeerName, Peer>::new(), Vec::<String>::new());
    let (mut seal_key, mut restored, mut server) = (None::<PathBuf>, false, "server".to_owned());
    let mut verify = false;
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        use lexopt::prelude::*;
        match arg {
            Long("data") => data = Some(args.value()?.into()),
            Long("name") => server = args.value()?.string()?,
            Long("listen") => listen = args.value()?.string()?,
            Long("seal-key") => seal_key = Some(args.value()?.into()),
            Long("restored") => restored = true,
            Long("reader") => readers.push(args.value()?.string()?),
            Long("peer") => grant(&mut peers, &args.value()?.string()?, Peer::may_send)?,
            Long("replica") => {
                let name = args.value()?.string()?;
                grant(&mut peers, &name, |peer| peer.may_follow().may_give_back())?;
            }
            Long("verify") => verify = true,
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(());
            }
            other => return Err(format!("{}; --help tells the options", other.unexpected()).into()),
        }
    }
    let data = data.ok_or("--data DIR is needed; --help tells the options")?;
    let pki = Pki::open(data.join("pki"))?;
    let hosts: Vec<String> = listen
        .rsplit_once(':')
        .map(|(host, _)| host.trim_matches(['[', ']']).to_owned())
        .into_iter()
        .collect();
    let hosts: Vec<String> = hosts
        .into_iter()
        .filter(|host| !matches!(host.as_str(), "" | "0.0.0.0" | "::"))
        .collect();
    // A certificate names the hosts it is good for, so another address needs another one.
    let name = hosts.iter().fold("server".to_owned(), |name, host| {
        format!("{name}-{}", host.replace([':', '/'], "_"))
    });
    let credentials = pki.credentials(&name, &hosts)?;
    pki.credentials("client", &[])?;
    let mut files = Files::beside(data.join("objects.redb"));
    files.key = seal_key.unwrap_or(files.key);
    files.restored = restored;
    files.verify = verify;
    let mut policy = Policy::closed();
    for (name, peer) in peers {
        policy = policy.with(name, peer);
    }
    let rights = rights_of(&readers);
    let host = host::start_with(&server, &files, &listen, &credentials, policy, rights).await?;
    let mut hangups = Hangups::new()?; // before anybody is told that there is a server
    let (certificate, key) = pki.files("client");
    println!("listening on        {}", host.handle.local_addr());
    println!("CA certificate      {}", pki.ca().display());
    println!("client certificate  {}", certificate.display());
    println!("client key          {}", key.display());
    for reader in &readers {
        let who = match reader.as_str() {
            ALL_CLIENTS => "EVERY client".to_owned(),
            name => format!("the client {name:?}"),
        };
        println!("{who} may read all copies of other servers' objects, whoever owns them there");
    }
    let reloader = host.handle.reloader();
    let reload = || match pki
        .credentials(&name, &hosts)
        .and_then(|read| Ok(ServerConfig::new(&read)?))
    {
        Ok(config) => reloader.reload(&config),
        Err(error) => tracing::error!(%error, "the certificates stay as they are"),
    };
    tokio::select! {
        result = stopped() => result?,
        () = hangups.each(reload) => {}
        () = settle(host.server.clone(), host.store.clone()) => {}
    }
    host.handle.shutdown().await;
    Ok(())
}

/// The `--reader` that stands for every client.
const ALL_CLIENTS: &str = "ALL-CLIENTS";

/// The rights of owners, and of those that may read all copies.
fn rights_of(readers: &[String]) -> Rights {
    readers.iter().fold(Rights::owners(), |rights, reader| {
        rights.with(Grant {
            client: (reader != ALL_CLIENTS).then(|| reader.as_str().into()),
            objects: Granted::Copies,
            level: Level::Read,
        })
    })
}

/// The server id of a peer, and by what its certificate is recognised: the same as its name, or by the hash of its public key.
fn server_and_name(text: &str) -> Result<(&str, PeerName)> {
    let Some((server, digits)) = text.split_once("=key:") else {
        return Ok((text, PeerName::named(text)));
    };
    let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..32).map(|n| byte(2 * n)).collect();
    let key = bytes
        .filter(|_| digits.len() == 64)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| format!("{text:?}: key: takes 64 hexadecimal digits"))?;
    Ok((server, PeerName::keyed([key])))
}

/// Lets a peer do something more.
fn grant(
    peers: &mut BTreeMap<PeerName, Peer>,
    text: &str,
    more: impl FnOnce(Peer) -> Peer,
) -> Result {
    let (server, name) = server_and_name(text)?;
    let peer = peers.remove(&name).unwrap_or_else(|| Peer::new(server));
    peers.insert(name, more(peer));
    Ok(())
}

/// Stores the States that dates have led to, and reads a part of the store to see whether it has rotted, every few seconds.
async fn settle(server: Arc<keyferry_server::Server>, store: Arc<dyn Store>) {
    let mut ticks = tokio::time::interval(std::time::Duration::from_secs(5));
    for tick in 0_u64.. {
        ticks.tick().await;
        let (server, store) = (server.clone(), store.clone());
        let settled = tokio::task::spawn_blocking(move || {
            let now = keyferry_net::clock();
            let settled = server.store_due_states(now, 1000);
            // A thousand objects a minute.
            let scrubbed = (tick % 12 == 11).then(|| {
                server.node().scrub(&*store, 1000, now.wall)?;
                store.view::<_, keyferry_s2s::Error>(|snapshot| RottenRecord::all(snapshot))
            });
            (settled, scrubbed)
        })
        .await;
        let Ok((settled, scrubbed)) = settled else {
            return;
        };
        match settled {
            Ok(0) => {}
            Ok(objects) => tracing::info!(objects, "dates have moved objects on"),
            Err(error) => tracing::error!(%error, "what dates have led to can't be stored"),
        }
        match scrubbed {
            Some(Ok(rotten)) if !rotten.is_empty() => {
                let records = rotten.len();
                tracing::warn!(records, "records are not what was written");
            }
            Some(Err(error)) => tracing::error!(%error, "the store can't be read"),
            _ => {}
        }
    }
}

/// SIGHUP, where there are signals.
struct Hangups(#[cfg(unix)] tokio::signal::unix::Signal);

impl Hangups {
    fn new() -> std::io::Result<Hangups> {
        Ok(Hangups(
            #[cfg(unix)]
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?,
        ))
    }

    /// Does something at each of them, for ever.
    async fn each(&mut self, act: impl Fn()) {
        #[cfg(unix)]
        while self.0.recv().await.is_some() {
            act();
        }
        let _ = act;
        std::future::pending().await
    }
}

/// Waits for Ctrl-C, or where there are signals for a request to terminate.
async fn stopped() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
