//! What a verified copy says of an object here.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::policy::Policy;
use crate::testing::TestServer;
use keyferry_kmip::spec::{AttributeValue, State};
use keyferry_store::{Incarnation, Lineage, ObjectId, Stamp};

fn record() -> Record {
    let id = ObjectId {
        server: "c".into(),
        instance: vec![9; 16],
        identifier: "k".into(),
    };
    Record {
        identifier: id.identifier.clone(),
        id,
        owner: None,
        stamp: Stamp::first(&"c".into(), Incarnation([5; 16])),
        lineage: Lineage::new(),
        object_type: ObjectType::SYMMETRIC_KEY,
        attributes: [AttributeValue::State(State::ACTIVE)].into_iter().collect(),
        overlay: None,
        fingerprint: None,
        lost: Vec::new(),
        extra: Extra::NONE,
    }
}

/// A copy that the peer brings, with this owner at its issuer.
fn verified(server: &TestServer, peer: &Peer, owner: Option<&str>, without: &[&str]) -> Record {
    let record = record();
    let mut copy = Copy::of(&record, Attributes::new(), None).unwrap();
    copy.owner = owner.map(Into::into);
    copy.without = without.iter().map(|name| (*name).into()).collect();
    let seen = SeenObject {
        identifier: record.identifier.clone(),
        object_type: record.object_type,
        attributes: record.attributes,
        object: None,
        wrapped_by: None,
    };
    verify_copy(&server.node, peer, seen, copy, None)
        .unwrap()
        .record
}

#[test]
fn a_copy_belongs_to_whom_the_policy_of_its_issuer_names() {
    let mut server = TestServer::new(|peer: Peer| peer);
    let issuer = Peer::new("c").owning("alice", "alice of c");
    let relay = Peer::new("b").may_relay().owning("alice", "alice of b");
    let owner = |server: &TestServer, peer: &Peer, there: Option<&str>| {
        verified(server, peer, there, &[])
            .owner
            .map(|owner| owner.to_string())
    };
    assert_eq!(
        owner(&server, &issuer, Some("alice")).as_deref(),
        Some("alice of c")
    );
    assert_eq!(owner(&server, &issuer, Some("bob")), None);
    assert_eq!(owner(&server, &issuer, None), None);
    // What the policy says of the relay's own clients says nothing of the issuer's.
    assert_eq!(owner(&server, &relay, Some("alice")), None);
    let policy: Policy = server.node.policy.clone().with("c.example", issuer);
    let crypto = std::sync::Arc::new(keyferry_crypto::Ring::new());
    server.node = Node::new(server.node.home.clone(), policy, crypto);
    assert_eq!(
        owner(&server, &relay, Some("alice")).as_deref(),
        Some("alice of c")
    );
}

#[test]
fn the_overlay_says_what_is_left_out_and_whose_the_object_is_there() {
    let server = TestServer::new(|peer: Peer| peer);
    let issuer = Peer::new("c");
    assert_eq!(verified(&server, &issuer, None, &[]).overlay, None);
    let left = verified(&server, &issuer, None, &["Comment"])
        .overlay
        .unwrap();
    assert_eq!((left.owner, left.without), (None, vec!["Comment".into()]));
    let owned = verified(&server, &issuer, Some("alice"), &[])
        .overlay
        .unwrap();
    assert_eq!((owned.owner, owned.without), (Some("alice".into()), vec![]));
}

#[test]
fn a_transport_key_comes_from_its_issuer_under_the_rsa_key_that_it_names() {
    let mut key = record();
    let usage = AttributeValue::CryptographicUsageMask(crate::transport_key::USAGE);
    key.attributes.push(usage);
    for mark in crate::transport_key::marks(&"theirs".into(), &"ours".into()) {
        key.attributes.push(mark);
    }
    key.owner = Some(crate::transport_key::owner("c"));
    assert_eq!(rsa_key_of(&key), Some(&"ours".into()));
    let mut destroyed = key.clone();
    destroyed
        .attributes
        .set(AttributeValue::State(State::DESTROYED));
    let under = |name: &str| Some(Some(Text::from(name)));
    let check = |record: &Record, speaker, brought, held| {
        check_transport_key(record, speaker, brought, held).is_ok()
    };
    let plain = record();
    use Speaker::{Holder, Issuer, Relay};
    for (record, speaker, brought, held, may_come) in [
        (&key, Issuer, under("ours"), None, true),
        (&key, Relay, under("ours"), None, false),
        (&key, Holder, under("ours"), None, false),
        (&key, Issuer, under("another"), None, false),
        (&key, Issuer, Some(None), None, false),
        // Without its material: a change of what is held as one, or its end.
        (&key, Issuer, None, None, false),
        (&key, Issuer, None, Some(&key), true),
        (&key, Issuer, None, Some(&plain), false),
        (&destroyed, Issuer, None, None, true),
        (&destroyed, Relay, None, None, false),
    ] {
        assert_eq!(
            check(record, speaker, brought.clone(), held),
            may_come,
            "{speaker:?} {brought:?} {}",
            held.is_some()
        );
    }
    // Any other object comes as it likes.
    assert!(check(&plain, Relay, Some(None), None));
}
