//! What a server was sent is told of by whatever way is left: its account outlives the relation, the push or the bundle that it came by.

use crate::bulk::drive::*;
use crate::bulk::follows::{begin, follow_options, follower, held, issuer, pass, pass_cut};
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_s2s::*;
use keyferry_server::Access;
use keyferry_store::{SnapshotExt, StoreExt};
use keyferry_ttlv::Version;

/// A server that `b` may follow, and that pushes to it; and `b`.
fn both_ways() -> (Host, Host) {
    let access = || Access::Named(["client".to_owned()].into());
    let policy = Policy::closed().with("b.example", Peer::new("b").may_follow());
    let a = Host::named("a", access(), policy);
    let policy = Policy::closed().with("a.example", Peer::new("a").may_send());
    (a, Host::named("b", access(), policy))
}

fn group(name: &str) -> Selection {
    Selection::everything().with(V::ObjectGroup(name.into()))
}

fn keys(host: &Host, of: &str, count: usize) -> Vec<String> {
    let client = host.client(Version::V2_1);
    let made = (0..count).map(|_| {
        let attributes = named(&format!("key {}", host.count())).with(V::ObjectGroup(of.into()));
        let id = client.create(attributes);
        client.activate(&id).unwrap();
        id
    });
    made.collect()
}

fn follow(b: &Host, selection: Selection) {
    begin(
        b,
        &UpstreamOptions {
            selection,
            ..UpstreamOptions::default()
        },
    );
}

fn push(a: &Host, b: &Host, selection: Selection) -> Report {
    let mut session = Bulk::new(BulkOptions {
        selection,
        ..options(Strategy::Import)
    });
    let report = drive(a, b, &mut session, "a.example", Cut::Never, &mut |_, _| {});
    report.unwrap().unwrap()
}

fn unkept(host: &Host) -> Vec<(String, UnkeptReason)> {
    let copies = UnkeptCopy::all(host.server.node(), &*host.store, host.now().wall).unwrap();
    let all = copies
        .iter()
        .map(|copy| (copy.identifier.to_string(), copy.why));
    all.collect()
}

fn proved(host: &Host, relation: &str) -> bool {
    let found = host.store.view::<_, Error>(|snapshot| {
        let alarms = Alarm::all(snapshot)?;
        assert!(alarms.is_empty(), "{alarms:?}");
        Ok(Upstream::find(snapshot, relation)?.unwrap().proved)
    });
    found.unwrap().is_some()
}

#[test]
fn a_relation_tells_of_the_end_of_what_was_pushed_beside_it() {
    let (a, b) = both_ways();
    let red = keys(&a, "red", 1);
    follow(&b, group("red"));
    pass(&b, &a);
    let blue = keys(&a, "blue", 4);
    push(&a, &b, group("blue"));
    // Never sent, and over like the others.
    let green = keys(&a, "green", 1);
    let client = a.client(Version::V2_1);
    a.pass(10);
    for id in [&blue[0], &green[0]] {
        client
            .revoke(id, RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
    }
    for id in &blue[1..3] {
        client
            .revoke(id, RevocationReasonCode::CESSATION_OF_OPERATION)
            .unwrap();
    }
    client.destroy(&blue[1]).unwrap();
    client.add(&blue[3], name("still in use")).unwrap();
    for _ in 0..3 {
        pass(&b, &a);
    }
    let there = b.client(Version::V2_1);
    assert_eq!(there.state(&blue[0]), State::COMPROMISED);
    assert!(b.record(&blue[1]).is_destroyed() && b.object(&blue[1]).is_none());
    assert_eq!(there.state(&blue[2]), State::DEACTIVATED);
    // What is in use still is told of by the next push alone. Nothing was withdrawn, and nothing came that was not sent before.
    assert_eq!(there.state(&blue[3]), State::ACTIVE);
    assert_eq!(b.count(), 5);
    let sent = |id: &String| (id.clone(), UnkeptReason::Sent);
    assert_eq!(unkept(&b), [sent(&blue[3]), sent(&blue[0]), sent(&blue[2])]);
    assert!(proved(&b, "r"));
    assert_same(&a, &b, &red);
    // It is told once: nothing new is nothing to write.
    let head = || b.store.view(|snapshot| snapshot.head()).unwrap();
    let before = head();
    pass(&b, &a);
    assert_eq!(head(), before);
}

#[test]
fn a_push_tells_of_the_end_of_what_an_ended_relation_has_brought() {
    let (a, b) = both_ways();
    let red = keys(&a, "red", 2);
    let blue = keys(&a, "blue", 1);
    follow(&b, group("red"));
    pass(&b, &a);
    let client = a.client(Version::V2_1);
    a.pass(10);
    let compromise = |id: &str| {
        client
            .revoke(id, RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
    };
    // As long as the relation runs, it tells of its copies itself.
    compromise(&red[0]);
    assert_eq!(counts(&push(&a, &b, group("blue"))), (1, 0, 0, 0));
    let there = b.client(Version::V2_1);
    assert_eq!(there.state(&red[0]), State::ACTIVE);
    Downstream::end(&*a.store, "b", "r").unwrap();
    compromise(&red[1]);
    assert_eq!(counts(&push(&a, &b, group("blue"))), (0, 2, 1, 0));
    for id in &red {
        assert_eq!(there.state(id), State::COMPROMISED);
    }
    assert_same(&a, &b, &blue);
    // What is forgotten is told of no more.
    let shown = || {
        let attributes = client.attributes(&red[0]);
        let slave = custom("s2s-slave-b", "1");
        attributes.iter().any(|one| one.value == slave)
    };
    assert!(shown());
    Downstream::forget(&*a.store, "b", "r").unwrap();
    client.destroy(&red[0]).unwrap();
    assert_eq!(counts(&push(&a, &b, group("blue"))), (0, 0, 1, 0));
    assert!(!shown() && b.object(&red[0]).is_some());
}

#[test]
fn a_relay_that_is_followed_under_another_name_tells_what_was_missed() {
    let a = issuer();
    let policy = Policy::closed()
        .with("a.example", Peer::new("a").may_send())
        .with("c.example", Peer::new("c").may_follow().may_follow_copies());
    let access = Access::Named(["client".to_owned()].into());
    let (b, c) = (Host::named("b", access, policy), follower("c"));
    let ids = keys(&a, "red", 3);
    follow(&b, Selection::everything());
    pass(&b, &a);
    let pass_of_c = |relation: &str| {
        let options = FollowOptions::new(relation, Peer::new("b").may_relay_for(["a"]));
        pass_cut(&c, &b, options, Cut::Never).unwrap().unwrap()
    };
    let all = UpstreamOptions::default();
    Upstream::follow(&*c.store, "s", "b", &all, c.now().wall).unwrap();
    pass_of_c("s");
    assert_same(&a, &c, &ids);
    Upstream::end(&*c.store, "s").unwrap();
    // Meanwhile one object is destroyed, and one is compromised.
    let client = a.client(Version::V2_1);
    client
        .revoke(&ids[0], RevocationReasonCode::CESSATION_OF_OPERATION)
        .unwrap();
    client.destroy(&ids[0]).unwrap();
    client
        .revoke(&ids[1], RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    pass(&b, &a);
    Upstream::follow(&*c.store, "t", "b", &all, c.now().wall).unwrap();
    for _ in 0..3 {
        pass_of_c("t");
    }
    let gone = held(&c, &a.record(&ids[0]).id).unwrap();
    assert!(gone.is_destroyed() && c.object(&ids[0]).is_none());
    let there = c.client(Version::V2_1);
    assert_eq!(there.state(&ids[1]), State::COMPROMISED);
    assert_eq!(unkept(&c), []);
    assert!(proved(&c, "t"));
}

#[test]
fn another_relation_with_the_same_server_changes_no_record() {
    let (a, b) = (issuer(), follower("b"));
    let ids = keys(&a, "red", 7);
    follow(&b, Selection::everything());
    pass(&b, &a);
    let head = || b.store.view(|snapshot| snapshot.head()).unwrap();
    let before = head();
    Upstream::end(&*b.store, "r").unwrap();
    assert_eq!(unkept(&b).len(), 7);
    let all = UpstreamOptions::default();
    Upstream::follow(&*b.store, "s", "a", &all, b.now().wall).unwrap();
    let pass_of_s = || {
        let options = FollowOptions {
            relation: "s".into(),
            ..follow_options()
        };
        pass_cut(&b, &a, options, Cut::Never).unwrap().unwrap()
    };
    for _ in 0..3 {
        pass_of_s();
    }
    assert_eq!(unkept(&b), []);
    assert_eq!(head(), before, "nobody who follows b hears of it");
    let brings = |relation: &str, id: &str| {
        let brings = b.store.view::<_, Error>(|snapshot| {
            let number = snapshot.by_identifier(id)?.unwrap().0;
            Upstream::find(snapshot, relation)?
                .unwrap()
                .brings(snapshot, number)
        });
        brings.unwrap()
    };
    assert!(ids.iter().all(|id| brings("s", id)));
    assert!(proved(&b, "s"));
    // The two are compared at once, and a change comes as ever.
    a.client(Version::V2_1).add(&ids[0], name("new")).unwrap();
    pass_of_s();
    assert_same(&a, &b, &ids);
    assert!(proved(&b, "s"));
}

#[test]
fn a_relation_that_is_begun_again_under_its_name_goes_on_counting() {
    let (a, b) = (issuer(), follower("b"));
    let ids = keys(&a, "red", 2);
    let upstream = || {
        let found = b
            .store
            .view::<_, Error>(|snapshot| Upstream::find(snapshot, "r"));
        found.unwrap().unwrap()
    };
    follow(&b, Selection::everything());
    assert_eq!(upstream().session, 0);
    pass(&b, &a);
    let last = upstream().session;
    assert!(last > 0);
    // What this process remembers of the relation that has ended is not taken for what the new one has.
    Upstream::end(&*b.store, "r").unwrap();
    follow(&b, Selection::everything());
    assert_eq!(upstream().session, last);
    for _ in 0..3 {
        pass(&b, &a);
    }
    assert!(upstream().session > last && proved(&b, "r"));
    assert_same(&a, &b, &ids);
}
