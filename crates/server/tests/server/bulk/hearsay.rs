//! A relay makes something up: the issuer's own word undoes it.

use crate::bulk::drive::*;
use crate::bulk::follows::*;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_s2s::*;
use keyferry_server::Access;
use keyferry_store::{Effects, Material, Record, SnapshotExt, StoreExt};
use keyferry_ttlv::Version;

/// The relay `b`, which follows `a`.
fn relay() -> Host {
    let policy =
        Policy::closed().with("c.example", Peer::new("c").may_follow().may_follow_copies());
    let b = Host::named("b", Access::Named(["client".to_owned()].into()), policy);
    begin(&b, &UpstreamOptions::default());
    b
}

/// The replica `c`, which follows `a` itself and what `b` has.
fn replica_of_both() -> Host {
    let c = follower("c");
    begin(&c, &UpstreamOptions::default());
    let (what, now) = (UpstreamOptions::default(), c.now().wall);
    Upstream::follow(&*c.store, "by b", "b", &what, now).unwrap();
    c
}

fn pass_by_relay(c: &Host, b: &Host, from: Peer) -> Report {
    let options = FollowOptions::new("by b", from);
    pass_cut(c, b, options, Cut::Never).unwrap().unwrap()
}

/// The relay tells of a change that the issuer has never made.
fn make_up(b: &Host, id: &str, change: impl Fn(&mut Record) -> Material) {
    b.store
        .transact::<_, Error>(|transaction| {
            let held = transaction.by_identifier(id)?.unwrap();
            let mut after = held.1.clone();
            after.stamp.sequence += 1;
            let material = change(&mut after);
            Ok(Effects::change(Some(held), after, material).apply(transaction)?)
        })
        .unwrap();
}

fn forks_of(host: &Host) -> Vec<Fork> {
    host.store.view::<_, Error>(|s| Fork::all(s)).unwrap()
}

#[test]
fn what_a_relay_made_up_gives_way_to_the_issuer_and_is_named() {
    for destroys in [false, true] {
        let (a, b, c) = (issuer(), relay(), replica_of_both());
        let client = a.client(Version::V2_1);
        let ids = [1, 2].map(|n| client.register(key(&[n; 16]), none()));
        pass(&b, &a);
        pass(&c, &a);
        pass_by_relay(&c, &b, Peer::new("b").may_relay());
        make_up(&b, &ids[0], |record| {
            if destroys {
                record.attributes.set(V::State(State::DESTROYED));
                return Material::Remove;
            }
            record.attributes.push(name("made up"));
            Material::Keep
        });
        pass_by_relay(&c, &b, Peer::new("b").may_relay());
        assert_eq!(c.object(&ids[0]).is_none(), destroys);
        // The issuer is asked for it as soon as it tells of the object again.
        begin(
            &c,
            &UpstreamOptions {
                without: vec!["Comment".into()],
                ..UpstreamOptions::default()
            },
        );
        pass(&c, &a);
        pass(&c, &a);
        assert_same(&a, &c, &ids);
        assert_eq!(c.object(&ids[0]), a.object(&ids[0]));
        let named = forks_of(&c);
        assert_eq!(named.len(), 1, "{named:?}");
        assert_eq!(named[0].stamp.sequence, 2);
    }
}

#[test]
fn what_the_issuer_has_destroyed_is_destroyed_whatever_a_relay_made_up() {
    let (a, b, c) = (issuer(), relay(), replica_of_both());
    let client = a.client(Version::V2_1);
    let id = client.register(key(&[1; 16]), none());
    pass(&b, &a);
    pass(&c, &a);
    make_up(&b, &id, |record| {
        record.attributes.push(name("made up"));
        Material::Keep
    });
    pass_by_relay(&c, &b, Peer::new("b").may_relay());
    client.destroy(&id).unwrap();
    pass(&c, &a);
    pass(&c, &a);
    assert_eq!(c.object(&id), None);
    let (here, there) = (c.record(&id), a.record(&id));
    assert_eq!(
        (here.stored_state(), &here.stamp),
        (Some(State::DESTROYED), &there.stamp)
    );
    assert_eq!(forks_of(&c).len(), 1);
}

#[test]
fn what_a_server_may_not_relay_is_refused_counted_and_not_asked_for_again() {
    let (a, b) = (issuer(), relay());
    let id = a.client(Version::V2_1).register(key(&[1; 16]), none());
    pass(&b, &a);
    let c = follower("c");
    let (what, now) = (UpstreamOptions::default(), c.now().wall);
    Upstream::follow(&*c.store, "by b", "b", &what, now).unwrap();
    let before = c.server.node().refusals.counts();
    let report = pass_by_relay(&c, &b, Peer::new("b"));
    assert_eq!((report.counts.failed, c.count()), (1, 0));
    let after = c.server.node().refusals.counts();
    assert_eq!(after.unauthorised, before.unauthorised + 1);
    let retries = c.store.view::<_, Error>(|s| Retry::all(s, "by b")).unwrap();
    assert!(retries.is_empty(), "{retries:?}");
    // When policy lets it, the feed is read from its beginning.
    pass_by_relay(&c, &b, Peer::new("b").may_relay());
    assert_eq!(c.object(&id), a.object(&id));
}

#[test]
fn another_agreement_at_the_issuer_withdraws_and_brings() {
    let red = |value: &str| V::ObjectGroup(value.into());
    let agreed = |value: &str| Selection::everything().with(red(value));
    let a = issuer_with(|peer| peer.agreed(agreed("one")));
    let client = a.client(Version::V2_1);
    let one = client.register(key(&[1; 16]), none().with(red("one")));
    let two = client.register(key(&[2; 16]), none().with(red("two")));
    let c = follower("c");
    begin(&c, &UpstreamOptions::default());
    pass(&c, &a);
    assert_eq!(c.count(), 1);
    let store = a.store.clone();
    let policy = issuer_with(|peer| peer.agreed(agreed("two")))
        .server
        .node()
        .policy
        .clone();
    drop(a);
    let access = Access::Named(["client".to_owned()].into());
    let a = Host::over("a", store, access, policy);
    pass(&c, &a);
    assert_same(&a, &c, &[two]);
    assert!(held(&c, &a.record(&one).id).unwrap().is_withdrawn());
}

#[test]
fn a_claim_to_hold_a_copy_counts_with_a_receipt_alone() {
    let blue = UpstreamOptions {
        selection: Selection::everything().with(V::ObjectGroup("blue".into())),
        ..UpstreamOptions::default()
    };
    for has_receipt in [false, true] {
        let policy = Policy::closed()
            .with("a.example", Peer::new("a").may_send())
            .with("b.example", Peer::new("b").may_send().may_relay());
        let access = || Access::Named(["client".to_owned()].into());
        let (a, c) = (issuer(), Host::named("c", access(), policy));
        let id = a.client(Version::V2_1).register(key(&[1; 16]), none());
        if has_receipt {
            transfer(&a, &c, Strategy::Import);
        } else {
            // Another server has got hold of the copy, and has no receipt that it could pass on.
            let b = Host::named("b", access(), Policy::closed());
            let (record, object) = (a.record(&id), a.object(&id));
            b.store
                .transact::<_, Error>(|transaction| {
                    let material = Material::Set(object.clone().unwrap().into());
                    Ok(Effects::change(None, record.clone(), material).apply(transaction)?)
                })
                .unwrap();
            transfer(&b, &c, Strategy::Import);
        }
        assert!(c.object(&id).is_some());
        begin(&c, &blue);
        a.client(Version::V2_1).destroy(&id).unwrap();
        pass(&c, &a);
        pass(&c, &a);
        // With a receipt it hears of the end. Without one it hears what it would hear of an object that does not exist.
        let copy = held(&c, &a.record(&id).id).unwrap();
        let is_destroyed = copy.stored_state() == Some(State::DESTROYED);
        assert_eq!(is_destroyed, has_receipt);
        let missing = c
            .store
            .view::<_, Error>(|s| objects_missing_at_issuer(s, "r"))
            .unwrap();
        assert_eq!(missing.len(), usize::from(!has_receipt));
        let unproved = a.server.node().refusals.counts().unproved;
        assert_eq!(unproved > 0, !has_receipt);
    }
}
