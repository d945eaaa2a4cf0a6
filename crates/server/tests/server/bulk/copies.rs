//! What a copy is to the clients of a replica, and what only its master may do.

use crate::bulk::drive::*;
use crate::support::*;
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_s2s::{Bulk, Peer, Policy, Strategy};
use keyferry_server::Access;
use keyferry_ttlv::Version;

#[test]
fn clients_of_a_replica_can_not_change_a_copy_and_are_told_who_can() {
    let (a, b) = (master(), replica());
    let id = a.client(Version::V2_1).create(named("n"));
    transfer(&a, &b, Strategy::Import);
    for version in ALL {
        let client = b.client(version);
        let before = b.record(&id);
        let mut refusals = vec![
            client.add(&id, name("m")).map(drop),
            client.modify_at(&id, None, name("m")).map(drop),
            client.delete_at(&id, reference(tag::NAME), None).map(drop),
            client.activate(&id),
            client.revoke(&id, RevocationReasonCode::SUPERSEDED),
            client.destroy(&id),
        ];
        if version >= Version::V1_4 {
            refusals.push(
                client
                    .import(&id, Some(key(&[1; 32])), none(), true)
                    .map(drop),
            );
        }
        for refusal in refusals {
            let Refused(reason, message) = refusal.unwrap_err();
            assert_eq!(reason, ResultReason::PERMISSION_DENIED, "{message}");
            assert!(
                message.contains("master") && message.contains("\"a\""),
                "{message}"
            );
        }
        assert_eq!(b.record(&id), before);
        client.get(&id).unwrap();
    }
}

#[test]
fn a_replica_derives_date_driven_states_and_stores_none() {
    let (a, b) = (master(), replica());
    let id = a
        .client(Version::V2_1)
        .create(none().with(AttributeValue::ActivationDate(DateTime(START + 10))));
    transfer(&a, &b, Strategy::Put);
    b.pass(10);
    assert_eq!(b.client(Version::V2_1).state(&id), State::ACTIVE);
    assert_eq!(b.record(&id).attributes.state(), Some(State::PRE_ACTIVE));
    assert_eq!(counts(&transfer(&a, &b, Strategy::Put)), (0, 0, 1, 0));
}

#[test]
fn copies_are_taken_from_peers_that_may_send_alone() {
    let (a, b) = (master(), replica());
    let id = a.client(Version::V2_1).create(none());
    let (record, object) = (a.record(&id), a.object(&id));
    for who in ["client", "stranger"] {
        let client = b.client_named(who, Version::V2_1);
        let answered =
            client.call_item::<ImportResponse>(copy_item(&client, &record, object.clone(), |_| {}));
        assert_eq!(reason(answered), ResultReason::PERMISSION_DENIED, "{who}");
    }
    assert_eq!(b.count(), 0);
    let peer = b.client_named("a.example", Version::V2_1);
    peer.call_item::<ImportResponse>(copy_item(&peer, &record, object, |_| {}))
        .unwrap();
}

#[test]
fn relaying_what_another_issues_needs_a_policy_of_its_own() {
    for may_relay in [false, true] {
        let (a, b) = (master(), replica());
        let peer = Peer::new("b").may_send();
        let peer = if may_relay { peer.may_relay() } else { peer };
        let c = Host::named(
            "c",
            Access::Named(["client".to_owned()].into()),
            Policy::closed().with("b.example", peer),
        );
        let id = a.client(Version::V2_1).create(named("of a"));
        let own = b.client(Version::V2_1).create(named("of b"));
        transfer(&a, &b, Strategy::Import);
        let mut session = Bulk::new(options(Strategy::Import));
        let report = drive(
            &b,
            &c,
            &mut session,
            "b.example",
            Cut::Never,
            &mut |_, _| {},
        )
        .unwrap()
        .unwrap();
        assert_eq!(
            counts(&report),
            if may_relay {
                (2, 0, 0, 0)
            } else {
                (1, 0, 0, 1)
            }
        );
        assert_same(&b, &c, &[own]);
        if may_relay {
            assert_same(&a, &c, &[id]);
        } else {
            assert_eq!(
                report.failures[0].reason,
                Some(ResultReason::PERMISSION_DENIED)
            );
        }
    }
}

#[test]
fn a_copy_whose_attributes_do_not_match_its_digest_is_refused() {
    let (a, b) = (master(), replica());
    let id = a.client(Version::V2_1).create(named("n"));
    let peer = b.client_named("a.example", Version::V2_1);
    let mut record = a.record(&id);
    let item = copy_item(&peer, &record, a.object(&id), |copy| copy.digest[0] ^= 1);
    assert_eq!(
        reason(peer.call_item::<ImportResponse>(item)),
        ResultReason::INVALID_MESSAGE
    );
    let digest = record.copy_digest().unwrap();
    record.attributes.push(name("smuggled"));
    let item = copy_item(&peer, &record, a.object(&id), |copy| copy.digest = digest);
    assert_eq!(
        reason(peer.call_item::<ImportResponse>(item)),
        ResultReason::INVALID_MESSAGE
    );
    assert_eq!(b.count(), 0);
}

#[test]
fn a_digest_of_another_kind_and_a_new_issuer_are_refused() {
    let (a, b) = (master(), replica());
    let id = a.client(Version::V2_1).create(named("n"));
    transfer(&a, &b, Strategy::Import);
    let peer = b.client_named("a.example", Version::V2_1);
    let (record, object) = (a.record(&id), a.object(&id));
    let item = copy_item(&peer, &record, object.clone(), |copy| copy.projection = 3);
    assert_eq!(
        reason(peer.call_item::<ImportResponse>(item)),
        ResultReason::FEATURE_NOT_SUPPORTED
    );
    let held = b.record(&id);
    let item = copy_item(&peer, &record, object, |copy| {
        let first = copy.stamp.clone();
        copy.stamp.epoch += 1;
        copy.stamp.sequence += 1;
        copy.stamp.issuer = "a".into();
        copy.lineage = vec![first, copy.stamp.clone()].into();
    });
    assert_eq!(
        reason(peer.call_item::<ImportResponse>(item)),
        ResultReason::PERMISSION_DENIED,
        "a new epoch needs a grant"
    );
    assert_eq!(b.record(&id), held);
}

#[test]
fn an_older_copy_changes_nothing() {
    let (a, b) = (master(), replica());
    let client = a.client(Version::V2_1);
    let id = client.create(named("n"));
    let (old, object) = (a.record(&id), a.object(&id));
    client.activate(&id).unwrap();
    transfer(&a, &b, Strategy::Import);
    let (held, head) = (b.record(&id), b.head());
    let peer = b.client_named("a.example", Version::V2_1);
    peer.call_item::<ImportResponse>(copy_item(&peer, &old, object, |_| {}))
        .unwrap();
    assert_eq!((b.record(&id), b.head()), (held, head));
}

#[test]
fn our_own_object_can_not_come_back_as_somebody_elses() {
    let policy = Policy::closed().with("b.example", Peer::new("b").may_send().may_relay());
    let a = Host::named("a", Access::Named(["client".to_owned()].into()), policy);
    let client = a.client(Version::V2_1);
    let id = client.create(named("n"));
    let (record, object) = (a.record(&id), a.object(&id));
    let peer = a.client_named("b.example", Version::V2_1);
    let held = a.record(&id);
    // What this server has not sent, as its receipt would show, is refused, changed or not.
    for changes in [0, 1] {
        let item = copy_item(&peer, &record, object.clone(), |copy| {
            copy.stamp.sequence += changes
        });
        assert_eq!(
            reason(peer.call_item::<ImportResponse>(item)),
            ResultReason::PERMISSION_DENIED
        );
    }
    assert_eq!(a.record(&id), held);
    assert_eq!(forks(&a).len(), 0);
    // One that this server does not know although it bears its name: a restore, or an impostor.
    let mut unknown = record;
    unknown.id.identifier = "never made".into();
    unknown.identifier = "never made".into();
    let item = copy_item(&peer, &unknown, object, |_| {});
    assert_eq!(
        reason(peer.call_item::<ImportResponse>(item)),
        ResultReason::PERMISSION_DENIED
    );
    assert_eq!(a.count(), 1);
}

#[test]
fn attributes_that_no_version_can_say_right_travel_beside_the_others() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let client = a.client(Version::V2_0);
        let raw = keyferry_ttlv::Raw::of(tag::ROTATE_AUTOMATIC, "no Boolean", client.cx()).unwrap();
        let mut attributes = named("odd");
        attributes.keep(
            AttributeValue::Unknown(UnknownAttribute {
                name: None,
                value: Some(raw),
            })
            .into(),
        );
        client
            .import("odd", Some(key(&[1; 16])), attributes, false)
            .unwrap();
        let client = a.client(Version::V1_4);
        let raw = keyferry_ttlv::Raw::of(tag::ATTRIBUTE_VALUE, "no Boolean", client.cx()).unwrap();
        let mut attributes = named("odder");
        attributes.keep(
            AttributeValue::Unknown(UnknownAttribute {
                name: Some("Quantum Safe".into()),
                value: Some(raw),
            })
            .into(),
        );
        client
            .import("odder", Some(key(&[2; 16])), attributes, false)
            .unwrap();
        assert_eq!(
            counts(&transfer(&a, &b, strategy)),
            (2, 0, 0, 0),
            "{strategy:?}"
        );
        assert_same(&a, &b, &["odd".to_owned(), "odder".to_owned()]);
        assert_eq!(counts(&transfer(&a, &b, strategy)), (0, 0, 2, 0));
    }
}
