//! A clock that jumps stores nothing that dates have led to, until it is right again or somebody confirms it.

use crate::bulk::drive::Cut;
use crate::bulk::follows::{begin, follow_options, follower, issuer_with, pass_cut};
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_store::StoreExt;
use keyferry_ttlv::Version;

const DAY: i64 = 86_400;

fn alarms(host: &Host) -> Vec<Alarm> {
    host.store.view::<_, Error>(|s| Alarm::all(s)).unwrap()
}

/// A key that becomes Active, and one that is to be deactivated, so many seconds from now.
fn dated(host: &Host, seconds: i64) -> [String; 2] {
    let client = host.client(Version::V2_1);
    let date = DateTime(host.now().wall.0 + seconds);
    let begins = client.create(none().with(V::ActivationDate(date)));
    let ends = client.create(none().with(V::DeactivationDate(date)));
    client.activate(&ends).unwrap();
    [begins, ends]
}

fn stored(host: &Host, ids: &[String; 2]) -> [State; 2] {
    [0, 1].map(|at| host.record(&ids[at]).attributes.state().unwrap())
}

const AS_THEY_WERE: [State; 2] = [State::PRE_ACTIVE, State::ACTIVE];
const DUE: [State; 2] = [State::ACTIVE, State::DEACTIVATED];

fn settle(host: &Host) -> usize {
    host.server.store_due_states(host.now(), 10).unwrap()
}

#[test]
fn a_clock_that_is_wrong_for_seconds_or_a_day_stores_nothing() {
    for wrong in [7, DAY] {
        let host = Host::new();
        let ids = dated(&host, wrong);
        assert_eq!(settle(&host), 0);
        host.jump(wrong);
        assert_eq!((settle(&host), settle(&host)), (0, 0));
        assert_eq!(stored(&host, &ids), AS_THEY_WERE);
        // Reads go by the clock as it is.
        let client = host.client(Version::V2_1);
        assert_eq!(client.state(&ids[0]), State::ACTIVE);
        let named = alarms(&host);
        assert_eq!(named.len(), 1);
        assert_eq!((named[0].kind, named[0].count), (AlarmKind::CLOCK, 1));
        // Backwards is no better.
        host.jump(-2 * wrong);
        assert_eq!(settle(&host), 0);
        // It is right again, and goes on.
        host.jump(wrong);
        assert_eq!(
            (settle(&host), client.state(&ids[0])),
            (0, State::PRE_ACTIVE)
        );
        host.pass(wrong);
        assert_eq!(settle(&host), 2);
        assert_eq!(stored(&host, &ids), DUE);
    }
}

#[test]
fn a_person_confirms_a_clock_that_was_set_on_purpose() {
    let host = Host::new();
    let ids = dated(&host, DAY);
    assert_eq!(settle(&host), 0);
    host.jump(DAY);
    assert_eq!(settle(&host), 0);
    host.server.confirm_time(host.now());
    assert_eq!(settle(&host), 2);
    assert_eq!(stored(&host, &ids), DUE);
}

#[test]
fn no_change_of_a_client_stores_what_a_jumping_clock_has_led_to() {
    let host = Host::new();
    let ids = dated(&host, DAY);
    let client = host.client(Version::V2_1);
    host.jump(DAY);
    for id in &ids {
        client.add(id, custom("note", "x")).unwrap();
    }
    assert_eq!(stored(&host, &ids), AS_THEY_WERE);
    assert!(host.record(&ids[0]).stamp.sequence > 1, "it was changed");
    // What is made meanwhile is stored as Pre-Active, and read by its dates.
    let date = V::ActivationDate(DateTime(host.now().wall.0 - 10));
    let made = client.create(none().with(date));
    assert_eq!(client.state(&made), State::ACTIVE);
    assert_eq!(host.record(&made).stored_state(), Some(State::PRE_ACTIVE));
    // With the clock as it should be the same change stores it.
    host.jump(-DAY);
    host.pass(DAY);
    client.add(&ids[0], custom("another", "x")).unwrap();
    assert_eq!(stored(&host, &ids), [State::ACTIVE, State::ACTIVE]);
    assert_eq!(settle(&host), 2);
}

#[test]
fn a_server_that_starts_with_a_wrong_clock_stores_nothing() {
    for (wrong, is_plausible) in [(-7, false), (-DAY, false), (31 * DAY, false), (DAY, true)] {
        let host = Host::new();
        let ids = dated(&host, 1);
        assert_eq!(settle(&host), 0);
        let access = keyferry_server::Access::Authenticated;
        let again = Host::over("a", host.store.clone(), access, Policy::closed());
        again.jump(wrong);
        again.pass(1);
        let due = if wrong > 0 && is_plausible { 2 } else { 0 };
        assert_eq!(settle(&again), due, "{wrong}");
        assert_eq!(stored(&again, &ids) == DUE, is_plausible);
        assert_eq!(alarms(&again).is_empty(), is_plausible);
        again.server.confirm_time(again.now());
        again.pass(DAY);
        assert_eq!(settle(&again), 2 - due);
    }
}

#[test]
fn a_peer_confirms_the_time_if_it_may() {
    for may in [true, false] {
        let a = issuer_with(|peer| if may { peer.may_confirm_time() } else { peer });
        let b = follower("b");
        let ids = dated(&a, DAY);
        begin(&b, &UpstreamOptions::default());
        assert_eq!(settle(&a), 0);
        a.jump(DAY);
        let pass = || {
            let report = pass_cut(&b, &a, follow_options(), Cut::Never);
            report.unwrap().unwrap();
        };
        pass();
        assert_eq!(settle(&a), 0, "the replica has another time");
        b.pass(DAY - 5);
        pass();
        assert_eq!(settle(&a), if may { 2 } else { 0 });
        assert_eq!(stored(&a, &ids) == DUE, may);
    }
}

#[test]
fn an_issuer_confirms_the_time_of_its_replica_if_it_may() {
    for may in [true, false] {
        let (a, b) = (issuer_with(|peer| peer), follower("b"));
        let ids = dated(&b, DAY);
        begin(&b, &UpstreamOptions::default());
        assert_eq!(settle(&b), 0);
        b.jump(DAY);
        a.pass(DAY);
        let from = Peer::new("a");
        let from = if may { from.may_confirm_time() } else { from };
        let options = FollowOptions {
            from,
            ..follow_options()
        };
        pass_cut(&b, &a, options, Cut::Never).unwrap().unwrap();
        assert_eq!(settle(&b), if may { 2 } else { 0 });
        assert_eq!(stored(&b, &ids) == DUE, may);
    }
}
