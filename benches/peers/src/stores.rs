//! The embedded store over redb beside fjall, an LSM tree, with the same objects, entries and durability:
//! `cargo run --release --bin stores -- 1000000` (a number of objects).
//!
//! redb is measured through the whole store; fjall by itself, in the same tables and with the commit chain, so that what a store over it
//! would cost comes on top. Every write of 1 000 objects is synced, but in the last row, which is fjall's default. A child process
//! fills and is killed in the middle of a later write; another one opens what is left, counts and reads.
#![allow(clippy::unwrap_used)]

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use keyferry_benches::objects::{Written, all_written, identifier, memory, scatter};
use keyferry_store::{
    Chain, CommitId, Error, Incarnation, Index, Order, Part, RecordNumber, Span, Store, StoreExt,
    index,
};
use keyferry_store_redb::{Options, RedbStore};
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BATCH: u64 = 1000;
const CACHE: usize = 32 << 20;
const LOOKUPS: u64 = 20_000;
const ENGINES: [&str; 4] = [
    "redb",
    "fjall",
    "fjall, small memtables",
    "fjall, not synced",
];

trait Engine {
    fn write(&mut self, objects: &[Written]);
    /// The attributes under an identifier.
    fn get(&self, identifier: &str) -> Option<Vec<u8>>;
    /// Reads the attributes of all records; how many there are.
    fn scan(&self) -> u64;
}

impl Engine for RedbStore {
    fn write(&mut self, objects: &[Written]) {
        let puts: Vec<_> = objects.iter().map(Written::put).collect();
        Store::write(self, &mut |tx| tx.put(&puts).map(|_| ())).unwrap();
    }

    fn get(&self, identifier: &str) -> Option<Vec<u8>> {
        let key = index::identifier(identifier);
        self.view::<_, Error>(|at| {
            let mut found = None;
            at.scan(
                key.index,
                &Span::exact(&key.key),
                Order::Descending,
                None,
                &mut |_, number| {
                    found = at.get(number, Part::Attributes)?.map(|row| row.attributes);
                    Ok(ControlFlow::Break(()))
                },
            )?;
            Ok(found)
        })
        .unwrap()
    }

    fn scan(&self) -> u64 {
        self.view::<_, Error>(|at| {
            let mut met = 0;
            at.scan(
                Index::ARRIVAL,
                &Span::all(),
                Order::Ascending,
                None,
                &mut |_, number: RecordNumber| {
                    black_box(at.get(number, Part::Attributes)?);
                    met += 1;
                    Ok(ControlFlow::Continue(()))
                },
            )?;
            Ok(met)
        })
        .unwrap()
    }
}

struct Fjall {
    database: Database,
    records: Keyspace,
    material: Keyspace,
    index: Keyspace,
    feed: Keyspace,
    commits: Keyspace,
    last: u64,
    commit: CommitId,
    synced: bool,
}

impl Fjall {
    fn open(path: &Path, memtable: Option<u64>, synced: bool) -> Fjall {
        let database = Database::builder(path)
            .cache_size(CACHE as u64)
            .open()
            .unwrap();
        let keyspace = |name: &str| {
            let options = || match memtable {
                Some(bytes) => KeyspaceCreateOptions::default().max_memtable_size(bytes),
                None => KeyspaceCreateOptions::default(),
            };
            database.keyspace(name, options).unwrap()
        };
        let commits = keyspace("commits");
        let (last, commit) = commits
            .iter()
            .next_back()
            .map_or((0, CommitId::ZERO), |last| {
                let (number, id) = last.into_inner().unwrap();
                (
                    u64::from_be_bytes(number[..].try_into().unwrap()),
                    CommitId(id[..].try_into().unwrap()),
                )
            });
        Fjall {
            records: keyspace("records"),
            material: keyspace("material"),
            index: keyspace("index"),
            feed: keyspace("feed"),
            commits,
            database,
            last,
            commit,
            synced,
        }
    }
}

/// An entry of the index; keys may hold zeros, but none of these does so where another ends.
fn entry(index: u8, key: &[u8], number: &[u8]) -> Vec<u8> {
    [&[index], key, number].concat()
}

impl Engine for Fjall {
    fn write(&mut self, objects: &[Written]) {
        let mut batch = self
            .database
            .batch()
            .durability(self.synced.then_some(PersistMode::SyncAll));
        let mut chain = Chain::after(self.commit);
        for object in objects {
            let put = object.put();
            self.last += 1;
            let number = self.last.to_be_bytes();
            batch.insert(
                &self.records,
                number,
                [
                    &number[..],
                    &(put.id.len() as u32).to_be_bytes(),
                    put.id,
                    put.attributes,
                ]
                .concat(),
            );
            if let keyferry_store::MaterialChange::Set(material) = put.material {
                batch.insert(&self.material, number, material);
            }
            for key in put.insert {
                batch.insert(&self.index, entry(key.index.0, &key.key, &number), []);
            }
            batch.insert(&self.feed, number, [&number[..], put.entry].concat());
            chain.add(&put);
        }
        self.commit = chain.finish();
        batch.insert(&self.commits, self.last.to_be_bytes(), self.commit.0);
        batch.commit().unwrap();
    }

    fn get(&self, identifier: &str) -> Option<Vec<u8>> {
        let key = index::identifier(identifier);
        let at = self.database.snapshot();
        let found = at
            .prefix(&self.index, entry(key.index.0, &key.key, &[]))
            .next_back()?
            .key()
            .unwrap();
        at.get(&self.records, &found[found.len() - 8..])
            .unwrap()
            .map(|value| value.to_vec())
    }

    fn scan(&self) -> u64 {
        let mut met = 0;
        for next in self.database.snapshot().iter(&self.records) {
            black_box(next.into_inner().unwrap().1.to_vec());
            met += 1;
        }
        met
    }
}

fn open(engine: &str, path: &Path) -> Box<dyn Engine> {
    match engine {
        "redb" => {
            let options = Options {
                cache_bytes: CACHE,
                ..Options::new(Incarnation([1; 16]))
            };
            Box::new(RedbStore::open(path.join("store.redb"), options).unwrap())
        }
        "fjall" => Box::new(Fjall::open(path, None, true)),
        "fjall, small memtables" => Box::new(Fjall::open(path, Some(4 << 20), true)),
        _ => Box::new(Fjall::open(path, None, false)),
    }
}

fn tell(value: f64) {
    println!("{value:.2}");
}

fn fill(engine: &str, path: &Path, count: u64) {
    let mut store = open(engine, path);
    let mut spent = Duration::ZERO;
    for first in (0..).step_by(BATCH as usize) {
        let objects = all_written(first..first + BATCH).unwrap();
        let start = Instant::now();
        store.write(&objects);
        spent += start.elapsed();
        if first + BATCH == count {
            tell(count as f64 / spent.as_secs_f64());
            tell(memory().0 as f64);
            println!("full");
        }
    }
}

fn read(engine: &str, path: &Path, count: u64) {
    let start = Instant::now();
    let store = open(engine, path);
    tell(start.elapsed().as_secs_f64() * 1e3);
    let time = |lookups: u64| {
        let start = Instant::now();
        for n in 0..lookups {
            black_box(store.get(&identifier(scatter(n + 5) % count)));
        }
        start.elapsed().as_secs_f64() * 1e6 / lookups as f64
    };
    time(LOOKUPS / 10);
    tell(time(LOOKUPS));
    let start = Instant::now();
    let met = store.scan();
    tell(met as f64 / start.elapsed().as_secs_f64());
    tell(memory().0 as f64);
    tell((count as f64) - (met as f64).min(count as f64));
}

fn start(job: &str, engine: &str, path: &Path, count: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([job, engine])
        .arg(path)
        .arg(count.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn listen(child: &mut Child, figures: &mut Vec<f64>) {
    let lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    figures.extend(lines.map_while(|line| line.parse::<f64>().ok()));
}

fn size(path: &Path) -> u64 {
    let Ok(folder) = std::fs::read_dir(path) else {
        return 0;
    };
    folder
        .flatten()
        .map(|entry| {
            if entry.path().is_dir() {
                size(&entry.path())
            } else {
                entry.metadata().map_or(0, |found| found.len())
            }
        })
        .sum()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fill", engine, path, count] => {
            return fill(engine, Path::new(path), count.parse().unwrap());
        }
        ["read", engine, path, count] => {
            return read(engine, Path::new(path), count.parse().unwrap());
        }
        _ => {}
    }
    let count: u64 = arguments
        .first()
        .map_or(100_000, |count| count.parse().unwrap());
    println!(
        "{:24}{:>10}{:>12}{:>12}{:>9}{:>10}{:>12}{:>10}{:>8}",
        format!("{count} objects"),
        "insert/s",
        "peak, MiB",
        "reopen, ms",
        "get, us",
        "scan/s",
        "peak, MiB",
        "size, MB",
        "lost"
    );
    for engine in ENGINES {
        let folder = tempfile::tempdir_in(".").unwrap();
        let mut figures = Vec::new();
        let mut child = start("fill", engine, folder.path(), count);
        listen(&mut child, &mut figures);
        std::thread::sleep(Duration::from_millis(100));
        child.kill().unwrap();
        child.wait().unwrap();
        let size = size(folder.path()) / 1_000_000;
        let mut child = start("read", engine, folder.path(), count);
        listen(&mut child, &mut figures);
        assert!(child.wait().unwrap().success());
        let [insert, filling, reopen, get, scan, reading, lost] = figures[..] else {
            panic!("{engine}: {figures:?}")
        };
        println!(
            "{engine:24}{insert:>10.0}{filling:>12.0}{reopen:>12.0}{get:>9.1}{scan:>10.0}{reading:>12.0}{size:>10}{lost:>8.0}"
        );
    }
}
