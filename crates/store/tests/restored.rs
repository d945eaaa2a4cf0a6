//! A store that is told from outside that it is a copy of an older moment takes a new incarnation, and peers can tell the two apart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use keyferry_store::{Error, ErrorKind, Incarnation, Memory, SnapshotExt, StoreExt};

#[test]
fn a_restored_store_takes_an_incarnation_that_it_did_not_have() {
    let store = Memory::new(Incarnation([1; 16]));
    let incarnation = || store.view::<_, Error>(|at| at.incarnation()).unwrap();
    assert_eq!(
        store.restored(Incarnation([1; 16])).unwrap_err().kind(),
        ErrorKind::Misuse
    );
    assert_eq!(incarnation(), Incarnation([1; 16]));
    store.restored(Incarnation([2; 16])).unwrap();
    assert_eq!(incarnation(), Incarnation([2; 16]));
}
