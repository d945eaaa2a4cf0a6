//! A foreign server is kept up to date: later runs go on behind what it was told.

use crate::bulk::drive::*;
use crate::bulk::foreign::foreign;
use crate::bulk::publishing::EVERYTHING;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_store::StoreExt;
use keyferry_ttlv::Version;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const WAYS: [Operation; 2] = [Operation::IMPORT, Operation::REGISTER];

fn publisher(what: &ForeignReplicaOptions) -> Host {
    let a = master();
    ForeignReplica::publish(&*a.store, "t", "t", what, a.now().wall).unwrap();
    a
}

fn by(by: Operation) -> ForeignReplicaOptions {
    ForeignReplicaOptions {
        by,
        ..ForeignReplicaOptions::default()
    }
}

fn session(version: Version) -> Publication {
    Publication::new(PublicationOptions {
        version,
        batch: 4,
        ..PublicationOptions::new("t")
    })
}

/// One run, and how many messages it took.
fn publish(a: &Host, t: &Host) -> (Report, usize) {
    let mut messages = 0;
    let mut session = session(Version::V1_4);
    let report = drive(a, t, &mut session, "anyone", Cut::Never, &mut |taken, _| {
        messages = taken + 1
    })
    .unwrap()
    .unwrap();
    assert!(report.counts.add_up() && report.counts.finished, "{report}");
    (report, messages)
}

fn relation(a: &Host) -> ForeignReplica {
    a.store
        .view::<_, Error>(|snapshot| ForeignReplica::find(snapshot, "t"))
        .unwrap()
        .unwrap()
}

fn retries(a: &Host) -> Vec<Retry> {
    a.store
        .view::<_, Error>(|snapshot| ForeignReplica::retries(snapshot, "t"))
        .unwrap()
}

fn there(a: &Host, id: &str) -> Option<String> {
    let id = a.record(id).id;
    a.store
        .view::<_, Error>(|s| identifier_at_peer(s, "t", &id))
        .unwrap()
        .map(|there| there.to_string())
}

fn groups(t: &Host, id: &str) -> usize {
    t.client(Version::V1_4)
        .attributes(id)
        .all(tag::OBJECT_GROUP)
        .count()
}

#[test]
fn one_pass_is_first_load_and_the_next_change() {
    for way in WAYS {
        let (a, t) = (publisher(&by(way)), foreign(&EVERYTHING));
        let client = a.client(Version::V2_1);
        let ids: Vec<String> = (0..10)
            .map(|n| client.register(key(&[n; 16]), named(&format!("n{n}"))))
            .collect();
        let behind = |a: &Host| {
            a.store
                .view::<_, Error>(|snapshot| relation(a).lag(snapshot))
                .unwrap()
        };
        assert!(behind(&a) >= 10);
        assert_eq!(publish(&a, &t).0.counts.created, 10);
        assert_eq!(behind(&a), 0);
        let (report, messages) = publish(&a, &t);
        assert_eq!(
            (report.counts.asked, messages),
            (0, 1),
            "nothing but the Query"
        );
        client.add(&ids[3], V::ObjectGroup("later".into())).unwrap();
        client
            .revoke(&ids[4], RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
        client.destroy(&ids[5]).unwrap();
        let new = client.register(key(&[99; 16]), named("new"));
        a.pass(7);
        let late = a
            .store
            .view::<_, Error>(|snapshot| relation(&a).lag_seconds(snapshot, a.now().wall))
            .unwrap();
        assert!(late >= Some(7), "{late:?}");
        let (report, _) = publish(&a, &t);
        assert_eq!(
            (
                report.counts.created,
                report.counts.updated,
                report.counts.asked
            ),
            (1, 3, 4),
            "{way} {}",
            report.table()
        );
        assert_eq!(groups(&t, &there(&a, &ids[3]).unwrap()), 1);
        let state = |id: &String| t.client(Version::V1_4).state(&there(&a, id).unwrap());
        assert_eq!(
            (state(&ids[4]), state(&ids[5])),
            (State::COMPROMISED, State::DESTROYED)
        );
        // It is listed among the slaves of what it has, and found by it.
        let shown = client.attributes(&new);
        let slave = CustomAttribute::text("s2s-slave-t", "1");
        assert!(
            shown.iter().any(|a| a.value == V::Custom(slave.clone())),
            "{shown:?}"
        );
        let never = client.register(key(&[98; 16]), none());
        assert_eq!(
            client.locate(none().with(V::Custom(slave))).len(),
            10,
            "all but the destroyed one"
        );
        assert!(
            client
                .attributes(&never)
                .iter()
                .all(|a| !is_shadow(&a.value))
        );
        let counts = a
            .store
            .view::<_, Error>(|snapshot| relation(&a).counts(snapshot))
            .unwrap();
        assert_eq!(counts.asked, 4);
    }
}

#[test]
fn what_has_left_the_selection_is_named_or_destroyed_there_where_that_is_said() {
    for way in WAYS {
        for destroys_left in [false, true] {
            let selection = Selection::everything().with(V::ObjectGroup("g".into()));
            let (a, t) = (
                publisher(&ForeignReplicaOptions {
                    selection,
                    destroys_left,
                    ..by(way)
                }),
                foreign(&EVERYTHING),
            );
            let client = a.client(Version::V2_1);
            let make = |n: u8| {
                client.register(
                    key(&[n; 16]),
                    named(&format!("n{n}")).with(V::ObjectGroup("g".into())),
                )
            };
            let ids: Vec<String> = (0..4).map(make).collect();
            client.register(key(&[77; 16]), none());
            assert_eq!(publish(&a, &t).0.counts.created, 4);
            client.activate(&ids[1]).unwrap();
            publish(&a, &t);
            let remote = there(&a, &ids[1]).unwrap();
            client
                .delete_all(&ids[1], reference(tag::OBJECT_GROUP))
                .unwrap();
            let report = publish(&a, &t).0;
            let state = |t: &Host| t.client(Version::V1_4).state(&remote);
            let left = || {
                a.store
                    .view::<_, Error>(|snapshot| ForeignReplica::left(snapshot, "t"))
                    .unwrap()
            };
            if destroys_left {
                assert_eq!(
                    (report.counts.withdrawn, state(&t)),
                    (Some(1), State::DESTROYED),
                    "{way} {}",
                    report.table()
                );
                assert_eq!((there(&a, &ids[1]), left()), (None, Vec::new()));
                continue;
            }
            assert_eq!(
                (report.counts.skipped, state(&t)),
                (Some(1), State::ACTIVE),
                "{way} {}",
                report.table()
            );
            assert_eq!(left(), [a.record(&ids[1]).id]);
            assert_eq!(groups(&t, &remote), 1, "nothing is taken from it");
            // Nobody is to work with it when it is compromised.
            client
                .revoke(&ids[1], RevocationReasonCode::KEY_COMPROMISE)
                .unwrap();
            publish(&a, &t);
            assert_eq!(state(&t), State::COMPROMISED, "{way}");
            client.add(&ids[1], V::ObjectGroup("g".into())).unwrap();
            client.add(&ids[1], V::ObjectGroup("h".into())).unwrap();
            let report = publish(&a, &t).0;
            assert_eq!(
                (report.counts.updated, left()),
                (1, Vec::new()),
                "{way} {}",
                report.table()
            );
            assert_eq!(groups(&t, &remote), 2);
        }
    }
}

/// Does not take a certain key, for a time.
struct Closed(AtomicBool);

impl Responder for Closed {
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Answered, Failure>> {
        let object = match item.operation {
            Operation::IMPORT => item.payload::<ImportRequest>(ask.cx).unwrap().object,
            Operation::REGISTER => item.payload::<RegisterRequest>(ask.cx).unwrap().object,
            _ => return None,
        };
        let bad = self.0.load(Ordering::SeqCst) && object == Some(key(&[2; 16]));
        bad.then(|| Err(Failure::new(Cause::PermissionDenied, "not now")))
    }
}

#[test]
fn what_fails_is_tried_again_later_and_holds_up_nothing() {
    for way in WAYS {
        let (a, mut t) = (publisher(&by(way)), foreign(&EVERYTHING));
        let closed = Arc::new(Closed(AtomicBool::new(true)));
        let (server, now) = (Arc::into_inner(t.server).unwrap(), closed.clone());
        t.server = Arc::new(server.with(now));
        let client = a.client(Version::V2_1);
        let ids: Vec<String> = (0..6)
            .map(|n| client.register(key(&[n; 16]), named(&format!("n{n}"))))
            .collect();
        let (report, _) = publish(&a, &t);
        assert_eq!(
            (report.counts.created, report.counts.failed),
            (5, 1),
            "{}",
            report.table()
        );
        assert_eq!((relation(&a).retried, &*retries(&a)[0].why), (1, "not now"));
        assert_eq!(publish(&a, &t).1, 1, "it is not due");
        a.pass(100);
        assert_eq!(publish(&a, &t).0.counts.failed, 1);
        assert_eq!(retries(&a)[0].attempts, 2);
        closed.0.store(false, Ordering::SeqCst);
        a.pass(100);
        assert_eq!(publish(&a, &t).0.counts.created, 1);
        assert_eq!((relation(&a).retried, retries(&a).len()), (0, 0));
        assert_eq!(t.object(&there(&a, &ids[2]).unwrap()), Some(key(&[2; 16])));

        ForeignReplica::pause(&*a.store, "t").unwrap();
        let ended = drive(
            &a,
            &t,
            &mut session(Version::V1_4),
            "anyone",
            Cut::Never,
            &mut |_, _| {},
        )
        .unwrap();
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Relation);
        ForeignReplica::resume(&*a.store, "t").unwrap();
        ForeignReplica::end(&*a.store, "t").unwrap();
        let ended = drive(
            &a,
            &t,
            &mut session(Version::V1_4),
            "anyone",
            Cut::Never,
            &mut |_, _| {},
        )
        .unwrap();
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Relation);
        assert!(
            client
                .attributes(&ids[0])
                .iter()
                .all(|a| !is_shadow(&a.value)),
            "it is no slave any more"
        );
    }
}

/// Runs, interrupted at a message, and what another client does there meanwhile.
fn interrupted(a: &Host, t: &Host, cut: Cut, each: &mut dyn FnMut(usize)) {
    let mut session = session(Version::V2_1);
    if let Some(ended) = drive(a, t, &mut session, "anyone", cut, &mut |taken, _| {
        each(taken)
    }) {
        ended.unwrap();
    }
}

#[test]
fn losses_anywhere_double_and_lose_nothing() {
    for way in WAYS {
        for at in 0..14 {
            for cut in [Cut::Before(at), Cut::Behind(at), Cut::Dead(at)] {
                let (a, t) = (publisher(&by(way)), foreign(&EVERYTHING));
                let client = a.client(Version::V2_1);
                let ids: Vec<String> = (0..6)
                    .map(|n| client.register(key(&[n; 16]), named(&format!("n{n}"))))
                    .collect();
                // It goes on changing here.
                interrupted(&a, &t, cut, &mut |taken| {
                    if taken % 3 == 1 {
                        client
                            .add(&ids[taken % 6], V::ObjectGroup(format!("g{taken}").into()))
                            .unwrap();
                    }
                });
                for _ in 0..2 {
                    a.pass(4000);
                    publish(&a, &t);
                }
                assert_eq!(retries(&a).len(), 0, "{way} {cut:?}");
                assert_eq!(t.count(), 6, "{way} {cut:?}");
                for (n, id) in ids.iter().enumerate() {
                    let to = there(&a, id).unwrap();
                    assert_eq!(t.object(&to), Some(key(&[n as u8; 16])));
                    assert_eq!(
                        groups(&t, &to),
                        a.record(id).attributes.all(tag::OBJECT_GROUP).count(),
                        "{way} {cut:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_a_foreign_client_destroys_meanwhile_is_never_brought_to_life_again() {
    for way in WAYS {
        let mut destroyed = 0;
        for at in 0..12 {
            for cut in [
                Cut::Never,
                Cut::Before(1),
                Cut::Behind(1),
                Cut::Behind(2),
                Cut::Dead(2),
                Cut::Behind(3),
            ] {
                let (a, t) = (publisher(&by(way)), foreign(&EVERYTHING));
                let (client, theirs) = (a.client(Version::V2_1), t.client(Version::V2_1));
                let id = client.register(key(&[5; 16]), named("n"));
                let other = client.register(key(&[6; 16]), named("other"));
                let (mut gone, mut messages) = (false, 0);
                for (n, cut) in [cut, Cut::Never, Cut::Never].into_iter().enumerate() {
                    interrupted(&a, &t, cut, &mut |_| {
                        if messages == at
                            && let [id] = &theirs.locate(named("n"))[..]
                        {
                            theirs.destroy(id).unwrap();
                            gone = true;
                        }
                        messages += 1;
                    });
                    a.pass(4000);
                    client
                        .add(&id, V::ObjectGroup(format!("g{n}").into()))
                        .unwrap();
                }
                let alive = theirs
                    .locate(named("n"))
                    .iter()
                    .filter(|id| t.object(id).is_some())
                    .count();
                assert_eq!(alive, usize::from(!gone), "{way} {at} {cut:?}");
                assert!(there(&a, &other).is_some_and(|to| t.object(&to).is_some()));
                if gone {
                    destroyed += 1;
                    a.pass(4000);
                    interrupted(&a, &t, Cut::Never, &mut |_| {});
                    let named = retries(&a);
                    assert!(
                        named.len() == 1 && named[0].id == a.record(&id).id,
                        "{way} {at} {cut:?} {named:?}"
                    );
                    assert_eq!(
                        client.state(&id),
                        State::PRE_ACTIVE,
                        "nothing of theirs comes back here"
                    );
                }
            }
        }
        assert!(destroyed > 20, "{way} {destroyed}");
    }
}

#[test]
fn a_publisher_that_was_restored_looks_at_everything_again() {
    let (a, t) = (publisher(&by(Operation::IMPORT)), foreign(&EVERYTHING));
    let client = a.client(Version::V2_1);
    let id = client.register(key(&[1; 16]), none());
    publish(&a, &t);
    // Its cursor is of a history that this store does not have.
    let mut slave = relation(&a);
    slave.cursor.commit.iter_mut().for_each(|byte| *byte ^= 1);
    let bytes = keyferry_store::record::bytes_of(&slave).unwrap();
    a.store
        .transact::<_, keyferry_store::Error>(|transaction| {
            transaction.set_state(b"foreign/slave/t", Some(&bytes))
        })
        .unwrap();
    let report = publish(&a, &t).0;
    assert_eq!((report.counts.unchanged, report.counts.asked), (1, 1));
    assert_eq!(t.count(), 1);
    assert!(there(&a, &id).is_some());
}
