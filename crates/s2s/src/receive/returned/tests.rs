//! What an issuer takes in the place of its own record that has rotted.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::relation::rotten::Scrub;
use crate::testing::{TestServer, given, rewrite, with_material};
use keyferry_kmip::spec::{AttributeValue, CryptographicAlgorithm, State};
use keyferry_kmip::{Object, Secret};
use keyferry_store::{MaterialChange, Record, SnapshotExt, StoreExt};

fn server() -> (TestServer, ObjectId) {
    let server = TestServer::new(Peer::may_give_back);
    let id = server.key("k", vec![AttributeValue::Comment("first".into())]);
    server.key("another", Vec::new());
    (server, id)
}

fn number_of(server: &TestServer, id: &ObjectId) -> RecordNumber {
    let found = server.asking(|ask| ask.snapshot.by_object_id(id));
    found.unwrap().unwrap().0
}

/// Another key stands in the place of the material of an object, and the slow reading has found it.
fn rot(server: &TestServer, id: &ObjectId) {
    let number = number_of(server, id);
    let other = Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(&[99; 16]));
    let material = keyferry_store::record::material_of(&other).unwrap();
    server
        .store
        .transact::<_, keyferry_store::Error>(|at| {
            let other = MaterialChange::Set(&material);
            rewrite(at, number, |_, _| {}, (&[], other))
        })
        .unwrap();
    let scrub = server.node.scrub(&server.store, 100, server.now().wall);
    assert_eq!(scrub.unwrap().found, 1);
}

/// Lists an object as the slow reading does.
fn list(server: &TestServer, id: &ObjectId) {
    let number = number_of(server, id);
    let rotten = RottenRecord {
        number: i64::try_from(number.0).unwrap(),
        id: Some(id.clone()),
        why: "found".into(),
        since: server.now().wall,
        extra: Extra::NONE,
    };
    let mut effects = Effects::none();
    let bytes = keyferry_store::record::bytes_of(&rotten).unwrap();
    effects.state.push((keys::rotten(number), Some(bytes)));
    server.apply(effects);
}

fn listed(server: &TestServer) -> usize {
    let all = server.asking(|ask| RottenRecord::all(ask.snapshot));
    all.unwrap().len()
}

/// Gives these back; the effects are applied. Says how many were taken, and how many were not.
fn give(server: &TestServer, changes: Vec<Change>) -> (i64, i64) {
    let request = GiveBackRequest {
        relation: "r".into(),
        session: 1,
        reign: None,
        changes,
        last: true,
        mends: Some(true),
        extra: Extra::NONE,
    };
    let cx = keyferry_kmip::context(keyferry_ttlv::Version::V2_1);
    let peer = server.node.policy.peers_of("b").next().unwrap().clone();
    let answered = server
        .asking(|ask| take(&server.node, ask, &peer, request))
        .unwrap();
    let response: GiveBackResponse = answered.response.payload(cx).unwrap();
    server.apply(answered.effects);
    assert_eq!(response.forked, 0);
    (response.taken, response.failed)
}

fn alarms(server: &TestServer) -> Vec<AlarmKind> {
    let all = server.asking(|ask| Alarm::all(ask.snapshot)).unwrap();
    all.into_iter().map(|alarm| alarm.kind).collect()
}

/// A record and its object before they have rotted, and the server after that.
fn rotted() -> (TestServer, Record, Object) {
    let (server, id) = server();
    let before = (server.record(&id).unwrap(), server.object(&id).unwrap());
    rot(&server, &id);
    assert_eq!(listed(&server), 1);
    (server, before.0, before.1)
}

#[test]
fn the_very_copy_that_was_sent_takes_the_place_once() {
    let (server, record, object) = rotted();
    let back = || with_material(given(&server, &record, &[]), &object);
    let number = number_of(&server, &record.id);
    assert_eq!(give(&server, vec![back(), back()]), (1, 1));
    assert_eq!(
        (listed(&server), number_of(&server, &record.id)),
        (0, number)
    );
    assert_eq!(server.record(&record.id).unwrap(), record);
    assert_eq!(server.object(&record.id), Some(object.clone()));
    let scrub = server.asking(|ask| Scrub::of(ask.snapshot)).unwrap();
    assert_eq!((scrub.found, scrub.mended), (1, None));
    // It is right again: nothing takes its place any more.
    assert_eq!(give(&server, vec![back()]), (0, 1));
    assert_eq!(alarms(&server), []);
}

/// What is given back of an object that has rotted, and is not right.
fn wrong(what: &str, server: &TestServer, record: &Record, object: &Object) -> Change {
    let back = |record: &Record| with_material(given(server, record, &[]), object);
    let mut other = record.clone();
    match what {
        "another change" => {
            other.stamp.sequence += 1;
            back(&other)
        }
        "an object that is not listed" => {
            other.id.identifier = "never made".into();
            back(&other)
        }
        "without an attribute" => with_material(given(server, record, &["Comment"]), object),
        "without a receipt" => {
            let mut change = back(record);
            change.copy.receipt = None;
            change
        }
        "other material" => {
            let other =
                Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(&[98; 16]));
            with_material(given(server, record, &[]), &other)
        }
        _ => given(server, record, &[]),
    }
}

#[test]
fn nothing_else_takes_the_place() {
    for (what, is_alarming) in [
        ("another change", false),
        ("an object that is not listed", false),
        ("without an attribute", false),
        ("without a receipt", true),
        ("other material", true),
        ("without the object", false),
    ] {
        let (server, record, object) = rotted();
        let change = wrong(what, &server, &record, &object);
        assert_eq!(give(&server, vec![change]), (0, 1), "{what}");
        assert_eq!(listed(&server), 1, "{what}");
        assert_eq!(!alarms(&server).is_empty(), is_alarming, "{what}");
    }
}

#[test]
fn a_destroyed_object_takes_its_place_without_material() {
    let (server, id) = server();
    server.change(&id, |record| {
        record
            .attributes
            .set(AttributeValue::State(State::DESTROYED));
    });
    let record = server.record(&id).unwrap();
    list(&server, &id);
    let back = given(&server, &record, &[]);
    assert_eq!(give(&server, vec![back]), (1, 0));
    assert_eq!((listed(&server), server.object(&id)), (0, None));
    assert_eq!(server.record(&id).unwrap().stamp, record.stamp);
}

#[test]
fn only_what_was_sent_is_wanted_and_only_of_whom_may_give_back() {
    let (server, record, _) = rotted();
    let number = number_of(&server, &record.id);
    let wanted = |peer: Peer| {
        server.asking(|ask| {
            let mut account = Account::in_bundles(ask.snapshot, "b").unwrap();
            wanted_back(&server.node, ask.snapshot, &peer, &mut account).unwrap()
        })
    };
    let peer = || Peer::new("b").may_give_back();
    assert_eq!(wanted(peer()), []);
    let account = server.asking(|ask| Account::in_bundles(ask.snapshot, "b"));
    account.unwrap().note(&server.store, &[number]).unwrap();
    assert_eq!(wanted(peer()), std::slice::from_ref(&record.id));
    assert_eq!(wanted(Peer::new("b")), []);
    // Several at once, and not without end.
    let more: Vec<ObjectId> = (0..AT_ONCE)
        .map(|n| server.key(&format!("more {n}"), Vec::new()))
        .collect();
    for id in &more {
        let number = number_of(&server, id);
        let account = server.asking(|ask| Account::in_bundles(ask.snapshot, "b"));
        account.unwrap().note(&server.store, &[number]).unwrap();
        list(&server, id);
        let count = wanted(peer()).len();
        assert!(count > 1 && count <= AT_ONCE, "{count}");
    }
    assert_eq!(wanted(peer()).len(), AT_ONCE);
    assert!(is_own(&server.node, &record.id));
    for change in [
        |id: &mut ObjectId| id.server = "c".into(),
        |id: &mut ObjectId| id.instance = vec![8],
    ] {
        let mut other = record.id.clone();
        change(&mut other);
        assert!(!is_own(&server.node, &other));
    }
}
