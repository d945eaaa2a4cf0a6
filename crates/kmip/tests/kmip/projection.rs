//! Attributes in both projections.

use keyferry_kmip::attribute::{AttributeReference, part, visible};
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_ttlv::{ErrorKind, Extra, Raw, Value, Version};

fn request(attributes: Attributes) -> LocateRequest {
    LocateRequest {
        maximum_items: None,
        offset_items: None,
        storage_status_mask: None,
        object_group_member: None,
        attributes,
        extra: Extra::NONE,
    }
}

/// What a receiver makes of attributes that come in a message of this version.
fn through(attributes: &Attributes, version: Version) -> keyferry_ttlv::Result<Attributes> {
    let item = RequestItem::new(&request(attributes.clone()), context(version))?;
    let mut arrived = item.payload::<LocateRequest>(context(version))?.attributes;
    arrived.number();
    Ok(arrived)
}

#[test]
fn reading_adds_no_index() {
    let bare: Attributes = {
        let mut bare = Attributes::new();
        ["a", "b", "a"].iter().for_each(|value| bare.keep(name(value).into()));
        bare
    };
    for version in VERSIONS {
        let item = RequestItem::new(&request(bare.clone()), context(*version)).unwrap();
        assert_eq!(item.payload::<LocateRequest>(context(*version)).unwrap().attributes, bare);
    }
}

#[test]
fn indices_go_on_behind_those_that_are_there() {
    let mut attributes = Attributes::new();
    for (index, value) in [(Some(4), "a"), (None, "b"), (Some(2), "c"), (None, "d")] {
        attributes.keep(Attribute { index, value: name(value) });
    }
    attributes.number();
    assert_eq!(attributes.iter().map(|a| a.index).collect::<Vec<_>>(), [Some(4), Some(5), Some(2), Some(6)]);
}

/// What looks at each attribute for each of them would take hours here.
#[test]
fn a_message_of_many_small_attributes_is_read_in_time() {
    let many = 200_000;
    let unknown = Raw::of(keyferry_ttlv::Tag::new(0x54ABCD), "", context(Version::V2_1)).unwrap();
    let mut attributes = Attributes::new();
    for _ in 0..many {
        attributes.keep(V::Unknown(UnknownAttribute { name: None, value: Some(unknown.clone()) }).into());
        attributes.keep(V::CryptographicParameters(Box::default()).into());
    }
    assert_eq!(through(&attributes, Version::V2_1).unwrap().len(), 2 * many);
    attributes.check_count().unwrap_err();
}

fn name(value: &str) -> V {
    V::Name(Name::text(value))
}

fn some() -> Attributes {
    Attributes::new()
        .with(name("a"))
        .with(V::State(State::ACTIVE))
        .with(name("b"))
        .with(V::Custom(CustomAttribute::text("c", "1")))
        .with(V::Custom(CustomAttribute::text("c", "2")))
        .with(V::CryptographicUsageMask(CryptographicUsageMask::SIGN))
}

#[test]
fn several_instances_are_counted_and_come_back_in_every_version() {
    let attributes = some();
    let indices: Vec<Option<i32>> = attributes.iter().map(|a| a.index).collect();
    assert_eq!(indices, [None, None, Some(1), None, Some(1), None]);
    for version in VERSIONS {
        assert_eq!(through(&attributes, *version).unwrap(), attributes, "{version}");
    }
}

#[test]
fn a_vendor_x_or_y_is_a_prefix_in_1_x_and_others_have_no_form_there() {
    let x = CustomAttribute::text("n", "v");
    assert_eq!(x.named().as_deref(), Some("x-n"));
    let acme = Attributes::new().with(V::Custom(CustomAttribute { vendor: "acme".into(), ..x }));
    through(&acme, Version::V2_0).unwrap();
    assert!(matches!(through(&acme, Version::V1_4).unwrap_err().kind(), ErrorKind::Value(_)));
}

#[test]
fn an_attribute_outside_its_versions_is_not_written() {
    let late = Attributes::new().with(V::QuantumSafe(true));
    let error = through(&late, Version::V1_4).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotInVersion { since: Version::V2_0, .. }), "{error}");
    let early = Attributes::new().with(V::OperationPolicyName("default".into()));
    through(&early, Version::V1_0).unwrap();
    assert!(through(&early, Version::V2_0).is_err());
}

#[test]
fn an_unknown_attribute_is_kept_as_it_came() {
    let raw = Raw::of(tag::ATTRIBUTE_VALUE, "odd", context(Version::V1_2)).unwrap();
    let mut attributes = Attributes::new();
    attributes.keep(Attribute {
        index: Some(3),
        value: V::Unknown(UnknownAttribute { name: Some("Odd One".into()), value: Some(raw) }),
    });
    assert_eq!(through(&attributes, Version::V1_2).unwrap(), attributes);
    assert!(through(&attributes, Version::V2_0).is_err(), "what has but a name has no form in 2.x");
    let raw = Raw::of(keyferry_ttlv::Tag::new(0x540001), "odd", context(Version::V2_0)).unwrap();
    let mut tagged = Attributes::new();
    tagged.keep(V::Unknown(UnknownAttribute { name: None, value: Some(raw) }).into());
    assert_eq!(through(&tagged, Version::V2_0).unwrap(), tagged);
    assert!(through(&tagged, Version::V1_2).is_err());
}

#[test]
fn parting_loses_nothing_and_what_is_carried_arrives_as_it_was() {
    let mut gap = some();
    gap.retain(|a| a.value != name("a"));
    let odd = some().with(V::QuantumSafe(true)).with(V::OperationPolicyName("default".into())).with(V::Custom(CustomAttribute {
        vendor: "acme".into(),
        name: "n".into(),
        value: Some(Value::Integer(1)),
    }));
    for attributes in [Attributes::new(), some(), gap, odd] {
        for version in VERSIONS {
            let (carried, rest) = part(&attributes, *version);
            assert_eq!(carried.len() + rest.len(), attributes.len(), "{version}");
            let mut arrived = through(&carried, *version).unwrap();
            rest.iter().for_each(|attribute| arrived.keep(attribute.clone()));
            let plain = |attributes: &Attributes| {
                let mut all: Vec<String> = attributes.iter().map(|a| format!("{} {:?}", a.index.unwrap_or(0), a.value)).collect();
                all.sort();
                all
            };
            assert_eq!(plain(&arrived), plain(&attributes), "{version}");
        }
    }
}

#[test]
fn what_is_visible_can_be_written_in_the_version() {
    let parameters = CryptographicParameters {
        padding_method: Some(PaddingMethod::OAEP),
        cryptographic_algorithm: Some(CryptographicAlgorithm::AES),
        mask_generator: Some(MaskGenerator::MGF1),
        ..CryptographicParameters::default()
    };
    let digest = Digest {
        hashing_algorithm: HashingAlgorithm::SHA_1,
        value: None,
        key_format_type: Some(KeyFormatType::RAW),
        extra: Extra::NONE,
    };
    let all = some().with(V::CryptographicParameters(parameters.into())).with(V::Digest(digest)).with(V::QuantumSafe(true));
    for version in VERSIONS {
        let seen = visible(&all, *version);
        assert_eq!(seen.len(), if *version >= Version::V2_0 { 9 } else { 8 });
        assert_eq!(through(&seen, *version).unwrap(), seen, "{version}");
    }
    assert_eq!(visible(&all, Version::V2_1), all);
}

#[test]
fn references_are_names_in_1_x_and_tags_in_2_x() {
    let references =
        vec![AttributeReference::Standard(tag::NAME), AttributeReference::Custom { vendor: "x".into(), name: "c".into() }];
    for version in VERSIONS {
        let request = GetAttributesRequest {
            unique_identifier: None,
            references: keyferry_kmip::attribute::AttributeReferences(references.clone()),
            extra: Extra::NONE,
        };
        let item = RequestItem::new(&request, context(*version)).unwrap();
        assert_eq!(item.payload::<GetAttributesRequest>(context(*version)).unwrap().references.0, references, "{version}");
    }
    assert_eq!(name("n").reference(), AttributeReference::Standard(tag::NAME));
    assert_eq!(references[1].to_string(), "x-c");
}

#[test]
fn setting_and_adding_keep_single_attributes_single() {
    let mut attributes = some();
    attributes.set(V::State(State::DESTROYED));
    attributes.set_default(V::State(State::PRE_ACTIVE));
    assert_eq!(attributes.all(tag::STATE).collect::<Vec<_>>(), [&V::State(State::DESTROYED)]);
    attributes.remove(tag::NAME);
    attributes.push(name("new"));
    assert_eq!(attributes.iter().last().unwrap().index, None, "the first instance needs no index");
}
