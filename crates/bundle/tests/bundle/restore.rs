//! A server that lost everything takes it back from a backup server.

use crate::support::*;
use keyferry_bundle::*;
use keyferry_crypto::SystemRandom;
use keyferry_kmip::spec::*;
use keyferry_s2s::Report;

/// A bundle that the backup server `beta` made for `alpha`, applied to `to`.
fn give_back(keys: &Keys, beta: &Host, to: &Host, word: bool) -> Report {
    let readers = [keys.identity.recipient()];
    let mut file = Vec::new();
    let options = SealOptions::new(
        &beta.server.node().home,
        "alpha",
        &keys.sign,
        &readers,
        NOW,
        LATER,
    );
    seal(&*beta.store, &options, &mut file).unwrap();
    let trusted = [Signer::new("beta", keys.sign.verifying_key())];
    let (from, node) = (caller("beta's"), &**to.server.node());
    let restoring = word.then(|| Restoring {
        node,
        owner: Some("client".into()),
    });
    let receiving = Receiving {
        responder: node,
        store: &*to.store,
        caller: &from,
        now: now(),
        again: false,
        restoring,
    };
    let options = OpenOptions::new("alpha", &trusted, &keys.identity, NOW);
    receiving
        .take(&file[..], &options, &mut SystemRandom::new())
        .unwrap()
        .1
}

#[test]
fn states_are_intact_and_the_server_goes_on() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let ids: Vec<String> = (0..12).map(|n| alpha.key(n, &format!("key {n}"))).collect();
    alpha.revoke(&ids[1], RevocationReasonCode::KEY_COMPROMISE);
    alpha.revoke(&ids[2], RevocationReasonCode::CESSATION_OF_OPERATION);
    alpha.destroy(&ids[2]);
    keys.open(&keys.seal(&alpha), &beta);
    let before = alpha.copies();
    let anew = Host::new("alpha");
    assert_eq!(
        give_back(&keys, &beta, &anew, false).counts.failed,
        12,
        "not without a person's word"
    );
    let report = give_back(&keys, &beta, &anew, true);
    assert_eq!(
        (report.counts.created, report.counts.failed),
        (12, 0),
        "{report:?}"
    );
    assert_eq!(anew.copies(), before);
    assert_eq!(
        (anew.state(&ids[1]), anew.state(&ids[2])),
        (State::COMPROMISED, State::DESTROYED)
    );
    // It is the master again, and the backup server sees that its changes descend from what it holds.
    anew.revoke(&ids[3], RevocationReasonCode::SUPERSEDED);
    let (_, report) = keys.open(&keys.seal(&anew), &beta);
    assert_eq!(
        (
            report.counts.updated,
            report.counts.unchanged,
            report.counts.failed
        ),
        (1, 11, 0),
        "{report:?}"
    );
    assert_eq!(beta.state(&ids[3]), State::DEACTIVATED);
}

#[test]
fn what_is_held_is_not_weakened() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let ids: Vec<String> = (0..3).map(|n| alpha.key(n, &format!("key {n}"))).collect();
    keys.open(&keys.seal(&alpha), &beta);
    alpha.revoke(&ids[0], RevocationReasonCode::KEY_COMPROMISE);
    alpha.revoke(&ids[1], RevocationReasonCode::CESSATION_OF_OPERATION);
    alpha.destroy(&ids[1]);
    let report = give_back(&keys, &beta, &alpha, true);
    assert_eq!(
        (report.counts.unchanged, report.counts.failed),
        (3, 0),
        "{report:?}"
    );
    assert_eq!(
        (alpha.state(&ids[0]), alpha.state(&ids[1])),
        (State::COMPROMISED, State::DESTROYED)
    );
}

#[test]
fn material_that_is_known_to_be_compromised_comes_back_so() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let id = alpha.key(7, "one");
    keys.open(&keys.seal(&alpha), &beta);
    let anew = Host::new("alpha");
    let other = anew.key(7, "the same material");
    anew.revoke(&other, RevocationReasonCode::KEY_COMPROMISE);
    give_back(&keys, &beta, &anew, true);
    assert_eq!(anew.state(&id), State::COMPROMISED);
    let (_, report) = keys.open(&keys.seal(&anew), &beta);
    assert_eq!(
        (report.counts.updated, report.counts.failed),
        (1, 0),
        "the backup server hears of it: {report:?}"
    );
    assert_eq!(beta.state(&id), State::COMPROMISED);
}

#[test]
fn a_later_change_comes_back_to_an_older_state() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let id = alpha.key(1, "one");
    let early = keys.seal(&alpha);
    alpha.revoke(&id, RevocationReasonCode::KEY_COMPROMISE);
    keys.open(&keys.seal(&alpha), &beta);
    // The server was set up from its own old bundle, and then learns what the backup server knows.
    let (old, anew) = (Host::new("beta"), Host::new("alpha"));
    keys.open(&early, &old);
    assert_eq!(give_back(&keys, &old, &anew, true).counts.created, 1);
    assert_eq!(anew.state(&id), State::ACTIVE);
    let report = give_back(&keys, &beta, &anew, true);
    assert_eq!(
        (report.counts.updated, report.counts.failed),
        (1, 0),
        "{report:?}"
    );
    assert_eq!(anew.state(&id), State::COMPROMISED);
}

#[test]
fn a_compromise_that_only_the_backup_server_knows_comes_back() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let (id, other) = (alpha.key(7, "one"), alpha.key(8, "two"));
    beta.key(7, "the same material");
    let early = keys.seal(&alpha);
    keys.open(&early, &beta);
    beta.revoke(&id, RevocationReasonCode::KEY_COMPROMISE);
    assert_eq!(
        (alpha.state(&id), beta.state(&id)),
        (State::ACTIVE, State::COMPROMISED)
    );
    // Where it is held still, and where it was lost.
    for to in [&alpha, &Host::new("alpha")] {
        give_back(&keys, &beta, to, true);
        assert_eq!(
            (to.state(&id), to.state(&other)),
            (State::COMPROMISED, State::ACTIVE)
        );
        let stamp = to.held(&id).unwrap().0.stamp;
        assert_eq!(
            stamp.sequence, 2,
            "a change of its issuer, which goes on to all"
        );
        let next = keys.seal(to);
        let gamma = Host::new("beta");
        keys.open(&early, &gamma);
        let (_, report) = keys.open(&next, &gamma);
        // What beta issues, alpha may not relay.
        assert_eq!(
            (
                report.counts.updated,
                report.counts.unchanged,
                report.counts.failed
            ),
            (1, 1, 1),
            "{report:?}"
        );
        assert_eq!(gamma.state(&id), State::COMPROMISED);
    }
}
