//! A new file can be read by its owner alone.

use keyferry_store::{Incarnation, Store};
use keyferry_store_redb::{Options, RedbStore};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn write(path: &Path) {
    let store = RedbStore::open(path, Options::new(Incarnation([7; 16]))).unwrap();
    store
        .write(&mut |tx| tx.set_state(b"key", Some(b"value")))
        .unwrap();
}

#[test]
fn a_new_file_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    // One that a crash left behind is not what is used.
    let left = folder.path().join("store.redb.new");
    fs::write(&left, "left behind").unwrap();
    write(&path);
    assert_eq!(mode(&path), 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_is_there_keeps_its_permissions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    write(&path);
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    write(&path);
    assert_eq!(mode(&path), 0o640);
}
