//! A peer that speaks for another one, over whole messages: nothing that it says of another's object is taken.

use crate::bulk::drive::*;
use crate::bulk::follows::*;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_server::Access;
use keyferry_store::{Record, Stamp, StoreExt};
use keyferry_ttlv::Version;

/// A server that takes copies from `a` and from `m`, and lets a client look.
fn target() -> Host {
    target_with(|m| m, Limits::default())
}

fn target_with(change: impl Fn(Peer) -> Peer, limits: Limits) -> Host {
    let policy = Policy::closed()
        .with("a.example", Peer::new("a").may_send())
        .with("m.example", change(Peer::new("m").may_send()))
        .with_limits(limits);
    Host::named("b", Access::Named(["client".to_owned()].into()), policy)
}

/// Sends a copy as a peer, and returns its outcome.
fn send(
    to: &Host,
    peer: &str,
    record: &Record,
    object: Option<Object>,
    change: impl FnOnce(&mut Copy),
) -> ItemResult<ImportResponse> {
    let client = to.client_named(&format!("{peer}.example"), Version::V2_1);
    client.call_item(copy_item(&client, record, object, change))
}

fn is_denied(answered: ItemResult<ImportResponse>) {
    let refused = answered.unwrap_err();
    // The words are the same, whatever is held.
    let words = [
        (ResultReason::PERMISSION_DENIED, "access denied"),
        (
            ResultReason::INVALID_FIELD,
            "the stamp and the lineage of the copy contradict each other",
        ),
    ];
    assert!(words.contains(&(refused.0, &refused.1)), "{refused:?}");
}

/// The next change of a record by another issuer, which names the real reign as its ancestor.
fn usurp(copy: &mut Copy) {
    let real = copy.stamp.clone();
    copy.stamp.issuer = "m".into();
    copy.stamp.incarnation = vec![0x66; 16];
    copy.stamp.sequence += 1;
    copy.lineage = vec![real, copy.stamp.clone()].into();
}

#[test]
fn nobody_becomes_the_issuer_of_anothers_object() {
    let (a, b) = (master(), target());
    let client = a.client(Version::V2_1);
    let id = client.create(named("n").with(V::ActivationDate(DateTime(START - 10))));
    transfer(&a, &b, Strategy::Import);
    let (held, object) = (b.record(&id), a.object(&id));
    is_denied(send(&b, "m", &held, object.clone(), usurp));
    is_denied(send(&b, "m", &held, object.clone(), |copy| {
        usurp(copy);
        copy.stamp.epoch = 2;
    }));
    // As the issuer itself, which it is not.
    is_denied(send(&b, "m", &held, object.clone(), |copy| {
        copy.stamp.sequence += 1
    }));
    for state in [State::DESTROYED, State::COMPROMISED, State::DEACTIVATED] {
        let mut fork = held.clone();
        fork.attributes.set(V::State(state));
        is_denied(send(&b, "m", &fork, None, |copy| {
            copy.stamp.incarnation = vec![0x66; 16]
        }));
        is_denied(send(&b, "m", &fork, None, usurp));
    }
    assert_eq!((b.record(&id), b.object(&id)), (held, object));
    assert!(forks(&b).is_empty());
    // The true issuer is heard.
    client
        .revoke(&id, RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    assert_eq!(counts(&transfer(&a, &b, Strategy::Import)), (0, 1, 0, 0));
    assert_eq!(b.client(Version::V2_1).state(&id), State::COMPROMISED);
}

#[test]
fn nobody_sends_anothers_object_first() {
    let (a, b) = (master(), target());
    let id = a.client(Version::V2_1).create(named("n"));
    let record = a.record(&id);
    let own_material = Some(key(&[0x66; 32]));
    for change in [
        (|_| ()) as fn(&mut Copy),
        |copy| copy.stamp.issuer = "m".into(),
        // This server as the origin, or as the issuer.
        |copy| copy.id.server = "b".into(),
        |copy| {
            copy.id.server = "b".into();
            copy.stamp.issuer = "m".into();
        },
        |copy| copy.stamp.issuer = "b".into(),
        // A foreign server that it may not observe.
        |copy| {
            copy.id.server = "old server".into();
            copy.stamp.issuer = "m".into();
        },
        // Its own object, in an epoch that no grant began.
        |copy| {
            copy.id.server = "m".into();
            copy.stamp.issuer = "m".into();
            copy.stamp.epoch = 2;
        },
    ] {
        is_denied(send(&b, "m", &record, own_material.clone(), change));
    }
    assert_eq!(b.count(), 0);
    assert_eq!(counts(&transfer(&a, &b, Strategy::Import)), (1, 0, 0, 0));
    assert_eq!(b.object(&id), a.object(&id));
}

#[test]
fn a_foreign_server_is_observed_by_whom_policy_lets() {
    let b = target_with(|m| m.may_observe(["old server"]), Limits::default());
    let a = master();
    let id = a.client(Version::V2_1).create(named("n"));
    let (record, object) = (a.record(&id), a.object(&id));
    let observed = |epoch: i64, sequence: i64| {
        move |copy: &mut Copy| {
            copy.id.server = "old server".into();
            copy.id.identifier = format!("{epoch}").into();
            copy.stamp.issuer = "m".into();
            copy.stamp.epoch = epoch;
            copy.stamp.sequence = sequence;
        }
    };
    let mut adopted = record.clone();
    adopted.identifier = "adopted".into();
    adopted.attributes.remove(tag::NAME);
    send(&b, "m", &record, object.clone(), observed(1, 1)).unwrap();
    send(&b, "m", &adopted, object.clone(), observed(2, 2)).unwrap();
    is_denied(send(&b, "m", &record, object, observed(3, 3)));
    assert_eq!(b.count(), 2);
}

#[test]
fn stamps_and_lineages_that_contradict_each_other_are_refused() {
    let (a, b) = (master(), target());
    let id = a.client(Version::V2_1).create(named("n"));
    let (record, object) = (a.record(&id), a.object(&id));
    let reign = |stamp: &Stamp, n: u8, sequence: i64| Stamp {
        incarnation: vec![n; 16],
        sequence,
        ..stamp.clone()
    };
    let refused = |change: &dyn Fn(&mut Copy)| {
        let refused = send(&b, "a", &record, object.clone(), change).unwrap_err();
        assert_eq!(refused.0, ResultReason::INVALID_FIELD, "{refused:?}");
    };
    refused(&|copy| copy.stamp.sequence = 0);
    refused(&|copy| copy.stamp.epoch = 0);
    refused(&|copy| copy.stamp.incarnation = vec![1; 15]);
    // The last reign is another one, a reign stands twice, the order is wrong, another issuer is among them.
    refused(&|copy| copy.lineage = vec![reign(&copy.stamp, 1, 1)].into());
    refused(&|copy| copy.lineage = vec![copy.stamp.clone(), copy.stamp.clone()].into());
    refused(&|copy| {
        copy.stamp.sequence = 9;
        let first = reign(&copy.stamp, 1, 5);
        copy.lineage = vec![first, reign(&copy.stamp, 2, 3), copy.stamp.clone()].into();
    });
    refused(&|copy| {
        let other = Stamp {
            issuer: "m".into(),
            ..reign(&copy.stamp, 1, 1)
        };
        copy.lineage = vec![other, copy.stamp.clone()].into();
    });
    assert_eq!(b.count(), 0);
}

#[test]
fn a_lineage_has_as_many_reigns_as_the_limit_says() {
    let limits = Limits::default();
    let (a, b) = (master(), target());
    let id = a.client(Version::V2_1).create(named("n"));
    let (record, object) = (a.record(&id), a.object(&id));
    let with_reigns = |count: usize| {
        move |copy: &mut Copy| {
            let last = copy.stamp.clone();
            copy.stamp.sequence = i64::try_from(count).unwrap();
            let reigns = (1..count).map(|n| Stamp {
                incarnation: [&n.to_be_bytes()[..], &[7; 8]].concat(),
                sequence: i64::try_from(n).unwrap(),
                ..last.clone()
            });
            copy.lineage = reigns
                .chain([copy.stamp.clone()])
                .collect::<Vec<_>>()
                .into();
        }
    };
    // What is longer can't even be read.
    let refused = send(
        &b,
        "a",
        &record,
        object.clone(),
        with_reigns(limits.reigns + 1),
    );
    let refused = refused.unwrap_err();
    assert!(refused.1.contains("4096 reigns"), "{refused:?}");
    send(&b, "a", &record, object.clone(), with_reigns(limits.reigns)).unwrap();
    assert_eq!(b.record(&id).lineage.len(), limits.reigns);
    // A server may set a lower one.
    let mut fewer = Limits::default();
    fewer.reigns = 10;
    let b = target_with(|m| m, fewer);
    let refused = send(&b, "a", &record, object.clone(), with_reigns(11)).unwrap_err();
    assert!(refused.1.contains("more than 10 reigns"), "{refused:?}");
    send(&b, "a", &record, object, with_reigns(10)).unwrap();
}

#[test]
fn an_object_id_has_as_many_bytes_as_the_limit_says() {
    let (a, b) = (master(), target());
    let id = a.client(Version::V2_1).create(named("n"));
    let (record, object) = (a.record(&id), a.object(&id));
    let with = |bytes: usize| {
        let used = record.id.server.len() + record.id.instance.len();
        move |copy: &mut Copy| copy.id.identifier = "i".repeat(bytes - used).into()
    };
    let refused = send(&b, "a", &record, object.clone(), with(4097)).unwrap_err();
    assert!(
        refused.1.contains("more than 4096 bytes in an object id"),
        "{refused:?}"
    );
    send(&b, "a", &record, object, with(4096)).unwrap();
}

#[test]
fn the_name_of_a_relation_has_as_many_bytes_as_the_limit_says() {
    let mut limits = Limits::default();
    limits.name_bytes = 40;
    let policy = Policy::closed()
        .with("b.example", Peer::new("b").may_follow())
        .with_limits(limits);
    let a = Host::named("a", Access::Named(["client".to_owned()].into()), policy);
    let id = a.client(Version::V2_1).register(key(&[1; 16]), none());
    for (length, is_too_long) in [(40, false), (41, true)] {
        let b = follower("b");
        let name = "r".repeat(length);
        let (what, now) = (UpstreamOptions::default(), b.now().wall);
        Upstream::follow(&*b.store, &name, "a", &what, now).unwrap();
        let options = FollowOptions::new(name.as_str(), Peer::new("a"));
        let passed = pass_cut(&b, &a, options, Cut::Never).unwrap();
        match passed {
            Ok(_) => assert_same(&a, &b, &[id.clone()]),
            Err(error) => assert!(
                is_too_long && error.to_string().contains("the name of a relation"),
                "{error}"
            ),
        }
        assert_eq!(b.count(), u64::from(!is_too_long));
    }
}

#[test]
fn of_one_line_the_newest_fork_is_kept_and_of_one_object_so_many_as_the_limit_says() {
    let mut limits = Limits::default();
    limits.forks = 3;
    let (a, b) = (master(), target_with(|m| m, limits));
    let id = a.client(Version::V2_1).create(named("n"));
    transfer(&a, &b, Strategy::Import);
    let held = b.record(&id);
    let fork = |reign: u8, sequence: i64| {
        let mut record = held.clone();
        let note = CustomAttribute::text("note", format!("{reign} {sequence}"));
        record.attributes.push(V::Custom(note));
        record.attributes.number();
        send(&b, "a", &record, None, |copy| {
            copy.stamp.incarnation = vec![reign; 16];
            copy.stamp.sequence = sequence;
        })
    };
    let kept = || {
        let mut kept: Vec<_> = forks(&b)
            .iter()
            .map(|fork: &Fork| (fork.stamp.incarnation[0], fork.stamp.sequence))
            .collect();
        kept.sort_unstable();
        kept
    };
    // However the reports arrive.
    for sequence in [5, 3, 7, 5] {
        fork(1, sequence).unwrap();
    }
    assert_eq!(kept(), [(1, 7)]);
    fork(2, 2).unwrap();
    fork(3, 2).unwrap();
    let refused = fork(4, 2).unwrap_err();
    assert!(
        refused.1.contains("more than 3 undecided forks"),
        "{refused:?}"
    );
    fork(3, 4).unwrap();
    assert_eq!(kept(), [(1, 7), (2, 2), (3, 4)]);
    assert_eq!(b.record(&id), held);
}

#[test]
fn an_older_word_still_raises_the_state() {
    let (a, b) = (master(), target());
    let id = a.client(Version::V2_1).create(named("n"));
    a.client(Version::V2_1).add(&id, name("m")).unwrap();
    transfer(&a, &b, Strategy::Import);
    let mut older = b.record(&id);
    older.attributes.set(V::State(State::COMPROMISED));
    send(&b, "a", &older, None, |copy| copy.stamp.sequence = 1).unwrap();
    assert_eq!(b.client(Version::V2_1).state(&id), State::COMPROMISED);
    assert_eq!(b.record(&id).attributes.state(), Some(State::PRE_ACTIVE));
}

#[test]
fn a_put_without_our_extension_is_a_foreign_servers_and_within_the_agreement() {
    let red = || keyferry_s2s::Selection::everything().with(V::ObjectGroup("red".into()));
    let put = |host: &Host, group: &str| {
        let client = host.client_named("m.example", Version::V2_1);
        let attributes = named("n").with(V::ObjectGroup(group.into()));
        client.call(&PutRequest {
            unique_identifier: format!("put {group}").as_str().into(),
            put_function: PutFunction::NEW,
            replaced_unique_identifier: None,
            object: Some(key(&[1; 32])),
            attributes,
            extra: keyferry_ttlv::Extra::NONE,
        })
    };
    let answered = |answer: ItemResult<PutResponse>| answer.map(drop).map_err(|refused| refused.0);
    let denied = Err(ResultReason::PERMISSION_DENIED);
    let b = target_with(|m| m.agreed(red()), Limits::default());
    assert_eq!(
        answered(put(&b, "red")),
        denied,
        "a keyferry server sends copies"
    );
    let b = target_with(|m| m.foreign().agreed(red()), Limits::default());
    assert_eq!(answered(put(&b, "blue")), denied);
    assert_eq!(answered(put(&b, "red")), Ok(()));
    assert_eq!(b.count(), 1);
}

#[test]
fn a_place_that_nobody_told_restores_nobody() {
    let (a, b) = (issuer(), follower("b"));
    let ids = fill(&a);
    begin(&b, &UpstreamOptions::default());
    pass(&b, &a);
    let place = |host: &Host| host.store.view::<_, Error>(|s| Ok(s.head()?)).unwrap();
    let before = place(&a);
    // The follower claims to have seen more than there is; what it shows has no receipt that fits.
    b.store
        .transact::<_, Error>(|transaction| {
            let mut upstream = Upstream::find(transaction, "r")?.unwrap();
            upstream.cursor.number += 5;
            let forged = keyferry_store::record::bytes_of(&upstream)?;
            Ok(transaction.set_state(b"master/r", Some(&forged))?)
        })
        .unwrap();
    pass(&b, &a);
    assert_eq!(place(&a).incarnation, before.incarnation);
    let raised = a.store.view::<_, Error>(|s| Alarm::all(s)).unwrap();
    assert_eq!(raised.len(), 1, "{raised:?}");
    assert_eq!(
        (&*raised[0].server, raised[0].kind),
        ("b", AlarmKind::UNPROVED_PLACE)
    );
    a.client(Version::V2_1)
        .add(&ids[0], name("goes on"))
        .unwrap();
    pass(&b, &a);
    assert_same(&a, &b, &ids[..1]);
}

#[test]
fn a_question_names_as_many_objects_as_the_limit_says() {
    let mut limits = Limits::default();
    limits.named_objects = 2;
    let policy = Policy::closed()
        .with("b.example", Peer::new("b").may_follow())
        .with_limits(limits);
    let access = || Access::Named(["client".to_owned()].into());
    let (a, b) = (Host::named("a", access(), policy), follower("b"));
    let make = |n: u8| a.client(Version::V2_1).register(key(&[n; 32]), none());
    let ids = [make(1), make(2)];
    begin(&b, &UpstreamOptions::default());
    pass(&b, &a);
    let again = || Upstream::accept(&*b.store, "r").unwrap();
    // It says what it holds: as many as the limit, and one more.
    again();
    pass(&b, &a);
    make(3);
    pass(&b, &a);
    again();
    let refused = pass_cut(&b, &a, follow_options(), Cut::Never)
        .unwrap()
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("more than 2 objects named in one question"),
        "{refused}"
    );
    assert_eq!(a.server.node().refusals.counts().over_limit, 1);
    assert_same(&a, &b, &ids);
}

#[test]
fn a_relation_stops_at_so_many_objects_to_retry_as_the_limit_says() {
    let mut limits = Limits::default();
    limits.retries = 2;
    let a = issuer();
    let policy = Policy::closed().with_limits(limits);
    let b = Host::named("b", Access::Named(["client".to_owned()].into()), policy);
    let taken = |n: u8| {
        let name = named(&format!("taken {n}"));
        b.client(Version::V2_1)
            .register(key(&[100 + n; 32]), name.clone());
        a.client(Version::V2_1).register(key(&[n; 32]), name)
    };
    taken(1);
    taken(2);
    begin(&b, &UpstreamOptions::default());
    let report = pass(&b, &a);
    assert_eq!(report.counts.failed, 2, "{}", report.table());
    taken(3);
    let stopped = pass_cut(&b, &a, follow_options(), Cut::Never)
        .unwrap()
        .unwrap_err();
    assert_eq!(stopped.kind(), keyferry_s2s::ErrorKind::Limit);
    assert!(
        stopped.to_string().contains("more than 2 of its objects"),
        "{stopped}"
    );
    let upstream = b
        .store
        .view::<_, Error>(|s| Upstream::find(s, "r"))
        .unwrap()
        .unwrap();
    assert!(upstream.error.unwrap().contains("the limit retries"));
}

#[test]
fn of_what_is_refused_in_silence_as_much_is_named_as_the_limit_says() {
    let mut limits = Limits::default();
    limits.refused_copies = 2;
    let (a, b) = (master(), target_with(Peer::learns_nothing, limits));
    for n in 1..=3 {
        let id = a.client(Version::V2_1).register(key(&[n; 32]), none());
        let (record, object) = (a.record(&id), a.object(&id));
        for _ in 0..2 {
            send(&b, "m", &record, object.clone(), |_| {}).unwrap();
        }
    }
    let refused = b
        .store
        .view::<_, Error>(|s| RefusedCopy::all(s, "m"))
        .unwrap();
    assert_eq!((refused.len(), b.count()), (2, 0));
}

#[test]
fn what_is_refused_is_counted() {
    let (a, b) = (master(), target());
    let id = a.client(Version::V2_1).create(named("n"));
    let before = b.server.node().refusals.counts();
    is_denied(send(&b, "m", &a.record(&id), a.object(&id), |_| {}));
    let after = b.server.node().refusals.counts();
    assert_eq!(after.unauthorised, before.unauthorised + 1);
    assert_eq!((after.over_limit, after.unproved), (0, 0));
}

#[test]
fn owners_are_those_that_policy_maps_and_a_copys_name_blocks_whom_it_belongs_to() {
    let a = master();
    let id = a.client(Version::V2_1).create(named("n"));
    let policy = |peer: Peer| Policy::closed().with("a.example", peer.may_send());
    let access = || Access::Named(["client".to_owned(), "bob".to_owned()].into());
    let unmapped = Host::named("b", access(), policy(Peer::new("a")));
    let mapped = Host::named(
        "b",
        access(),
        policy(Peer::new("a").owning("client", "bob")),
    );
    for (b, owner) in [(&unmapped, None), (&mapped, Some("bob"))] {
        transfer(&a, b, Strategy::Import);
        let record = b.record(&id);
        assert_eq!(record.owner.as_deref(), owner);
        let there = record.overlay.unwrap().owner;
        assert_eq!(there.as_deref(), Some("client"), "whose it is there");
    }
    // "client" there is not "client" here, and its Name is free for others.
    for (b, client, free) in [
        (&unmapped, "client", true),
        (&mapped, "client", true),
        (&mapped, "bob", false),
    ] {
        let made = b.client_named(client, Version::V2_1).register_with(
            ObjectType::SYMMETRIC_KEY,
            Some(key(&[9; 32])),
            named("n"),
        );
        assert_eq!(made.is_ok(), free, "{client}: {made:?}");
    }
}
