//! What two servers have agreed on, and what lies beyond it.

use crate::bulk::drive::*;
use crate::bulk::follows::*;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_s2s::*;
use keyferry_server::Access;
use keyferry_store::StoreExt;
use keyferry_ttlv::Version;

fn agreed() -> Selection {
    Selection::everything().with(V::ObjectGroup("ours".into()))
}

fn grouped(group: &str) -> V {
    V::ObjectGroup(group.into())
}

#[test]
fn a_copy_beyond_the_agreement_is_refused_and_one_that_is_held_goes_on_being_told_of() {
    for strategy in BOTH {
        let policy = Policy::closed().with("a.example", Peer::new("a").may_send().agreed(agreed()));
        let (a, b) = (
            master(),
            Host::named("b", Access::Named(["client".to_owned()].into()), policy),
        );
        let client = a.client(Version::V2_1);
        let ours = client.register(key(&[1; 16]), named("one").with(grouped("ours")));
        let other = client.register(key(&[2; 16]), named("two").with(grouped("others")));
        let report = transfer(&a, &b, strategy);
        assert_eq!(counts(&report), (1, 0, 0, 1), "{strategy:?}");
        assert_eq!(report.failures[0].identifier, other);
        assert_eq!(
            report.failures[0].reason,
            Some(ResultReason::PERMISSION_DENIED)
        );
        assert_eq!(b.count(), 1);
        // It leaves the agreement, and is revoked: the copy that is there must not stay usable.
        client.activate(&ours).unwrap();
        client.delete(&ours, grouped("ours")).unwrap();
        client
            .revoke(&ours, RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
        transfer(&a, &b, strategy);
        assert_eq!(b.client(Version::V2_1).state(&ours), State::COMPROMISED);
    }
}

#[test]
fn what_is_not_agreed_is_not_given_to_a_peer_that_pulls() {
    let policy = Policy::closed().with(
        "client.example",
        Peer::new("b").may_pull().also_client().agreed(agreed()),
    );
    let a = Host::named(
        "a",
        Access::Named(["client.example".to_owned()].into()),
        policy,
    );
    let b = Host::named("b", Access::Authenticated, Policy::closed());
    let client = a.client_named("client.example", Version::V2_1);
    let ours = client.register(key(&[1; 16]), named("one").with(grouped("ours")));
    let other = client.register(key(&[2; 16]), named("two").with(grouped("others")));
    let options = PullOptions {
        ..PullOptions::new("a", Peer::new("a"), PullStrategy::Export)
    };
    let mut session = Pull::new(b.server.node().clone(), options);
    let report = drive(
        &b,
        &a,
        &mut session,
        "client.example",
        Cut::Never,
        &mut |_, _| {},
    )
    .unwrap()
    .unwrap();
    assert_eq!(
        (report.counts.created, report.counts.failed, b.count()),
        (1, 1, 1),
        "{}",
        report.table()
    );
    assert_eq!(report.failures[0].identifier, other);
    assert_eq!(b.record(&ours).id, a.record(&ours).id);
}

#[test]
fn where_the_terms_of_both_ends_differ_is_named_at_both() {
    let wraps = |peer: Peer| peer.agreed(agreed()).wrapping(Wrapping::new("kek", "kek"));
    let a = issuer_with(wraps);
    let b = follower("b");
    begin(&b, &UpstreamOptions::default());
    let named = || {
        let at_a = a
            .store
            .view::<_, Error>(|s| Downstream::find(s, "b", "r"))
            .unwrap();
        let at_b = b
            .store
            .view::<_, Error>(|s| Upstream::find(s, "r"))
            .unwrap();
        (
            at_a.unwrap().terms_differ.map(|why| why.to_string()),
            at_b.unwrap().terms_differ.map(|why| why.to_string()),
        )
    };
    let with = |from: Peer| FollowOptions::new("r", from);
    pass_cut(&b, &a, with(Peer::new("a")), Cut::Never)
        .unwrap()
        .unwrap();
    let (at_a, at_b) = named();
    assert_eq!(at_a, at_b);
    let both = at_a.unwrap();
    assert!(both.contains("different objects"), "{both}");
    assert!(both.contains("none to unwrap"), "{both}");
    // One of them is mended, and then the other.
    let mended = || Peer::new("a").agreed(agreed());
    pass_cut(&b, &a, with(mended()), Cut::Never)
        .unwrap()
        .unwrap();
    let (at_a, at_b) = named();
    assert_eq!(at_a, at_b);
    let one = at_a.unwrap();
    assert!(
        !one.contains("different objects") && one.contains("none to unwrap"),
        "{one}"
    );
    pass_cut(&b, &a, with(mended().unwrapping("kek")), Cut::Never)
        .unwrap()
        .unwrap();
    assert_eq!(named(), (None, None));
}
