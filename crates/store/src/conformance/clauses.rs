use super::image::{Image, feed, look, scan, state, value};
use super::{Change, Material, RESTORED, Subject, clause, commit, must};
use crate::contract::{Index, Order, Part, RecordNumber, Span, Store, Transaction};
use crate::error::{Error, ErrorKind};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Fills a store with a little of everything and returns two record numbers.
fn furnish(clause: &str, store: &dyn Store) -> (RecordNumber, RecordNumber) {
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

/// Changes everything that `furnish` made, and adds to it.
fn upset(
    tx: &mut dyn Transaction,
    first: RecordNumber,
    second: RecordNumber,
) -> crate::error::Result<()> {
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

/// Clause `all_or_nothing`: a write whose closure fails leaves nothing behind, however it fails.
pub fn all_or_nothing(subject: &dyn Subject) {
    const CLAUSE: &str = "all_or_nothing";
    let store = subject.open();
    let (first, second) = furnish(CLAUSE, &*store);
    let before = Image::read(CLAUSE, &*store);
    let unchanged = |what: &str, store: &dyn Store| {
        let after = Image::read(CLAUSE, store);
        clause!(
            CLAUSE,
            after == before,
            "after {what} the store is\n{after:?}\nand was\n{before:?}"
        );
    };

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
    unchanged("an aborted write", &*store);

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
            CLAUSE,
            kind == Err(ErrorKind::Misuse),
            "a put that changes {numbers:?} (absent: {absent:?}) returned {misused:?}"
        );
        unchanged(
            "a put of a record that does not exist or stands twice",
            &*store,
        );
    }

    let panicked = catch_unwind(AssertUnwindSafe(|| {
        store.write(&mut |tx| {
            upset(tx, first, second)?;
            panic!("planned by the conformance kit, to be ignored")
        })
    }));
    clause!(
        CLAUSE,
        panicked.is_err(),
        "a panic in a closure did not reach the caller"
    );
    unchanged("a panic in a closure", &*store);

    let store = subject.reopen(store);
    unchanged("reopening", &*store);
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

/// Clause `own_writes`: a transaction sees what it did, except in the feed.
pub fn own_writes(subject: &dyn Subject) {
    const CLAUSE: &str = "own_writes";
    let store = subject.open();
    let (first, second) = furnish(CLAUSE, &*store);
    let before = look(CLAUSE, &*store, |at| Ok((at.head()?, feed(at, 0)?)));
    must(
        CLAUSE,
        "the write",
        store.write(&mut |tx| {
            upset(tx, first, second)?;
            let row = tx
                .get(first, Part::Whole)?
                .expect("conformance clause `own_writes` is broken: a changed record is gone");
            clause!(
                CLAUSE,
                row.attributes == b"changed again",
                "attributes put twice read {:?}",
                String::from_utf8_lossy(&row.attributes)
            );
            clause!(
                CLAUSE,
                row.material.is_none(),
                "removed material is still there"
            );
            clause!(
                CLAUSE,
                row.id == b"first",
                "the object id reads {:?}",
                row.id
            );
            let row = tx.get(second, Part::Whole)?;
            let material = row.and_then(|row| row.material);
            clause!(
                CLAUSE,
                material.as_deref() == Some(&vec![2; 100]),
                "material just set reads {:?}",
                material.map(|m| m.len())
            );
            let row = tx.get(second, Part::Attributes)?;
            clause!(
                CLAUSE,
                row.is_some_and(|row| row.material.is_none()),
                "material came without being asked for"
            );

            let all = scan(tx, Index::ARRIVAL, &Span::all(), Order::Descending)?;
            let third = all.first().map_or(0, |(_, number)| *number);
            let expected = [third, second.0, first.0];
            clause!(
                CLAUSE,
                all.iter().map(|(_, n)| *n).eq(expected),
                "the scan by arrival shows {all:?}, not {expected:?}"
            );
            clause!(CLAUSE, tx.count()? == 3, "count is {}, not 3", tx.count()?);
            let names = scan(tx, Index(1), &Span::exact(b"name"), Order::Ascending)?;
            let expected = [(b"name".to_vec(), second.0), (b"name".to_vec(), third)];
            clause!(
                CLAUSE,
                names == expected,
                "the index shows {names:?}, not {expected:?}"
            );

            // A scan may look records up while it runs.
            let mut met = 0;
            tx.scan(
                Index(1),
                &Span::all(),
                Order::Ascending,
                None,
                &mut |_, number| {
                    met += usize::from(tx.get(number, Part::Whole)?.is_some());
                    met += scan(tx, Index(1), &Span::all(), Order::Ascending)?.len();
                    Ok(ControlFlow::Continue(()))
                },
            )?;
            clause!(
                CLAUSE,
                met == 6,
                "reads within a scan met {met} things, not 6"
            );

            let keys: Vec<_> = state(tx, &Span::all())?
                .into_iter()
                .map(|(key, _)| key)
                .collect();
            clause!(
                CLAUSE,
                keys == [b"cursor".to_vec(), b"new".to_vec()],
                "the state has the keys {keys:?}"
            );
            clause!(
                CLAUSE,
                value(tx, b"cursor")?.as_deref() == Some(b"18"),
                "changed state reads {:?}",
                value(tx, b"cursor")?
            );

            let (head, entries) = (tx.head()?, feed(tx, 0)?);
            clause!(
                CLAUSE,
                head.number == before.0.number && head.commit == before.0.commit,
                "the head moved to {head:?} before the commit"
            );
            clause!(
                CLAUSE,
                entries == before.1,
                "the feed shows {entries:?} before the commit, not {:?}",
                before.1
            );
            Ok(())
        }),
    );
    let row = look(CLAUSE, &*store, |at| at.get(second, Part::Attributes));
    clause!(
        CLAUSE,
        row.is_some_and(|row| row.material.is_none()),
        "material came to a reader without being asked for"
    );
}

/// Clause `durable`: what was acknowledged is there when the store is opened again.
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

/// Clause `numbers_arrive`: record numbers rise in the order of arrival and are never used again.
pub fn numbers_arrive(subject: &dyn Subject) {
    const CLAUSE: &str = "numbers_arrive";
    let mut store = subject.open();
    let mut last = 0;
    let mut rising = |what: &str, numbers: &[RecordNumber]| {
        for number in numbers {
            clause!(
                CLAUSE,
                number.0 > last,
                "{what}, a new record got number {} after {last}",
                number.0
            );
            last = number.0;
        }
    };
    for round in 0..3 {
        let batch: Vec<_> = (0..5)
            .map(|i| Change::new(format!("{round}/{i}")))
            .collect();
        let numbers = commit(CLAUSE, &*store, &batch);
        clause!(
            CLAUSE,
            numbers.len() == batch.len(),
            "{} puts returned {} numbers",
            batch.len(),
            numbers.len()
        );
        rising("in one put", &numbers);
        // New and changed records in one put: numbers come back in the order of the puts.
        let mixed = [
            Change::new("new"),
            Change::of(numbers[2], "old"),
            Change::new("newer"),
        ];
        let mixed = commit(CLAUSE, &*store, &mixed);
        clause!(
            CLAUSE,
            mixed[1] == numbers[2],
            "a change of record {:?} returned number {:?}",
            numbers[2],
            mixed[1]
        );
        rising("in a mixed put", &[mixed[0], mixed[2]]);
        let _ = store.write(&mut |tx| {
            tx.put(&[Change::new("never").put()])?;
            Err(Error::aborted())
        });
        rising(
            "after a rollback",
            &commit(CLAUSE, &*store, &[Change::new("after")]),
        );
        store = subject.reopen(store);
        rising(
            "after reopening",
            &commit(CLAUSE, &*store, &[Change::new("reopened")]),
        );
    }

    // Many at once: unique, and rising wherever one write began after another had returned.
    let clock = AtomicU64::new(0);
    let mut times: Vec<(u64, u64, u64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let store = subject.beside(&store);
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
    });
    super::feeds::in_order(CLAUSE, "record number", &mut times);
}

/// Clause `state_is_sorted`: s2s state comes in the order of its keys, and spans cut it exactly.
pub fn state_is_sorted(subject: &dyn Subject) {
    const CLAUSE: &str = "state_is_sorted";
    let store = subject.open();
    let mut keys: Vec<Vec<u8>> = [
        &b""[..],
        b"\0",
        b"\0\0",
        b"\0\xff",
        b"a",
        b"a\0",
        b"a\0b",
        b"aa",
        b"ab",
        b"b",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\xff\0",
        b"\xff\xff",
    ]
    .iter()
    .map(|key| key.to_vec())
    .collect();
    must(
        CLAUSE,
        "a write",
        store.write(&mut |tx| {
            for key in keys.iter().rev() {
                tx.set_state(key, Some(b"old"))?;
            }
            keys.iter().try_for_each(|key| tx.set_state(key, Some(key)))
        }),
    );
    must(
        CLAUSE,
        "a write",
        store.write(&mut |tx| {
            tx.set_state(b"ab", None)?;
            tx.set_state(b"not there", None)?;
            tx.set_state(b"empty", Some(b""))
        }),
    );
    keys.retain(|key| key != b"ab");
    keys.push(b"empty".to_vec());
    keys.sort();
    let spans = [
        Span::all(),
        Span::exact(b"a"),
        Span::exact(b""),
        Span::prefix(b"a"),
        Span::prefix(b"\xff"),
        Span::prefix(b"\0"),
        Span {
            from: b"a\0".to_vec(),
            to: Some(b"b".to_vec()),
        },
        Span {
            from: b"b".to_vec(),
            to: Some(b"a".to_vec()),
        },
        Span {
            from: b"b".to_vec(),
            to: Some(b"b".to_vec()),
        },
    ];
    for span in spans {
        let seen = look(CLAUSE, &*store, |at| state(at, &span));
        let expected: Vec<_> = keys
            .iter()
            .filter(|key| span.contains(key))
            .cloned()
            .collect();
        let seen_keys: Vec<_> = seen.iter().map(|(key, _)| key.clone()).collect();
        clause!(
            CLAUSE,
            seen_keys == expected,
            "{span:?} shows {seen_keys:?}, not {expected:?}"
        );
        for (key, value) in seen {
            let expected: &[u8] = if key == b"empty" { b"" } else { &key };
            clause!(
                CLAUSE,
                value == expected,
                "key {key:?} has the value {value:?}, not {expected:?}"
            );
        }
    }
    let mut visited = 0;
    let stopped = store.read(&mut |at| {
        visited = 0;
        at.state(&Span::all(), &mut |_, _| {
            visited += 1;
            Ok(if visited == 3 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })
    });
    clause!(
        CLAUSE,
        stopped.is_ok() && visited == 3,
        "a visit that breaks at 3 visited {visited} and returned {stopped:?}"
    );
    let failed = store.read(&mut |at| at.state(&Span::all(), &mut |_, _| Err(Error::aborted())));
    let kind = failed.as_ref().map_err(Error::kind);
    clause!(
        CLAUSE,
        kind == Err(ErrorKind::Aborted),
        "an error of the visitor came out as {failed:?}"
    );
}

/// Clause `restored_changes_incarnation`: the new incarnation, and nothing else, then and later.
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
