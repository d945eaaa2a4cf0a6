//! Who may say what of whose object.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::policy::Policy;
use crate::testing::TestServer;
use keyferry_store::{Incarnation, Lineage, Stamp};

/// As whom the peer `b` speaks of an object that was made at `origin` and is issued by `issuer` in an epoch, if it may at all. What is held of the
/// object is issued by the other one.
fn speaker(
    server: &TestServer,
    (origin, issuer, epoch): (&str, &str, i64),
    held: Option<(&str, i64)>,
) -> Option<Speaker> {
    let id = ObjectId {
        server: origin.into(),
        instance: vec![1],
        identifier: "k".into(),
    };
    let mut stamp = Stamp::first(&issuer.into(), Incarnation([4; 16]));
    stamp.epoch = epoch;
    let held = held.map(|(issuer, epoch)| {
        let id = server.key("k", Vec::new());
        let mut record = server.record(&id).unwrap();
        record.stamp.issuer = issuer.into();
        record.stamp.epoch = epoch;
        record
    });
    let lineage = Lineage::new();
    let change = ChangeRef {
        id: &id,
        stamp: &stamp,
        lineage: &lineage,
    };
    let peer = server.node.policy.peers_of("b").next().unwrap();
    check_speaker(&server.node, peer, &change, held.as_ref()).ok()
}

fn server(change: impl Fn(Peer) -> Peer) -> TestServer {
    TestServer::new(change)
}

#[test]
fn an_issuer_speaks_of_its_own_and_a_relay_of_whom_it_relays() {
    let plain = || server(|peer| peer);
    let relay = || server(|peer| peer.may_relay_for(["c"]));
    for held in [None, Some(("b", 1))] {
        assert_eq!(
            speaker(&plain(), ("b", "b", 1), held),
            Some(Speaker::Issuer)
        );
    }
    assert_eq!(speaker(&plain(), ("c", "c", 1), None), None);
    assert_eq!(speaker(&relay(), ("c", "c", 1), None), Some(Speaker::Relay));
    assert_eq!(speaker(&relay(), ("d", "d", 1), None), None);
    // What is held of another issuer, or in another epoch, nobody takes over.
    assert_eq!(speaker(&plain(), ("b", "b", 1), Some(("c", 1))), None);
    assert_eq!(speaker(&plain(), ("b", "b", 2), Some(("b", 1))), None);
    assert_eq!(speaker(&plain(), ("b", "b", 1), Some(("b", 2))), None);
    assert_eq!(speaker(&relay(), ("c", "c", 1), Some(("b", 1))), None);
    // A later epoch of one's own object takes a grant.
    assert_eq!(speaker(&plain(), ("b", "b", 2), None), None);
}

#[test]
fn of_what_this_server_issues_a_peer_is_a_holder_at_the_most() {
    let server = server(|peer| peer.may_relay());
    assert_eq!(
        speaker(&server, ("a", "a", 1), Some(("a", 1))),
        Some(Speaker::Holder)
    );
    assert_eq!(speaker(&server, ("a", "a", 1), None), None);
    assert_eq!(speaker(&server, ("a", "b", 1), None), None);
    assert_eq!(speaker(&server, ("a", "c", 1), None), None);
}

#[test]
fn who_observes_a_foreign_server_is_said_by_the_policy_of_the_observer() {
    // The peer itself observes it.
    let observer = || server(|peer| peer.may_observe(["f"]));
    for epoch in [1, 2] {
        assert_eq!(
            speaker(&observer(), ("f", "b", epoch), None),
            Some(Speaker::Issuer)
        );
    }
    assert_eq!(speaker(&observer(), ("g", "b", 1), None), None);
    // Another one does, whom the peer relays.
    let mut relayed = server(|peer| peer.may_relay_for(["c"]));
    assert_eq!(speaker(&relayed, ("f", "c", 1), None), None);
    let policy: Policy = relayed.node.policy.clone();
    let policy = policy.with("c.example", Peer::new("c").may_observe(["f"]));
    relayed.node = Node::new(
        relayed.node.home.clone(),
        policy,
        std::sync::Arc::new(keyferry_crypto::Ring::new()),
    );
    assert_eq!(speaker(&relayed, ("f", "c", 1), None), Some(Speaker::Relay));
    assert_eq!(speaker(&relayed, ("g", "c", 1), None), None);
    assert_eq!(speaker(&relayed, ("f", "b", 1), None), None);
    // Nobody has observed this server.
    let everything = server(|peer| peer.may_observe(["a"]));
    assert_eq!(speaker(&everything, ("a", "b", 1), None), None);
}
