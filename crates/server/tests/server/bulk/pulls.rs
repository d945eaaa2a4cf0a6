//! Pulling from servers that need not know of it, and may not help.

use crate::bulk::awkward::*;
use crate::bulk::drive::*;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_server::Access;
use keyferry_store::StoreExt;
use keyferry_ttlv::{Extra, Version};
use std::collections::BTreeSet;
use std::sync::Arc;

const STRATEGIES: [PullStrategy; 2] = [PullStrategy::Get, PullStrategy::Export];

#[test]
fn every_kind_and_state_is_observed_in_every_version() {
    for strategy in STRATEGIES {
        for version in ALL {
            if strategy == PullStrategy::Export && version < Version::V1_4 {
                continue;
            }
            let (f, p) = (awkward(Awkward::default()), puller());
            let ids = fill(&f);
            p.pass(f.now().wall.0 - START);
            let options = PullOptions {
                version,
                ..options_for(strategy)
            };
            let report = pull(&p, &f, options.clone());
            // In 1.x nobody can ask for destroyed objects (KMIP 2.1 §12.3, since 2.0).
            let gone = if version < Version::V2_0 { 2 } else { 0 };
            // PGP keys are not in 1.0 and 1.1, and 1.0 has no Encoding Option.
            let unsaid = [2, 1]
                .get(ALL.iter().position(|one| *one == version).unwrap())
                .copied()
                .unwrap_or(0);
            let said = ids.len() as i64 - gone - unsaid;
            assert_eq!(
                counts(&report),
                (said, 0, 0, unsaid),
                "{strategy:?} {version}: {}",
                report.table()
            );
            assert_eq!(report.unseen, Vec::<String>::new());
            let (there, look) = (f.client(version), p.client(version));
            let failed: Vec<&str> = report
                .failures
                .iter()
                .map(|failed| failed.identifier.as_str())
                .collect();
            for id in ids.iter().filter(|id| {
                !failed.contains(&id.as_str()) && (gone == 0 || !f.record(id).is_destroyed())
            }) {
                let shown = |client: &Client, id: &str| {
                    let mut attributes = client.attributes(id);
                    // What is told of the moment, and what the server that is asked has for itself.
                    [tag::FRESH, tag::LEASE_TIME]
                        .into_iter()
                        .for_each(|tag| attributes.remove(tag));
                    sorted(&attributes)
                };
                let record = here(&p, "f", id);
                assert_eq!((&*record.stamp.issuer, record.stamp.sequence), ("p", 1));
                assert_eq!(
                    shown(&look, &record.identifier),
                    shown(&there, id),
                    "{id} {strategy:?} {version}"
                );
                assert_eq!(
                    p.object(&record.identifier).is_none(),
                    f.record(id).is_destroyed()
                );
            }
            // The second time nothing has changed, and then what has is seen.
            let head = p.head();
            let again = pull(&p, &f, options.clone());
            assert_eq!(
                (again.counts.unchanged, again.counts.failed),
                (said, unsaid),
                "{again}"
            );
            assert_eq!(p.head(), head);
            f.client(Version::V2_1).add(&ids[0], name("later")).unwrap();
            assert_eq!(pull(&p, &f, options).counts.updated, 1);
            assert_eq!(p.client(Version::V2_1).locate(named("later")).len(), 1);
        }
    }
}

#[test]
fn a_server_that_does_not_help_is_seen_whole_all_the_same() {
    for version in [Version::V1_0, Version::V1_4, Version::V2_1] {
        for (cap, ignores_offset, shuffles) in [
            (None, false, false),
            (Some(40), false, false),
            (Some(40), true, false),
            (Some(33), true, true),
            (Some(40), false, true),
        ] {
            let (f, p) = (
                awkward(Awkward {
                    cap,
                    ignores_offset,
                    shuffles,
                    ..Awkward::default()
                }),
                puller(),
            );
            let ids = many(&f, 300);
            p.pass(f.now().wall.0 - START);
            let options = PullOptions {
                version,
                batch: 100,
                ..options_for(PullStrategy::Get)
            };
            let report = pull(&p, &f, options);
            assert_eq!(
                report.unseen,
                Vec::<String>::new(),
                "{version} {cap:?} {ignores_offset} {shuffles}"
            );
            assert_eq!(
                report.counts.created,
                ids.len() as i64,
                "{version} {cap:?} {ignores_offset} {shuffles}: {report}"
            );
        }
    }
}

#[test]
fn what_can_not_be_seen_is_said() {
    // All in one second, and no way to tell more of them apart.
    let (f, p) = (
        awkward(Awkward {
            cap: Some(40),
            ignores_offset: true,
            ..Awkward::default()
        }),
        puller(),
    );
    let client = f.client(Version::V2_1);
    (0..60).for_each(|n| drop(client.register(key(&[n; 16]), none())));
    let report = pull(&p, &f, options_for(PullStrategy::Get));
    assert_eq!(report.counts.created, 40);
    assert_eq!(report.unseen.len(), 1, "{:?}", report.unseen);
    assert!(
        report.unseen[0].contains("Symmetric Key") && report.unseen[0].contains("Pre-Active"),
        "{:?}",
        report.unseen
    );
}

#[test]
fn forbidden_objects_fail_by_name_and_the_others_arrive() {
    for strategy in STRATEGIES {
        let f = Host::named("f", Access::Authenticated, Policy::closed());
        let ids = many(&f, 20);
        let forbidden: BTreeSet<String> = ids.iter().step_by(5).cloned().collect();
        let mut host = f.clone();
        drop(f);
        let how = Awkward {
            forbidden: forbidden.clone(),
            ..Awkward::default()
        };
        host.server = Arc::new(Arc::into_inner(host.server).unwrap().with(Arc::new(how)));
        let report = pull(&puller(), &host, options_for(strategy));
        assert_eq!(counts(&report), (16, 0, 0, 4));
        let named: BTreeSet<String> = report
            .failures
            .iter()
            .map(|failed| failed.identifier.clone())
            .collect();
        assert_eq!(named, forbidden);
        assert!(
            report
                .failures
                .iter()
                .all(|failed| failed.reason == Some(ResultReason::PERMISSION_DENIED))
        );
    }
}

#[test]
fn answers_that_are_too_large_make_the_messages_smaller() {
    for strategy in STRATEGIES {
        let (f, p) = (awkward(Awkward::default()), puller());
        let client = f.client(Version::V2_1);
        let large = |n: u8| {
            Object::secret_data(
                SecretDataType::SEED,
                Secret::new(&vec![n; if n == 5 { 9000 } else { 700 }]),
            )
        };
        (0..30).for_each(|n| drop(client.register(large(n), none())));
        let options = PullOptions {
            batch: 30,
            largest: 8000,
            ..options_for(strategy)
        };
        let report = pull(&p, &f, options);
        assert_eq!(
            counts(&report),
            (30, 0, 0, 0),
            "what is larger comes alone: {strategy:?} {}",
            report.table()
        );
    }
}

#[test]
fn objects_that_come_and_go_meanwhile() {
    for (ignores_offset, at) in [false, true]
        .into_iter()
        .flat_map(|ignores| (1..12).map(move |at| (ignores, at)))
    {
        let (f, p) = (
            awkward(Awkward {
                cap: Some(40),
                ignores_offset,
                ..Awkward::default()
            }),
            puller(),
        );
        let ids = many(&f, 100);
        let client = f.client(Version::V2_1);
        let options = PullOptions {
            version: Version::V1_4,
            ..options_for(PullStrategy::Get)
        };
        let mut session = Pull::new(p.server.node().clone(), options.clone());
        let report = drive(
            &p,
            &f,
            &mut session,
            "client",
            Cut::Never,
            &mut |taken, _| {
                if taken == at {
                    client.register(key(&[1; 16]), named("newcomer"));
                    client.destroy(&ids[70]).unwrap();
                }
            },
        );
        let report = report.unwrap().unwrap();
        let c = &report.counts;
        assert!(c.add_up() && c.failed == 0, "{}", report.table());
        let look = p.client(Version::V1_4);
        assert_eq!(
            look.locate(named("newcomer")).len(),
            1,
            "{at} {ignores_offset} {report}"
        );
        // One went: before it was listed, between list and Get (its tombstone is told), or afterwards.
        assert!((100..=101).contains(&c.created), "{report}");
        ids.iter()
            .enumerate()
            .filter(|(n, _)| *n != 70)
            .for_each(|(_, id)| drop(here(&p, "f", id)));
        // What is gone afterwards is kept, and named.
        client.destroy(&ids[4]).unwrap();
        let report = pull(&p, &f, options);
        assert!(
            report.missing.contains(&ids[4]) && report.missing.len() <= 2,
            "{:?}",
            report.missing
        );
        assert_eq!(look.state(&ids[4]), State::PRE_ACTIVE);
    }
}

#[test]
fn two_servers_that_number_their_objects_alike_become_one_without_confusion() {
    let (f, g) = (
        awkward(Awkward::default()),
        Host::named("g", Access::Authenticated, Policy::closed()),
    );
    for (n, host) in [&f, &g].into_iter().enumerate() {
        let client = host.client(Version::V2_1);
        for id in 1..=20u8 {
            let next = format!("{}", id % 20 + 1);
            let link = V::Link(Link {
                link_type: LinkType::NEXT_LINK,
                target: next.as_str().into(),
                extra: Extra::NONE,
            });
            client
                .import(
                    &id.to_string(),
                    Some(key(&[id + 100 * n as u8; 16])),
                    named(&format!("key {id}")).with(link),
                    false,
                )
                .unwrap();
        }
    }
    let collisions = Collisions {
        identifier: OnIdentifier::Assign,
        name: OnName::Rename("{name} ({server})".into()),
    };
    for adopter in [None, Some(Text::from("client"))] {
        let p = puller();
        for (host, server) in [(&f, "f"), (&g, "g"), (&f, "f"), (&g, "g")] {
            let from = Peer::new(server).colliding(collisions.clone());
            let options = PullOptions {
                name: server.into(),
                from,
                adopter: adopter.clone(),
                ..options_for(PullStrategy::Get)
            };
            let report = pull(&p, host, options);
            assert_eq!(report.counts.failed, 0, "{}", report.table());
        }
        let look = p.client(Version::V1_4);
        assert_eq!(p.count(), 40);
        for (n, server) in ["f", "g"].into_iter().enumerate() {
            for id in 1..=20u8 {
                let record = here(&p, server, &id.to_string());
                assert_eq!(
                    p.object(&record.identifier),
                    Some(key(&[id + 100 * n as u8; 16])),
                    "asked one way"
                );
                assert_eq!(
                    (&*record.id.server, &*record.id.identifier),
                    (server, &*id.to_string()),
                    "and the other"
                );
                let name = if n == 0 {
                    format!("key {id}")
                } else {
                    format!("key {id} (g)")
                };
                assert_eq!(look.locate(named(&name)), [record.identifier.to_string()]);
                let next = here(&p, server, &(id % 20 + 1).to_string()).identifier;
                let shown = look.attributes(&record.identifier);
                assert!(
                    matches!(shown.get(tag::LINK), Some(V::Link(link)) if link.target == next.as_str().into()),
                    "{shown:?}"
                );
                // Only what was taken over may be changed here.
                assert_eq!(
                    look.add(&record.identifier, V::ObjectGroup("ours".into()))
                        .is_ok(),
                    adopter.is_some()
                );
            }
        }
    }
}

#[test]
fn what_was_taken_over_joins_the_state_of_its_source_and_nothing_else() {
    for strategy in [PullStrategy::Get, PullStrategy::Export] {
        let (f, p) = (awkward(Awkward::default()), puller());
        let source = f.client(Version::V2_1);
        let ids: Vec<String> = (1..=5u8)
            .map(|n| {
                let id = n.to_string();
                let name = named(&format!("key {n}"));
                source
                    .import(&id, Some(key(&[n; 16])), name, false)
                    .unwrap();
                source.activate(&id).unwrap();
                id
            })
            .collect();
        // In 1.x nobody can ask for destroyed objects.
        let observe = || PullOptions {
            version: Version::V2_1,
            ..options_for(strategy)
        };
        let adopt = || PullOptions {
            adopter: Some("client".into()),
            ..observe()
        };
        let pull = |options| pull(&p, &f, options);
        assert_eq!(pull(adopt()).counts.created, 5);
        let here = p.client(Version::V2_1);
        let stamps: Vec<_> = ids.iter().map(|id| p.record(id).stamp).collect();
        p.pass(10);
        f.pass(10);
        source
            .revoke(&ids[0], RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
        let cessation = RevocationReasonCode::CESSATION_OF_OPERATION;
        source.revoke(&ids[1], cessation).unwrap();
        source.add(&ids[2], custom("site", "there")).unwrap();
        here.revoke(&ids[3], RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
        source.revoke(&ids[4], cessation).unwrap();
        source.destroy(&ids[4]).unwrap();
        // A dry run says so, and changes nothing.
        let dry = PullOptions {
            dry_run: true,
            ..adopt()
        };
        assert_eq!(pull(dry).counts.updated, 3);
        assert_eq!(here.state(&ids[0]), State::ACTIVE);
        // With the adopter or without: the object is this server's.
        let report = pull(observe());
        assert_eq!(
            (
                report.counts.updated,
                report.counts.unchanged,
                report.counts.failed
            ),
            (3, 2, 0),
            "{}",
            report.table()
        );
        let states = ids.iter().map(|id| here.state(id)).collect::<Vec<_>>();
        let expected = [
            State::COMPROMISED,
            State::DEACTIVATED,
            State::ACTIVE,
            State::COMPROMISED,
            State::DESTROYED,
        ];
        assert_eq!(states, expected);
        assert!(p.object(&ids[0]).is_some() && p.object(&ids[4]).is_none());
        assert!(here.attributes(&ids[0]).get(tag::COMPROMISE_DATE).is_some());
        assert!(here.locate(none().with(custom("site", "there"))).is_empty());
        // It is a change of this server's own, which its replicas hear of.
        assert!(p.record(&ids[0]).stamp.sequence > stamps[0].sequence);
        assert_eq!(p.record(&ids[2]).stamp, stamps[2]);
        // Nothing new there is nothing new here, and what is said here stays.
        assert_eq!(pull(adopt()).counts.unchanged, 5);
        here.add(&ids[2], custom("site", "here")).unwrap();
        assert_eq!(pull(adopt()).counts.unchanged, 5);
    }
}

#[test]
fn what_was_pulled_is_unkept_until_it_is_pulled_again_or_taken_over() {
    for adopter in [None, Some(Text::from("client"))] {
        let (f, p) = (awkward(Awkward::default()), puller());
        f.client(Version::V2_1)
            .import("1", Some(key(&[1; 16])), named("n"), false)
            .unwrap();
        let options = || PullOptions {
            adopter: adopter.clone(),
            ..options_for(PullStrategy::Get)
        };
        let unkept = || UnkeptCopy::all(p.server.node(), &*p.store, p.now().wall).unwrap();
        for _ in 0..2 {
            pull(&p, &f, options());
            let pulled = p.now().wall;
            p.pass(100);
            let listed: Vec<_> = unkept()
                .into_iter()
                .map(|copy| (copy.master.to_string(), copy.since, copy.why))
                .collect();
            match adopter {
                None => assert_eq!(listed, [("f".to_owned(), Some(pulled), UnkeptReason::Sent)]),
                // What was taken over is this server's own.
                Some(_) => assert_eq!(listed, []),
            }
        }
    }
}

#[test]
fn a_master_that_takes_a_compromise_back_is_not_followed() {
    let (f, p) = (awkward(Awkward::default()), puller());
    let client = f.client(Version::V2_1);
    let id = client
        .import("1", Some(key(&[1; 16])), named("n"), false)
        .unwrap();
    client
        .revoke(&id, RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    assert_eq!(
        pull(&p, &f, options_for(PullStrategy::Get)).counts.created,
        1
    );
    // Another server under the old name, where nobody knows of it.
    let f = awkward(Awkward::default());
    f.client(Version::V2_1)
        .import("1", Some(key(&[1; 16])), named("n"), false)
        .unwrap();
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = told.clone();
    let options = options_for(PullStrategy::Get);
    let mut session = Pull::new(p.server.node().clone(), options)
        .on_object(move |result| sink.lock().unwrap().push(result.clone()));
    let report = drive(
        &p,
        &f,
        &mut session,
        "p.example",
        Cut::Never,
        &mut |_, _| {},
    );
    assert_eq!(report.unwrap().unwrap().counts.updated, 1);
    assert_eq!(p.client(Version::V2_1).state("1"), State::COMPROMISED);
    // It is named, in the report and as an alarm.
    let message = told.lock().unwrap()[0].message.clone().unwrap();
    assert!(
        message.contains("Compromised") && message.contains("Pre-Active"),
        "{message}"
    );
    let alarms = p.store.view::<_, Error>(|s| Alarm::all(s)).unwrap();
    let told: Vec<_> = alarms
        .iter()
        .map(|alarm| (&*alarm.server, alarm.kind))
        .collect();
    assert_eq!(told, [("f", AlarmKind::STATE_WENT_BACK)]);
    // And other material is another object.
    let f = awkward(Awkward::default());
    f.client(Version::V2_1)
        .import("1", Some(key(&[2; 16])), named("n"), false)
        .unwrap();
    let report = pull(&p, &f, options_for(PullStrategy::Get));
    assert_eq!(
        (report.counts.failed, report.failures[0].reason),
        (1, Some(ResultReason::INVALID_FIELD))
    );
    assert_eq!(p.object("1"), Some(key(&[1; 16])));
}

#[test]
fn a_selection_is_checked_at_each_hit() {
    for finds_all in [false, true] {
        let (f, p) = (
            awkward(Awkward {
                finds_all,
                ..Awkward::default()
            }),
            puller(),
        );
        let client = f.client(Version::V1_4);
        let groups = ["web", "web", "mail", "mail", "web"];
        let make =
            |group: &str| client.register(key(&[1; 16]), none().with(V::ObjectGroup(group.into())));
        let ids: Vec<String> = groups.iter().map(|group| make(group)).collect();
        for (selection, count) in [
            (
                Selection::everything().with(V::ObjectGroup("web".into())),
                3,
            ),
            (Selection::everything().with(V::ObjectGroup("m*".into())), 2),
            (
                Selection::everything().listed([ids[0].as_str().into(), ids[2].as_str().into()]),
                0,
            ),
            (Selection::everything().listed(["nowhere".into()]), 0),
        ] {
            let named = selection == Selection::everything().listed(["nowhere".into()]);
            let report = pull(
                &p,
                &f,
                PullOptions {
                    selection,
                    version: Version::V1_4,
                    ..options_for(PullStrategy::Get)
                },
            );
            assert_eq!(
                (report.counts.created, report.counts.failed),
                (count, named.into()),
                "{report}"
            );
        }
    }
}

#[test]
fn a_pull_goes_on_where_it_was_interrupted() {
    for strategy in STRATEGIES {
        let f = awkward(Awkward::default());
        let ids = many(&f, 60);
        let mut messages = 0;
        let mut session = Pull::new(puller().server.node().clone(), options_for(strategy));
        drive(
            &puller(),
            &f,
            &mut session,
            "client",
            Cut::Never,
            &mut |taken, _| messages = taken + 1,
        )
        .unwrap()
        .unwrap();
        for at in 0..messages {
            for cut in [Cut::Before(at), Cut::Behind(at), Cut::Dead(at)] {
                let p = puller();
                let mut session = Pull::new(p.server.node().clone(), options_for(strategy));
                let report = match drive(&p, &f, &mut session, "client", cut, &mut |_, _| {}) {
                    Some(report) => report.unwrap(),
                    None => pull(&p, &f, options_for(strategy)),
                };
                assert_eq!(
                    report.counts.asked,
                    ids.len() as i64,
                    "the report covers the whole: {report} {cut:?}"
                );
                assert_eq!(
                    report.counts.created,
                    ids.len() as i64,
                    "nothing is taken twice: {report} {cut:?}"
                );
                assert_eq!(p.count(), ids.len() as u64);
            }
        }
    }
}

#[test]
fn a_dry_pull_tells_the_same_and_writes_nothing() {
    let f = awkward(Awkward::default());
    let p = puller();
    many(&f, 30);
    p.client(Version::V2_1).create(named("n7"));
    let mut runs = Vec::new();
    for dry_run in [true, false] {
        let head = p.head();
        let report = pull(
            &p,
            &f,
            PullOptions {
                dry_run,
                ..options_for(PullStrategy::Get)
            },
        );
        assert_eq!(head == p.head(), dry_run);
        assert_eq!(counts(&report), (29, 0, 0, 1));
        runs.push((report.failures, report.counts.created));
    }
    assert_eq!(runs[0], runs[1]);
}

#[test]
fn a_keyferry_server_gives_the_copy_itself_to_a_peer_that_may_pull() {
    for version in [Version::V1_4, Version::V2_0, Version::V2_1] {
        let policy = Policy::closed().with("p.example", Peer::new("p").may_pull().also_client());
        let f = Host::named("f", Access::Authenticated, policy);
        let ids = fill(&f);
        let p = puller();
        p.pass(f.now().wall.0 - START);
        let options = PullOptions {
            version,
            ..options_for(PullStrategy::Export)
        };
        let mut session = Pull::new(p.server.node().clone(), options);
        let report = drive(
            &p,
            &f,
            &mut session,
            "p.example",
            Cut::Never,
            &mut |_, _| {},
        )
        .unwrap()
        .unwrap();
        let gone = if version < Version::V2_0 { 2 } else { 0 };
        assert_eq!(
            counts(&report),
            (ids.len() as i64 - gone, 0, 0, 0),
            "{}",
            report.table()
        );
        let there: Vec<String> = ids
            .into_iter()
            .filter(|id| gone == 0 || !f.record(id).is_destroyed())
            .collect();
        assert_same(&f, &p, &there);
    }
}
