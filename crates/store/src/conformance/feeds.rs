//! The clause `newest_entry_only`, and a check of the order of numbers.

use super::image::{Image, check_visitor_error, feed, look};
use super::{Change, Subject, clause, commit, must};
use crate::contract::{RecordNumber, Store};
use crate::error::Error;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

const CLAUSE: &str = "newest_entry_only";

/// Clause `newest_entry_only`: one feed entry per record, the newest one.
pub fn newest_entry_only(subject: &dyn Subject) {
    let store = subject.open();
    let numbers = commit(CLAUSE, &*store, &["a", "b", "c"].map(Change::new));
    let [a, b, c] = numbers[..] else {
        panic!("three puts returned {numbers:?}")
    };
    check_several_commits(&*store, (a, b, c));
    check_several_in_one_commit(&*store, (a, b, c));
    check_rollback(&*store, a);
    check_visits(&*store);
    check_concurrent_changes(subject, &store, [a, b]);
}

type Records = (RecordNumber, RecordNumber, RecordNumber);

fn entries(store: &dyn Store) -> Vec<(u64, u64, Vec<u8>)> {
    look(CLAUSE, store, |at| feed(at, 0))
}

/// Checks that the feed has these entries, with rising numbers.
fn check_entries(store: &dyn Store, expected: &[(RecordNumber, &str)]) {
    let rows = entries(store);
    let seen: Vec<_> = rows
        .iter()
        .map(|(_, record, entry)| (RecordNumber(*record), String::from_utf8_lossy(entry)))
        .collect();
    clause!(
        CLAUSE,
        seen.iter()
            .map(|(r, e)| (*r, &**e))
            .eq(expected.iter().copied()),
        "the feed is {seen:?}, not {expected:?}"
    );
    clause!(
        CLAUSE,
        rows.is_sorted_by(|x, y| x.0 < y.0),
        "feed numbers do not rise: {rows:?}"
    );
}

fn check_several_commits(store: &dyn Store, (a, b, c): Records) {
    check_entries(
        store,
        &[(a, "entry of a"), (b, "entry of b"), (c, "entry of c")],
    );
    let older = entries(store);
    for round in 0..3 {
        let change = Change::of(a, "a").entry(format!("a{round}"));
        commit(CLAUSE, store, &[change]);
    }
    check_entries(store, &[(b, "entry of b"), (c, "entry of c"), (a, "a2")]);
    let newer = entries(store);
    clause!(
        CLAUSE,
        newer[..2] == older[1..],
        "entries of other records changed from {older:?} to {newer:?}"
    );
}

/// Of several entries of a record in one commit, only the last stays.
fn check_several_in_one_commit(store: &dyn Store, (a, b, c): Records) {
    let mut late = None;
    must(
        CLAUSE,
        "a write",
        store.write(&mut |tx| {
            tx.put(&[
                Change::of(b, "b").entry("b0").put(),
                Change::of(c, "c").entry("c0").put(),
            ])?;
            let new = tx.put(&[Change::new("d").entry("d0").put()])?;
            tx.put(&[Change::of(b, "b").entry("b1").put()])?;
            tx.put(&[Change::of(new[0], "d").entry("d1").put()])?;
            late = Some(new[0]);
            Ok(())
        }),
    );
    check_entries(
        store,
        &[(a, "a2"), (c, "c0"), (b, "b1"), (late.unwrap(), "d1")],
    );
}

fn check_rollback(store: &dyn Store, a: RecordNumber) {
    let before = entries(store);
    let _ = store.write(&mut |tx| {
        tx.put(&[
            Change::of(a, "a").entry("lost").put(),
            Change::new("e").put(),
        ])?;
        Err(Error::aborted())
    });
    let after = entries(store);
    clause!(
        CLAUSE,
        after == before,
        "an aborted write changed the feed from {before:?} to {after:?}"
    );
}

/// Visits from the middle and from behind the end, a visit that stops, and a visitor that fails.
fn check_visits(store: &dyn Store) {
    let all = entries(store);
    let tail = look(CLAUSE, store, |at| feed(at, all[1].0));
    clause!(
        CLAUSE,
        tail == all[2..],
        "behind {} the feed shows {tail:?}, not {:?}",
        all[1].0,
        &all[2..]
    );
    let tail = look(CLAUSE, store, |at| feed(at, u64::MAX));
    clause!(
        CLAUSE,
        tail.is_empty(),
        "behind the largest number the feed shows {tail:?}"
    );
    let mut visited = 0;
    let stopped = store.read(&mut |at| {
        visited = 0;
        at.feed(0, &mut |_| {
            visited += 1;
            Ok(if visited == 2 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })
    });
    clause!(
        CLAUSE,
        stopped.is_ok() && visited == 2,
        "a visit that breaks at 2 visited {visited} and returned {stopped:?}"
    );
    check_visitor_error(CLAUSE, store, &mut |at| {
        at.feed(0, &mut |_| Err(Error::aborted()))
    });
}

/// After concurrent changes of the same records, each still has one entry, the one that was put with its attributes.
fn check_concurrent_changes(
    subject: &dyn Subject,
    store: &Arc<dyn Store>,
    numbers: [RecordNumber; 2],
) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = subject.beside(store);
            scope.spawn(move || {
                for round in 0..20 {
                    let text = format!("{thread}/{round}");
                    let changes = [(numbers[0], "a"), (numbers[1], "b")]
                        .map(|(number, id)| Change::of(number, id).attributes(&text).entry(&text));
                    commit(CLAUSE, &*store, &changes);
                }
            });
        }
    });
    let image = Image::read(CLAUSE, &**store);
    for number in numbers {
        let entries: Vec<_> = image
            .feed
            .iter()
            .filter(|(_, record, _)| *record == number.0)
            .map(|(_, _, entry)| entry)
            .collect();
        let attributes = image
            .records
            .iter()
            .find(|record| record.number == number.0)
            .map(|record| &record.attributes);
        clause!(
            CLAUSE,
            entries.len() == 1 && Some(entries[0]) == attributes,
            "a record with attributes {attributes:?} has entries {entries:?}"
        );
    }
}

/// Checks that numbers are unique, and that a write which began after another had returned has a higher one. Each write is given by when it
/// began, when it returned, and its number.
pub(super) fn check_order(clause: &str, what: &str, times: &mut [(u64, u64, u64)]) {
    let distinct: BTreeSet<u64> = times.iter().map(|(_, _, number)| *number).collect();
    clause!(
        clause,
        distinct.len() == times.len(),
        "{} writes got {} different {what}s",
        times.len(),
        distinct.len()
    );
    let mut returned: Vec<(u64, u64)> = times
        .iter()
        .map(|(_, ended, number)| (*ended, *number))
        .collect();
    returned.sort_unstable();
    times.sort_unstable();
    let (mut highest, mut done) = (0, 0);
    for (began, _, number) in times {
        while done < returned.len() && returned[done].0 < *began {
            highest = highest.max(returned[done].1);
            done += 1;
        }
        clause!(
            clause,
            *number > highest,
            "a write that began after another had returned has {what} {number}, the other {highest}"
        );
    }
}
