//! Forks, collisions, and states that never go back.

use crate::bulk::drive::*;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::{ForkDecision, ForkVersion, Strategy, resolve_fork};
use keyferry_store::StoreExt;
use keyferry_ttlv::Version;

#[test]
fn a_fork_is_kept_and_named_and_changes_nothing_but_the_state() {
    let (a, b) = (master(), replica());
    let client = a.client(Version::V2_1);
    let id = client.create(named("n"));
    let (early, object) = (a.record(&id), a.object(&id));
    client.add(&id, name("m")).unwrap();
    client.add(&id, name("o")).unwrap();
    transfer(&a, &b, Strategy::Import);
    let held = b.record(&id);
    let peer = b.client_named("a.example", Version::V2_1);
    // The master was restored to the early state and went another way: its new reign begins before what is held here.
    let mut restored = early.clone();
    restored.attributes.push(name("another"));
    let item = copy_item(&peer, &restored, object.clone(), |copy| {
        let first = copy.stamp.clone();
        copy.stamp.incarnation = vec![0x99; 16];
        copy.stamp.sequence = 2;
        copy.lineage = vec![first, copy.stamp.clone()].into();
    });
    peer.call_item::<ImportResponse>(item.clone()).unwrap();
    assert_eq!(b.record(&id), held);
    // Again, it is the same one.
    peer.call_item::<ImportResponse>(item).unwrap();
    assert_eq!(forks(&b).len(), 1);
    assert!(
        forks(&b)[0]
            .attributes
            .names()
            .any(|name| name.value == "another")
    );
    // The same stamp with other content is one, too.
    let mut altered = held.clone();
    altered.attributes.push(name("altered"));
    let item = copy_item(&peer, &altered, object.clone(), |_| {});
    peer.call_item::<ImportResponse>(item).unwrap();
    assert_eq!(b.record(&id), held);
    assert_eq!(forks(&b).len(), 2);
    // On the other line it was compromised: so it is here.
    let mut compromised = restored.clone();
    compromised.attributes.set(V::State(State::COMPROMISED));
    let item = copy_item(&peer, &compromised, object, |copy| {
        let first = copy.stamp.clone();
        copy.stamp.incarnation = vec![0x99; 16];
        copy.stamp.sequence = 3;
        copy.lineage = vec![
            first,
            keyferry_store::Stamp {
                sequence: 2,
                ..copy.stamp.clone()
            },
        ]
        .into();
    });
    peer.call_item::<ImportResponse>(item).unwrap();
    assert_eq!(
        (forks(&b).len(), b.client(Version::V2_1).state(&id)),
        (2, State::COMPROMISED)
    );
    assert_eq!(b.record(&id).attributes, held.attributes);
    // A person decides for it, here; the issuer has not yet.
    let other = forks(&b)
        .into_iter()
        .find(|fork| fork.stamp.incarnation == [0x99; 16])
        .unwrap();
    resolve_fork(
        &*b.store,
        b.server.node(),
        &other.id,
        &other.stamp,
        ForkVersion::Other,
        "somebody",
        b.now(),
    )
    .unwrap();
    assert_eq!(b.record(&id).stamp, other.stamp);
    assert_eq!(forks(&b).len(), 1);
    let decisions = b
        .store
        .view::<_, keyferry_s2s::Error>(|s| ForkDecision::all(s))
        .unwrap();
    assert_eq!((decisions.len(), decisions[0].by.as_str()), (1, "somebody"));
}

#[test]
fn the_same_object_with_other_material_or_type_is_a_collision() {
    let (a, b) = (master(), replica());
    let client = a.client(Version::V2_1);
    let id = client.register(key(&[1; 16]), named("n"));
    transfer(&a, &b, Strategy::Import);
    let held = b.record(&id);
    let peer = b.client_named("a.example", Version::V2_1);
    let with_digest = a.record(&id);
    let mut without = with_digest.clone();
    without.attributes.remove(tag::DIGEST);
    for (record, expected) in [
        // The material is not what the Digest beside it says; without one, it is not what is held.
        (with_digest, ResultReason::INVALID_MESSAGE),
        (without, ResultReason::INVALID_FIELD),
    ] {
        for sequence in [0, 1] {
            let item = copy_item(&peer, &record, Some(key(&[2; 16])), |copy| {
                copy.stamp.sequence += sequence
            });
            assert_eq!(reason(peer.call_item::<ImportResponse>(item)), expected);
        }
    }
    let mut other = a.record(&id);
    other.object_type = ObjectType::SECRET_DATA;
    let secret = Object::secret_data(SecretDataType::SEED, Secret::new(&[1; 16]));
    let item = copy_item(&peer, &other, Some(secret), |copy| copy.stamp.sequence += 1);
    assert_eq!(
        reason(peer.call_item::<ImportResponse>(item)),
        ResultReason::INVALID_FIELD
    );
    assert_eq!((b.record(&id), b.object(&id)), (held, Some(key(&[1; 16]))));
}

#[test]
fn a_taken_identifier_fails_that_object_alone() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let ids = fill(&a);
        let local = b
            .client(Version::V2_1)
            .import(&ids[2], Some(key(&[0x5A; 16])), named("local"), false)
            .unwrap();
        let report = transfer(&a, &b, strategy);
        assert_eq!(
            counts(&report),
            (ids.len() as i64 - 1, 0, 0, 1),
            "{strategy:?}"
        );
        assert_eq!(report.failures[0].identifier, ids[2]);
        assert_eq!(
            report.failures[0].reason,
            Some(ResultReason::OBJECT_ALREADY_EXISTS)
        );
        assert_eq!(
            b.client(Version::V2_1).get(&local).unwrap().object,
            key(&[0x5A; 16])
        );
        let others: Vec<String> = ids.iter().filter(|id| **id != ids[2]).cloned().collect();
        assert_same(&a, &b, &others);
    }
}

#[test]
fn a_taken_name_fails_that_object_alone() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let ids = fill(&a);
        let local = b.client(Version::V2_1).create(named("rich"));
        let report = transfer(&a, &b, strategy);
        assert_eq!(counts(&report), (ids.len() as i64 - 1, 0, 0, 1));
        let expected = if strategy == Strategy::Import {
            ResultReason::NON_UNIQUE_NAME_ATTRIBUTE
        } else {
            ResultReason::INVALID_FIELD
        };
        assert_eq!(report.failures[0].reason, Some(expected));
        assert_eq!(b.client(Version::V2_1).locate(named("rich")), [local]);
    }
}

#[test]
fn what_is_known_to_be_compromised_here_counts_as_such_and_the_copy_stays_verbatim() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let local = b.client(Version::V2_1);
        let client = a.client(Version::V2_1);
        let id = client.register(key(&[3; 32]), named("n"));
        client.activate(&id).unwrap();
        assert_eq!(counts(&transfer(&a, &b, strategy)), (1, 0, 0, 0));
        local
            .revoke(&id, RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
        assert_same(&a, &b, std::slice::from_ref(&id));
        assert_eq!(local.state(&id), State::COMPROMISED);
        assert_eq!(
            local.locate(none().with(V::State(State::COMPROMISED))),
            [id.clone()]
        );
        assert!(
            local
                .locate(none().with(V::State(State::ACTIVE)))
                .is_empty()
        );
        // A state raised here never goes back, whatever the master does.
        client.add(&id, name("m")).unwrap();
        assert_eq!(counts(&transfer(&a, &b, strategy)), (0, 1, 0, 0));
        assert_eq!(local.state(&id), State::COMPROMISED);
        client
            .revoke(&id, RevocationReasonCode::SUPERSEDED)
            .unwrap();
        transfer(&a, &b, strategy);
        assert_eq!(local.state(&id), State::COMPROMISED);
        assert_eq!(
            b.record(&id).attributes.state(),
            Some(State::DEACTIVATED),
            "the copy itself is verbatim"
        );
        client.destroy(&id).unwrap();
        transfer(&a, &b, strategy);
        assert_eq!(local.state(&id), State::DESTROYED_COMPROMISED);
        assert!(b.object(&id).is_none());
        let request = LocateRequest {
            storage_status_mask: Some(StorageStatusMask::DESTROYED_STORAGE),
            ..local.locate_request(none().with(V::State(State::DESTROYED_COMPROMISED)))
        };
        assert_eq!(local.locate_by(&request).unwrap().0, [id.clone()]);
        assert_eq!(counts(&transfer(&a, &b, strategy)), (0, 0, 1, 0));
    }
}

#[test]
fn a_tombstone_is_never_revived_by_a_newer_copy() {
    let (a, b) = (master(), replica());
    let client = a.client(Version::V2_1);
    let id = client.register(key(&[4; 16]), named("n"));
    let (alive, object) = (a.record(&id), a.object(&id));
    client.destroy(&id).unwrap();
    transfer(&a, &b, Strategy::Import);
    let peer = b.client_named("a.example", Version::V2_1);
    let item = copy_item(&peer, &alive, object, |copy| copy.stamp.sequence = 9);
    peer.call_item::<ImportResponse>(item).ok();
    assert_eq!(b.client(Version::V2_1).state(&id), State::DESTROYED);
    assert!(b.object(&id).is_none(), "no material comes back");
    assert!(b.client(Version::V2_1).locate(named("n")).is_empty());
}

#[test]
fn what_is_learnt_to_be_compromised_at_the_master_is_so_at_the_replica() {
    let (a, b) = (master(), replica());
    let client = a.client(Version::V2_1);
    let id = client.register(key(&[5; 16]), none());
    let again = client.register(key(&[5; 16]), none());
    client
        .revoke(&id, RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    transfer(&a, &b, Strategy::Put);
    for id in [id, again] {
        assert_eq!(b.client(Version::V2_1).state(&id), State::COMPROMISED);
        assert_eq!(
            b.record(&id).attributes.state(),
            Some(State::COMPROMISED),
            "the master says so itself"
        );
    }
}
