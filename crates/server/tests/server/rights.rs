//! Whose object it is, and who may do what with it.

use crate::support::*;
use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::Policy;
use keyferry_server::{Access, Authenticator, Grant, Granted, Level, Options, Rights, Server};
use keyferry_store::{Faulty, Incarnation, Memory};
use keyferry_ttlv::{Extra, Version};
use std::sync::Arc;

/// A server of owners' rights, and these.
fn host(rights: Rights) -> Host {
    let mut host = Host::new();
    let store = Arc::new(Faulty::new(Memory::new(Incarnation([9; 16]))));
    let server = Server::new(Options {
        server: "a".into(),
        store: store.clone(),
        crypto: Arc::new(Ring::new()),
        random: Box::new(SystemRandom::new()),
        access: Access::Authenticated,
        policy: Policy::closed(),
    });
    host.server = Arc::new(
        server
            .unwrap()
            .with_rights(rights)
            .with_authenticator(Arc::new(Passwords)),
    );
    host.store = store;
    host
}

/// One password is good for all.
struct Passwords;

impl Authenticator for Passwords {
    fn authenticate(
        &self,
        tls: &Identity,
        credentials: &[Credential],
    ) -> Result<Identity, Failure> {
        let [
            Credential {
                value: CredentialValue::UsernameAndPassword(user),
                ..
            },
        ] = credentials
        else {
            return Err(Failure::new(Cause::Authentication, "one user"));
        };
        match &user.password {
            Some(password) if password.expose() == "good" => Ok(Identity {
                name: user.username.to_string(),
                ..tls.clone()
            }),
            _ => Err(Failure::new(
                Cause::Authentication,
                "the credentials are not good",
            )),
        }
    }
}

#[test]
fn an_object_is_its_owners() {
    let host = host(Rights::owners());
    for version in ALL {
        let (fred, barney) = (
            host.client_named("fred", version),
            host.client_named("barney", version),
        );
        let id = fred.create(none());
        let denied = ResultReason::PERMISSION_DENIED;
        assert_eq!(reason(barney.get(&id)), denied);
        assert_eq!(
            reason(barney.get_attributes(&id, Default::default())),
            denied
        );
        assert_eq!(reason(barney.add(&id, custom("a", "b"))), denied);
        assert_eq!(reason(barney.activate(&id)), denied);
        assert_eq!(reason(barney.destroy(&id)), denied);
        assert!(!barney.locate(none()).contains(&id) && fred.locate(none()).contains(&id));
        let certificate = fred.register(
            Object::certificate(CertificateType::X509, vec![1, 2, 3]),
            none(),
        );
        assert!(
            barney.get(&certificate).is_ok() && barney.locate(none()).contains(&certificate),
            "certificates are public"
        );
        assert_eq!(reason(barney.destroy(&certificate)), denied, "to be read");
    }
}

#[test]
fn what_is_granted_is_granted_and_no_more() {
    let grant = |client: &str, objects, level| Grant {
        client: Some(client.into()),
        objects,
        level,
    };
    let rights = Rights::owners()
        .with(grant(
            "reader",
            Granted::ObjectGroup("shops".into()),
            Level::Read,
        ))
        .with(grant(
            "deputy",
            Granted::OwnedBy("fred".into()),
            Level::Manage,
        ));
    let host = host(rights);
    let version = Version::V2_1;
    let fred = host.client_named("fred", version);
    let shop = fred.create(none().with(V::ObjectGroup("shops".into())));
    let other = fred.create(none());
    let (reader, deputy, nobody) = (
        host.client_named("reader", version),
        host.client_named("deputy", version),
        host.client_named("nobody", version),
    );
    assert!(
        reader.get(&shop).is_ok() && reader.get(&other).is_err() && reader.destroy(&shop).is_err()
    );
    assert_eq!(reader.locate(none()), [shop.clone()]);
    assert!(deputy.get(&other).is_ok() && deputy.destroy(&other).is_ok());
    assert!(nobody.locate(none()).is_empty());
    let mut import = nobody.import_request(&shop, Some(key(&[1; 16])), none());
    import.replace_existing = Some(true);
    assert_eq!(
        reason(nobody.import_by(&import)),
        ResultReason::PERMISSION_DENIED,
        "nor by replacing it"
    );
}

#[test]
fn a_key_is_wrapped_only_under_a_key_of_ones_own() {
    let host = host(Rights::owners());
    let (fred, barney) = (
        host.client_named("fred", Version::V1_4),
        host.client_named("barney", Version::V1_4),
    );
    let kek = fred.create(none().with(V::ActivationDate(DateTime(1))));
    let id = barney.create(none());
    let specification = KeyWrappingSpecification {
        wrapping_method: WrappingMethod::ENCRYPT,
        encryption_key_information: Some(WrappingKeyInformation {
            unique_identifier: kek.as_str().into(),
            cryptographic_parameters: None,
            extra: Extra::NONE,
        }),
        mac_signature_key_information: None,
        attribute_names: Vec::new(),
        encoding_option: None,
        extra: Extra::NONE,
    };
    let request = GetRequest {
        key_wrapping_specification: Some(specification),
        ..GetRequest::of(id.as_str())
    };
    assert_eq!(
        reason(barney.call::<_, GetResponse>(&request)),
        ResultReason::PERMISSION_DENIED
    );
}

#[test]
fn credentials_say_who_it_is_or_nothing_is_done() {
    let host = host(Rights::owners());
    for version in ALL {
        let client = host.client_named("gateway", version);
        let with = |user: &str, password: &str, item: RequestItem| {
            let mut message = RequestMessage::new(version, vec![item]);
            let user = UsernameAndPassword {
                username: user.into(),
                password: Some(password.into()),
                extra: Extra::NONE,
            };
            let credentials = vec![CredentialValue::UsernameAndPassword(user).into()];
            message.header.authentication = Some(Authentication {
                credentials,
                extra: Extra::NONE,
            });
            client.send(&message).batch.remove(0)
        };
        let before = host.count();
        let refusal = with("fred", "bad", client.item(&create_request(aes(none()))));
        assert_eq!(
            refused(&refusal).0,
            ResultReason::AUTHENTICATION_NOT_SUCCESSFUL
        );
        assert_eq!(host.count(), before);
        let made: CreateResponse = client
            .read(&with(
                "fred",
                "good",
                client.item(&create_request(aes(none()))),
            ))
            .unwrap();
        let id = text(&made.unique_identifier);
        assert_eq!(host.record(&id).owner.as_deref(), Some("fred"));
        let get = client.item(&GetRequest::of(id.as_str()));
        assert!(with("fred", "good", get.clone()).is_success());
        assert_eq!(
            refused(&with("barney", "good", get)).0,
            ResultReason::PERMISSION_DENIED
        );
        assert_eq!(
            reason(client.get(&id)),
            ResultReason::PERMISSION_DENIED,
            "the gateway itself is somebody else"
        );
    }
}

#[test]
fn who_logs_in_by_a_peers_name_is_no_peer() {
    let mut host = host(Rights::owners());
    let policy = Policy::closed().with(
        "sender",
        keyferry_s2s::Peer::new("s").may_send().may_relay(),
    );
    let server = Server::new(Options {
        server: "b".into(),
        store: Arc::new(Memory::new(Incarnation([8; 16]))),
        crypto: Arc::new(Ring::new()),
        random: Box::new(SystemRandom::new()),
        access: Access::Authenticated,
        policy,
    });
    host.server = Arc::new(server.unwrap().with_authenticator(Arc::new(Passwords)));
    let client = host.client_named("gateway", Version::V2_1);
    let mut message = RequestMessage::new(
        Version::V2_1,
        vec![client.item(&client.put_request("p", Some(key(&[1; 16])), none()))],
    );
    let user = UsernameAndPassword {
        username: "sender".into(),
        password: Some("good".into()),
        extra: Extra::NONE,
    };
    let credentials = vec![CredentialValue::UsernameAndPassword(user).into()];
    message.header.authentication = Some(Authentication {
        credentials,
        extra: Extra::NONE,
    });
    assert_eq!(
        refused(&client.send(&message).batch[0]).0,
        ResultReason::AUTHENTICATION_NOT_SUCCESSFUL
    );
}
