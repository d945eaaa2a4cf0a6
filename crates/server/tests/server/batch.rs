//! Batches: order, placeholder, continuation, identifiers, sizes.

use crate::support::*;
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_ttlv::{Extra, Frame, Version};

fn activate(client: &Client, id: Option<&str>) -> RequestItem {
    client.item(&ActivateRequest {
        unique_identifier: id.map(Into::into),
        extra: Extra::NONE,
    })
}

fn create(client: &Client, label: &str) -> RequestItem {
    client.item(&create_request(aes(named(label))))
}

fn send(
    client: &Client,
    items: Vec<RequestItem>,
    change: impl FnOnce(&mut RequestHeader),
) -> ResponseMessage {
    let mut message = RequestMessage::new(client.version, items);
    change(&mut message.header);
    client.raw(&message.to_frame().unwrap())
}

#[test]
fn the_id_placeholder_goes_from_item_to_item() {
    for version in ALL {
        let host = Host::new();
        let client = host.client(version);
        let get = GetRequest {
            unique_identifier: None,
            key_format_type: None,
            key_wrap_type: None,
            key_compression_type: None,
            key_wrapping_specification: None,
            extra: Extra::NONE,
        };
        let response = client.batch(vec![
            create(&client, "k"),
            activate(&client, None),
            client.item(&get),
        ]);
        assert_eq!(response.batch.len(), 3);
        let id = text(
            &client
                .read::<CreateResponse>(&response.batch[0])
                .unwrap()
                .unique_identifier,
        );
        assert_eq!(
            text(
                &client
                    .read::<GetResponse>(&response.batch[2])
                    .unwrap()
                    .unique_identifier
            ),
            id,
            "{version}"
        );
        assert_eq!(client.state(&id), State::ACTIVE);
    }
}

#[test]
fn a_locate_with_one_hit_sets_the_placeholder_and_with_several_empties_it() {
    let host = Host::new();
    let client = host.client(Version::V1_2);
    let first = client.create(named("one"));
    let locate = |attributes| client.item(&client.locate_request(attributes));
    let response = client.batch(vec![locate(named("one")), activate(&client, None)]);
    assert!(response.batch.iter().all(ResponseItem::is_success));
    assert_eq!(client.state(&first), State::ACTIVE);
    client.create(named("two"));
    let response = client.batch(vec![
        create(&client, "three"),
        locate(none()),
        activate(&client, None),
    ]);
    assert_eq!(refused(&response.batch[2]).0, ResultReason::INVALID_FIELD);
}

#[test]
fn without_a_placeholder_an_identifier_is_needed() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let response = client.batch(vec![activate(&client, None)]);
        assert!(!response.batch[0].is_success(), "{version}");
    }
    let client = host.client(Version::V2_1);
    let mut item = activate(&client, None);
    item.request_payload = client
        .item(&ActivateRequest {
            unique_identifier: Some(UniqueIdentifier::Enumeration(
                UniqueIdentifierEnumeration::ID_PLACEHOLDER,
            )),
            extra: Extra::NONE,
        })
        .request_payload;
    let response = client.batch(vec![create(&client, "k"), item]);
    assert!(
        response.batch[1].is_success(),
        "2.x may name the placeholder"
    );
}

#[test]
fn a_failure_stops_the_batch_unless_it_shall_continue() {
    for version in ALL {
        let host = Host::new();
        let client = host.client(version);
        let items = || {
            vec![
                create(&client, "before"),
                activate(&client, Some("nothing")),
                create(&client, "behind"),
            ]
        };
        let stopped = send(&client, items(), |_| {});
        assert_eq!(stopped.batch.len(), 2, "{version}");
        assert!(stopped.batch[0].is_success() && !stopped.batch[1].is_success());
        assert_eq!(
            client.locate(named("before")).len(),
            1,
            "what succeeded stays"
        );
        assert!(client.locate(named("behind")).is_empty());
        let host = Host::new();
        let client = host.client(version);
        let went_on = send(&client, items(), |header| {
            header.batch_error_continuation_option = Some(BatchErrorContinuationOption::CONTINUE);
        });
        let successes: Vec<bool> = went_on.batch.iter().map(ResponseItem::is_success).collect();
        assert_eq!(successes, [true, false, true], "{version}");
        assert_eq!(client.locate(named("behind")).len(), 1);
    }
}

#[test]
fn a_batch_is_undone_when_one_of_its_items_fails() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let undo = |header: &mut RequestHeader| {
            header.batch_error_continuation_option = Some(BatchErrorContinuationOption::UNDO)
        };
        let before = host.head();
        let response = send(
            &client,
            vec![
                create(&client, "a"),
                activate(&client, Some("none")),
                create(&client, "b"),
            ],
            undo,
        );
        let statuses: Vec<ResultStatus> = response
            .batch
            .iter()
            .map(|item| item.result_status)
            .collect();
        assert_eq!(
            statuses,
            [
                ResultStatus::OPERATION_UNDONE,
                ResultStatus::OPERATION_FAILED
            ],
            "{version}"
        );
        assert_eq!(host.head(), before, "nothing was done");
        let response = send(
            &client,
            vec![
                create(&client, &format!("{version}")),
                activate(&client, None),
            ],
            undo,
        );
        assert!(
            response.batch.iter().all(ResponseItem::is_success),
            "{version}"
        );
    }
    assert_eq!(host.count(), 7);
}

#[test]
fn each_item_of_a_batch_needs_an_identifier_of_its_own() {
    let host = Host::new();
    let client = host.client(Version::V1_2);
    for identifiers in [[Some(vec![1]), Some(vec![1])], [Some(vec![1]), None]] {
        let mut message = RequestMessage::new(
            Version::V1_2,
            vec![create(&client, "a"), create(&client, "b")],
        );
        for (item, identifier) in message.batch.iter_mut().zip(identifiers) {
            item.unique_batch_item_id = identifier;
        }
        assert_eq!(
            refused(&client.send(&message).batch[0]).0,
            ResultReason::INVALID_MESSAGE
        );
    }
    assert_eq!(host.count(), 0);
}

#[test]
fn asynchronous_answers_that_must_be_are_refused() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let response = send(&client, vec![create(&client, "a")], |header| {
        header.asynchronous_indicator = Some(AsynchronousMode::Indicator(
            AsynchronousIndicator::MANDATORY,
        ));
    });
    assert!(!response.batch[0].is_success());
    let old = host.client(Version::V1_2);
    let response = send(&old, vec![create(&old, "a")], |header| {
        header.asynchronous_indicator = Some(AsynchronousMode::Boolean(true));
    });
    assert!(
        response.batch[0].is_success(),
        "a client that could wait need not"
    );
    assert_eq!(host.count(), 1);
}

#[test]
fn batch_item_ids_come_back_in_order() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let mut items = vec![
            activate(&client, Some("x")),
            create(&client, &format!("{version}")),
            activate(&client, Some("y")),
        ];
        for (item, id) in items.iter_mut().zip([&b"one"[..], b"", b"\xFF\x00"]) {
            item.unique_batch_item_id = Some(id.to_vec());
        }
        let response = send(&client, items, |header| {
            header.batch_error_continuation_option = Some(BatchErrorContinuationOption::CONTINUE);
        });
        let ids: Vec<_> = response
            .batch
            .iter()
            .map(|item| item.unique_batch_item_id.clone().unwrap())
            .collect();
        assert_eq!(ids, [&b"one"[..], b"", b"\xFF\x00"]);
        let operations: Vec<_> = response
            .batch
            .iter()
            .map(|item| item.operation.unwrap())
            .collect();
        assert_eq!(
            operations,
            [Operation::ACTIVATE, Operation::CREATE, Operation::ACTIVATE]
        );
    }
}

#[test]
fn a_wrong_batch_count_is_an_invalid_message() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        for count in [0, 1, 3, -2, i32::MAX] {
            let response = send(
                &client,
                vec![create(&client, "a"), create(&client, "b")],
                |header| header.batch_count = count,
            );
            assert_eq!(refused(&response.batch[0]).0, ResultReason::INVALID_MESSAGE);
        }
    }
    assert_eq!(host.count(), 0);
}

#[test]
fn an_answer_over_the_maximum_response_size_undoes_the_request() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let response = send(
            &client,
            vec![create(&client, "a"), create(&client, "b")],
            |header| header.maximum_response_size = Some(64),
        );
        assert_eq!(response.batch.len(), 2);
        for item in &response.batch {
            assert_eq!(refused(item).0, ResultReason::RESPONSE_TOO_LARGE);
        }
        assert_eq!(host.count(), 0, "nothing was done in {version}");
    }
    let client = host.client(Version::V2_1);
    let response = send(&client, vec![create(&client, "a")], |header| {
        header.maximum_response_size = Some(4096)
    });
    assert!(response.batch[0].is_success());
}

#[test]
fn requests_that_arrive_together_are_answered_in_order_and_each_on_its_own() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let old = host.client(Version::V1_0);
    let frame = |items: Vec<RequestItem>, size: Option<i32>, version| {
        let mut message = RequestMessage::new(version, items);
        message.header.maximum_response_size = size;
        message.to_frame().unwrap()
    };
    let frames = [
        frame(vec![create(&client, "one")], None, Version::V2_1),
        Frame::new(vec![0x42, 0, 0x78, 1, 0, 0, 0, 0]),
        frame(vec![create(&old, "two")], None, Version::V1_0),
        frame(vec![create(&client, "three")], Some(16), Version::V2_1),
        frame(
            vec![client.item(&client.locate_request(named("one")))],
            None,
            Version::V2_1,
        ),
    ];
    let answers = host.server.handle(&client.identity, host.now(), &frames);
    let responses: Vec<ResponseMessage> = answers
        .into_iter()
        .map(|answer| match answer {
            Answer::Reply(frame) | Answer::ReplyAndClose(frame) => {
                ResponseMessage::from_frame(&frame).unwrap()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let succeeded: Vec<bool> = responses
        .iter()
        .map(|response| response.batch[0].is_success())
        .collect();
    assert_eq!(succeeded, [true, false, true, false, true]);
    let found: LocateResponse = responses[4].batch[0].payload(client.cx()).unwrap();
    assert_eq!(
        found.unique_identifiers.len(),
        1,
        "later requests see earlier ones"
    );
    assert_eq!(host.count(), 2);
}

#[test]
fn a_clients_correlation_value_stays_with_the_server() {
    // It is in requests from client to server, and in answers from client to server (KMIP 2.1 §9.9).
    let host = Host::new();
    for version in ALL.into_iter().filter(|v| *v >= Version::V1_4) {
        let client = host.client(version);
        for items in [
            vec![create(&client, &format!("{version}"))],
            vec![activate(&client, Some("none"))],
        ] {
            let response = send(&client, items, |header| {
                header.client_correlation_value = Some("trace 7".into())
            });
            assert_eq!(response.header.client_correlation_value, None);
        }
    }
}

#[test]
fn an_empty_batch_is_answered_without_items_or_refused() {
    let host = Host::new();
    for version in ALL {
        let response = send(&host.client(version), Vec::new(), |_| {});
        assert!(
            response.batch.iter().all(|item| !item.is_success()),
            "{version}"
        );
    }
}

#[test]
fn a_small_request_for_a_huge_answer_is_refused_and_costs_the_others_nothing() {
    let host = crate::bulk::drive::master_of_large_objects();
    let client = host.client(Version::V2_1);
    let opaque = Object::OpaqueObject(OpaqueObject {
        opaque_data_type: Enumeration(0x8000_0001),
        value: Secret::new(&vec![7; 4 << 20]),
        extra: Extra::NONE,
    });
    let id = client.register(opaque, none());
    let get = |id: &str| {
        client.item(&GetRequest {
            unique_identifier: Some(id.into()),
            key_format_type: None,
            key_wrap_type: None,
            key_compression_type: None,
            key_wrapping_specification: None,
            extra: Extra::NONE,
        })
    };
    let response = client.batch((0..50).map(|_| get(&id)).collect());
    assert!(
        response
            .batch
            .iter()
            .all(|item| item.result_reason == Some(ResultReason::RESPONSE_TOO_LARGE))
    );
    assert!(
        client
            .batch((0..3).map(|_| get(&id)).collect())
            .batch
            .iter()
            .all(ResponseItem::is_success)
    );

    // Pipelined, they are answered as far as the answers may be held at once, and each of them in the end.
    let one = RequestMessage::new(Version::V2_1, vec![get(&id)])
        .to_frame()
        .unwrap();
    let many: Vec<Frame> = (0..20).map(|_| one.clone()).collect();
    let (mut left, mut calls) = (many.as_slice(), 0);
    while !left.is_empty() {
        let answers = host.server.handle(
            &client.identity,
            Now {
                wall: DateTime(1),
                ..Now::default()
            },
            left,
        );
        assert!((1..=4).contains(&answers.len()), "{}", answers.len());
        left = &left[answers.len()..];
        calls += 1;
    }
    assert!(calls >= 5);
}

#[test]
fn only_what_makes_or_finds_an_object_sets_the_placeholder() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let other = client.create(none());
        let attributes = client.item(&GetAttributesRequest::of(other.as_str()));
        let destroy = client.item(&DestroyRequest::default());
        let response = client.batch(vec![
            create(&client, &format!("{version}")),
            attributes,
            destroy,
        ]);
        assert!(
            response.batch.iter().all(ResponseItem::is_success),
            "{version}"
        );
        assert_eq!(
            client.state(&other),
            State::PRE_ACTIVE,
            "not the one that was looked at in between"
        );
        // A use that is not allowed is not gone on with.
        let check = CheckRequest {
            cryptographic_usage_mask: Some(CryptographicUsageMask::SIGN),
            ..CheckRequest::default()
        };
        let items = vec![
            create(&client, &format!("{version}")),
            client.item(&check),
            client.item(&GetRequest::default()),
        ];
        let response = send(&client, items, |header| {
            header.batch_error_continuation_option = Some(BatchErrorContinuationOption::CONTINUE);
        });
        assert!(!response.batch[2].is_success(), "{version}");
    }
}
