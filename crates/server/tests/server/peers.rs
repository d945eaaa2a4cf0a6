//! Put, and who may do what.

use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::{Peer, Policy};
use keyferry_server::Access;
use keyferry_ttlv::{Extra, Version};

fn host() -> Host {
    let policy = Policy::closed().with("sender", Peer::new("s").may_send()).with("mute", Peer::new("m"));
    Host::named("a", Access::Named(["client".to_owned()].into()), policy)
}

#[test]
fn only_a_peer_that_may_send_may_put() {
    let host = host();
    for version in ALL {
        let label = format!("put {version}");
        let request = |client: &Client| {
            client.put(&client.put_request(&label, Some(key(&[1; 16])), named(&label).with(V::State(State::ACTIVE))))
        };
        for denied in ["client", "mute", "stranger", ""] {
            assert_eq!(
                reason(request(&host.client_named(denied, version))),
                ResultReason::PERMISSION_DENIED,
                "{denied} in {version}"
            );
        }
        request(&host.client_named("sender", version)).unwrap();
        let client = host.client(version);
        assert_eq!((client.state(&label), client.get(&label).unwrap().object), (State::ACTIVE, key(&[1; 16])));
    }
}

#[test]
fn put_new_does_not_overwrite() {
    let host = host();
    for version in ALL {
        let sender = host.client_named("sender", version);
        let id = host.client(version).register(key(&[1; 16]), none());
        let expected =
            if version >= Version::V1_4 { ResultReason::OBJECT_ALREADY_EXISTS } else { ResultReason::ILLEGAL_OPERATION };
        assert_eq!(reason(sender.put(&sender.put_request(&id, Some(key(&[2; 16])), none()))), expected, "{version}");
        assert_eq!(host.client(version).get(&id).unwrap().object, key(&[1; 16]));
    }
}

#[test]
fn put_replace_of_an_unknown_object_is_a_new_one() {
    let host = host();
    let sender = host.client_named("sender", Version::V1_2);
    let mut request = sender.put_request("new", Some(key(&[2; 16])), none());
    request.put_function = PutFunction::REPLACE;
    assert_eq!(reason(sender.put(&request)), ResultReason::INVALID_FIELD, "it has to say what it replaces");
    request.replaced_unique_identifier = Some("never seen".into());
    sender.put(&request).unwrap();
    assert_eq!(host.client(Version::V1_2).get("new").unwrap().object, key(&[2; 16]));
}

#[test]
fn strangers_get_nothing_at_all() {
    let host = host();
    let id = host.client(Version::V2_1).create(none());
    let stranger = host.client_named("stranger", Version::V2_1);
    assert_eq!(reason(stranger.get(&id)), ResultReason::PERMISSION_DENIED);
    assert_eq!(reason(stranger.locate_by(&stranger.locate_request(none()))), ResultReason::PERMISSION_DENIED);
    let query = QueryRequest { query_functions: vec![QueryFunction::QUERY_OPERATIONS], object_groups: None, extra: Extra::NONE };
    assert_eq!(reason(stranger.call::<_, QueryResponse>(&query)), ResultReason::PERMISSION_DENIED);
}

#[test]
fn a_peer_is_no_client() {
    let host = host();
    let id = host.client(Version::V2_1).create(none());
    for who in ["sender", "mute"] {
        let peer = host.client_named(who, Version::V2_1);
        assert_eq!(reason(peer.get(&id)), ResultReason::PERMISSION_DENIED, "{who}");
        assert_eq!(reason(peer.export(&id)), ResultReason::PERMISSION_DENIED, "{who}");
        assert_eq!(reason(peer.locate_by(&peer.locate_request(none()))), ResultReason::PERMISSION_DENIED, "{who}");
        assert_eq!(reason(peer.destroy(&id)), ResultReason::PERMISSION_DENIED, "{who}");
        assert_eq!(reason(peer.create_with(aes(none()))), ResultReason::PERMISSION_DENIED, "{who}");
        assert_eq!(reason(peer.import(&id, Some(key(&[1; 32])), none(), true)), ResultReason::PERMISSION_DENIED, "{who}");
        let query =
            QueryRequest { query_functions: vec![QueryFunction::QUERY_OPERATIONS], object_groups: None, extra: Extra::NONE };
        peer.call::<_, QueryResponse>(&query).unwrap();
    }
    assert_eq!(host.client(Version::V2_1).state(&id), State::PRE_ACTIVE);
}

#[test]
fn a_closed_server_answers_nobody() {
    let host = Host::named("a", Access::Closed, Policy::closed());
    assert_eq!(reason(host.client(Version::V2_1).create_with(aes(none()))), ResultReason::PERMISSION_DENIED);
}
