//! What another version lacks is left behind and named.

use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_ttlv::{Downgrade, Extra, Version};

pub(crate) fn text(value: &str) -> UniqueIdentifier {
    value.into()
}

/// Checks that what is left can be written, and gives it back with the descriptions of what is not.
pub(crate) fn lowered<P: Payload + Downgrade + PartialEq + std::fmt::Debug>(
    payload: P,
    version: Version,
) -> (Option<P>, Vec<String>) {
    let (kept, loss) = downgraded(payload, Version::V2_1, version);
    if let Some(kept) = &kept {
        let item = RequestItem::new(kept, context(version)).unwrap();
        assert_eq!(&item.payload::<P>(context(version)).unwrap(), kept);
    }
    for lost in &loss {
        assert!(lost.value.is_some(), "{:?}", lost.path);
    }
    (kept, describe_loss(&loss))
}

#[test]
fn attributes_fields_of_theirs_and_bits_are_left_behind_each_by_its_name() {
    let parameters = CryptographicParameters {
        padding_method: Some(PaddingMethod::OAEP),
        cryptographic_algorithm: Some(CryptographicAlgorithm::AES),
        mask_generator: Some(MaskGenerator::MGF1),
        ..CryptographicParameters::default()
    };
    let answer = GetAttributesResponse {
        unique_identifier: text("1"),
        attributes: Attributes::new()
            .with(V::Name(Name::text("n")))
            .with(V::QuantumSafe(true))
            .with(V::CryptographicParameters(parameters.into()))
            .with(V::Custom(CustomAttribute {
                vendor: "acme".into(),
                ..CustomAttribute::text("Colour", "red")
            }))
            .with(V::Custom(CustomAttribute::text("Colour", "blue")))
            .with(V::CryptographicAlgorithm(CryptographicAlgorithm::CHACHA20))
            .with(V::CryptographicUsageMask(
                CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::AUTHENTICATE,
            )),
        extra: Extra::NONE,
    };
    let (kept, lost) = lowered(answer.clone(), Version::V1_1);
    let kept = kept.unwrap();
    let mask = kept.attributes.get(tag::CRYPTOGRAPHIC_USAGE_MASK);
    assert_eq!(
        mask,
        Some(&V::CryptographicUsageMask(CryptographicUsageMask::ENCRYPT))
    );
    assert_eq!(
        lost,
        [
            "Quantum Safe",
            "Cryptographic Parameters > Cryptographic Algorithm",
            "Cryptographic Parameters > Mask Generator",
            "acme-Colour",
            "Cryptographic Algorithm",
            "Cryptographic Usage Mask",
        ]
    );
    // Nothing is lost where all of it exists, and going back up changes nothing.
    assert_eq!(
        lowered(answer.clone(), Version::V2_1),
        (Some(answer), vec![])
    );
    assert_eq!(lowered(kept.clone(), Version::V2_1), (Some(kept), vec![]));
}

#[test]
fn what_would_mean_less_than_was_asked_is_not_asked() {
    let criterion = LocateRequest::of(
        Attributes::new()
            .with(V::Name(Name::text("n")))
            .with(V::QuantumSafe(true)),
    );
    assert_eq!(
        lowered(criterion, Version::V1_4),
        (None, vec!["Quantum Safe".to_owned()])
    );
    let inner = CryptographicParameters {
        mask_generator: Some(MaskGenerator::MGF1),
        ..CryptographicParameters::default()
    };
    let inner = LocateRequest::of(Attributes::new().with(V::CryptographicParameters(inner.into())));
    assert_eq!(
        lowered(inner, Version::V1_3),
        (
            None,
            vec!["Cryptographic Parameters > Mask Generator".to_owned()]
        )
    );
    let page = LocateRequest {
        offset_items: Some(2),
        ..LocateRequest::by_name("n")
    };
    assert_eq!(
        lowered(page, Version::V1_2),
        (None, vec!["Offset Items".to_owned()])
    );
    let wrapped = GetRequest {
        key_wrap_type: Some(KeyWrapType::NOT_WRAPPED),
        ..GetRequest::of("1")
    };
    assert_eq!(
        lowered(wrapped, Version::V1_3),
        (None, vec!["Key Wrap Type".to_owned()])
    );
    let verify = SignatureVerifyRequest {
        digested_data: Some(vec![1]),
        signature_data: Some(vec![2]),
        ..Default::default()
    };
    assert_eq!(
        lowered(verify, Version::V1_3),
        (None, vec!["Digested Data".to_owned()])
    );
    let right = Right {
        object_groups: Some(ObjectGroups {
            object_groups: vec!["shops".into()],
            extra: Extra::NONE,
        }),
        ..Right::default()
    };
    assert_eq!(downgraded(right, Version::V2_1, Version::V2_0).0, None);
    let mut item = RequestItem::of(Operation::DESTROY, DestroyRequest::of("1"));
    item.ephemeral = Some(true);
    assert_eq!(
        downgraded(item.clone(), Version::V2_1, Version::V1_4).0,
        None
    );
    item.ephemeral = None;
    let content = keyferry_ttlv::Raw::of(
        tag::VENDOR_EXTENSION,
        &DestroyRequest::default(),
        context(Version::V2_1),
    )
    .unwrap();
    let extension = |critical| MessageExtension {
        vendor_identification: "acme".into(),
        criticality_indicator: critical,
        vendor_extension: content.clone(),
        extra: Extra::NONE,
    };
    item.message_extensions = vec![extension(true), extension(false)];
    let (kept, loss) = downgraded(item.clone(), Version::V2_1, Version::V1_4);
    assert_eq!(
        (kept.unwrap().message_extensions.len(), describe_loss(&loss)),
        (1, vec!["Message Extension".to_owned()])
    );
    item.message_extensions.swap(0, 1);
    assert_eq!(downgraded(item, Version::V2_1, Version::V1_4).0, None);
}

#[test]
fn an_instance_is_not_taken_for_all_of_them_nor_the_other_way_round() {
    let delete = |tag, attribute_index| DeleteAttributeRequest {
        references: AttributeReferences(vec![AttributeReference::Standard(tag)]),
        attribute_index,
        ..DeleteAttributeRequest::default()
    };
    let across = |request: DeleteAttributeRequest, from, to| {
        downgraded(request, from, to).0.map(|r| r.attribute_index)
    };
    assert_eq!(
        across(delete(tag::NAME, None), Version::V1_4, Version::V2_0),
        None
    );
    assert_eq!(
        across(delete(tag::NAME, Some(0)), Version::V1_4, Version::V2_0),
        None
    );
    assert_eq!(
        across(delete(tag::NAME, None), Version::V2_0, Version::V1_4),
        None
    );
    assert_eq!(
        across(delete(tag::NAME, None), Version::V1_0, Version::V1_4),
        Some(None)
    );
    assert_eq!(
        across(delete(tag::NAME, None), Version::V2_0, Version::V2_1),
        Some(None)
    );
    assert_eq!(
        across(
            delete(tag::CONTACT_INFORMATION, Some(0)),
            Version::V1_4,
            Version::V2_0
        ),
        Some(None)
    );
    assert_eq!(
        across(
            delete(tag::CONTACT_INFORMATION, Some(1)),
            Version::V1_4,
            Version::V2_0
        ),
        None
    );
    assert_eq!(
        across(
            delete(tag::CONTACT_INFORMATION, None),
            Version::V2_0,
            Version::V1_4
        ),
        Some(None)
    );
    // A message knows its version, whatever is said.
    let message = RequestMessage::of(Version::V1_4, [delete(tag::NAME, None).into()]);
    assert_eq!(downgraded(message, Version::V2_1, Version::V2_0).0, None);

    let told = |from, to, tag, index| {
        let deleted = DeletedAttribute {
            reference: AttributeReference::Standard(tag),
            index,
        };
        let notify = NotifyRequest {
            unique_identifier: text("1"),
            attributes: Attributes::new(),
            deleted: DeletedAttributes(vec![deleted]),
            extra: Extra::NONE,
        };
        let (kept, loss) = downgraded(notify, from, to);
        (kept.unwrap().deleted.0.len(), loss.len())
    };
    assert_eq!(told(Version::V1_4, Version::V2_0, tag::NAME, None), (0, 1));
    assert_eq!(told(Version::V2_0, Version::V1_4, tag::NAME, None), (0, 1));
    assert_eq!(
        told(
            Version::V1_4,
            Version::V2_0,
            tag::CONTACT_INFORMATION,
            Some(0)
        ),
        (1, 0)
    );
    assert_eq!(
        told(Version::V1_2, Version::V1_4, tag::NAME, Some(1)),
        (1, 0)
    );
}

#[test]
fn an_index_that_says_something_is_told_when_it_goes() {
    let named = |index, name| Attribute {
        index,
        value: V::Name(Name::text(name)),
    };
    let mut gaps = Attributes::new();
    for (index, name) in [(None, "a"), (Some(1), "b"), (Some(5), "c")] {
        gaps.keep(named(index, name));
    }
    let (kept, loss) = downgraded(gaps, Version::V1_4, Version::V2_0);
    assert_eq!(describe_loss(&loss), ["Name > Attribute Index"]);
    assert!(
        kept.unwrap()
            .iter()
            .all(|attribute| attribute.index.is_none())
    );
    let modify = |index| {
        let mut attribute = Attributes::new();
        attribute.keep(named(index, "n"));
        ModifyAttributeRequest {
            attribute,
            ..ModifyAttributeRequest::default()
        }
    };
    assert!(
        downgraded(modify(Some(0)), Version::V1_4, Version::V2_0)
            .0
            .is_some()
    );
    assert_eq!(
        downgraded(modify(Some(1)), Version::V1_4, Version::V2_0).0,
        None
    );
    assert!(
        downgraded(modify(Some(1)), Version::V1_4, Version::V1_0)
            .0
            .is_some()
    );
}

#[test]
fn what_was_kept_unread_does_not_become_a_field() {
    // 1.2 has no Offset Items: it is kept as it came, and is none in 1.4 either.
    let mut request = LocateRequest::by_name("n");
    let offset = keyferry_ttlv::Raw::of(tag::OFFSET_ITEMS, &3_i32, context(Version::V1_2)).unwrap();
    request.extra.push(offset);
    let (kept, loss) = downgraded(request.clone(), Version::V1_2, Version::V1_4);
    assert_eq!(
        (kept.unwrap().extra.is_empty(), describe_loss(&loss)),
        (true, vec!["Offset Items".to_owned()])
    );
    assert_eq!(
        downgraded(request.clone(), Version::V1_2, Version::V1_0),
        (Some(request), keyferry_ttlv::Loss::NONE)
    );
}

#[test]
fn what_a_version_demands_is_written_or_refused() {
    let refused = |payload: RequestPayload, version| {
        assert_eq!(
            downgraded(payload.clone(), version, version).0,
            None,
            "{payload:?}"
        );
        RequestMessage::of(version, [payload])
            .to_frame()
            .unwrap_err();
    };
    for version in [Version::V1_4, Version::V2_1] {
        refused(AddAttributeRequest::default().into(), version);
        refused(ModifyAttributeRequest::default().into(), version);
        refused(QueryRequest::default().into(), version);
    }
    refused(SetAttributeRequest::default().into(), Version::V2_1);
    refused(EncryptRequest::default().into(), Version::V1_2);
    refused(CertifyRequest::default().into(), Version::V1_0);
    RequestMessage::of(Version::V1_3, [EncryptRequest::default().into()])
        .to_frame()
        .unwrap();
    RequestMessage::of(Version::V1_1, [CertifyRequest::default().into()])
        .to_frame()
        .unwrap();
}

#[test]
fn what_went_is_lost_on_the_way_up() {
    let create = |names| CreateRequest {
        object_type: ObjectType::SYMMETRIC_KEY,
        attributes: TemplateAttribute {
            names,
            attributes: Attributes::new()
                .with(V::OperationPolicyName("default".into()))
                .with(V::Name(Name::text("n"))),
        },
        protection_storage_masks: None,
        extra: Extra::NONE,
    };
    let (kept, lost) = lowered(create(vec![]), Version::V2_0);
    assert_eq!(
        kept.unwrap().attributes.attributes,
        Attributes::new().with(V::Name(Name::text("n")))
    );
    assert_eq!(lost, ["Operation Policy Name"]);
    // Without its templates another key would be made.
    let (kept, lost) = lowered(create(vec![Name::text("house rules")]), Version::V2_0);
    assert_eq!(
        (kept, lost),
        (
            None,
            vec!["Name".to_owned(), "Operation Policy Name".to_owned()]
        )
    );
}

#[test]
fn what_makes_no_sense_without_its_part_goes_as_a_whole() {
    let set = |value| AddAttributeRequest {
        unique_identifier: Some(text("1")),
        attribute: Attributes::new().with(value),
        extra: Extra::NONE,
    };
    assert_eq!(lowered(set(V::QuantumSafe(true)), Version::V1_4).0, None);
    assert!(
        lowered(set(V::Comment("c".into())), Version::V1_4)
            .0
            .is_some()
    );
    let get = |reference| GetAttributesRequest {
        unique_identifier: None,
        references: AttributeReferences(vec![AttributeReference::Standard(reference)]),
        extra: Extra::NONE,
    };
    assert_eq!(
        lowered(get(tag::ROTATE_NAME), Version::V1_0),
        (None, vec!["Rotate Name".to_owned()])
    );
    let placeholder = DestroyRequest {
        unique_identifier: Some(UniqueIdentifier::Enumeration(
            UniqueIdentifierEnumeration::ID_PLACEHOLDER,
        )),
        extra: Extra::NONE,
    };
    // Without it another object would be destroyed.
    assert_eq!(
        lowered(placeholder, Version::V1_4),
        (None, vec!["Unique Identifier".to_owned()])
    );
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
    assert_eq!(
        lowered(request(key.clone()), Version::V1_0),
        (Some(request(key.clone())), vec![])
    );
    let csr = Object::CertificateRequest(CertificateRequest {
        certificate_request_type: CertificateRequestType::PKCS_10,
        value: vec![1],
        extra: Extra::NONE,
    });
    let (kept, lost) = downgraded(csr.clone(), Version::V2_1, Version::V1_4);
    assert_eq!((kept, lost.len()), (None, 0));
    assert_eq!(
        lowered(request(csr), Version::V1_4).0,
        None,
        "its Object Type is not known there either"
    );
    assert_eq!(
        downgraded(key.clone(), Version::V2_1, Version::V1_0).0,
        Some(key)
    );
}
