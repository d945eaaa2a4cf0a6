//! A server follows another: the first load, catching up and the next change in one pass.

use crate::bulk::drive::*;
use crate::support::*;
use keyferry_crypto::SystemRandom;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_server::Access;
use keyferry_store::{Record, SnapshotExt, Span, StoreExt};
use keyferry_ttlv::Version;
use std::ops::ControlFlow;

/// The server that is followed.
pub fn issuer() -> Host {
    issuer_with(|peer| peer)
}

pub fn issuer_with(change: impl Fn(Peer) -> Peer) -> Host {
    let policy = Policy::closed()
        .with(
            "b.example",
            change(Peer::new("b").may_follow().may_give_back()),
        )
        .with(
            "c.example",
            change(Peer::new("c").may_follow().may_give_back()),
        );
    Host::named("a", Access::Named(["client".to_owned()].into()), policy)
}

pub fn follower(name: &str) -> Host {
    Host::named(
        name,
        Access::Named(["client".to_owned()].into()),
        Policy::closed(),
    )
}

pub fn begin(b: &Host, what: &UpstreamOptions) {
    Upstream::follow(&*b.store, "r", "a", what, b.now().wall).unwrap();
}

pub fn follow_options() -> FollowOptions {
    FollowOptions {
        batch: 3,
        in_flight: 2,
        ..FollowOptions::new("r", Peer::new("a"))
    }
}

pub fn pass_cut(
    b: &Host,
    a: &Host,
    options: FollowOptions,
    cut: Cut,
) -> Option<Result<Report, Error>> {
    let name = format!("{}.example", b.server.node().home.server);
    let mut session = Follow::new(b.server.node().clone(), options);
    drive(b, a, &mut session, &name, cut, &mut |_, _| {})
}

/// One pass to the head.
pub fn pass(b: &Host, a: &Host) -> Report {
    let report = pass_cut(b, a, follow_options(), Cut::Never)
        .unwrap()
        .unwrap();
    assert!(report.counts.add_up(), "{}", report.table());
    report
}

pub fn of(report: &Report, outcome: Outcome) -> i64 {
    report.counts.of(outcome)
}

pub fn held(host: &Host, id: &keyferry_store::ObjectId) -> Option<Record> {
    host.store
        .view::<_, keyferry_store::Error>(|s| Ok(s.by_object_id(id)?.map(|(_, record)| record)))
        .unwrap()
}

#[test]
fn everything_comes_once_and_then_what_changes() {
    let (a, b) = (issuer(), follower("b"));
    let ids = fill(&a);
    begin(&b, &UpstreamOptions::default());
    let report = pass(&b, &a);
    // What was destroyed before anybody was offered it goes nowhere.
    let gone = ids.iter().filter(|id| a.record(id).is_destroyed()).count() as i64;
    assert_eq!(gone, 2);
    assert_eq!(
        of(&report, Outcome::Created),
        ids.len() as i64 - gone,
        "{}",
        report.table()
    );
    let live: Vec<String> = ids
        .iter()
        .filter(|id| !a.record(id).is_destroyed())
        .cloned()
        .collect();
    assert_same(&a, &b, &live);
    assert_eq!(b.count(), live.len() as u64);
    assert_eq!(pass(&b, &a).counts.asked, 0);
    // One change, and one object.
    let client = a.client(Version::V2_1);
    client.add(&live[0], name("another")).unwrap();
    client.destroy(&live[1]).unwrap();
    let report = pass(&b, &a);
    assert_eq!(
        (of(&report, Outcome::Updated), report.counts.asked),
        (2, 2),
        "{}",
        report.table()
    );
    assert_same(&a, &b, &live);
    assert!(b.record(&live[1]).is_destroyed());
    let slaves = a.store.view::<_, Error>(|s| Downstream::all(s)).unwrap();
    assert_eq!(slaves.len(), 1);
    assert_eq!(slaves[0].server, "b");
    let masters = b.store.view::<_, Error>(|s| Upstream::all(s)).unwrap();
    assert!(masters[0].is_up_to_date());
}

#[test]
fn a_loss_at_any_message_repeats_one_answer_at_most() {
    for cut in (0..8).flat_map(|n| [Cut::Before(n), Cut::Behind(n), Cut::Dead(n)]) {
        let (a, b) = (issuer(), follower("b"));
        let ids = fill(&a);
        begin(&b, &UpstreamOptions::default());
        let first = pass_cut(&b, &a, follow_options(), cut);
        let report = match first {
            Some(report) => report.unwrap(),
            None => pass(&b, &a),
        };
        let live: Vec<String> = ids
            .iter()
            .filter(|id| !a.record(id).is_destroyed())
            .cloned()
            .collect();
        assert!(report.counts.add_up());
        assert_eq!(
            report.counts.asked,
            live.len() as i64,
            "{cut:?} {}",
            report.table()
        );
        assert_eq!(of(&report, Outcome::Created), live.len() as i64, "{cut:?}");
        assert_same(&a, &b, &live);
    }
}

#[test]
fn a_selection_is_left_and_entered() {
    let (a, b) = (issuer(), follower("b"));
    let client = a.client(Version::V2_1);
    let shop = || V::ObjectGroup("shop".into());
    let one = client.register(key(&[1; 16]), named("one").with(shop()));
    let other = client.register(key(&[2; 16]), named("other"));
    let selection = Selection::everything().with(shop());
    begin(
        &b,
        &UpstreamOptions {
            selection,
            ..UpstreamOptions::default()
        },
    );
    assert_eq!(pass(&b, &a).counts.asked, 1);
    assert_eq!(b.count(), 1);
    // It leaves: its material goes, and clients see nothing of it; but its State comes until that was told.
    let id = a.record(&one).id;
    client.delete(&one, shop()).unwrap();
    let report = pass(&b, &a);
    assert_eq!(
        (of(&report, Outcome::Withdrawn), report.counts.asked),
        (1, 1),
        "{}",
        report.table()
    );
    let mark = held(&b, &id).unwrap();
    assert!(mark.is_withdrawn());
    let there = b.client(Version::V2_1);
    assert_eq!(
        there.get(&one).unwrap_err().0,
        ResultReason::OBJECT_NOT_FOUND
    );
    assert!(there.locate(Attributes::new()).is_empty());
    // What happens to it from now on is nothing to that server, once it has said that it is gone.
    pass(&b, &a);
    client.destroy(&one).unwrap();
    assert_eq!(pass(&b, &a).counts.asked, 0);
    assert!(!held(&b, &id).unwrap().is_destroyed());
    // Another one enters.
    client.add(&other, shop()).unwrap();
    assert_eq!(of(&pass(&b, &a), Outcome::Created), 1);
    assert_same(&a, &b, &[other.clone()]);
    // It leaves and comes again.
    client.delete(&other, shop()).unwrap();
    pass(&b, &a);
    client.add(&other, shop()).unwrap();
    pass(&b, &a);
    assert_same(&a, &b, &[other]);
}

#[test]
fn a_compromise_reaches_who_was_not_told_of_its_withdrawal() {
    let (a, b, c) = (issuer(), follower("b"), follower("c"));
    let client = a.client(Version::V2_1);
    let group = |name: &str| V::ObjectGroup(name.into());
    let key = client.register(key(&[1; 16]), named("one").with(group("b")));
    for (host, name) in [(&b, "b"), (&c, "c")] {
        begin(
            host,
            &UpstreamOptions {
                selection: Selection::everything().with(group(name)),
                ..UpstreamOptions::default()
            },
        );
        pass(host, &a);
    }
    // It leaves one shop's selection, enters the other's, and is compromised before the first has heard of either.
    client.delete(&key, group("b")).unwrap();
    client.add(&key, group("c")).unwrap();
    client
        .revoke(&key, RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    pass(&b, &a);
    pass(&c, &a);
    let id = a.record(&key).id;
    let mark = held(&b, &id).unwrap();
    assert!(mark.is_withdrawn() && mark.is_compromised());
    assert_same(&a, &c, &[key.clone()]);
    // The same material is known to be compromised there for good.
    let again = b.client(Version::V2_1).import(
        "again",
        Some(crate::support::key(&[1; 16])),
        named("again"),
        false,
    );
    assert_eq!(reason(again), ResultReason::PERMISSION_DENIED);
}

/// The entries of a store's s2s state below a prefix.
fn entries(host: &Host, prefix: &[u8]) -> usize {
    let mut count = 0;
    host.store
        .view::<_, keyferry_store::Error>(|snapshot| {
            snapshot.state(&Span::prefix(prefix), &mut |_, _| {
                count += 1;
                Ok(ControlFlow::Continue(()))
            })
        })
        .unwrap();
    count
}

#[test]
fn an_acknowledged_withdrawal_is_forgotten() {
    let (a, b) = (issuer(), follower("b"));
    let client = a.client(Version::V2_1);
    let red = || V::ObjectGroup("red".into());
    let id = client.register(key(&[1; 16]), none().with(red()));
    let what = UpstreamOptions {
        selection: Selection::everything().with(red()),
        ..UpstreamOptions::default()
    };
    begin(&b, &what);
    pass(&b, &a);
    client.delete(&id, red()).unwrap();
    pass(&b, &a);
    pass(&b, &a);
    assert_eq!(entries(&b, b"withdrawn/"), 0, "it was acknowledged");
}

#[test]
fn entries_of_others_objects_move_the_place_on() {
    let (a, b) = (issuer(), follower("b"));
    let client = a.client(Version::V2_1);
    let group = |value: &str| none().with(V::ObjectGroup(value.into()));
    let what = UpstreamOptions {
        selection: Selection::everything().with(V::ObjectGroup("red".into())),
        ..UpstreamOptions::default()
    };
    begin(&b, &what);
    for (n, value) in [(1, "red"), (2, "blue"), (3, "blue")] {
        client.register(key(&[n; 16]), group(value));
        pass(&b, &a);
        let found = b.store.view::<_, Error>(|s| Upstream::find(s, "r"));
        let upstream = found.unwrap().unwrap();
        assert_eq!(upstream.cursor.number(), a.head());
        assert!(upstream.is_up_to_date());
    }
    assert_eq!(b.count(), 1);
}

#[test]
fn a_peer_has_as_many_relations_as_the_limit_says() {
    let mut limits = Limits::default();
    limits.relations = 2;
    let policy = Policy::closed()
        .with("b.example", Peer::new("b").may_follow())
        .with("c.example", Peer::new("c").may_follow())
        .with_limits(limits);
    let a = Host::named("a", Access::Named(["client".to_owned()].into()), policy);
    let (b, c) = (follower("b"), follower("c"));
    let follows = |host: &Host, name: &str| {
        let (what, now) = (UpstreamOptions::default(), host.now().wall);
        Upstream::follow(&*host.store, name, "a", &what, now).unwrap();
        let options = FollowOptions::new(name, Peer::new("a"));
        pass_cut(host, &a, options, Cut::Never)
            .unwrap()
            .map_err(|error| error.to_string())
    };
    for name in ["one", "two", "one"] {
        assert!(follows(&b, name).is_ok(), "{name}");
    }
    let refused = follows(&b, "three").unwrap_err();
    assert!(refused.contains("2 relations of one peer"), "{refused}");
    assert!(follows(&c, "three").is_ok(), "the other peer has its own");
}

#[test]
fn a_copy_that_comes_by_two_relations_stays_when_one_of_them_leaves_it() {
    let (a, b) = (issuer(), follower("b"));
    let client = a.client(Version::V2_1);
    let red = || V::ObjectGroup("red".into());
    let id = client.register(key(&[1; 16]), none().with(red()));
    let what = UpstreamOptions {
        selection: Selection::everything().with(red()),
        ..UpstreamOptions::default()
    };
    begin(&b, &what);
    pass(&b, &a);
    let now = b.now().wall;
    Upstream::follow(&*b.store, "all", "a", &UpstreamOptions::default(), now).unwrap();
    let by_other = || {
        let options = FollowOptions::new("all", Peer::new("a"));
        pass_cut(&b, &a, options, Cut::Never).unwrap().unwrap()
    };
    assert_eq!(of(&by_other(), Outcome::Unchanged), 1);
    let object = b.object(&id);
    assert!(object.is_some());
    client.delete(&id, red()).unwrap();
    pass(&b, &a);
    assert_eq!(b.object(&id), object);
    by_other();
    assert_same(&a, &b, &[id]);
}

#[test]
fn what_may_not_leave_any_more_is_still_heard_of_by_whoever_holds_it() {
    let (a, b) = (issuer(), follower("b"));
    let client = a.client(Version::V2_1);
    let ids = [1, 2].map(|n| client.register(key(&[n; 16]), none()));
    let never = client.register(key(&[3; 16]), none().with(V::Sensitive(true)));
    begin(&b, &UpstreamOptions::default());
    pass(&b, &a);
    let lacking = |host: &Host| {
        host.store
            .view::<_, Error>(|snapshot| WithheldObject::lacking(snapshot, "r"))
            .unwrap()
    };
    let listed = lacking(&b);
    assert_eq!(listed.len(), 1);
    assert_eq!(&*listed[0].identifier, never.as_str());
    assert!(listed[0].why.contains("Sensitive"), "{:?}", listed[0]);
    for id in &ids {
        client.modify(id, None, V::Sensitive(true)).unwrap();
    }
    client.add(&ids[0], name("later")).unwrap();
    pass(&b, &a);
    assert_same(&a, &b, &ids);
    assert_eq!(lacking(&b).len(), 1);
    // Also when everything is read from its beginning again, with material where it may leave.
    client
        .revoke(&ids[0], RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    Upstream::end(&*b.store, "r").unwrap();
    begin(&b, &UpstreamOptions::default());
    pass(&b, &a);
    assert_same(&a, &b, &ids);
    assert_eq!(b.record(&ids[0]).stored_state(), Some(State::COMPROMISED));
    // Whoever holds nothing gets nothing: the object is withheld, and is not asked for again and again.
    let c = follower("b");
    begin(&c, &UpstreamOptions::default());
    pass(&c, &a);
    pass(&c, &a);
    assert_eq!((c.count(), lacking(&c).len()), (0, 3));
    let retries = c.store.view::<_, Error>(|s| Retry::all(s, "r")).unwrap();
    assert!(retries.is_empty(), "{retries:?}");
    // What is destroyed, or does not belong to the selection any more, is not lacking.
    client.destroy(&never).unwrap();
    pass(&c, &a);
    assert_eq!(lacking(&c).len(), 2);
}

#[test]
fn another_selection_withdraws_and_brings() {
    let (a, b) = (issuer(), follower("b"));
    let client = a.client(Version::V2_1);
    let group = |name: &str| V::ObjectGroup(name.into());
    let one = client.register(key(&[1; 16]), named("one").with(group("one")));
    let two = client.register(key(&[2; 16]), named("two").with(group("two")));
    let what = |name: &str| UpstreamOptions {
        selection: Selection::everything().with(group(name)),
        ..UpstreamOptions::default()
    };
    begin(&b, &what("one"));
    pass(&b, &a);
    begin(&b, &what("two"));
    let report = pass(&b, &a);
    assert_eq!(
        (
            of(&report, Outcome::Withdrawn),
            of(&report, Outcome::Created)
        ),
        (1, 1),
        "{}",
        report.table()
    );
    assert!(held(&b, &a.record(&one).id).unwrap().is_withdrawn());
    assert_same(&a, &b, &[two]);
}

#[test]
fn what_the_relation_does_without_does_not_come() {
    let (a, b) = (issuer(), follower("b"));
    let client = a.client(Version::V2_1);
    let one = client.register(
        key(&[1; 16]),
        named("one")
            .with(custom("cost centre", "4711"))
            .with(V::Comment("ours".into())),
    );
    begin(
        &b,
        &UpstreamOptions {
            without: vec!["x-cost centre".into(), "Comment".into(), "State".into()],
            ..UpstreamOptions::default()
        },
    );
    pass(&b, &a);
    let copy = b.record(&one);
    assert!(
        copy.attributes
            .iter()
            .all(|a| !matches!(a.value, V::Custom(_) | V::Comment(_))),
        "{:?}",
        copy.attributes
    );
    assert_eq!(copy.attributes.state(), Some(State::PRE_ACTIVE));
    assert_eq!(
        copy.overlay.as_ref().unwrap().without,
        ["Comment", "x-cost centre"]
    );
    // With all of them from now on, in this relation and in any other with that server.
    let other = UpstreamOptions {
        without: vec!["Comment".into()],
        ..UpstreamOptions::default()
    };
    let now = b.now().wall;
    Upstream::follow(&*b.store, "other", "a", &other, now).unwrap();
    begin(&b, &UpstreamOptions::default());
    let left_out = |relation: &str| {
        let found = b
            .store
            .view::<_, Error>(|snapshot| Upstream::find(snapshot, relation));
        found.unwrap().unwrap().without
    };
    assert!(left_out("other").is_empty());
    let report = pass(&b, &a);
    assert_eq!(of(&report, Outcome::Updated), 1, "{}", report.table());
    assert_same(&a, &b, &[one]);
    Upstream::follow(&*b.store, "other", "a", &other, now).unwrap();
    assert_eq!(left_out("r"), ["Comment"]);
    Upstream::follow(
        &*b.store,
        "elsewhere",
        "c",
        &UpstreamOptions::default(),
        now,
    )
    .unwrap();
    assert_eq!(left_out("r"), ["Comment"], "another server's relation");
}

#[test]
fn what_cannot_be_taken_is_asked_for_again_until_it_can() {
    let (a, b) = (issuer(), follower("b"));
    let client = a.client(Version::V2_1);
    let one = client.register(key(&[1; 16]), named("taken"));
    let own = b
        .client(Version::V2_1)
        .register(key(&[2; 16]), named("taken"));
    begin(&b, &UpstreamOptions::default());
    let report = pass(&b, &a);
    assert_eq!(
        (
            of(&report, Outcome::Failed),
            report.failures[0].identifier.as_str()
        ),
        (1, one.as_str())
    );
    let retries = |host: &Host| host.store.view::<_, Error>(|s| Retry::all(s, "r")).unwrap();
    assert_eq!(retries(&b).len(), 1);
    assert!(retries(&b)[0].why.contains("taken"), "{:?}", retries(&b));
    b.pass(10);
    let report = pass(&b, &a);
    assert_eq!(
        (of(&report, Outcome::Failed), retries(&b)[0].attempts),
        (1, 2)
    );
    b.client(Version::V2_1).destroy(&own).unwrap();
    b.client(Version::V2_1).delete(&own, name("taken")).unwrap();
    b.pass(10);
    assert_eq!(of(&pass(&b, &a), Outcome::Created), 1);
    assert!(retries(&b).is_empty());
    assert_same(&a, &b, &[one]);
}

#[test]
fn relations_show_as_attributes_that_can_be_looked_for() {
    let (a, b) = (
        issuer(),
        Host::named(
            "b",
            Access::Named(["client".to_owned()].into()),
            Policy::closed().with("a.example", Peer::new("a").backed_up()),
        ),
    );
    let one = a
        .client(Version::V2_1)
        .register(key(&[1; 16]), named("one"));
    let red = || V::ObjectGroup("red".into());
    let other = a
        .client(Version::V2_1)
        .register(key(&[2; 16]), named("other").with(red()));
    let what = UpstreamOptions {
        selection: Selection::everything().with(red()),
        address: Some("a.example:5696".into()),
        ..UpstreamOptions::default()
    };
    begin(&b, &what);
    pass(&b, &a);
    for version in [Version::V1_2, Version::V2_1] {
        let shown = |host: &Host, id: &str, attribute: &str| {
            let all = host.client(version).attributes(id);
            let own = all.iter().find_map(|a| match &a.value {
                V::Custom(custom) if custom.vendor == "x" && custom.name == attribute => {
                    custom.value.clone()
                }
                _ => None,
            });
            own.map(|value| format!("{value:?}"))
        };
        let says = |value: &str| Some(format!("Text({value:?})"));
        assert_eq!(shown(&b, &other, "s2s-master"), says("a"));
        assert_eq!(shown(&b, &other, "s2s-origin"), says("a"));
        assert_eq!(shown(&b, &other, "s2s-backup"), says("1"));
        assert_eq!(
            (
                shown(&a, &other, "s2s-slave-b"),
                shown(&a, &one, "s2s-slave-b")
            ),
            (says("1"), None)
        );
        assert_eq!(
            (
                shown(&a, &other, "s2s-master"),
                shown(&a, &other, "s2s-backup")
            ),
            (None, None)
        );
        let located = |host: &Host, name: &str, value: &str| {
            host.client(version)
                .locate(Attributes::new().with(V::Custom(CustomAttribute::text(name, value))))
        };
        assert_eq!(located(&a, "s2s-slave-b", "1"), [other.clone()]);
        assert_eq!(located(&b, "s2s-master", "a"), [other.clone()]);
        assert!(
            located(&b, "s2s-master", "b").is_empty() && located(&a, "s2s-slave-c", "1").is_empty()
        );
    }
    // Nothing of it is stored or sent, and nobody may claim it.
    assert!(
        a.record(&other)
            .attributes
            .iter()
            .all(|a| !is_shadow(&a.value))
    );
    let claimed = named("claimed").with(V::Custom(CustomAttribute::text("s2s-master", "c")));
    let refused = b
        .client(Version::V2_1)
        .import("claimed", Some(key(&[3; 16])), claimed, false)
        .unwrap_err();
    assert_eq!(refused.0, ResultReason::ATTRIBUTE_READ_ONLY);
    // Who may not change it here is told who may, and where.
    let refused = b
        .client(Version::V2_1)
        .add(&other, name("more"))
        .unwrap_err();
    assert_eq!(refused.0, ResultReason::PERMISSION_DENIED);
    assert!(
        refused.1.contains("\"a\", at a.example:5696"),
        "{refused:?}"
    );
}

#[test]
fn a_replica_forwards_changes_of_its_copies_to_their_master() {
    let (a, b) = (issuer(), follower("b"));
    let one = a
        .client(Version::V2_1)
        .register(key(&[1; 16]), named("one"));
    begin(&b, &UpstreamOptions::default());
    pass(&b, &a);
    let is_up = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (there, up) = (a.clone(), is_up.clone());
    let server = keyferry_server::Server::new(keyferry_server::Options {
        server: "b".into(),
        store: b.store.clone(),
        crypto: std::sync::Arc::new(keyferry_crypto::Ring::new()),
        random: Box::new(SystemRandom::new()),
        access: Access::Named(["client".to_owned()].into()),
        policy: Policy::closed(),
    });
    let server = server
        .unwrap()
        .with_rights(keyferry_server::Rights::shared())
        .with_forwarder(move |master, caller, request| {
            assert_eq!(master, "a");
            let Answer::Reply(answer) =
                there
                    .server
                    .answer(caller, there.now(), &request.to_frame().ok()?)
            else {
                return None;
            };
            up.load(std::sync::atomic::Ordering::SeqCst)
                .then_some(answer)
        });
    let b = Host {
        server: std::sync::Arc::new(server),
        ..b
    };
    let client = b.client(Version::V2_1);
    let own = client.register(key(&[2; 16]), named("own"));
    // Its own it changes itself; a copy's master is asked, and the replica hears of it as ever.
    client.add(&own, name("mine")).unwrap();
    assert!(a.client(Version::V2_1).locate(named("mine")).is_empty());
    client.add(&one, name("two")).unwrap();
    client.activate(&one).unwrap();
    assert_eq!(a.client(Version::V2_1).state(&one), State::ACTIVE);
    assert_eq!(client.state(&one), State::PRE_ACTIVE);
    pass(&b, &a);
    assert_eq!(client.state(&one), State::ACTIVE);
    assert_same(&a, &b, &[one.clone()]);
    // What the master refuses is refused in its words.
    let refused = client.activate(&one).unwrap_err();
    assert_eq!(
        refused.0,
        a.client(Version::V2_1).activate(&one).unwrap_err().0
    );
    // Nobody who may not change it here changes it there by this way; and a master that can't be reached is named.
    assert!(
        b.client_named("stranger", Version::V2_1)
            .revoke(&one, RevocationReasonCode::SUPERSEDED)
            .is_err()
    );
    assert_eq!(a.client(Version::V2_1).state(&one), State::ACTIVE);
    is_up.store(false, std::sync::atomic::Ordering::SeqCst);
    let refused = client.delete(&one, name("two")).unwrap_err();
    assert_eq!(refused.0, ResultReason::PERMISSION_DENIED);
    assert!(
        refused.1.contains("its master is the server \"a\""),
        "{refused:?}"
    );
}
