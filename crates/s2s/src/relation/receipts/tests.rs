//! Which receipts of a copy are kept, and whose.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::policy::Peer;
use crate::testing::TestServer;
use keyferry_store::{Effects, Material};

fn receipt(byte: u8) -> Receipt {
    Receipt {
        proof: vec![byte; 48],
        identifier: "k".into(),
        extra: Extra::NONE,
    }
}

fn told(issuer: Option<u8>, relay: Option<u8>) -> ToldReceipts {
    ToldReceipts {
        issuer: issuer.map(receipt),
        relay: relay.map(receipt),
    }
}

/// A server that holds a copy of an object of `c`, which `from` has brought with these receipts.
fn holder(from: &str, receipts: ToldReceipts) -> (TestServer, ObjectId) {
    let server = TestServer::new(|peer: Peer| peer);
    let id = server.key("k", Vec::new());
    server.change(&id, |record| record.stamp.issuer = "c".into());
    let (number, held) = server
        .asking(|ask| ask.snapshot.by_object_id(&id))
        .unwrap()
        .unwrap();
    let mut after = held.clone();
    Receipts::put_into(&mut after, &from.into(), receipts).unwrap();
    server.apply(Effects::change(Some((number, held)), after, Material::Keep));
    (server, id)
}

fn add(server: &TestServer, id: &ObjectId, from: &str, receipts: ToldReceipts) -> bool {
    let held = server.record(id).unwrap();
    let added = server
        .asking(|ask| Receipts::add(ask.snapshot, &held, &from.into(), receipts))
        .unwrap();
    let is_added = added.is_some();
    let mut effects = Effects::none();
    effects.state.extend(added);
    server.apply(effects);
    is_added
}

fn of(server: &TestServer, id: &ObjectId, by: &str) -> Option<u8> {
    let held = server.record(id).unwrap();
    let found = server
        .asking(|ask| Receipts::of(ask.snapshot, &held, by))
        .unwrap();
    found.map(|receipt| receipt.proof[0])
}

fn is_hearsay(server: &TestServer, id: &ObjectId) -> bool {
    let held = server.record(id).unwrap();
    server
        .asking(|ask| Receipts::is_hearsay(ask.snapshot, &held))
        .unwrap()
}

#[test]
fn what_relays_bring_is_hearsay_until_the_issuer_has_said_it() {
    let (server, id) = holder("b", told(Some(1), Some(2)));
    assert_eq!(
        (of(&server, &id, "c"), of(&server, &id, "b")),
        (Some(1), Some(2))
    );
    assert!(is_hearsay(&server, &id));
    // Another relay adds its own, and what it says that the issuer has said.
    assert!(add(&server, &id, "d", told(Some(3), Some(4))));
    assert_eq!(of(&server, &id, "d"), Some(4));
    assert_eq!(of(&server, &id, "c"), Some(3));
    assert!(is_hearsay(&server, &id));
    assert!(add(&server, &id, "c", told(Some(5), None)));
    assert!(!is_hearsay(&server, &id));
    // From then on the issuer's own word stays, and a relay's own goes on being kept.
    assert!(add(&server, &id, "b", told(Some(6), Some(7))));
    assert_eq!(
        (of(&server, &id, "c"), of(&server, &id, "b")),
        (Some(5), Some(7))
    );
    assert!(add(&server, &id, "c", told(Some(8), None)));
    assert_eq!(of(&server, &id, "c"), Some(8));
    // The same once more is nothing to write, and neither is nothing.
    assert!(!add(&server, &id, "c", told(Some(8), None)));
    assert!(!add(&server, &id, "c", told(None, None)));
}

#[test]
fn a_copy_without_receipts_is_no_hearsay_and_gets_them_later() {
    let (server, id) = holder("b", told(None, None));
    assert!(server.record(&id).unwrap().overlay.is_none());
    assert!(!is_hearsay(&server, &id));
    assert_eq!(of(&server, &id, "b"), None);
    assert!(!add(&server, &id, "b", told(None, None)));
    assert!(add(&server, &id, "b", told(None, Some(2))));
    assert_eq!(of(&server, &id, "b"), Some(2));
    assert!(is_hearsay(&server, &id));
}

#[test]
fn receipts_are_of_one_change() {
    let (server, id) = holder("b", told(Some(1), Some(2)));
    add(&server, &id, "d", told(None, Some(3)));
    let row = |server: &TestServer| {
        let key = keys::receipt(&id).unwrap();
        server.asking(|ask| ask.snapshot.state_value(&key)).unwrap()
    };
    assert!(row(&server).is_some());
    // The object changes: what was said of the change before says nothing of this one.
    server.change(&id, |_| {});
    for by in ["b", "c", "d"] {
        assert_eq!(of(&server, &id, by), None);
    }
    assert!(!is_hearsay(&server, &id));
    // And what came later with the copy that is replaced goes.
    let forgotten = server
        .asking(|ask| Receipts::forget_later(ask.snapshot, &id))
        .unwrap();
    assert_eq!(forgotten, Some((keys::receipt(&id).unwrap(), None)));
    let mut effects = Effects::none();
    effects.state.extend(forgotten);
    server.apply(effects);
    assert_eq!(row(&server), None);
    let forgotten = server
        .asking(|ask| Receipts::forget_later(ask.snapshot, &id))
        .unwrap();
    assert_eq!(forgotten, None);
}

#[test]
fn so_many_relays_are_kept_and_the_issuer_always_is() {
    let (server, id) = holder("c", told(Some(1), None));
    let relays: Vec<String> = (0..SERVERS + 2).map(|n| format!("relay {n}")).collect();
    for relay in &relays {
        assert!(add(&server, &id, relay, told(None, Some(2))));
    }
    assert_eq!(of(&server, &id, "c"), Some(1));
    let kept = relays
        .iter()
        .filter(|relay| of(&server, &id, relay).is_some());
    assert_eq!(kept.count(), SERVERS - 1);
    assert_eq!(of(&server, &id, &relays[2]), None);
    assert!(of(&server, &id, &relays[3]).is_some());
    assert!(!is_hearsay(&server, &id));
    let held = server.record(&id).unwrap();
    let servers = server
        .asking(|ask| Receipts::servers(ask.snapshot, &held))
        .unwrap();
    assert_eq!(servers.len(), SERVERS);
}
