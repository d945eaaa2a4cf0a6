//! A compromise reaches the other objects with the same material, and the issuer from wherever it is said; what was destroyed stays so.

use crate::bulk::drive::*;
use crate::bulk::follows::*;
use crate::support::*;
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_server::{Access, Grant, Granted, Level, Options, Server};
use keyferry_store::{Faulty, Incarnation, Memory, StoreExt};
use keyferry_ttlv::Version;
use std::sync::Arc;

const COMPROMISE: RevocationReasonCode = RevocationReasonCode::KEY_COMPROMISE;

fn clients() -> Access {
    Access::Named(["client".to_owned()].into())
}

fn twins(host: &Host) -> Vec<CompromisedTwin> {
    host.store
        .view::<_, Error>(|s| CompromisedTwin::all(s))
        .unwrap()
}

fn emergencies(host: &Host) -> Vec<EmergencyRevoke> {
    host.store
        .view::<_, Error>(|s| EmergencyRevoke::all(s))
        .unwrap()
}

fn alarms(host: &Host) -> Vec<AlarmKind> {
    let all = host.store.view::<_, Error>(|s| Alarm::all(s)).unwrap();
    all.into_iter().map(|alarm| alarm.kind).collect()
}

fn stamped(host: &Host, id: &str) -> i64 {
    host.record(id).stamp.sequence
}

/// The server `a` again, over a copy of its store.
fn restored(a: &Host, earlier: Memory, told: bool) -> Host {
    let policy = a.server.node().policy.clone();
    let store = Arc::new(Faulty::new(earlier));
    if told {
        begin_restored(&*store, &policy, Incarnation([7; 16]), a.now().wall).unwrap();
    }
    Host::over("a", store, clients(), policy)
}

fn seed(bytes: &[u8]) -> Object {
    Object::secret_data(SecretDataType::SEED, Secret::new(bytes))
}

fn password(bytes: &[u8]) -> Object {
    Object::secret_data(SecretDataType::PASSWORD, Secret::new(bytes))
}

#[test]
fn a_compromise_reaches_the_twins_that_are_held_already() {
    let a = Host::new();
    let client = a.client(Version::V2_1);
    let one = client.register(key(&[1; 16]), none());
    let twin = client.register(key(&[1; 16]), none());
    let gone = client.register(key(&[1; 16]), none());
    let other = client.register(key(&[2; 16]), none());
    client.destroy(&gone).unwrap();
    let (before, head) = (stamped(&a, &twin), a.head());
    client.revoke(&one, COMPROMISE).unwrap();
    assert_eq!(client.state(&twin), State::COMPROMISED);
    assert_eq!(client.state(&gone), State::DESTROYED_COMPROMISED);
    assert_eq!(client.state(&other), State::PRE_ACTIVE);
    // It is a change of its own, which peers hear of.
    assert_eq!((stamped(&a, &twin), a.head()), (before + 1, head + 3));
    let attributes = client.attributes(&twin);
    assert!(attributes.date(tag::COMPROMISE_DATE).is_some());
}

#[test]
fn only_secrets_have_twins() {
    let a = Host::new();
    let client = a.client(Version::V2_1);
    for (one, other, together) in [
        (seed(&[3; 16]), seed(&[3; 16]), true),
        (seed(&[4; 16]), password(&[4; 16]), false),
        (password(&[5; 16]), seed(&[5; 16]), false),
        (password(&[6; 16]), password(&[6; 16]), false),
        (seed(&[7; 15]), seed(&[7; 15]), false),
        (password(&[8; 16]), key(&[8; 16]), false),
    ] {
        let (one, other) = (client.register(one, none()), client.register(other, none()));
        client.revoke(&one, COMPROMISE).unwrap();
        let expected = if together {
            State::COMPROMISED
        } else {
            State::PRE_ACTIVE
        };
        assert_eq!(client.state(&other), expected);
    }
}

#[test]
fn as_many_twins_are_raised_at_once_as_the_limit_says() {
    let mut limits = Limits::default();
    limits.twins = 2;
    for (twins, left) in [(2, 0), (3, 1)] {
        let policy = Policy::closed().with_limits(limits.clone());
        let a = Host::named("a", clients(), policy);
        let client = a.client(Version::V2_1);
        let ids: Vec<String> = (0..=twins)
            .map(|_| client.register(key(&[1; 16]), none()))
            .collect();
        client.revoke(&ids[0], COMPROMISE).unwrap();
        let usable = || ids.iter().filter(|id| !a.record(id).is_compromised());
        assert_eq!(usable().count(), left);
        let alarms = alarms(&a);
        assert_eq!(alarms.contains(&AlarmKind::TWINS_LEFT), left > 0);
        if let Some(next) = usable().next().cloned() {
            client.revoke(&next, COMPROMISE).unwrap();
        }
        assert_eq!(usable().count(), 0);
    }
}

#[test]
fn another_servers_word_raises_its_own_copies_and_names_all_others() {
    let (a, b) = (issuer(), follower("b"));
    let (here, there) = (b.client(Version::V2_1), a.client(Version::V2_1));
    let one = there.register(key(&[1; 16]), none());
    let two = there.register(key(&[1; 16]), none());
    let own = here.register(key(&[1; 16]), none());
    begin(&b, &UpstreamOptions::default());
    pass(&b, &a);
    // A change of a that is told alone: its own twin is not raised there, as in earlier builds.
    let id = a.record(&one).id;
    a.store
        .transact::<_, keyferry_store::Error>(|at| {
            use keyferry_store::{Effects, Material, SnapshotExt};
            let (number, held) = at.by_object_id(&id)?.unwrap();
            let mut after = held.clone();
            after
                .attributes
                .set(AttributeValue::State(State::COMPROMISED));
            let reign = at.reign()?;
            a.server.node().advance(&mut after, reign, a.now().wall);
            Effects::change(Some((number, held)), after, Material::Keep).apply(at)?;
            Ok(())
        })
        .unwrap();
    pass(&b, &a);
    assert_eq!(here.state(&one), State::COMPROMISED);
    assert_eq!(here.state(&two), State::COMPROMISED, "it is a's, too");
    assert_eq!(
        b.record(&two).attributes.state(),
        Some(State::PRE_ACTIVE),
        "the copy stays verbatim"
    );
    assert_eq!(here.state(&own), State::PRE_ACTIVE, "a can't speak of it");
    let named = twins(&b);
    assert_eq!(named.len(), 1);
    assert_eq!(
        (&named[0].id, &*named[0].issuer, &*named[0].of),
        (&b.record(&own).id, "a", &*one)
    );
    // Whoever may revoke it decides.
    here.revoke(&own, COMPROMISE).unwrap();
    assert!(twins(&b).is_empty());
    // And what comes later with the material of what another one has compromised is named when it comes.
    let c = Host::named("c", clients(), Policy::closed());
    let late = c.client(Version::V2_1).register(key(&[1; 16]), none());
    assert_eq!(c.client(Version::V2_1).state(&late), State::PRE_ACTIVE);
}

#[test]
fn an_emergency_revoke_at_a_replica_counts_there_and_travels_to_the_issuer() {
    for (may_revoke, code) in [
        (true, COMPROMISE),
        (true, RevocationReasonCode::CA_COMPROMISE),
        (false, COMPROMISE),
    ] {
        let (a, b) = (
            issuer_with(|peer| if may_revoke { peer.may_revoke() } else { peer }),
            follower("b"),
        );
        let (here, there) = (b.client(Version::V2_1), a.client(Version::V2_1));
        let one = there.register(key(&[1; 16]), none());
        let two = there.register(key(&[1; 16]), none());
        begin(&b, &UpstreamOptions::default());
        pass(&b, &a);
        let superseded = here
            .revoke(&one, RevocationReasonCode::SUPERSEDED)
            .unwrap_err();
        assert_eq!(superseded.0, ResultReason::PERMISSION_DENIED);
        here.revoke(&one, code).unwrap();
        assert_eq!(here.state(&one), State::COMPROMISED);
        assert_eq!(here.state(&two), State::COMPROMISED, "its twin, too");
        assert_eq!(there.state(&one), State::PRE_ACTIVE);
        assert_eq!(emergencies(&b).len(), 1);
        assert!(here.revoke(&one, code).is_err(), "once");
        // It outlives a start of the server, and whatever else the issuer says meanwhile.
        there.add(&one, name("meanwhile")).unwrap();
        let b = Host::over("b", b.store.clone(), clients(), Policy::closed());
        let here = b.client(Version::V2_1);
        pass(&b, &a);
        assert_eq!(here.state(&one), State::COMPROMISED);
        pass(&b, &a);
        if !may_revoke {
            assert_eq!(there.state(&one), State::PRE_ACTIVE);
            assert_eq!(emergencies(&b).len(), 1, "it is told again");
            continue;
        }
        assert_eq!(there.state(&one), State::COMPROMISED);
        assert_eq!(there.state(&two), State::COMPROMISED);
        let reason = there.attributes(&one);
        let reason = reason.get(tag::REVOCATION_REASON);
        assert!(
            matches!(reason, Some(AttributeValue::RevocationReason(reason)) if reason.code == code)
        );
        assert!(emergencies(&b).is_empty(), "the issuer says so itself");
        assert_same(&a, &b, &[one]);
    }
}

#[test]
fn only_who_may_manage_a_copy_revokes_it_in_an_emergency() {
    let (a, b) = (issuer(), follower("b"));
    let one = a.client(Version::V2_1).register(key(&[1; 16]), none());
    begin(&b, &UpstreamOptions::default());
    pass(&b, &a);
    for (level, may) in [(Level::Read, false), (Level::Manage, true)] {
        let rights = keyferry_server::Rights::owners().with(Grant {
            client: Some("client".into()),
            objects: Granted::Copies,
            level,
        });
        let options = Options {
            access: clients(),
            ..Options::new(
                "b",
                b.store.clone(),
                Arc::new(keyferry_crypto::Ring::new()),
                keyferry_crypto::SystemRandom::new(),
            )
        };
        let server = Server::new(options).unwrap().with_rights(rights);
        let b = Host {
            server: server.into(),
            ..b.clone()
        };
        let revoked = b.client(Version::V2_1).revoke(&one, COMPROMISE);
        assert_eq!(revoked.is_ok(), may);
        assert_eq!(b.record(&one).is_compromised(), may);
    }
}

#[test]
fn a_server_that_waits_serves_a_first_get_and_takes_an_emergency_revoke() {
    let (a, b) = (issuer(), follower("b"));
    let client = a.client(Version::V2_1);
    let one = client.register(key(&[1; 16]), none());
    let two = client.register(key(&[1; 16]), none());
    begin(&b, &UpstreamOptions::default());
    pass(&b, &a);
    let earlier = a.store.inner().clone();
    let a = restored(&a, earlier, true);
    let client = a.client(Version::V2_1);
    let fresh = |id: &str| a.record(id).attributes.get(tag::FRESH).cloned();
    let head = a.head();
    assert_eq!(fresh(&one), Some(AttributeValue::Fresh(true)));
    assert!(client.get(&one).is_ok());
    assert_eq!(fresh(&one), Some(AttributeValue::Fresh(true)));
    assert_eq!(a.head(), head);
    assert!(
        client
            .revoke(&one, RevocationReasonCode::SUPERSEDED)
            .is_err()
    );
    client.revoke(&one, COMPROMISE).unwrap();
    let stamps = (stamped(&a, &one), stamped(&a, &two));
    assert_eq!(client.state(&one), State::COMPROMISED);
    assert_eq!(client.state(&two), State::COMPROMISED, "its twin, too");
    assert_eq!(stamps, (1, 1), "it is no change yet");
    assert_eq!(a.server.store_due_states(a.now(), 10).unwrap(), 0);
    assert_eq!(emergencies(&a).len(), 2);
    // It waits for two peers.
    pass(&b, &a);
    assert_eq!(client.state(&one), State::COMPROMISED);
    waive_give_back(&*a.store, "c", "somebody", a.now().wall).unwrap();
    assert_eq!(a.server.store_due_states(a.now(), 10).unwrap(), 2);
    assert!(emergencies(&a).is_empty());
    assert_eq!((stamped(&a, &one), stamped(&a, &two)), (2, 2));
    pass(&b, &a);
    let here = b.client(Version::V2_1);
    assert_eq!(here.state(&one), State::COMPROMISED);
    assert_same(&a, &b, &[one.clone(), two]);
    assert!(here.attributes(&one).get(tag::REVOCATION_REASON).is_some());
    // From now on a Get leaves its mark again.
    let three = client.register(key(&[3; 16]), none());
    client.get(&three).unwrap();
    assert_eq!(fresh(&three), Some(AttributeValue::Fresh(false)));
}

#[test]
fn what_was_destroyed_is_gone_again_when_a_restored_issuer_hears_of_it() {
    for (told, forked) in [(true, false), (false, false), (false, true)] {
        let (a, b) = (issuer(), follower("b"));
        let client = a.client(Version::V2_1);
        let one = client.register(key(&[1; 16]), none());
        begin(&b, &UpstreamOptions::default());
        pass(&b, &a);
        let earlier = a.store.inner().clone();
        client.destroy(&one).unwrap();
        pass(&b, &a);
        assert!(b.record(&one).is_destroyed());
        let a = restored(&a, earlier, told);
        let client = a.client(Version::V2_1);
        assert!(a.object(&one).is_some(), "the backup has it");
        if forked {
            client.add(&one, name("another line")).unwrap();
        }
        pass(&b, &a);
        assert_eq!(client.state(&one), State::DESTROYED, "{told} {forked}");
        assert_eq!(a.object(&one), None, "its material is gone at once");
        assert_eq!(b.object(&one), None);
        let forks = a.store.view::<_, Error>(|s| Fork::all(s)).unwrap();
        assert_eq!(forks.len(), usize::from(forked));
        assert!(client.get(&one).is_err());
    }
}
