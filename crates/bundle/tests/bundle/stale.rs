//! An old bundle revives nothing (rule 5 of docs/design.md).

use crate::support::*;
use keyferry_kmip::spec::*;

#[test]
fn what_was_destroyed_meanwhile_stays_destroyed() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let id = alpha.key(1, "one");
    let old = keys.seal(&alpha);
    keys.open(&old, &beta);
    assert_eq!(beta.state(&id), State::ACTIVE);
    alpha.revoke(&id, RevocationReasonCode::CESSATION_OF_OPERATION);
    alpha.destroy(&id);
    let (_, report) = keys.open(&keys.seal(&alpha), &beta);
    assert_eq!(report.counts.updated, 1, "{report:?}");
    for _ in 0..2 {
        assert_eq!(beta.state(&id), State::DESTROYED);
        assert!(beta.held(&id).unwrap().1.is_none());
        let (_, report) = keys.open(&old, &beta);
        assert_eq!((report.counts.unchanged, report.counts.failed), (1, 0));
    }
}

#[test]
fn a_tombstone_that_came_first_keeps_the_object_out() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let id = alpha.key(1, "one");
    let old = keys.seal(&alpha);
    alpha.revoke(&id, RevocationReasonCode::CESSATION_OF_OPERATION);
    alpha.destroy(&id);
    keys.open(&keys.seal(&alpha), &beta);
    let (_, report) = keys.open(&old, &beta);
    assert_eq!(
        (
            report.counts.created,
            report.counts.updated,
            report.counts.unchanged
        ),
        (0, 0, 1)
    );
    assert_eq!(
        (beta.state(&id), beta.held(&id).unwrap().1),
        (State::DESTROYED, None)
    );
}

#[test]
fn what_was_compromised_meanwhile_stays_compromised() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let id = alpha.key(1, "one");
    let old = keys.seal(&alpha);
    alpha.revoke(&id, RevocationReasonCode::KEY_COMPROMISE);
    keys.open(&keys.seal(&alpha), &beta);
    keys.open(&old, &beta);
    assert_eq!(beta.state(&id), State::COMPROMISED);
}

#[test]
fn a_bundle_that_tells_of_a_compromise_reaches_twins_of_its_issuer() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let (id, twin) = (alpha.key(1, "one"), alpha.key(1, "the same material"));
    let own = beta.key(1, "beta's own");
    keys.open(&keys.seal(&alpha), &beta);
    alpha.revoke(&id, RevocationReasonCode::KEY_COMPROMISE);
    keys.open(&keys.seal(&alpha), &beta);
    assert_eq!(beta.state(&id), State::COMPROMISED);
    assert_eq!(beta.state(&twin), State::COMPROMISED);
    assert_eq!(beta.state(&own), State::ACTIVE, "alpha can't speak of it");
}

#[test]
fn a_later_bundle_brings_what_changed() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let (one, _) = (alpha.key(1, "one"), alpha.key(2, "two"));
    keys.open(&keys.seal(&alpha), &beta);
    alpha.rename(&one, "red");
    let three = alpha.key(3, "three");
    let (_, report) = keys.open(&keys.seal(&alpha), &beta);
    assert_eq!(
        (
            report.counts.created,
            report.counts.updated,
            report.counts.unchanged
        ),
        (1, 1, 1)
    );
    assert_eq!(alpha.copies(), beta.copies());
    assert!(beta.held(&three).is_some());
}
