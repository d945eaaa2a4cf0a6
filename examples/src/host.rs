//! A KMIP server over one file, sealed: secrets are encrypted there, and what was altered there is noticed.

use crate::Result;
use crate::pki::{open_to_others, write_secret};
use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::{Random, Secret};
use keyferry_net::{Credentials, ServerConfig, ServerHandle};
use keyferry_s2s::{Policy, begin_restored};
use keyferry_server::{Access, Grant, Granted, Level, Options, Rights, Server};
use keyferry_store::{ErrorKind, Incarnation, Sealed, Store};
use keyferry_store_redb::RedbStore;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

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

/// When this process first looked at the clock.
static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Where a server keeps its objects, and the key that their material is sealed under.
#[derive(Clone, Debug)]
pub struct Files {
    /// The store.
    pub store: PathBuf,
    /// The key-encryption key, in hexadecimal digits. Beside the store it protects nothing: who cares keeps it elsewhere.
    pub key: PathBuf,
    /// Whether the store is a copy of an older moment, put back: it is then marked so that peers notice, and its server changes nothing until
    /// its replicas have given back what they hold.
    pub restored: bool,
    /// Whether all of the store is read before it is served, and a store that was altered is not.
    pub verify: bool,
}

impl Files {
    /// The store in this file, and its key beside it.
    pub fn beside(store: PathBuf) -> Self {
        let key = store.with_extension("seal");
        Files {
            store,
            key,
            restored: false,
            verify: false,
        }
    }

    /// Says which of the files others than their owner may read. New ones are made so that nobody else may.
    fn warn_of_permissions(&self) {
        for path in [&self.key, &self.store] {
            if let Some(mode) = open_to_others(path) {
                let (file, mode) = (path.display(), format!("{mode:03o}"));
                tracing::warn!(%file, mode, "others than its owner may open it: chmod 600");
            }
        }
    }

    /// The key in its file, which is made if there is none.
    fn key(&self) -> Result<Secret> {
        let told = |error: &dyn std::fmt::Display| format!("{}: {error}", self.key.display());
        if !self.key.exists() {
            if self.store.exists() {
                return Err(told(&"there is no key for the store that is there").into());
            }
            let mut key = Zeroizing::new([0; 32]);
            SystemRandom::new().fill(&mut *key)?;
            write_secret(
                &self.key,
                &Zeroizing::new(
                    key.iter()
                        .map(|byte| format!("{byte:02x}"))
                        .collect::<String>(),
                ),
            )?;
        }
        let text = Zeroizing::new(std::fs::read_to_string(&self.key).map_err(|e| told(&e))?);
        let digits = text.trim();
        let byte = |at: usize| {
            digits
                .get(at..at + 2)
                .and_then(|two| u8::from_str_radix(two, 16).ok())
        };
        let bytes: Option<Zeroizing<Vec<u8>>> = (0..32)
            .map(|n| byte(2 * n))
            .collect::<Option<Vec<u8>>>()
            .map(Zeroizing::new);
        match bytes {
            Some(bytes) if digits.len() == 64 => Ok(Secret::new(&bytes)),
            _ => Err(told(&"a key is 64 hexadecimal digits").into()),
        }
    }
}

/// Reads all of a store and says what was altered.
fn verify(store: &Sealed<RedbStore>) -> Result {
    let found = store.verify()?;
    for fault in &found.named {
        tracing::error!("{fault}");
    }
    match found.is_sound() {
        true => {
            tracing::info!("{found}");
            Ok(())
        }
        false => Err(format!("{}: {found}", store.inner().path().display()).into()),
    }
}

/// Opens a store, or makes it, sealed. `policy` says which replicas a restored one waits for.
///
/// # Errors
/// When a file can't be used, the key is not that of the store, or it was to be verified and was altered.
pub fn open(files: &Files, policy: &Policy) -> Result<Arc<dyn Store>> {
    if files.restored && !files.store.exists() {
        return Err(format!(
            "{}: there is no store that could have been restored",
            files.store.display()
        )
        .into());
    }
    let key = files.key()?;
    files.warn_of_permissions();
    let incarnation = incarnation()?;
    let options = keyferry_store_redb::Options {
        cache_bytes: CACHE,
        ..keyferry_store_redb::Options::new(incarnation)
    };
    // A process that was just killed may hold its file for a moment yet.
    let patience = Instant::now() + Duration::from_secs(3);
    loop {
        match RedbStore::open(&files.store, options) {
            Err(error) if error.kind() == ErrorKind::Io && Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(100))
            }
            opened => {
                let store = Sealed::open(
                    opened?,
                    Arc::new(Ring::new()),
                    key,
                    &mut SystemRandom::new(),
                )?;
                if files.verify {
                    verify(&store)?;
                }
                if files.restored {
                    begin_restored(&store, policy, incarnation, keyferry_net::clock().wall)?;
                }
                return Ok(Arc::new(store));
            }
        }
    }
}

fn incarnation() -> Result<Incarnation> {
    let mut incarnation = [0; 16];
    SystemRandom::new().fill(&mut incarnation)?;
    Ok(Incarnation(incarnation))
}

/// The rights of owners, and of one client, by its name, to all copies of other servers' objects. It can't change them here: when it tries,
/// it is told who may.
pub fn copies_for(client: &str) -> Rights {
    Rights::owners().with(Grant {
        client: Some(client.into()),
        objects: Granted::Copies,
        level: Level::Manage,
    })
}

/// Starts the server `name` on `address`; every client that the authority has signed may use it, and has what it made itself. Copies of other
/// servers' objects are nobody's.
///
/// # Errors
/// When the file, the certificates or the address can't be used.
pub async fn start(
    name: &str,
    files: &Files,
    address: &str,
    credentials: &Credentials,
    policy: Policy,
) -> Result<Host> {
    start_with(name, files, address, credentials, policy, Rights::owners()).await
}

/// The same with these rights of its clients.
///
/// # Errors
/// As for [`start`].
pub async fn start_with(
    name: &str,
    files: &Files,
    address: &str,
    credentials: &Credentials,
    policy: Policy,
    rights: Rights,
) -> Result<Host> {
    let store = open(files, &policy)?;
    let server = Server::new(Options {
        server: name.into(),
        store: store.clone(),
        crypto: Arc::new(Ring::new()),
        random: Box::new(SystemRandom::new()),
        access: Access::Authenticated,
        policy,
    })?;
    let server = Arc::new(crate::follower::poking(
        server
            .with_rights(rights)
            .with_stopwatch(|| STARTED.elapsed()),
    ));
    let listener =
        keyferry_net::Server::bind(address, ServerConfig::new(credentials)?, server.clone())
            .await?;
    Ok(Host {
        server,
        store,
        handle: listener.serve(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;
    use crate::{follower, pki::Pki, runtime, site};
    use keyferry_net::{ClientConfig, Connector};
    use keyferry_s2s::{
        Downstream, FollowOptions, Peer, UpstreamOptions, check_no_pending_give_back,
    };
    use keyferry_store::StoreExt;

    /// Lets the server `b` follow `a`, whose store lies in `files`, until `a` knows of it.
    async fn let_b_follow(pki: &Pki, files: &Files, policy: &Policy) {
        let at_a = pki.credentials("a", &[]).unwrap();
        let at_b = pki.credentials("b", &[]).unwrap();
        let a = start("a", files, "127.0.0.1:0", &at_a, policy.clone());
        let a = a.await.unwrap();
        site::import(&a, site::OPERATOR, "key", [1; 16], Default::default()).unwrap();
        let copies = Files::beside(files.store.with_file_name("b.redb"));
        let b = start("b", &copies, "127.0.0.1:0", &at_b, Policy::closed());
        let b = b.await.unwrap();
        let connector = Connector::new(
            a.handle.local_addr().to_string(),
            ClientConfig::new(&at_b, "127.0.0.1").unwrap(),
        );
        let options = FollowOptions::new("copies", Peer::new("a")).every(20);
        let task = follower::follow(&b, &UpstreamOptions::default(), options, connector).unwrap();
        let patience = Instant::now() + Duration::from_secs(30);
        let is_known = || {
            let followers = a
                .store
                .view::<_, keyferry_s2s::Error>(|at| Downstream::all(at));
            !followers.unwrap().is_empty()
        };
        while !is_known() {
            assert!(Instant::now() < patience, "b does not follow");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        task.abort();
        let _ = task.await;
        a.handle.shutdown().await;
        b.handle.shutdown().await;
    }

    #[cfg(unix)]
    #[test]
    fn all_that_is_made_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::beside(folder.path().join("a.redb"));
        drop(open(&files, &Policy::closed()).unwrap());
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(open_to_others(&path), None, "{}", path.display());
            names.push(path);
        }
        names.sort();
        assert_eq!(names, [files.store, files.key]);
    }

    #[test]
    fn a_store_that_was_altered_is_not_served() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files::beside(folder.path().join("a.redb"));
        let store = open(&files, &Policy::closed()).unwrap();
        store
            .write(&mut |tx| tx.set_state(b"cursor", Some(b"1")))
            .unwrap();
        drop(store);
        files.verify = true;
        drop(open(&files, &Policy::closed()).unwrap());
        let options = keyferry_store_redb::Options::new(Incarnation([1; 16]));
        let behind = RedbStore::open(&files.store, options).unwrap();
        behind
            .write(&mut |tx| tx.set_state(b"cursor", Some(b"2")))
            .unwrap();
        drop(behind);
        let error = open(&files, &Policy::closed()).err().unwrap();
        assert!(error.to_string().contains("1 faults"), "{error}");
    }

    #[test]
    fn a_restored_server_waits_for_its_replicas() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open(folder.path().join("pki")).unwrap();
        let policy = Policy::closed().with("b", Peer::new("b").may_follow().may_give_back());
        let mut files = Files::beside(folder.path().join("a.redb"));
        runtime()
            .unwrap()
            .block_on(let_b_follow(&pki, &files, &policy));
        for (restored, waits) in [(false, false), (true, true)] {
            files.restored = restored;
            let store = open(&files, &policy).unwrap();
            let refused = store
                .view::<_, keyferry_store::Error>(|at| Ok(check_no_pending_give_back(at).is_err()))
                .unwrap();
            assert_eq!(refused, waits, "restored: {restored}");
        }
    }
}
