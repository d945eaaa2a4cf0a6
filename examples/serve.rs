//! One KMIP server over a file, until Ctrl-C: `cargo run --release --example serve -- --data DIR --listen ADDR`.

use keyferry_examples::{Result, finish, host, host::Files, log, pki::Pki, runtime};
use keyferry_net::ServerConfig;
use keyferry_s2s::{Peer, Policy};
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
  --peer NAME      a server whose certificate has this name may send copies of its objects; may be given several times
  --replica NAME   a server whose certificate has this name may follow this one, and give back what a restored one has lost; the same
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
    let mut peers = BTreeMap::<String, Peer>::new();
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
            Long("verify") => verify = true,
            Long("peer") => grant(&mut peers, args.value()?.string()?, Peer::may_send),
            Long("replica") => grant(&mut peers, args.value()?.string()?, |peer| {
                peer.may_follow().may_give_back()
            }),
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
    let policy = peers
        .into_iter()
        .fold(Policy::closed(), |policy, (name, peer)| {
            policy.with(name, peer)
        });
    let host = host::start(&server, &files, &listen, &credentials, policy).await?;
    let mut hangups = Hangups::new()?; // before anybody is told that there is a server
    let (certificate, key) = pki.files("client");
    println!("listening on        {}", host.handle.local_addr());
    println!("CA certificate      {}", pki.ca().display());
    println!("client certificate  {}", certificate.display());
    println!("client key          {}", key.display());
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
        () = settle(host.server.clone()) => {}
    }
    host.handle.shutdown().await;
    Ok(())
}

/// Lets a peer do something more.
fn grant(peers: &mut BTreeMap<String, Peer>, name: String, more: impl FnOnce(Peer) -> Peer) {
    let peer = peers
        .remove(&name)
        .unwrap_or_else(|| Peer::new(name.as_str()));
    peers.insert(name, more(peer));
}

/// Stores the States that dates have led to, every few seconds.
async fn settle(server: Arc<keyferry_server::Server>) {
    let mut ticks = tokio::time::interval(std::time::Duration::from_secs(5));
    loop {
        ticks.tick().await;
        let server = server.clone();
        let settled = tokio::task::spawn_blocking(move || {
            server.store_due_states(keyferry_net::clock(), 1000)
        })
        .await;
        match settled {
            Ok(Ok(0)) => {}
            Ok(Ok(objects)) => tracing::info!(objects, "dates have moved objects on"),
            Ok(Err(error)) => tracing::error!(%error, "what dates have led to can't be stored"),
            Err(_) => return,
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
