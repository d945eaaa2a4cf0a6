//! A server is told that its store is a copy of an older moment: whatever fails meanwhile, the store is as it was, or it is marked as restored
//! and waits for the peers that may hold what was lost.

use crate::rng::Rng;
use crate::site::Site;
use crate::world::World;
use crate::writes::make;
use keyferry_kmip::{Attributes, DateTime};
use keyferry_s2s::{Peer, Policy, Selection, begin_restored, check_nothing_owed};
use keyferry_store::{
    Error, ErrorKind, Fault, Faulty, Incarnation, Memory, Position, Span, Store, StoreExt,
};
use std::ops::ControlFlow;

const NEW: Incarnation = Incarnation([9; 16]);

const NOW: DateTime = DateTime(1_800_000_000);

/// The server `a`, which `b` follows and may give back to.
fn followed_server() -> Site {
    let peer = |name: &str| Peer::new(name).may_follow().may_give_back();
    let policy = Policy::closed()
        .with("a.example", peer("a"))
        .with("b.example", peer("b"));
    let sites = ["a", "b"]
        .iter()
        .zip(1..)
        .map(|(name, seed)| Site::new(name, policy.clone(), Rng(seed)));
    let mut world = World::new(sites.collect());
    world.link("b of a", 1, 0, Peer::new("a"), Selection::everything());
    let now = world.now(0);
    assert!(make(&mut world.sites[0], now, "1", 1, Attributes::new()));
    world.time += 10_000;
    world.settle();
    world.sites.remove(0)
}

/// What a store says of itself: its place in history, and its state.
fn contents(store: &impl Store) -> (Position, Vec<(Vec<u8>, Vec<u8>)>) {
    let contents = store.view::<_, Error>(|snapshot| {
        let mut state = Vec::new();
        snapshot.state(&Span::prefix(b""), &mut |key, value| {
            state.push((key.to_vec(), value.to_vec()));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((snapshot.head()?, state))
    });
    contents.unwrap()
}

fn refuses_writes(store: &impl Store) -> bool {
    store
        .view::<_, Error>(|snapshot| Ok(check_nothing_owed(snapshot).is_err()))
        .unwrap()
}

#[cfg_attr(not(keyferry_planted), test)]
fn a_failure_while_a_store_is_marked_as_restored_leaves_nothing_half_done() {
    let server = followed_server();
    let older: Memory = server.disk.clone();
    let before = contents(&older);
    let (mut kept, mut marked) = (0, 0);
    for nth in 1..=3 {
        for fault in [
            Fault::Refuse(ErrorKind::Io),
            Fault::RollBack(ErrorKind::Full),
            Fault::LoseAnswer,
            Fault::Rerun,
            Fault::Crash { committed: false },
            Fault::Crash { committed: true },
        ] {
            let store = Faulty::new(older.clone());
            store.fail(nth, fault);
            let result = begin_restored(&store, &server.policy, NEW, NOW);
            assert!(result.is_ok() || nth == 1, "{fault:?} in write {nth}");
            let after = contents(store.inner());
            if after == before {
                assert!(result.is_err(), "{fault:?} in write {nth}");
                kept += 1;
            } else {
                assert_eq!(after.0.incarnation, NEW, "{fault:?} in write {nth}");
                assert!(
                    refuses_writes(store.inner()),
                    "{fault:?} in write {nth}: a restored store that accepts writes"
                );
                marked += 1;
            }
        }
    }
    // The first write is all of it: three of its faults keep the old store.
    assert_eq!((kept, marked), (3, 15));
}

#[cfg_attr(not(keyferry_planted), test)]
fn a_restored_store_takes_an_incarnation_that_it_did_not_have() {
    let server = followed_server();
    let before = contents(&server.disk);
    let error =
        begin_restored(&server.disk, &server.policy, before.0.incarnation, NOW).unwrap_err();
    assert_eq!(error.store_kind(), Some(ErrorKind::Misuse));
    assert_eq!(contents(&server.disk), before);
    assert!(!refuses_writes(&server.disk));
}
