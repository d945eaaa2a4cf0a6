//! The clause `one_snapshot`, and counters for the clauses about concurrent writes.

use super::image::{feed, scan, state, value};
use super::{Change, Done, Material, Subject, clause, commit, must};
use crate::contract::{Index, Order, Part, RecordNumber, Row, Snapshot, Span, Store, Transaction};
use crate::error::Result;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

const STATE_KEYS: [&[u8]; 4] = [b"one", b"two", b"three", b"four"];

/// Clause `one_snapshot`: all that one read sees belongs to one moment, and to whole writes.
pub fn one_snapshot(subject: &dyn Subject) {
    const CLAUSE: &str = "one_snapshot";
    let store = subject.open();
    let born = |id: &str| {
        Change::new(id)
            .attributes("start")
            .entry("start")
            .insert(1, "start")
            .material(Material::Set(b"start".to_vec()))
    };
    let numbers = commit(CLAUSE, &*store, &[born("a"), born("b")]);
    must(
        CLAUSE,
        "a write",
        store.write(&mut |tx| {
            STATE_KEYS
                .iter()
                .try_for_each(|key| tx.set_state(key, Some(b"start")))
        }),
    );
    let (done, start) = (AtomicBool::new(false), Barrier::new(4));
    std::thread::scope(|scope| {
        // All begin together, so that the readers meet the writes of a fast store too.
        let (start, done, numbers) = (&start, &done, &numbers);
        let reader = move |store| {
            start.wait();
            watch(CLAUSE, &store, numbers, done);
        };
        let readers: Vec<_> = (0..2)
            .map(|_| subject.beside(&store))
            .map(|store| scope.spawn(move || reader(store)))
            .collect();
        let finished = Done(done);
        let writers: Vec<_> = (0..2)
            .map(|thread| {
                let store = subject.beside(&store);
                scope.spawn(move || {
                    start.wait();
                    for round in 0..40 {
                        must(
                            CLAUSE,
                            "a write",
                            store.write(&mut |tx| {
                                everywhere(tx, numbers, &format!("{thread}/{round}"))
                            }),
                        );
                    }
                })
            })
            .collect();
        writers
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        drop(finished);
        readers
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

/// Writes `text` into two records, their index keys, their feed entries and all state.
fn everywhere(tx: &mut dyn Transaction, numbers: &[RecordNumber], text: &str) -> Result<()> {
    for (number, id) in numbers.iter().zip(["a", "b"]) {
        let before = tx
            .get(*number, Part::Attributes)?
            .map(|row| row.attributes)
            .unwrap_or_default();
        let change = Change::of(*number, id)
            .attributes(text)
            .entry(text)
            .remove(1, before)
            .insert(1, text);
        tx.put(&[change
            .material(Material::Set(text.as_bytes().to_vec()))
            .put()])?;
    }
    STATE_KEYS
        .iter()
        .try_for_each(|key| tx.set_state(key, Some(text.as_bytes())))
}

/// Reads until the writers are done, and checks that each read sees one whole write.
fn watch(clause: &str, store: &Arc<dyn Store>, numbers: &[RecordNumber], done: &AtomicBool) {
    loop {
        let last = done.load(Ordering::SeqCst);
        must(
            clause,
            "a read",
            store.read(&mut |at| {
                let head = at.head()?;
                let texts = texts(at, numbers)?;
                clause!(
                    clause,
                    texts.len() == 1,
                    "one read saw the texts of different writes: {texts:?}"
                );
                std::thread::yield_now();
                let (later, again) = (at.head()?, self::texts(at, numbers)?);
                clause!(
                    clause,
                    again == texts,
                    "one read saw {texts:?}, and a moment later {again:?}"
                );
                clause!(
                    clause,
                    later == head,
                    "one read saw the head {head:?}, and a moment later {later:?}"
                );
                Ok(())
            }),
        );
        if last {
            return;
        }
    }
}

/// Every text that the records, their material, their index keys, the feed and the state show.
fn texts(at: &dyn Snapshot, numbers: &[RecordNumber]) -> Result<BTreeSet<String>> {
    let mut texts = BTreeSet::new();
    let mut add = |text: &[u8]| {
        texts.insert(String::from_utf8_lossy(text).into_owned());
    };
    for number in numbers {
        if let Some(Row {
            attributes,
            material,
            ..
        }) = at.get(*number, Part::Whole)?
        {
            add(&attributes);
            add(material.as_deref().map_or(b"no material", Vec::as_slice));
        }
    }
    scan(at, Index(1), &Span::all(), Order::Ascending)?
        .iter()
        .for_each(|(key, _)| add(key));
    feed(at, 0)?.iter().for_each(|(_, _, entry)| add(entry));
    state(at, &Span::all())?
        .iter()
        .for_each(|(_, value)| add(value));
    Ok(texts)
}

/// The number in a key of the state; 0 when there is none.
pub(super) fn number(at: &dyn Snapshot, key: &[u8]) -> Result<u64> {
    let value = value(at, key)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&value).parse().unwrap_or(0))
}

/// Sets a key of the state to a number.
pub(super) fn set(tx: &mut dyn Transaction, key: &[u8], value: u64) -> Result<()> {
    tx.set_state(key, Some(value.to_string().as_bytes()))
}
