//! The memory store, and the fault-injecting wrapper around it, pass the conformance kit.

use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::Secret;
use keyferry_store::conformance::{CLAUSES, Subject};
use keyferry_store::{Fault, Faulty, Incarnation, Memory, Sealed, Store};
use std::sync::Arc;
use std::time::Duration;

struct InMemory;

impl Subject for InMemory {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(Memory::new(Incarnation([7; 16])))
    }

    fn reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        store
    }
}

/// Every third write meets a conflict, and some commits are slow.
struct Faults;

impl Subject for Faults {
    fn open(&self) -> Arc<dyn Store> {
        let store = Faulty::new(Memory::new(Incarnation([7; 16])));
        for nth in (3..3000).step_by(3) {
            store.fail(nth, Fault::Rerun);
        }
        for nth in (10..3000).step_by(21) {
            store.fail(nth, Fault::Delay(Duration::from_millis(1)));
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
        let sealed =
            Sealed::open(store, Arc::new(Ring), key, &mut SystemRandom::default()).unwrap();
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

/// The contract names every clause that the kit has a test for, and no other.
#[test]
fn every_clause_of_the_contract_has_its_test() {
    let contract = include_str!("../../src/contract.rs");
    let section = contract
        .split("/// # Contract")
        .nth(1)
        .and_then(|rest| rest.split("pub trait Store").next())
        .unwrap();
    let clauses: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("/// - `")?.split('`').next())
        .collect();
    let kit = include_str!("../../src/conformance.rs");
    let listed = kit
        .split("@each $factory;")
        .nth(1)
        .and_then(|rest| rest.split(");").next())
        .unwrap();
    let mut tests: Vec<&str> = listed.split_whitespace().collect();
    assert!(
        CLAUSES
            .iter()
            .map(|(clause, _)| *clause)
            .eq(tests.iter().copied())
    );
    assert_eq!(
        tests.pop(),
        Some("against_model"),
        "the last one compares with a model"
    );
    assert_eq!(clauses, tests);
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

mod with_faults {
    use super::*;
    keyferry_store::conformance!(|| Some(Faults));
}

mod under_seal {
    use super::*;
    keyferry_store::conformance!(|| Some(UnderSeal));
}
