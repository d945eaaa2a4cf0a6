//! Objects per second and bytes on the wire by each strategy, between two servers with sealed files over mutual TLS, and with the round trip
//! made longer. `cargo bench --bench bulk`, with `-- --objects N --one-by-one N --delays MS,MS` if others than 10 000 objects, 1 000 for
//! what goes one by one, and round trips of 0, 10 and 100 ms more are wanted. Both servers are in this process and share its processors.
//!
//! `-- 1000000` imports so many objects from this process into a server that is a process of its own, and tells the memory of each;
//! `-- 1000000 feed` has that one follow this one instead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use keyferry_examples::host::{self, Files, Host};
use keyferry_examples::pki::Pki;
use keyferry_examples::site::{OPERATOR, Site};
use keyferry_examples::{peak_memory, runtime};
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_net::{ClientConfig, Connector, clock, drive};
use keyferry_s2s::*;
use keyferry_ttlv::Version;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Row {
    Import,
    Put,
    Export,
    Get,
    /// The first load of a server that follows the other.
    Feed,
    Register,
    /// As it was done in 2009: a Get and a Get Attributes for one object, and then for the next.
    OneByOne,
}

const ROWS: [Row; 7] = [
    Row::Import,
    Row::Put,
    Row::Export,
    Row::Get,
    Row::Feed,
    Row::Register,
    Row::OneByOne,
];

fn fill(host: &Host, objects: u64) {
    let cx = context(Version::V2_1);
    let caller = Identity::new(OPERATOR);
    let usage = CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::DECRYPT;
    for first in (0..objects).step_by(1000) {
        let item = |n: u64| {
            let material: Vec<u8> = (0..4)
                .flat_map(|w| {
                    (n * 4 + w)
                        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                        .to_be_bytes()
                })
                .collect();
            let key =
                Object::symmetric_key(CryptographicAlgorithm::AES, 256, Secret::new(&material));
            let attributes = Attributes::new()
                .with(AttributeValue::CryptographicUsageMask(usage))
                .with(AttributeValue::Name(Name::text(format!("object {n:07}"))))
                .with(AttributeValue::ObjectGroup("bench".into()));
            RequestItem::new(&RegisterRequest::of(key, attributes), cx).unwrap()
        };
        let items = (first..objects.min(first + 1000)).map(item).collect();
        let frame = RequestMessage::new(Version::V2_1, items)
            .to_frame()
            .unwrap();
        let Answer::Reply(answer) = host.server.answer(&caller, clock(), &frame) else {
            panic!("no answer")
        };
        let answer = ResponseMessage::from_frame(&answer).unwrap();
        assert!(answer.batch.iter().all(ResponseItem::is_success));
    }
}

/// Passes on what it reads, so much later.
async fn delayed(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (send, mut receive) = tokio::sync::mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((due, bytes)) = receive.recv().await {
            tokio::time::sleep_until(due.into()).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if send
            .send((
                Instant::now() + delay,
                buffer.get(..n).unwrap_or_default().to_vec(),
            ))
            .is_err()
        {
            return;
        }
    }
}

/// A way to a server that takes longer, half of it in each direction.
async fn proxy(to: std::net::SocketAddr, round_trip: Duration) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = tokio::net::TcpStream::connect(to).await.unwrap();
            near.set_nodelay(true).unwrap();
            far.set_nodelay(true).unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(delayed(near_in, far_out, round_trip / 2));
            tokio::spawn(delayed(far_in, near_out, round_trip / 2));
        }
    });
    address
}

async fn session(here: &Host, connector: &Connector, session: impl Session) -> Report {
    let random = Box::new(keyferry_crypto::SystemRandom::new());
    let mut driven = Driven::new(session, here.store.clone(), random);
    drive(&mut driven, connector).await.unwrap();
    let report = driven.into_outcome().unwrap().unwrap();
    assert!(
        report.counts.add_up() && report.counts.failed == 0,
        "{}",
        report.table()
    );
    report
}

/// Begins to follow.
fn feed(here: &Host) -> Follow {
    Upstream::follow(
        &*here.store,
        "r",
        "source",
        &UpstreamOptions::default(),
        clock().wall,
    )
    .unwrap();
    Follow::new(
        here.server.node().clone(),
        FollowOptions::new("r", Peer::new("source")),
    )
}

async fn measure(row: Row, objects: u64, delay: Duration) -> (f64, f64) {
    let site = Site::new().unwrap();
    let policy = || {
        let target = Peer::new("target").may_pull().also_client().may_follow();
        Policy::closed()
            .with("source", Peer::new("source").may_send().also_client())
            .with("target", target)
    };
    let source = site.start("source", policy()).await.unwrap();
    let target = site.start("target", policy()).await.unwrap();
    fill(&source, objects);
    let pulls = matches!(row, Row::Export | Row::Get | Row::Feed | Row::OneByOne);
    let (here, there) = if pulls {
        (&target, &source)
    } else {
        (&source, &target)
    };
    // What is read belongs to the operator.
    let caller = match row {
        Row::Feed => "target",
        _ if pulls => OPERATOR,
        _ => "source",
    };
    let address = proxy(there.handle.local_addr(), delay).await;
    let connector = site.connector_to(caller, address).unwrap();
    let bytes =
        || (there.handle.counters().bytes_in() + there.handle.counters().bytes_out()) as f64;
    let (before, started) = (bytes(), Instant::now());
    let node: Arc<Node> = here.server.node().clone();
    let pull = |strategy| PullOptions::new("source", Peer::new("source"), strategy);
    let report = match row {
        Row::Import => {
            session(
                here,
                &connector,
                Bulk::new(BulkOptions::new("t", Strategy::Import)),
            )
            .await
        }
        Row::Put => {
            session(
                here,
                &connector,
                Bulk::new(BulkOptions::new("t", Strategy::Put)),
            )
            .await
        }
        Row::Export => {
            session(
                here,
                &connector,
                Pull::new(node, pull(PullStrategy::Export)),
            )
            .await
        }
        Row::Get => session(here, &connector, Pull::new(node, pull(PullStrategy::Get))).await,
        Row::Feed => session(here, &connector, feed(here)).await,
        Row::Register => session(here, &connector, Register::new(RegisterOptions::new("t"))).await,
        Row::OneByOne => {
            let options = PullOptions {
                batch: 1,
                in_flight: 1,
                ..pull(PullStrategy::Get)
            };
            session(here, &connector, Pull::new(node, options)).await
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(report.counts.created, objects as i64);
    let sent = bytes() - before;
    source.handle.shutdown().await;
    target.handle.shutdown().await;
    (objects as f64 / seconds, sent / objects as f64)
}

/// The server that takes them in, until its standard input ends. With an address, it follows the server there first.
async fn second(folder: &Path, follows: Option<&str>) {
    let pki = Pki::open(folder.join("pki")).unwrap();
    let policy = Policy::closed().with("source", Peer::new("source").may_send().also_client());
    let files = Files::beside(folder.join("target.redb"));
    let target = host::start(
        "target",
        &files,
        "127.0.0.1:0",
        &pki.credentials("target", &[]).unwrap(),
        policy,
    )
    .await
    .unwrap();
    if let Some(address) = follows {
        let credentials = pki.credentials("target", &[]).unwrap();
        let connector = Connector::new(
            address,
            ClientConfig::new(&credentials, "127.0.0.1").unwrap(),
        );
        let report = session(&target, &connector, feed(&target)).await;
        println!("{} {}", report.counts.created, report.counts.bytes);
    } else {
        println!("{}", target.handle.local_addr());
    }
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()))
        .await
        .unwrap()
        .unwrap();
    target.handle.shutdown().await;
}

/// So many objects from a process to another.
async fn between_processes(objects: u64, follows: bool) {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::open(folder.path().join("pki")).unwrap();
    let credentials = pki.credentials("source", &[]).unwrap();
    pki.credentials("target", &[]).unwrap();
    let files = Files::beside(folder.path().join("source.redb"));
    let policy = Policy::closed().with("target", Peer::new("target").may_follow());
    let source = host::start("source", &files, "127.0.0.1:0", &credentials, policy)
        .await
        .unwrap();
    let started = Instant::now();
    fill(&source, objects);
    println!(
        "filled in {:.1} s; this process has held {:.0} MiB so far",
        started.elapsed().as_secs_f64(),
        peak()
    );
    let mut started = Instant::now();
    let mut target = Command::new(std::env::current_exe().unwrap());
    target
        .arg("--second")
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    if follows {
        target.arg(source.handle.local_addr().to_string());
    }
    let mut target = target.spawn().unwrap();
    let output = target.stdout.take().unwrap();
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).unwrap();
        line.trim().to_owned()
    });
    let line = line.await.unwrap();
    let (created, bytes) = if follows {
        let (created, bytes) = line.split_once(' ').unwrap();
        (created.parse().unwrap(), bytes.parse().unwrap())
    } else {
        let connector = Connector::new(line, ClientConfig::new(&credentials, "127.0.0.1").unwrap());
        started = Instant::now();
        let counts = session(
            &source,
            &connector,
            Bulk::new(BulkOptions::new("target", Strategy::Import)),
        )
        .await
        .counts;
        (counts.created, counts.bytes)
    };
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(created, objects as i64);
    let there = peak_memory(target.id()).unwrap_or_default();
    let how = if follows { "taken" } else { "imported" };
    println!(
        "{how} in {seconds:.1} s: {:.0} objects/s, {:.1} MB",
        objects as f64 / seconds,
        bytes as f64 / 1e6
    );
    println!("most memory: {:.0} MiB here, {there:.0} MiB there", peak());
    drop(target.stdin.take());
    target.wait().unwrap();
    source.handle.shutdown().await;
}

fn peak() -> f64 {
    peak_memory(std::process::id()).unwrap_or_default()
}

fn main() {
    let given = std::env::args()
        .skip(1)
        .find(|argument| argument != "--bench");
    if let Some(Ok(objects)) = given.as_ref().map(|first| first.parse()) {
        let follows = std::env::args().any(|argument| argument == "feed");
        return runtime()
            .unwrap()
            .block_on(between_processes(objects, follows));
    }
    if given.as_deref() == Some("--second") {
        let follows = std::env::args().nth(3);
        return runtime().unwrap().block_on(second(
            Path::new(&std::env::args().nth(2).unwrap()),
            follows.as_deref(),
        ));
    }
    let (mut objects, mut each, mut delays) = (10_000u64, 1_000u64, vec![0u64, 10, 100]);
    let arguments: Vec<String> = std::env::args().collect();
    for pair in arguments.windows(2) {
        let [name, value] = pair else { continue };
        match name.as_str() {
            "--objects" => objects = value.parse().expect("a number of objects"),
            "--one-by-one" => each = value.parse().expect("a number of objects"),
            "--delays" => {
                delays = value
                    .split(',')
                    .map(|ms| ms.parse().expect("milliseconds"))
                    .collect()
            }
            _ => {}
        }
    }
    println!(
        "{:<12} {:>9} {:>10} {:>12} {:>14}",
        "strategy", "objects", "+ ms", "objects/s", "bytes/object"
    );
    runtime().unwrap().block_on(async {
        for row in ROWS {
            for delay in &delays {
                // One at a time takes a round trip for each object: a few say how long.
                let objects = match (row, *delay) {
                    (Row::OneByOne, 0) => each,
                    (Row::OneByOne, _) => each.min(100),
                    _ => objects,
                };
                let (rate, bytes) = measure(row, objects, Duration::from_millis(*delay)).await;
                println!(
                    "{:<12} {objects:>9} {delay:>10} {rate:>12.0} {bytes:>14.0}",
                    format!("{row:?}")
                );
            }
        }
    });
    if let Some(peak) = peak_memory(std::process::id()) {
        println!("peak memory of both servers together: {peak:.0} MiB");
    }
}
