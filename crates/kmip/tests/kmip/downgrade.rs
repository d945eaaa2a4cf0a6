//! What another version lacks is left behind and named.

use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_ttlv::{Downgrade, Extra, Version};

fn text(value: &str) -> UniqueIdentifier {
    value.into()
}

/// Checks that what is left can be written, and gives it back with the descriptions of what is not.
fn lowered<P: Payload + Downgrade + PartialEq + std::fmt::Debug>(payload: P, version: Version) -> (Option<P>, Vec<String>) {
    let (kept, loss) = downgraded(payload, version);
    if let Some(kept) = &kept {
        let item = RequestItem::new(kept, context(version)).unwrap();
        assert_eq!(&item.payload::<P>(context(version)).unwrap(), kept);
    }
    for lost in &loss {
        assert!(lost.value.is_some(), "{:?}", lost.path);
    }
    (kept, described(&loss))
}

#[test]
fn attributes_fields_of_theirs_and_bits_are_left_behind_each_by_its_name() {
    let parameters = CryptographicParameters {
        padding_method: Some(PaddingMethod::OAEP),
        cryptographic_algorithm: Some(CryptographicAlgorithm::AES),
        mask_generator: Some(MaskGenerator::MGF1),
        ..CryptographicParameters::default()
    };
    let request = LocateRequest {
        maximum_items: Some(1),
        offset_items: Some(2),
        storage_status_mask: None,
        object_group_member: None,
        attributes: Attributes::new()
            .with(V::Name(Name::text("n")))
            .with(V::QuantumSafe(true))
            .with(V::CryptographicParameters(parameters.into()))
            .with(V::Custom(CustomAttribute { vendor: "acme".into(), ..CustomAttribute::text("Colour", "red") }))
            .with(V::Custom(CustomAttribute::text("Colour", "blue")))
            .with(V::CryptographicAlgorithm(CryptographicAlgorithm::CHACHA20))
            .with(V::CryptographicUsageMask(CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::AUTHENTICATE)),
        extra: Extra::NONE,
    };
    let (kept, lost) = lowered(request.clone(), Version::V1_1);
    let kept = kept.unwrap();
    assert_eq!((kept.maximum_items, kept.offset_items), (Some(1), None));
    let mask = kept.attributes.get(tag::CRYPTOGRAPHIC_USAGE_MASK);
    assert_eq!(mask, Some(&V::CryptographicUsageMask(CryptographicUsageMask::ENCRYPT)));
    assert_eq!(
        lost,
        [
            "Offset Items",
            "Quantum Safe",
            "Cryptographic Parameters > Cryptographic Algorithm",
            "Cryptographic Parameters > Mask Generator",
            "acme-Colour",
            "Cryptographic Algorithm",
            "Cryptographic Usage Mask",
        ]
    );
    // Nothing is lost where all of it exists, and going back up changes nothing.
    assert_eq!(lowered(request.clone(), Version::V2_1), (Some(request), vec![]));
    assert_eq!(lowered(kept.clone(), Version::V2_1), (Some(kept), vec![]));
}

#[test]
fn what_went_is_lost_on_the_way_up() {
    let create = CreateRequest {
        object_type: ObjectType::SYMMETRIC_KEY,
        attributes: TemplateAttribute {
            names: vec![Name::text("house rules")],
            attributes: Attributes::new().with(V::OperationPolicyName("default".into())).with(V::Name(Name::text("n"))),
        },
        protection_storage_masks: None,
        extra: Extra::NONE,
    };
    let (kept, lost) = lowered(create, Version::V2_0);
    assert_eq!(kept.unwrap().attributes.attributes, Attributes::new().with(V::Name(Name::text("n"))));
    assert_eq!(lost, ["Name", "Operation Policy Name"]);
}

#[test]
fn what_makes_no_sense_without_its_part_goes_as_a_whole() {
    let set = |value| AddAttributeRequest {
        unique_identifier: Some(text("1")),
        attribute: Attributes::new().with(value),
        extra: Extra::NONE,
    };
    assert_eq!(lowered(set(V::QuantumSafe(true)), Version::V1_4).0, None);
    assert!(lowered(set(V::Comment("c".into())), Version::V1_4).0.is_some());
    let get = |reference| GetAttributesRequest {
        unique_identifier: None,
        references: AttributeReferences(vec![AttributeReference::Standard(reference)]),
        extra: Extra::NONE,
    };
    assert_eq!(lowered(get(tag::ROTATE_NAME), Version::V1_0), (None, vec!["Rotate Name".to_owned()]));
    let placeholder = DestroyRequest {
        unique_identifier: Some(UniqueIdentifier::Enumeration(UniqueIdentifierEnumeration::ID_PLACEHOLDER)),
        extra: Extra::NONE,
    };
    // Without it another object would be destroyed.
    assert_eq!(lowered(placeholder, Version::V1_4), (None, vec!["Unique Identifier".to_owned()]));
}

#[test]
fn an_object_has_a_version_too() {
    let request = |object| RegisterRequest {
        object_type: Object::object_type(&object),
        attributes: Attributes::new().into(),
        object: Some(object),
        protection_storage_masks: None,
        extra: Extra::NONE,
    };
    let key = Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(&[1; 16]));
    assert_eq!(lowered(request(key.clone()), Version::V1_0), (Some(request(key.clone())), vec![]));
    let csr = Object::CertificateRequest(CertificateRequest {
        certificate_request_type: CertificateRequestType::PKCS_10,
        value: vec![1],
        extra: Extra::NONE,
    });
    let (kept, lost) = downgraded(csr.clone(), Version::V1_4);
    assert_eq!((kept, lost.len()), (None, 0));
    assert_eq!(lowered(request(csr), Version::V1_4).0, None, "its Object Type is not known there either");
    assert_eq!(downgraded(key.clone(), Version::V1_0).0, Some(key));
}

#[test]
fn a_message_changes_its_version_and_drops_the_operations_that_it_lacks() {
    let item = |payload: RequestPayload| RequestItem::of(payload.operation(), payload);
    let ping = PingRequest { extra: Extra::NONE };
    let get = GetRequest {
        unique_identifier: Some(text("1")),
        key_format_type: None,
        key_wrap_type: Some(KeyWrapType::NOT_WRAPPED),
        key_compression_type: None,
        key_wrapping_specification: None,
        extra: Extra::NONE,
    };
    let mut message = RequestMessage::new(Version::V2_1, vec![item(ping.clone().into()), item(get.into())]);
    message.header.client_correlation_value = Some("c".into());
    message.header.asynchronous_indicator = Some(AsynchronousMode::Indicator(AsynchronousIndicator::OPTIONAL));
    // What stands behind an item may build on it.
    let (kept, loss) = downgraded(message.clone(), Version::V1_2);
    assert_eq!(kept, None);
    assert!(described(&loss).contains(&"Batch Item".to_owned()));
    message.batch.remove(0);
    message.header.batch_count = 1;
    let (kept, loss) = downgraded(message, Version::V1_2);
    let kept = kept.unwrap();
    assert_eq!(described(&loss), ["Request Header > Client Correlation Value", "Batch Item > Request Payload > Key Wrap Type"]);
    assert_eq!(kept.header.asynchronous_indicator, Some(AsynchronousMode::Boolean(true)));
    let frame = kept.to_frame().unwrap();
    let read = RequestMessage::from_frame(&frame).unwrap().read_payloads().unwrap();
    assert_eq!((read.version().unwrap(), read.batch.len(), read.header.batch_count), (Version::V1_2, 1, 1));
    assert_eq!(read, kept);
    // The order of a batch is assumed otherwise in 2.x, so it is said.
    let two = RequestMessage::of(Version::V2_1, [LocateRequest::by_name("n").into(), ActivateRequest::default().into()]);
    let (kept, loss) = downgraded(two.clone(), Version::V1_4);
    assert_eq!((kept.unwrap().header.batch_order_option, loss.len()), (Some(true), 0));
    assert_eq!(downgraded(two, Version::V2_0).0.unwrap().header.batch_order_option, None);
    let alone = RequestMessage::new(Version::V2_1, vec![item(ping.into())]);
    assert_eq!(downgraded(alone, Version::V1_2).0, None);
}

#[test]
fn a_loss_prints_no_secret() {
    let login = LoginResponse {
        ticket: LoginTicket { ticket_type: TicketType::LOGIN, value: Secret::new(b"very secret"), extra: Extra::NONE },
        extra: Extra::NONE,
    };
    let mut loss = keyferry_ttlv::Loss::NONE;
    loss.record(tag::TICKET, &login.ticket);
    assert!(!format!("{loss:?}").contains("very"), "{loss:?}");
    // It is there, and nowhere else than in the value.
    let kept = loss.iter().next().unwrap().value.as_ref().unwrap();
    assert_eq!(kept.read::<LoginTicket>(context(Version::V2_1)).unwrap(), login.ticket);
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
    assert_eq!(lowered(two.clone(), Version::V1_4), (Some(one.clone()), vec![]));
    assert_eq!(lowered(one, Version::V2_1), (Some(two), vec![]));
    let other = import(Some(ObjectType::PRIVATE_KEY), Some(object));
    assert_eq!(lowered(other, Version::V1_4).1, ["Object Type"]);
    assert_eq!(lowered(import(None, None), Version::V2_1).0, None);
    let template = Object::Template(Template { attributes: Attributes::new(), extra: Extra::NONE });
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
    assert_eq!(lowered(created.clone(), Version::V1_0), (Some(created.clone()), vec![]));
    let (kept, lost) = lowered(created, Version::V2_0);
    assert_eq!((kept.unwrap().private_key_attributes, lost), (None, vec!["Private Key Template-Attribute".to_owned()]));
}

#[test]
fn an_answer_goes_with_its_operation() {
    let response = |payload: ResponsePayload| {
        let item = ResponseItem::of(payload.operation(), payload);
        ResponseMessage::new(Version::V2_1, DateTime(0), vec![item])
    };
    let constraints = Constraints { constraints: vec![], extra: Extra::NONE };
    let asked = response(GetConstraintsResponse { constraints, extra: Extra::NONE }.into());
    let (kept, loss) = downgraded(asked.clone(), Version::V2_0);
    assert_eq!((kept, described(&loss)), (None, vec!["Batch Item".to_owned()]));
    assert_eq!(downgraded(asked.clone(), Version::V2_1), (Some(asked), keyferry_ttlv::Loss::NONE));
    let ping: RequestPayload = PingRequest::default().into();
    assert_eq!(downgraded(ping, Version::V2_0).0, None);
}

#[test]
fn what_has_no_form_in_2_x_is_not_written_there() {
    let value = keyferry_ttlv::Raw::of(tag::ATTRIBUTE_VALUE, "red", context(Version::V1_4)).unwrap();
    for value in [Some(value), None] {
        let attributes = Attributes::new().with(V::Unknown(UnknownAttribute { name: None, value }));
        assert_eq!(downgraded(attributes.clone(), Version::V2_1).0, Some(Attributes::new()));
        RequestItem::new(&LocateRequest::of(attributes), context(Version::V2_1)).unwrap_err();
    }
    let two = Attributes::new().with(V::Comment("a".into())).with(V::Description("b".into()));
    let add = AddAttributeRequest { unique_identifier: None, attribute: two, extra: Extra::NONE };
    for version in [Version::V1_4, Version::V2_1] {
        RequestItem::new(&add, context(version)).unwrap_err();
    }
}
