//! How forks are kept and decided.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::policy::Peer;
use crate::testing::TestServer;
use keyferry_kmip::spec::AttributeValue;
use keyferry_store::Incarnation;

/// A server with a key, and the versions of it that other reigns have made.
fn server() -> (TestServer, ObjectId) {
    let server = TestServer::new(|peer: Peer| peer);
    let id = server.key("k", Vec::new());
    (server, id)
}

/// A version of the object by another reign of its issuer.
fn version(server: &TestServer, id: &ObjectId, reign: u8, sequence: i64, state: State) -> Fork {
    let mut record = server.record(id).unwrap();
    record.stamp.incarnation = Incarnation([reign; 16]).0.to_vec();
    record.stamp.sequence = sequence;
    let first = Stamp {
        sequence: 1,
        ..record.stamp.clone()
    };
    record.lineage = vec![first].into();
    record.attributes.set(AttributeValue::State(state));
    let comment = format!("by reign {reign}, change {sequence}");
    record
        .attributes
        .set(AttributeValue::Comment(comment.as_str().into()));
    Fork::of(&record, &"b".into(), server.now().wall)
}

fn keep(server: &TestServer, fork: Fork) -> Result<(), Failure> {
    let effects = server.asking(|ask| {
        let (number, held) = ask.snapshot.by_object_id(&fork.id)?.unwrap();
        match server.node.issues(&held) {
            true => keep_at_issuer(&server.node, ask, (number, &held), fork),
            false => keep_at_replica(&server.node, ask, (number, held), fork),
        }
    })?;
    server.apply(effects);
    Ok(())
}

fn forks(server: &TestServer, id: &ObjectId) -> Vec<Fork> {
    server
        .asking(|ask| Fork::of_object(ask.snapshot, id))
        .unwrap()
}

fn sequences(server: &TestServer, id: &ObjectId) -> Vec<i64> {
    let mut all: Vec<i64> = forks(server, id)
        .iter()
        .map(|fork| fork.stamp.sequence)
        .collect();
    all.sort_unstable();
    all
}

fn decide(server: &TestServer, fork: &Fork, keep: ForkVersion) -> Result<()> {
    let (id, stamp) = (&fork.id, &fork.stamp);
    resolve_fork(
        &server.store,
        &server.node,
        id,
        stamp,
        keep,
        "pat",
        server.now(),
    )
}

#[test]
fn forks_are_counted_and_found_by_their_object() {
    let (server, id) = server();
    let other = server.key("other", Vec::new());
    let count = || server.asking(|ask| Fork::count(ask.snapshot)).unwrap();
    assert_eq!((count(), forks(&server, &id).len()), (0, 0));
    keep(&server, version(&server, &id, 20, 3, State::ACTIVE)).unwrap();
    keep(&server, version(&server, &id, 21, 3, State::ACTIVE)).unwrap();
    keep(&server, version(&server, &other, 20, 3, State::ACTIVE)).unwrap();
    assert_eq!(
        (
            count(),
            forks(&server, &id).len(),
            forks(&server, &other).len()
        ),
        (3, 2, 1)
    );
    assert!(forks(&server, &other).iter().all(|fork| fork.id == other));
}

#[test]
fn of_one_line_the_last_change_is_kept() {
    let (server, id) = server();
    for sequence in [3, 5, 4, 5] {
        keep(&server, version(&server, &id, 20, sequence, State::ACTIVE)).unwrap();
    }
    assert_eq!(sequences(&server, &id), [5]);
    keep(&server, version(&server, &id, 21, 2, State::ACTIVE)).unwrap();
    assert_eq!(sequences(&server, &id), [2, 5]);
}

#[test]
fn a_decision_is_about_one_fork_and_covers_its_line_as_far_as_it_was_decided() {
    for kept in [ForkVersion::Held, ForkVersion::Other] {
        let (server, id) = server();
        let other = server.key("other", Vec::new());
        let held = server.record(&id).unwrap();
        let fork = version(&server, &id, 20, 3, State::ACTIVE);
        keep(&server, fork.clone()).unwrap();
        keep(&server, version(&server, &id, 21, 7, State::ACTIVE)).unwrap();
        // One that does not exist, by its stamp or by its object.
        let unknown = version(&server, &id, 20, 4, State::ACTIVE);
        assert_eq!(
            decide(&server, &unknown, kept).unwrap_err().kind(),
            ErrorKind::Relation
        );
        let elsewhere = version(&server, &other, 20, 3, State::ACTIVE);
        assert_eq!(
            decide(&server, &elsewhere, kept).unwrap_err().kind(),
            ErrorKind::Relation
        );
        decide(&server, &fork, kept).unwrap();
        assert_eq!(sequences(&server, &id), [7]);
        let now = server.record(&id).unwrap();
        let comment = |record: &Record| {
            let mut comments = record.attributes.all(keyferry_kmip::spec::tag::COMMENT);
            comments.next().cloned()
        };
        let expected = match kept {
            ForkVersion::Held => comment(&held),
            ForkVersion::Other => fork
                .attributes
                .all(keyferry_kmip::spec::tag::COMMENT)
                .next()
                .cloned(),
        };
        assert_eq!(comment(&now), expected);
        // What was decided is a change that descends from both.
        for side in [(&held.stamp, &held.lineage[..]), fork.history()] {
            assert_eq!(descent(side, (&now.stamp, &now.lineage)), Descent::Newer);
        }
        let decisions = server
            .asking(|ask| ForkDecision::all(ask.snapshot))
            .unwrap();
        assert_eq!((decisions.len(), decisions[0].by.as_str()), (1, "pat"));
        let against = match kept {
            ForkVersion::Held => &fork.stamp,
            ForkVersion::Other => &held.stamp,
        };
        assert_eq!(decisions[0].stamp, *against);
        // The decision says nothing of another object.
        keep(&server, version(&server, &other, 20, 3, State::ACTIVE)).unwrap();
        assert_eq!(sequences(&server, &other), [3]);
    }
}

#[test]
fn what_was_decided_against_is_not_named_again() {
    let (server, id) = server();
    let fork = version(&server, &id, 20, 3, State::ACTIVE);
    keep(&server, fork.clone()).unwrap();
    decide(&server, &fork, ForkVersion::Held).unwrap();
    // Nor what came before it; what came behind it is.
    keep(&server, version(&server, &id, 20, 3, State::ACTIVE)).unwrap();
    keep(&server, version(&server, &id, 20, 2, State::ACTIVE)).unwrap();
    assert_eq!(sequences(&server, &id), [0; 0]);
    keep(&server, version(&server, &id, 20, 4, State::ACTIVE)).unwrap();
    assert_eq!(sequences(&server, &id), [4]);
}

#[test]
fn states_join_whatever_is_decided() {
    for kept in [ForkVersion::Held, ForkVersion::Other] {
        for is_issuer in [true, false] {
            let (server, id) = server();
            if !is_issuer {
                server.change(&id, |record| record.stamp.issuer = "c".into());
            }
            let fork = version(&server, &id, 20, 9, State::COMPROMISED);
            keep(&server, fork.clone()).unwrap();
            let state = || server.record(&id).unwrap().stored_state();
            assert_eq!(state(), Some(State::COMPROMISED));
            let copy = server.record(&id).unwrap().attributes.state();
            assert_eq!(
                copy == Some(State::ACTIVE),
                !is_issuer,
                "a copy stays verbatim"
            );
            decide(&server, &fork, kept).unwrap();
            assert_eq!(state(), Some(State::COMPROMISED));
            assert_eq!(sequences(&server, &id), [0; 0]);
            if !is_issuer && kept == ForkVersion::Other {
                assert_eq!(server.record(&id).unwrap().stamp, fork.stamp);
            }
        }
    }
}

#[test]
fn the_held_side_keeps_its_state_when_the_other_is_behind() {
    let (server, id) = server();
    server.change(&id, |record| {
        record.stamp.issuer = "c".into();
        record
            .attributes
            .set(AttributeValue::State(State::DEACTIVATED));
    });
    let fork = version(&server, &id, 20, 9, State::ACTIVE);
    keep(&server, fork.clone()).unwrap();
    decide(&server, &fork, ForkVersion::Other).unwrap();
    let now = server.record(&id).unwrap();
    assert_eq!(now.attributes.state(), Some(State::ACTIVE));
    assert_eq!(now.stored_state(), Some(State::DEACTIVATED));
}

#[test]
fn a_change_that_descends_from_a_fork_ends_it() {
    let (server, id) = server();
    let fork = version(&server, &id, 20, 9, State::ACTIVE);
    keep(&server, fork.clone()).unwrap();
    let ended = |record: &Record| {
        server
            .asking(|ask| remove_ended_forks(ask.snapshot, record))
            .unwrap()
            .state
    };
    let held = server.record(&id).unwrap();
    assert_eq!(ended(&held), []);
    let mut later = held.clone();
    (later.stamp, later.lineage) = (fork.stamp.clone(), fork.lineage.clone());
    assert!(ended(&later).iter().all(|(_, value)| value.is_none()));
    assert!(!ended(&later).is_empty());
    later.stamp.sequence += 1;
    assert!(!ended(&later).is_empty());
    later.stamp.sequence = fork.stamp.sequence - 1;
    assert_eq!(ended(&later), []);
}
