//! A bundle of some objects: what goes, and what the recipient hears of what went earlier.

use crate::support::*;
use keyferry_bundle::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;

fn seal_some(keys: &Keys, from: &Host, selection: Attributes) -> Result<(Sealed, Vec<u8>)> {
    let readers = [keys.identity.recipient()];
    let home = &from.server.node().home;
    let options = SealOptions { batch: 4, selection, ..SealOptions::new(home, "beta", &keys.sign, &readers, NOW, LATER) };
    let mut file = Vec::new();
    seal(&*from.store, &options, &mut file).map(|sealed| (sealed, file))
}

fn group(name: &str) -> Attributes {
    Attributes::new().with(V::ObjectGroup(name.into()))
}

#[test]
fn a_group_goes_and_the_manifest_names_it() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let ids: Vec<String> = (0..30).map(|n| alpha.key(n, &format!("key {n}"))).collect();
    for id in ids.iter().step_by(3) {
        alpha.rename(id, "branch");
    }
    let (sealed, file) = seal_some(&keys, &alpha, group("branch")).unwrap();
    assert_eq!((sealed.objects, sealed.left, sealed.manifest.objects), (10, 0, 10));
    let read = manifest(&file[..], &keys.trusted, &keys.identity).unwrap();
    assert_eq!(read.selection, group("branch"));
    assert!(!read.is_everything());
    let (_, report) = keys.open(&file, &beta);
    assert_eq!((report.counts.created, beta.count()), (10, 10));
    assert!(ids.iter().enumerate().all(|(n, id)| beta.held(id).is_some() == (n % 3 == 0)));
}

#[test]
fn wildcards_types_and_states_select_as_in_a_locate() {
    let (alpha, keys) = (Host::new("alpha"), Keys::new());
    let ids: Vec<String> = (0..12).map(|n| alpha.key(n, &format!("key {n}"))).collect();
    alpha.revoke(&ids[0], RevocationReasonCode::SUPERSEDED);
    let of = |value| seal_some(&keys, &alpha, Attributes::new().with(value)).unwrap().0.objects;
    assert_eq!(of(V::Name(Name::text("key 1*"))), 3);
    assert_eq!(of(V::State(State::DEACTIVATED)), 1);
    assert_eq!(of(V::ObjectType(ObjectType::SYMMETRIC_KEY)), 12);
    assert_eq!(of(V::ObjectType(ObjectType::CERTIFICATE)), 1, "the one that was offered and is not to be used any more");
}

#[test]
fn bundles_are_numbered_by_recipient() {
    let (alpha, keys) = (Host::new("alpha"), Keys::new());
    let numbers: Vec<i64> = (0..3).map(|_| seal_some(&keys, &alpha, Attributes::new()).unwrap().0.manifest.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn a_tombstone_goes_where_the_object_was_offered_and_nowhere_else() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let ids: Vec<String> = (0..4).map(|n| alpha.key(n, &format!("key {n}"))).collect();
    let active = || Attributes::new().with(V::State(State::ACTIVE));
    // Deactivated when the first bundle was made, so not offered.
    alpha.revoke(&ids[3], RevocationReasonCode::SUPERSEDED);
    keys.open(&seal_some(&keys, &alpha, active()).unwrap().1, &beta);
    assert_eq!(beta.count(), 3);
    alpha.revoke(&ids[0], RevocationReasonCode::KEY_COMPROMISE);
    alpha.revoke(&ids[1], RevocationReasonCode::CESSATION_OF_OPERATION);
    for id in [&ids[1], &ids[3]] {
        alpha.destroy(id);
    }
    let (sealed, file) = seal_some(&keys, &alpha, active()).unwrap();
    assert_eq!((sealed.objects, sealed.tombstones, sealed.manifest.objects), (3, 1, 3));
    let (_, report) = keys.open(&file, &beta);
    assert_eq!((report.counts.updated, report.counts.unchanged, report.counts.failed), (2, 1, 0), "{report:?}");
    assert_eq!(beta.state(&ids[0]), State::COMPROMISED);
    assert_eq!(beta.state(&ids[1]), State::DESTROYED);
    assert_eq!(beta.state(&ids[2]), State::ACTIVE);
    assert!(beta.held(&ids[3]).is_none(), "of that one beta never heard");
}
