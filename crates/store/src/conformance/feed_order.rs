//! The clause `feed_order`.

use super::feeds::check_order;
use super::image::{feed, look};
use super::{Change, Done, Subject, clause, commit, must};
use crate::contract::{RecordNumber, Store};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

const CLAUSE: &str = "feed_order";

/// Clause `feed_order`: no late entries, nothing missed, and the order of writes that did not overlap.
pub fn feed_order(subject: &dyn Subject) {
    let store = subject.open();
    let shared = commit(CLAUSE, &*store, &[Change::new("shared")])[0];
    let (times, readers) = write_and_follow(subject, &store, shared);
    let entries = look(CLAUSE, &*store, |at| feed(at, 0));
    for seen in readers {
        check_nothing_missed(&seen, &entries);
    }
    check_order_of_entries(times, &entries);
    for round in 0..5 {
        check_overtaken(CLAUSE, subject, &store, round);
    }
}

/// When a write began, when it returned, and its first entry.
type Times = Vec<(u64, u64, String)>;
/// The entries that a reader of the feed has seen.
type Seen = BTreeMap<u64, Vec<u8>>;

/// Lets four threads write and two follow the feed. All begin together, so that the readers meet the writes of a fast store too.
fn write_and_follow(
    subject: &dyn Subject,
    store: &Arc<dyn Store>,
    shared: RecordNumber,
) -> (Times, Vec<Seen>) {
    let (clock, done, start) = (AtomicU64::new(0), AtomicBool::new(false), Barrier::new(6));
    std::thread::scope(|scope| {
        let (start, done, clock) = (&start, &done, &clock);
        let reader = move |store| {
            start.wait();
            follow(CLAUSE, store, done)
        };
        let readers: Vec<_> = (0..2)
            .map(|_| subject.beside(store))
            .map(|store| scope.spawn(move || reader(store)))
            .collect();
        let finished = Done(done);
        let writers: Vec<_> = (0..4_u64)
            .map(|thread| {
                let store = subject.beside(store);
                scope.spawn(move || {
                    start.wait();
                    write(&*store, thread, shared, clock)
                })
            })
            .collect();
        let times: Vec<_> = writers
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        drop(finished);
        let seen = readers
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        (times, seen)
    })
}

/// Writes new records, changes of the thread's own, and changes of a record that all threads share.
fn write(store: &dyn Store, thread: u64, shared: RecordNumber, clock: &AtomicU64) -> Times {
    let mut times = Vec::new();
    let mut own = None;
    for round in 0..30 {
        let name = |i: u64| format!("{thread}/{round}/{i}");
        let mut changes: Vec<_> = (0..1 + round % 3)
            .map(|i| Change::new(name(i)).entry(name(i)))
            .collect();
        match own {
            Some(number) if round % 4 == 1 => {
                changes.push(Change::of(number, "own").entry(name(8)))
            }
            _ if round % 4 == 3 => changes.push(Change::of(shared, "shared").entry(name(9))),
            _ => {}
        }
        let began = clock.fetch_add(1, Ordering::SeqCst);
        own = commit(CLAUSE, store, &changes).last().copied();
        times.push((began, clock.fetch_add(1, Ordering::SeqCst), name(0)));
    }
    times
}

fn check_nothing_missed(seen: &Seen, entries: &[(u64, u64, Vec<u8>)]) {
    for (number, record, entry) in entries {
        let known = seen.get(number);
        let text = String::from_utf8_lossy(entry);
        clause!(
            CLAUSE,
            known == Some(entry),
            "a reader who followed the feed missed entry {number} ({text}) of record {record}, seen: {known:?}"
        );
    }
}

fn check_order_of_entries(times: Times, entries: &[(u64, u64, Vec<u8>)]) {
    let numbers: BTreeMap<_, _> = entries
        .iter()
        .map(|(number, _, entry)| (entry.clone(), *number))
        .collect();
    let find = |name: &String| numbers.get(name.as_bytes()).copied();
    let mut placed: Vec<_> = times
        .into_iter()
        .filter_map(|(began, ended, name)| Some((began, ended, find(&name)?)))
        .collect();
    clause!(
        CLAUSE,
        placed.len() > 60,
        "only {} of 120 writes left an entry",
        placed.len()
    );
    check_order(CLAUSE, "feed number", &mut placed);
}

/// While a slow write is under way, a fast one begins and commits, and a reader notes its position; what the slow write commits afterwards must
/// be above that position. In a store that runs one write at a time, the fast write waits for the slow one instead.
fn check_overtaken(clause: &str, subject: &dyn Subject, store: &Arc<dyn Store>, round: u32) {
    let (slow_store, fast_store) = (subject.beside(store), subject.beside(store));
    let (slow, fast) = (format!("slow {round}"), format!("fast {round}"));
    let ((begun, has_begun), (overtook, has_overtaken)) = (mpsc::channel(), mpsc::channel());
    let before = std::thread::scope(|scope| {
        let slow = &slow;
        scope.spawn(move || {
            let write = slow_store.write(&mut |tx| {
                tx.put(&[Change::new(slow).entry(slow).put()])?;
                // When the closure is run again, both channels have had their message.
                let _ = begun.send(());
                let _ = has_overtaken.recv_timeout(Duration::from_millis(200));
                Ok(())
            });
            must(clause, "the slow write", write);
        });
        let _ = has_begun.recv();
        commit(clause, &*fast_store, &[Change::new(&fast).entry(&fast)]);
        let before = look(clause, &*fast_store, |at| {
            Ok((at.head()?.number, feed(at, 0)?))
        });
        let _ = overtook.send(());
        before
    });
    let (position, shown) = before;
    let number = |entries: &[(u64, u64, Vec<u8>)], text: &str| {
        entries
            .iter()
            .find(|(.., entry)| entry == text.as_bytes())
            .map(|(number, ..)| *number)
    };
    clause!(
        clause,
        number(&shown, &fast).is_some(),
        "a write that returned has no entry in the feed"
    );
    let place = number(&look(clause, &**store, |at| feed(at, 0)), &slow);
    let was_shown = number(&shown, &slow).is_some();
    clause!(
        clause,
        place.is_some_and(|place| was_shown || place > position),
        "a slow write that a faster one overtook has the entry {place:?}, below the position {position} of a reader"
    );
}

/// Follows the feed until the writers are done, and returns all entries that it saw.
fn follow(clause: &str, store: Arc<dyn Store>, done: &AtomicBool) -> BTreeMap<u64, Vec<u8>> {
    let mut seen = BTreeMap::new();
    let mut position = 0;
    loop {
        let last = done.load(Ordering::SeqCst);
        let (head, all, new) = look(clause, &*store, |at| {
            Ok((at.head()?.number, feed(at, 0)?, feed(at, position)?))
        });
        clause!(
            clause,
            head >= position,
            "the head went back from {position} to {head}"
        );
        clause!(
            clause,
            all.is_sorted_by(|x, y| x.0 < y.0),
            "feed numbers do not rise"
        );
        let tail: Vec<_> = all
            .iter()
            .filter(|(number, ..)| *number > position)
            .cloned()
            .collect();
        clause!(
            clause,
            new == tail,
            "the feed behind {position} is {new:?}, and the tail of the whole feed {tail:?}"
        );
        for (number, _, entry) in all {
            let text = String::from_utf8_lossy(&entry);
            clause!(
                clause,
                number <= head,
                "entry {number} ({text}) is above the head {head}"
            );
            let old = number <= position;
            clause!(
                clause,
                !old || seen.get(&number) == Some(&entry),
                "a reader who had seen position {position} was later shown entry {number} ({text})"
            );
            seen.insert(number, entry);
        }
        position = head;
        if last {
            return seen;
        }
    }
}
