//! A process that is killed at any moment, or that runs out of room, leaves a store in which all that was acknowledged is
//! there, and nothing half.
//!
//! The writer is this test binary again, started with `KEYFERRY_CHILD` set. `KEYFERRY_CRASHES` raises the number of kills.

use keyferry_store::conformance::crash::{Ledger, write_on, written};
use keyferry_store::{ErrorKind, Incarnation, Result, Store, StoreExt};
use keyferry_store_redb::{Options, RedbStore};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const INCARNATION: Incarnation = Incarnation([9; 16]);

fn open(path: &Path) -> Result<RedbStore> {
    RedbStore::open(
        path,
        Options {
            cache_bytes: 4 << 20,
            ..Options::new(INCARNATION)
        },
    )
}

/// splitmix64.
fn scatter(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^ (z >> 27)
}

/// The child: writes until it is killed or a write fails, and says what it did.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    let Some(path) = std::env::var_os("KEYFERRY_CHILD") else {
        return;
    };
    let say = |text: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}").unwrap();
        out.flush().unwrap();
    };
    let store = open(Path::new(&path)).unwrap();
    say("\nopen".into());
    let error = write_on(&store, &mut |n| say(format!("done {n}")));
    say(format!("failed {:?} {error}", error.kind()));
    // The store goes on: it reads, and refuses or takes the next write.
    say(format!(
        "read {:?}",
        store.view(|at| written(at)).map_err(|error| error.kind())
    ));
    say(format!(
        "small {:?}",
        store
            .write(&mut |tx| tx.set_state(b"small", Some(b"x")))
            .map_err(|e| e.kind())
    ));
}

fn start(path: &Path, through: Option<&str>) -> Child {
    let this = std::env::current_exe().unwrap();
    let mut command = match through {
        Some(script) => {
            let mut shell = Command::new("sh");
            shell
                .arg("-c")
                .arg(format!("{script}; exec \"$0\" \"$@\""))
                .arg(this);
            shell
        }
        None => Command::new(this),
    };
    command.args([
        "--exact",
        "crash::child",
        "--ignored",
        "--nocapture",
        "--test-threads=1",
    ]);
    command
        .env("KEYFERRY_CHILD", path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// So many kills a store lives through: comparing takes longer from one to the next.
const LIVES: u64 = 40;

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    let kills = std::env::var("KEYFERRY_CRASHES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20);
    let folder = tempfile::tempdir().unwrap();
    let (mut path, mut ledger) = (PathBuf::new(), Ledger::new(INCARNATION));
    let (mut count, mut total) = (0, 0);
    for kill in 0..kills {
        if kill % LIVES == 0 {
            path = folder.path().join(format!("store-{kill}.redb"));
            ledger = Ledger::new(INCARNATION);
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
        std::thread::sleep(Duration::from_micros(
            random / 100 % if kill % 4 == 0 { 12_000 } else { 4000 },
        ));
        child.kill().unwrap();
        child.wait().unwrap();
        lines.map_while(|line| line.ok()).for_each(&mut take);
        count = ledger.check(&open(&path).unwrap(), acknowledged);
    }
    total += count;
    assert!(total > 0 || kills < 4, "no child wrote anything");
    println!("{kills} kills, {total} writes");
}

#[test]
fn a_full_device_keeps_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let mut ledger = Ledger::new(INCARNATION);
    // The same store meets the limit several times: each child may write a few MB more.
    for blocks in [6000, 12_000, 20_000] {
        let child = start(&path, Some(&format!("trap '' XFSZ; ulimit -f {blocks}")));
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let count = text
            .lines()
            .filter_map(|line| line.strip_prefix("done ")?.parse::<u64>().ok())
            .next_back()
            .map_or(0, |n| n + 1);
        let line = |start: &str| {
            text.lines()
                .find(|line| line.starts_with(start))
                .unwrap_or_else(|| panic!("no line {start:?}: {text}"))
        };
        let (failed, read) = (line("failed"), line("read"));
        assert!(failed.starts_with("failed Full"), "{failed}");
        assert!(failed.contains("store.redb"), "{failed}");
        assert_eq!(read, format!("read Ok({count})"), "after {failed}");
        let small = line("small");
        let small_kept = small == "small Ok(())";
        assert!(
            small_kept || small == format!("small Err({:?})", ErrorKind::Full),
            "after {failed}: {small}"
        );
        let store = open(&path).unwrap();
        if small_kept {
            store.write(&mut |tx| tx.set_state(b"small", None)).unwrap();
        }
        assert_eq!(
            ledger.check(&store, count),
            count,
            "the write that failed for lack of room is there"
        );
    }
}
