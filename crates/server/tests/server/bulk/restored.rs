//! A server that is told that it was restored: one transaction gives its store a new incarnation and notes who may give back what it lost.

use crate::bulk::drive::*;
use crate::bulk::follows::{begin, follower, issuer, pass};
use keyferry_s2s::{PendingGiveBack, UpstreamOptions, begin_restored};
use keyferry_store::{ErrorKind, Fault, Faulty, Incarnation, Memory, SnapshotExt, Store, StoreExt};

const NEW: Incarnation = Incarnation([7; 16]);

/// Whether the store has the new incarnation, and whether its server waits for its replica.
fn effects(store: &impl Store) -> (bool, bool) {
    store
        .view::<_, keyferry_store::Error>(|at| {
            Ok((
                at.incarnation()? == NEW,
                !PendingGiveBack::all(at).unwrap().is_empty(),
            ))
        })
        .unwrap()
}

#[test]
fn a_crash_while_a_store_is_marked_as_restored_leaves_nothing_half_done() {
    let (a, b) = (issuer(), follower("b"));
    fill(&a);
    begin(&b, &UpstreamOptions::default());
    pass(&b, &a);
    let earlier: Memory = a.store.inner().clone();
    let (policy, now) = (a.server.node().policy.clone(), a.now().wall);
    let mut seen = Vec::new();
    for nth in 1..=3 {
        for fault in [
            Fault::Refuse(ErrorKind::Io),
            Fault::RollBack(ErrorKind::Full),
            Fault::LoseAnswer,
            Fault::Crash { committed: false },
            Fault::Crash { committed: true },
        ] {
            let store = Faulty::new(earlier.clone());
            store.fail(nth, fault);
            let _ = begin_restored(&store, &policy, NEW, now);
            assert_eq!(store.writes(), 1, "one transaction does all of it");
            let (is_new, waits) = effects(store.inner());
            assert_eq!(is_new, waits, "{fault:?} in write {nth}");
            seen.push(is_new);
        }
    }
    assert!(seen.contains(&true) && seen.contains(&false));
}
