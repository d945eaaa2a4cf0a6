//! Bad input: the right Result Reason, and the server goes on.

use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_ttlv::{Context, Encode, Extra, Raw, Tag, Value, Version, Writer};
use proptest::prelude::*;

fn request(client: &Client) -> Vec<u8> {
    RequestMessage::new(
        client.version,
        vec![client.item(&create_request(aes(none())))],
    )
    .to_frame()
    .unwrap()
    .to_vec()
}

/// The single item of a refusal.
fn refusal(client: &Client, bytes: &[u8]) -> ResultReason {
    let response = client.raw(bytes);
    assert_eq!(response.batch.len(), 1);
    refused(&response.batch[0]).0
}

fn payload(content: impl FnOnce(&mut Writer)) -> Raw {
    struct Content<F>(std::cell::Cell<Option<F>>);
    impl<F: FnOnce(&mut Writer)> Encode for Content<F> {
        fn encode(&self, tag: Tag, w: &mut Writer) -> keyferry_ttlv::Result<()> {
            w.structure(tag, |w| {
                self.0.take().unwrap()(w);
                Ok(())
            })
        }
    }
    Raw::of(
        tag::REQUEST_PAYLOAD,
        &Content(std::cell::Cell::new(Some(content))),
        Context::new(Version::V2_1),
    )
    .unwrap()
}

fn item(operation: Operation, payload: Raw) -> RequestItem {
    RequestItem {
        operation,
        ephemeral: None,
        unique_batch_item_id: None,
        request_payload: payload,
        message_extensions: Vec::new(),
        extra: Extra::NONE,
    }
}

fn answer(
    client: &Client,
    operation: Operation,
    content: impl FnOnce(&mut Writer),
) -> ResultReason {
    let response = client.batch(vec![item(operation, payload(content))]);
    refused(&response.batch[0]).0
}

#[test]
fn garbage_is_an_invalid_message() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    for garbage in [
        &b""[..],
        b"\0",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xFF; 64],
        &[0x42, 0, 0x78, 1, 0, 0, 0, 0],
        &[0x42, 0, 0x78, 2, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0],
    ] {
        assert!(
            matches!(
                refusal(&client, garbage),
                ResultReason::INVALID_MESSAGE | ResultReason::INVALID_FIELD
            ),
            "{garbage:?}"
        );
    }
    // A response is no request.
    let response = <ResponseMessage>::new(Version::V2_1, DateTime(0), Vec::new())
        .to_frame()
        .unwrap();
    assert_eq!(refusal(&client, &response), ResultReason::INVALID_MESSAGE);
    client.create(none());
}

#[test]
fn half_a_message_is_an_invalid_message_wherever_it_is_cut() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let whole = request(&client);
        for cut in 0..whole.len() {
            assert_eq!(
                refusal(&client, &whole[..cut]),
                ResultReason::INVALID_MESSAGE,
                "cut at {cut} in {version}"
            );
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert_eq!(refusal(&client, &longer), ResultReason::INVALID_MESSAGE);
    }
    assert_eq!(host.count(), 0);
}

#[test]
fn no_changed_byte_makes_it_panic_or_keeps_it_from_serving() {
    let host = Host::new();
    for version in [Version::V1_0, Version::V2_1] {
        let client = host.client(version);
        let whole = request(&client);
        for at in 0..whole.len() {
            for change in [0x01, 0x80, 0xFF] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                client.raw(&bytes);
            }
        }
        client.create(none());
    }
}

#[test]
fn versions_that_are_not_spoken_have_a_reason() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    for (major, minor) in [
        (1, 5),
        (1, 9),
        (2, 2),
        (2, 9),
        (3, 0),
        (9, 9),
        (0, 1),
        (0, 0),
        (255, 255),
        (300, 1),
        (-1, 0),
        (1, -1),
        (1, 300),
    ] {
        let mut bytes = request(&client);
        // Request Message, Request Header, Protocol Version: the numbers' values.
        bytes[8 + 8 + 8 + 8..][..4].copy_from_slice(&i32::to_be_bytes(major));
        bytes[8 + 8 + 8 + 16 + 8..][..4].copy_from_slice(&i32::to_be_bytes(minor));
        let response = client.raw(&bytes);
        let answered = response.version().unwrap();
        assert!(VERSIONS.contains(&answered));
        assert_eq!(response.batch.len(), 1);
        let expected = by(
            answered,
            ResultReason::INVALID_MESSAGE,
            ResultReason::UNSUPPORTED_PROTOCOL_VERSION,
        );
        assert_eq!(refused(&response.batch[0]).0, expected, "{major}.{minor}");
        assert_eq!(
            answered.major == 1,
            major == 1,
            "{major}.{minor} is answered in {answered}"
        );
        assert!(response.batch[0].operation.is_none());
    }
    assert_eq!(host.count(), 0);
}

#[test]
fn a_later_version_whose_header_is_another_one_is_told_that_it_is_not_spoken() {
    // 3.0 has no Batch Count.
    let mut w = Writer::new(Context::new(Version::V2_1));
    w.structure(tag::REQUEST_MESSAGE, |w| {
        w.structure(tag::REQUEST_HEADER, |w| {
            ProtocolVersion { major: 3, minor: 0 }.encode(tag::PROTOCOL_VERSION, w)
        })
    })
    .unwrap();
    let host = Host::new();
    assert_eq!(
        refusal(&host.client(Version::V2_1), &w.finish()),
        ResultReason::UNSUPPORTED_PROTOCOL_VERSION
    );
}

#[test]
fn unknown_operations_are_not_supported() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        for operation in [
            0,
            0x7777,
            0x8000_0001,
            u32::MAX,
            Operation::ENCRYPT.0,
            Operation::CERTIFY.0,
        ] {
            assert_eq!(
                answer(&client, Operation(operation), |_| {}),
                ResultReason::OPERATION_NOT_SUPPORTED,
                "{operation:X} {version}"
            );
        }
    }
}

#[test]
fn an_attribute_of_the_wrong_type_says_so() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let expected = by(
            version,
            ResultReason::INVALID_FIELD,
            ResultReason::INVALID_DATA_TYPE,
        );
        let create = |length: &dyn Fn(&mut Writer, Tag)| {
            answer(&client, Operation::CREATE, |w| {
                w.enumeration(tag::OBJECT_TYPE, 2);
                if version < Version::V2_0 {
                    w.structure(tag::TEMPLATE_ATTRIBUTE, |w| {
                        w.structure(tag::ATTRIBUTE, |w| {
                            w.text(tag::ATTRIBUTE_NAME, "Cryptographic Length")?;
                            length(w, tag::ATTRIBUTE_VALUE);
                            Ok(())
                        })
                    })
                    .unwrap();
                } else {
                    w.structure(tag::ATTRIBUTES, |w| {
                        length(w, tag::CRYPTOGRAPHIC_LENGTH);
                        Ok(())
                    })
                    .unwrap();
                }
            })
        };
        assert_eq!(
            create(&|w, tag| w.text(tag, "128").unwrap()),
            expected,
            "{version}"
        );
        assert_eq!(
            create(&|w, tag| w.long_integer(tag, 128)),
            expected,
            "{version}"
        );
        assert_eq!(
            create(&|w, tag| w.structure(tag, |_| Ok(())).unwrap()),
            expected,
            "{version}"
        );
    }
}

#[test]
fn missing_and_repeated_fields_are_invalid_messages() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        assert_eq!(
            answer(&client, Operation::CREATE, |_| {}),
            ResultReason::INVALID_MESSAGE
        );
        assert_eq!(
            answer(&client, Operation::REVOKE, |w| w
                .text(tag::UNIQUE_IDENTIFIER, "x")
                .unwrap()),
            ResultReason::INVALID_MESSAGE
        );
        let twice = answer(&client, Operation::GET, |w| {
            w.text(tag::UNIQUE_IDENTIFIER, "x").unwrap();
            w.text(tag::UNIQUE_IDENTIFIER, "y").unwrap();
        });
        assert_eq!(twice, ResultReason::INVALID_MESSAGE);
        // Attributes have to be named.
        let expected = [ResultReason::INVALID_MESSAGE, ResultReason::MISSING_DATA];
        let id = client.create(none());
        assert!(
            expected.contains(&answer(&client, Operation::ADD_ATTRIBUTE, |w| w
                .text(tag::UNIQUE_IDENTIFIER, &id)
                .unwrap())),
            "{version}"
        );
        assert!(
            expected.contains(&answer(&client, Operation::DELETE_ATTRIBUTE, |w| w
                .text(tag::UNIQUE_IDENTIFIER, &id)
                .unwrap()))
        );
    }
}

#[test]
fn one_bad_item_fails_alone() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let mut message = RequestMessage::new(
        Version::V2_1,
        vec![
            client.item(&create_request(aes(none()))),
            item(
                Operation::GET,
                payload(|w| w.boolean(tag::UNIQUE_IDENTIFIER, true)),
            ),
            client.item(&create_request(aes(none()))),
        ],
    );
    message.header.batch_error_continuation_option = Some(BatchErrorContinuationOption::CONTINUE);
    let response = client.send(&message);
    assert_eq!(
        response
            .batch
            .iter()
            .map(ResponseItem::is_success)
            .collect::<Vec<_>>(),
        [true, false, true]
    );
}

#[test]
fn an_unknown_critical_extension_refuses_and_an_uncritical_one_is_passed_over() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        for (critical, operation) in [(true, "create"), (false, "create"), (true, "import")] {
            if operation == "import" && version < Version::V1_4 {
                continue;
            }
            let mut item = if operation == "create" {
                client.item(&create_request(aes(none())))
            } else {
                client.item(&client.import_request("i", Some(key(&[1; 16])), none()))
            };
            item.message_extensions.push(MessageExtension {
                vendor_identification: "acme".into(),
                criticality_indicator: critical,
                vendor_extension: payload_as(tag::VENDOR_EXTENSION),
                extra: Extra::NONE,
            });
            let response = client.batch(vec![item]);
            if critical {
                let expected = by(
                    version,
                    ResultReason::FEATURE_NOT_SUPPORTED,
                    ResultReason::UNKNOWN_MESSAGE_EXTENSION,
                );
                assert_eq!(
                    refused(&response.batch[0]).0,
                    expected,
                    "{operation} in {version}"
                );
            } else {
                assert!(response.batch[0].is_success());
            }
        }
    }
}

fn payload_as(tag: Tag) -> Raw {
    struct Empty;
    impl Encode for Empty {
        fn encode(&self, tag: Tag, w: &mut Writer) -> keyferry_ttlv::Result<()> {
            w.structure(tag, |_| Ok(()))
        }
    }
    Raw::of(tag, &Empty, Context::new(Version::V2_1)).unwrap()
}

#[test]
fn our_own_extension_with_nonsense_in_it_is_refused() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let mut item = client.item(&client.import_request("i", Some(key(&[1; 16])), none()));
    item.message_extensions.push(MessageExtension {
        vendor_identification: extension::VENDOR.into(),
        criticality_indicator: false,
        vendor_extension: {
            struct Nonsense;
            impl Encode for Nonsense {
                fn encode(&self, tag: Tag, w: &mut Writer) -> keyferry_ttlv::Result<()> {
                    w.structure(tag, |w| w.text(extension::COPY, "nonsense"))
                }
            }
            Raw::of(
                tag::VENDOR_EXTENSION,
                &Nonsense,
                Context::new(Version::V2_1),
            )
            .unwrap()
        },
        extra: Extra::NONE,
    });
    assert!(!client.batch(vec![item]).batch[0].is_success());
    assert_eq!(host.count(), 0);
}

#[test]
fn deep_nesting_is_refused_without_a_deep_stack() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let mut bomb = Vec::new();
    for depth in (0..100_000u32).rev() {
        bomb.extend_from_slice(&[0x42, 0, 0x08, 1]);
        bomb.extend_from_slice(&(depth * 8).to_be_bytes());
    }
    struct Bomb(Vec<u8>);
    impl Encode for Bomb {
        fn encode(&self, tag: Tag, w: &mut Writer) -> keyferry_ttlv::Result<()> {
            w.structure(tag, |w| {
                w.raw(&self.0);
                Ok(())
            })
        }
    }
    let raw = Raw::of(
        tag::REQUEST_PAYLOAD,
        &Bomb(bomb),
        Context::new(Version::V2_1),
    )
    .unwrap();
    let bytes = RequestMessage::new(Version::V2_1, vec![item(Operation::LOCATE, raw)])
        .to_frame()
        .unwrap();
    assert_eq!(refusal(&client, &bytes), ResultReason::INVALID_MESSAGE);
}

#[test]
fn a_structure_as_a_custom_attribute_is_kept_as_it_is() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        struct Two;
        impl Encode for Two {
            fn encode(&self, tag: Tag, w: &mut Writer) -> keyferry_ttlv::Result<()> {
                w.structure(tag, |w| {
                    w.integer(Tag::new(0x540001), 5);
                    w.text(Tag::new(0x540002), "six")
                })
            }
        }
        let raw = Raw::of(tag::ATTRIBUTE_VALUE, &Two, client.cx()).unwrap();
        let value = V::Custom(CustomAttribute {
            vendor: "x".into(),
            name: "s".into(),
            value: Some(Value::Structure(raw)),
        });
        let id = client.create(none().with(value));
        let attributes = client.attributes(&id);
        let Some(V::Custom(CustomAttribute {
            value: Some(Value::Structure(seen)),
            ..
        })) = attributes
            .iter()
            .map(|a| &a.value)
            .find(|v| matches!(v, V::Custom(_)))
        else {
            panic!("{version}")
        };
        assert_eq!(
            seen.bytes(),
            Raw::of(tag::ATTRIBUTE_VALUE, &Two, client.cx())
                .unwrap()
                .bytes()
        );
    }
}

#[test]
fn a_structure_within_a_structure_is_no_custom_attribute() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        struct Deep;
        impl Encode for Deep {
            fn encode(&self, tag: Tag, w: &mut Writer) -> keyferry_ttlv::Result<()> {
                w.structure(tag, |w| w.structure(Tag::new(0x540001), |_| Ok(())))
            }
        }
        let raw = Raw::of(tag::ATTRIBUTE_VALUE, &Deep, client.cx()).unwrap();
        let deep = V::Custom(CustomAttribute {
            vendor: "x".into(),
            name: "s".into(),
            value: Some(Value::Structure(raw)),
        });
        let expected = by(
            version,
            ResultReason::INVALID_FIELD,
            ResultReason::INVALID_ATTRIBUTE_VALUE,
        );
        assert_eq!(
            reason(client.create_with(aes(none().with(deep.clone())))),
            expected
        );
        let id = client.create(none());
        assert_eq!(reason(client.add(&id, deep.clone())), expected);
        if version >= Version::V1_4 {
            assert_eq!(
                reason(client.import("i", Some(key(&[1; 16])), none().with(deep), false)),
                expected
            );
        }
    }
}

#[test]
fn an_attribute_of_a_later_version_with_the_wrong_type_does_not_make_the_record_unreadable() {
    let host = Host::new();
    // What 1.4 and 2.0 do not know comes in as it is, since Import keeps all attributes.
    for (version, name, tag) in [
        (Version::V1_4, Some("Quantum Safe"), tag::ATTRIBUTE_VALUE),
        (Version::V2_0, None, tag::ROTATE_AUTOMATIC),
    ] {
        let client = host.client(version);
        let raw = Raw::of(tag, "no Boolean", client.cx()).unwrap();
        let mut attributes = none();
        attributes.keep(
            V::Unknown(UnknownAttribute {
                name: name.map(Into::into),
                value: Some(raw),
            })
            .into(),
        );
        let id = format!("odd {version}");
        client
            .import(&id, Some(key(&[1; 16])), attributes.clone(), false)
            .unwrap();
        let kept = host.record(&id).attributes;
        assert!(
            kept.iter()
                .any(|a| a.value == attributes.iter().next().unwrap().value),
            "{kept:?}"
        );
        for version in ALL {
            host.client(version).attributes(&id);
            assert!(host.client(version).locate(none()).contains(&id));
        }
        client.activate(&id).unwrap();
        client.destroy(&id).unwrap_err();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let host = Host::new();
        host.client(Version::V2_1).raw(&bytes);
    }

    #[test]
    fn random_changes_to_a_request_are_answered(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), version in 0usize..7) {
        let host = Host::new();
        let client = host.client(ALL[version]);
        let items = vec![
            client.item(&create_request(aes(named("n").with(custom("c", "v")).with(V::ActivationDate(DateTime(5)))))),
            client.item(&client.locate_request(named("n"))),
            client.item(&client.put_request("p", Some(key(&[1; 16])), named("m"))),
        ];
        let mut bytes = RequestMessage::new(client.version, items).to_frame().unwrap().to_vec();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        client.raw(&bytes);
        client.create(none());
    }
}
