//! Whole messages in another version: what is left of their items, and what is told of the loss.

use crate::downgrade::{lowered, text};
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_ttlv::{Extra, Version};

#[test]
fn a_message_changes_its_version_and_drops_the_operations_that_it_lacks() {
    let item = |payload: RequestPayload| RequestItem::of(payload.operation(), payload);
    let ping = PingRequest { extra: Extra::NONE };
    let get = GetRequest {
        unique_identifier: Some(text("1")),
        key_format_type: None,
        key_wrap_type: None,
        key_compression_type: None,
        key_wrapping_specification: None,
        extra: Extra::NONE,
    };
    let mut message = RequestMessage::new(
        Version::V2_1,
        vec![item(ping.clone().into()), item(get.into())],
    );
    message.header.client_correlation_value = Some("c".into());
    message.header.asynchronous_indicator =
        Some(AsynchronousMode::Indicator(AsynchronousIndicator::OPTIONAL));
    // What stands behind an item may build on it.
    let (kept, loss) = downgraded(message.clone(), Version::V2_1, Version::V1_2);
    assert_eq!(kept, None);
    assert!(describe_loss(&loss).contains(&"Batch Item".to_owned()));
    message.batch.remove(0);
    message.header.batch_count = 1;
    let (kept, loss) = downgraded(message, Version::V2_1, Version::V1_2);
    let kept = kept.unwrap();
    assert_eq!(
        describe_loss(&loss),
        ["Request Header > Client Correlation Value"]
    );
    assert_eq!(
        kept.header.asynchronous_indicator,
        Some(AsynchronousMode::Boolean(true))
    );
    let frame = kept.to_frame().unwrap();
    let read = RequestMessage::from_frame(&frame)
        .unwrap()
        .read_payloads()
        .unwrap();
    assert_eq!(
        (
            read.version().unwrap(),
            read.batch.len(),
            read.header.batch_count
        ),
        (Version::V1_2, 1, 1)
    );
    assert_eq!(read, kept);
    // The order of a batch is assumed otherwise in 2.x, so it is said.
    let two = RequestMessage::of(
        Version::V2_1,
        [
            LocateRequest::by_name("n").into(),
            ActivateRequest::default().into(),
        ],
    );
    let (kept, loss) = downgraded(two.clone(), Version::V2_1, Version::V1_4);
    assert_eq!(
        (kept.unwrap().header.batch_order_option, loss.len()),
        (Some(true), 0)
    );
    assert_eq!(
        downgraded(two, Version::V2_1, Version::V2_0)
            .0
            .unwrap()
            .header
            .batch_order_option,
        None
    );
    let alone = RequestMessage::new(Version::V2_1, vec![item(ping.into())]);
    assert_eq!(downgraded(alone, Version::V2_1, Version::V1_2).0, None);
}

#[test]
fn a_loss_prints_no_secret() {
    let login = LoginResponse {
        ticket: LoginTicket {
            ticket_type: TicketType::LOGIN,
            value: Secret::new(b"very secret"),
            extra: Extra::NONE,
        },
        extra: Extra::NONE,
    };
    let mut loss = keyferry_ttlv::Loss::NONE;
    loss.record(tag::TICKET, &login.ticket);
    assert!(!format!("{loss:?}").contains("very"), "{loss:?}");
    // It is there, and nowhere else than in the value.
    let kept = loss.iter().next().unwrap().value.as_ref().unwrap();
    assert_eq!(
        kept.read::<LoginTicket>(context(Version::V2_1)).unwrap(),
        login.ticket
    );
}

#[test]
fn an_import_says_its_type_where_that_is_demanded() {
    let object = Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(&[1; 16]));
    let import = |object_type, object| ImportRequest {
        unique_identifier: text("1"),
        object_type,
        replace_existing: None,
        key_wrap_type: None,
        attributes: Attributes::new(),
        object,
        extra: Extra::NONE,
    };
    let two = import(Some(ObjectType::SYMMETRIC_KEY), Some(object.clone()));
    let one = import(None, Some(object.clone()));
    // The object tells it: nothing is lost, either way.
    assert_eq!(
        lowered(two.clone(), Version::V1_4),
        (Some(one.clone()), vec![])
    );
    assert_eq!(lowered(one, Version::V2_1), (Some(two), vec![]));
    let other = import(Some(ObjectType::PRIVATE_KEY), Some(object));
    assert_eq!(lowered(other, Version::V1_4).1, ["Object Type"]);
    assert_eq!(lowered(import(None, None), Version::V2_1).0, None);
    let template = Object::Template(Template {
        attributes: Attributes::new(),
        extra: Extra::NONE,
    });
    assert_eq!(lowered(import(None, Some(template)), Version::V2_1).0, None);
}

#[test]
fn an_empty_template_attribute_goes_where_there_is_none() {
    let created = CreateKeyPairResponse {
        private_key_unique_identifier: text("1"),
        public_key_unique_identifier: text("2"),
        private_key_attributes: Some(TemplateAttribute::default()),
        public_key_attributes: None,
        extra: Extra::NONE,
    };
    assert_eq!(
        lowered(created.clone(), Version::V1_0),
        (Some(created.clone()), vec![])
    );
    let (kept, lost) = lowered(created, Version::V2_0);
    assert_eq!(
        (kept.unwrap().private_key_attributes, lost),
        (None, vec!["Private Key Template-Attribute".to_owned()])
    );
}

#[test]
fn an_answer_goes_with_its_operation() {
    let response = |payload: ResponsePayload| {
        let item = ResponseItem::of(payload.operation(), payload);
        ResponseMessage::new(Version::V2_1, DateTime(0), vec![item])
    };
    let constraints = Constraints {
        constraints: vec![],
        extra: Extra::NONE,
    };
    let asked = response(
        GetConstraintsResponse {
            constraints,
            extra: Extra::NONE,
        }
        .into(),
    );
    let (kept, loss) = downgraded(asked.clone(), Version::V2_1, Version::V2_0);
    assert_eq!(
        (kept, describe_loss(&loss)),
        (None, vec!["Batch Item".to_owned()])
    );
    assert_eq!(
        downgraded(asked.clone(), Version::V2_1, Version::V2_1),
        (Some(asked), keyferry_ttlv::Loss::NONE)
    );
    let ping: RequestPayload = PingRequest::default().into();
    assert_eq!(downgraded(ping, Version::V2_1, Version::V2_0).0, None);
}

#[test]
fn what_has_no_form_in_2_x_is_not_written_there() {
    let value =
        keyferry_ttlv::Raw::of(tag::ATTRIBUTE_VALUE, "red", context(Version::V1_4)).unwrap();
    for value in [Some(value), None] {
        let attributes = Attributes::new().with(V::Unknown(UnknownAttribute { name: None, value }));
        assert_eq!(
            downgraded(attributes.clone(), Version::V2_1, Version::V2_1).0,
            Some(Attributes::new())
        );
        RequestItem::new(&LocateRequest::of(attributes), context(Version::V2_1)).unwrap_err();
    }
    let two = Attributes::new()
        .with(V::Comment("a".into()))
        .with(V::Description("b".into()));
    let add = AddAttributeRequest {
        unique_identifier: None,
        attribute: two,
        extra: Extra::NONE,
    };
    for version in [Version::V1_4, Version::V2_1] {
        RequestItem::new(&add, context(version)).unwrap_err();
    }
}
