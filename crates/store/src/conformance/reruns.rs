//! The clause `reruns`.

use super::concurrent::{number, set};
use super::image::{Image, look};
use super::{Change, Subject, clause, commit, must};
use crate::contract::{RecordNumber, Store, Transaction};
use crate::error::{Error, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};

const CLAUSE: &str = "reruns";
const THREADS: u64 = 6;
const ROUNDS: u64 = 12;
const WRITES: u64 = THREADS * ROUNDS;

/// Clause `reruns`: after a conflict the closure runs again, whatever it made of the error, and only its last run counts.
pub fn reruns(subject: &dyn Subject) {
    let store = subject.open();
    let record = commit(CLAUSE, &*store, &[Change::new("shared")])[0];
    let runs = AtomicU64::new(0);
    let mut seen: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (store, runs) = (subject.beside(&store), &runs);
                scope.spawn(move || {
                    (0..ROUNDS)
                        .map(|round| write_once(&*store, record, thread + round, runs))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    seen.sort_unstable();
    let expected: Vec<u64> = (0..WRITES).collect();
    clause!(
        CLAUSE,
        seen == expected,
        "the last runs of the closures saw {seen:?}, not every value once"
    );
    check_counter(&*store, runs.into_inner());
    check_record(&*store);
}

/// Counts up in a closure that, by turns, returns an error as it is, makes an abort of it, or ignores it. Returns the count that the last run
/// of the closure saw.
fn write_once(store: &dyn Store, record: RecordNumber, turn: u64, runs: &AtomicU64) -> u64 {
    let mut last = 0;
    let mut step = |tx: &mut dyn Transaction| {
        runs.fetch_add(1, Ordering::SeqCst);
        last = u64::MAX;
        let now = number(tx, b"counter")?;
        tx.put(&[Change::of(record, "shared")
            .attributes(now.to_string())
            .put()])?;
        set(tx, b"counter", now + 1)?;
        last = now;
        Ok(())
    };
    let result = match turn % 3 {
        0 => store.write(&mut step),
        1 => store.write(&mut |tx| step(tx).map_err(|_| Error::aborted())),
        _ => store.write(&mut |tx| {
            let _ = step(tx);
            Ok(())
        }),
    };
    let hidden = result
        .as_ref()
        .is_err_and(|error| error.kind() == ErrorKind::Aborted);
    clause!(
        CLAUSE,
        !hidden,
        "a closure that turned a conflict into an abort was not run again"
    );
    must(CLAUSE, "a write under contention", result);
    clause!(
        CLAUSE,
        last != u64::MAX,
        "a write returned Ok after a run in which a call had failed"
    );
    last
}

fn check_counter(store: &dyn Store, runs: u64) {
    clause!(
        CLAUSE,
        runs >= WRITES,
        "{WRITES} writes ran their closures {runs} times"
    );
    let counted = look(CLAUSE, store, |at| number(at, b"counter"));
    clause!(
        CLAUSE,
        counted == WRITES,
        "{WRITES} writes, each adding one, left {counted} ({runs} runs)"
    );
}

fn check_record(store: &dyn Store) {
    let image = Image::read(CLAUSE, store);
    let entries = image.feed.len();
    clause!(
        CLAUSE,
        entries == 1,
        "one record has {entries} feed entries"
    );
    let attributes = String::from_utf8_lossy(&image.records[0].attributes);
    clause!(
        CLAUSE,
        attributes == (WRITES - 1).to_string(),
        "the record was last written by run {attributes}, not {}",
        WRITES - 1
    );
}
