//! The clauses `all_or_nothing`, `durable` and `restored_changes_incarnation`.

use super::image::{Image, look};
use super::{Change, Material, RESTORED, Subject, clause, commit, must};
use crate::contract::{Part, RecordNumber, Store, Transaction};
use crate::error::{Error, ErrorKind, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Fills a store with a little of everything and returns two record numbers.
pub(super) fn furnish(clause: &str, store: &dyn Store) -> (RecordNumber, RecordNumber) {
    let first = Change::new("first")
        .material(Material::Set(b"secret of first".to_vec()))
        .insert(1, "name")
        .insert(2, "group");
    let second = Change::new("second").insert(1, "name").insert(255, "");
    let numbers = commit(clause, store, &[first, second]);
    must(
        clause,
        "a write of state",
        store.write(&mut |tx| {
            tx.set_state(b"cursor", Some(b"17"))?;
            tx.set_state(b"retry", Some(b"none"))
        }),
    );
    clause!(
        clause,
        numbers.len() == 2,
        "two puts returned {} numbers",
        numbers.len()
    );
    (numbers[0], numbers[1])
}

/// Changes everything that [`furnish`] made, and adds to it.
pub(super) fn upset(
    tx: &mut dyn Transaction,
    first: RecordNumber,
    second: RecordNumber,
) -> Result<()> {
    let changes = [
        Change::of(first, "first")
            .attributes("changed")
            .entry("changed")
            .material(Material::Remove)
            .remove(1, "name")
            .insert(7, "x"),
        Change::new("third")
            .material(Material::Set(vec![3; 100]))
            .insert(1, "name"),
        Change::of(second, "second")
            .attributes("")
            .material(Material::Set(vec![2; 100]))
            .remove(255, ""),
    ];
    let puts: Vec<_> = changes.iter().map(Change::put).collect();
    tx.put(&puts)?;
    let again = Change::of(first, "first")
        .attributes("changed again")
        .insert(2, "more");
    tx.put(&[again.put()])?;
    tx.set_state(b"cursor", Some(b"18"))?;
    tx.set_state(b"retry", None)?;
    tx.set_state(b"new", Some(b"1"))?;
    tx.restored(RESTORED)
}

const ALL_OR_NOTHING: &str = "all_or_nothing";

/// Clause `all_or_nothing`: a write whose closure fails leaves nothing behind, however it fails.
pub fn all_or_nothing(subject: &dyn Subject) {
    const CLAUSE: &str = ALL_OR_NOTHING;
    let store = subject.open();
    let (first, second) = furnish(CLAUSE, &*store);
    let before = Image::read(CLAUSE, &*store);

    let aborted = store.write(&mut |tx| {
        upset(tx, first, second)?;
        Err(Error::aborted())
    });
    let kind = aborted.as_ref().map_err(Error::kind);
    clause!(
        CLAUSE,
        kind == Err(ErrorKind::Aborted),
        "an aborted write returned {aborted:?}"
    );
    check_unchanged("an aborted write", &*store, &before);
    check_bad_puts(&*store, (first, second), &before);
    check_panic(&*store, (first, second), &before);

    let store = subject.reopen(store);
    check_unchanged("reopening", &*store, &before);
    must(
        CLAUSE,
        "a write after all that",
        store.write(&mut |tx| upset(tx, first, second)),
    );
    let after = Image::read(CLAUSE, &*store);
    clause!(
        CLAUSE,
        after != before,
        "a write that returned Ok changed nothing"
    );
    clause!(
        CLAUSE,
        after.count == 3,
        "a write that returned Ok left {} records instead of 3",
        after.count
    );
}

fn check_unchanged(what: &str, store: &dyn Store, before: &Image) {
    let after = Image::read(ALL_OR_NOTHING, store);
    clause!(
        ALL_OR_NOTHING,
        after == *before,
        "after {what} the store is\n{after:?}\nand was\n{before:?}"
    );
}

/// Puts of a record that does not exist or stands twice.
fn check_bad_puts(
    store: &dyn Store,
    (first, second): (RecordNumber, RecordNumber),
    before: &Image,
) {
    let absent = RecordNumber(first.0.max(second.0) + 1000);
    let bad_puts: [&[RecordNumber]; 3] = [&[absent], &[first, second, first], &[first, absent]];
    for numbers in bad_puts {
        let changes: Vec<_> = numbers
            .iter()
            .map(|n| Change::of(*n, "bad").attributes("bad").insert(7, "bad"))
            .collect();
        let puts: Vec<_> = changes.iter().map(Change::put).collect();
        let misused = store.write(&mut |tx| {
            upset(tx, first, second)?;
            tx.put(&puts).map(|_| ())
        });
        let kind = misused.as_ref().map_err(Error::kind);
        clause!(
            ALL_OR_NOTHING,
            kind == Err(ErrorKind::Misuse),
            "a put that changes {numbers:?} (absent: {absent:?}) returned {misused:?}"
        );
        check_unchanged(
            "a put of a record that does not exist or stands twice",
            store,
            before,
        );
    }
}

fn check_panic(store: &dyn Store, (first, second): (RecordNumber, RecordNumber), before: &Image) {
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        store.write(&mut |tx| {
            upset(tx, first, second)?;
            panic!("planned by the conformance kit, to be ignored")
        })
    }));
    clause!(
        ALL_OR_NOTHING,
        panicked.is_err(),
        "a panic in a closure did not reach the caller"
    );
    check_unchanged("a panic in a closure", store, before);
}

/// Clause `durable`: all that was acknowledged is there when the store is opened again.
pub fn durable(subject: &dyn Subject) {
    const CLAUSE: &str = "durable";
    let mut store = subject.open();
    let (first, second) = furnish(CLAUSE, &*store);
    for round in 0_u8..4 {
        let before = Image::read(CLAUSE, &*store);
        store = subject.reopen(store);
        let after = Image::read(CLAUSE, &*store);
        clause!(
            CLAUSE,
            after == before,
            "opened again in round {round}, the store is\n{after:?}\nand was\n{before:?}"
        );
        commit(
            CLAUSE,
            &*store,
            &[
                Change::of(first, "first")
                    .attributes(vec![round; 10_000])
                    .material(Material::Set(vec![round; 5000])),
                Change::new([round])
                    .insert(1, [round, round])
                    .material(Material::Set(Vec::new())),
                Change::of(second, "second").attributes([]).entry([]),
            ],
        );
        must(
            CLAUSE,
            "a write of state",
            store.write(&mut |tx| tx.set_state(&[round], Some(&vec![round; 70_000]))),
        );
    }
    let empty = look(CLAUSE, &*store, |at| {
        at.get(RecordNumber(second.0 + 1), Part::Whole)
    })
    .and_then(|row| row.material);
    clause!(
        CLAUSE,
        empty.as_ref().is_some_and(|m| m.is_empty()),
        "empty material reads {:?}",
        empty.map(|m| m.len())
    );
}

/// Clause `restored_changes_incarnation`: the store has the new incarnation, also later, and nothing else changes.
pub fn restored_changes_incarnation(subject: &dyn Subject) {
    const CLAUSE: &str = "restored_changes_incarnation";
    let store = subject.open();
    furnish(CLAUSE, &*store);
    let mut before = Image::read(CLAUSE, &*store);
    clause!(
        CLAUSE,
        before.head.incarnation != RESTORED,
        "the store starts with the incarnation that the kit restores to"
    );
    must(
        CLAUSE,
        "`restored`",
        store.write(&mut |tx| tx.restored(RESTORED)),
    );
    before.head.incarnation = RESTORED;
    let after = Image::read(CLAUSE, &*store);
    clause!(
        CLAUSE,
        after == before,
        "restored, the store is\n{after:?}\nand should be\n{before:?}"
    );
    let store = subject.reopen(store);
    let after = Image::read(CLAUSE, &*store);
    clause!(
        CLAUSE,
        after == before,
        "restored and opened again, the store is\n{after:?}\nand should be\n{before:?}"
    );
    let change = [Change::new("later")];
    commit(CLAUSE, &*store, &change);
    let (head, expected) = (
        Image::read(CLAUSE, &*store).head,
        super::chain(before.head.commit, &change),
    );
    clause!(
        CLAUSE,
        head.incarnation == RESTORED,
        "the next commit changed the incarnation to {:?}",
        head.incarnation
    );
    clause!(
        CLAUSE,
        head.commit == expected,
        "the chain does not go on: {:?}, not {expected:?}",
        head.commit
    );
}
