//! What becomes of one copy that comes in, by what is held of its object.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::policy::Peer;
use crate::testing::TestServer;
use crate::wire::receipt::Receipt;
use keyferry_kmip::Secret;
use keyferry_kmip::spec::{AttributeValue, CryptographicAlgorithm, ObjectType};
use keyferry_store::{Incarnation, Lineage, ObjectId, Stamp};
use keyferry_ttlv::Extra;

fn replica() -> TestServer {
    TestServer::new(|peer: Peer| peer)
}

fn key(byte: u8) -> Object {
    Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(&[byte; 16]))
}

fn id() -> ObjectId {
    ObjectId {
        server: "c".into(),
        instance: vec![9; 16],
        identifier: "k".into(),
    }
}

/// The change of this number of an object of the server `c`.
fn record(sequence: i64, state: State) -> Record {
    let mut stamp = Stamp::first(&"c".into(), Incarnation([5; 16]));
    stamp.sequence = sequence;
    Record {
        id: id(),
        identifier: "k".into(),
        owner: None,
        stamp,
        lineage: Lineage::new(),
        object_type: ObjectType::SYMMETRIC_KEY,
        attributes: [AttributeValue::State(state)].into_iter().collect(),
        overlay: None,
        fingerprint: None,
        lost: Vec::new(),
        extra: Extra::NONE,
    }
}

/// As it comes by a relation.
fn by_relation(mut record: Record) -> Record {
    record.overlay.get_or_insert_with(Overlay::default);
    record
}

fn incoming(record: Record, object: Option<Object>) -> Incoming {
    Incoming {
        digest: record.copy_digest().unwrap(),
        by_relation: record.overlay.is_some(),
        record,
        object,
        observed: false,
        from: "c".into(),
        speaker: Speaker::Issuer,
        receipts: ToldReceipts::default(),
        overrules: false,
        rotted: false,
    }
}

fn receipt() -> Receipt {
    Receipt {
        proof: vec![1; 48],
        identifier: "k".into(),
        extra: Extra::NONE,
    }
}

/// As the relay `b` sends it, with a receipt of its own.
fn relayed(incoming: Incoming) -> Incoming {
    Incoming {
        from: "b".into(),
        speaker: Speaker::Relay,
        receipts: ToldReceipts {
            issuer: Some(receipt()),
            relay: Some(receipt()),
        },
        ..incoming
    }
}

/// As its issuer sends it, with its receipt.
fn direct(incoming: Incoming) -> Incoming {
    Incoming {
        receipts: ToldReceipts {
            issuer: Some(receipt()),
            relay: None,
        },
        ..incoming
    }
}

fn merge(server: &TestServer, incoming: Incoming) -> Result<Outcome, Failure> {
    let merged =
        server.asking(|ask| merge_copy(&server.node, ask, &Collisions::default(), incoming))?;
    server.apply(merged.effects);
    Ok(merged.outcome)
}

fn held(server: &TestServer) -> Record {
    server.record(&id()).unwrap()
}

fn overlay(server: &TestServer) -> Overlay {
    held(server).overlay.unwrap_or_default()
}

/// Leaves the mark of a withdrawn copy, with a State that is known.
fn withdraw(server: &TestServer, state: Option<State>) {
    let held = held(server);
    let number = server
        .asking(|ask| ask.snapshot.by_object_id(&id()))
        .unwrap()
        .unwrap()
        .0;
    let mut after = held.clone();
    let overlay = after.overlay.get_or_insert_with(Overlay::default);
    (overlay.withdrawn, overlay.state) = (Some(true), state);
    server.apply(Effects::change(
        Some((number, held)),
        after,
        Material::Remove,
    ));
}

#[test]
fn a_withdrawn_copy_comes_back_by_a_relation_or_with_a_newer_change() {
    let active = || record(1, State::ACTIVE);
    let server = replica();
    assert_eq!(
        merge(&server, incoming(active(), Some(key(1)))).unwrap(),
        Outcome::Created
    );
    withdraw(&server, None);
    // The same change again, by a push or an old bundle: nobody would tell of it afterwards.
    assert_eq!(
        merge(&server, incoming(active(), Some(key(1)))).unwrap(),
        Outcome::Unchanged
    );
    assert!(held(&server).is_withdrawn() && server.object(&id()).is_none());
    // Without its material it can't come back.
    let bare = merge(&server, incoming(by_relation(active()), None)).unwrap_err();
    assert_eq!(bare.cause(), Cause::MissingData);
    assert_eq!(
        merge(&server, incoming(by_relation(active()), Some(key(1)))).unwrap(),
        Outcome::Created
    );
    assert!(!held(&server).is_withdrawn() && server.object(&id()) == Some(key(1)));
    // A newer one, whichever way it comes.
    withdraw(&server, None);
    let newer = record(2, State::ACTIVE);
    assert_eq!(
        merge(&server, incoming(newer, Some(key(1)))).unwrap(),
        Outcome::Created
    );
    assert!(!held(&server).is_withdrawn());
}

#[test]
fn the_state_that_is_known_of_a_withdrawn_copy_counts_when_it_comes_back() {
    for (known, there, related) in [
        (State::COMPROMISED, State::ACTIVE, false),
        (State::COMPROMISED, State::ACTIVE, true),
        (State::DESTROYED, State::ACTIVE, false),
        (State::DEACTIVATED, State::DESTROYED, false),
        (State::ACTIVE, State::ACTIVE, true),
    ] {
        let server = replica();
        merge(&server, incoming(record(1, State::ACTIVE), Some(key(1)))).unwrap();
        withdraw(&server, Some(known));
        let copy = record(2, there);
        let copy = if related { by_relation(copy) } else { copy };
        let object = (there != State::DESTROYED).then(|| key(1));
        merge(&server, incoming(copy, object)).unwrap();
        let is_over = known == State::DESTROYED || there == State::DESTROYED;
        let expected = if is_over { State::DESTROYED } else { known };
        assert_eq!(
            held(&server).stored_state(),
            Some(expected),
            "{known} {there}"
        );
        assert_eq!(server.object(&id()).is_none(), is_over, "{known} {there}");
        // What the copy says itself is not repeated beside it.
        let is_raised = known != there && there != State::DESTROYED;
        assert_eq!(
            overlay(&server).state.is_some(),
            is_raised,
            "{known} {there}"
        );
    }
}

#[test]
fn what_a_relay_made_up_gives_way_to_the_issuer_and_nothing_else_does() {
    // Whom the first copy came from, whom the other material comes from, and whether it is taken.
    for (first_by_relay, then_by_relay, taken) in [
        (true, false, true),
        (true, true, false),
        (false, false, false),
        (false, true, false),
    ] {
        let server = replica();
        let copy = |byte, by_relay| {
            let copy = incoming(by_relation(record(1, State::ACTIVE)), Some(key(byte)));
            if by_relay {
                relayed(copy)
            } else {
                direct(copy)
            }
        };
        merge(&server, copy(1, first_by_relay)).unwrap();
        let outcome = merge(&server, copy(2, then_by_relay));
        match taken {
            true => assert_eq!(outcome.unwrap(), Outcome::Updated),
            false => assert_eq!(outcome.unwrap_err().cause(), Cause::InvalidField),
        }
        let expected = if taken { key(2) } else { key(1) };
        assert_eq!(server.object(&id()), Some(expected));
        // What was made up is named.
        let forks = server
            .asking(|ask| Fork::of_object(ask.snapshot, &id()))
            .unwrap();
        assert_eq!(forks.len(), usize::from(taken));
    }
}

#[test]
fn the_same_key_in_another_format_is_another_object_of_the_issuer_alone() {
    // The same bytes, said to be of another algorithm.
    let other =
        || Object::symmetric_key(CryptographicAlgorithm::CAMELLIA, 128, Secret::new(&[1; 16]));
    for by_relay in [true, false] {
        let server = replica();
        let first = incoming(by_relation(record(1, State::ACTIVE)), Some(key(1)));
        let first = if by_relay {
            relayed(first)
        } else {
            direct(first)
        };
        merge(&server, first).unwrap();
        let fingerprints =
            [key(1), other()].map(|object| server.node.fingerprint(&object).unwrap());
        assert_eq!(fingerprints[0], fingerprints[1]);
        let same = direct(incoming(
            by_relation(record(1, State::ACTIVE)),
            Some(key(1)),
        ));
        assert_eq!(merge(&server, same).unwrap(), Outcome::Unchanged);
    }
    // Told by a relay first, it is overruled; told by the issuer, it stays.
    for (by_relay, outcome) in [(true, Outcome::Updated), (false, Outcome::Unchanged)] {
        let server = replica();
        let first = incoming(by_relation(record(1, State::ACTIVE)), Some(other()));
        let first = if by_relay {
            relayed(first)
        } else {
            direct(first)
        };
        merge(&server, first).unwrap();
        let told = direct(incoming(
            by_relation(record(1, State::ACTIVE)),
            Some(key(1)),
        ));
        assert_eq!(merge(&server, told).unwrap(), outcome);
        let expected = if by_relay { key(1) } else { other() };
        assert_eq!(server.object(&id()), Some(expected));
    }
}

#[test]
fn what_was_made_up_is_replaced_by_the_whole_object_or_by_its_end() {
    let first = || {
        relayed(incoming(
            by_relation(record(2, State::ACTIVE)),
            Some(key(1)),
        ))
    };
    let asked = |record: Record, object| Incoming {
        overrules: true,
        ..direct(incoming(by_relation(record), object))
    };
    let server = replica();
    merge(&server, first()).unwrap();
    let bare = merge(&server, asked(record(1, State::ACTIVE), None)).unwrap_err();
    assert_eq!(bare.cause(), Cause::MissingData);
    let outcome = merge(&server, asked(record(1, State::ACTIVE), Some(key(2)))).unwrap();
    assert_eq!(
        (outcome, server.object(&id())),
        (Outcome::Updated, Some(key(2)))
    );
    assert_eq!(held(&server).stamp.sequence, 1);
    assert_eq!(
        held(&server).fingerprint,
        Some(server.node.fingerprint(&key(2)).unwrap())
    );
    // A destroyed object has no material, whatever comes along.
    for object in [None, Some(key(2))] {
        let server = replica();
        merge(&server, first()).unwrap();
        let outcome = merge(&server, asked(record(1, State::DESTROYED), object)).unwrap();
        assert_eq!((outcome, server.object(&id())), (Outcome::Updated, None));
        assert_eq!(held(&server).fingerprint, None);
    }
}

#[test]
fn an_update_keeps_what_is_local_and_takes_what_the_relation_says() {
    let server = replica();
    let owned = |sequence, owner: Option<&str>, there: &str| {
        let mut record = by_relation(record(sequence, State::ACTIVE));
        record.owner = owner.map(Into::into);
        let overlay = record.overlay.as_mut().unwrap();
        overlay.owner = Some(there.into());
        overlay.without = vec!["Comment".into()];
        record
    };
    merge(
        &server,
        direct(incoming(
            owned(1, Some("alice here"), "alice"),
            Some(key(1)),
        )),
    )
    .unwrap();
    // The same owner there: whom policy names now does not count against what holds here.
    merge(
        &server,
        direct(incoming(owned(2, Some("bob here"), "alice"), None)),
    )
    .unwrap();
    assert_eq!(held(&server).owner.as_deref(), Some("alice here"));
    assert_eq!(overlay(&server).without, ["Comment"]);
    assert!(overlay(&server).receipts.is_some());
    // Another owner there: policy says whom it belongs to.
    merge(
        &server,
        direct(incoming(owned(3, Some("carol here"), "carol"), None)),
    )
    .unwrap();
    assert_eq!(held(&server).owner.as_deref(), Some("carol here"));
    assert_eq!(overlay(&server).owner.as_deref(), Some("carol"));
    // A second relation is added; what says nothing of an owner and has no receipt leaves neither.
    merge(
        &server,
        incoming(by_relation(record(4, State::ACTIVE)), None),
    )
    .unwrap();
    let overlay = overlay(&server);
    assert_eq!(
        (overlay.owner, overlay.receipts, overlay.without),
        (None, None, vec![])
    );
    merge(&server, incoming(record(5, State::ACTIVE), None)).unwrap();
}

#[test]
fn material_is_taken_once_and_erased_with_a_destruction() {
    let server = replica();
    merge(&server, incoming(record(1, State::ACTIVE), Some(key(1)))).unwrap();
    let known = held(&server).fingerprint;
    assert!(known.is_some());
    merge(&server, incoming(record(2, State::ACTIVE), None)).unwrap();
    assert_eq!(
        (held(&server).fingerprint, server.object(&id())),
        (known.clone(), Some(key(1)))
    );
    // The object comes along again: it is what is held.
    merge(&server, incoming(record(3, State::ACTIVE), Some(key(1)))).unwrap();
    assert_eq!(
        (held(&server).fingerprint, server.object(&id())),
        (known, Some(key(1)))
    );
    merge(&server, incoming(record(4, State::DESTROYED), Some(key(1)))).unwrap();
    assert_eq!(server.object(&id()), None);
}
