//! What an issuer takes back of one object, by who has sent it once and what is held of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::testing::{TestServer, given, with_material};
use keyferry_kmip::Secret;
use keyferry_kmip::spec::{AttributeValue, CryptographicAlgorithm, ObjectType, State};

/// A server with a key.
fn server() -> (TestServer, ObjectId) {
    let server = TestServer::new(Peer::may_give_back);
    let id = server.key("k", vec![AttributeValue::Comment("first".into())]);
    (server, id)
}

/// The same server before it had anything.
fn emptied() -> TestServer {
    TestServer::new(Peer::may_give_back)
}

/// The same without the receipt.
fn unproved(mut change: Change) -> Change {
    change.copy.receipt = None;
    change
}

/// Gives a change back; the effects are applied. Also says whether it was unproved.
fn give(server: &TestServer, change: Change) -> (Result<Outcome, Failure>, bool) {
    let peer = server.node.policy.peers_of("b").next().unwrap().clone();
    let mut unproved = false;
    let accepted =
        server.asking(|ask| accept_change(&server.node, ask, &peer, change, &mut unproved));
    let outcome = accepted.map(|(effects, outcome)| {
        assert_eq!(
            effects.changes.is_empty(),
            matches!(outcome, Outcome::Unchanged | Outcome::Forked),
            "{outcome:?}"
        );
        server.apply(effects);
        outcome
    });
    (outcome, unproved)
}

fn state(server: &TestServer, id: &ObjectId) -> State {
    server.record(id).unwrap().attributes.state().unwrap()
}

fn in_state(record: &Record, state: State) -> Record {
    let mut record = record.clone();
    record.attributes.set(AttributeValue::State(state));
    record
}

/// The record after one more change by its issuer.
fn changed(server: &TestServer, record: &Record, change: impl Fn(&mut Record)) -> Record {
    let mut after = record.clone();
    change(&mut after);
    let reign = server.asking(|ask| ask.snapshot.reign()).unwrap();
    server.node.advance(&mut after, reign, server.now().wall);
    after
}

#[test]
fn what_is_held_already_or_was_overtaken_changes_nothing() {
    let (server, id) = server();
    let record = server.record(&id).unwrap();
    let object = server.object(&id).unwrap();
    let same = given(&server, &record, &[]);
    assert_eq!(give(&server, same.clone()).0.unwrap(), Outcome::Unchanged);
    let same = with_material(same, &object);
    assert_eq!(give(&server, same.clone()).0.unwrap(), Outcome::Unchanged);
    server.change(&id, |record| {
        record
            .attributes
            .set(AttributeValue::Comment("second".into()));
    });
    assert_eq!(give(&server, same).0.unwrap(), Outcome::Unchanged);
    let comment = AttributeValue::Comment("second".into());
    assert!(
        server
            .record(&id)
            .unwrap()
            .attributes
            .iter()
            .any(|one| one.value == comment)
    );
}

#[test]
fn what_was_lost_comes_back_as_it_was_sent() {
    let (server, id) = server();
    let record = server.record(&id).unwrap();
    let object = server.object(&id).unwrap();
    let lost = with_material(given(&server, &record, &[]), &object);
    // A change that was lost.
    let later = changed(&server, &record, |record| {
        record
            .attributes
            .set(AttributeValue::Comment("second".into()));
    });
    assert_eq!(
        give(&server, given(&server, &later, &[])).0.unwrap(),
        Outcome::Updated
    );
    assert_eq!(server.object(&id), Some(object.clone()));
    let held = server.record(&id).unwrap();
    assert_eq!(held.copy_digest().unwrap(), later.copy_digest().unwrap());
    // The whole object; without its material it can't come back.
    let server = emptied();
    let bare = given(&server, &record, &[]);
    let refused = give(&server, bare).0.unwrap_err();
    assert!(
        refused.message().contains("the object itself is missing"),
        "{refused}"
    );
    let (outcome, was_unproved) = give(&server, lost.clone());
    assert_eq!((outcome.unwrap(), was_unproved), (Outcome::Created, false));
    assert_eq!(server.object(&id), Some(object));
    assert_eq!(server.record(&id).unwrap().fingerprint, record.fingerprint);
    // A destruction, with the object here and not.
    let destroyed = changed(&server, &record, |record| {
        record
            .attributes
            .set(AttributeValue::State(State::DESTROYED));
    });
    for server in [server, emptied()] {
        let was = server.record(&id).is_some();
        let outcome = give(&server, given(&server, &destroyed, &[])).0.unwrap();
        assert_eq!(
            outcome,
            if was {
                Outcome::Updated
            } else {
                Outcome::Created
            }
        );
        assert_eq!(
            (state(&server, &id), server.object(&id)),
            (State::DESTROYED, None)
        );
    }
}

#[test]
fn without_a_receipt_nothing_but_a_compromise_is_taken() {
    let (server, id) = server();
    let record = server.record(&id).unwrap();
    let later = changed(&server, &record, |record| {
        record
            .attributes
            .set(AttributeValue::Comment("made up".into()));
    });
    let (refused, was_unproved) = give(&server, unproved(given(&server, &later, &[])));
    let refused = refused.unwrap_err();
    assert_eq!(refused.cause(), Cause::PermissionDenied);
    assert!(was_unproved);
    assert_eq!(server.node.refusals.counts().unproved, 1);
    // A proved one is not counted.
    give(&server, given(&server, &record, &[])).0.unwrap();
    assert_eq!(server.node.refusals.counts().unproved, 1);
    for state_there in [State::DEACTIVATED, State::DESTROYED] {
        let made_up = unproved(given(&server, &in_state(&later, state_there), &[]));
        give(&server, made_up).0.unwrap_err();
        assert_eq!(state(&server, &id), State::ACTIVE);
    }
    // A compromise counts, by the State or by what the holder has raised; nothing else of it does.
    let made_up = unproved(given(&server, &in_state(&later, State::COMPROMISED), &[]));
    let (outcome, was_unproved) = give(&server, made_up.clone());
    assert_eq!((outcome.unwrap(), was_unproved), (Outcome::Updated, true));
    assert_eq!(state(&server, &id), State::COMPROMISED);
    let comment = AttributeValue::Comment("made up".into());
    let held = server.record(&id).unwrap();
    assert!(held.attributes.iter().all(|one| one.value != comment));
    assert!(held.stamp.sequence > record.stamp.sequence);
    assert_eq!(
        give(&server, made_up.clone()).0.unwrap(),
        Outcome::Unchanged
    );
    assert_eq!(server.record(&id).unwrap().stamp, held.stamp);
    let (server, id) = self::server();
    let raised = Change {
        raised: Some(State::COMPROMISED),
        ..unproved(given(&server, &record, &[]))
    };
    assert_eq!(give(&server, raised).0.unwrap(), Outcome::Updated);
    assert_eq!(state(&server, &id), State::COMPROMISED);
    // Of what is not here it says nothing.
    let server = emptied();
    let refused = give(&server, made_up).0.unwrap_err();
    assert_eq!(refused.cause(), Cause::PermissionDenied);
}

#[test]
fn of_a_copy_that_lacks_attributes_the_state_is_taken() {
    let (server, id) = server();
    let record = server.record(&id).unwrap();
    let later = changed(&server, &record, |record| {
        record
            .attributes
            .set(AttributeValue::State(State::DEACTIVATED));
        record
            .attributes
            .set(AttributeValue::Comment("second".into()));
    });
    let same = given(&server, &record, &["Comment"]);
    assert_eq!(give(&server, same).0.unwrap(), Outcome::Unchanged);
    let partial = given(&server, &later, &["Comment"]);
    assert_eq!(give(&server, partial.clone()).0.unwrap(), Outcome::Updated);
    assert_eq!(state(&server, &id), State::DEACTIVATED);
    let comment = AttributeValue::Comment("first".into());
    assert!(
        server
            .record(&id)
            .unwrap()
            .attributes
            .iter()
            .any(|one| one.value == comment)
    );
    // A destruction erases, and what is not here does not come by half.
    let destroyed = given(&server, &in_state(&later, State::DESTROYED), &["Comment"]);
    assert_eq!(give(&server, destroyed).0.unwrap(), Outcome::Updated);
    assert_eq!(
        (state(&server, &id), server.object(&id)),
        (State::DESTROYED, None)
    );
    let refused = give(&emptied(), partial).0.unwrap_err();
    assert!(refused.message().contains("lacks attributes"), "{refused}");
}

#[test]
fn a_compromise_comes_with_what_is_taken_back() {
    let (server, id) = server();
    let record = server.record(&id).unwrap();
    let object = server.object(&id).unwrap();
    // The replica knows that it is compromised, which the copy does not say.
    let lost = Change {
        raised: Some(State::COMPROMISED),
        ..with_material(given(&server, &record, &[]), &object)
    };
    let server = emptied();
    assert_eq!(give(&server, lost).0.unwrap(), Outcome::Created);
    assert_eq!(state(&server, &id), State::COMPROMISED);
    // A change that says so itself is taken as it is.
    let compromised = changed(&server, &record, |record| {
        record
            .attributes
            .set(AttributeValue::State(State::COMPROMISED));
    });
    let (server, id) = self::server();
    assert_eq!(
        give(&server, given(&server, &compromised, &[])).0.unwrap(),
        Outcome::Updated
    );
    assert_eq!(server.record(&id).unwrap().stamp, compromised.stamp);
}

#[test]
fn another_object_under_the_same_id_is_refused() {
    let (server, id) = server();
    let record = server.record(&id).unwrap();
    let other = Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(&[99; 16]));
    let fingerprint = server.node.fingerprint(&other).unwrap();
    let later = changed(&server, &record, |record| {
        record.fingerprint = Some(fingerprint.clone())
    });
    let change = with_material(given(&server, &later, &[]), &other);
    let refused = give(&server, change).0.unwrap_err();
    assert!(
        refused.message().contains("other key material"),
        "{refused}"
    );
    // By its Digest alone.
    let digest = |object: &Object| {
        let mut attributes = Attributes::new();
        server.node.digest(&mut attributes, object);
        attributes
            .all(keyferry_kmip::spec::tag::DIGEST)
            .next()
            .unwrap()
            .clone()
    };
    let object = server.object(&id).unwrap();
    server.change(&id, |record| record.attributes.push(digest(&object)));
    let held = server.record(&id).unwrap();
    let later = changed(&server, &held, |record| {
        record.attributes.remove(keyferry_kmip::spec::tag::DIGEST);
        record.attributes.push(digest(&other));
    });
    let refused = give(&server, given(&server, &later, &[])).0.unwrap_err();
    assert!(
        refused.message().contains("other key material"),
        "{refused}"
    );
    // Of another type.
    let mut later = changed(&server, &held, |_| {});
    later.object_type = ObjectType::SECRET_DATA;
    let refused = give(&server, given(&server, &later, &[])).0.unwrap_err();
    assert!(
        refused.message().contains("another Object Type"),
        "{refused}"
    );
    assert_eq!(server.record(&id).unwrap().stamp, held.stamp);
}

#[test]
fn the_same_stamp_with_other_attributes_is_a_fork() {
    let (server, id) = server();
    let record = server.record(&id).unwrap();
    let mut other = record.clone();
    other
        .attributes
        .set(AttributeValue::Comment("other".into()));
    assert_eq!(
        give(&server, given(&server, &other, &[])).0.unwrap(),
        Outcome::Forked
    );
}
