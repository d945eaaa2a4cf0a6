//! A bundle of some objects: what goes, and what the recipient hears of what went earlier.

use crate::support::*;
use keyferry_bundle::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::Selection;

fn seal_some(keys: &Keys, from: &Host, selection: Selection) -> Result<(Sealed, Vec<u8>)> {
    let readers = [keys.identity.recipient()];
    let home = &from.server.node().home;
    let options = SealOptions {
        batch: 4,
        selection,
        ..SealOptions::new(home, "beta", &keys.sign, &readers, NOW, LATER)
    };
    let mut file = Vec::new();
    seal(&*from.store, &options, &mut file).map(|sealed| (sealed, file))
}

fn group(name: &str) -> Selection {
    Selection::everything().with(V::ObjectGroup(name.into()))
}

#[test]
fn a_group_goes_and_the_manifest_names_it() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let ids: Vec<String> = (0..30).map(|n| alpha.key(n, &format!("key {n}"))).collect();
    for id in ids.iter().step_by(3) {
        alpha.rename(id, "branch");
    }
    let (sealed, file) = seal_some(&keys, &alpha, group("branch")).unwrap();
    assert_eq!(
        (sealed.objects, sealed.left, sealed.manifest.objects),
        (10, 0, 10)
    );
    let read = manifest(&file[..], &keys.trusted, &keys.identity).unwrap();
    assert_eq!(read.selection, group("branch"));
    assert!(!read.selection.is_everything());
    let (_, report) = keys.open(&file, &beta);
    assert_eq!((report.counts.created, beta.count()), (10, 10));
    assert!(
        ids.iter()
            .enumerate()
            .all(|(n, id)| beta.held(id).is_some() == (n % 3 == 0))
    );
}

#[test]
fn wildcards_types_and_states_select_as_in_a_locate() {
    let (alpha, keys) = (Host::new("alpha"), Keys::new());
    let ids: Vec<String> = (0..12).map(|n| alpha.key(n, &format!("key {n}"))).collect();
    alpha.revoke(&ids[0], RevocationReasonCode::SUPERSEDED);
    let of = |value| {
        seal_some(&keys, &alpha, Selection::everything().with(value))
            .unwrap()
            .0
            .objects
    };
    assert_eq!(of(V::Name(Name::text("key 1*"))), 3);
    assert_eq!(of(V::State(State::DEACTIVATED)), 1);
    assert_eq!(of(V::ObjectType(ObjectType::SYMMETRIC_KEY)), 12);
    assert_eq!(
        of(V::ObjectType(ObjectType::CERTIFICATE)),
        1,
        "the one that was offered and is not to be used any more"
    );
}

#[test]
fn bundles_are_numbered_by_recipient() {
    let (alpha, keys) = (Host::new("alpha"), Keys::new());
    let numbers: Vec<i64> = (0..3)
        .map(|_| {
            seal_some(&keys, &alpha, Selection::everything())
                .unwrap()
                .0
                .manifest
                .number
        })
        .collect();
    assert_eq!(numbers, [1, 2, 3]);
}

#[test]
fn a_tombstone_goes_where_the_object_was_offered_and_nowhere_else() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let ids: Vec<String> = (0..4).map(|n| alpha.key(n, &format!("key {n}"))).collect();
    let active = || Selection::everything().with(V::State(State::ACTIVE));
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
    assert_eq!(
        (sealed.objects, sealed.tombstones, sealed.manifest.objects),
        (3, 1, 3)
    );
    let (_, report) = keys.open(&file, &beta);
    assert_eq!(
        (
            report.counts.updated,
            report.counts.unchanged,
            report.counts.failed
        ),
        (2, 1, 0),
        "{report:?}"
    );
    assert_eq!(beta.state(&ids[0]), State::COMPROMISED);
    assert_eq!(beta.state(&ids[1]), State::DESTROYED);
    assert_eq!(beta.state(&ids[2]), State::ACTIVE);
    assert!(beta.held(&ids[3]).is_none(), "of that one beta never heard");
}

#[test]
fn a_list_and_what_its_links_reach_go_and_the_manifest_says_so() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let ids: Vec<String> = (0..9).map(|n| alpha.key(n, &format!("key {n}"))).collect();
    let target = |n: usize| {
        V::Link(Link {
            link_type: LinkType::NEXT_LINK,
            target: ids[n].as_str().into(),
            extra: Default::default(),
        })
    };
    alpha.add(&ids[0], target(4));
    alpha.add(&ids[4], target(8));
    let listed =
        || Selection::everything().listed([ids[0].as_str().into(), ids[2].as_str().into()]);
    let (sealed, file) = seal_some(&keys, &alpha, listed().with_links()).unwrap();
    assert_eq!((sealed.objects, sealed.manifest.objects), (4, 4));
    let read = manifest(&file[..], &keys.trusted, &keys.identity).unwrap();
    assert_eq!(read.selection, listed().with_links());
    assert_eq!(
        read.selection.to_string(),
        "2 listed objects, and what their Links reach"
    );
    keys.open(&file, &beta);
    assert!((0..9).all(|n| beta.held(&ids[n]).is_some() == [0, 2, 4, 8].contains(&n)));
    // Off the list, and destroyed: whoever was offered it hears so.
    alpha.revoke(&ids[8], RevocationReasonCode::SUPERSEDED);
    alpha.destroy(&ids[8]);
    let (sealed, file) = seal_some(&keys, &alpha, listed()).unwrap();
    assert_eq!((sealed.objects, sealed.tombstones), (3, 1));
    keys.open(&file, &beta);
    assert_eq!(beta.state(&ids[8]), State::DESTROYED);
    let none = seal_some(&keys, &alpha, Selection::everything().listed([]))
        .unwrap()
        .0;
    assert_eq!(
        (none.objects, none.tombstones),
        (1, 1),
        "an empty list selects nothing"
    );
}

#[test]
fn dates_select_as_a_range() {
    let (alpha, keys) = (Host::new("alpha"), Keys::new());
    for n in 0..4 {
        alpha.key(n, &format!("key {n}"));
    }
    let between = |from, to| {
        Selection::everything()
            .with(V::ActivationDate(from))
            .with(V::ActivationDate(to))
    };
    let sealed = |selection| seal_some(&keys, &alpha, selection).unwrap().0;
    assert_eq!(
        sealed(between(DateTime(NOW.0 - 9), DateTime(NOW.0 + 9))).objects,
        4
    );
    let none = sealed(between(DateTime(NOW.0 + 1), DateTime(i64::MAX)));
    assert_eq!(none.objects, 0);
    let range = format!(
        "all objects with Activation Date {}, Activation Date {}",
        NOW.0 + 1,
        i64::MAX
    );
    assert_eq!(none.manifest.selection.to_string(), range);
}

#[test]
fn a_list_that_no_manifest_holds_is_refused() {
    let (alpha, keys) = (Host::new("alpha"), Keys::new());
    let many = (0..40_000).map(|n| format!("{n:0200}").as_str().into());
    assert_eq!(
        seal_some(&keys, &alpha, Selection::everything().listed(many))
            .unwrap_err()
            .kind(),
        ErrorKind::Misuse
    );
}
