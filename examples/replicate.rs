//! Two key servers, and everything that the first one holds replicated to the second over mutual TLS:
//! `cargo run --release --example replicate`.
//!
//! The first server lives in this process; the second is a process of its own, so that it can be killed for real.

use keyferry_crypto::SystemRandom;
use keyferry_examples::bar::{Bar, counting};
use keyferry_examples::{
    Result, fill, finish, host, host::Files, log, peak_memory, pki::Pki, runtime, verify,
};
use keyferry_net::{ClientConfig, Connector, Credentials, Retry, blocking, drive_with_retry};
use keyferry_s2s::{Bulk, BulkOptions, Driven, Peer, Policy, Report, Strategy};
use keyferry_store::StoreExt;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

const HELP: &str = "\
replicate: fills one key server and replicates it to another over mutual TLS

  --objects N         how many managed objects (10000)
  --data DIR          keeps both servers' files; a second run on them finds everything unchanged
  --strategy NAME     import (KMIP 2.1) or put (KMIP 1.4); import by default
  --kill-after N      kills the receiving server after N objects and starts it again
";

struct Arguments {
    objects: u64,
    data: Option<PathBuf>,
    strategy: Strategy,
    kill_after: Option<u64>,
    /// Be the second server, on this address.
    second: Option<String>,
}

fn arguments() -> Result<Option<Arguments>> {
    let mut parsed = Arguments {
        objects: 10_000,
        data: None,
        strategy: Strategy::Import,
        kill_after: None,
        second: None,
    };
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        use lexopt::prelude::*;
        match arg {
            Long("objects") => parsed.objects = args.value()?.parse()?,
            Long("data") => parsed.data = Some(args.value()?.into()),
            Long("strategy") => {
                parsed.strategy = match args.value()?.string()?.as_str() {
                    "import" => Strategy::Import,
                    "put" => Strategy::Put,
                    other => return Err(format!("no strategy {other:?}: import or put").into()),
                }
            }
            Long("kill-after") => parsed.kill_after = Some(args.value()?.parse()?),
            Long("second-server") => parsed.second = Some(args.value()?.string()?),
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(None);
            }
            other => return Err(format!("{}; --help tells the options", other.unexpected()).into()),
        }
    }
    Ok(Some(parsed))
}

fn main() -> ExitCode {
    log();
    finish(arguments().and_then(|arguments| match arguments {
        Some(arguments) => runtime()?.block_on(run(arguments)),
        None => Ok(ExitCode::SUCCESS),
    }))
}

async fn run(arguments: Arguments) -> Result<ExitCode> {
    let temporary = tempfile::tempdir()?;
    let data = arguments
        .data
        .clone()
        .unwrap_or_else(|| temporary.path().to_owned());
    let pki = Pki::open(data.join("pki"))?;
    match &arguments.second {
        Some(address) => second_server(&data, &pki, address)
            .await
            .map(|()| ExitCode::SUCCESS),
        None => replicate(&arguments, &data, &pki).await,
    }
}

/// The receiving server: takes copies from the server alpha, until its standard input ends.
async fn second_server(data: &Path, pki: &Pki, address: &str) -> Result {
    let policy = Policy::closed().with("alpha", Peer::new("alpha").may_send());
    let beta = host::start_with(
        "beta",
        &Files::beside(data.join("beta.redb")),
        address,
        &pki.credentials("beta", &[])?,
        policy,
        host::copies_for("operator"),
    )
    .await?;
    println!("{}", beta.handle.local_addr());
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    beta.handle.shutdown().await;
    Ok(())
}

/// The receiving server as a child process.
struct Second {
    data: PathBuf,
    address: String,
    process: Child,
    peak: f64,
}

impl Second {
    fn spawn(data: &Path, address: &str) -> Result<(Child, String)> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--second-server", address, "--data"])
            .arg(data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        match line.trim() {
            "" => Err("the second server did not start".into()),
            address => Ok((process, address.to_owned())),
        }
    }

    fn start(data: &Path) -> Result<Second> {
        let (process, address) = Second::spawn(data, "127.0.0.1:0")?;
        Ok(Second {
            data: data.to_owned(),
            address,
            process,
            peak: 0.0,
        })
    }

    fn note_memory(&mut self) {
        self.peak = self.peak.max(peak_memory(self.process.id()).unwrap_or(0.0));
    }

    /// Kills it without warning and starts it again where it was.
    fn kill_and_restart(&mut self) -> Result {
        self.note_memory();
        self.process.kill()?;
        self.process.wait()?;
        self.process = Second::spawn(&self.data, &self.address)?.0;
        Ok(())
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        // Its standard input ends with the handle; it finishes what it has begun.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

async fn replicate(arguments: &Arguments, data: &Path, pki: &Pki) -> Result<ExitCode> {
    let alpha_credentials = pki.credentials("alpha", &[])?;
    let operator = ClientConfig::new(&pki.credentials("operator", &[])?, "127.0.0.1")?;
    let alpha = host::start(
        "alpha",
        &Files::beside(data.join("alpha.redb")),
        "127.0.0.1:0",
        &alpha_credentials,
        Policy::closed(),
    )
    .await?;
    let beta = Arc::new(Mutex::new(Second::start(data)?));
    let beta_address = locked(&beta).address.clone();
    println!(
        "alpha listens on {}, beta on {beta_address}",
        alpha.handle.local_addr()
    );
    turn_stranger_away(data, pki, &beta_address).await?;

    let alpha_address = alpha.handle.local_addr().to_string();
    let held = alpha
        .store
        .view::<_, keyferry_store::Error>(|snapshot| snapshot.count())?;
    if held == 0 {
        let (operator, address, objects) =
            (operator.clone(), alpha_address.clone(), arguments.objects);
        tokio::task::spawn_blocking(move || -> Result {
            let started = Instant::now();
            let mut client = blocking::Client::connect(address, &operator)?;
            fill::fill(
                &mut client,
                objects,
                keyferry_net::clock().wall,
                counting("filling", objects),
            )?;
            println!(
                "filled alpha with {objects} objects in {:.1} s",
                started.elapsed().as_secs_f64()
            );
            client.close();
            Ok(())
        })
        .await??;
    } else if held == arguments.objects {
        println!("alpha holds {held} objects already");
    } else {
        let (data, wanted) = (data.display(), arguments.objects);
        return Err(
            format!("alpha in {data} holds {held} objects and not {wanted}: give --objects {held}, or another folder").into()
        );
    }

    let started = Instant::now();
    let report = transfer(arguments, &alpha, &alpha_credentials, &beta, &beta_address).await?;
    let seconds = started.elapsed().as_secs_f64();
    locked(&beta).note_memory();
    let (peak_alpha, peak_beta) = (
        peak_memory(std::process::id()).unwrap_or(0.0),
        locked(&beta).peak,
    );

    let store = alpha.store.clone();
    let asked = u64::try_from(report.counts.asked)?;
    let comparison = tokio::task::spawn_blocking(move || -> Result<verify::Comparison> {
        let mut one = blocking::Client::connect(alpha_address, &operator)?;
        let mut other = blocking::Client::connect(beta_address, &operator)?;
        let comparison =
            verify::compare(&*store, &mut one, &mut other, counting("comparing", asked))?;
        Ok(comparison)
    })
    .await??;
    alpha.handle.shutdown().await;

    if arguments
        .kill_after
        .is_some_and(|n| i64::try_from(n).is_ok_and(|n| n > report.counts.asked))
    {
        println!("beta was not killed: the transfer has fewer objects than --kill-after says");
    }
    let counts = &report.counts;
    let rate = counts.asked as f64 / seconds;
    println!();
    for (label, value) in [
        ("asked", counts.asked.to_string()),
        ("created", counts.created.to_string()),
        ("updated", counts.updated.to_string()),
        ("unchanged", counts.unchanged.to_string()),
        ("failed", counts.failed.to_string()),
        ("objects/s", format!("{rate:.0}")),
        (
            "MB/s",
            format!("{:.1}", counts.bytes as f64 / seconds / 1e6),
        ),
        ("objects compared", comparison.objects.to_string()),
        (
            "attributes not carried",
            counts.lost.unwrap_or(0).to_string(),
        ),
        ("attributes compared", comparison.attributes.to_string()),
        ("differences", comparison.differences.to_string()),
        ("peak memory, alpha", format!("{peak_alpha:.0} MiB")),
        ("peak memory, beta", format!("{peak_beta:.0} MiB")),
    ] {
        println!("{label:<22} {value:>12}");
    }
    for failure in report.failures.iter().take(10) {
        println!(
            "failed: {}: {:?} {}",
            failure.identifier, failure.reason, failure.message
        );
    }
    for difference in &comparison.examples {
        println!("difference: {difference}");
    }
    if !counts.add_up() {
        println!("the counts do not add up");
    }
    let good = comparison.differences == 0 && counts.failed == 0 && counts.add_up();
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn locked(second: &Mutex<Second>) -> std::sync::MutexGuard<'_, Second> {
    second.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client that another authority has signed gets no answer.
async fn turn_stranger_away(data: &Path, pki: &Pki, address: &str) -> Result {
    let other = Pki::open(data.join("strangers"))?;
    other.credentials("stranger", &[])?;
    let (certificate, key) = other.files("stranger");
    let credentials = Credentials::from_files(pki.ca(), certificate, key)?;
    let connector = Connector::new(address, ClientConfig::new(&credentials, "127.0.0.1")?);
    let request = keyferry_ttlv::Frame::new(vec![0x42, 0x00, 0x78, 1, 0, 0, 0, 0]);
    let answered = match connector.connect().await {
        Ok(mut connection) => connection.call(&request).await.map(drop),
        Err(error) => Err(error),
    };
    match answered {
        Err(error) => {
            println!("an unknown client was turned away: {error}");
            Ok(())
        }
        Ok(()) => Err("an unknown client was served".into()),
    }
}

/// The bulk session itself, over as many connections as it takes.
async fn transfer(
    arguments: &Arguments,
    alpha: &host::Host,
    credentials: &Credentials,
    beta: &Arc<Mutex<Second>>,
    address: &str,
) -> Result<Report> {
    let (mut bar, second) = (Bar::new("replicating"), beta.clone());
    let mut kill_after = arguments.kill_after.map(i64::try_from).transpose()?;
    let session =
        Bulk::new(BulkOptions::new("beta", arguments.strategy)).on_progress(move |progress| {
            bar.show(progress);
            let counts = &progress.counts;
            if kill_after.is_some_and(|n| counts.asked >= n) {
                kill_after = None;
                let restarted = locked(&second).kill_and_restart();
                bar.aside(|| match restarted {
                    Ok(()) => println!(
                        "killed beta after {} objects and started it again",
                        counts.asked
                    ),
                    Err(error) => println!("beta could not be started again: {error}"),
                });
            }
        });
    let mut driven = Driven::new(session, alpha.store.clone(), Box::new(SystemRandom::new()));
    let connector = Connector::new(address, ClientConfig::new(credentials, "127.0.0.1")?);
    let driving = drive_with_retry(
        &mut driven,
        &connector,
        &Retry::new(u64::from(std::process::id())),
    )
    .await;
    match driven.into_outcome() {
        Some(outcome) => Ok(outcome?),
        None => Err(driving
            .err()
            .map_or_else(|| "the transfer was interrupted".into(), Into::into)),
    }
}
