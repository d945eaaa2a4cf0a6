//! The fault-injecting store does what was planned, on the write that was planned.

use keyferry_store::{ErrorKind, Fault, Faulty, Incarnation, Memory, Result, Span, Store};
use std::ops::ControlFlow;
use std::time::Duration;

fn store() -> Faulty<Memory> {
    Faulty::new(Memory::new(Incarnation([1; 16])))
}

/// Writes one key and returns how often the closure ran.
fn write(store: &impl Store, key: &[u8]) -> (u32, Result<()>) {
    let mut runs = 0;
    let result = store.write(&mut |tx| {
        runs += 1;
        tx.set_state(key, Some(b"value"))
    });
    (runs, result)
}

fn keys(store: &impl Store) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    store
        .read(&mut |at| {
            keys.clear();
            at.state(&Span::all(), &mut |key, _| {
                keys.push(key.to_vec());
                Ok(ControlFlow::Continue(()))
            })
        })
        .unwrap();
    keys
}

#[test]
fn refused_before_the_closure() {
    let store = store();
    store.fail(1, Fault::Refuse(ErrorKind::Io));
    let (runs, result) = write(&store, b"a");
    assert_eq!((runs, result.unwrap_err().kind()), (0, ErrorKind::Io));
    assert!(keys(&store).is_empty());
}

#[test]
fn rolled_back_after_the_closure() {
    let store = store();
    store.fail(2, Fault::RollBack(ErrorKind::Full));
    write(&store, b"a").1.unwrap();
    let (runs, result) = write(&store, b"b");
    assert_eq!((runs, result.unwrap_err().kind()), (1, ErrorKind::Full));
    write(&store, b"c").1.unwrap();
    assert_eq!(keys(&store), [b"a", b"c"]);
    assert_eq!(store.writes(), 3);
}

#[test]
fn acknowledgement_lost() {
    let store = store();
    store.fail(1, Fault::LoseAnswer);
    let (runs, result) = write(&store, b"a");
    assert_eq!((runs, result.unwrap_err().kind()), (1, ErrorKind::Io));
    assert_eq!(keys(store.inner()), [b"a"]);
}

#[test]
fn run_again_once() {
    let store = store();
    store.fail(1, Fault::Rerun);
    let (runs, result) = write(&store, b"a");
    assert_eq!(runs, 2);
    result.unwrap();
    assert_eq!(keys(&store), [b"a"]);
}

#[test]
fn a_delayed_commit_is_a_commit() {
    let store = store();
    store.fail(1, Fault::Delay(Duration::from_millis(20)));
    let (runs, result) = write(&store, b"a");
    assert_eq!(runs, 1);
    result.unwrap();
    assert_eq!(keys(&store), [b"a"]);
}

#[test]
fn after_a_crash_nothing_answers_until_the_store_is_revived() {
    for committed in [false, true] {
        let store = store();
        write(&store, b"a").1.unwrap();
        store.fail(1, Fault::Crash { committed });
        let (runs, result) = write(&store, b"b");
        assert_eq!((runs, result.unwrap_err().kind()), (1, ErrorKind::Io));
        let (runs, result) = write(&store, b"c");
        assert_eq!((runs, result.unwrap_err().kind()), (0, ErrorKind::Io));
        assert_eq!(
            store.read(&mut |_| Ok(())).unwrap_err().kind(),
            ErrorKind::Io
        );
        assert!(store.has_crashed());
        store.revive();
        assert_eq!(
            keys(&store),
            if committed {
                vec![b"a", b"b"]
            } else {
                vec![b"a"]
            }
        );
        write(&store, b"d").1.unwrap();
    }
}
