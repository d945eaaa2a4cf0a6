//! The memory store, and the fault-injecting wrapper around it, pass the conformance kit.
#![cfg(feature = "conformance")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::Secret;
use keyferry_store::conformance::Subject;
use keyferry_store::{Fault, Faulty, Incarnation, Memory, Sealed, Store};
use std::sync::Arc;

struct InMemory;

impl Subject for InMemory {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(Memory::new(Incarnation([7; 16])))
    }

    fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        store
    }
}

/// Every third write meets a conflict.
struct Conflicts;

impl Subject for Conflicts {
    fn open(&self) -> Arc<dyn Store> {
        let store = Faulty::new(Memory::new(Incarnation([7; 16])));
        for nth in (3..3000).step_by(3) {
            store.fail(nth, Fault::Rerun);
        }
        Arc::new(store)
    }

    fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        store
    }
}

/// Sealed, with a data key for each time it is opened anew.
struct UnderSeal;

impl UnderSeal {
    fn seal(store: Arc<dyn Store>) -> Arc<dyn Store> {
        let key = Secret::new(&[9; 32]);
        let sealed = Sealed::open(store, Arc::new(Ring), key, &mut SystemRandom::default()).unwrap();
        sealed.new_data_key(&mut SystemRandom::default()).unwrap();
        Arc::new(sealed)
    }
}

impl Subject for UnderSeal {
    fn open(&self) -> Arc<dyn Store> {
        UnderSeal::seal(InMemory.open())
    }

    fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        store
    }
}

mod memory {
    use super::*;
    keyferry_store::conformance!(|| Some(InMemory));

    #[test]
    fn more_seeds() {
        for seed in 2..30 {
            keyferry_store::conformance::against_model_seeded(&InMemory, seed, 60);
        }
    }
}

mod with_conflicts {
    use super::*;
    keyferry_store::conformance!(|| Some(Conflicts));
}

mod under_seal {
    use super::*;
    keyferry_store::conformance!(|| Some(UnderSeal));
}
