//! A process that is killed at any moment, or that runs out of room, leaves a store in which all that was acknowledged is
//! there, and nothing half.
//!
//! The writer is this test binary again, started with `KEYFERRY_CHILD` set. `KEYFERRY_CRASHES` raises the number of kills.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use keyferry_store::{
    ErrorKind, FeedRow, Incarnation, Index, IndexKey, MaterialChange, Memory, Order, Part, Put, RecordNumber, Result, Snapshot,
    Span, Store, Transaction,
};
use keyferry_store_redb::{Options, RedbStore};
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const INCARNATION: Incarnation = Incarnation([9; 16]);

fn open(path: &Path) -> Result<RedbStore> {
    RedbStore::open(path, Options { cache_bytes: 4 << 20, ..Options::new(INCARNATION) })
}

/// splitmix64.
fn scatter(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x1234_5678);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// How many writes the store has seen; the workload keeps it in the state.
fn written(at: &dyn Snapshot) -> Result<u64> {
    let mut count = 0;
    at.state(&Span::exact(b"written"), &mut |_, value| {
        count = u64::from_be_bytes(value.try_into().unwrap());
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(count)
}

/// Write `n` of the workload: the same on every store that has seen the `n` writes before.
fn workload(tx: &mut dyn Transaction, n: u64) -> Result<()> {
    let new = if n.is_multiple_of(7) { 400 } else { scatter(n) % 12 };
    let records = tx.count()?;
    let text = n.to_be_bytes();
    let key = |index: u8, key: &[u8]| IndexKey { index: Index(index), key: key.into() };
    let born: Vec<_> = (0..new).map(|i| [key(1, &scatter(n * 1000 + i).to_be_bytes()), key(2, &text)]).collect();
    let put = |number, remove, insert| {
        let (attributes, material) = (&[b'a'; 700], MaterialChange::Set(&[b'm'; 150]));
        Put { number, id: b"an object", attributes, material, remove, insert, entry: &text }
    };
    let mut puts: Vec<_> = born.iter().map(|keys| put(None, &[], keys)).collect();
    let changed: Vec<_> = (0..records.min(5)).map(|i| RecordNumber(1 + (scatter(n + i) % (records / 5 + 1)) * 5 + i)).collect();
    let changed: Vec<_> = changed.into_iter().filter(|number| number.0 <= records).collect();
    let mut old = Vec::new();
    for number in &changed {
        // The key of index 2 is the last write that touched the record; the state remembers it.
        let mut before = Vec::new();
        tx.state(&Span::exact(&number.0.to_be_bytes()), &mut |_, value| {
            before = value.to_vec();
            Ok(ControlFlow::Continue(()))
        })?;
        old.push([key(2, &before)]);
    }
    let new_keys = [key(2, &text)];
    puts.extend(changed.iter().zip(&old).map(|(number, old)| put(Some(*number), old, &new_keys)));
    for number in tx.put(&puts)? {
        tx.set_state(&number.0.to_be_bytes(), Some(&text))?;
    }
    tx.set_state(b"written", Some(&(n + 1).to_be_bytes()))
}

/// The child: writes until it is killed or a write fails, and says what it did.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    let Some(path) = std::env::var_os("KEYFERRY_CHILD") else { return };
    let path = Path::new(&path);
    let say = |text: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}").unwrap();
        out.flush().unwrap();
    };
    let store = open(path).unwrap();
    say("\nopen".into());
    loop {
        let mut n = 0;
        let result = store.write(&mut |tx| {
            n = written(tx)?;
            workload(tx, n)
        });
        match result {
            Ok(()) => say(format!("done {n}")),
            Err(error) => {
                say(format!("failed {:?} {error}", error.kind()));
                // The store goes on: it reads, and refuses or takes the next write.
                let read = store.read(&mut |at| {
                    n = written(at)?;
                    Ok(())
                });
                say(format!("read {n} {read:?}"));
                say(format!("small {:?}", store.write(&mut |tx| tx.set_state(b"small", Some(b"x"))).map_err(|e| e.kind())));
                return;
            }
        }
    }
}

fn start(path: &Path, through: Option<&str>) -> Child {
    let this = std::env::current_exe().unwrap();
    let mut command = match through {
        Some(script) => {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(format!("{script}; exec \"$0\" \"$@\"")).arg(this);
            shell
        }
        None => Command::new(this),
    };
    command.args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("KEYFERRY_CHILD", path).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Everything that a snapshot shows, as text.
fn dump(at: &dyn Snapshot) -> Result<Vec<String>> {
    let mut lines = vec![format!("head {:?} count {}", at.head()?, at.count()?)];
    for index in [0, 1, 2] {
        at.scan(Index(index), &Span::all(), Order::Ascending, None, &mut |key, number| {
            lines.push(format!("index {index} {key:?} {}", number.0));
            if index == 0 {
                let row = at.get(number, Part::Whole)?.unwrap();
                lines.push(format!("record {:?} {} {:?}", row.id, row.attributes.len(), row.material.map(|m| m.len())));
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    at.feed(0, &mut |FeedRow { number, record, entry }: &FeedRow<'_>| {
        lines.push(format!("feed {number} {} {entry:?} {:?}", record.0, at.commit_id(*number)?));
        Ok(ControlFlow::Continue(()))
    })?;
    at.state(&Span::all(), &mut |key, value| {
        lines.push(format!("state {key:?} {value:?}"));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(lines)
}

fn see<T>(store: &dyn Store, f: impl Fn(&dyn Snapshot) -> Result<T>) -> T {
    let mut seen = None;
    store
        .read(&mut |at| {
            seen = Some(f(at)?);
            Ok(())
        })
        .unwrap();
    seen.unwrap()
}

/// The file holds exactly the workload's writes below some count, which is returned; `model` is brought to that count.
fn compare(path: &Path, model: &Memory, acknowledged: u64) -> u64 {
    let store = open(path).unwrap();
    let count = see(&store, written);
    assert!(count >= acknowledged, "{acknowledged} writes were acknowledged, and {count} are there");
    assert!(count <= acknowledged + 1, "{acknowledged} writes were acknowledged, one was under way, and {count} are there");
    for n in see(model, written)..count {
        model.write(&mut |tx| workload(tx, n)).unwrap();
    }
    let (found, expected) = (see(&store, dump), see(model, dump));
    let mut differences = found.iter().zip(&expected).filter(|(found, expected)| found != expected);
    assert!(differences.next().is_none(), "after {count} writes the store differs: {:?}", differences.next());
    assert_eq!(found.len(), expected.len(), "after {count} writes the store has another number of entries");
    count
}

/// So many kills a store lives through.
const STORE_LIVES: u64 = 40;

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let kills = std::env::var("KEYFERRY_CRASHES").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let folder = tempfile::tempdir().unwrap();
    let (mut path, mut model) = (PathBuf::new(), Memory::new(INCARNATION));
    let (mut count, mut total) = (0, 0);
    for kill in 0..kills {
        // A new store now and then, so that comparing does not take longer and longer.
        if kill % STORE_LIVES == 0 {
            path = folder.path().join(format!("store-{kill}.redb"));
            model = Memory::new(INCARNATION);
            total += std::mem::take(&mut count);
        }
        let random = scatter(kill + 77);
        let mut child = start(&path, None);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = count;
        let mut take = |line: String| {
            if let Some(n) = line.strip_prefix("done ") {
                acknowledged = n.parse::<u64>().unwrap() + 1;
            }
            assert!(!line.starts_with("failed"), "the child says: {line}");
        };
        // Every fourth one is killed while it opens or makes the file, the others some writes and a moment later.
        let writes = if kill % 4 == 0 { 0 } else { random % 25 };
        for _ in 0..writes {
            take(lines.next().unwrap().unwrap());
        }
        std::thread::sleep(Duration::from_micros(random / 100 % if kill % 4 == 0 { 12_000 } else { 4000 }));
        child.kill().unwrap();
        child.wait().unwrap();
        lines.map_while(|line| line.ok()).for_each(&mut take);
        count = compare(&path, &model, acknowledged);
    }
    total += count;
    assert!(total > 0 || kills < 4, "no child wrote anything");
    println!("{kills} kills, {total} writes");
}

#[test]
fn a_full_device_keeps_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let model = Memory::new(INCARNATION);
    // The same store meets the limit several times: each child may write a few MB more.
    for blocks in [6000, 12_000, 20_000] {
        let child = start(&path, Some(&format!("trap '' XFSZ; ulimit -f {blocks}")));
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let count =
            text.lines().filter_map(|line| line.strip_prefix("done ")?.parse::<u64>().ok()).next_back().map_or(0, |n| n + 1);
        let line = |start: &str| {
            text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no line {start:?}: {text}"))
        };
        let (failed, read) = (line("failed"), line("read"));
        assert!(failed.starts_with("failed Full"), "{failed}");
        assert!(failed.contains("store.redb"), "{failed}");
        assert_eq!(read, format!("read {count} Ok(())"), "after {failed}");
        let small = line("small");
        let small_kept = small == "small Ok(())";
        assert!(small_kept || small == format!("small Err({:?})", ErrorKind::Full), "after {failed}: {small}");
        if small_kept {
            open(&path).unwrap().write(&mut |tx| tx.set_state(b"small", None)).unwrap();
        }
        assert_eq!(compare(&path, &model, count), count, "the write that failed for lack of room is there");
    }
}
