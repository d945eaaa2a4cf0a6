//! A copy is unwrapped only by a key that the agreement names, and held in the terms that were wrapped with it.

use crate::bulk::drive::*;
use crate::bulk::follows::*;
use crate::bulk::rsa;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_server::Access;
use keyferry_store::Record;
use keyferry_ttlv::{Extra, Version};

const AGREED: [u8; 32] = [0x4B; 32];
const HIDDEN: [u8; 32] = [0x4C; 32];

fn wraps() -> Attributes {
    let usage = CryptographicUsageMask::WRAP_KEY | CryptographicUsageMask::UNWRAP_KEY;
    none()
        .with(V::CryptographicUsageMask(usage))
        .with(V::ActivationDate(DateTime(START - 10)))
}

/// A server with two keys: `a` and this server have agreed on "kek", and "hidden" belongs to a client alone.
fn with_keys(host: Host) -> Host {
    let client = host.client(Version::V2_1);
    for (id, bytes) in [("kek", AGREED), ("hidden", HIDDEN)] {
        client
            .import(id, Some(key(&bytes)), wraps(), false)
            .unwrap();
    }
    host
}

fn receiver() -> Host {
    let policy = Policy::closed()
        .with("a.example", Peer::new("a").may_send().unwrapping("kek"))
        .with("c.example", Peer::new("c").may_send().unwrapping("private"));
    with_keys(Host::named(
        "b",
        Access::Named(["client".to_owned()].into()),
        policy,
    ))
}

/// What a server gives its client of an object, wrapped under a key with these attributes.
fn wrapped(host: &Host, id: &str, by: &str, bound: &[&str], encoding: EncodingOption) -> Object {
    let parameters = CryptographicParameters {
        block_cipher_mode: Some(BlockCipherMode::AES_KEY_WRAP_PADDING),
        ..Default::default()
    };
    let specification = KeyWrappingSpecification {
        wrapping_method: WrappingMethod::ENCRYPT,
        encryption_key_information: Some(WrappingKeyInformation {
            unique_identifier: by.into(),
            cryptographic_parameters: Some(Box::new(parameters)),
            extra: Extra::NONE,
        }),
        mac_signature_key_information: None,
        attribute_names: bound.iter().map(|name| Text::from(*name)).collect(),
        encoding_option: Some(encoding),
        extra: Extra::NONE,
    };
    let request = GetRequest {
        unique_identifier: Some(id.into()),
        key_format_type: None,
        key_wrap_type: None,
        key_compression_type: None,
        key_wrapping_specification: Some(specification),
        extra: Extra::NONE,
    };
    let response: GetResponse = host.client(Version::V2_1).call(&request).unwrap();
    response.object
}

/// Sends a copy as a peer, which says that it was wrapped for the way if it is.
fn send(
    b: &Host,
    peer: &str,
    record: &Record,
    object: Object,
    owner: Option<&str>,
) -> ItemResult<()> {
    let is_wrapped = object
        .key_block()
        .is_some_and(|block| block.key_wrapping_data.is_some());
    let peer = b.client_named(peer, Version::V2_1);
    let mut item = copy_item(&peer, record, Some(object), |copy| {
        copy.owner = owner.map(Text::from);
    });
    let mut payload: ImportRequest = item.payload(peer.cx()).unwrap();
    payload.key_wrap_type = is_wrapped.then_some(KeyWrapType::NOT_WRAPPED);
    item.request_payload = peer.item(&payload).request_payload;
    peer.call_item::<ImportResponse>(item).map(|_| ())
}

const BOUND: [&str; 3] = ["Cryptographic Usage Mask", "Sensitive", "Extractable"];

fn secret_of(a: &Host) -> String {
    let usage = V::CryptographicUsageMask(CryptographicUsageMask::ENCRYPT);
    let terms = none().with(usage).with(V::Sensitive(true));
    a.client(Version::V2_1).register(key(&[7; 32]), terms)
}

#[test]
fn a_peer_can_not_have_a_key_used_that_the_agreement_does_not_name() {
    let (a, b) = (with_keys(master()), receiver());
    let id = secret_of(&a);
    let before = b.count();
    for (by, is_taken) in [("hidden", false), ("kek", true)] {
        let blob = wrapped(&a, &id, by, &BOUND, EncodingOption::TTLV_ENCODING);
        let sent = send(&b, "a.example", &a.record(&id), blob, None);
        assert_eq!(sent.is_ok(), is_taken, "{by} {sent:?}");
        assert_eq!(b.count(), before + u64::from(is_taken));
    }
    assert_same(&a, &b, &[id.clone()]);
    // It is held in no weaker terms: a client gets it wrapped or not at all.
    let client = b.client(Version::V2_1);
    let terms = [V::Sensitive(true), V::AlwaysSensitive(true)];
    assert!(
        terms
            .iter()
            .all(|term| b.record(&id).attributes.get(term.tag()) == Some(term))
    );
    assert!(client.get(&id).is_err());
}

#[test]
fn what_a_client_has_wrapped_is_no_copy() {
    let (a, b) = (with_keys(master()), receiver());
    let id = secret_of(&a);
    // A secret of a client of `b`, which has its own key, and no right to read it in the clear.
    let client = b.client(Version::V2_1);
    let theirs = client.register(
        key(&[9; 32]),
        none()
            .with(V::Sensitive(true))
            .with(V::CryptographicUsageMask(CryptographicUsageMask::ENCRYPT)),
    );
    let before = b.count();
    for encoding in [EncodingOption::TTLV_ENCODING, EncodingOption::NO_ENCODING] {
        let blob = wrapped(&b, &theirs, "kek", &[], encoding);
        // Beside every terms that the peer might tell.
        for change in [
            |_: &mut Attributes| {},
            |all: &mut Attributes| all.set(V::Sensitive(false)),
            |all: &mut Attributes| {
                for term in BOUND {
                    let reference = AttributeReference::named(term);
                    all.retain(|attribute| attribute.value.reference() != reference);
                }
            },
        ] {
            let mut record = a.record(&id);
            change(&mut record.attributes);
            let refused = send(&b, "a.example", &record, blob.clone(), None).unwrap_err();
            assert_eq!(refused.0, ResultReason::INVALID_MESSAGE, "{refused:?}");
            assert_eq!(b.count(), before);
        }
    }
}

#[test]
fn a_copy_in_other_terms_than_were_wrapped_with_it_is_refused() {
    let (a, b) = (with_keys(master()), receiver());
    let id = secret_of(&a);
    let before = b.count();
    let blob = wrapped(&a, &id, "kek", &BOUND, EncodingOption::TTLV_ENCODING);
    let both = CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::DECRYPT;
    for other in [
        V::Sensitive(false),
        V::Extractable(false),
        V::CryptographicUsageMask(both),
    ] {
        for leaves_out in [false, true] {
            let mut record = a.record(&id);
            if leaves_out {
                let tag = other.tag();
                record
                    .attributes
                    .retain(|attribute| attribute.value.tag() != tag);
            } else {
                record.attributes.set(other.clone());
            }
            let refused = send(&b, "a.example", &record, blob.clone(), None).unwrap_err();
            assert_eq!(
                refused.0,
                ResultReason::INVALID_MESSAGE,
                "{other:?} {refused:?}"
            );
            assert_eq!(b.count(), before);
        }
    }
    send(&b, "a.example", &a.record(&id), blob, None).unwrap();
}

#[test]
fn a_master_that_is_followed_can_not_have_another_key_used() {
    for (there, is_taken) in [("hidden", false), ("kek", true)] {
        let here = if is_taken { "kek" } else { "hidden" };
        let a = with_keys(issuer_with(|peer| {
            peer.wrapping(Wrapping::new(here, there))
        }));
        let b = with_keys(follower("b"));
        let id = secret_of(&a);
        begin(&b, &UpstreamOptions::default());
        let options = || FollowOptions::new("r", Peer::new("a").unwrapping("kek"));
        let report = pass_cut(&b, &a, options(), Cut::Never).unwrap().unwrap();
        let held = held(&b, &a.record(&id).id);
        assert_eq!(held.is_some(), is_taken, "{there} {}", report.table());
        assert!(is_taken || report.table().to_string().contains("does not name the key"));
    }
}

#[test]
fn a_transport_key_counts_from_its_issuer_under_the_rsa_key_of_the_agreement_alone() {
    // The real one, as `a` has made it for `b`.
    let (a, b) = (master(), replica());
    rsa::share(&a, &b);
    let ids = rsa::secrets(&a);
    let wrapping = || Wrapping::oaep("public there", "private");
    rsa::push(&a, &b, Version::V2_1, &ids, wrapping());
    let (transport, object) = rsa::transport_keys(&a).remove(0);
    let owner = "peer:a";
    // In the clear, or under another key that the agreement names, it is refused.
    let c = replica();
    rsa::share(&follower("x"), &c);
    let c = with_keys(c);
    let client = a.client(Version::V2_1);
    client
        .import("kek", Some(key(&AGREED)), wraps(), false)
        .unwrap();
    let count = c.count();
    let clear = send(&c, "a.example", &transport, object.clone(), Some(owner)).unwrap_err();
    assert_eq!(clear.0, ResultReason::PERMISSION_DENIED, "{clear:?}");
    let blob = {
        let open = client.register(
            object.clone(),
            none().with(V::Sensitive(true)).with(
                transport
                    .attributes
                    .get(tag::CRYPTOGRAPHIC_USAGE_MASK)
                    .unwrap()
                    .clone(),
            ),
        );
        wrapped(&a, &open, "kek", &BOUND[..2], EncodingOption::TTLV_ENCODING)
    };
    let other = send(&c, "a.example", &transport, blob, Some(owner)).unwrap_err();
    assert_eq!(other.0, ResultReason::PERMISSION_DENIED, "{other:?}");
    assert_eq!(c.count(), count);
    // A key of a client that is marked alike is an ordinary object, and unwraps nothing.
    let mut marked = transport.attributes.clone();
    marked.retain(|attribute| {
        matches!(
            attribute.value,
            V::ApplicationSpecificInformation(_) | V::CryptographicUsageMask(_)
        )
    });
    let of_client = client.register(
        key(&HIDDEN),
        marked.with(V::ActivationDate(DateTime(START - 10))),
    );
    send(
        &c,
        "a.example",
        &a.record(&of_client),
        key(&HIDDEN),
        Some("client"),
    )
    .unwrap();
    let id = secret_of(&a);
    let blob = wrapped(&a, &id, &of_client, &BOUND, EncodingOption::TTLV_ENCODING);
    let refused = send(&c, "a.example", &a.record(&id), blob, None).unwrap_err();
    assert!(refused.1.contains("does not name the key"), "{refused:?}");
    // What `a` has sent unwraps nothing that comes from another peer, though that one's agreement names the same RSA key.
    let d = Host::named(
        "b",
        Access::Named(["client".to_owned()].into()),
        Policy::closed()
            .with("a.example", Peer::new("a").may_send().unwrapping("private"))
            .with(
                "c.example",
                Peer::new("c").may_send().may_relay().unwrapping("private"),
            ),
    );
    rsa::share(&follower("x"), &d);
    rsa::push(&a, &d, Version::V2_1, &ids, wrapping());
    let mut seen = None;
    let more = secret_of(&a);
    rsa::push_seeing(&a, &d, &[more.clone()], wrapping(), &mut |item| {
        seen = Some(item.clone())
    });
    // `a` has sent it once; as a copy of another object, from a relay, it is refused.
    let request: ImportRequest = seen.unwrap().payload(client.cx()).unwrap();
    let mut record = a.record(&more);
    record.id.identifier = "another".into();
    record.identifier = "another".into();
    let refused = send(&d, "c.example", &record, request.object.unwrap(), None).unwrap_err();
    assert!(refused.1.contains("does not name the key"), "{refused:?}");
}
