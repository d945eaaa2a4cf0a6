//! A store that is marked as a copy of an older moment gets a new incarnation and a new reign, both or neither.

use keyferry_store::{
    Error, ErrorKind, Fault, Faulty, Incarnation, Memory, SnapshotExt, Store, StoreExt,
    TransactionExt,
};

const OLD: Incarnation = Incarnation([1; 16]);
const NEW: Incarnation = Incarnation([2; 16]);

fn mark_restored(store: &impl Store, incarnation: Incarnation) -> Result<(), Error> {
    store.transact(|transaction| transaction.mark_restored(incarnation))
}

fn incarnation_and_reign(store: &impl Store) -> (Incarnation, Incarnation) {
    store
        .view::<_, Error>(|at| Ok((at.incarnation()?, at.reign()?)))
        .unwrap()
}

#[test]
fn a_restored_store_takes_an_incarnation_that_it_did_not_have() {
    let store = Memory::new(OLD);
    assert_eq!(
        mark_restored(&store, OLD).unwrap_err().kind(),
        ErrorKind::Misuse
    );
    assert_eq!(incarnation_and_reign(&store), (OLD, OLD));
    mark_restored(&store, NEW).unwrap();
    assert_eq!(incarnation_and_reign(&store), (NEW, NEW));
}

#[test]
fn a_crash_leaves_the_old_incarnation_and_reign_or_the_new_ones() {
    let reign = Incarnation([3; 16]);
    for committed in [false, true] {
        let store = Faulty::new(Memory::new(OLD));
        store.begin_reign(reign.0).unwrap();
        store.fail(1, Fault::Crash { committed });
        assert!(mark_restored(&store, NEW).is_err());
        store.revive();
        let expected = if committed { (NEW, NEW) } else { (OLD, reign) };
        assert_eq!(incarnation_and_reign(&store), expected);
    }
}
