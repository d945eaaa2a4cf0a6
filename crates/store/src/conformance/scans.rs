use super::image::{look, scan};
use super::{Change, Subject, clause, commit, must};
use crate::contract::{Cursor, Index, IndexKey, Order, RecordNumber, Snapshot, Span, Store};
use crate::error::{Error, ErrorKind};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

type Entries = BTreeSet<(u8, Vec<u8>, u64)>;

/// What a scan must show, from the plain set.
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
) -> crate::error::Result<Vec<(Vec<u8>, u64)>> {
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

/// Clause `index_is_exact`: an index holds what was inserted and not removed, in order, cut exactly by spans and cursors.
pub fn index_is_exact(subject: &dyn Subject) {
    const CLAUSE: &str = "index_is_exact";
    let mut store = subject.open();
    let mut entries = Entries::new();
    // Every record has every key in one index and some in another.
    for i in 0..4_u8 {
        let mut change = Change::new([i]);
        let mut keys = Vec::new();
        for (k, key) in KEYS.iter().enumerate() {
            keys.push((1, *key));
            if (k + usize::from(i)).is_multiple_of(3) {
                keys.push((if i % 2 == 0 { 2 } else { 255 }, *key));
            }
        }
        keys.rotate_left(usize::from(i) * 3);
        change = keys
            .iter()
            .fold(change, |change, (index, key)| change.insert(*index, key));
        let number = commit(CLAUSE, &*store, &[change])[0].0;
        entries.extend(
            keys.iter()
                .map(|(index, key)| (*index, key.to_vec(), number)),
        );
    }
    compare(CLAUSE, &*store, &entries);

    let numbers: Vec<u64> = entries
        .iter()
        .map(|(.., number)| *number)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
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
    commit(CLAUSE, &*store, &[change, other]);
    entries.remove(&(1, b"a".to_vec(), numbers[1]));
    entries.remove(&(1, Vec::new(), numbers[2]));
    entries.extend([
        (7, long.clone(), numbers[1]),
        (7, long[1..].to_vec(), numbers[1]),
        (7, long.clone(), numbers[2]),
    ]);
    compare(CLAUSE, &*store, &entries);
    // Within one transaction: inserted and taken away again.
    must(
        CLAUSE,
        "a write",
        store.write(&mut |tx| {
            tx.put(&[Change::of(RecordNumber(numbers[0]), [0])
                .insert(7, "short-lived")
                .remove(1, "b")
                .put()])?;
            tx.put(&[Change::of(RecordNumber(numbers[0]), [0])
                .remove(7, "short-lived")
                .insert(7, "lasting")
                .put()])
                .map(|_| ())
        }),
    );
    entries.remove(&(1, b"b".to_vec(), numbers[0]));
    entries.insert((7, b"lasting".to_vec(), numbers[0]));
    store = subject.reopen(store);
    compare(CLAUSE, &*store, &entries);
    arrival(CLAUSE, &*store, &numbers);

    let failed = store.read(&mut |at| {
        at.scan(
            Index(1),
            &Span::all(),
            Order::Ascending,
            None,
            &mut |_, _| Err(Error::aborted()),
        )
    });
    let kind = failed.as_ref().map_err(Error::kind);
    clause!(
        CLAUSE,
        kind == Err(ErrorKind::Aborted),
        "an error of the visitor came out as {failed:?}"
    );
}

/// Every span, order and cursor that the keys allow.
fn compare(clause: &str, store: &dyn Store, entries: &Entries) {
    let mut spans = vec![
        Span::all(),
        Span {
            from: b"b".to_vec(),
            to: Some(b"a".to_vec()),
        },
    ];
    for key in KEYS {
        spans.extend([Span::exact(key), Span::prefix(key)]);
        spans.push(Span {
            from: b"a".to_vec(),
            to: Some(key.to_vec()),
        });
    }
    look(clause, store, |at| {
        for index in super::image::INDEXES {
            for span in &spans {
                for order in [Order::Ascending, Order::Descending] {
                    let expected = expected(entries, index, span, order, None);
                    let seen = scan(at, Index(index), span, order)?;
                    clause!(
                        clause,
                        seen == expected,
                        "index {index}, {span:?}, {order:?} shows {seen:?}, not {expected:?}"
                    );
                }
            }
        }
        let all: Vec<_> = entries
            .iter()
            .filter(|(index, ..)| *index == 1)
            .cloned()
            .collect();
        let mut cursors: Vec<_> = all
            .iter()
            .map(|(_, key, number)| Cursor {
                key: key.clone(),
                number: RecordNumber(*number),
            })
            .collect();
        cursors.push(Cursor {
            key: b"a\0\0".to_vec(),
            number: RecordNumber(3),
        });
        cursors.push(Cursor {
            key: vec![255; 20],
            number: RecordNumber(u64::MAX),
        });
        cursors.push(Cursor {
            key: Vec::new(),
            number: RecordNumber(0),
        });
        for cursor in &cursors {
            for span in [
                Span::all(),
                Span::prefix(b"a"),
                Span {
                    from: b"\0\0".to_vec(),
                    to: Some(b"b".to_vec()),
                },
            ] {
                for order in [Order::Ascending, Order::Descending] {
                    let mut expected = expected(entries, 1, &span, order, Some(cursor));
                    expected.truncate(5);
                    let seen = scan_some(at, 1, &span, order, Some(cursor), 5)?;
                    clause!(
                        clause,
                        seen == expected,
                        "{span:?}, {order:?} behind {cursor:?} shows {seen:?}, not {expected:?}"
                    );
                }
            }
        }
        Ok(())
    });
}

/// The arrival index: the records themselves.
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
