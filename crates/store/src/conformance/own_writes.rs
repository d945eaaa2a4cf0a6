//! The clause `own_writes`.

use super::clauses::{furnish, upset};
use super::image::{feed, look, scan, state, value};
use super::{Subject, clause, must};
use crate::contract::{Index, Order, Part, RecordNumber, Snapshot, Span};
use crate::error::Result;
use crate::position::Position;
use std::ops::ControlFlow;

const CLAUSE: &str = "own_writes";

/// Clause `own_writes`: a transaction sees what it did, except in the feed.
pub fn own_writes(subject: &dyn Subject) {
    let store = subject.open();
    let (first, second) = furnish(CLAUSE, &*store);
    let before = look(CLAUSE, &*store, |at| Ok((at.head()?, feed(at, 0)?)));
    must(
        CLAUSE,
        "the write",
        store.write(&mut |tx| {
            upset(tx, first, second)?;
            check_records(tx, first, second)?;
            check_indexes(tx, first, second)?;
            check_reads_in_a_scan(tx)?;
            check_state(tx)?;
            check_feed(tx, &before)
        }),
    );
    let row = look(CLAUSE, &*store, |at| at.get(second, Part::Attributes));
    clause!(
        CLAUSE,
        row.is_some_and(|row| row.material.is_none()),
        "material came to a reader without being asked for"
    );
}

fn check_records(at: &dyn Snapshot, first: RecordNumber, second: RecordNumber) -> Result<()> {
    let row = at
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
    let row = at.get(second, Part::Whole)?;
    let material = row.and_then(|row| row.material);
    clause!(
        CLAUSE,
        material.as_deref() == Some(&vec![2; 100]),
        "material just set reads {:?}",
        material.map(|m| m.len())
    );
    let row = at.get(second, Part::Attributes)?;
    clause!(
        CLAUSE,
        row.is_some_and(|row| row.material.is_none()),
        "material came without being asked for"
    );
    Ok(())
}

fn check_indexes(at: &dyn Snapshot, first: RecordNumber, second: RecordNumber) -> Result<()> {
    let all = scan(at, Index::ARRIVAL, &Span::all(), Order::Descending)?;
    let third = all.first().map_or(0, |(_, number)| *number);
    let expected = [third, second.0, first.0];
    clause!(
        CLAUSE,
        all.iter().map(|(_, n)| *n).eq(expected),
        "the scan by arrival shows {all:?}, not {expected:?}"
    );
    clause!(CLAUSE, at.count()? == 3, "count is {}, not 3", at.count()?);
    let names = scan(at, Index(1), &Span::exact(b"name"), Order::Ascending)?;
    let expected = [(b"name".to_vec(), second.0), (b"name".to_vec(), third)];
    clause!(
        CLAUSE,
        names == expected,
        "the index shows {names:?}, not {expected:?}"
    );
    Ok(())
}

/// A scan may look records up while it runs.
fn check_reads_in_a_scan(at: &dyn Snapshot) -> Result<()> {
    let mut met = 0;
    at.scan(
        Index(1),
        &Span::all(),
        Order::Ascending,
        None,
        &mut |_, number| {
            met += usize::from(at.get(number, Part::Whole)?.is_some());
            met += scan(at, Index(1), &Span::all(), Order::Ascending)?.len();
            Ok(ControlFlow::Continue(()))
        },
    )?;
    clause!(
        CLAUSE,
        met == 6,
        "reads within a scan met {met} things, not 6"
    );
    Ok(())
}

fn check_state(at: &dyn Snapshot) -> Result<()> {
    let keys: Vec<_> = state(at, &Span::all())?
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
        value(at, b"cursor")?.as_deref() == Some(b"18"),
        "changed state reads {:?}",
        value(at, b"cursor")?
    );
    Ok(())
}

/// Head and feed are still those of `before`.
fn check_feed(at: &dyn Snapshot, before: &(Position, Vec<(u64, u64, Vec<u8>)>)) -> Result<()> {
    let (head, entries) = (at.head()?, feed(at, 0)?);
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
}
