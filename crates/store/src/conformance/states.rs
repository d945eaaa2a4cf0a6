//! The clause `state_is_sorted`.

use super::image::{check_visitor_error, look, state};
use super::{Subject, clause, must};
use crate::contract::{Span, Store};
use crate::error::Error;
use std::ops::ControlFlow;

const CLAUSE: &str = "state_is_sorted";

/// Keys that are prefixes of one another, and bytes at the ends of their range.
const KEYS: [&[u8]; 15] = [
    b"",
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
];

/// Clause `state_is_sorted`: s2s state comes in the order of its keys, and spans cut it exactly.
pub fn state_is_sorted(subject: &dyn Subject) {
    let store = subject.open();
    let keys = fill(&*store);
    for span in spans() {
        check_span(&*store, &keys, &span);
    }
    check_break(&*store);
    check_visitor_error(CLAUSE, &*store, &mut |at| {
        at.state(&Span::all(), &mut |_, _| Err(Error::aborted()))
    });
}

/// Sets, changes and removes keys; returns those that are left, sorted. Each has itself as its value, but `empty` has none.
fn fill(store: &dyn Store) -> Vec<Vec<u8>> {
    must(
        CLAUSE,
        "a write",
        store.write(&mut |tx| {
            for key in KEYS.iter().rev() {
                tx.set_state(key, Some(b"old"))?;
            }
            KEYS.iter().try_for_each(|key| tx.set_state(key, Some(key)))
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
    let mut keys: Vec<Vec<u8>> = KEYS.iter().map(|key| key.to_vec()).collect();
    keys.retain(|key| key != b"ab");
    keys.push(b"empty".to_vec());
    keys.sort();
    keys
}

fn spans() -> Vec<Span> {
    let between = |from: &[u8], to: &[u8]| Span {
        from: from.to_vec(),
        to: Some(to.to_vec()),
    };
    vec![
        Span::all(),
        Span::exact(b"a"),
        Span::exact(b""),
        Span::prefix(b"a"),
        Span::prefix(b"\xff"),
        Span::prefix(b"\0"),
        between(b"a\0", b"b"),
        between(b"b", b"a"),
        between(b"b", b"b"),
    ]
}

fn check_span(store: &dyn Store, keys: &[Vec<u8>], span: &Span) {
    let seen = look(CLAUSE, store, |at| state(at, span));
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

fn check_break(store: &dyn Store) {
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
}
