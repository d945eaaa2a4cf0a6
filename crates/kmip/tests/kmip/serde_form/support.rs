//! Values of every kind, for the tests of serde's formats.

use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_ttlv::{DateTimeExtended, Extra, Raw, Tag, Version, Writer};

/// What must not be seen. Eight bytes, so that it may be a Big Integer.
pub const HUSH: &[u8; 8] = b"hush-key";

pub fn hush() -> Secret {
    Secret::new(HUSH)
}

/// An item that is not known, with a secret in it.
pub fn unknown(tag: Tag) -> Raw {
    let write = |w: &mut Writer| w.structure(tag, |w| w.bytes(Tag::new(0x540002), HUSH));
    let mut w = Writer::new(context(Version::V2_1));
    write(&mut w).unwrap();
    let frame = w.finish();
    let r = keyferry_ttlv::Reader::new(&frame, context(Version::V2_1));
    r.child(keyferry_ttlv::Item::parse(&frame).unwrap())
        .unwrap()
}

pub fn with_unknown() -> Extra {
    let mut extra = Extra::NONE;
    extra.push(unknown(Tag::new(0x540001)));
    extra
}

fn block(material: KeyMaterial) -> Box<KeyBlock> {
    let mut block = KeyBlock::plain(
        KeyFormatType::RAW,
        Some((CryptographicAlgorithm::AES, 64)),
        hush(),
    );
    if let Some(KeyValue::Plain(plain)) = &mut block.key_value {
        plain.key_material = material;
    }
    block.into()
}

pub fn objects() -> Vec<Object> {
    let transparent = TransparentSymmetricKey {
        key: hush(),
        extra: Extra::NONE,
    };
    let ec = TransparentEcPrivateKey {
        recommended_curve: RecommendedCurve::P_256,
        d: SecretInteger(hush()),
        extra: Extra::NONE,
    };
    let of = |key| Box::new(KeyBlock::of_transparent(&key, None).unwrap());
    let mut wrapped = *block(KeyMaterial::Bytes(hush()));
    wrapped.key_value = Some(KeyValue::Wrapped(hush()));
    let key = |key_block| Key {
        key_block,
        extra: Extra::NONE,
    };
    vec![
        Object::SymmetricKey(key(block(KeyMaterial::Bytes(hush())))),
        Object::SymmetricKey(key(of(TransparentKey::Symmetric(transparent)))),
        Object::PrivateKey(key(of(TransparentKey::EcPrivate(ec)))),
        Object::PrivateKey(key(block(KeyMaterial::Structure(unknown(
            tag::KEY_MATERIAL,
        ))))),
        Object::PublicKey(key(Box::new(wrapped))),
        Object::SecretData(SecretData {
            secret_data_type: SecretDataType::PASSWORD,
            key_block: block(KeyMaterial::Bytes(hush())),
            extra: Extra::NONE,
        }),
        Object::SplitKey(SplitKey {
            split_key_parts: 2,
            key_part_identifier: 1,
            split_key_threshold: 2,
            split_key_method: SplitKeyMethod::XOR,
            prime_field_size: None,
            key_block: block(KeyMaterial::Bytes(hush())),
            extra: Extra::NONE,
        }),
        Object::PgpKey(PgpKey {
            pgp_key_version: 4,
            key_block: block(KeyMaterial::Bytes(hush())),
            extra: with_unknown(),
        }),
        Object::OpaqueObject(OpaqueObject {
            opaque_data_type: keyferry_ttlv::Enumeration(0x8000_0001),
            value: hush(),
            extra: with_unknown(),
        }),
    ]
}

pub fn credentials() -> Vec<CredentialValue> {
    let word = || Password::from(std::str::from_utf8(HUSH).unwrap());
    let ticket = LoginTicket {
        ticket_type: TicketType::LOGIN,
        value: hush(),
        extra: Extra::NONE,
    };
    vec![
        CredentialValue::UsernameAndPassword(UsernameAndPassword {
            username: "Fred".into(),
            password: Some(word()),
            extra: Extra::NONE,
        }),
        CredentialValue::Device(Box::new(Device {
            password: Some(word()),
            ..Device::default()
        })),
        CredentialValue::OneTimePassword(OneTimePassword {
            username: "Fred".into(),
            password: None,
            one_time_password: word(),
            extra: Extra::NONE,
        }),
        CredentialValue::HashedPassword(HashedPassword {
            username: "Fred".into(),
            timestamp: DateTimeExtended(1_700_000_000_000_001),
            hashing_algorithm: Some(HashingAlgorithm::SHA_256),
            hashed_password: hush(),
            extra: Extra::NONE,
        }),
        CredentialValue::Ticket(TicketCredential {
            ticket,
            extra: Extra::NONE,
        }),
        CredentialValue::Other(CredentialType(0x8000_0001), unknown(tag::CREDENTIAL_VALUE)),
    ]
}

/// Requests, each with a secret somewhere.
pub fn requests() -> Vec<RequestMessage<RequestPayload>> {
    let attributes = || Attributes::new().with(V::Name(Name::text("n")));
    let mut payloads: Vec<RequestPayload> = objects()
        .into_iter()
        .map(|object| RegisterRequest::of(object, attributes()).into())
        .collect();
    payloads.extend([
        EncryptRequest {
            data: Some(Data::Bytes(hush())),
            ..EncryptRequest::default()
        }
        .into(),
        PingRequest {
            extra: with_unknown(),
        }
        .into(),
        LogoutRequest {
            ticket: Some(LoginTicket {
                ticket_type: TicketType::LOGIN,
                value: hush(),
                extra: Extra::NONE,
            }),
            extra: Extra::NONE,
        }
        .into(),
        RequestPayload::Other(Operation(0x8000_0001), unknown(tag::REQUEST_PAYLOAD)),
        LocateRequest::of(Attributes::new().with(V::Custom(CustomAttribute {
            vendor: "x".into(),
            name: "Nested".into(),
            value: Some(keyferry_ttlv::Value::Structure(unknown(
                tag::ATTRIBUTE_VALUE,
            ))),
        })))
        .into(),
        DeriveKeyRequest {
            object_type: ObjectType::SECRET_DATA,
            unique_identifiers: vec!["1".into()],
            derivation_method: DerivationMethod::PBKDF2,
            derivation_parameters: DerivationParameters {
                derivation_data: vec![hush()],
                ..DerivationParameters::default()
            },
            attributes: attributes().into(),
            extra: Extra::NONE,
        }
        .into(),
        Pkcs11Request {
            interface: None,
            function: keyferry_ttlv::Enumeration(1),
            correlation_value: None,
            input_parameters: Some(hush()),
            extra: Extra::NONE,
        }
        .into(),
    ]);
    let mut messages: Vec<_> = payloads
        .into_iter()
        .map(|payload| RequestMessage::of(Version::V2_1, [payload]))
        .collect();
    messages.extend(credentials().into_iter().map(|value| {
        let mut message = RequestMessage::of(Version::V2_1, [PingRequest::default().into()]);
        message.header.authentication = Some(Authentication {
            credentials: vec![value.into()],
            extra: Extra::NONE,
        });
        message
    }));
    let mut extended = RequestMessage::of(Version::V2_1, [PingRequest::default().into()]);
    extended.batch[0].message_extensions.push(MessageExtension {
        vendor_identification: "acme".into(),
        criticality_indicator: false,
        vendor_extension: unknown(tag::VENDOR_EXTENSION),
        extra: Extra::NONE,
    });
    messages.push(extended);
    messages
}

/// Whether the secret stands there in any way that a text may have it.
pub fn tells(text: &str) -> bool {
    let hex: String = HUSH.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = |separator: &str| HUSH.map(|byte| byte.to_string()).join(separator);
    let text = text.to_lowercase();
    [hex, list(","), list(", "), "hush".to_owned()]
        .iter()
        .any(|form| text.contains(form))
}
