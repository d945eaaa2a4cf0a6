//! Put, and who may do what.

use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::{Peer, Policy};
use keyferry_server::Access;
use keyferry_ttlv::{Extra, Version};

fn host() -> Host {
    let policy = Policy::closed()
        .with("sender", Peer::new("s").may_send().foreign())
        .with("mute", Peer::new("m"));
    Host::named("a", Access::Named(["client".to_owned()].into()), policy)
}

#[test]
fn only_a_peer_that_may_send_may_put() {
    let host = host();
    for version in ALL {
        let label = format!("put {version}");
        let request = |client: &Client| {
            client.put(&client.put_request(
                &label,
                Some(key(&[1; 16])),
                named(&label).with(V::State(State::ACTIVE)),
            ))
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
        assert_eq!(
            (client.state(&label), client.get(&label).unwrap().object),
            (State::ACTIVE, key(&[1; 16]))
        );
    }
}

#[test]
fn put_new_does_not_overwrite() {
    let host = host();
    for version in ALL {
        let sender = host.client_named("sender", version);
        let id = host.client(version).register(key(&[1; 16]), none());
        let expected = if version >= Version::V1_4 {
            ResultReason::OBJECT_ALREADY_EXISTS
        } else {
            ResultReason::ILLEGAL_OPERATION
        };
        assert_eq!(
            reason(sender.put(&sender.put_request(&id, Some(key(&[2; 16])), none()))),
            expected,
            "{version}"
        );
        assert_eq!(host.client(version).get(&id).unwrap().object, key(&[1; 16]));
    }
}

#[test]
fn put_replace_of_an_unknown_object_is_a_new_one() {
    let host = host();
    let sender = host.client_named("sender", Version::V1_2);
    let mut request = sender.put_request("new", Some(key(&[2; 16])), none());
    request.put_function = PutFunction::REPLACE;
    assert_eq!(
        reason(sender.put(&request)),
        ResultReason::INVALID_FIELD,
        "it has to say what it replaces"
    );
    request.replaced_unique_identifier = Some("never seen".into());
    sender.put(&request).unwrap();
    assert_eq!(
        host.client(Version::V1_2).get("new").unwrap().object,
        key(&[2; 16])
    );
}

#[test]
fn strangers_get_nothing_at_all() {
    let host = host();
    let id = host.client(Version::V2_1).create(none());
    let stranger = host.client_named("stranger", Version::V2_1);
    assert_eq!(reason(stranger.get(&id)), ResultReason::PERMISSION_DENIED);
    assert_eq!(
        reason(stranger.locate_by(&stranger.locate_request(none()))),
        ResultReason::PERMISSION_DENIED
    );
    let query = QueryRequest {
        query_functions: vec![QueryFunction::QUERY_OPERATIONS],
        object_groups: None,
        extra: Extra::NONE,
    };
    assert_eq!(
        reason(stranger.call::<_, QueryResponse>(&query)),
        ResultReason::PERMISSION_DENIED
    );
}

#[test]
fn a_peer_is_no_client() {
    let host = host();
    let id = host.client(Version::V2_1).create(none());
    for who in ["sender", "mute"] {
        let peer = host.client_named(who, Version::V2_1);
        assert_eq!(
            reason(peer.get(&id)),
            ResultReason::PERMISSION_DENIED,
            "{who}"
        );
        assert_eq!(
            reason(peer.export(&id)),
            ResultReason::PERMISSION_DENIED,
            "{who}"
        );
        assert_eq!(
            reason(peer.locate_by(&peer.locate_request(none()))),
            ResultReason::PERMISSION_DENIED,
            "{who}"
        );
        assert_eq!(
            reason(peer.destroy(&id)),
            ResultReason::PERMISSION_DENIED,
            "{who}"
        );
        assert_eq!(
            reason(peer.create_with(aes(none()))),
            ResultReason::PERMISSION_DENIED,
            "{who}"
        );
        assert_eq!(
            reason(peer.import(&id, Some(key(&[1; 32])), none(), true)),
            ResultReason::PERMISSION_DENIED,
            "{who}"
        );
        let query = QueryRequest {
            query_functions: vec![QueryFunction::QUERY_OPERATIONS],
            object_groups: None,
            extra: Extra::NONE,
        };
        peer.call::<_, QueryResponse>(&query).unwrap();
    }
    assert_eq!(host.client(Version::V2_1).state(&id), State::PRE_ACTIVE);
}

#[test]
fn a_closed_server_answers_nobody() {
    let host = Host::named("a", Access::Closed, Policy::closed());
    assert_eq!(
        reason(host.client(Version::V2_1).create_with(aes(none()))),
        ResultReason::PERMISSION_DENIED
    );
}

fn notify(
    client: &Client,
    id: &str,
    attributes: Attributes,
    deleted: Vec<DeletedAttribute>,
) -> ItemResult {
    let request = NotifyRequest {
        unique_identifier: id.into(),
        attributes,
        deleted: DeletedAttributes(deleted),
        extra: Extra::NONE,
    };
    client.call::<_, NotifyResponse>(&request).map(drop)
}

fn gone(tag: keyferry_ttlv::Tag) -> DeletedAttribute {
    DeletedAttribute {
        reference: AttributeReference::Standard(tag),
        index: None,
    }
}

#[test]
fn a_peer_tells_what_has_changed_of_what_it_put() {
    let host = host();
    for version in ALL {
        let (sender, client) = (host.client_named("sender", version), host.client(version));
        let id = format!("told {version}");
        let first = named(&id)
            .with(V::ObjectGroup("a".into()))
            .with(V::ObjectGroup("b".into()))
            .with(V::ContactInformation("me".into()));
        sender
            .put(&sender.put_request(&id, Some(key(&[1; 16])), first))
            .unwrap();
        // In 2.x the values that are told are all that are left; in 1.x the one of its index changes.
        let changed = none()
            .with(V::ObjectGroup("c".into()))
            .with(V::State(State::ACTIVE));
        notify(&sender, &id, changed, vec![gone(tag::CONTACT_INFORMATION)]).unwrap();
        let attributes = client.attributes(&id);
        let groups: Vec<_> = attributes.all(tag::OBJECT_GROUP).cloned().collect();
        let b = V::ObjectGroup("b".into());
        let expected = if version < Version::V2_0 {
            vec![V::ObjectGroup("c".into()), b]
        } else {
            vec![V::ObjectGroup("c".into())]
        };
        assert_eq!(groups, expected, "{version}");
        assert_eq!(
            (attributes.state(), attributes.get(tag::CONTACT_INFORMATION)),
            (Some(State::ACTIVE), None)
        );
        // Nobody else tells, nor about what is not the peer's.
        assert_eq!(
            reason(notify(&client, &id, none(), vec![])),
            ResultReason::PERMISSION_DENIED
        );
        let own = client.create(none());
        assert_eq!(
            reason(notify(
                &sender,
                &own,
                none().with(V::ObjectGroup("x".into())),
                vec![]
            )),
            ResultReason::PERMISSION_DENIED
        );
    }
}

#[test]
fn no_notify_turns_a_state_back() {
    let host = host();
    let (sender, client) = (
        host.client_named("sender", Version::V2_1),
        host.client(Version::V2_1),
    );
    let put = |id: &str, attributes| {
        sender.put(&sender.put_request(
            id,
            Some(key(id.as_bytes().first_chunk::<1>().unwrap())),
            attributes,
        ))
    };
    let compromised = none().with(V::State(State::COMPROMISED));
    put("1", compromised).unwrap();
    for tag in [
        tag::STATE,
        tag::COMPROMISE_DATE,
        tag::REVOCATION_REASON,
        tag::DIGEST,
    ] {
        assert_eq!(
            reason(notify(&sender, "1", none(), vec![gone(tag)])),
            ResultReason::ATTRIBUTE_READ_ONLY
        );
    }
    notify(&sender, "1", none().with(V::State(State::ACTIVE)), vec![]).unwrap();
    assert_eq!(client.state("1"), State::COMPROMISED);
    // A date that has passed has done what it does.
    put(
        "2",
        none()
            .with(V::ActivationDate(DateTime(START - 10)))
            .with(V::State(State::PRE_ACTIVE)),
    )
    .unwrap();
    notify(
        &sender,
        "2",
        none().with(V::ActivationDate(DateTime(START + 1000))),
        vec![],
    )
    .unwrap();
    assert_eq!(client.state("2"), State::ACTIVE);
    // Names stay unique.
    let taken = client.create(named("taken"));
    assert_eq!(
        reason(notify(&sender, "2", named("taken"), vec![])),
        ResultReason::NON_UNIQUE_NAME_ATTRIBUTE
    );
    assert_eq!(client.locate(named("taken")), [taken]);
    notify(
        &sender,
        "2",
        none().with(V::State(State::DESTROYED)),
        vec![],
    )
    .unwrap();
    assert!(
        host.object("2").is_none(),
        "and a destroyed object has no material"
    );
}
