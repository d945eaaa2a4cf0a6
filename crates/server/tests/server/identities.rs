//! Peers and clients are two name spaces: who is called like another has nothing of it (rules F and G of docs/design.md).

use crate::support::*;
use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::{Peer, PeerName, Policy};
use keyferry_server::{Access, Authenticator, Grant, Granted, Level, Options, Rights, Server};
use keyferry_store::{Incarnation, Memory, Record};
use keyferry_ttlv::{Extra, Version};
use std::sync::Arc;

const CENTRE: [u8; 32] = [0xc; 32];
const NEXT: [u8; 32] = [0xd; 32];
const OTHER: [u8; 32] = [0xe; 32];

/// Believes whoever says a name.
struct Believes;

impl Authenticator for Believes {
    fn authenticate(&self, tls: &Identity, given: &[Credential]) -> Result<Identity, Failure> {
        match given {
            [
                Credential {
                    value: CredentialValue::UsernameAndPassword(user),
                    ..
                },
            ] => Ok(Identity {
                name: user.username.to_string(),
                ..tls.clone()
            }),
            _ => Err(Failure::new(Cause::Authentication, "one user")),
        }
    }
}

fn server(policy: Policy, rights: impl keyferry_s2s::Rights + 'static) -> Host {
    let mut host = Host::new();
    let server = Server::new(Options {
        server: "a".into(),
        store: host.store.clone(),
        crypto: Arc::new(Ring::new()),
        random: Box::new(SystemRandom::new()),
        access: Access::Authenticated,
        policy,
    });
    let server = server.unwrap().with_rights(rights);
    host.server = Arc::new(server.with_authenticator(Arc::new(Believes)));
    host
}

/// A client or peer with a certificate of this name and key.
fn with_key(host: &Host, name: &str, public_key: [u8; 32]) -> Client {
    let mut client = host.client_named(name, Version::V2_1);
    client.identity.public_key = public_key;
    client
}

fn put(client: &Client, id: &str) -> ItemResult {
    client.put(&client.put_request(
        id,
        Some(key(&[1; 16])),
        none().with(V::State(State::ACTIVE)),
    ))
}

const DENIED: ResultReason = ResultReason::PERMISSION_DENIED;

#[test]
fn a_peer_bound_to_its_keys_is_who_has_them() {
    let centre = Peer::new("centre").may_send().foreign();
    for policy in [
        Policy::closed().with_keys([CENTRE, NEXT], centre.clone()),
        Policy::closed().with(PeerName::named("centre").with_keys([CENTRE, NEXT]), centre),
    ] {
        let host = server(policy, Rights::owners());
        put(&with_key(&host, "centre", CENTRE), "first").unwrap();
        put(
            &with_key(&host, "centre", NEXT),
            "renewed with the next key",
        )
        .unwrap();
        assert_eq!(
            reason(put(&with_key(&host, "centre", OTHER), "forged")),
            DENIED
        );
        assert_eq!(
            reason(put(&with_key(&host, "centre", [0; 32]), "no key")),
            DENIED
        );
        // Who is called like the peer, or like its server, is a client like every other.
        let client = with_key(&host, "centre", OTHER);
        let own = client.create(none());
        assert_eq!(reason(client.get("first")), DENIED);
        assert_eq!(reason(with_key(&host, "centre", CENTRE).get(&own)), DENIED);
    }
}

#[test]
fn a_peer_is_no_client_unless_policy_says_so() {
    let peer = || Peer::new("b").may_send().foreign().may_pull();
    let host = server(Policy::closed().with("branch", peer()), Rights::shared());
    let client = host.client(Version::V2_1);
    let id = client.create(none());
    let branch = host.client_named("branch", Version::V2_1);
    assert_eq!(reason(branch.get(&id)), DENIED);
    assert_eq!(reason(branch.export(&id)), DENIED);
    assert_eq!(reason(branch.create_with(aes(none()))), DENIED);

    let policy = Policy::closed().with("branch", peer().also_client());
    let host = server(policy, Rights::owners());
    let branch = host.client_named("branch", Version::V2_1);
    let own = branch.create(none());
    assert_eq!(host.record(&own).owner.as_deref(), Some("branch"));
    branch.export(&own).unwrap();
    // What it puts, it puts as a peer, and has no client's right to it.
    put(&branch, "put").unwrap();
    assert_eq!(host.record("put").owner.as_deref(), Some("peer:b"));
    assert_eq!(reason(branch.get("put")), DENIED);
    let other = host.client(Version::V2_1).create(none());
    assert_eq!(reason(branch.export(&other)), DENIED);
}

#[test]
fn what_a_peer_puts_belongs_to_no_client() {
    let policy = Policy::closed().with("sender", Peer::new("fred").may_send().foreign());
    let grant = Grant {
        client: Some("deputy".into()),
        objects: Granted::OwnedBy("fred".into()),
        level: Level::Manage,
    };
    let host = server(policy, Rights::owners().with(grant));
    put(&host.client_named("sender", Version::V2_1), "told").unwrap();
    assert_eq!(host.record("told").owner.as_deref(), Some("peer:fred"));
    for name in ["fred", "deputy"] {
        let client = host.client_named(name, Version::V2_1);
        assert_eq!(reason(client.get("told")), DENIED, "{name}");
    }
    let forged = host.client_named("peer:fred", Version::V2_1);
    assert_eq!(
        reason(forged.get("told")),
        DENIED,
        "no TLS identity has this name"
    );
    assert_eq!(reason(forged.create_with(aes(none()))), DENIED);
    // The peer says more about it, and nobody else does.
    let notify = NotifyRequest {
        unique_identifier: "told".into(),
        attributes: named("n"),
        deleted: DeletedAttributes(vec![]),
        extra: Extra::NONE,
    };
    let sender = host.client_named("sender", Version::V2_1);
    sender.call::<_, NotifyResponse>(&notify).unwrap();
}

#[test]
fn a_grant_to_clients_is_none_to_peers() {
    use keyferry_s2s::Rights as _;
    let grant = |client: Option<&str>| Grant {
        client: client.map(Into::into),
        objects: Granted::All,
        level: Level::Manage,
    };
    let rights = Rights::shared()
        .with(grant(Some("b")))
        .with(grant(Some("peer:b")));
    let host = Host::new();
    let id = host.client(Version::V2_1).create(none());
    let mut record = host.record(&id);
    let check = |caller: &Identity, record: &Record| rights.check(caller, Operation::GET, record);
    check(&Identity::new("b"), &record).unwrap();
    check(&Identity::peer("c"), &record).unwrap_err();
    check(&Identity::peer("b"), &record).unwrap(); // by its own name
    record.owner = Some("peer:c".into());
    check(&Identity::peer("c"), &record).unwrap();
}

fn by_login(client: &Client, user: &str, item: RequestItem) -> ResponseItem {
    let mut message = RequestMessage::new(Version::V2_1, vec![item]);
    let user = UsernameAndPassword {
        username: user.into(),
        password: None,
        extra: Extra::NONE,
    };
    message.header.authentication = Some(Authentication {
        credentials: vec![CredentialValue::UsernameAndPassword(user).into()],
        extra: Extra::NONE,
    });
    client.send(&message).batch.remove(0)
}

#[test]
fn no_login_gives_a_name_that_is_not_a_clients() {
    let policy = Policy::closed()
        .with("sender", Peer::new("s").may_send().foreign())
        .with(
            PeerName::named("bound").with_keys([CENTRE]),
            Peer::new("b").may_send().foreign(),
        );
    let host = server(policy, Rights::owners());
    let client = host.client_named("gateway", Version::V2_1);
    let create = || client.item(&create_request(aes(none())));
    for user in [
        "sender",
        "bound",
        "peer:s",
        "PEER:s",
        "subject:CN=a",
        "certificate:sha256:00",
        "sha256:00",
        "",
        "a\nb",
        "a\u{1b}[m",
    ] {
        let before = host.count();
        let answer = by_login(&client, user, create());
        assert_eq!(
            refused(&answer).0,
            ResultReason::AUTHENTICATION_NOT_SUCCESSFUL,
            "{user:?}"
        );
        assert_eq!(host.count(), before);
    }
    assert!(by_login(&client, "fred", create()).is_success());
    assert!(
        by_login(&client, "gateway", create()).is_success(),
        "its own"
    );
}

#[test]
fn a_peers_message_with_credentials_is_refused() {
    let peer = Peer::new("s").may_send().foreign().may_pull();
    for peer in [peer.clone(), peer.also_client()] {
        let host = server(Policy::closed().with("sender", peer), Rights::owners());
        let fred = host.client_named("fred", Version::V2_1);
        let id = fred.create(none());
        let sender = host.client_named("sender", Version::V2_1);
        let get = sender.item(&GetRequest::of(id.as_str()));
        let request = sender.put_request("put", Some(key(&[1; 16])), none());
        for item in [get, sender.item(&request)] {
            assert_eq!(
                refused(&by_login(&sender, "fred", item)).0,
                ResultReason::AUTHENTICATION_NOT_SUCCESSFUL
            );
        }
        assert_eq!(host.count(), 1);
    }
}

#[test]
fn a_policy_that_is_not_certain_is_refused() {
    let peer = || Peer::new("p").may_send().foreign();
    let named = PeerName::named;
    for (policy, says) in [
        (Policy::closed().with("O=acme", peer()), "O=acme"),
        (Policy::closed().with("sha256:00", peer()), "sha256:00"),
        (Policy::closed().with("peer:p", peer()), "peer:p"),
        (Policy::closed().with("a\nb", peer()), "a\\u{a}b"),
        (Policy::closed().with_keys([], peer()), "neither"),
        (Policy::closed().with_keys([[0; 32]], peer()), "zeroes"),
        (
            Policy::closed()
                .with_keys([CENTRE], peer())
                .with_keys([NEXT, CENTRE], peer()),
            "two peers",
        ),
        (
            Policy::closed()
                .with(named("p").with_keys([CENTRE]), peer())
                .with(named("p").with_keys([CENTRE, NEXT]), peer()),
            "two peers",
        ),
    ] {
        let both = Identity::new("p").with_certificate([1; 32], CENTRE);
        assert_eq!(policy.peer(&both), None);
        let store = Arc::new(Memory::new(Incarnation([3; 16])));
        let mut options = Options::new("here", store, Arc::new(Ring::new()), SystemRandom::new());
        options.policy = policy;
        let error = Server::new(options).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn the_more_specific_entry_counts() {
    let policy = Policy::closed()
        .with("p", Peer::new("by name"))
        .with_keys([CENTRE], Peer::new("by key"))
        .with(
            PeerName::named("q").with_keys([CENTRE]),
            Peer::new("by both"),
        );
    policy.check().unwrap();
    let who = |name: &str, public_key| {
        let identity = Identity::new(name).with_certificate([1; 32], public_key);
        policy.peer(&identity).map(|peer| peer.server.to_string())
    };
    assert_eq!(who("p", OTHER).as_deref(), Some("by name"));
    assert_eq!(who("p", CENTRE).as_deref(), Some("by key"));
    assert_eq!(who("q", CENTRE).as_deref(), Some("by both"));
    assert_eq!(who("q", OTHER), None);
    // Of two keys that fit equally well neither counts, and the certificate is no client either.
    let unsure = Policy::closed()
        .with_keys([CENTRE], Peer::new("one"))
        .with_keys([CENTRE, NEXT], Peer::new("two"));
    let identity = Identity::new("p").with_certificate([1; 32], CENTRE);
    assert!(unsure.peer(&identity).is_none() && unsure.knows(&identity));
}

/// Rights that an application brings: everybody may read what is in this group.
struct Readable;

impl keyferry_s2s::Rights for Readable {
    fn check(&self, _: &Identity, operation: Operation, record: &Record) -> Result<(), Failure> {
        let is_readable = record.attributes.get(tag::OBJECT_GROUP).is_some();
        if is_readable && operation == Operation::GET {
            return Ok(());
        }
        Err(Failure::denied("not readable"))
    }
}

#[test]
fn an_application_brings_its_own_rights() {
    let shared: Arc<dyn keyferry_s2s::Rights> = Arc::new(Readable);
    for host in [
        server(Policy::closed(), Readable),
        server(Policy::closed(), shared.clone()),
    ] {
        let (fred, barney) = (
            host.client_named("fred", Version::V2_1),
            host.client_named("barney", Version::V2_1),
        );
        let open = fred.create(none().with(V::ObjectGroup("all".into())));
        let closed = fred.create(none());
        barney.get(&open).unwrap();
        assert_eq!(reason(barney.destroy(&open)), DENIED);
        assert_eq!(reason(fred.get(&closed)), DENIED);
    }
}

#[test]
fn no_result_message_has_control_characters() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    for foreign in ["x\n\u{1b}[2J", "\u{202e}x", "x\u{9b}"] {
        let mut answers = vec![client.get(foreign).map(drop)];
        client
            .import(foreign, Some(key(&[1; 16])), named(foreign), false)
            .unwrap();
        answers.push(
            client
                .import(foreign, Some(key(&[1; 16])), none(), false)
                .map(drop),
        );
        answers.push(client.create_with(aes(named(foreign))).map(drop));
        for answer in answers {
            let Refused(_, message) = answer.unwrap_err();
            assert!(is_printable(&message), "{message:?}");
        }
    }
}
