//! The conformance kit over a file.

use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::Secret;
use keyferry_store::conformance::Subject;
use keyferry_store::{Incarnation, Sealed, Store};
use keyferry_store_redb::{Options, RedbStore};
use std::sync::Arc;
use tempfile::TempDir;

struct File(TempDir);

impl File {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(
            RedbStore::open(
                self.0.path().join("store.redb"),
                Options::new(Incarnation([7; 16])),
            )
            .unwrap(),
        )
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

/// The same with material sealed; each time it is opened the data key is another one.
struct UnderSeal(File);

impl UnderSeal {
    fn seal(store: Arc<dyn Store>) -> Arc<dyn Store> {
        let random = &mut SystemRandom::default();
        let sealed = Sealed::open(store, Arc::new(Ring), Secret::new(&[9; 32]), random).unwrap();
        sealed.new_data_key(random).unwrap();
        Arc::new(sealed)
    }
}

impl Subject for UnderSeal {
    fn open(&self) -> Arc<dyn Store> {
        UnderSeal::seal(self.0.open())
    }

    fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        UnderSeal::seal(self.0.store())
    }
}

mod under_seal {
    use super::*;
    keyferry_store::conformance!(|| Some(UnderSeal(File(tempfile::tempdir().unwrap()))));
}
