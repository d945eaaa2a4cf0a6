//! Create and Register.

use crate::objects;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_ttlv::{Extra, Version};

#[test]
fn create_makes_a_key_of_the_wanted_length_in_every_version() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let id = client.create(named(&format!("key {version}")));
        let got = client.get(&id).unwrap();
        assert_eq!(
            (got.object_type, got.unique_identifier),
            (ObjectType::SYMMETRIC_KEY, id.as_str().into())
        );
        let block = got.object.key_block().unwrap();
        assert_eq!(block.key_format_type, KeyFormatType::RAW);
        assert_eq!(
            (block.cryptographic_algorithm, block.cryptographic_length),
            (Some(CryptographicAlgorithm::AES), Some(256))
        );
        assert_eq!(got.object.digestible().unwrap().len(), 32);
        assert!(got.object.digestible().unwrap().iter().any(|b| *b != 0));
    }
}

#[test]
fn create_sets_what_the_server_has_to_set() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let id = client.create(none());
        let attributes = client.attributes(&id);
        let now = host.now().wall;
        assert_eq!(
            attributes.get(tag::UNIQUE_IDENTIFIER),
            Some(&V::UniqueIdentifier(id.as_str().into())),
            "{version}"
        );
        assert_eq!(
            attributes.get(tag::OBJECT_TYPE),
            Some(&V::ObjectType(ObjectType::SYMMETRIC_KEY))
        );
        assert_eq!(attributes.state(), Some(State::PRE_ACTIVE));
        assert_eq!(attributes.date(tag::INITIAL_DATE), Some(now));
        assert_eq!(attributes.date(tag::LAST_CHANGE_DATE), Some(now));
        assert_eq!(
            attributes.date(tag::ORIGINAL_CREATION_DATE),
            (version >= Version::V1_2).then_some(now)
        );
        assert_eq!(attributes.date(tag::ACTIVATION_DATE), None);
        assert_eq!(
            attributes.get(tag::FRESH).is_some(),
            version >= Version::V1_1
        );
        for since_1_4 in [
            V::Sensitive(false),
            V::AlwaysSensitive(false),
            V::Extractable(true),
            V::NeverExtractable(false),
        ] {
            assert_eq!(
                attributes.get(since_1_4.tag()),
                (version >= Version::V1_4).then_some(&since_1_4),
                "{version}"
            );
        }
        let Some(V::Digest(digest)) = attributes.get(tag::DIGEST) else {
            panic!("no Digest in {version}")
        };
        assert_eq!(
            (
                digest.hashing_algorithm,
                digest.value.as_ref().unwrap().len()
            ),
            (HashingAlgorithm::SHA_256, 32)
        );
        assert_eq!(
            digest.key_format_type,
            (version >= Version::V1_1).then_some(KeyFormatType::RAW),
            "{version}"
        );
    }
}

#[test]
fn create_wants_algorithm_and_length() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        for tag in [tag::CRYPTOGRAPHIC_ALGORITHM, tag::CRYPTOGRAPHIC_LENGTH] {
            let mut attributes = aes(none());
            attributes.remove(tag);
            assert!(matches!(
                reason(client.create_with(attributes)),
                ResultReason::MISSING_DATA | ResultReason::INVALID_FIELD
            ));
        }
    }
    assert_eq!(host.count(), 0);
}

#[test]
fn create_refuses_algorithms_and_lengths_that_do_not_fit() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    for (algorithm, bits) in [
        (CryptographicAlgorithm::AES, 100),
        (CryptographicAlgorithm::AES, -128),
        (CryptographicAlgorithm::AES, 0),
        (CryptographicAlgorithm::AES, i32::MIN),
        (CryptographicAlgorithm::RSA, 2048),
        (CryptographicAlgorithm::CHACHA20, i32::MAX),
        (CryptographicAlgorithm::TRIPLE_DES, 64),
    ] {
        let attributes = none()
            .with(V::CryptographicAlgorithm(algorithm))
            .with(V::CryptographicLength(bits))
            .with(V::CryptographicUsageMask(CryptographicUsageMask::ENCRYPT));
        assert_eq!(
            reason(client.create_with(attributes)),
            ResultReason::INVALID_FIELD,
            "{algorithm} {bits}"
        );
    }
}

#[test]
fn create_is_for_symmetric_keys() {
    let host = Host::new();
    let request = CreateRequest {
        object_type: ObjectType::PRIVATE_KEY,
        ..create_request(aes(none()))
    };
    assert_eq!(
        reason(
            host.client(Version::V1_2)
                .call::<_, CreateResponse>(&request)
        ),
        ResultReason::INVALID_FIELD
    );
}

#[test]
fn a_past_activation_date_makes_the_object_active_at_once() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let past = client.create(none().with(V::ActivationDate(DateTime(START - 1))));
    let future = client.create(none().with(V::ActivationDate(DateTime(START + 10))));
    assert_eq!(
        (client.state(&past), client.state(&future)),
        (State::ACTIVE, State::PRE_ACTIVE)
    );
    host.pass(10);
    assert_eq!(client.state(&future), State::ACTIVE);
}

#[test]
fn clients_can_not_set_what_is_the_servers() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let taken = [
            V::State(State::ACTIVE),
            V::InitialDate(DateTime(5)),
            V::LastChangeDate(DateTime(5)),
            V::UniqueIdentifier("mine".into()),
            V::DestroyDate(DateTime(5)),
            V::CompromiseDate(DateTime(5)),
        ];
        for value in taken {
            let expected = by(
                version,
                ResultReason::PERMISSION_DENIED,
                ResultReason::ATTRIBUTE_READ_ONLY,
            );
            assert_eq!(
                reason(client.create_with(aes(none().with(value.clone())))),
                expected,
                "{value:?} in {version}"
            );
        }
        for value in [
            V::Custom(CustomAttribute {
                vendor: "y".into(),
                ..CustomAttribute::text("n", "v")
            }),
            custom("s2s-master", "me"),
        ] {
            let expected = by(
                version,
                ResultReason::PERMISSION_DENIED,
                ResultReason::ATTRIBUTE_READ_ONLY,
            );
            assert_eq!(
                reason(client.create_with(aes(none().with(value.clone())))),
                expected,
                "{value:?} in {version}"
            );
        }
    }
    assert_eq!(host.count(), 0);
}

#[test]
fn a_single_valued_attribute_given_twice_is_refused() {
    let host = Host::new();
    let twice = aes(none()
        .with(V::ContactInformation("me".into()))
        .with(V::ContactInformation("you".into())));
    assert!(host.client(Version::V2_1).create_with(twice).is_err());
}

#[test]
fn names_are_unique_among_new_objects() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let unique = format!("in {version}");
        let first = client.create(named(&unique));
        let expected = by(
            version,
            ResultReason::INVALID_FIELD,
            ResultReason::NON_UNIQUE_NAME_ATTRIBUTE,
        );
        assert_eq!(reason(client.create_with(aes(named(&unique)))), expected);
        assert_eq!(
            reason(client.register_with(
                ObjectType::SYMMETRIC_KEY,
                Some(key(&[1; 16])),
                named(&unique)
            )),
            expected
        );
        assert_eq!(client.locate(named(&unique)), [first]);
    }
}

#[test]
fn usage_limits_start_with_their_count_at_the_total() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let limits = UsageLimits {
        total: 1000,
        count: Some(3),
        unit: UsageLimitsUnit::OBJECT,
        extra: Extra::NONE,
    };
    let id = client.create(none().with(V::UsageLimits(limits.clone())));
    assert_eq!(
        client.attributes(&id).get(tag::USAGE_LIMITS),
        Some(&V::UsageLimits(UsageLimits {
            count: Some(1000),
            ..limits
        }))
    );
}

#[test]
fn every_kind_of_object_comes_back_as_it_was_registered() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        for (what, object) in objects::all(version) {
            let id = client.register(object.clone(), named(&format!("{what} {version}")));
            let got = client.get(&id).unwrap();
            assert_eq!(got.object_type, object.object_type(), "{what} {version}");
            assert_eq!(got.object, object, "{what} {version}");
            let attributes = client.attributes(&id);
            assert_eq!(
                attributes.get(tag::OBJECT_TYPE),
                Some(&V::ObjectType(object.object_type()))
            );
            assert_eq!(
                attributes.get(tag::DIGEST).is_some(),
                object.digestible().is_some(),
                "{what}"
            );
            if let Some(block) = object.key_block() {
                assert_eq!(
                    attributes.get(tag::CRYPTOGRAPHIC_LENGTH),
                    block
                        .cryptographic_length
                        .map(V::CryptographicLength)
                        .as_ref()
                );
            }
        }
    }
}

#[test]
fn an_object_registered_in_one_version_is_served_in_all_that_have_it() {
    let host = Host::new();
    for made in ALL {
        for (what, object) in objects::all(made) {
            let id = host.client(made).register(object.clone(), none());
            for asked in ALL.into_iter().filter(|v| objects::exists(what, *v)) {
                assert_eq!(
                    host.client(asked).get(&id).unwrap().object,
                    object,
                    "{what} of {made} asked in {asked}"
                );
                host.client(asked).attributes(&id);
            }
        }
    }
}

#[test]
fn register_wants_the_object_and_the_right_type() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    assert!(matches!(
        reason(client.register_with(ObjectType::SYMMETRIC_KEY, None, none())),
        ResultReason::MISSING_DATA | ResultReason::INVALID_MESSAGE
    ));
    assert_eq!(
        reason(client.register_with(ObjectType::PRIVATE_KEY, Some(key(&[1; 16])), none())),
        ResultReason::INVALID_FIELD
    );
}

#[test]
fn attributes_that_contradict_the_key_block_are_refused() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let wrong = [
        V::CryptographicLength(256),
        V::CryptographicAlgorithm(CryptographicAlgorithm::CAMELLIA),
    ];
    for value in wrong {
        assert_eq!(
            reason(client.register_with(
                ObjectType::SYMMETRIC_KEY,
                Some(key(&[1; 16])),
                none().with(value)
            )),
            ResultReason::INVALID_FIELD
        );
    }
}

#[test]
fn a_key_without_a_value_may_be_registered_and_comes_back_without_one() {
    let host = Host::new();
    let client = host.client(Version::V1_2);
    let mut object = key(&[1; 16]);
    if let Object::SymmetricKey(key) = &mut object {
        key.key_block.key_value = None;
    }
    let location = KeyValueLocation {
        value: "hsm:1".into(),
        key_value_location_type: KeyValueLocationType::UNINTERPRETED_TEXT_STRING,
        extra: Extra::NONE,
    };
    let id = client.register(object.clone(), none().with(V::KeyValueLocation(location)));
    assert_eq!(
        client.attributes(&id).get(tag::KEY_VALUE_PRESENT),
        Some(&V::KeyValuePresent(false))
    );
    assert_eq!(client.get(&id).unwrap().object, object);
}

#[test]
fn material_known_to_be_compromised_is_not_registered_again() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let first = client.register(key(&[9; 32]), none());
    client
        .revoke(&first, RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    let material = || Some(key(&[9; 32]));
    let again = || client.register_with(ObjectType::SYMMETRIC_KEY, material(), none());
    assert_eq!(reason(again()), ResultReason::PERMISSION_DENIED);
    // Also when the compromised object is long destroyed.
    client.destroy(&first).unwrap();
    assert_eq!(reason(again()), ResultReason::PERMISSION_DENIED);
    assert_eq!(host.count(), 1);
}
