//! The clause `commit_ids`.

use super::image::{feed, look};
use super::{Change, Subject, chain, clause, commit, must};
use crate::contract::{Part, RecordNumber, Snapshot, Store};
use crate::error::{Error, Result};
use crate::position::{CommitId, Position};
use std::sync::Arc;

const CLAUSE: &str = "commit_ids";

/// Clause `commit_ids`: the hash chain over all commits, at every number of each commit.
pub fn commit_ids(subject: &dyn Subject) {
    let mut store = subject.open();
    let start = head(&*store);
    clause!(
        CLAUSE,
        start.number == 0 && start.commit == CommitId::ZERO,
        "an empty store has the head {start:?}"
    );
    let mut history = History {
        commits: Vec::new(),
        last: CommitId::ZERO,
    };
    let numbers = make_commits(&*store, &mut history);
    store = subject.reopen(store);
    let fourth = [
        Change::of(numbers[0], "a").entry("same"),
        Change::of(numbers[2], "c").entry("same"),
    ];
    commit(CLAUSE, &*store, &fourth);
    history.add(&*store, &fourth);
    history.check(&*store);
    check_concurrent_commits(subject, &store);
}

fn head(store: &dyn Store) -> Position {
    look(CLAUSE, store, |at| at.head())
}

/// Commits of several puts, of state alone, of several puts of one record, and one that is rolled back. Returns the first three records.
fn make_commits(store: &dyn Store, history: &mut History) -> Vec<RecordNumber> {
    let first = [
        Change::new("a"),
        Change::new("b").insert(1, "no part of the chain"),
        Change::new("c").attributes(vec![1; 5000]),
    ];
    let numbers = commit(CLAUSE, store, &first);
    history.add(store, &first);
    must(
        CLAUSE,
        "a write of state",
        store.write(&mut |tx| tx.set_state(b"no part", Some(b"of the chain"))),
    );
    history.add(store, &[]);
    let second = [
        Change::of(numbers[1], "b").entry("b2"),
        Change::new("d"),
        Change::of(numbers[1], "b").entry("b3"),
    ];
    must(
        CLAUSE,
        "a write",
        store.write(&mut |tx| {
            tx.put(&[second[0].put(), second[1].put()])?;
            tx.put(&[])?;
            tx.put(&[second[2].put()]).map(|_| ())
        }),
    );
    history.add(store, &second);
    let third = [Change::of(numbers[0], "a"), Change::of(numbers[2], "c")];
    commit(CLAUSE, store, &third);
    history.add(store, &third);
    let _ = store.write(&mut |tx| {
        tx.put(&[Change::new("never").put()])?;
        Err(Error::aborted())
    });
    numbers
}

/// The commits so far, as they must be.
struct History {
    /// The first and the last feed number of each commit, and its id.
    commits: Vec<(u64, u64, CommitId)>,
    last: CommitId,
}

impl History {
    /// Adds the commit that was just made, and checks that the head has its id.
    fn add(&mut self, store: &dyn Store, changes: &[Change]) {
        self.last = chain(self.last, changes);
        let now = head(store);
        clause!(
            CLAUSE,
            now.commit == self.last,
            "the head has {:?}, and the chain over the puts is {:?}",
            now.commit,
            self.last
        );
        let first = self.commits.last().map_or(0, |(_, last, _)| *last) + 1;
        let moved = now.number >= first;
        clause!(
            CLAUSE,
            moved != changes.is_empty(),
            "a commit of {} puts moved the head from {} to {}",
            changes.len(),
            first - 1,
            now.number
        );
        if moved {
            self.commits.push((first, now.number, self.last));
        }
    }

    /// Checks the id at every number, and that there is none elsewhere.
    fn check(&self, store: &dyn Store) {
        for (first, last, id) in &self.commits {
            for number in *first..=*last {
                let seen = look(CLAUSE, store, |at| at.commit_id(number));
                clause!(
                    CLAUSE,
                    seen == Some(*id),
                    "number {number} of the commit {first}..={last} has the id {seen:?}, not {id:?}"
                );
            }
        }
        let top = head(store).number;
        for number in [0, top + 1, top + 2, u64::MAX] {
            let seen = look(CLAUSE, store, |at| at.commit_id(number));
            clause!(
                CLAUSE,
                seen.is_none(),
                "number {number} has the id {seen:?}, and the head is {top}"
            );
        }
    }
}

/// After concurrent commits, the feed, cut wherever the commit id changes, hashes to those ids.
fn check_concurrent_commits(subject: &dyn Subject, store: &Arc<dyn Store>) {
    let before = head(&**store);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = subject.beside(store);
            scope.spawn(move || {
                for round in 0..15 {
                    let batch: Vec<_> = (0..1 + round % 3)
                        .map(|i| Change::new(format!("{thread}/{round}/{i}")))
                        .collect();
                    commit(CLAUSE, &*store, &batch);
                }
            });
        }
    });
    look(CLAUSE, &**store, |at| {
        let groups = commits_after(at, before.number)?;
        clause!(
            CLAUSE,
            groups.len() == 60,
            "60 commits left {} different ids",
            groups.len()
        );
        let mut expected = before.commit;
        for (id, changes) in groups {
            expected = chain(expected, &changes);
            clause!(
                CLAUSE,
                id == expected,
                "a commit of {} puts has {id:?}, and the chain over them is {expected:?}",
                changes.len()
            );
        }
        clause!(
            CLAUSE,
            at.head()?.commit == expected,
            "the head has {:?}, and its commit {expected:?}",
            at.head()?.commit
        );
        Ok(())
    });
}

/// The commits above a feed number: the id and the puts of each.
fn commits_after(at: &dyn Snapshot, number: u64) -> Result<Vec<(CommitId, Vec<Change>)>> {
    let mut groups: Vec<(CommitId, Vec<Change>)> = Vec::new();
    for (number, record, entry) in feed(at, number)? {
        let id = at.commit_id(number)?.unwrap_or(CommitId::ZERO);
        let row = at.get(RecordNumber(record), Part::Attributes)?.unwrap();
        let change = Change::new(&row.id)
            .attributes(&row.attributes)
            .entry(&entry);
        match groups.last_mut() {
            Some((last, changes)) if *last == id => changes.push(change),
            _ => groups.push((id, vec![change])),
        }
    }
    Ok(groups)
}
