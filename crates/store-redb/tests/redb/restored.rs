//! A copy of an older file is told to be one: it takes a new incarnation, keeps all else, and its history parts from the first one's.

use keyferry_store::{
    Error, Incarnation, MaterialChange, Position, Put, Snapshot, Store, StoreExt, TransactionExt,
};
use keyferry_store_redb::{Options, RedbStore};
use std::path::Path;

fn open(path: &Path) -> RedbStore {
    RedbStore::open(path, Options::new(Incarnation([7; 16]))).unwrap()
}

fn put(store: &impl Store, id: &[u8]) {
    let put = Put {
        number: None,
        id,
        attributes: id,
        material: MaterialChange::Keep,
        remove: &[],
        insert: &[],
        entry: id,
    };
    store.write(&mut |tx| tx.put(&[put]).map(|_| ())).unwrap();
}

fn head(store: &impl Store) -> Position {
    store.view::<_, Error>(|at| at.head()).unwrap()
}

#[test]
fn a_copy_of_an_older_file_takes_a_new_incarnation() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (
        folder.path().join("store.redb"),
        folder.path().join("copy.redb"),
    );
    let store = open(&path);
    put(&store, b"one");
    put(&store, b"two");
    let backup = head(&store);
    drop(store);
    std::fs::copy(&path, &copy).unwrap();
    let store = open(&path);
    put(&store, b"three");

    // Nobody but the caller can know that the copy is one.
    let restored = open(&copy);
    assert_eq!(head(&restored), backup);
    restored
        .transact::<_, Error>(|tx| tx.mark_restored(Incarnation([8; 16])))
        .unwrap();
    assert_eq!(
        head(&restored),
        Position {
            incarnation: Incarnation([8; 16]),
            ..backup
        }
    );
    drop(restored);
    let restored = open(&copy);
    put(&restored, b"another three");
    let (first, second) = (head(&store), head(&restored));
    assert_eq!(second.incarnation, Incarnation([8; 16]));
    assert_eq!(first.incarnation, Incarnation([7; 16]));
    // The same number stands for another commit, and what came before the copy for the same one.
    assert_eq!(first.number, second.number);
    assert_ne!(first.commit, second.commit);
    let commit = |at: &dyn Snapshot| at.commit_id(backup.number);
    assert_eq!(
        store.view::<_, Error>(commit).unwrap(),
        restored.view::<_, Error>(commit).unwrap()
    );
}
