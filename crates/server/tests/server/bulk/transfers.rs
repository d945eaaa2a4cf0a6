//! Whole transfers: what is created, updated, unchanged and failed.

use crate::bulk::drive::*;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::{Bulk, ErrorKind, Strategy};
use keyferry_store::{Incarnation, Store, StoreExt, TransactionExt};
use keyferry_ttlv::Version;

#[test]
fn every_kind_and_state_arrives_verbatim_and_is_unchanged_the_second_time() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let ids = fill(&a);
        b.pass(5000);
        let all = ids.len() as i64;
        assert_eq!(
            counts(&transfer(&a, &b, strategy)),
            (all, 0, 0, 0),
            "{strategy:?}"
        );
        assert_same(&a, &b, &ids);
        let head = b.head();
        assert_eq!(counts(&transfer(&a, &b, strategy)), (0, 0, all, 0));
        assert_eq!(b.head(), head, "what is unchanged is not written again");
        let other = if strategy == Strategy::Import {
            Strategy::Put
        } else {
            Strategy::Import
        };
        assert_eq!(
            counts(&transfer(&a, &b, other)),
            (0, 0, all, 0),
            "whichever way it came"
        );
    }
}

#[test]
fn clients_of_the_replica_see_what_clients_of_the_master_see() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let ids = fill(&a);
        b.pass(a.now().wall.0 - START);
        transfer(&a, &b, strategy);
        for version in ALL {
            let (here, there) = (a.client(version), b.client(version));
            for id in &ids {
                // Each server takes the freshness off what it serves, and the master tells it with the next transfer.
                let seen = |client: &Client| {
                    let mut attributes = client.attributes(id);
                    attributes.remove(tag::FRESH);
                    sorted(&attributes)
                };
                assert_eq!(seen(&there), seen(&here), "{id} in {version}");
                let (got, was) = (there.get(id), here.get(id));
                assert_eq!(
                    got.as_ref().map(|g| &g.object).map_err(|r| r.0),
                    was.as_ref().map(|g| &g.object).map_err(|r| r.0)
                );
            }
            assert_eq!(there.locate(named("rich")), here.locate(named("rich")));
            assert_eq!(there.locate(none().with(custom("kind", "split"))).len(), 1);
        }
    }
}

#[test]
fn changes_in_between_are_updates() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let ids = fill(&a);
        transfer(&a, &b, strategy);
        let client = a.client(Version::V2_1);
        a.pass(10);
        client.add(&ids[0], name("late")).unwrap();
        client.activate(&ids[1]).unwrap();
        client.activate(&ids[2]).unwrap();
        client
            .revoke(&ids[2], RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
        client.destroy(&ids[3]).unwrap();
        let new = client.create(named("new"));
        let report = transfer(&a, &b, strategy);
        assert_eq!(
            counts(&report),
            (1, 4, ids.len() as i64 - 4, 0),
            "{strategy:?}"
        );
        assert_same(&a, &b, &ids);
        assert_same(&a, &b, &[new]);
        assert!(
            b.object(&ids[3]).is_none(),
            "a destroyed object's material goes at the replica, too"
        );
        assert_eq!(
            b.client(Version::V2_1).locate(named("late")),
            [ids[0].clone()]
        );
    }
}

#[test]
fn names_that_move_between_objects_arrive_in_any_order() {
    let (a, b) = (master(), replica());
    let client = a.client(Version::V2_1);
    let (one, two) = (client.create(named("x")), client.create(named("y")));
    transfer(&a, &b, Strategy::Import);
    client.modify(&one, None, name("z")).unwrap();
    client.modify(&two, None, name("x")).unwrap();
    client.modify(&one, None, name("y")).unwrap();
    assert_eq!(counts(&transfer(&a, &b, Strategy::Import)), (0, 2, 0, 0));
    assert_eq!(
        (
            b.client(Version::V2_1).locate(named("x")),
            b.client(Version::V2_1).locate(named("y"))
        ),
        (vec![two], vec![one])
    );
}

#[test]
fn destroyed_objects_arrive_as_tombstones() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let client = a.client(Version::V2_1);
        let id = client.register(key(&[1; 16]), named("gone"));
        client.destroy(&id).unwrap();
        let mut sent = Vec::new();
        let mut session = Bulk::new(options(strategy));
        drive(
            &a,
            &b,
            &mut session,
            "a.example",
            Cut::Never,
            &mut |_, message| sent.extend_from_slice(&message.to_frame().unwrap()),
        )
        .unwrap()
        .unwrap();
        assert!(
            !sent.windows(16).any(|window| window == [1; 16]),
            "no material on the wire"
        );
        assert_eq!(b.client(Version::V2_1).state(&id), State::DESTROYED);
        assert!(b.object(&id).is_none());
        assert_eq!(
            sorted(&b.record(&id).attributes),
            sorted(&a.record(&id).attributes)
        );
    }
}

#[test]
fn what_may_not_leave_in_the_clear_is_counted_and_named() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let client = a.client(Version::V2_1);
        let sensitive = client.create(none().with(V::Sensitive(true)));
        let plain = client.create(none());
        let kept = client.create(none().with(V::Extractable(false)));
        let report = transfer(&a, &b, strategy);
        assert_eq!(counts(&report), (1, 0, 0, 2));
        let failed: Vec<&str> = report
            .failures
            .iter()
            .map(|f| f.identifier.as_str())
            .collect();
        assert_eq!(failed, [sensitive.as_str(), kept.as_str()]);
        assert!(report.failures.iter().all(|f| !f.message.is_empty()));
        assert_eq!(b.count(), 1);
        assert_same(&a, &b, &[plain]);
    }
}

#[test]
fn only_refused_objects_and_an_empty_store_come_to_an_end() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        assert_eq!(counts(&transfer(&a, &b, strategy)), (0, 0, 0, 0));
        for _ in 0..10 {
            a.client(Version::V2_1)
                .create(none().with(V::Sensitive(true)));
        }
        assert_eq!(counts(&transfer(&a, &b, strategy)), (0, 0, 0, 10));
    }
}

#[test]
fn what_the_version_can_not_say_fails_alone() {
    let (a, b) = (master(), replica());
    let client = a.client(Version::V2_1);
    let (_, request) = crate::objects::all(Version::V2_1)
        .into_iter()
        .find(|(what, _)| *what == "certificate request")
        .unwrap();
    let id = client.register(request, none());
    let plain = client.create(none());
    let report = transfer(&a, &b, Strategy::Put);
    assert_eq!(counts(&report), (1, 0, 0, 1));
    assert_eq!(report.failures[0].identifier, id);
    assert_same(&a, &b, &[plain]);
    assert_eq!(
        counts(&transfer(&a, &b, Strategy::Import)),
        (1, 0, 1, 0),
        "2.1 can"
    );
}

#[test]
fn changes_during_a_transfer_arrive() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let ids = fill(&a);
        let client = a.client(Version::V2_1);
        let mut session = Bulk::new(options(strategy));
        let (first, last) = (ids[0].clone(), ids[5].clone());
        let mut each = |taken: usize, _: &RequestMessage| {
            if taken == 3 {
                client.add(&first, name("during")).unwrap();
                client.add(&last, name("during, too")).unwrap();
                client.create(named("born during"));
            }
        };
        let report = drive(&a, &b, &mut session, "a.example", Cut::Never, &mut each)
            .unwrap()
            .unwrap();
        assert!(report.counts.add_up(), "{report}");
        assert_eq!(report.counts.failed, 0);
        assert_same(&a, &b, &ids);
        assert_same(
            &a,
            &b,
            &a.client(Version::V2_1).locate(named("born during")),
        );
    }
}

#[test]
fn a_new_incarnation_starts_over() {
    let (a, b) = (master(), replica());
    let ids = fill(&a);
    let mut session = Bulk::new(options(Strategy::Import));
    assert!(
        drive(
            &a,
            &b,
            &mut session,
            "a.example",
            Cut::Dead(4),
            &mut |_, _| {}
        )
        .is_none()
    );
    a.store
        .transact::<_, keyferry_store::Error>(|tx| tx.mark_restored(Incarnation([0x77; 16])))
        .unwrap();
    let report = transfer(&a, &b, Strategy::Import);
    assert_eq!(report.counts.asked, ids.len() as i64, "from the beginning");
    assert_same(&a, &b, &ids);
    // A change in the new incarnation descends from what the replica holds.
    a.client(Version::V2_1)
        .add(&ids[0], name("after the restore"))
        .unwrap();
    assert_eq!(a.record(&ids[0]).lineage.len(), 2);
    assert_eq!(
        counts(&transfer(&a, &b, Strategy::Import)),
        (0, 1, ids.len() as i64 - 1, 0)
    );
    assert_same(&a, &b, &ids);
}

#[test]
fn a_peer_that_does_not_know_us_ends_the_session_with_its_reason() {
    let (a, b) = (master(), replica());
    fill(&a);
    for strategy in BOTH {
        let mut session = Bulk::new(options(strategy));
        let ended = drive(&a, &b, &mut session, "stranger", Cut::Never, &mut |_, _| {}).unwrap();
        let error = ended.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Peer);
        assert!(error.to_string().contains("not a client"), "{error}");
    }
    assert_eq!(b.count(), 0);
}

#[test]
fn a_store_that_fails_at_the_replica_ends_the_session_and_the_next_goes_on() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let ids = fill(&a);
        b.store.fail(
            3,
            keyferry_store::Fault::RollBack(keyferry_store::ErrorKind::Full),
        );
        let mut session = Bulk::new(options(strategy));
        let ended = drive(
            &a,
            &b,
            &mut session,
            "a.example",
            Cut::Never,
            &mut |_, _| {},
        )
        .unwrap();
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Peer);
        assert_eq!(b.count(), 6, "nothing of the failed message");
        let report = transfer(&a, &b, strategy);
        assert_eq!(
            (
                report.counts.session,
                report.counts.asked,
                report.counts.failed
            ),
            (1, ids.len() as i64, 0)
        );
        assert_same(&a, &b, &ids);
    }
}

#[test]
fn a_store_that_fails_at_home_ends_the_session_and_it_can_go_on_later() {
    let (a, b) = (master(), replica());
    let ids = fill(&a);
    a.store.fail(
        2,
        keyferry_store::Fault::RollBack(keyferry_store::ErrorKind::Full),
    );
    let mut session = Bulk::new(options(Strategy::Import));
    let ended = drive(
        &a,
        &b,
        &mut session,
        "a.example",
        Cut::Never,
        &mut |_, _| {},
    )
    .unwrap();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Store);
    let report = transfer(&a, &b, Strategy::Import);
    assert_eq!(report.counts.asked, ids.len() as i64);
    assert_same(&a, &b, &ids);
}

#[test]
fn an_object_that_fills_a_message_does_not_hold_up_the_others() {
    for strategy in BOTH {
        let (a, b) = (master_of_large_objects(), replica());
        let client = a.client(Version::V2_1);
        let before = client.create(named("before"));
        let opaque = |length: usize| {
            Object::OpaqueObject(OpaqueObject {
                opaque_data_type: Enumeration(1),
                value: Secret::new(&vec![7; length]),
                extra: Default::default(),
            })
        };
        let large = client.register(opaque((16 << 20) - 300), none());
        let behind = client.create(named("behind"));
        let report = transfer(&a, &b, strategy);
        assert_eq!(counts(&report), (2, 0, 0, 1), "{strategy:?}");
        assert_eq!(report.failures[0].identifier, large);
        assert_same(&a, &b, &[before, behind]);
    }
}

#[test]
fn attributes_that_together_overfill_a_message_go_in_smaller_ones() {
    let (a, b) = (master(), replica());
    let client = a.client(Version::V2_1);
    let ids: Vec<String> = (0..24)
        .map(|_| client.create(none().with(V::Description("long ".repeat(160_000).into()))))
        .collect();
    let mut session = Bulk::new(keyferry_s2s::BulkOptions {
        batch: 250,
        batch_bytes: usize::MAX,
        ..options(Strategy::Import)
    });
    let report = drive(
        &a,
        &b,
        &mut session,
        "a.example",
        Cut::Never,
        &mut |_, _| {},
    )
    .unwrap()
    .unwrap();
    assert_eq!(counts(&report), (24, 0, 0, 0));
    assert_same(&a, &b, &ids);
}

#[test]
fn a_peer_whose_store_is_another_one_gets_everything() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let ids = fill(&a);
        let mut session = Bulk::new(options(strategy));
        assert!(
            drive(
                &a,
                &b,
                &mut session,
                "a.example",
                Cut::Dead(4),
                &mut |_, _| {}
            )
            .is_none()
        );
        let other = replica();
        other
            .store
            .write(&mut |tx| tx.restored(Incarnation([0x78; 16])))
            .unwrap();
        let report = transfer(&a, &other, strategy);
        assert_eq!(
            (report.counts.session, report.counts.asked),
            (2, ids.len() as i64),
            "from the beginning"
        );
        assert_same(&a, &other, &ids);
    }
}

#[test]
fn every_version_that_has_the_operation_carries_everything() {
    for (strategy, since) in [
        (Strategy::Import, Version::V1_4),
        (Strategy::Put, Version::V1_0),
    ] {
        for version in ALL.into_iter().filter(|version| *version >= since) {
            let (a, b) = (master(), replica());
            let ids = fill(&a);
            let options = keyferry_s2s::BulkOptions {
                version,
                ..options(strategy)
            };
            let report = drive(
                &a,
                &b,
                &mut Bulk::new(options),
                "a.example",
                Cut::Never,
                &mut |_, _| {},
            )
            .unwrap()
            .unwrap();
            let failed: Vec<&str> = report
                .failures
                .iter()
                .map(|failed| failed.identifier.as_str())
                .collect();
            // PGP keys are not in 1.0 and 1.1, and 1.0 has no Encoding Option.
            let unsaid = [2, 1]
                .get(ALL.iter().position(|one| *one == version).unwrap())
                .copied()
                .unwrap_or(0);
            assert_eq!(
                (report.counts.created, failed.len()),
                (ids.len() as i64 - unsaid, unsaid as usize),
                "{strategy:?} {version}: {}",
                report.table()
            );
            let others: Vec<String> = ids
                .iter()
                .filter(|id| !failed.contains(&id.as_str()))
                .cloned()
                .collect();
            assert_same(&a, &b, &others);
        }
    }
}
