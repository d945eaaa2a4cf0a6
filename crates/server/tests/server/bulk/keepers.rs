//! Copies that nobody keeps true: they are listed, and can be withheld, withdrawn, and given another keeper.

use crate::bulk::drive::*;
use crate::bulk::follows::{begin, follow_options, follower, held, issuer, pass, pass_cut};
use crate::support::*;
use keyferry_kmip::spec::*;
use keyferry_s2s::*;
use keyferry_server::Access;
use keyferry_store::{Faulty, StoreExt};
use keyferry_ttlv::Version;

fn unkept(host: &Host) -> Vec<UnkeptCopy> {
    UnkeptCopy::all(host.server.node(), &*host.store, host.now().wall).unwrap()
}

fn reasons(host: &Host) -> Vec<(String, UnkeptReason)> {
    let copies = unkept(host);
    let mut all: Vec<_> = copies
        .iter()
        .map(|copy| (copy.identifier.to_string(), copy.why))
        .collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

/// Active keys at a host.
fn keys(host: &Host, count: usize) -> Vec<String> {
    let client = host.client(Version::V2_1);
    let made = (0..count).map(|_| {
        let id = client.create(named(&format!("key {}", host.count())));
        client.activate(&id).unwrap();
        id
    });
    let mut ids: Vec<String> = made.collect();
    ids.sort();
    ids
}

fn compromise(host: &Host, id: &str) {
    host.client(Version::V2_1)
        .revoke(id, RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
}

fn ends_there(b: &Host, a: &Host) {
    let error = pass_cut(b, a, follow_options(), Cut::Never)
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Peer);
    assert!(error.to_string().contains("ended the relation"), "{error}");
}

#[test]
fn a_relation_that_its_issuer_has_ended_stays_ended_and_its_copies_are_listed() {
    let (a, b) = (issuer(), follower("b"));
    let ids = keys(&a, 2);
    begin(&b, &UpstreamOptions::default());
    pass(&b, &a);
    assert_eq!(unkept(&b), []);
    Downstream::end(&*a.store, "b", "r").unwrap();
    compromise(&a, &ids[0]);
    // However often it asks.
    for _ in 0..3 {
        ends_there(&b, &a);
    }
    let all = |why| ids.iter().map(|id| (id.clone(), why)).collect::<Vec<_>>();
    assert_eq!(reasons(&b), all(UnkeptReason::EndedThere));
    assert!(
        unkept(&b)
            .iter()
            .all(|copy| copy.since.is_some() && copy.master == "a")
    );
    let upstream = b
        .store
        .view::<_, Error>(|s| Upstream::find(s, "r"))
        .unwrap();
    assert!(!upstream.unwrap().is_up_to_date());
    assert_eq!(b.client(Version::V2_1).state(&ids[0]), State::ACTIVE);
    // Clients of the issuer see that the copy is there still.
    let attributes = a.client(Version::V2_1).attributes(&ids[0]);
    assert!(
        attributes
            .iter()
            .any(|one| one.value == custom("s2s-slave-b", "1"))
    );
    // A person lets it follow again, and it hears what it has missed.
    Downstream::begin_again(&*a.store, "b", "r").unwrap();
    pass(&b, &a);
    assert_eq!(unkept(&b), []);
    assert_eq!(b.client(Version::V2_1).state(&ids[0]), State::COMPROMISED);
    assert_same(&a, &b, &ids);
    // What is forgotten follows as a new relation, and is no fault of anybody.
    Downstream::end(&*a.store, "b", "r").unwrap();
    Downstream::forget(&*a.store, "b", "r").unwrap();
    compromise(&a, &ids[1]);
    pass(&b, &a);
    assert_eq!(b.client(Version::V2_1).state(&ids[1]), State::COMPROMISED);
    let refused = Downstream::end(&*a.store, "b", "other").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Relation);
}

#[test]
fn a_relation_that_was_ended_or_paused_here_leaves_its_copies_listed_until_another_tells_of_them() {
    let (a, b) = (issuer(), follower("b"));
    let ids = keys(&a, 2);
    let all = |why| ids.iter().map(|id| (id.clone(), why)).collect::<Vec<_>>();
    begin(&b, &UpstreamOptions::default());
    pass(&b, &a);
    let contact = b.now().wall;
    b.pass(100);
    Upstream::pause(&*b.store, "r").unwrap();
    assert_eq!(reasons(&b), all(UnkeptReason::Paused));
    Upstream::resume(&*b.store, "r").unwrap();
    assert_eq!(unkept(&b), []);
    Upstream::end(&*b.store, "r").unwrap();
    assert_eq!(reasons(&b), all(UnkeptReason::Ended));
    assert!(unkept(&b).iter().all(|copy| copy.since == Some(contact)));
    let table = UnkeptCopy::table(&unkept(&b), b.now().wall);
    assert_eq!(table.lines().count(), 3);
    assert!(
        table.contains("\ta\t100\tthe relation was ended here"),
        "{table}"
    );
    // Under another name it is the same server that tells of its own objects.
    compromise(&a, &ids[0]);
    Upstream::follow(
        &*b.store,
        "s",
        "a",
        &UpstreamOptions::default(),
        b.now().wall,
    )
    .unwrap();
    let options = FollowOptions {
        relation: "s".into(),
        ..follow_options()
    };
    pass_cut(&b, &a, options, Cut::Never).unwrap().unwrap();
    assert_eq!(unkept(&b), []);
    assert_eq!(b.client(Version::V2_1).state(&ids[0]), State::COMPROMISED);
}

#[test]
fn a_relay_that_hears_of_an_issuer_no_more_says_so() {
    let a = issuer();
    // The relay `b` is followed by `c`, which follows nobody else.
    let policy = Policy::closed()
        .with("a.example", Peer::new("a").may_send())
        .with("c.example", Peer::new("c").may_follow().may_follow_copies());
    let access = Access::Named(["client".to_owned()].into());
    let (b, c) = (Host::named("b", access, policy), follower("c"));
    let ids = keys(&a, 2);
    begin(&b, &UpstreamOptions::default());
    let all = UpstreamOptions::default();
    Upstream::follow(&*c.store, "s", "b", &all, c.now().wall).unwrap();
    let pass_of_c = || {
        let options = FollowOptions::new("s", Peer::new("b").may_relay_for(["a"]));
        pass_cut(&c, &b, options, Cut::Never).unwrap().unwrap()
    };
    let at_relay: Vec<_> = ids
        .iter()
        .map(|id| (id.clone(), UnkeptReason::AtRelay))
        .collect();
    pass(&b, &a);
    pass_of_c();
    assert_same(&a, &c, &ids);
    assert_eq!(unkept(&c), []);
    // However the relay loses its issuer, and however it gets it back.
    Downstream::end(&*a.store, "b", "r").unwrap();
    ends_there(&b, &a);
    pass_of_c();
    assert_eq!(reasons(&c), at_relay);
    Downstream::begin_again(&*a.store, "b", "r").unwrap();
    pass(&b, &a);
    pass_of_c();
    assert_eq!(unkept(&c), []);
    Upstream::pause(&*b.store, "r").unwrap();
    pass_of_c();
    assert_eq!(reasons(&c), at_relay);
    Upstream::resume(&*b.store, "r").unwrap();
    pass_of_c();
    assert_eq!(unkept(&c), []);
    Upstream::end(&*b.store, "r").unwrap();
    pass_of_c();
    assert_eq!(reasons(&c), at_relay);
    // What the relay issues itself it knows best.
    let own = keys(&b, 1);
    pass_of_c();
    assert!(reasons(&c).iter().all(|(id, _)| *id != own[0]));
}

#[test]
fn what_was_pushed_outside_a_relation_is_listed_though_its_issuer_is_followed() {
    let policy = Policy::closed().with("b.example", Peer::new("b").may_follow());
    let access = || Access::Named(["client".to_owned()].into());
    let a = Host::named("a", access(), policy);
    let policy = Policy::closed().with("a.example", Peer::new("a").may_send());
    let b = Host::named("b", access(), policy);
    let client = a.client(Version::V2_1);
    let group = |name: &str| keyferry_kmip::spec::AttributeValue::ObjectGroup(name.into());
    let red = client.create(named("red one").with(group("red")));
    begin(
        &b,
        &UpstreamOptions {
            selection: Selection::everything().with(group("red")),
            ..UpstreamOptions::default()
        },
    );
    pass(&b, &a);
    let blue = client.create(named("blue one").with(group("blue")));
    transfer(&a, &b, Strategy::Import);
    assert_eq!(reasons(&b), [(blue, UnkeptReason::Sent)]);
    assert!(b.count() == 2 && b.record(&red).stamp == a.record(&red).stamp);
}

#[test]
fn what_was_pushed_is_listed_since_its_sender_was_heard_and_withheld_where_policy_says_so() {
    for strategy in BOTH {
        let a = master();
        let peer = Peer::new("a").may_send().withholding_unkept(3600);
        let policy = Policy::closed().with("a.example", peer);
        let b = Host::named("b", Access::Named(["client".to_owned()].into()), policy);
        let ids = keys(&a, 2);
        transfer(&a, &b, strategy);
        let sent = b.now().wall;
        let there = b.client(Version::V2_1);
        b.pass(3600);
        assert_eq!(
            reasons(&b),
            ids.iter()
                .map(|id| (id.clone(), UnkeptReason::Sent))
                .collect::<Vec<_>>()
        );
        assert!(unkept(&b).iter().all(|copy| copy.since == Some(sent)));
        there.get(&ids[0]).unwrap();
        b.pass(1);
        assert_eq!(reason(there.get(&ids[0])), ResultReason::PERMISSION_DENIED);
        assert_eq!(
            reason(there.export(&ids[0])),
            ResultReason::PERMISSION_DENIED
        );
        // Its attributes are seen, and what is made here is served.
        assert_eq!(there.state(&ids[0]), State::ACTIVE);
        let own = there.create(named("own"));
        there.get(&own).unwrap();
        // The next push, by which nothing is new, says that the copies are true.
        let report = transfer(&a, &b, strategy);
        assert_eq!(counts(&report), (0, 0, 2, 0));
        there.get(&ids[0]).unwrap();
    }
}

#[test]
fn an_unkept_copy_can_be_withdrawn_and_a_kept_one_can_not() {
    let (a, b) = (issuer(), follower("b"));
    let ids = keys(&a, 2);
    begin(&b, &UpstreamOptions::default());
    pass(&b, &a);
    let id = b.record(&ids[0]).id;
    let withdraw = || UnkeptCopy::withdraw(b.server.node(), &*b.store, &id, b.now().wall);
    assert_eq!(withdraw().unwrap_err().kind(), ErrorKind::Relation);
    Downstream::end(&*a.store, "b", "r").unwrap();
    ends_there(&b, &a);
    withdraw().unwrap();
    let there = b.client(Version::V2_1);
    assert_eq!(
        reason(there.get(&ids[0])),
        by(
            Version::V2_1,
            ResultReason::ITEM_NOT_FOUND,
            ResultReason::OBJECT_NOT_FOUND
        )
    );
    assert!(held(&b, &id).unwrap().is_withdrawn());
    assert_eq!(reasons(&b), [(ids[1].clone(), UnkeptReason::EndedThere)]);
    // When it is kept again, it comes again.
    Downstream::begin_again(&*a.store, "b", "r").unwrap();
    pass(&b, &a);
    assert_same(&a, &b, &ids);
    there.get(&ids[0]).unwrap();
    // Nobody withdraws what is issued here.
    let own = there.create(named("own"));
    let own = b.record(&own).id;
    let refused = UnkeptCopy::withdraw(b.server.node(), &*b.store, &own, b.now().wall).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Relation);
}

#[test]
fn a_copy_that_its_master_does_not_have_any_more_can_be_withdrawn() {
    let (a, b) = (issuer(), follower("b"));
    let kept = keys(&a, 1);
    let before = Faulty::new(a.store.inner().clone());
    begin(&b, &UpstreamOptions::default());
    let lost = keys(&a, 1);
    pass(&b, &a);
    // The master is put back, and may not have back what it has lost.
    let policy = Policy::closed().with("b.example", Peer::new("b").may_follow());
    let access = Access::Named(["client".to_owned()].into());
    let a = Host::over("a", before.into(), access, policy);
    pass(&b, &a);
    pass(&b, &a);
    let missing = || {
        b.store
            .view::<_, Error>(|s| objects_missing_at_issuer(s, "r"))
            .unwrap()
    };
    let id = b.record(&lost[0]).id;
    assert_eq!(missing(), [id.clone()]);
    UnkeptCopy::withdraw(b.server.node(), &*b.store, &id, b.now().wall).unwrap();
    assert_eq!(missing(), []);
    assert!(held(&b, &id).unwrap().is_withdrawn());
    pass(&b, &a);
    assert_eq!(missing(), []);
    assert_same(&a, &b, &kept);
}
