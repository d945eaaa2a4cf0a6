//! The clause `index_is_exact`.

use super::image::{INDEXES, check_visitor_error, look, scan};
use super::{Change, Subject, clause, commit, must};
use crate::contract::{Cursor, Index, IndexKey, Order, RecordNumber, Snapshot, Span, Store};
use crate::error::{Error, Result};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

type Entries = BTreeSet<(u8, Vec<u8>, u64)>;

/// The entries that a scan must show, given all entries.
pub(super) fn expected(
    entries: &Entries,
    index: u8,
    span: &Span,
    order: Order,
    after: Option<&Cursor>,
) -> Vec<(Vec<u8>, u64)> {
    let behind = |key: &[u8], number: u64| {
        after.is_none_or(|cursor| match order {
            Order::Ascending => (key, number) > (cursor.key.as_slice(), cursor.number.0),
            Order::Descending => (key, number) < (cursor.key.as_slice(), cursor.number.0),
        })
    };
    let mut found: Vec<_> = entries
        .iter()
        .filter(|(at, key, number)| *at == index && span.contains(key) && behind(key, *number))
        .map(|(_, key, number)| (key.clone(), *number))
        .collect();
    if order == Order::Descending {
        found.reverse();
    }
    found
}

/// A scan that stops after `limit` entries.
pub(super) fn scan_some(
    at: &dyn Snapshot,
    index: u8,
    span: &Span,
    order: Order,
    after: Option<&Cursor>,
    limit: usize,
) -> Result<Vec<(Vec<u8>, u64)>> {
    let mut seen = Vec::new();
    at.scan(Index(index), span, order, after, &mut |key, number| {
        seen.push((key.to_vec(), number.0));
        Ok(if seen.len() == limit {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    Ok(seen)
}

/// Keys that are prefixes of one another, and bytes at the ends of their range.
const KEYS: [&[u8]; 14] = [
    b"",
    b"\0",
    b"\0\0",
    b"\0\0\0\0\0\0\0\0\0",
    b"a",
    b"a\0",
    b"a\0\0\0\0\0\0\0",
    b"a\0\0\0\0\0\0\0\0\0",
    b"ab",
    b"b",
    b"\xfe\xff",
    b"\xff",
    b"\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff",
];

const CLAUSE: &str = "index_is_exact";

/// Clause `index_is_exact`: an index holds what was inserted and not removed, in order, cut exactly by spans and cursors.
pub fn index_is_exact(subject: &dyn Subject) {
    let mut store = subject.open();
    let mut entries = insert_keys(&*store);
    compare(&*store, &entries);
    let numbers: Vec<u64> = entries
        .iter()
        .map(|(.., number)| *number)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    change_keys(&*store, &numbers, &mut entries);
    compare(&*store, &entries);
    change_keys_twice(&*store, numbers[0], &mut entries);
    store = subject.reopen(store);
    compare(&*store, &entries);
    arrival(CLAUSE, &*store, &numbers);
    check_visitor_error(CLAUSE, &*store, &mut |at| {
        let (all, order) = (Span::all(), Order::Ascending);
        at.scan(Index(1), &all, order, None, &mut |_, _| {
            Err(Error::aborted())
        })
    });
}

/// Creates records of which each has every key in one index and some keys in another.
fn insert_keys(store: &dyn Store) -> Entries {
    let mut entries = Entries::new();
    for i in 0..4_u8 {
        let mut keys = Vec::new();
        for (k, key) in KEYS.iter().enumerate() {
            keys.push((1, *key));
            if (k + usize::from(i)).is_multiple_of(3) {
                keys.push((if i % 2 == 0 { 2 } else { 255 }, *key));
            }
        }
        keys.rotate_left(usize::from(i) * 3);
        let change = keys.iter().fold(Change::new([i]), |change, (index, key)| {
            change.insert(*index, key)
        });
        let number = commit(CLAUSE, store, &[change])[0].0;
        entries.extend(
            keys.iter()
                .map(|(index, key)| (*index, key.to_vec(), number)),
        );
    }
    entries
}

/// Removes and inserts keys, among them one that was never there, one that is removed and inserted at once, and the longest.
fn change_keys(store: &dyn Store, numbers: &[u64], entries: &mut Entries) {
    let long = vec![0xEE; IndexKey::MAX];
    let change = Change::of(RecordNumber(numbers[1]), [1])
        .remove(1, "a")
        .remove(1, "never there")
        .remove(1, "b")
        .insert(1, "b")
        .insert(1, "ab")
        .insert(7, &long)
        .insert(7, &long[1..]);
    let other = Change::of(RecordNumber(numbers[2]), [2])
        .remove(1, "")
        .remove(7, &long)
        .insert(7, &long);
    commit(CLAUSE, store, &[change, other]);
    entries.remove(&(1, b"a".to_vec(), numbers[1]));
    entries.remove(&(1, Vec::new(), numbers[2]));
    entries.extend([
        (7, long.clone(), numbers[1]),
        (7, long[1..].to_vec(), numbers[1]),
        (7, long.clone(), numbers[2]),
    ]);
}

/// Inserts a key and removes it again within one transaction.
fn change_keys_twice(store: &dyn Store, number: u64, entries: &mut Entries) {
    let change = || Change::of(RecordNumber(number), [0]);
    must(
        CLAUSE,
        "a write",
        store.write(&mut |tx| {
            let first = change().insert(7, "short-lived").remove(1, "b");
            tx.put(&[first.put()])?;
            let second = change().remove(7, "short-lived").insert(7, "lasting");
            tx.put(&[second.put()]).map(|_| ())
        }),
    );
    entries.remove(&(1, b"b".to_vec(), number));
    entries.insert((7, b"lasting".to_vec(), number));
}

/// Compares scans of every span, order and cursor that the keys allow.
fn compare(store: &dyn Store, entries: &Entries) {
    look(CLAUSE, store, |at| {
        compare_spans(at, entries)?;
        compare_cursors(at, entries)
    });
}

fn compare_spans(at: &dyn Snapshot, entries: &Entries) -> Result<()> {
    let mut spans = vec![Span::all(), between(b"b", b"a")];
    for key in KEYS {
        spans.extend([Span::exact(key), Span::prefix(key), between(b"a", key)]);
    }
    for index in INDEXES {
        for span in &spans {
            for order in [Order::Ascending, Order::Descending] {
                let expected = expected(entries, index, span, order, None);
                let seen = scan(at, Index(index), span, order)?;
                clause!(
                    CLAUSE,
                    seen == expected,
                    "index {index}, {span:?}, {order:?} shows {seen:?}, not {expected:?}"
                );
            }
        }
    }
    Ok(())
}

/// Cursors at every entry, and at places without one.
fn compare_cursors(at: &dyn Snapshot, entries: &Entries) -> Result<()> {
    let cursor = |key: &[u8], number| Cursor {
        key: key.to_vec(),
        number: RecordNumber(number),
    };
    let mut cursors: Vec<_> = entries
        .iter()
        .filter(|(index, ..)| *index == 1)
        .map(|(_, key, number)| cursor(key, *number))
        .collect();
    cursors.push(cursor(b"a\0\0", 3));
    cursors.push(cursor(&[255; 20], u64::MAX));
    cursors.push(cursor(b"", 0));
    for cursor in &cursors {
        for span in [Span::all(), Span::prefix(b"a"), between(b"\0\0", b"b")] {
            for order in [Order::Ascending, Order::Descending] {
                let mut expected = expected(entries, 1, &span, order, Some(cursor));
                expected.truncate(5);
                let seen = scan_some(at, 1, &span, order, Some(cursor), 5)?;
                clause!(
                    CLAUSE,
                    seen == expected,
                    "{span:?}, {order:?} behind {cursor:?} shows {seen:?}, not {expected:?}"
                );
            }
        }
    }
    Ok(())
}

fn between(from: &[u8], to: &[u8]) -> Span {
    Span {
        from: from.to_vec(),
        to: Some(to.to_vec()),
    }
}

/// Compares scans of the arrival index, whose entries are the records themselves.
fn arrival(clause: &str, store: &dyn Store, numbers: &[u64]) {
    let entries: Entries = numbers
        .iter()
        .map(|number| (0, number.to_be_bytes().to_vec(), *number))
        .collect();
    let mut ends: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![0],
        vec![0; 7],
        vec![0; 9],
        vec![0xFF; 9],
        vec![0xFF; 8],
        vec![1],
    ];
    for number in numbers {
        ends.extend([
            number.to_be_bytes().to_vec(),
            Span::exact(&number.to_be_bytes()).to.unwrap_or_default(),
        ]);
    }
    look(clause, store, |at| {
        for from in &ends {
            for to in ends.iter().map(Some).chain([None]) {
                let span = Span {
                    from: from.clone(),
                    to: to.cloned(),
                };
                for order in [Order::Ascending, Order::Descending] {
                    for after in [
                        None,
                        numbers.first(),
                        numbers.last(),
                        Some(&u64::MAX),
                        Some(&0),
                    ] {
                        let after = after.map(|n| Cursor {
                            key: n.to_be_bytes().to_vec(),
                            number: RecordNumber(*n),
                        });
                        let expected = expected(&entries, 0, &span, order, after.as_ref());
                        let seen = scan_some(at, 0, &span, order, after.as_ref(), usize::MAX)?;
                        let place = format_args!("{span:?}, {order:?}, behind {after:?}");
                        clause!(
                            clause,
                            seen == expected,
                            "by arrival, {place}: {seen:?}, not {expected:?}"
                        );
                    }
                }
            }
        }
        Ok(())
    });
}
