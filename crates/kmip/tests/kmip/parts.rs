//! Credentials and transparent keys.

use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_ttlv::{DateTimeExtended, Extra, Raw, Tag, Version, Writer};

fn asked(value: CredentialValue) -> RequestMessage<RequestPayload> {
    let mut message = RequestMessage::of(Version::V2_1, [GetRequest::of("1").into()]);
    message.header.authentication = Some(Authentication {
        credentials: vec![value.into()],
        extra: Extra::NONE,
    });
    message
}

fn values() -> Vec<CredentialValue> {
    let ticket = LoginTicket {
        ticket_type: TicketType::LOGIN,
        value: Secret::new(b"hush-ticket"),
        extra: Extra::NONE,
    };
    let mut w = Writer::new(context(Version::V2_1));
    w.structure(tag::CREDENTIAL_VALUE, |w| {
        w.text(Tag::new(0x540001), "hush")
    })
    .unwrap();
    let frame = w.finish();
    let odd: Raw = {
        let r = keyferry_ttlv::Reader::new(&frame, context(Version::V2_1));
        r.child(keyferry_ttlv::Item::parse(&frame).unwrap())
            .unwrap()
    };
    vec![
        CredentialValue::UsernameAndPassword(UsernameAndPassword {
            username: "Fred".into(),
            password: Some("hush".into()),
            extra: Extra::NONE,
        }),
        CredentialValue::Device(Box::new(Device {
            password: Some("hush".into()),
            ..Device::default()
        })),
        CredentialValue::Attestation(Box::new(Attestation {
            nonce: Nonce {
                id: vec![1],
                value: vec![2],
                extra: Extra::NONE,
            },
            attestation_type: AttestationType::TPM_QUOTE,
            measurement: Some(vec![3]),
            assertion: None,
            extra: Extra::NONE,
        })),
        CredentialValue::OneTimePassword(OneTimePassword {
            username: "Fred".into(),
            password: None,
            one_time_password: "hush".into(),
            extra: Extra::NONE,
        }),
        CredentialValue::HashedPassword(HashedPassword {
            username: "Fred".into(),
            timestamp: DateTimeExtended(1_700_000_000_000_001),
            hashing_algorithm: Some(HashingAlgorithm::SHA_256),
            hashed_password: Secret::new(b"hush"),
            extra: Extra::NONE,
        }),
        CredentialValue::Ticket(TicketCredential {
            ticket,
            extra: Extra::NONE,
        }),
        CredentialValue::Other(CredentialType(0x8000_0001), odd),
    ]
}

#[test]
fn credentials_of_every_type_come_back_and_are_not_shown() {
    for value in values() {
        let message = asked(value.clone());
        let read = RequestMessage::from_frame(&message.to_frame().unwrap()).unwrap();
        assert_eq!(read.clone().read_payloads().unwrap(), message);
        let shown = format!("{read:?} {:?}", read.header.authentication);
        assert!(
            !shown.contains("hush") && !shown.contains("104, 117, 115, 104"),
            "{shown}"
        );
    }
}

#[test]
fn a_credential_that_a_version_lacks_is_left_behind() {
    let since: Vec<Version> = values()
        .into_iter()
        .map(|value| {
            let first = VERSIONS.iter().rev().find(|version| {
                let (kept, loss) = downgraded(asked(value.clone()), Version::V2_1, **version);
                let kept = kept.is_some_and(|message| {
                    message
                        .header
                        .authentication
                        .is_some_and(|a| !a.credentials.is_empty())
                });
                assert_eq!(kept, loss.is_empty());
                kept
            });
            *first.unwrap()
        })
        .collect();
    use Version as V;
    assert_eq!(
        since,
        [
            V::V1_0,
            V::V1_1,
            V::V1_2,
            V::V2_0,
            V::V2_0,
            V::V2_0,
            V::V1_0
        ]
    );
}

fn secret(byte: u8) -> SecretInteger {
    SecretInteger(Secret::new(&[byte; 8]))
}

fn public(byte: u8) -> BigInteger {
    BigInteger(vec![byte; 16])
}

#[test]
fn transparent_keys_of_every_format_come_back_as_their_parts() {
    let (curve, extra) = (RecommendedCurve::P_256, Extra::NONE);
    let keys = [
        TransparentKey::Symmetric(TransparentSymmetricKey {
            key: Secret::new(&[1; 16]),
            extra: Extra::NONE,
        }),
        TransparentKey::DsaPrivate(TransparentDsaPrivateKey {
            p: public(1),
            q: public(2),
            g: public(3),
            x: secret(4),
            extra: Extra::NONE,
        }),
        TransparentKey::DsaPublic(TransparentDsaPublicKey {
            p: public(1),
            q: public(2),
            g: public(3),
            y: public(4),
            extra: Extra::NONE,
        }),
        TransparentKey::RsaPrivate(Box::new(TransparentRsaPrivateKey {
            modulus: public(1),
            private_exponent: Some(secret(2)),
            public_exponent: Some(public(3)),
            p: Some(secret(4)),
            q: Some(secret(5)),
            prime_exponent_p: Some(secret(6)),
            prime_exponent_q: Some(secret(7)),
            crt_coefficient: Some(secret(8)),
            extra: Extra::NONE,
        })),
        TransparentKey::RsaPublic(TransparentRsaPublicKey {
            modulus: public(1),
            public_exponent: public(2),
            extra: Extra::NONE,
        }),
        TransparentKey::DhPrivate(TransparentDhPrivateKey {
            p: public(1),
            q: None,
            g: public(2),
            j: Some(public(3)),
            x: secret(4),
            extra: Extra::NONE,
        }),
        TransparentKey::DhPublic(TransparentDhPublicKey {
            p: public(1),
            q: Some(public(5)),
            g: public(2),
            j: None,
            y: public(4),
            extra: Extra::NONE,
        }),
        TransparentKey::EcPrivate(TransparentEcPrivateKey {
            recommended_curve: curve,
            d: secret(1),
            extra: Extra::NONE,
        }),
        TransparentKey::EcPublic(TransparentEcPublicKey {
            recommended_curve: curve,
            q_string: vec![4; 65],
            extra,
        }),
    ];
    for key in keys {
        let block = KeyBlock::of_transparent(&key, None).unwrap();
        assert_eq!(block.transparent().unwrap().as_ref(), Some(&key));
        let object = Object::PrivateKey(Key {
            key_block: Box::new(block),
            extra: Extra::NONE,
        });
        let request = RegisterRequest::of(object, Attributes::new());
        for version in [Version::V1_3, Version::V2_1] {
            let item = RequestItem::new(&request, context(version)).unwrap();
            let read = item.payload::<RegisterRequest>(context(version)).unwrap();
            assert_eq!(
                read.object
                    .unwrap()
                    .key_block()
                    .unwrap()
                    .transparent()
                    .unwrap()
                    .as_ref(),
                Some(&key)
            );
        }
    }
    // Elliptic curve keys had a format for each use.
    let key = TransparentKey::EcPrivate(TransparentEcPrivateKey {
        recommended_curve: curve,
        d: secret(1),
        extra: Extra::NONE,
    });
    let mut block = KeyBlock::of_transparent(&key, None).unwrap();
    for format in [
        KeyFormatType::TRANSPARENT_ECDSA_PRIVATE_KEY,
        KeyFormatType::TRANSPARENT_ECMQV_PRIVATE_KEY,
    ] {
        block.key_format_type = format;
        assert_eq!(block.transparent().unwrap().as_ref(), Some(&key));
    }
    block.key_format_type = KeyFormatType::TRANSPARENT_RSA_PUBLIC_KEY;
    block.transparent().unwrap_err();
    block.key_format_type = KeyFormatType::RAW;
    assert_eq!(block.transparent().unwrap(), None);
    assert!(!format!("{key:?}{block:?}").contains("1, 1, 1"));
}
