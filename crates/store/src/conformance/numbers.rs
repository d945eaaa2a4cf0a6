//! The clause `numbers_arrive`.

use super::feeds::check_order;
use super::{Change, Subject, clause, commit};
use crate::contract::{RecordNumber, Store};
use crate::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const CLAUSE: &str = "numbers_arrive";

/// Clause `numbers_arrive`: record numbers rise in the order of arrival and are never used again.
pub fn numbers_arrive(subject: &dyn Subject) {
    let mut store = subject.open();
    let mut last = Last(0);
    for round in 0..3 {
        let numbers = check_one_put(&*store, round, &mut last);
        check_mixed_put(&*store, numbers[2], &mut last);
        let _ = store.write(&mut |tx| {
            tx.put(&[Change::new("never").put()])?;
            Err(Error::aborted())
        });
        let after = commit(CLAUSE, &*store, &[Change::new("after")]);
        last.check("after a rollback", &after);
        store = subject.reopen(store);
        let reopened = commit(CLAUSE, &*store, &[Change::new("reopened")]);
        last.check("after reopening", &reopened);
    }
    check_order(
        CLAUSE,
        "record number",
        &mut concurrent_numbers(subject, &store),
    );
}

/// The number of the newest record so far.
struct Last(u64);

impl Last {
    /// Checks that the numbers of new records rise.
    fn check(&mut self, what: &str, numbers: &[RecordNumber]) {
        for number in numbers {
            clause!(
                CLAUSE,
                number.0 > self.0,
                "{what}, a new record got number {} after {}",
                number.0,
                self.0
            );
            self.0 = number.0;
        }
    }
}

fn check_one_put(store: &dyn Store, round: u32, last: &mut Last) -> Vec<RecordNumber> {
    let batch: Vec<_> = (0..5)
        .map(|i| Change::new(format!("{round}/{i}")))
        .collect();
    let numbers = commit(CLAUSE, store, &batch);
    clause!(
        CLAUSE,
        numbers.len() == batch.len(),
        "{} puts returned {} numbers",
        batch.len(),
        numbers.len()
    );
    last.check("in one put", &numbers);
    numbers
}

/// New and changed records in one put: numbers come back in the order of the puts.
fn check_mixed_put(store: &dyn Store, old: RecordNumber, last: &mut Last) {
    let mixed = [
        Change::new("new"),
        Change::of(old, "old"),
        Change::new("newer"),
    ];
    let mixed = commit(CLAUSE, store, &mixed);
    clause!(
        CLAUSE,
        mixed[1] == old,
        "a change of record {old:?} returned number {:?}",
        mixed[1]
    );
    last.check("in a mixed put", &[mixed[0], mixed[2]]);
}

/// Creates records from several threads; returns when each write began, when it returned, and the number that it got.
fn concurrent_numbers(subject: &dyn Subject, store: &Arc<dyn Store>) -> Vec<(u64, u64, u64)> {
    let clock = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let store = subject.beside(store);
                let clock = &clock;
                scope.spawn(move || {
                    let one = |_| {
                        let began = clock.fetch_add(1, Ordering::SeqCst);
                        let number = commit(CLAUSE, &*store, &[Change::new("busy")])[0].0;
                        (began, clock.fetch_add(1, Ordering::SeqCst), number)
                    };
                    (0..40).map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    })
}
