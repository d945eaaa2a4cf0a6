//! What the embedded store costs, and how that grows: `cargo bench --bench store`, with other numbers of objects behind `--`, such as
//! `1000 100000 1000000`.
//!
//! Every object has twelve index entries and a feed entry; every write of 1 000 is durable. A child process fills a store and goes on
//! writing until it is killed; another one opens what is left and reads. So the memory of each is its own, and the opening is one after
//! a kill. `KEYFERRY_CACHE` sets the page cache, in MiB. With `KEYFERRY_SEALED` the store is sealed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use keyferry_benches::objects::{all_written, identifier, memory, name, scatter};
use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::spec::AttributeValue;
use keyferry_kmip::{Attributes, DateTime, Name, Secret};
use keyferry_store::{
    Cursor, Error, Incarnation, Index, Order, Part, Put, RecordNumber, Sealed, Snapshot,
    SnapshotExt, Span, Store, StoreExt, plan::Query,
};
use keyferry_store_redb::{Options, RedbStore};
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const BATCH: u64 = 1000;
const PAGE: usize = 1000;
const LOOKUPS: u64 = 20_000;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["fill", path, count] => fill(Path::new(path), count.parse().unwrap()),
        ["read", path, count] => read(Path::new(path), count.parse().unwrap()),
        [] => compare(&[1000, 100_000]),
        ref counts => compare(
            &counts
                .iter()
                .map(|count| count.parse().expect("a number of objects"))
                .collect::<Vec<u64>>(),
        ),
    }
}

fn open(path: &Path) -> Box<dyn Store> {
    let mut options = Options::new(Incarnation([1; 16]));
    if let Some(mib) = std::env::var("KEYFERRY_CACHE")
        .ok()
        .and_then(|text| text.parse::<usize>().ok())
    {
        options.cache_bytes = mib << 20;
    }
    let store = RedbStore::open(path, options).unwrap();
    if std::env::var_os("KEYFERRY_SEALED").is_none() {
        return Box::new(store);
    }
    let (random, key) = (&mut SystemRandom::new(), Secret::new(&[1; 32]));
    Box::new(Sealed::open(store, Arc::new(Ring::new()), key, random).unwrap())
}

/// A figure on its way to the parent.
fn tell(figure: &str, value: f64) {
    println!("{figure}\t{value}");
}

fn fill(path: &Path, count: u64) {
    let store = open(path);
    let base = memory().1;
    let mut spent = Vec::new();
    for first in (0..).step_by(BATCH as usize) {
        let objects = all_written(first..first + BATCH).unwrap();
        let puts: Vec<Put<'_>> = objects.iter().map(|object| object.put()).collect();
        let start = Instant::now();
        store.write(&mut |tx| tx.put(&puts).map(|_| ())).unwrap();
        spent.push(start.elapsed());
        if first + BATCH == count.max(BATCH) {
            let per_object = |writes: &[Duration]| {
                writes.iter().sum::<Duration>().as_secs_f64() * 1e6
                    / (writes.len() as f64 * BATCH as f64)
            };
            tell("insert, us an object", per_object(&spent));
            let tenth = spent.len().div_ceil(10);
            tell(
                "  the last tenth of them",
                per_object(&spent[spent.len() - tenth..]),
            );
            tell(
                "  the slowest write, ms",
                spent.iter().max().unwrap().as_secs_f64() * 1e3,
            );
            tell("  memory, MiB (peak)", memory().0 as f64);
            tell("  memory before, MiB", base as f64);
            tell(
                "file, bytes an object",
                std::fs::metadata(path).unwrap().len() as f64 / count as f64,
            );
            // Then it writes until it is killed.
            println!("full");
        }
    }
}

/// The time of one of `count` calls, in microseconds, and how much of it this thread had a processor; 0 where the system does not say.
fn time(count: u64, mut call: impl FnMut(u64)) -> (f64, f64) {
    let on_processor = || {
        let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        told.split(' ')
            .next()
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
            / 1e9
    };
    let (start, before) = (Instant::now(), on_processor());
    (0..count).for_each(&mut call);
    let per_call = |seconds: f64| seconds * 1e6 / count as f64;
    (
        per_call(start.elapsed().as_secs_f64()),
        per_call(on_processor() - before),
    )
}

fn tell_times(figure: &str, (time, on_processor): (f64, f64)) {
    tell(figure, time);
    tell("  of that on a processor", on_processor);
}

fn view<T>(store: &dyn Store, f: impl FnMut(&dyn Snapshot) -> Result<T, Error>) -> T {
    store.view(f).unwrap()
}

fn read(path: &Path, count: u64) {
    let start = Instant::now();
    let store = open(path);
    tell(
        "reopening after a kill, ms",
        start.elapsed().as_secs_f64() * 1e3,
    );
    let there = view(&*store, |at| at.count());
    assert!(
        there >= count,
        "{count} objects were acknowledged, and {there} are there"
    );
    let some = |n: u64| scatter(n + 5) % count;
    let get = |n| {
        let name = identifier(some(n));
        let (number, _) = view(&*store, |at| at.by_identifier(&name)).expect("it was written");
        black_box(number);
    };
    time(LOOKUPS / 10, get);
    tell_times("get by identifier, us", time(LOOKUPS, get));
    let locate = |n| {
        let attributes = Attributes::new().with(AttributeValue::Name(Name::text(name(some(n)))));
        let query = Query::new(&attributes, None, false).unwrap();
        let found = view(&*store, |at| {
            query.locate(at, DateTime(1_800_000_000), (0, 10), &|_| Ok(true))
        });
        assert_eq!(found.total, Some(1));
    };
    time(LOOKUPS / 10, locate);
    tell_times("locate by name, us", time(LOOKUPS, locate));

    let start = Instant::now();
    let met = pages(&*store, &mut |at, number| {
        black_box(at.get(number, Part::Attributes)?.expect("it was visited"));
        Ok(())
    });
    tell(
        "page through all, us an object",
        start.elapsed().as_secs_f64() * 1e6 / met as f64,
    );
    let start = Instant::now();
    let met = pages(&*store, &mut |at, number| {
        black_box(at.whole(number)?.expect("it was visited"));
        Ok(())
    });
    tell(
        "  with material, all of it decoded",
        start.elapsed().as_secs_f64() * 1e6 / met as f64,
    );

    let start = Instant::now();
    let mut met = 0_u64;
    view(&*store, |at| {
        met = 0;
        at.feed(0, &mut |row| {
            met += 1;
            black_box(row.entry);
            Ok(ControlFlow::Continue(()))
        })
    });
    tell(
        "read the feed, us an entry",
        start.elapsed().as_secs_f64() * 1e6 / met as f64,
    );
    tell("  memory of the reader, MiB (peak)", memory().0 as f64);
    state(&*store);
}

/// Writes rows of the s2s state as long as those of a relation, and reads them one by one.
fn state(store: &dyn Store) {
    let key = |n: u64| format!("retry/relation\0{n:016}").into_bytes();
    let start = Instant::now();
    let written = store.write(&mut |tx| {
        (0..LOOKUPS).try_for_each(|n| tx.set_state(&key(scatter(n)), Some(&[7; 200])))
    });
    written.unwrap();
    tell(
        "set a row of the state, us",
        start.elapsed().as_secs_f64() * 1e6 / LOOKUPS as f64,
    );
    let row = |n| {
        let value = view(store, |at| at.state_value(&key(scatter(n))));
        assert_eq!(black_box(value).map(|value| value.len()), Some(200));
    };
    tell_times("read a row of the state, us", time(LOOKUPS, row));
}

/// Visits all records in pages, each in a read of its own as a client's requests are; returns how many there are.
fn pages(
    store: &dyn Store,
    visit: &mut dyn FnMut(&dyn Snapshot, RecordNumber) -> Result<(), Error>,
) -> u64 {
    let (mut after, mut met) = (None, 0);
    loop {
        let mut page = 0;
        let mut last = None;
        view(store, |at| {
            page = 0;
            at.scan(
                Index::ARRIVAL,
                &Span::all(),
                Order::Ascending,
                after.as_ref(),
                &mut |key, number| {
                    visit(at, number)?;
                    page += 1;
                    if page < PAGE {
                        return Ok(ControlFlow::Continue(()));
                    }
                    last = Some(Cursor {
                        key: key.to_vec(),
                        number,
                    });
                    Ok(ControlFlow::Break(()))
                },
            )
        });
        met += page as u64;
        if last.is_none() {
            return met;
        }
        after = last;
    }
}

fn start(job: &str, path: &Path, count: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .arg(job)
        .arg(path)
        .arg(count.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Takes the figures that a child tells, until it ends or says that its store is full.
fn listen(child: &mut Child, figures: &mut Vec<(String, f64)>) {
    for line in BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(|line| line.ok())
    {
        match line.split_once('\t') {
            Some((figure, value)) => figures.push((figure.to_owned(), value.parse().unwrap())),
            None => return,
        }
    }
}

fn compare(counts: &[u64]) {
    let mut columns: Vec<Vec<(String, f64)>> = Vec::new();
    for count in counts {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = folder.path().join("store.redb");
        let mut figures = Vec::new();
        let mut child = start("fill", &path, *count);
        listen(&mut child, &mut figures);
        // In the middle of one of the writes that follow.
        std::thread::sleep(Duration::from_millis(100));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut child = start("read", &path, *count);
        listen(&mut child, &mut figures);
        assert!(child.wait().unwrap().success());
        columns.push(figures);
    }
    print!("{:36}", "objects");
    counts.iter().for_each(|count| print!("{count:>12}"));
    println!("{:>12}", "last/first");
    for (row, (figure, first)) in columns[0].iter().enumerate() {
        print!("{figure:36}");
        columns
            .iter()
            .for_each(|column| print!("{:>12.2}", column[row].1));
        println!("{:>12.2}", columns[columns.len() - 1][row].1 / first);
    }
    println!(
        "\n`last/first` says how a cost grows: 1 stands for one that does not depend on the number of objects."
    );
}
