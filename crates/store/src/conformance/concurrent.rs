use super::image::{Image, feed, look, scan, value};
use super::{Change, Done, Material, Subject, clause, commit, must};
use crate::contract::{Index, Order, Part, RecordNumber, Row, Snapshot, Span, Store, Transaction};
use crate::error::{Error, ErrorKind, Result};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    super::image::state(at, &Span::all())?
        .iter()
        .for_each(|(_, value)| add(value));
    Ok(texts)
}

fn number(at: &dyn Snapshot, key: &[u8]) -> Result<u64> {
    let value = value(at, key)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&value).parse().unwrap_or(0))
}

fn set(tx: &mut dyn Transaction, key: &[u8], value: u64) -> Result<()> {
    tx.set_state(key, Some(value.to_string().as_bytes()))
}

/// Clause `serialisable`: no lost update, no write skew, no phantom, no torn sum.
pub fn serialisable(subject: &dyn Subject) {
    const CLAUSE: &str = "serialisable";
    const THREADS: u64 = 4;
    const ROUNDS: u64 = 20;
    let store = subject.open();
    let together = |work: &(dyn Fn(u64, Arc<dyn Store>) + Sync)| {
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let store = subject.beside(&store);
                scope.spawn(move || work(thread, store));
            }
        });
    };

    together(&|_, store| {
        for _ in 0..ROUNDS {
            must(
                CLAUSE,
                "an increment",
                store.write(&mut |tx| {
                    let now = number(tx, b"counter")?;
                    set(tx, b"counter", now + 1)
                }),
            );
        }
    });
    let counted = look(CLAUSE, &*store, |at| number(at, b"counter"));
    clause!(
        CLAUSE,
        counted == THREADS * ROUNDS,
        "{} increments left the counter at {counted}: updates were lost",
        THREADS * ROUNDS
    );

    // Two flags, each set only while the other is down: write skew would leave both up.
    together(&|thread, store| {
        let flags: [&[u8]; 2] = [b"left", b"right"];
        let (mine, other) = (flags[thread as usize % 2], flags[(thread as usize + 1) % 2]);
        for _ in 0..ROUNDS {
            must(
                CLAUSE,
                "a write",
                store.write(&mut |tx| match number(tx, other)? {
                    0 => set(tx, mine, 1),
                    _ => Ok(()),
                }),
            );
            let both = look(CLAUSE, &*store, |at| {
                Ok(number(at, mine)? + number(at, other)?)
            });
            clause!(
                CLAUSE,
                both < 2,
                "both flags are up, though each is set only while the other is down: write skew"
            );
            must(CLAUSE, "a write", store.write(&mut |tx| set(tx, mine, 0)));
        }
    });

    // A name is taken once: a check by scan, then a put.
    together(&|thread, store| {
        for round in 0..ROUNDS {
            let name = format!("name {round}");
            must(
                CLAUSE,
                "a write",
                store.write(&mut |tx| {
                    if scan(
                        tx,
                        Index(1),
                        &Span::exact(name.as_bytes()),
                        Order::Ascending,
                    )?
                    .is_empty()
                    {
                        tx.put(&[Change::new(format!("{thread}/{round}"))
                            .insert(1, &name)
                            .put()])?;
                    }
                    Ok(())
                }),
            );
        }
    });
    let names = look(CLAUSE, &*store, |at| {
        scan(at, Index(1), &Span::all(), Order::Ascending)
    });
    let distinct: BTreeSet<_> = names.iter().map(|(name, _)| name).collect();
    let doubled = names.len() - distinct.len();
    clause!(
        CLAUSE,
        doubled == 0,
        "{doubled} names were taken twice, though each write had looked for the name: phantoms"
    );
    clause!(
        CLAUSE,
        distinct.len() as u64 == ROUNDS,
        "{} names were taken, not {ROUNDS}",
        distinct.len()
    );

    // Transfers between accounts: the sum stays, in every read.
    let accounts: [&[u8]; 3] = [b"account 0", b"account 1", b"account 2"];
    must(
        CLAUSE,
        "a write",
        store.write(&mut |tx| {
            accounts
                .iter()
                .try_for_each(|account| set(tx, account, 100))
        }),
    );
    together(&|thread, store| {
        for round in 0..ROUNDS {
            let (from, to) = (
                accounts[(thread + round) as usize % 3],
                accounts[(thread + round + 1) as usize % 3],
            );
            must(
                CLAUSE,
                "a transfer",
                store.write(&mut |tx| {
                    let (rich, poor) = (number(tx, from)?, number(tx, to)?);
                    let amount = rich.min(7);
                    set(tx, from, rich - amount)?;
                    set(tx, to, poor + amount)
                }),
            );
            let sum = look(CLAUSE, &*store, |at| {
                accounts
                    .iter()
                    .try_fold(0, |sum, account| Ok(sum + number(at, account)?))
            });
            clause!(
                CLAUSE,
                sum == 300,
                "transfers among accounts changed their sum from 300 to {sum}"
            );
        }
    });
}

/// Clause `reruns`: after a conflict the closure runs again, whatever it made of the error, and only its last run counts.
pub fn reruns(subject: &dyn Subject) {
    const CLAUSE: &str = "reruns";
    const THREADS: u64 = 6;
    const ROUNDS: u64 = 12;
    let store = subject.open();
    let record = commit(CLAUSE, &*store, &[Change::new("shared")])[0];
    let runs = AtomicU64::new(0);
    let mut seen: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (store, runs) = (subject.beside(&store), &runs);
                scope.spawn(move || {
                    let mut seen = Vec::new();
                    for round in 0..ROUNDS {
                        let mut last = 0;
                        let mut step = |tx: &mut dyn Transaction| {
                            runs.fetch_add(1, Ordering::SeqCst);
                            last = u64::MAX;
                            let now = number(tx, b"counter")?;
                            tx.put(&[Change::of(record, "shared")
                                .attributes(now.to_string())
                                .put()])?;
                            set(tx, b"counter", now + 1)?;
                            last = now;
                            Ok(())
                        };
                        let result = match (thread + round) % 3 {
                            0 => store.write(&mut step),
                            1 => store.write(&mut |tx| step(tx).map_err(|_| Error::aborted())),
                            _ => store.write(&mut |tx| {
                                let _ = step(tx);
                                Ok(())
                            }),
                        };
                        let hidden = result
                            .as_ref()
                            .is_err_and(|error| error.kind() == ErrorKind::Aborted);
                        clause!(
                            CLAUSE,
                            !hidden,
                            "a closure that turned a conflict into an abort was not run again"
                        );
                        must(CLAUSE, "a write under contention", result);
                        clause!(
                            CLAUSE,
                            last != u64::MAX,
                            "a write returned Ok after a run in which a call had failed"
                        );
                        seen.push(last);
                    }
                    seen
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let (writes, runs) = (THREADS * ROUNDS, runs.into_inner());
    clause!(
        CLAUSE,
        runs >= writes,
        "{writes} writes ran their closures {runs} times"
    );
    let counted = look(CLAUSE, &*store, |at| number(at, b"counter"));
    clause!(
        CLAUSE,
        counted == writes,
        "{writes} writes, each adding one, left {counted} ({runs} runs)"
    );
    seen.sort_unstable();
    let expected: Vec<u64> = (0..writes).collect();
    clause!(
        CLAUSE,
        seen == expected,
        "the last runs of the closures saw {seen:?}, not every value once"
    );
    let image = Image::read(CLAUSE, &*store);
    let entries = image.feed.len();
    clause!(
        CLAUSE,
        entries == 1,
        "one record has {entries} feed entries"
    );
    let attributes = String::from_utf8_lossy(&image.records[0].attributes);
    clause!(
        CLAUSE,
        attributes == (writes - 1).to_string(),
        "the record was last written by run {attributes}, not {}",
        writes - 1
    );
}
