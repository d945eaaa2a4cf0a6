use super::image::{Image, feed, look};
use super::{Change, Done, Subject, chain, clause, commit, must};
use crate::contract::{RecordNumber, Store};
use crate::error::{Error, ErrorKind};
use crate::position::CommitId;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::Duration;

/// Clause `newest_entry_only`: one feed entry per record, the newest one.
pub fn newest_entry_only(subject: &dyn Subject) {
    const CLAUSE: &str = "newest_entry_only";
    let store = subject.open();
    let numbers = commit(CLAUSE, &*store, &["a", "b", "c"].map(Change::new));
    let [a, b, c] = numbers[..] else {
        panic!("three puts returned {numbers:?}")
    };
    let entries = |store: &dyn Store| look(CLAUSE, store, |at| feed(at, 0));
    let show = |rows: &[(u64, u64, Vec<u8>)], expected: &[(RecordNumber, &str)]| {
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
    };
    show(
        &entries(&*store),
        &[(a, "entry of a"), (b, "entry of b"), (c, "entry of c")],
    );
    let older = entries(&*store);
    for round in 0..3 {
        commit(
            CLAUSE,
            &*store,
            &[Change::of(a, "a").entry(format!("a{round}"))],
        );
    }
    let newer = entries(&*store);
    show(&newer, &[(b, "entry of b"), (c, "entry of c"), (a, "a2")]);
    clause!(
        CLAUSE,
        newer[..2] == older[1..],
        "entries of other records changed from {older:?} to {newer:?}"
    );
    // Several times in one commit: only the last stays.
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
    show(
        &entries(&*store),
        &[(a, "a2"), (c, "c0"), (b, "b1"), (late.unwrap(), "d1")],
    );
    let before = entries(&*store);
    let _ = store.write(&mut |tx| {
        tx.put(&[
            Change::of(a, "a").entry("lost").put(),
            Change::new("e").put(),
        ])?;
        Err(Error::aborted())
    });
    let after = entries(&*store);
    clause!(
        CLAUSE,
        after == before,
        "an aborted write changed the feed from {before:?} to {after:?}"
    );
    // A place in the middle, a visit that stops, a visitor that fails.
    let tail = look(CLAUSE, &*store, |at| feed(at, before[1].0));
    clause!(
        CLAUSE,
        tail == before[2..],
        "behind {} the feed shows {tail:?}, not {:?}",
        before[1].0,
        &before[2..]
    );
    let tail = look(CLAUSE, &*store, |at| feed(at, u64::MAX));
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
    let failed = store.read(&mut |at| at.feed(0, &mut |_| Err(Error::aborted())));
    let kind = failed.as_ref().map_err(Error::kind);
    clause!(
        CLAUSE,
        kind == Err(ErrorKind::Aborted),
        "an error of the visitor came out as {failed:?}"
    );

    // Many at once on the same records: still one entry each, that of the attributes.
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = subject.beside(&store);
            scope.spawn(move || {
                for round in 0..20 {
                    let text = format!("{thread}/{round}");
                    commit(
                        CLAUSE,
                        &*store,
                        &[
                            Change::of(a, "a").attributes(&text).entry(&text),
                            Change::of(b, "b").attributes(&text).entry(&text),
                        ],
                    );
                }
            });
        }
    });
    let image = Image::read(CLAUSE, &*store);
    for number in [a, b] {
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

/// Whether numbers are unique and rise wherever one write began after another had returned.
pub(super) fn in_order(clause: &str, what: &str, times: &mut [(u64, u64, u64)]) {
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

/// Clause `feed_order`: no late entries, nothing missed, and the order of writes that did not overlap.
pub fn feed_order(subject: &dyn Subject) {
    const CLAUSE: &str = "feed_order";
    let store = subject.open();
    let shared = commit(CLAUSE, &*store, &[Change::new("shared")])[0];
    let (clock, done, start) = (AtomicU64::new(0), AtomicBool::new(false), Barrier::new(6));
    let (mut times, readers) = std::thread::scope(|scope| {
        // All begin together, so that the readers meet the writes of a fast store too.
        let (start, done) = (&start, &done);
        let reader = move |store| {
            start.wait();
            follow(CLAUSE, store, done)
        };
        let readers: Vec<_> = (0..2)
            .map(|_| subject.beside(&store))
            .map(|store| scope.spawn(move || reader(store)))
            .collect();
        let finished = Done(done);
        let writers: Vec<_> = (0..4_u64)
            .map(|thread| {
                let (store, clock) = (subject.beside(&store), &clock);
                scope.spawn(move || {
                    start.wait();
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
                            _ if round % 4 == 3 => {
                                changes.push(Change::of(shared, "shared").entry(name(9)))
                            }
                            _ => {}
                        }
                        let began = clock.fetch_add(1, Ordering::SeqCst);
                        own = commit(CLAUSE, &*store, &changes).last().copied();
                        times.push((began, clock.fetch_add(1, Ordering::SeqCst), name(0)));
                    }
                    times
                })
            })
            .collect();
        let times: Vec<_> = writers
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        drop(finished);
        (
            times,
            readers
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect::<Vec<_>>(),
        )
    });
    let entries = look(CLAUSE, &*store, |at| feed(at, 0));
    for seen in readers {
        for (number, record, entry) in &entries {
            let known = seen.get(number);
            let text = String::from_utf8_lossy(entry);
            clause!(
                CLAUSE,
                known == Some(entry),
                "a reader who followed the feed missed entry {number} ({text}) of record {record}, seen: {known:?}"
            );
        }
    }
    let numbers: BTreeMap<_, _> = entries
        .iter()
        .map(|(number, _, entry)| (entry.clone(), *number))
        .collect();
    let find = |name: &String| numbers.get(name.as_bytes()).copied();
    let mut placed: Vec<_> = times
        .drain(..)
        .filter_map(|(began, ended, name)| Some((began, ended, find(&name)?)))
        .collect();
    clause!(
        CLAUSE,
        placed.len() > 60,
        "only {} of 120 writes left an entry",
        placed.len()
    );
    in_order(CLAUSE, "feed number", &mut placed);
    for round in 0..5 {
        overtaken(CLAUSE, subject, &store, round);
    }
}

/// A write is under way when another one begins and commits, and a reader takes its position then; what the slow one commits afterwards
/// must stand above that position. A store that runs one write at a time lets the faster one wait instead.
fn overtaken(clause: &str, subject: &dyn Subject, store: &Arc<dyn Store>, round: u32) {
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

/// Follows the feed until the writers are done, and returns all that it was shown.
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

/// Clause `commit_ids`: the hash chain over all commits, at every number of each commit.
pub fn commit_ids(subject: &dyn Subject) {
    const CLAUSE: &str = "commit_ids";
    let mut store = subject.open();
    let head = |store: &dyn Store| look(CLAUSE, store, |at| at.head());
    let start = head(&*store);
    clause!(
        CLAUSE,
        start.number == 0 && start.commit == CommitId::ZERO,
        "an empty store has the head {start:?}"
    );
    let mut ids: Vec<(u64, u64, CommitId)> = Vec::new();
    let mut expected = CommitId::ZERO;
    let mut made = |store: &dyn Store, changes: &[Change]| {
        expected = chain(expected, changes);
        let now = head(store);
        clause!(
            CLAUSE,
            now.commit == expected,
            "the head has {:?}, and the chain over the puts is {expected:?}",
            now.commit
        );
        let first = ids.last().map_or(0, |(_, last, _)| *last) + 1;
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
            ids.push((first, now.number, expected));
        }
    };
    let first = [
        Change::new("a"),
        Change::new("b").insert(1, "no part of the chain"),
        Change::new("c").attributes(vec![1; 5000]),
    ];
    let numbers = commit(CLAUSE, &*store, &first);
    made(&*store, &first);
    must(
        CLAUSE,
        "a write of state",
        store.write(&mut |tx| tx.set_state(b"no part", Some(b"of the chain"))),
    );
    made(&*store, &[]);
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
    made(&*store, &second);
    let third = [Change::of(numbers[0], "a"), Change::of(numbers[2], "c")];
    commit(CLAUSE, &*store, &third);
    made(&*store, &third);
    let _ = store.write(&mut |tx| {
        tx.put(&[Change::new("never").put()])?;
        Err(Error::aborted())
    });
    store = subject.reopen(store);
    let fourth = [
        Change::of(numbers[0], "a").entry("same"),
        Change::of(numbers[2], "c").entry("same"),
    ];
    commit(CLAUSE, &*store, &fourth);
    made(&*store, &fourth);
    for (first, last, id) in &ids {
        for number in *first..=*last {
            let seen = look(CLAUSE, &*store, |at| at.commit_id(number));
            clause!(
                CLAUSE,
                seen == Some(*id),
                "number {number} of the commit {first}..={last} has the id {seen:?}, not {id:?}"
            );
        }
    }
    let top = head(&*store).number;
    for number in [0, top + 1, top + 2, u64::MAX] {
        let seen = look(CLAUSE, &*store, |at| at.commit_id(number));
        clause!(
            CLAUSE,
            seen.is_none(),
            "number {number} has the id {seen:?}, and the head is {top}"
        );
    }

    // Many at once: the feed, cut at every change of commit id, hashes to those ids.
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = subject.beside(&store);
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
    let before = ids.last().map_or(CommitId::ZERO, |(.., id)| *id);
    look(CLAUSE, &*store, |at| {
        let mut groups: Vec<(CommitId, Vec<Change>)> = Vec::new();
        for (number, record, entry) in feed(at, top)? {
            let id = at.commit_id(number)?.unwrap_or(CommitId::ZERO);
            let row = at
                .get(RecordNumber(record), crate::contract::Part::Attributes)?
                .unwrap();
            let change = Change::new(&row.id)
                .attributes(&row.attributes)
                .entry(&entry);
            match groups.last_mut() {
                Some((last, changes)) if *last == id => changes.push(change),
                _ => groups.push((id, vec![change])),
            }
        }
        clause!(
            CLAUSE,
            groups.len() == 60,
            "60 commits left {} different ids",
            groups.len()
        );
        let mut expected = before;
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
