//! Whatever interrupts the taking of a bundle, it goes on where it was.

use crate::support::*;
use keyferry_bundle::*;
use keyferry_crypto::SystemRandom;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::{Answered, Ask, Report, Responder};
use keyferry_store::{Fault, Faulty, Incarnation, Memory, Store, StoreExt};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the items that are answered.
struct Counting<'a>(&'a dyn Responder, AtomicU64);

impl Responder for Counting<'_> {
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Answered, Failure>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.respond(ask, item)
    }
}

const OBJECTS: u64 = 43;
const SEGMENT: u64 = 10;

/// A bundle of five segments with objects in them, one of which is refused at `beta`.
fn sealed() -> (Host, Keys, Vec<u8>) {
    let (alpha, keys) = (Host::new("alpha"), Keys::new());
    for n in 0..OBJECTS as u8 {
        let id = alpha.key(n, &format!("key {n}"));
        if n % 7 == 3 {
            alpha.revoke(&id, RevocationReasonCode::CESSATION_OF_OPERATION);
            alpha.destroy(&id);
        }
    }
    let file = keys.seal_by(&alpha, SEGMENT as usize).1;
    (alpha, keys, file)
}

fn take(keys: &Keys, file: &[u8], node: &dyn Responder, store: &dyn Store) -> Result<Report> {
    let from = caller("alpha's");
    let receiving = Receiving {
        responder: node,
        store,
        caller: &from,
        now: now(),
        again: false,
        restoring: None,
    };
    let options = OpenOptions::new("beta", &keys.trusted, &keys.identity, NOW);
    receiving
        .take(file, &options, &mut SystemRandom::new())
        .map(|(_, report)| report)
}

fn count(store: &dyn Store) -> u64 {
    store
        .view::<_, keyferry_store::Error>(|snapshot| snapshot.count())
        .unwrap()
}

#[test]
fn a_crash_at_any_write_repeats_one_segment_at_the_most() {
    let (_alpha, keys, file) = sealed();
    for committed in [false, true] {
        for nth in 1..=5 {
            let beta = Host::new("beta");
            let store = Faulty::new(Memory::new(Incarnation([9; 16])));
            store.fail(nth, Fault::Crash { committed });
            let node = Counting(&**beta.server.node(), AtomicU64::new(0));
            assert_eq!(
                take(&keys, &file, &node, &store).unwrap_err().kind(),
                ErrorKind::Store
            );
            let whole = (nth - u64::from(!committed)) * SEGMENT;
            assert_eq!(
                count(store.inner()),
                whole.min(OBJECTS),
                "whole segments alone, crash at write {nth}"
            );
            store.revive();
            let report = take(&keys, &file, &node, &store).unwrap();
            let counts = &report.counts;
            assert_eq!(
                (counts.asked, counts.created, counts.unchanged),
                (OBJECTS as i64, OBJECTS as i64, 0),
                "{report:?}"
            );
            assert!(counts.finished && counts.add_up());
            let answered = node.1.load(Ordering::Relaxed);
            assert!(
                answered <= OBJECTS + if committed { 0 } else { SEGMENT },
                "{answered} answered, crash at write {nth}"
            );
            assert_eq!(count(store.inner()), OBJECTS);
        }
    }
}

#[test]
fn a_crash_at_every_write_in_turn_comes_to_the_end() {
    let (_alpha, keys, file) = sealed();
    let beta = Host::new("beta");
    let refused = beta.key(200, "key 5");
    let store = Faulty::new(Memory::new(Incarnation([9; 16])));
    // The store of beta has a key of that name, so one object of the first segment fails, and is told in the end.
    let name = Attributes::new().with(V::Name(Name::text("key 5")));
    let record = beta.server.node().new_record(
        Incarnation([9; 16]),
        refused.as_str().into(),
        ObjectType::SYMMETRIC_KEY,
        name,
    );
    let own = keyferry_store::Effects::change(None, record, keyferry_store::Material::Keep);
    store
        .transact::<_, keyferry_store::Error>(|tx| own.apply(tx).map(drop))
        .unwrap();
    let mut crashes = 0;
    let report = loop {
        store.fail(
            1,
            Fault::Crash {
                committed: crashes % 2 == 0,
            },
        );
        store.fail(2, Fault::Crash { committed: true });
        match take(&keys, &file, &**beta.server.node(), &store) {
            Ok(report) => break report,
            Err(_) => crashes += 1,
        }
        store.revive();
        assert!(crashes < 20);
    };
    assert!(crashes >= 5, "{crashes}");
    assert_eq!(
        (
            report.counts.asked,
            report.counts.created,
            report.counts.failed
        ),
        (OBJECTS as i64, OBJECTS as i64 - 1, 1)
    );
    assert!(
        report.failures[0].message.contains("key 5"),
        "named in the first segment, told at the end: {report:?}"
    );
    assert_eq!(count(store.inner()), OBJECTS);
}

#[test]
fn a_cut_file_goes_on_when_it_is_whole() {
    let (alpha, keys, file) = sealed();
    for part in 1..8 {
        let beta = Host::new("beta");
        assert!(
            take(
                &keys,
                &file[..file.len() * part / 8],
                &**beta.server.node(),
                &*beta.store
            )
            .is_err()
        );
        let report = take(&keys, &file, &**beta.server.node(), &*beta.store).unwrap();
        assert_eq!(
            (report.counts.created, report.counts.asked),
            (OBJECTS as i64, OBJECTS as i64)
        );
        assert_eq!(alpha.copies(), beta.copies());
    }
}

#[test]
fn what_was_taken_is_told_once_more_and_not_applied() {
    let (_alpha, keys, file) = sealed();
    let beta = Host::new("beta");
    let node = Counting(&**beta.server.node(), AtomicU64::new(0));
    let first = take(&keys, &file, &node, &*beta.store).unwrap();
    assert_eq!(take(&keys, &file, &node, &*beta.store).unwrap(), first);
    assert_eq!(node.1.load(Ordering::Relaxed), OBJECTS);
}

#[test]
fn what_was_refused_is_taken_again_on_demand() {
    let (alpha, keys, file) = sealed();
    let beta = Host::new("beta");
    let own = beta.key(200, "key 5");
    assert_eq!(
        keys.take(&file, &beta, &*beta.store, false)
            .unwrap()
            .1
            .counts
            .failed,
        1
    );
    let delete = DeleteAttributeRequest {
        unique_identifier: Some(own.as_str().into()),
        current: [V::Name(Name::text("key 5"))].into_iter().collect(),
        ..DeleteAttributeRequest::default()
    };
    beta.delete(&delete);
    assert_eq!(
        keys.take(&file, &beta, &*beta.store, false)
            .unwrap()
            .1
            .counts
            .failed,
        1,
        "as it was"
    );
    let (_, report) = keys.take(&file, &beta, &*beta.store, true).unwrap();
    assert_eq!(
        (
            report.counts.failed,
            report.counts.created,
            report.counts.unchanged
        ),
        (0, 1, OBJECTS as i64 - 1)
    );
    assert_eq!(alpha.copies().len() as u64 + 1, beta.count());
}

#[test]
fn what_is_kept_of_a_bundle_goes_when_it_has_expired() {
    let (_alpha, keys, file) = sealed();
    let beta = Host::new("beta");
    let held = |prefix: &[u8]| {
        let mut held = 0;
        beta.store
            .read(&mut |snapshot| {
                held = 0;
                snapshot.state(&keyferry_store::Span::prefix(prefix), &mut |_, _| {
                    held += 1;
                    Ok(std::ops::ControlFlow::Continue(()))
                })
            })
            .unwrap();
        held
    };
    take(&keys, &file, &**beta.server.node(), &*beta.store).unwrap();
    assert_eq!(held(b"bundle/taken/"), 1);
    let alpha = Host::new("alpha");
    alpha.key(1, "later");
    let mut file = Vec::new();
    let readers = [keys.identity.recipient()];
    let late = DateTime(LATER.0 + 10);
    let home = &alpha.server.node().home;
    seal(
        &*alpha.store,
        &SealOptions::new(home, "beta", &keys.sign, &readers, LATER, late),
        &mut file,
    )
    .unwrap();
    let from = caller("alpha's");
    let later = Now {
        tick: Tick(0),
        wall: LATER,
    };
    let node = &**beta.server.node();
    let receiving = Receiving {
        responder: node,
        store: &*beta.store,
        caller: &from,
        now: later,
        again: false,
        restoring: None,
    };
    let options = OpenOptions::new("beta", &keys.trusted, &keys.identity, LATER);
    receiving
        .take(&file[..], &options, &mut SystemRandom::new())
        .unwrap();
    assert_eq!(held(b"bundle/taken/"), 1, "the new one alone");
}

/// What a later build may answer: an outcome that this one does not know.
#[derive(keyferry_ttlv::Encode)]
#[ttlv(tag = tag::VENDOR_EXTENSION)]
struct LaterAnswer {
    #[ttlv(tag = extension::OUTCOME)]
    outcome: ObjectType,
}

struct LaterBuild<'a>(&'a dyn Responder);

impl Responder for LaterBuild<'_> {
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Answered, Failure>> {
        let mut answered = self.0.respond(ask, item)?;
        if let Ok(answered) = &mut answered {
            let later = LaterAnswer {
                outcome: ObjectType(99),
            };
            if let Some(ours) = &mut answered.response.message_extension {
                let of = context(keyferry_ttlv::Version::V2_1);
                ours.vendor_extension =
                    keyferry_ttlv::Raw::of(tag::VENDOR_EXTENSION, &later, of).unwrap();
            }
        }
        Some(answered)
    }
}

#[test]
fn an_outcome_of_a_later_build_is_not_counted_as_created() {
    let (_alpha, keys, file) = sealed();
    let beta = Host::new("beta");
    let store = Memory::new(Incarnation([9; 16]));
    let report = take(&keys, &file, &LaterBuild(&**beta.server.node()), &store).unwrap();
    let counts = &report.counts;
    assert_eq!((counts.created, counts.failed), (0, counts.asked));
    assert!(counts.add_up() && counts.asked == OBJECTS as i64);
}
