//! The clause `serialisable`.

use super::concurrent::{number, set};
use super::image::{look, scan};
use super::{Change, Subject, clause, must};
use crate::contract::{Index, Order, Span, Store};
use std::collections::BTreeSet;
use std::sync::Arc;

const CLAUSE: &str = "serialisable";
const THREADS: u64 = 4;
const ROUNDS: u64 = 20;

/// Clause `serialisable`: no lost update, no write skew, no phantom, no torn sum.
pub fn serialisable(subject: &dyn Subject) {
    let store = subject.open();
    let together = |work: &(dyn Fn(u64, &dyn Store) + Sync)| {
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let store = subject.beside(&store);
                scope.spawn(move || work(thread, &*store));
            }
        });
    };
    together(&|_, store| increment(store));
    check_counter(&store);
    together(&raise_flag);
    together(&take_names);
    check_names(&store);
    set_accounts(&store);
    together(&transfer);
}

/// Counts up, each time from what the transaction reads.
fn increment(store: &dyn Store) {
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
}

fn check_counter(store: &Arc<dyn Store>) {
    let counted = look(CLAUSE, &**store, |at| number(at, b"counter"));
    clause!(
        CLAUSE,
        counted == THREADS * ROUNDS,
        "{} increments left the counter at {counted}: updates were lost",
        THREADS * ROUNDS
    );
}

/// Sets one of two flags only while the other is down: write skew would leave both up.
fn raise_flag(thread: u64, store: &dyn Store) {
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
        let both = look(CLAUSE, store, |at| {
            Ok(number(at, mine)? + number(at, other)?)
        });
        clause!(
            CLAUSE,
            both < 2,
            "both flags are up, though each is set only while the other is down: write skew"
        );
        must(CLAUSE, "a write", store.write(&mut |tx| set(tx, mine, 0)));
    }
}

/// Takes each name unless a scan finds it taken.
fn take_names(thread: u64, store: &dyn Store) {
    for round in 0..ROUNDS {
        let name = format!("name {round}");
        let span = Span::exact(name.as_bytes());
        must(
            CLAUSE,
            "a write",
            store.write(&mut |tx| {
                if scan(tx, Index(1), &span, Order::Ascending)?.is_empty() {
                    let change = Change::new(format!("{thread}/{round}")).insert(1, &name);
                    tx.put(&[change.put()])?;
                }
                Ok(())
            }),
        );
    }
}

fn check_names(store: &Arc<dyn Store>) {
    let names = look(CLAUSE, &**store, |at| {
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
}

const ACCOUNTS: [&[u8]; 3] = [b"account 0", b"account 1", b"account 2"];

fn set_accounts(store: &Arc<dyn Store>) {
    must(
        CLAUSE,
        "a write",
        store.write(&mut |tx| {
            ACCOUNTS
                .iter()
                .try_for_each(|account| set(tx, account, 100))
        }),
    );
}

/// Moves amounts between accounts: every read sees the same sum.
fn transfer(thread: u64, store: &dyn Store) {
    for round in 0..ROUNDS {
        let (from, to) = (
            ACCOUNTS[(thread + round) as usize % 3],
            ACCOUNTS[(thread + round + 1) as usize % 3],
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
        let sum = look(CLAUSE, store, |at| {
            ACCOUNTS
                .iter()
                .try_fold(0, |sum, account| Ok(sum + number(at, account)?))
        });
        clause!(
            CLAUSE,
            sum == 300,
            "transfers among accounts changed their sum from 300 to {sum}"
        );
    }
}
