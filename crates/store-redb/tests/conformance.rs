//! The conformance kit over a file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use keyferry_store::conformance::Subject;
use keyferry_store::{Incarnation, Store};
use keyferry_store_redb::{Options, RedbStore};
use std::sync::Arc;
use tempfile::TempDir;

struct File(TempDir);

impl File {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(RedbStore::open(self.0.path().join("store.redb"), Options::new(Incarnation([7; 16]))).unwrap())
    }
}

impl Subject for File {
    fn open(&self) -> Arc<dyn Store> {
        self.store()
    }

    fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        self.store()
    }
}

keyferry_store::conformance!(|| Some(File(tempfile::tempdir().unwrap())));
