//! Parts put together by somebody who can encrypt to the reader, or even sign.

use crate::support::*;
use keyferry_bundle::*;
use keyferry_kmip::extension as x;
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_ttlv::{Extra, Frame, Item, Version, Writer};

fn sealed() -> (Keys, Vec<Frame>) {
    let (alpha, keys) = (Host::new("alpha"), Keys::new());
    for n in 0..35 {
        alpha.key(n, &format!("key {n}"));
    }
    let parts = keys.parts(&keys.seal(&alpha));
    assert_eq!(
        parts.len(),
        6,
        "a manifest, four segments of objects, the closing one"
    );
    (keys, parts)
}

/// What becomes of the parts in this order.
fn refusal(keys: &Keys, parts: &[Frame], order: &[usize]) -> (ErrorKind, u64) {
    let picked: Vec<&Frame> = order.iter().map(|n| &parts[*n]).collect();
    keys.refusal(&keys.join(&picked))
}

#[test]
fn order_and_completeness_are_checked() {
    let (keys, parts) = sealed();
    assert_eq!(
        refusal(&keys, &parts, &[0, 1, 2, 3, 4]),
        (ErrorKind::Unfinished, 4),
        "no last segment"
    );
    assert_eq!(refusal(&keys, &parts, &[0]), (ErrorKind::Unfinished, 0));
    assert_eq!(
        refusal(&keys, &parts, &[0, 1, 1, 2, 3, 4, 5]),
        (ErrorKind::Repeated, 1)
    );
    assert_eq!(
        refusal(&keys, &parts, &[0, 1, 2, 1, 3, 4, 5]),
        (ErrorKind::Repeated, 2)
    );
    assert_eq!(
        refusal(&keys, &parts, &[0, 2, 1, 3, 4, 5]),
        (ErrorKind::OutOfOrder, 0)
    );
    assert_eq!(
        refusal(&keys, &parts, &[0, 1, 3, 4, 5]),
        (ErrorKind::OutOfOrder, 1),
        "one is missing"
    );
    assert_eq!(
        refusal(&keys, &parts, &[0, 5]),
        (ErrorKind::OutOfOrder, 0),
        "nothing but the end"
    );
    assert_eq!(
        refusal(&keys, &parts, &[0, 1, 2, 3, 4, 5, 5]),
        (ErrorKind::Trailing, 4)
    );
    assert_eq!(
        refusal(&keys, &parts, &[1, 2, 3, 4, 5]),
        (ErrorKind::Malformed, 0),
        "no manifest"
    );
    assert_eq!(
        refusal(&keys, &parts, &[0, 0, 1, 2, 3, 4, 5]),
        (ErrorKind::Malformed, 0)
    );
    assert_eq!(refusal(&keys, &parts, &[]), (ErrorKind::Malformed, 0));
}

#[test]
fn a_segment_of_another_bundle_does_not_fit() {
    let (keys, parts) = sealed();
    let alpha = Host::new("alpha");
    for n in 0..35 {
        alpha.key(n, &format!("other {n}"));
    }
    let others = keys.parts(&keys.seal(&alpha));
    let mixed: Vec<Frame> = [&parts[..3], &others[3..]].concat();
    assert_eq!(
        refusal(&keys, &mixed, &[0, 1, 2, 3, 4, 5]),
        (ErrorKind::Chain, 2)
    );
    let headed: Vec<Frame> = [&others[..1], &parts[1..]].concat();
    assert_eq!(
        refusal(&keys, &headed, &[0, 1, 2, 3, 4, 5]),
        (ErrorKind::Chain, 0)
    );
}

#[test]
fn a_bit_flipped_before_encryption_breaks_a_signature() {
    let (keys, parts) = sealed();
    for (part, handed) in [(0, 0), (1, 0), (3, 2), (5, 4)] {
        // From the first byte of the content's last field on, the signature included, the form may stay right.
        for back in [1, 40, 80, 120] {
            let mut bytes = parts[part].to_vec();
            let at = bytes.len() - back;
            bytes[at] ^= 1;
            let mut bad = parts.clone();
            bad[part] = Frame::new(bytes);
            let (kind, got) = refusal(&keys, &bad, &[0, 1, 2, 3, 4, 5]);
            assert!(
                matches!(
                    kind,
                    ErrorKind::Signature | ErrorKind::Malformed | ErrorKind::UnknownSigner
                ),
                "{kind:?}"
            );
            assert_eq!(
                got, handed,
                "part {part}, {back} bytes from its end: {kind:?}"
            );
        }
    }
    let mut bytes = parts[2].to_vec();
    let at = bytes.len() - 10;
    bytes[at] ^= 1;
    let bad = [&parts[..2], &[Frame::new(bytes)], &parts[3..]].concat();
    assert_eq!(
        refusal(&keys, &bad, &[0, 1, 2, 3, 4, 5]),
        (ErrorKind::Signature, 1)
    );
}

#[test]
fn an_unknown_signer_is_refused() {
    let (keys, parts) = sealed();
    let file = keys.join(&parts.iter().collect::<Vec<_>>());
    let (other, _) = SigningKey::generate(&mut keyferry_crypto::SystemRandom::new()).unwrap();
    for trusted in [vec![], vec![Signer::new("alpha", other.verifying_key())]] {
        let options = OpenOptions::new("beta", &trusted, &keys.identity, NOW);
        assert_eq!(
            keys.refusal_by(&file, &options),
            (ErrorKind::UnknownSigner, 0)
        );
    }
}

#[test]
fn a_signer_speaks_for_its_own_server_only() {
    let (keys, parts) = sealed();
    let file = keys.join(&parts.iter().collect::<Vec<_>>());
    let trusted = [Signer::new("gamma", keys.sign.verifying_key())];
    let options = OpenOptions::new("beta", &trusted, &keys.identity, NOW);
    assert_eq!(
        keys.refusal_by(&file, &options),
        (ErrorKind::WrongSender, 0)
    );
    let both = [
        trusted[0].clone(),
        Signer::new("alpha", keys.sign.verifying_key()),
    ];
    open::<Error>(
        &file[..],
        &OpenOptions::new("beta", &both, &keys.identity, NOW),
        |_| Ok(()),
    )
    .unwrap();
}

#[test]
fn segments_by_another_trusted_signer_are_refused() {
    let (keys, parts) = sealed();
    let (gamma, seed) = SigningKey::generate(&mut keyferry_crypto::SystemRandom::new()).unwrap();
    let trusted = [
        keys.trusted[0].clone(),
        Signer::new("gamma", gamma.verifying_key()),
    ];
    let segment = sign(&seed, x::SEALED_SEGMENT, &content(&parts[1]));
    let file = keys.join(&[&parts[0], &segment]);
    assert_eq!(
        keys.refusal_by(
            &file,
            &OpenOptions::new("beta", &trusted, &keys.identity, NOW)
        ),
        (ErrorKind::Signature, 0)
    );
}

#[test]
fn a_long_segment_is_refused_before_it_is_read() {
    let (keys, parts) = sealed();
    let file = keys.join(&parts.iter().collect::<Vec<_>>());
    let options = OpenOptions {
        segment_limit: 1_000,
        ..OpenOptions::new("beta", &keys.trusted, &keys.identity, NOW)
    };
    assert_eq!(keys.refusal_by(&file, &options), (ErrorKind::TooLarge, 0));
    let huge = Frame::new(vec![0x54, 0x4B, 0x63, 1, 0xFF, 0xFF, 0xFF, 0xF8]);
    assert_eq!(
        keys.refusal(&keys.join(&[&parts[0], &huge])),
        (ErrorKind::TooLarge, 0)
    );
    let huge = Frame::new(vec![0x54, 0x4B, 0x62, 1, 1, 0, 0, 0]);
    assert_eq!(keys.refusal(&keys.join(&[&huge])), (ErrorKind::TooLarge, 0));
}

/// What is signed in a sealed part.
fn content(sealed: &Frame) -> Vec<u8> {
    Item::parse(&sealed[8..sealed.len() - 72])
        .unwrap()
        .raw()
        .to_vec()
}

/// A sealed part, made by hand.
fn sign(seed: &[u8; 32], tag: keyferry_ttlv::Tag, content: &[u8]) -> Frame {
    let key = ring::signature::Ed25519KeyPair::from_seed_unchecked(seed).unwrap();
    let hash = ring::digest::digest(&ring::digest::SHA256, content);
    let signature = key.sign(&[b"keyferry bundle\0", hash.as_ref()].concat());
    let mut w = Writer::new(context(Version::V2_1));
    w.structure(tag, |w| {
        w.raw(content);
        w.bytes(x::SIGNATURE, signature.as_ref())
    })
    .unwrap();
    w.finish()
}

/// A signer who is trusted, and what they would have us do.
struct Rogue {
    keys: Keys,
    seed: [u8; 32],
    manifest: Frame,
}

impl Rogue {
    fn new() -> Rogue {
        let seed = [5; 32];
        let mut keys = Keys::new();
        keys.sign = SigningKey::from_seed(&seed).unwrap();
        keys.trusted = vec![Signer::new("alpha", keys.sign.verifying_key())];
        let manifest = keys.parts(&keys.seal(&Host::new("alpha")))[0].clone();
        Rogue {
            keys,
            seed,
            manifest,
        }
    }

    fn segment(
        &self,
        last: bool,
        objects: i64,
        request: Option<&RequestMessage>,
    ) -> (ErrorKind, u64) {
        self.keys.refusal(&self.file(last, objects, request))
    }

    /// A bundle of one segment, which lacks its end.
    fn file(&self, last: bool, objects: i64, request: Option<&RequestMessage>) -> Vec<u8> {
        let mut w = Writer::new(context(Version::V2_1));
        w.structure(x::BUNDLE_SEGMENT, |w| {
            w.long_integer(x::SEGMENT_NUMBER, 1);
            w.bytes(
                x::RUNNING_HASH,
                ring::digest::digest(&ring::digest::SHA256, &self.manifest).as_ref(),
            )?;
            w.boolean(x::LAST_SEGMENT, last);
            w.long_integer(x::CURSOR, 1);
            w.long_integer(x::OBJECT_COUNT, objects);
            if let Some(request) = request {
                w.raw(&request.to_frame()?);
            }
            Ok(())
        })
        .unwrap();
        let segment = sign(&self.seed, x::SEALED_SEGMENT, &w.finish());
        self.keys.join(&[&self.manifest, &segment])
    }
}

#[test]
fn two_bundles_with_one_manifest_are_not_taken_for_one() {
    let (rogue, beta) = (Rogue::new(), Host::new("beta"));
    let file = |items: Vec<RequestItem>| {
        let count = items.len() as i64;
        rogue.file(
            false,
            count,
            Some(&RequestMessage::new(Version::V2_1, items)),
        )
    };
    let take = |file: &[u8]| {
        rogue
            .keys
            .take(file, &beta, &*beta.store, false)
            .unwrap_err()
            .kind()
    };
    let one = file(vec![import(None)]);
    assert_eq!(take(&one), ErrorKind::Unfinished);
    assert_eq!(
        take(&file(vec![import(Some(false)), import(None)])),
        ErrorKind::Chain
    );
    assert_eq!(take(&one), ErrorKind::Unfinished, "the first one goes on");
}

fn import(replace: Option<bool>) -> RequestItem {
    let object = Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(&[1; 16]));
    let request = ImportRequest {
        unique_identifier: "1".into(),
        object_type: Some(ObjectType::SYMMETRIC_KEY),
        replace_existing: replace,
        key_wrap_type: None,
        attributes: Attributes::new(),
        object: Some(object),
        extra: Extra::NONE,
    };
    RequestItem::new(&request, context(Version::V2_1)).unwrap()
}

#[test]
fn a_trusted_signer_can_ask_for_nothing_but_imports() {
    let rogue = Rogue::new();
    let request = |items| RequestMessage::new(Version::V2_1, items);
    let destroy = DestroyRequest {
        unique_identifier: Some("1".into()),
        extra: Extra::NONE,
    };
    let destroy = RequestItem::new(&destroy, context(Version::V2_1)).unwrap();
    // The made-up form is the right one: a plain Import is handed out, and only the end is missing.
    assert_eq!(
        rogue.segment(false, 1, Some(&request(vec![import(None)]))),
        (ErrorKind::Unfinished, 1)
    );
    assert_eq!(
        rogue.segment(false, 1, Some(&request(vec![import(Some(false))]))),
        (ErrorKind::Unfinished, 1)
    );
    for items in [
        vec![import(Some(true))],
        vec![import(None), import(Some(true))],
        vec![destroy.clone()],
        vec![import(None), destroy],
    ] {
        let count = items.len() as i64;
        assert_eq!(
            rogue.segment(false, count, Some(&request(items))),
            (ErrorKind::Content, 0)
        );
    }
    assert_eq!(
        rogue.segment(false, 0, Some(&request(vec![]))),
        (ErrorKind::Content, 0),
        "no items"
    );
    assert_eq!(
        rogue.segment(false, 2, Some(&request(vec![import(None)]))),
        (ErrorKind::Content, 0),
        "a wrong count"
    );
    assert_eq!(
        rogue.segment(true, 1, Some(&request(vec![import(None)]))),
        (ErrorKind::Content, 0),
        "the last one is empty"
    );
    assert_eq!(
        rogue.segment(false, 0, None),
        (ErrorKind::Content, 0),
        "one that is not the last is not"
    );
    let mut miscounted = request(vec![import(None)]);
    miscounted.header.batch_count = 2;
    assert_eq!(
        rogue.segment(false, 1, Some(&miscounted)),
        (ErrorKind::Content, 0)
    );
    let older = RequestMessage::new(Version::V1_4, vec![import(None)]);
    assert_eq!(
        rogue.segment(false, 1, Some(&older)),
        (ErrorKind::Content, 0)
    );
}

#[test]
fn a_format_of_the_future_is_told_apart() {
    let rogue = Rogue::new();
    let mut w = Writer::new(context(Version::V2_1));
    w.structure(x::BUNDLE_MANIFEST, |w| {
        w.integer(x::FORMAT_VERSION, 2);
        w.bytes(x::SIGNER, &rogue.keys.sign.verifying_key().id())?;
        w.text(x::UNTIL, "whatever it has")
    })
    .unwrap();
    let manifest = sign(&rogue.seed, x::SEALED_MANIFEST, &w.finish());
    assert_eq!(
        rogue.keys.refusal(&rogue.keys.join(&[&manifest])),
        (ErrorKind::Format, 0)
    );
}
