//! Plans for servers that know nothing of it.

use crate::bulk::drive::*;
use crate::bulk::foreign::foreign;
use crate::bulk::plans::{Paper, endings};
use crate::bulk::publishing::*;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_s2s::*;
use keyferry_ttlv::Version;

/// A master of which a first part is at the target, and has changed since.
fn changed(birth: Birth, version: Version) -> (Host, Host, Vec<String>) {
    let (a, t) = (master(), foreign(&EVERYTHING));
    let client = a.client(Version::V2_1);
    let mut ids: Vec<String> = (0..5)
        .map(|n| client.register(key(&[n; 16]), named(&format!("n{n}"))))
        .collect();
    run(&a, &t, &mut *birth.session(version));
    for id in &ids[1..] {
        client.add(id, V::ObjectGroup("later".into())).unwrap();
        client.activate(id).unwrap();
    }
    client
        .revoke(&ids[4], RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    ids.extend((5..8).map(|n| client.register(key(&[n; 16]), named(&format!("n{n}")))));
    client
        .revoke(&ids[7], RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    ids.push(client.create(none().with(V::Sensitive(true))));
    (a, t, ids)
}

fn planned(birth: Birth, version: Version, a: &Host, t: &Host) -> (Report, Vec<u8>) {
    let (paper, heads) = (Paper::default(), (a.head(), t.head()));
    let report = run(a, t, &mut *birth.planning(version, &paper));
    assert_eq!((a.head(), t.head()), heads, "nothing is written");
    (report, paper.bytes())
}

#[test]
fn a_plan_for_a_server_that_knows_nothing_of_it_is_done_as_planned() {
    for birth in BIRTHS {
        for version in [Version::V1_4, Version::V2_1] {
            let (a, t, ids) = changed(birth, version);
            let (dry, plan) = planned(birth, version, &a, &t);
            let c = &dry.counts;
            assert_eq!(
                (c.created, c.updated, c.unchanged, c.failed),
                (3, 4, 1, 1),
                "{birth:?} {}",
                dry.table()
            );
            a.client(Version::V2_1).create(named("newcomer"));
            let report = run(&a, &t, &mut *birth.executing(version, &plan));
            assert_eq!(
                (endings(&report), report.stopped.clone()),
                (endings(&dry), None),
                "{birth:?} {version}"
            );
            for id in &ids[..8] {
                assert_eq!(
                    t.client(version).state(&there(&a, id).unwrap()),
                    a.record(id).attributes.state().unwrap()
                );
            }
            assert!(t.client(version).locate(named("newcomer")).is_empty());
        }
    }
}

#[test]
fn a_plan_for_such_a_server_stops_where_something_has_moved() {
    for birth in BIRTHS {
        let stops = |at: usize, order: &dyn Fn(&Host, &Host, &[String])| {
            let (a, t, ids) = changed(birth, Version::V1_4);
            let (_, plan) = planned(birth, Version::V1_4, &a, &t);
            order(&a, &t, &ids);
            let report = run(&a, &t, &mut *birth.executing(Version::V1_4, &plan));
            let stopped = report
                .stopped
                .clone()
                .unwrap_or_else(|| panic!("{birth:?} {at} {}", report.table()));
            assert_eq!(stopped.identifier, ids[at], "{birth:?} {stopped:?}");
            assert!(!report.counts.finished);
            for (n, id) in ids.iter().enumerate().skip(at + 1) {
                // Nothing behind it is done.
                match there(&a, id) {
                    Some(to) => assert_eq!(
                        t.client(Version::V1_4)
                            .attributes(&to)
                            .all(tag::OBJECT_GROUP)
                            .count(),
                        0
                    ),
                    None => assert!(
                        t.client(Version::V1_4)
                            .locate(named(&format!("n{n}")))
                            .is_empty()
                    ),
                }
            }
            stopped
        };
        // In the order of the feed: what has not changed, then by the last change.
        let stopped = stops(2, &|a, _, ids| {
            drop(
                a.client(Version::V2_1)
                    .add(&ids[2], V::ObjectGroup("moved".into()))
                    .unwrap(),
            )
        });
        assert!(
            stopped.found.contains("one here with the digest"),
            "{stopped:?}"
        );
        let stopped = stops(3, &|a, t, ids| {
            t.client(Version::V1_4)
                .add(
                    &there(a, &ids[3]).unwrap(),
                    V::ContactInformation("them".into()),
                )
                .unwrap();
        });
        assert!(stopped.found.contains("at the target"), "{stopped:?}");
        if birth == Birth::Import {
            let stopped = stops(5, &|_, t, ids| {
                t.client(Version::V1_4)
                    .import(&ids[5], Some(key(&[9; 16])), none(), false)
                    .unwrap();
            });
            assert!(
                stopped.planned.contains("nothing at the target"),
                "{stopped:?}"
            );
        }
    }
}

#[test]
fn an_execution_at_such_a_server_goes_on_and_knows_its_own_writes() {
    for birth in BIRTHS {
        let (a, t, _) = changed(birth, Version::V1_4);
        let (_, plan) = planned(birth, Version::V1_4, &a, &t);
        let mut messages = 0;
        let mut session = birth.executing(Version::V1_4, &plan);
        drive(
            &a,
            &t,
            &mut *session,
            "anyone",
            Cut::Never,
            &mut |taken, _| messages = taken + 1,
        )
        .unwrap()
        .unwrap();
        for at in 0..messages {
            for cut in [Cut::Before(at), Cut::Behind(at), Cut::Dead(at)] {
                let (a, t, ids) = changed(birth, Version::V1_4);
                let (dry, plan) = planned(birth, Version::V1_4, &a, &t);
                let mut session = birth.executing(Version::V1_4, &plan);
                let report = match drive(&a, &t, &mut *session, "anyone", cut, &mut |_, _| {}) {
                    Some(report) => report.unwrap(),
                    None => run(&a, &t, &mut *birth.executing(Version::V1_4, &plan)),
                };
                assert_eq!(
                    (endings(&report), report.stopped.clone()),
                    (endings(&dry), None),
                    "{birth:?} {cut:?}"
                );
                for (n, id) in ids.iter().enumerate().take(8) {
                    assert_eq!(
                        t.client(Version::V1_4)
                            .locate(named(&format!("n{n}")))
                            .len(),
                        1,
                        "{birth:?} {cut:?}"
                    );
                    let to = there(&a, id).unwrap();
                    assert_eq!(
                        t.client(Version::V1_4).state(&to),
                        a.record(id).attributes.state().unwrap()
                    );
                }
            }
        }
    }
}
