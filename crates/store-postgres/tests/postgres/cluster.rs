//! This module starts a PostgreSQL server in a temporary folder, which ends with the test process.

use keyferry_store_postgres::Config;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

pub(crate) struct Cluster {
    folder: PathBuf,
    port: u16,
    databases: AtomicU32,
    /// The input of the server's keeper. It ends with this process, however that ends, and the keeper then stops the server; a line makes
    /// the server crash.
    lifeline: Mutex<ChildStdin>,
    answers: Mutex<BufReader<ChildStdout>>,
}

/// The server that the tests of this process share; `None`, after a line that says why, when there cannot be one.
///
/// With `KEYFERRY_REQUIRE_POSTGRES=1` in the environment that is a failure.
pub(crate) fn cluster() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();
    cluster_in(&SHARED)
}

/// A server of its own for tests that let it crash.
pub(crate) fn cluster_to_crash() -> Option<&'static Cluster> {
    static CRASHED: OnceLock<Result<Cluster, String>> = OnceLock::new();
    cluster_in(&CRASHED)
}

fn cluster_in(slot: &'static OnceLock<Result<Cluster, String>>) -> Option<&'static Cluster> {
    match slot.get_or_init(start) {
        Ok(cluster) => Some(cluster),
        Err(reason) => {
            skip(&format!("no PostgreSQL: {reason}"));
            None
        }
    }
}

/// Says that a test is skipped, and why; fails when the environment requires PostgreSQL.
///
/// The line goes to the real standard error: the harness captures `eprintln!` and drops what a passing test printed.
pub(crate) fn skip(reason: &str) {
    let is_required = std::env::var("KEYFERRY_REQUIRE_POSTGRES").is_ok_and(|value| value == "1");
    assert!(!is_required, "{reason}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("SKIPPED {test}: {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

impl Cluster {
    /// A new, empty database.
    pub(crate) fn database(&self) -> Config {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::SeqCst));
        let mut admin = self.config("postgres").connect(postgres::NoTls).unwrap();
        admin
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .unwrap();
        self.config(&name)
    }

    fn config(&self, database: &str) -> Config {
        let mut config = Config::new();
        config
            .host_path(&self.folder)
            .port(self.port)
            .user("keyferry")
            .dbname(database);
        config
    }

    /// A new, empty database, to be reached by its address, which offers TLS.
    pub(crate) fn database_by_address(&self) -> Config {
        let name = self.database().get_dbname().unwrap().to_owned();
        let mut config = Config::new();
        config
            .host("127.0.0.1")
            .port(self.port)
            .user("keyferry")
            .dbname(&name);
        config
    }

    /// Makes the server crash, losing what it had in memory, and starts it again.
    pub(crate) fn crash(&self) {
        writeln!(self.lifeline.lock().unwrap(), "crash").unwrap();
        self.answers
            .lock()
            .unwrap()
            .read_line(&mut String::new())
            .unwrap();
        let answers = |_: &u32| self.config("postgres").connect(postgres::NoTls).is_ok();
        let waited = (0..600)
            .inspect(|_| std::thread::sleep(Duration::from_millis(20)))
            .find(answers);
        assert!(waited.is_some(), "the server does not come back");
    }

    /// The certificate that the server shows, PEM.
    pub(crate) fn certificate(&self) -> String {
        std::fs::read_to_string(self.folder.join("server.crt")).unwrap()
    }
}

/// The folders in which PostgreSQL's programs may be: those of PATH, and Debian's.
fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        let mut versions: Vec<PathBuf> = versions
            .flatten()
            .map(|version| version.path().join("bin"))
            .collect();
        versions.sort();
        folders.extend(versions.into_iter().rev());
    }
    folders
}

/// The path of a program of PostgreSQL, such as `pg_dump`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    folders()
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// The folder of the server's programs.
fn programs() -> Result<PathBuf, String> {
    let has_both = |folder: &PathBuf| {
        ["initdb", "postgres"]
            .iter()
            .all(|program| folder.join(program).is_file())
    };
    folders()
        .into_iter()
        .find(has_both)
        .ok_or_else(|| "neither PATH nor /usr/lib/postgresql has initdb and postgres".into())
}

/// The user to run the server as when this process is root, which the server refuses to run as.
fn user(folder: &Path) -> Result<Option<(u32, u32)>, String> {
    let own = std::fs::metadata(folder)
        .map_err(|error| error.to_string())?
        .uid();
    if own != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    let find = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let user = find("postgres").or_else(|| find("nobody"));
    user.map(Some)
        .ok_or_else(|| "this is root, and there is neither a user postgres nor nobody".into())
}

fn command(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

fn start() -> Result<Cluster, String> {
    let programs = programs()?;
    let folder = tempfile::Builder::new()
        .prefix("keyferry-pg")
        .tempdir()
        .map_err(|error| error.to_string())?;
    let user = user(folder.path())?;
    if let Some((uid, gid)) = user {
        chown(folder.path(), Some(uid), Some(gid)).map_err(|error| error.to_string())?;
    }
    let mut initdb = command(&programs.join("initdb"), user);
    initdb
        .args([
            "-U",
            "keyferry",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-locale",
            "--no-sync",
            "-D",
        ])
        .arg(folder.path().join("data"));
    let made = initdb
        .current_dir(folder.path())
        .output()
        .map_err(|error| format!("initdb does not start: {error}"))?;
    if !made.status.success() {
        return Err(format!(
            "initdb failed: {}",
            String::from_utf8_lossy(&made.stderr)
                .trim()
                .replace('\n', " ")
        ));
    }
    let port = free_port().map_err(|error| error.to_string())?;
    certificate(folder.path(), user).map_err(|error| format!("no certificate: {error}"))?;
    // At the end of its input the keeper stops the server and removes the folder; each line before makes it kill and restart the server.
    let script = r#"
        start() {
            "$1" -D "$2/data" -k "$2" -c listen_addresses=127.0.0.1 -c port="$3" -c fsync=off \
                -c ssl=on -c ssl_cert_file="$2/server.crt" -c ssl_key_file="$2/server.key" -c max_connections=200 -c logging_collector=off >>"$2/log" 2>&1 &
            server=$!
        }
        start "$@"
        while read -r line; do
            kill -QUIT $server
            wait $server
            start "$@"
            echo again
        done
        kill -QUIT $server
        wait $server
        cd / && rm -rf "$2"
    "#;
    let mut keeper = command(Path::new("/bin/sh"), user);
    keeper
        .arg("-c")
        .arg(script)
        .arg("keeper")
        .arg(programs.join("postgres"))
        .arg(folder.path())
        .arg(port.to_string());
    keeper
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut keeper = keeper
        .spawn()
        .map_err(|error| format!("the server does not start: {error}"))?;
    let lifeline = Mutex::new(keeper.stdin.take().ok_or("the keeper has no input")?);
    let answers = Mutex::new(BufReader::new(
        keeper.stdout.take().ok_or("the keeper has no output")?,
    ));
    let cluster = Cluster {
        folder: folder.keep(),
        port,
        databases: AtomicU32::new(0),
        lifeline,
        answers,
    };
    wait(&cluster, &mut keeper)?;
    Ok(cluster)
}

/// A port that is free at this moment. When another process takes it before the server does, the server reports that.
fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

/// Makes a self-signed certificate for this address, and its key; the server requires that it owns the key file.
fn certificate(folder: &Path, user: Option<(u32, u32)>) -> Result<(), Box<dyn std::error::Error>> {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    for (name, text) in [
        ("server.crt", cert.pem()),
        ("server.key", signing_key.serialize_pem()),
    ] {
        let path = folder.join(name);
        std::fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        if let Some((uid, gid)) = user {
            chown(&path, Some(uid), Some(gid))?;
        }
    }
    Ok(())
}

fn wait(cluster: &Cluster, keeper: &mut Child) -> Result<(), String> {
    let mut last = String::new();
    for _ in 0..600 {
        match cluster.config("postgres").connect(postgres::NoTls) {
            Ok(_) => return Ok(()),
            Err(error) => last = error.to_string(),
        }
        if let Ok(Some(status)) = keeper.try_wait() {
            return Err(format!("the server ended at once: {status}"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = std::fs::read_to_string(cluster.folder.join("log")).unwrap_or_default();
    Err(format!(
        "the server does not answer: {last} {}",
        log.trim().replace('\n', " ")
    ))
}
