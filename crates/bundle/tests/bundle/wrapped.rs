//! Key material that is wrapped inside a bundle.

use crate::support::*;
use keyferry_bundle::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::{Report, Wrapping};

const KEK: [u8; 32] = [0x4B; 32];

/// Gives a server the shared key under this name, and returns its identifier.
fn share(host: &Host, bytes: &[u8; 32]) -> String {
    let usage = CryptographicUsageMask::WRAP_KEY | CryptographicUsageMask::UNWRAP_KEY;
    let attributes = Attributes::new()
        .with(V::CryptographicUsageMask(usage))
        .with(V::ActivationDate(NOW));
    let attributes = attributes
        .with(V::Name(Name::text(kek(host.name))))
        .with(V::Extractable(false));
    host.import(
        &kek(host.name),
        Object::symmetric_key(CryptographicAlgorithm::AES, 256, Secret::new(bytes)),
        attributes,
    )
}

fn sensitive(host: &Host, byte: u8) -> String {
    let attributes = Attributes::new()
        .with(V::CryptographicUsageMask(CryptographicUsageMask::ENCRYPT))
        .with(V::Sensitive(true))
        .with(V::ActivationDate(NOW));
    host.register(
        Object::symmetric_key(CryptographicAlgorithm::AES, 256, Secret::new(&[byte; 32])),
        attributes,
    )
}

fn seal_wrapped(keys: &Keys, from: &Host, wrapping: Option<Wrapping>) -> (Sealed, Vec<u8>) {
    let readers = [keys.identity.recipient()];
    let node = &**from.server.node();
    let wrapping = wrapping.map(|wrapping| (node, wrapping));
    let options = SealOptions {
        batch: 4,
        wrapping,
        ..SealOptions::new(&node.home, "beta", &keys.sign, &readers, NOW, LATER)
    };
    let mut file = Vec::new();
    let sealed = seal(&*from.store, &options, &mut file).unwrap();
    (sealed, file)
}

fn plain(keys: &Keys, file: &[u8]) -> Vec<u8> {
    keys.parts(file)
        .iter()
        .flat_map(|part| part.to_vec())
        .collect()
}

fn counts(report: &Report) -> (i64, i64, i64, i64) {
    assert!(report.counts.add_up());
    (
        report.counts.created,
        report.counts.updated,
        report.counts.unchanged,
        report.counts.failed,
    )
}

#[test]
fn sensitive_keys_go_wrapped_and_are_the_same_there() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let (here, there) = (share(&alpha, &KEK), share(&beta, &KEK));
    let ids: Vec<String> = (1..7)
        .map(|n| {
            if n % 2 == 0 {
                sensitive(&alpha, n)
            } else {
                alpha.key(n, &format!("{n}"))
            }
        })
        .collect();
    let (sealed, file) = seal_wrapped(&keys, &alpha, Some(Wrapping::new(&*here, &*there)));
    assert_eq!((sealed.objects, sealed.left), (6, 1));
    assert_eq!(
        sealed.named[0].identifier, here,
        "what is not Extractable stays, wrapped or not"
    );
    let inside = plain(&keys, &file);
    assert!(
        (1..7).all(|n| !inside.windows(16).any(|window| window == [n; 16])),
        "no key is in the clear inside"
    );
    assert_eq!(counts(&keys.open(&file, &beta).1), (6, 0, 0, 0));
    for id in &ids {
        let ((ours, object), (theirs, copy)) = (alpha.held(id).unwrap(), beta.held(id).unwrap());
        assert_eq!(ours.copy_digest().unwrap(), theirs.copy_digest().unwrap());
        assert_eq!(object, copy);
    }
    assert_eq!(
        counts(&keys.open(&file, &beta).1),
        (0, 0, 6, 0),
        "taken twice"
    );
}

#[test]
fn another_key_at_the_recipient_fails_each_object() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let (here, there) = (share(&alpha, &KEK), share(&beta, &[1; 32]));
    let id = sensitive(&alpha, 9);
    for there in [there.as_str(), "nobody"] {
        let (_, file) = seal_wrapped(&keys, &alpha, Some(Wrapping::new(&*here, there)));
        assert_eq!(counts(&keys.open(&file, &beta).1), (0, 0, 0, 1));
        assert!(beta.held(&id).is_none());
    }
}

#[test]
fn what_went_wrapped_is_told_of_without_a_wrapping_and_nothing_else_is() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let (here, there) = (share(&alpha, &KEK), share(&beta, &KEK));
    let ids: Vec<String> = (1..4).map(|n| sensitive(&alpha, n)).collect();
    keys.open(
        &seal_wrapped(&keys, &alpha, Some(Wrapping::new(&*here, &*there))).1,
        &beta,
    );
    let new = sensitive(&alpha, 4);
    alpha.revoke(&ids[0], RevocationReasonCode::KEY_COMPROMISE);
    alpha.revoke(&ids[1], RevocationReasonCode::SUPERSEDED);
    alpha.destroy(&ids[1]);
    let (sealed, file) = seal_wrapped(&keys, &alpha, None);
    assert_eq!((sealed.objects, sealed.tombstones, sealed.left), (3, 1, 2));
    let left: Vec<&str> = sealed
        .named
        .iter()
        .map(|left| left.identifier.as_str())
        .collect();
    assert_eq!(left, [&*here, &*new]);
    let inside = plain(&keys, &file);
    assert!((1..5).all(|n| !inside.windows(16).any(|window| window == [n; 16])));
    assert_eq!(counts(&keys.open(&file, &beta).1), (0, 2, 1, 0));
    assert_eq!(
        (beta.state(&ids[0]), beta.state(&ids[1])),
        (State::COMPROMISED, State::DESTROYED)
    );
    assert!(
        beta.held(&ids[0]).unwrap().1.is_some(),
        "what is compromised decrypts still"
    );
}

#[test]
fn what_has_nothing_to_wrap_stays() {
    let (alpha, keys) = (Host::new("alpha"), Keys::new());
    let here = share(&alpha, &KEK);
    let opaque = OpaqueObject {
        opaque_data_type: keyferry_ttlv::Enumeration(0x8000_0000),
        value: Secret::new(b"data"),
        extra: Default::default(),
    };
    let stays = alpha.register(
        Object::OpaqueObject(opaque),
        Attributes::new().with(V::Sensitive(true)),
    );
    let (sealed, _) = seal_wrapped(&keys, &alpha, Some(Wrapping::new(&*here, "kek")));
    assert_eq!(
        (sealed.objects, sealed.left, &*sealed.named[1].identifier),
        (0, 2, &*stays)
    );
    // It never went: its end is not told.
    alpha.destroy(&stays);
    assert_eq!(seal_wrapped(&keys, &alpha, None).0.objects, 0);
}

#[test]
fn a_server_takes_back_what_went_wrapped() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let (here, there) = (share(&alpha, &KEK), share(&beta, &KEK));
    let id = sensitive(&alpha, 9);
    let before = alpha.held(&id).unwrap();
    keys.open(
        &seal_wrapped(&keys, &alpha, Some(Wrapping::new(&*here, &*there))).1,
        &beta,
    );
    let anew = Host::new("alpha");
    let kek = share(&anew, &KEK);
    let readers = [keys.identity.recipient()];
    let node = &**beta.server.node();
    let wrapping = Some((node, Wrapping::new(&*there, &*kek)));
    let options = SealOptions {
        wrapping,
        ..SealOptions::new(&node.home, "alpha", &keys.sign, &readers, NOW, LATER)
    };
    let mut file = Vec::new();
    seal(&*beta.store, &options, &mut file).unwrap();
    let trusted = [Signer::new("beta", keys.sign.verifying_key())];
    let (from, node) = (caller("beta's"), &**anew.server.node());
    let restoring = Some(Restoring {
        node,
        owner: Some("client".into()),
    });
    let receiving = Receiving {
        responder: node,
        store: &*anew.store,
        caller: &from,
        now: now(),
        again: false,
        restoring,
    };
    let options = OpenOptions::new("alpha", &trusted, &keys.identity, NOW);
    let (_, report) = receiving
        .take(
            &file[..],
            &options,
            &mut keyferry_crypto::SystemRandom::new(),
        )
        .unwrap();
    assert_eq!(counts(&report), (1, 0, 0, 0), "{report:?}");
    assert_eq!(anew.held(&id).unwrap().1, before.1);
}

/// Gives the sender the public half of an RSA pair, and the receiver the private one, under the names that the policies know.
fn share_rsa(alpha: &Host, beta: &Host) {
    let pair = keyferry_crypto::Ring::new().rsa_key_pair(2048).unwrap();
    let half = |bytes: &[u8]| Key {
        key_block: KeyBlock::plain(
            KeyFormatType::PKCS_1,
            Some((CryptographicAlgorithm::RSA, 2048)),
            Secret::new(bytes),
        )
        .into(),
        extra: Default::default(),
    };
    let usage = |usage| {
        Attributes::new()
            .with(V::CryptographicUsageMask(usage))
            .with(V::ActivationDate(NOW))
            .with(V::Extractable(false))
    };
    let (wraps, unwraps) = (
        CryptographicUsageMask::WRAP_KEY,
        CryptographicUsageMask::UNWRAP_KEY,
    );
    alpha.import(
        "public",
        Object::PublicKey(half(&pair.public)),
        usage(wraps),
    );
    let private = Object::PrivateKey(half(&pair.private));
    beta.import(&kek(beta.name), private, usage(unwraps));
}

#[test]
fn under_an_rsa_key_a_transport_key_carries_what_is_longer() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    share_rsa(&alpha, &beta);
    let wrapping = || Wrapping::oaep("public", kek("beta"));
    let long = alpha.register(
        Object::secret_data(SecretDataType::PASSWORD, Secret::new(&[7; 3001])),
        Attributes::new().with(V::Sensitive(true)),
    );
    let short = sensitive(&alpha, 9);
    // Without a transport key the long one stays.
    let (sealed, file) = seal_wrapped(&keys, &alpha, Some(wrapping()));
    assert_eq!((sealed.objects, sealed.left), (1, 2));
    assert_eq!(counts(&keys.open(&file, &beta).1), (1, 0, 0, 0));
    let mut random = keyferry_crypto::SystemRandom::new();
    let node = &**alpha.server.node();
    let key =
        keyferry_s2s::renew_transport_key(&*alpha.store, node, &wrapping(), now(), &mut random);
    let key = key.unwrap();
    let (sealed, file) = seal_wrapped(&keys, &alpha, Some(wrapping()));
    assert_eq!((sealed.objects, sealed.left), (3, 1), "{:?}", sealed.named);
    assert_eq!(
        sealed.manifest.objects, 4,
        "what was selected, and the transport key"
    );
    let inside = plain(&keys, &file);
    assert!(
        !inside
            .windows(16)
            .any(|window| [[7; 16], [9; 16]].contains(&window.try_into().unwrap()))
    );
    let (_, report) = keys.open(&file, &beta);
    assert_eq!(counts(&report), (2, 0, 1, 0), "{report:?}");
    for id in [long.as_str(), short.as_str(), key.as_str()] {
        assert_eq!(alpha.held(id).unwrap().1, beta.held(id).unwrap().1);
    }
}
