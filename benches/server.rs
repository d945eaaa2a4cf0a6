//! Requests per second and how long they take, over mutual TLS on loopback, with many objects in one sealed file; beside what the disk can
//! do. `cargo bench --bench server`, with `-- --objects N --seconds S` if others than 100 000 objects and 5 seconds a row are wanted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use keyferry_examples::{host, host::Files, pki::Pki, runtime};
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_net::blocking::Client;
use keyferry_net::{ClientConfig, clock};
use keyferry_s2s::Policy;
use keyferry_server::Server;
use keyferry_ttlv::{Extra, Frame, Version};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const VERSION: Version = Version::V2_1;

/// What others do on such a machine, over TLS and durable, on one connection: the better of PyKMIP and the best open server in Rust.
const OTHERS_GET: f64 = 1_500.0;
const OTHERS_REGISTER: f64 = 1_600.0;
const OTHERS_BATCHED: f64 = 2_900.0;
/// So many times as fast is the goal.
const TIMES: f64 = 10.0;
/// For single durable writes, the goal is this share of what the disk can sync.
const SHARE: f64 = 0.6;

/// What a row is measured by.
#[derive(Clone, Copy)]
enum Goal {
    None,
    /// So many a second.
    Reads(f64),
    /// So many objects a second, durable.
    Writes(f64),
    /// This share of what the disk syncs meanwhile.
    Synced(f64),
}

impl Goal {
    fn is_written(self) -> bool {
        matches!(self, Goal::Writes(_) | Goal::Synced(_))
    }
}

/// A request of one or more items.
fn request<P: Payload>(payloads: &[P]) -> Frame {
    let items = payloads
        .iter()
        .map(|payload| RequestItem::new(payload, context(VERSION)).unwrap())
        .collect();
    RequestMessage::new(VERSION, items).to_frame().unwrap()
}

fn attributes(name: &str) -> Attributes {
    let usage = CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::DECRYPT;
    Attributes::new()
        .with(AttributeValue::CryptographicUsageMask(usage))
        .with(AttributeValue::Name(Name::text(name)))
}

fn register(number: u64) -> RegisterRequest {
    let material: Vec<u8> = (0..4u64)
        .flat_map(|word| {
            (number * 4 + word)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .to_be_bytes()
        })
        .collect();
    let block = KeyBlock::plain(
        KeyFormatType::RAW,
        Some((CryptographicAlgorithm::AES, 256)),
        Secret::new(&material),
    );
    let key = Object::SymmetricKey(Key {
        key_block: block.into(),
        extra: Extra::NONE,
    });
    RegisterRequest::of(key, attributes(&name(number)))
}

fn name(number: u64) -> String {
    format!("object {number:07}")
}

fn create(number: u64) -> Frame {
    let mut create = CreateRequest::symmetric_key(CryptographicAlgorithm::AES, 256);
    create
        .attributes
        .attributes
        .push(AttributeValue::Name(Name::text(name(number))));
    request(&[create])
}

fn identifier(item: &ResponseItem) -> Text {
    let made: RegisterResponse = item.payload(context(VERSION)).unwrap();
    made.unique_identifier.as_text().unwrap().into()
}

/// The items of an answer, all of which went well.
fn succeeded(answer: &Frame) -> Vec<ResponseItem> {
    let batch = ResponseMessage::from_frame(answer).unwrap().batch;
    assert!(
        batch.iter().all(ResponseItem::is_success),
        "{:?}",
        batch.iter().find(|item| !item.is_success())
    );
    batch
}

/// Registers objects without a network, and returns their identifiers.
fn fill(server: &Server, objects: u64) -> Vec<Text> {
    let caller = Identity::new("client");
    let mut identifiers = Vec::new();
    for first in (0..objects).step_by(1000) {
        let batch: Vec<RegisterRequest> =
            (first..objects.min(first + 1000)).map(register).collect();
        let Answer::Reply(answer) = server.answer(&caller, clock(), &request(&batch)) else {
            panic!("no answer")
        };
        identifiers.extend(succeeded(&answer).iter().map(identifier));
    }
    identifiers
}

/// Gets objects without a network: whoever gets one first takes its freshness, which is a write.
fn serve(server: &Server, identifiers: &[Text]) {
    let caller = Identity::new("client");
    for some in identifiers.chunks(1000) {
        let batch: Vec<GetRequest> = some
            .iter()
            .map(|identifier| GetRequest::of(identifier.clone()))
            .collect();
        let Answer::Reply(answer) = server.answer(&caller, clock(), &request(&batch)) else {
            panic!("no answer")
        };
        succeeded(&answer);
    }
}

/// What was measured of one kind of request.
struct Measured {
    per_second: f64,
    half: Duration,
    most: Duration,
}

/// Sends what `next` says, `pipelined` at once, on each of `connections` for a time.
fn measure(
    connect: &(dyn Fn() -> Client + Sync),
    (connections, pipelined): (usize, usize),
    seconds: u64,
    next: &(dyn Fn() -> Frame + Sync),
) -> Measured {
    let begin = std::sync::Barrier::new(connections);
    let mut taken: Vec<Duration> = Vec::new();
    let mut elapsed = Duration::ZERO;
    std::thread::scope(|scope| {
        let work = || {
            let mut client = connect();
            let mut taken = Vec::new();
            for frame in client.call_all(&[next(), next()]).unwrap() {
                succeeded(&frame);
            }
            begin.wait();
            let started = Instant::now();
            while started.elapsed() < Duration::from_secs(seconds) {
                let requests: Vec<Frame> = (0..pipelined).map(|_| next()).collect();
                let sent = Instant::now();
                let answers = client.call_all(&requests).unwrap();
                taken.push(sent.elapsed());
                assert_eq!(answers.len(), pipelined);
                answers.iter().for_each(|answer| drop(succeeded(answer)));
            }
            (taken, started.elapsed())
        };
        let workers: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (times, time) = worker.join().unwrap();
            taken.extend(times);
            elapsed = elapsed.max(time);
        }
    });
    taken.sort();
    let at = |share: usize| {
        taken
            .get((taken.len() * share / 100).min(taken.len() - 1))
            .copied()
            .unwrap_or_default()
    };
    Measured {
        per_second: (taken.len() * pipelined) as f64 / elapsed.as_secs_f64(),
        half: at(50),
        most: at(99),
    }
}

/// How often a second the disk takes one page durably.
fn syncs(folder: &Path) -> f64 {
    let mut file = File::create(folder.join("syncs")).unwrap();
    file.write_all(&vec![0; 4 << 20]).unwrap();
    file.sync_all().unwrap();
    let started = Instant::now();
    let mut count = 0u64;
    while started.elapsed() < Duration::from_millis(700) {
        file.seek(SeekFrom::Start(count % 1024 * 4096)).unwrap();
        file.write_all(&[count as u8; 4096]).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    count as f64 / started.elapsed().as_secs_f64()
}

fn main() {
    let (mut objects, mut seconds) = (100_000, 5);
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--objects" => objects = value.parse().unwrap(),
            [name, value] if name == "--seconds" => seconds = value.parse().unwrap(),
            other => panic!("{other:?}: only --objects N and --seconds S"),
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime = runtime().unwrap();
    let pki = Pki::open(folder.path()).unwrap();
    let (credentials, client) = (
        pki.credentials("server", &[]).unwrap(),
        pki.credentials("client", &[]).unwrap(),
    );
    let files = Files::beside(folder.path().join("server.redb"));
    let host = runtime
        .block_on(host::start(
            "bench",
            &files,
            "127.0.0.1:0",
            &credentials,
            Policy::closed(),
        ))
        .unwrap();
    let begun = Instant::now();
    let identifiers = fill(&host.server, objects);
    println!(
        "{objects} objects registered in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    let (served, fresh_ones) = identifiers.split_at(identifiers.len() * 9 / 10);
    serve(&host.server, served);

    let config = ClientConfig::new(&client, "localhost").unwrap();
    let address = host.handle.local_addr().to_string();
    let connect = || Client::connect(address.clone(), &config).unwrap();
    let (counter, fresh) = (AtomicU64::new(0), AtomicU64::new(objects));
    // Jumps about, so that no page is always the last one.
    let some = || counter.fetch_add(1, Ordering::Relaxed).wrapping_mul(7_919) % objects;
    let of = |identifiers: &[Text], number: u64| {
        let at = usize::try_from(number).unwrap() % identifiers.len();
        request(&[GetRequest::of(identifiers.get(at).unwrap().clone())])
    };
    let get = || of(served, some());
    let first = AtomicU64::new(0);
    let get_first = || of(fresh_ones, first.fetch_add(1, Ordering::Relaxed));
    let locate = || request(&[LocateRequest::by_name(name(some()))]);
    let create = || create(fresh.fetch_add(1, Ordering::Relaxed));
    let batch = || {
        let first = fresh.fetch_add(100, Ordering::Relaxed);
        request(&(first..first + 100).map(register).collect::<Vec<_>>())
    };
    let heads = ["requests/s", "objects/s", "p50 ms", "p99 ms", "syncs/s"];
    println!(
        "{:<34} {:>11} {:>11} {:>9} {:>9} {:>9}  of the goal",
        "", heads[0], heads[1], heads[2], heads[3], heads[4]
    );
    type Row<'a> = (
        &'a str,
        (usize, usize),
        f64,
        &'a (dyn Fn() -> Frame + Sync),
        Goal,
    );
    let rows: [Row<'_>; 12] = [
        ("Get", (1, 1), 1.0, &get, Goal::Reads(TIMES * OTHERS_GET)),
        (
            "Get, 32 pipelined",
            (1, 32),
            1.0,
            &get,
            Goal::Reads(TIMES * OTHERS_GET),
        ),
        (
            "Get, 16 connections",
            (16, 1),
            1.0,
            &get,
            Goal::Reads(TIMES * OTHERS_GET),
        ),
        ("Locate by Name", (1, 1), 1.0, &locate, Goal::None),
        (
            "Locate by Name, 32 pipelined",
            (1, 32),
            1.0,
            &locate,
            Goal::None,
        ),
        (
            "Locate by Name, 16 connections",
            (16, 1),
            1.0,
            &locate,
            Goal::None,
        ),
        (
            "Get for the first time",
            (1, 1),
            1.0,
            &get_first,
            Goal::Synced(SHARE),
        ),
        ("Create", (1, 1), 1.0, &create, Goal::Synced(SHARE)),
        (
            "Create, 64 pipelined",
            (1, 64),
            1.0,
            &create,
            Goal::Writes(TIMES * OTHERS_REGISTER),
        ),
        (
            "Create, 16 connections",
            (16, 1),
            1.0,
            &create,
            Goal::Synced(SHARE),
        ),
        (
            "100 Registers in a batch",
            (1, 1),
            100.0,
            &batch,
            Goal::Writes(TIMES * OTHERS_BATCHED),
        ),
        (
            "the same, 8 pipelined",
            (1, 8),
            100.0,
            &batch,
            Goal::Writes(TIMES * OTHERS_BATCHED),
        ),
    ];
    for (what, load, each, next, goal) in rows {
        // A disk that others use too is not the same from one moment to the next.
        let disk = || {
            if goal.is_written() {
                syncs(folder.path())
            } else {
                0.0
            }
        };
        let before = disk();
        let Measured {
            per_second,
            half,
            most,
        } = measure(&connect, load, seconds, next);
        let synced = (before + disk()) / 2.0;
        let made = per_second * each;
        let reached = match goal {
            Goal::None => String::new(),
            Goal::Reads(goal) | Goal::Writes(goal) => format!("{:.2} of {goal:.0}/s", made / goal),
            Goal::Synced(share) => format!("{:.2} of {share} syncs", made / synced / share),
        };
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        let syncs = if goal.is_written() {
            format!("{synced:.0}")
        } else {
            String::new()
        };
        println!(
            "{what:<34} {per_second:>11.0} {made:>11.0} {:>9.2} {:>9.2} {syncs:>9}  {reached}",
            millis(half),
            millis(most)
        );
    }
    runtime.block_on(host.handle.shutdown());
}
