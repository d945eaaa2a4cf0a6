//! A server process that is killed at any moment, or a database that crashes, leaves a store in which all that was acknowledged is there,
//! and nothing half; and several server processes write to one database at once.
//!
//! The servers are this test binary again, started with `KEYFERRY_CHILD` set. `KEYFERRY_CRASHES` raises the number of kills.

use crate::cluster::cluster_to_crash;
use keyferry_store::conformance::crash::{Ledger, write_on};
use keyferry_store::{
    CommitId, Error, FeedRow, Incarnation, MaterialChange, Part, Put, Store, StoreExt,
};
use keyferry_store_postgres::{Config, PostgresStore};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const INCARNATION: Incarnation = Incarnation([9; 16]);

/// splitmix64.
fn scatter(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^ (z >> 27)
}

/// Held by each test here, since the server that they share crashes.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").unwrap();
    out.flush().unwrap();
}

/// The child: writes until it is killed or a write fails, and says what it did. With a number in `KEYFERRY_WRITES` it makes that many
/// small writes of its own instead.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    let Ok(text) = std::env::var("KEYFERRY_CHILD") else {
        return;
    };
    let store = PostgresStore::open(text.parse::<Config>().unwrap(), INCARNATION).unwrap();
    say("\nopen");
    let Ok(writes) = std::env::var("KEYFERRY_WRITES") else {
        let error = write_on(&store, &mut |n| say(&format!("done {n}")));
        say(&format!("failed {:?} {error}", error.kind()));
        return;
    };
    for n in 0..writes.parse().unwrap() {
        let id = format!("{}/{n}", std::process::id());
        let put = |id: &'static str, number| {
            let material = MaterialChange::Set(b"m");
            Put {
                number,
                id: b"id",
                attributes: id.as_bytes(),
                material,
                remove: &[],
                insert: &[],
                entry: id.as_bytes(),
            }
        };
        let id: &'static str = id.leak();
        // All of them count in one key and change one record, so that they are in each other's way.
        store
            .transact::<_, Error>(|tx| {
                let mut count = 0;
                tx.state(&keyferry_store::Span::exact(b"count"), &mut |_, value| {
                    count = u64::from_be_bytes(value.try_into().unwrap());
                    Ok(ControlFlow::Continue(()))
                })?;
                tx.set_state(b"count", Some(&(count + 1_u64).to_be_bytes()))?;
                tx.put(&[
                    put(id, None),
                    put("shared", Some(keyferry_store::RecordNumber(1))),
                ])
                .map(|_| ())
            })
            .unwrap();
        say(&format!("done {id}"));
    }
}

fn start(config: &Config, writes: Option<u64>) -> Child {
    let connection = {
        let host = config.get_hosts().iter().find_map(|host| match host {
            postgres::config::Host::Unix(path) => path.to_str(),
            postgres::config::Host::Tcp(_) => None,
        });
        let (host, port) = (host.unwrap(), config.get_ports()[0]);
        format!(
            "host={host} port={port} user=keyferry dbname={}",
            config.get_dbname().unwrap()
        )
    };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "crash::child",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("KEYFERRY_CHILD", connection);
    if let Some(writes) = writes {
        command.env("KEYFERRY_WRITES", writes.to_string());
    }
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until the database has ended the sessions of a process that is gone: one may have been in its commit.
fn quiet(config: &Config) {
    let mut beside = config.connect(postgres::NoTls).unwrap();
    let others = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    while !beside.query(others, &[]).unwrap().is_empty() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Every so many times it is the database that crashes, not the server.
const DATABASE: u64 = 10;
/// So many kills a store lives through: comparing takes longer from one to the next.
const LIVES: u64 = 25;

#[test]
fn a_killed_process_or_database_loses_nothing_that_was_acknowledged() {
    let Some(cluster) = cluster_to_crash() else {
        return;
    };
    let _alone = alone();
    let kills = std::env::var("KEYFERRY_CRASHES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(10);
    let (mut config, mut ledger) = (Config::new(), Ledger::new(INCARNATION));
    let (mut count, mut total) = (0, 0);
    for kill in 0..kills {
        if kill % LIVES == 0 {
            config = cluster.database();
            ledger = Ledger::new(INCARNATION);
            total += std::mem::take(&mut count);
        }
        let (random, of_database) = (scatter(kill + 77), kill % DATABASE == DATABASE - 1);
        let mut child = start(&config, None);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = count;
        let mut take = |line: String| {
            if let Some(n) = line.strip_prefix("done ") {
                acknowledged = n.parse::<u64>().unwrap() + 1;
            }
            assert!(
                of_database && line.starts_with("failed Io") || !line.starts_with("failed"),
                "the child says: {line}"
            );
        };
        // Every fourth one is killed while it connects or makes the tables, the others some writes and a moment later.
        let writes = if kill % 4 == 0 { 0 } else { random % 12 };
        for _ in 0..writes {
            take(lines.next().unwrap().unwrap());
        }
        std::thread::sleep(Duration::from_micros(
            random / 100 % if kill % 4 == 0 { 60_000 } else { 15_000 },
        ));
        if of_database {
            cluster.crash();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        lines.map_while(|line| line.ok()).for_each(&mut take);
        quiet(&config);
        count = ledger.check(
            &PostgresStore::open(config.clone(), INCARNATION).unwrap(),
            acknowledged,
        );
    }
    total += count;
    assert!(total > 0 || kills < 4, "no child wrote anything");
    println!("{kills} kills, {total} writes");
}

#[test]
fn several_server_processes_write_to_one_database() {
    const PROCESSES: usize = 4;
    const WRITES: u64 = 40;
    let Some(cluster) = cluster_to_crash() else {
        return;
    };
    let _alone = alone();
    let config = cluster.database();
    let store = PostgresStore::open(config.clone(), INCARNATION).unwrap();
    let shared = Put {
        number: None,
        id: b"id",
        attributes: b"",
        material: MaterialChange::Keep,
        remove: &[],
        insert: &[],
        entry: b"shared",
    };
    store
        .write(&mut |tx| tx.put(&[shared]).map(|_| ()))
        .unwrap();
    let mut children: Vec<Child> = (0..PROCESSES)
        .map(|_| start(&config, Some(WRITES)))
        .collect();
    // A reader beside them follows the feed, and must miss nothing.
    let mut position = 0;
    let mut seen = BTreeMap::new();
    loop {
        let running = children
            .iter_mut()
            .any(|child| child.try_wait().unwrap().is_none());
        position = store
            .view::<_, Error>(|at| {
                let head = at.head()?.number;
                at.feed(position, &mut |row: &FeedRow<'_>| {
                    assert!(row.number > position && row.number <= head);
                    seen.insert(row.number, String::from_utf8(row.entry.to_vec()).unwrap());
                    Ok(ControlFlow::Continue(()))
                })?;
                Ok(head)
            })
            .unwrap();
        if !running {
            break;
        }
    }
    let mut acknowledged = BTreeSet::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        let text = String::from_utf8(output.stdout).unwrap();
        acknowledged.extend(
            text.lines()
                .filter_map(|line| line.strip_prefix("done "))
                .map(str::to_owned),
        );
    }
    let writes = PROCESSES as u64 * WRITES;
    assert_eq!(acknowledged.len() as u64, writes);
    let followed: BTreeSet<String> = seen
        .values()
        .filter(|entry| *entry != "shared")
        .cloned()
        .collect();
    assert_eq!(
        followed, acknowledged,
        "a reader who followed the feed missed something"
    );
    store
        .view::<_, Error>(|at| {
            assert_eq!(
                (at.count()?, at.head()?.number),
                (writes + 1, 2 * writes + 1)
            );
            let mut count = None;
            at.state(&keyferry_store::Span::exact(b"count"), &mut |_, value| {
                count = Some(value.to_vec());
                Ok(ControlFlow::Continue(()))
            })?;
            assert_eq!(
                count.as_deref(),
                Some(&writes.to_be_bytes()[..]),
                "the writes were not one after another"
            );
            // Every pair of numbers is one commit, and the chain runs through all of them.
            let ids = (1..=2 * writes + 1)
                .map(|n| at.commit_id(n))
                .collect::<Result<Vec<Option<CommitId>>, _>>()?;
            assert_eq!(ids.iter().collect::<BTreeSet<_>>().len() as u64, writes + 1);
            assert!(
                at.get(keyferry_store::RecordNumber(1), Part::Whole)?
                    .is_some_and(|row| row.attributes == b"shared")
            );
            Ok(())
        })
        .unwrap();
}
