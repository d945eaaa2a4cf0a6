//! Get, Get Attributes, Get Attribute List and Export.

use crate::support::*;
use keyferry_kmip::attribute::AttributeReferences;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_ttlv::{Extra, Version};

#[test]
fn what_is_not_there_has_the_reason_of_the_version() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let expected = by(
            version,
            ResultReason::ITEM_NOT_FOUND,
            ResultReason::OBJECT_NOT_FOUND,
        );
        assert_eq!(reason(client.get("nothing")), expected);
        assert_eq!(
            reason(client.get_attributes("nothing", AttributeReferences::default())),
            expected
        );
        assert_eq!(reason(client.destroy("nothing")), expected);
        assert_eq!(reason(client.activate("")), expected);
    }
}

#[test]
fn a_destroyed_object_is_not_given_and_keeps_its_attributes() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let id = client.create(named(&format!("{version}")));
        client.destroy(&id).unwrap();
        assert_eq!(
            reason(client.get(&id)),
            by(
                version,
                ResultReason::ITEM_NOT_FOUND,
                ResultReason::OBJECT_DESTROYED
            )
        );
        let attributes = client.attributes(&id);
        assert_eq!(
            (attributes.state(), attributes.date(tag::DESTROY_DATE)),
            (Some(State::DESTROYED), Some(host.now().wall))
        );
        assert!(host.object(&id).is_none(), "the material is gone");
    }
}

#[test]
fn attributes_by_name_are_those_that_were_asked_for() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let id = client.create(
            named(&format!("a{version}"))
                .with(name(&format!("b{version}")))
                .with(custom("c", "v")),
        );
        let wanted = AttributeReferences(vec![
            reference(tag::NAME),
            reference(tag::STATE),
            reference(tag::ARCHIVE_DATE),
            AttributeReference::Custom {
                vendor: "x".into(),
                name: "c".into(),
            },
        ]);
        let attributes = client.get_attributes(&id, wanted).unwrap();
        assert_eq!(attributes.len(), 4, "{version}: {attributes:?}");
        assert_eq!(attributes.names().count(), 2);
        if version < Version::V2_0 {
            let indices: Vec<_> = attributes
                .iter()
                .filter(|a| a.value.tag() == tag::NAME)
                .map(|a| a.index.unwrap_or(0))
                .collect();
            assert_eq!(indices, [0, 1]);
        }
    }
}

#[test]
fn the_list_names_each_attribute_once_and_agrees_with_get_attributes() {
    let host = Host::new();
    let id = host
        .client(Version::V2_1)
        .create(named("a").with(name("b")).with(custom("c", "v")));
    for version in ALL {
        let client = host.client(version);
        let request = GetAttributeListRequest {
            unique_identifier: Some(id.as_str().into()),
            extra: Extra::NONE,
        };
        let response: GetAttributeListResponse = client.call(&request).unwrap();
        let mut expected: Vec<AttributeReference> = Vec::new();
        for attribute in &client.attributes(&id) {
            let reference = attribute.value.reference();
            if !expected.contains(&reference) {
                expected.push(reference);
            }
        }
        assert_eq!(response.references.0, expected, "{version}");
        assert_eq!(
            client.get_attributes(&id, response.references).unwrap(),
            client.attributes(&id),
            "{version}"
        );
    }
}

#[test]
fn every_version_can_read_what_another_has_set() {
    let host = Host::new();
    let parameters = CryptographicParameters {
        block_cipher_mode: Some(BlockCipherMode::CBC),
        iv_length: Some(12),
        salt_length: Some(20),
        ..CryptographicParameters::default()
    };
    let id = host.client(Version::V2_1).create(
        none()
            .with(V::CryptographicParameters(Box::new(parameters)))
            .with(V::Description("d".into()))
            .with(V::QuantumSafe(true))
            .with(V::RotateName(RotateName {
                value: "r".into(),
                rotate_name_type: RotateNameType::UNINTERPRETED_TEXT_STRING,
                extra: Extra::NONE,
            })),
    );
    for version in ALL {
        let attributes = host.client(version).attributes(&id);
        let Some(V::CryptographicParameters(seen)) = attributes.get(tag::CRYPTOGRAPHIC_PARAMETERS)
        else {
            panic!("{version}")
        };
        assert_eq!(seen.block_cipher_mode, Some(BlockCipherMode::CBC));
        assert_eq!(
            seen.iv_length.is_some(),
            version >= Version::V1_2,
            "{version}"
        );
        assert_eq!(
            seen.salt_length.is_some(),
            version >= Version::V1_4,
            "{version}"
        );
        assert_eq!(
            attributes.get(tag::DESCRIPTION).is_some(),
            version >= Version::V1_4
        );
        assert_eq!(
            attributes.get(tag::QUANTUM_SAFE).is_some(),
            version >= Version::V2_0
        );
        assert_eq!(
            attributes.get(tag::ROTATE_NAME).is_some(),
            version >= Version::V2_1
        );
    }
}

#[test]
fn another_key_format_than_the_one_kept_is_refused() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let id = client.create(none());
    let request = |format| GetRequest {
        unique_identifier: Some(id.as_str().into()),
        key_format_type: Some(format),
        key_wrap_type: None,
        key_compression_type: None,
        key_wrapping_specification: None,
        extra: Extra::NONE,
    };
    client
        .call::<_, GetResponse>(&request(KeyFormatType::RAW))
        .unwrap();
    assert_eq!(
        reason(client.call::<_, GetResponse>(&request(KeyFormatType::PKCS_8))),
        ResultReason::KEY_FORMAT_TYPE_NOT_SUPPORTED
    );
}

#[test]
fn a_wish_for_wrapping_is_refused_and_never_answered_in_the_clear() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let id = client.create(none());
        let specification = KeyWrappingSpecification {
            wrapping_method: WrappingMethod::ENCRYPT,
            encryption_key_information: Some(WrappingKeyInformation {
                unique_identifier: "kek".into(),
                cryptographic_parameters: None,
                extra: Extra::NONE,
            }),
            mac_signature_key_information: None,
            attribute_names: Vec::new(),
            encoding_option: None,
            extra: Extra::NONE,
        };
        let request = GetRequest {
            unique_identifier: Some(id.as_str().into()),
            key_format_type: None,
            key_wrap_type: None,
            key_compression_type: None,
            key_wrapping_specification: Some(specification),
            extra: Extra::NONE,
        };
        let expected = by(
            version,
            ResultReason::ITEM_NOT_FOUND,
            ResultReason::WRAPPING_OBJECT_NOT_FOUND,
        );
        assert_eq!(reason(client.call::<_, GetResponse>(&request)), expected);
    }
}

#[test]
fn sensitive_and_not_extractable_objects_are_not_given_in_the_clear() {
    let host = Host::new();
    let maker = host.client(Version::V1_4);
    let sensitive = maker.create(none().with(V::Sensitive(true)));
    let kept = maker.create(none().with(V::Extractable(false)));
    for version in ALL {
        let client = host.client(version);
        let new = version >= Version::V1_4;
        let (s, e) = if new {
            (ResultReason::SENSITIVE, ResultReason::NOT_EXTRACTABLE)
        } else {
            (
                ResultReason::PERMISSION_DENIED,
                ResultReason::PERMISSION_DENIED,
            )
        };
        assert_eq!(
            (reason(client.get(&sensitive)), reason(client.get(&kept))),
            (s, e),
            "{version}"
        );
        if new {
            assert_eq!(
                (
                    reason(client.export(&sensitive)),
                    reason(client.export(&kept))
                ),
                (s, e),
                "{version}"
            );
        }
    }
    let attributes = maker.attributes(&sensitive);
    assert_eq!(
        attributes.get(tag::ALWAYS_SENSITIVE),
        Some(&V::AlwaysSensitive(true))
    );
    assert_eq!(
        maker.attributes(&kept).get(tag::NEVER_EXTRACTABLE),
        Some(&V::NeverExtractable(true))
    );
    // What has been false or true once was not always or never so.
    maker
        .modify_at(&sensitive, None, V::Sensitive(false))
        .unwrap();
    maker
        .modify_at(&sensitive, None, V::Sensitive(true))
        .unwrap();
    assert_eq!(
        maker.attributes(&sensitive).get(tag::ALWAYS_SENSITIVE),
        Some(&V::AlwaysSensitive(false))
    );
    maker.modify_at(&kept, None, V::Extractable(true)).unwrap();
    assert_eq!(
        maker.attributes(&kept).get(tag::NEVER_EXTRACTABLE),
        Some(&V::NeverExtractable(false))
    );
}

#[test]
fn export_gives_all_attributes_and_the_object() {
    let host = Host::new();
    for version in ALL.into_iter().filter(|v| *v >= Version::V1_4) {
        let client = host.client(version);
        let id = client.register(
            key(&[2; 16]),
            named(&format!("{version}")).with(custom("c", "v")),
        );
        let exported = client.export(&id).unwrap();
        assert_eq!(exported.object, Some(key(&[2; 16])));
        assert_eq!(exported.object_type, ObjectType::SYMMETRIC_KEY);
        assert_eq!(exported.attributes, client.attributes(&id));
        client.destroy(&id).unwrap();
        let exported = client.export(&id).unwrap();
        assert_eq!(
            exported.object, None,
            "a destroyed object has attributes alone"
        );
        assert_eq!(exported.attributes.state(), Some(State::DESTROYED));
    }
    let client = host.client(Version::V2_1);
    let sensitive = client.create(none().with(V::Sensitive(true)));
    client.destroy(&sensitive).unwrap();
    assert_eq!(client.export(&sensitive).unwrap().object, None);
}

#[test]
fn export_and_import_are_no_operations_before_1_4() {
    let host = Host::new();
    for version in ALL.into_iter().filter(|v| *v < Version::V1_4) {
        let client = host.client(version);
        assert_eq!(
            reason(client.export("any")),
            ResultReason::OPERATION_NOT_SUPPORTED
        );
        assert_eq!(
            reason(client.import("any", Some(key(&[1; 16])), none(), false)),
            ResultReason::OPERATION_NOT_SUPPORTED
        );
    }
}

#[test]
fn attributes_come_in_the_order_in_which_they_are_named_and_each_is_named_once() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let id = client.create(none());
        for names in [
            [tag::STATE, tag::OBJECT_TYPE, tag::UNIQUE_IDENTIFIER],
            [tag::UNIQUE_IDENTIFIER, tag::STATE, tag::INITIAL_DATE],
        ] {
            let attributes = client
                .get_attributes(&id, AttributeReferences(names.map(reference).to_vec()))
                .unwrap();
            assert_eq!(
                attributes.iter().map(|a| a.value.tag()).collect::<Vec<_>>(),
                names,
                "{version}"
            );
        }
        let twice = AttributeReferences(vec![reference(tag::STATE), reference(tag::STATE)]);
        assert_eq!(
            reason(client.get_attributes(&id, twice)),
            ResultReason::INVALID_MESSAGE
        );
    }
}

#[test]
fn a_key_that_was_registered_wrapped_is_not_given_as_if_it_were_unwrapped() {
    let host = Host::new();
    for version in ALL.into_iter().filter(|v| *v >= Version::V1_4) {
        let client = host.client(version);
        let (_, object) = crate::objects::all(version)
            .into_iter()
            .find(|(what, _)| *what == "wrapped")
            .unwrap();
        let id = client.register(object.clone(), none());
        let request = |wrap| GetRequest {
            unique_identifier: Some(id.as_str().into()),
            key_format_type: None,
            key_wrap_type: Some(wrap),
            key_compression_type: None,
            key_wrapping_specification: None,
            extra: Extra::NONE,
        };
        assert_eq!(
            client
                .call::<_, GetResponse>(&request(KeyWrapType::AS_REGISTERED))
                .unwrap()
                .object,
            object
        );
        let expected = by(
            version,
            ResultReason::ITEM_NOT_FOUND,
            ResultReason::WRAPPING_OBJECT_NOT_FOUND,
        );
        assert_eq!(
            reason(client.call::<_, GetResponse>(&request(KeyWrapType::NOT_WRAPPED))),
            expected
        );
    }
}
