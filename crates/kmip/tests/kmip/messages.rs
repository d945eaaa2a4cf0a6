//! Messages: what they keep, and what they refuse.

use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_ttlv::{ErrorKind, Extra, Version};

fn discover() -> DiscoverVersionsRequest {
    DiscoverVersionsRequest {
        protocol_versions: Vec::new(),
        extra: Extra::NONE,
    }
}

fn message(version: Version, items: usize) -> RequestMessage {
    RequestMessage::new(
        version,
        (0..items)
            .map(|_| RequestItem::new(&discover(), context(version)).unwrap())
            .collect(),
    )
}

#[test]
fn a_message_comes_back_in_every_version() {
    for version in VERSIONS {
        for items in 0..3 {
            let message = message(*version, items);
            let again = RequestMessage::from_frame(&message.to_frame().unwrap()).unwrap();
            assert_eq!(again, message, "{version}");
            assert_eq!(again.version().unwrap(), *version);
            assert_eq!(again.header.batch_count as usize, items);
            assert_eq!(
                again
                    .batch
                    .iter()
                    .all(|item| item.unique_batch_item_id.is_some()),
                items != 1
            );
        }
    }
}

#[test]
fn the_header_governs_how_everything_is_read() {
    let mut message = message(Version::V1_2, 1);
    message.header.client_correlation_value = Some("late".into());
    let error = message.to_frame().unwrap_err();
    assert!(matches!(
        error.kind(),
        ErrorKind::NotInVersion {
            since: Version::V1_4,
            ..
        }
    ));
    assert_eq!(
        error.path(),
        [
            tag::REQUEST_MESSAGE,
            tag::REQUEST_HEADER,
            tag::CLIENT_CORRELATION_VALUE
        ]
    );
    message.header.protocol_version = Version::V1_4.into();
    let mut bytes = message.to_frame().unwrap().to_vec();
    bytes[8 + 8 + 8 + 16 + 11] = 2;
    let old = RequestMessage::from_frame(&bytes).unwrap();
    assert_eq!(
        (old.version().unwrap(), &old.header.client_correlation_value),
        (Version::V1_2, &None)
    );
    assert_eq!(
        old.header.extra.iter().count(),
        1,
        "kept, since 1.2 does not know it"
    );
    assert_eq!(old.to_frame().unwrap().len(), bytes.len());
}

#[test]
fn the_asynchronous_indicator_is_a_boolean_first_and_an_enumeration_later() {
    let mut one = message(Version::V1_4, 1);
    one.header.asynchronous_indicator = Some(AsynchronousMode::Boolean(true));
    assert_eq!(
        RequestMessage::from_frame(&one.to_frame().unwrap()).unwrap(),
        one
    );
    let mut two = message(Version::V2_0, 1);
    two.header.asynchronous_indicator =
        Some(AsynchronousMode::Indicator(AsynchronousIndicator::OPTIONAL));
    assert_eq!(
        RequestMessage::from_frame(&two.to_frame().unwrap()).unwrap(),
        two
    );
    one.header.protocol_version = Version::V2_0.into();
    assert!(one.to_frame().is_err());
}

#[test]
fn the_version_can_be_told_from_a_message_that_can_not_be_read() {
    let mut bytes = message(Version::V1_3, 1).to_frame().unwrap().to_vec();
    let last = bytes.len() - 1;
    bytes[last - 20] ^= 0xFF;
    assert_eq!(
        RequestMessage::version_hint(&bytes),
        Some(Version::V1_3.into())
    );
    assert_eq!(RequestMessage::version_hint(b"GET /"), None);
    assert_eq!(
        RequestMessage::version_hint(&[0x42, 0, 0x78, 1, 0, 0, 0, 0]),
        None
    );
}

#[test]
fn one_message_extension_before_2_0_and_several_since() {
    let extension = || MessageExtension {
        vendor_identification: "acme".into(),
        criticality_indicator: false,
        vendor_extension: keyferry_ttlv::Raw::of(
            tag::VENDOR_EXTENSION,
            &discover(),
            context(Version::V1_1),
        )
        .unwrap(),
        extra: Extra::NONE,
    };
    for (version, ok) in [(Version::V1_4, false), (Version::V2_0, true)] {
        let mut message = message(version, 1);
        message.batch[0].message_extensions = vec![extension(), extension()];
        assert_eq!(message.to_frame().is_ok(), ok, "{version}");
    }
}

#[test]
fn a_response_without_its_payload_says_what_is_missing() {
    let item = ResponseItem::bare(Some(Operation::GET), ResultStatus::SUCCESS);
    let error = item
        .payload::<GetResponse>(context(Version::V2_1))
        .unwrap_err();
    assert_eq!(error.to_string(), "Batch Item: Response Payload is missing");
}

#[test]
fn identifiers_other_than_texts_came_with_2_0() {
    let request = |unique_identifier| ActivateRequest {
        unique_identifier: Some(unique_identifier),
        extra: Extra::NONE,
    };
    for identifier in [
        UniqueIdentifier::Enumeration(UniqueIdentifierEnumeration::ID_PLACEHOLDER),
        UniqueIdentifier::Integer(-1),
    ] {
        let item = RequestItem::new(&request(identifier.clone()), context(Version::V2_0)).unwrap();
        assert_eq!(
            item.payload::<ActivateRequest>(context(Version::V2_0))
                .unwrap()
                .unique_identifier,
            Some(identifier.clone())
        );
        assert!(RequestItem::new(&request(identifier), context(Version::V1_4)).is_err());
        assert!(
            item.payload::<ActivateRequest>(context(Version::V1_4))
                .is_err()
        );
    }
}

#[test]
fn secrets_are_compared_and_never_shown() {
    let secret = Secret::new(b"open sesame");
    assert_eq!(secret, Secret::new(b"open sesame"));
    assert_ne!(secret, Secret::new(b"open sesam"));
    assert_ne!(secret, Secret::new(b"open sesamE"));
    assert_eq!(format!("{secret:?}"), "Secret(11 bytes)");
}
