//! Keys that the server makes, replaces, wraps and gives in other formats.

use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_ttlv::{Extra, Version};

fn pair_request(algorithm: CryptographicAlgorithm, bits: i32, name: &str) -> CreateKeyPairRequest {
    let common = none()
        .with(V::CryptographicAlgorithm(algorithm))
        .with(V::CryptographicLength(bits));
    let one =
        |what: &str, mask| named(&format!("{name} {what}")).with(V::CryptographicUsageMask(mask));
    CreateKeyPairRequest {
        common_attributes: Some(common.into()),
        private_key_attributes: Some(one("private", CryptographicUsageMask::SIGN).into()),
        public_key_attributes: Some(one("public", CryptographicUsageMask::VERIFY).into()),
        ..CreateKeyPairRequest::default()
    }
}

fn pair(
    client: &Client,
    algorithm: CryptographicAlgorithm,
    bits: i32,
    name: &str,
) -> (String, String) {
    let response: CreateKeyPairResponse =
        client.call(&pair_request(algorithm, bits, name)).unwrap();
    (
        text(&response.private_key_unique_identifier),
        text(&response.public_key_unique_identifier),
    )
}

fn links(client: &Client, id: &str, link_type: LinkType) -> Vec<String> {
    let is = |value: &V| match value {
        V::Link(link) if link.link_type == link_type => link.target.as_text().map(str::to_owned),
        _ => None,
    };
    client
        .attributes(id)
        .iter()
        .filter_map(|a| is(&a.value))
        .collect()
}

fn names(client: &Client, id: &str) -> Vec<String> {
    client
        .attributes(id)
        .names()
        .map(|name| name.value.to_string())
        .collect()
}

fn in_format(client: &Client, id: &str, format: KeyFormatType) -> ItemResult<Object> {
    let request = GetRequest {
        key_format_type: Some(format),
        ..GetRequest::of(id)
    };
    client
        .call::<_, GetResponse>(&request)
        .map(|response| response.object)
}

fn bytes(object: &Object) -> Vec<u8> {
    match &object.key_block().unwrap().key_value {
        Some(KeyValue::Plain(PlainKeyValue {
            key_material: KeyMaterial::Bytes(bytes),
            ..
        })) => bytes.expose().to_vec(),
        Some(KeyValue::Wrapped(bytes)) => bytes.expose().to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_pair_is_two_objects_that_know_each_other() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let (private, public) = pair(
            &client,
            CryptographicAlgorithm::ECDSA,
            256,
            &format!("{version}"),
        );
        assert_eq!(
            links(&client, &private, LinkType::PUBLIC_KEY_LINK),
            [public.clone()]
        );
        assert_eq!(
            links(&client, &public, LinkType::PRIVATE_KEY_LINK),
            [private.clone()]
        );
        assert_eq!(names(&client, &private), [format!("{version} private")]);
        let attributes = client.attributes(&public);
        let mask = attributes.get(tag::CRYPTOGRAPHIC_USAGE_MASK);
        assert_eq!(
            mask,
            Some(&V::CryptographicUsageMask(CryptographicUsageMask::VERIFY))
        );
        let rng = client
            .attributes(&private)
            .get(tag::RANDOM_NUMBER_GENERATOR)
            .is_some();
        assert_eq!(rng, version >= Version::V1_3, "since when there is one");
    }
    assert_eq!(host.count(), 14);
}

#[test]
fn a_key_pair_that_can_not_be_made_leaves_nothing() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    for (algorithm, bits, expected) in [
        (
            CryptographicAlgorithm::RSA,
            1024,
            ResultReason::INVALID_FIELD,
        ),
        (CryptographicAlgorithm::EC, 521, ResultReason::INVALID_FIELD),
        (
            CryptographicAlgorithm::AES,
            256,
            ResultReason::INVALID_FIELD,
        ),
    ] {
        assert_eq!(
            reason(client.call::<_, CreateKeyPairResponse>(&pair_request(algorithm, bits, "n"))),
            expected
        );
    }
    let mut same = pair_request(CryptographicAlgorithm::EC, 256, "n");
    same.private_key_attributes = Some(named("same").into());
    same.public_key_attributes = Some(named("same").into());
    assert_eq!(
        reason(client.call::<_, CreateKeyPairResponse>(&same)),
        ResultReason::NON_UNIQUE_NAME_ATTRIBUTE
    );
    let empty = CreateKeyPairRequest::default();
    assert_eq!(
        reason(client.call::<_, CreateKeyPairResponse>(&empty)),
        ResultReason::MISSING_DATA
    );
    assert_eq!(host.count(), 0);
}

#[test]
fn keys_go_through_every_format_and_come_back() {
    use KeyFormatType as F;
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let (ec, ec_public) = pair(&client, CryptographicAlgorithm::EC, 384, "ec");
    let (rsa, rsa_public) = pair(&client, CryptographicAlgorithm::RSA, 2048, "rsa");
    let aes = client.create(none());
    let ways: [(&str, &[F]); 5] = [
        (&ec, &[F::PKCS_8, F::EC_PRIVATE_KEY]),
        (&ec_public, &[F::TRANSPARENT_EC_PUBLIC_KEY, F::X509]),
        (
            &rsa,
            &[F::PKCS_8, F::TRANSPARENT_RSA_PRIVATE_KEY, F::PKCS_1],
        ),
        (
            &rsa_public,
            &[F::X509, F::TRANSPARENT_RSA_PUBLIC_KEY, F::PKCS_1],
        ),
        (&aes, &[F::TRANSPARENT_SYMMETRIC_KEY, F::RAW]),
    ];
    for (id, formats) in ways {
        let first = client.get(id).unwrap().object;
        let mut id = id.to_owned();
        for format in formats {
            let object = in_format(&client, &id, *format).unwrap();
            assert_eq!(object.key_block().unwrap().key_format_type, *format);
            id = client.register(object, none());
        }
        assert_eq!(
            bytes(&client.get(&id).unwrap().object),
            bytes(&first),
            "{formats:?}"
        );
    }
    assert_eq!(
        reason(in_format(&client, &aes, F::PKCS_1)),
        ResultReason::KEY_FORMAT_TYPE_NOT_SUPPORTED
    );
    assert_eq!(
        reason(in_format(&client, &rsa, F::X509)),
        ResultReason::KEY_FORMAT_TYPE_NOT_SUPPORTED
    );
    let transparent = in_format(&client, &ec, F::TRANSPARENT_EC_PRIVATE_KEY).unwrap();
    let id = client.register(transparent, none());
    // The point is not in a transparent key.
    assert!(in_format(&client, &id, F::EC_PRIVATE_KEY).is_ok());
}

#[test]
fn a_replacement_takes_names_dates_and_what_it_was_for() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let now = host.now().wall.0;
        let at = |seconds: i64| DateTime(now + seconds);
        let more = named(&format!("{version}"))
            .with(V::ActivationDate(at(-100)))
            .with(V::DeactivationDate(at(900)))
            .with(V::ObjectGroup("g".into()));
        let old = client.create(more);
        let request = ReKeyRequest {
            offset: Some(Interval(50)),
            ..ReKeyRequest::default()
        };
        let request = ReKeyRequest {
            unique_identifier: Some(old.as_str().into()),
            ..request
        };
        let response: ReKeyResponse = client.call(&request).unwrap();
        let new = text(&response.unique_identifier);
        assert_eq!(
            (names(&client, &old).len(), names(&client, &new)),
            (0, vec![format!("{version}")])
        );
        assert_eq!(
            links(&client, &old, LinkType::REPLACEMENT_OBJECT_LINK),
            [new.clone()]
        );
        assert_eq!(
            links(&client, &new, LinkType::REPLACED_OBJECT_LINK),
            [old.clone()]
        );
        let attributes = client.attributes(&new);
        assert_eq!(attributes.date(tag::ACTIVATION_DATE), Some(at(50)));
        assert_eq!(
            attributes.date(tag::DEACTIVATION_DATE),
            Some(at(1050)),
            "as much later as the activation"
        );
        assert_eq!(
            attributes.get(tag::OBJECT_GROUP),
            Some(&V::ObjectGroup("g".into()))
        );
        assert_eq!(
            (client.state(&new), client.state(&old)),
            (State::PRE_ACTIVE, State::ACTIVE)
        );
        assert_ne!(
            bytes(&client.get(&new).unwrap().object),
            bytes(&client.get(&old).unwrap().object)
        );
        // Names move with every replacement, and another object can't have them meanwhile.
        let again = ReKeyRequest {
            unique_identifier: Some(new.as_str().into()),
            ..ReKeyRequest::default()
        };
        assert!(client.call::<_, ReKeyResponse>(&again).is_ok());
        client.destroy(&new).unwrap();
        assert!(
            client.call::<_, ReKeyResponse>(&again).is_err(),
            "it was destroyed"
        );
    }
}

#[test]
fn both_keys_of_a_pair_are_replaced() {
    let host = Host::new();
    let client = host.client(Version::V1_2);
    let (private, public) = pair(&client, CryptographicAlgorithm::ECDSA, 256, "p");
    let request = ReKeyKeyPairRequest {
        private_key_unique_identifier: Some(private.as_str().into()),
        private_key_attributes: Some(named("p private").into()),
        ..ReKeyKeyPairRequest::default()
    };
    let response: ReKeyKeyPairResponse = client.call(&request).unwrap();
    let (new, new_public) = (
        text(&response.private_key_unique_identifier),
        text(&response.public_key_unique_identifier),
    );
    assert_eq!(
        links(&client, &private, LinkType::REPLACEMENT_OBJECT_LINK),
        [new.clone()]
    );
    assert_eq!(
        links(&client, &public, LinkType::REPLACEMENT_OBJECT_LINK),
        [new_public.clone()]
    );
    assert_eq!(
        links(&client, &new, LinkType::PUBLIC_KEY_LINK),
        [new_public.clone()]
    );
    assert_eq!(
        (names(&client, &new), names(&client, &new_public)),
        (vec!["p private".into()], vec!["p public".into()])
    );
    let both = ReKeyKeyPairRequest {
        private_key_unique_identifier: Some(new.as_str().into()),
        common_attributes: Some(named("one for both").into()),
        ..ReKeyKeyPairRequest::default()
    };
    assert_eq!(
        reason(client.call::<_, ReKeyKeyPairResponse>(&both)),
        ResultReason::INVALID_FIELD
    );
    let symmetric = ReKeyRequest {
        unique_identifier: Some(new.as_str().into()),
        ..ReKeyRequest::default()
    };
    assert_eq!(
        reason(client.call::<_, ReKeyResponse>(&symmetric)),
        ResultReason::INVALID_FIELD,
        "that is for symmetric keys"
    );
}

fn wrapping(
    kek: &str,
    mode: BlockCipherMode,
    encoding_option: Option<EncodingOption>,
) -> KeyWrappingSpecification {
    KeyWrappingSpecification {
        wrapping_method: WrappingMethod::ENCRYPT,
        encryption_key_information: Some(WrappingKeyInformation {
            unique_identifier: kek.into(),
            cryptographic_parameters: Some(
                CryptographicParameters {
                    block_cipher_mode: Some(mode),
                    ..CryptographicParameters::default()
                }
                .into(),
            ),
            extra: Extra::NONE,
        }),
        mac_signature_key_information: None,
        attribute_names: Vec::new(),
        encoding_option,
        extra: Extra::NONE,
    }
}

fn wrapped(
    client: &Client,
    id: &str,
    specification: KeyWrappingSpecification,
) -> ItemResult<Object> {
    let request = GetRequest {
        key_wrapping_specification: Some(specification),
        ..GetRequest::of(id)
    };
    client
        .call::<_, GetResponse>(&request)
        .map(|response| response.object)
}

/// The example of RFC 3394 §4.1.
#[test]
fn keys_leave_wrapped_as_the_rfc_has_it() {
    let host = Host::new();
    let client = host.client(Version::V1_4);
    let kek: Vec<u8> = (0..16).collect();
    let usage = |mask| none().with(V::CryptographicUsageMask(mask));
    let active = |mask| usage(mask).with(V::ActivationDate(DateTime(1)));
    let both = CryptographicUsageMask::WRAP_KEY | CryptographicUsageMask::UNWRAP_KEY;
    let wraps_only = client.register(key(&kek), active(CryptographicUsageMask::WRAP_KEY));
    let secret_kek = client.register(key(&kek), active(both).with(V::Sensitive(true)));
    let kek = client.register(key(&kek), active(both));
    let data: Vec<u8> = (0..16).map(|n| n * 0x11).collect();
    let id = client.register(key(&data), none().with(V::Sensitive(true)));
    assert_eq!(reason(client.get(&id)), ResultReason::SENSITIVE);
    let raw = Some(EncodingOption::NO_ENCODING);
    let object = wrapped(
        &client,
        &id,
        wrapping(&kek, BlockCipherMode::NIST_KEY_WRAP, raw),
    )
    .unwrap();
    let expected = "1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5";
    assert_eq!(
        bytes(&object)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>(),
        expected
    );
    let data_of = object
        .key_block()
        .unwrap()
        .key_wrapping_data
        .as_ref()
        .unwrap();
    assert_eq!(data_of.encoding_option, raw);

    // It comes back whole by every mode and encoding, unwrapped on the way in or out.
    for mode in [
        BlockCipherMode::NIST_KEY_WRAP,
        BlockCipherMode::AES_KEY_WRAP_PADDING,
    ] {
        for encoding in [None, Some(EncodingOption::TTLV_ENCODING), raw] {
            let object = wrapped(&client, &id, wrapping(&kek, mode, encoding)).unwrap();
            let again = client.register(object.clone(), none());
            let clear = GetRequest {
                key_wrap_type: Some(KeyWrapType::NOT_WRAPPED),
                ..GetRequest::of(again.as_str())
            };
            assert_eq!(
                bytes(&client.call::<_, GetResponse>(&clear).unwrap().object),
                data
            );
            let mut import =
                client.import_request(&format!("{mode:?} {encoding:?}"), Some(object), none());
            import.key_wrap_type = Some(KeyWrapType::NOT_WRAPPED);
            client.import_by(&import).unwrap();
            assert_eq!(
                bytes(
                    &client
                        .get(&format!("{mode:?} {encoding:?}"))
                        .unwrap()
                        .object
                ),
                data
            );
        }
    }
    // A key that may only wrap does not unwrap, and what a Sensitive key protects does not come out in the clear.
    for (kek, expected) in [
        (&wraps_only, ResultReason::PERMISSION_DENIED),
        (&secret_kek, ResultReason::SENSITIVE),
    ] {
        let object = wrapped(
            &client,
            &id,
            wrapping(kek, BlockCipherMode::NIST_KEY_WRAP, raw),
        )
        .unwrap();
        let again = client.register(object, none());
        let clear = GetRequest {
            key_wrap_type: Some(KeyWrapType::NOT_WRAPPED),
            ..GetRequest::of(again.as_str())
        };
        assert_eq!(reason(client.call::<_, GetResponse>(&clear)), expected);
    }
    // Attributes are bound to the key where they are wrapped with it.
    let mut bound = wrapping(&kek, BlockCipherMode::NIST_KEY_WRAP, None);
    bound.attribute_names = vec!["Cryptographic Length".into()];
    let object = wrapped(&client, &id, bound.clone()).unwrap();
    let again = client.register(object, none());
    let clear = GetRequest {
        key_wrap_type: Some(KeyWrapType::NOT_WRAPPED),
        ..GetRequest::of(again.as_str())
    };
    let object = client.call::<_, GetResponse>(&clear).unwrap().object;
    let Some(KeyValue::Plain(plain)) = &object.key_block().unwrap().key_value else {
        panic!("wrapped")
    };
    assert_eq!(
        plain.attributes.get(tag::CRYPTOGRAPHIC_LENGTH),
        Some(&V::CryptographicLength(128))
    );
    bound.encoding_option = raw;
    assert_eq!(
        reason(wrapped(&client, &id, bound)),
        ResultReason::ENCODING_OPTION_ERROR
    );

    // What may not wrap does not.
    let by = |id: &str| wrapping(id, BlockCipherMode::NIST_KEY_WRAP, raw);
    let other = client.register(
        key(&[1; 16]),
        usage(CryptographicUsageMask::ENCRYPT).with(V::ActivationDate(DateTime(1))),
    );
    assert_eq!(
        reason(wrapped(&client, &id, by(&other))),
        ResultReason::PERMISSION_DENIED
    );
    let idle = client.register(key(&[2; 16]), usage(CryptographicUsageMask::WRAP_KEY));
    assert_eq!(
        reason(wrapped(&client, &id, by(&idle))),
        ResultReason::PERMISSION_DENIED,
        "it is not Active"
    );
    assert_eq!(
        reason(wrapped(&client, &id, by("nothing"))),
        ResultReason::ITEM_NOT_FOUND
    );
    assert_eq!(
        reason(wrapped(
            &client,
            &id,
            wrapping(&kek, BlockCipherMode::CBC, raw)
        )),
        ResultReason::FEATURE_NOT_SUPPORTED
    );
    let locked = client.register(key(&[3; 16]), none().with(V::Extractable(false)));
    assert_eq!(
        reason(wrapped(&client, &locked, by(&kek))),
        ResultReason::NOT_EXTRACTABLE,
        "not even wrapped"
    );
}

#[test]
fn objects_are_made_from_templates_until_1_4() {
    let host = Host::new();
    for version in ALL.into_iter().filter(|version| *version < Version::V2_0) {
        let client = host.client(version);
        let inside = none()
            .with(V::CryptographicAlgorithm(CryptographicAlgorithm::AES))
            .with(V::CryptographicLength(192))
            .with(V::ObjectGroup("from template".into()));
        let template = Object::Template(Template {
            attributes: inside.clone(),
            extra: Extra::NONE,
        });
        let rules = format!("rules {version}");
        let id = client.register(template.clone(), named(&rules));
        assert_eq!(client.get(&id).unwrap().object, template);
        let asked = |names: Vec<Name>, attributes| CreateRequest {
            object_type: ObjectType::SYMMETRIC_KEY,
            attributes: TemplateAttribute { names, attributes },
            protection_storage_masks: None,
            extra: Extra::NONE,
        };
        let made: CreateResponse = client
            .call(&asked(vec![Name::text(rules.as_str())], none()))
            .unwrap();
        let attributes = client.attributes(&text(&made.unique_identifier));
        assert_eq!(
            attributes.get(tag::CRYPTOGRAPHIC_LENGTH),
            Some(&V::CryptographicLength(192))
        );
        assert_eq!(
            attributes.get(tag::OBJECT_GROUP),
            Some(&V::ObjectGroup("from template".into()))
        );
        // What is said counts more than what is named.
        let length = none().with(V::CryptographicLength(256));
        let made: CreateResponse = client
            .call(&asked(vec![Name::text(rules.as_str())], length))
            .unwrap();
        let attributes = client.attributes(&text(&made.unique_identifier));
        assert_eq!(
            attributes.get(tag::CRYPTOGRAPHIC_LENGTH),
            Some(&V::CryptographicLength(256))
        );
        let missing = asked(vec![Name::text("no such rules")], none());
        assert_eq!(
            reason(client.call::<_, CreateResponse>(&missing)),
            ResultReason::ITEM_NOT_FOUND
        );
        client.destroy(&id).unwrap();
        let gone = asked(vec![Name::text(rules.as_str())], none());
        assert_eq!(
            reason(client.call::<_, CreateResponse>(&gone)),
            ResultReason::ITEM_NOT_FOUND
        );
    }
}
