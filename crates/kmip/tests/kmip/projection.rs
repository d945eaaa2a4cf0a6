//! Attributes in both projections.

use keyferry_kmip::attribute::AttributeReference;
use keyferry_kmip::projection::{split_by_version, visible_in_version};
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
        ["a", "b", "a"]
            .iter()
            .for_each(|value| bare.keep(name(value).into()));
        bare
    };
    for version in VERSIONS {
        let item = RequestItem::new(&request(bare.clone()), context(*version)).unwrap();
        assert_eq!(
            item.payload::<LocateRequest>(context(*version))
                .unwrap()
                .attributes,
            bare
        );
    }
}

#[test]
fn indices_go_on_behind_those_that_are_there() {
    let mut attributes = Attributes::new();
    for (index, value) in [(Some(4), "a"), (None, "b"), (Some(2), "c"), (None, "d")] {
        attributes.keep(Attribute {
            index,
            value: name(value),
        });
    }
    attributes.number();
    assert_eq!(
        attributes.iter().map(|a| a.index).collect::<Vec<_>>(),
        [Some(4), Some(5), Some(2), Some(6)]
    );
}

/// What looks at each attribute for each of them would take hours here.
#[test]
fn a_message_of_many_small_attributes_is_read_in_time() {
    let many = 200_000;
    let unknown = Raw::of(
        keyferry_ttlv::Tag::new(0x54ABCD),
        "",
        context(Version::V2_1),
    )
    .unwrap();
    let mut attributes = Attributes::new();
    for _ in 0..many {
        attributes.keep(
            V::Unknown(UnknownAttribute {
                name: None,
                value: Some(unknown.clone()),
            })
            .into(),
        );
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
        assert_eq!(
            through(&attributes, *version).unwrap(),
            attributes,
            "{version}"
        );
    }
}

#[test]
fn a_vendor_x_or_y_is_a_prefix_in_1_x_and_others_have_no_form_there() {
    let x = CustomAttribute::text("n", "v");
    assert_eq!(x.named().as_deref(), Some("x-n"));
    let acme = Attributes::new().with(V::Custom(CustomAttribute {
        vendor: "acme".into(),
        ..x
    }));
    through(&acme, Version::V2_0).unwrap();
    assert!(matches!(
        through(&acme, Version::V1_4).unwrap_err().kind(),
        ErrorKind::Value(_)
    ));
}

#[test]
fn an_attribute_outside_its_versions_is_not_written() {
    let late = Attributes::new().with(V::QuantumSafe(true));
    let error = through(&late, Version::V1_4).unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::NotInVersion {
                since: Version::V2_0,
                ..
            }
        ),
        "{error}"
    );
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
        value: V::Unknown(UnknownAttribute {
            name: Some("Odd One".into()),
            value: Some(raw),
        }),
    });
    assert_eq!(through(&attributes, Version::V1_2).unwrap(), attributes);
    assert!(
        through(&attributes, Version::V2_0).is_err(),
        "what has but a name has no form in 2.x"
    );
    let raw = Raw::of(
        keyferry_ttlv::Tag::new(0x540001),
        "odd",
        context(Version::V2_0),
    )
    .unwrap();
    let mut tagged = Attributes::new();
    tagged.keep(
        V::Unknown(UnknownAttribute {
            name: None,
            value: Some(raw),
        })
        .into(),
    );
    assert_eq!(through(&tagged, Version::V2_0).unwrap(), tagged);
    assert!(through(&tagged, Version::V1_2).is_err());
}

#[test]
fn parting_loses_nothing_and_what_is_carried_arrives_as_it_was() {
    let mut gap = some();
    gap.retain(|a| a.value != name("a"));
    let odd = some()
        .with(V::QuantumSafe(true))
        .with(V::OperationPolicyName("default".into()))
        .with(V::Custom(CustomAttribute {
            vendor: "acme".into(),
            name: "n".into(),
            value: Some(Value::Integer(1)),
        }));
    for attributes in [Attributes::new(), some(), gap, odd] {
        for version in VERSIONS {
            let (carried, rest) = split_by_version(&attributes, *version);
            assert_eq!(carried.len() + rest.len(), attributes.len(), "{version}");
            let mut arrived = through(&carried, *version).unwrap();
            rest.iter()
                .for_each(|attribute| arrived.keep(attribute.clone()));
            let plain = |attributes: &Attributes| {
                let mut all: Vec<String> = attributes
                    .iter()
                    .map(|a| format!("{} {:?}", a.index.unwrap_or(0), a.value))
                    .collect();
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
    let all = some()
        .with(V::CryptographicParameters(parameters.into()))
        .with(V::Digest(digest))
        .with(V::QuantumSafe(true));
    for version in VERSIONS {
        let seen = visible_in_version(&all, *version);
        assert_eq!(seen.len(), if *version >= Version::V2_0 { 9 } else { 8 });
        let values = |attributes: &Attributes| {
            attributes
                .iter()
                .map(|a| a.value.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            values(&through(&seen, *version).unwrap()),
            values(&seen),
            "{version}"
        );
    }
    assert_eq!(visible_in_version(&all, Version::V2_1).len(), all.len());
}

#[test]
fn references_are_names_in_1_x_and_tags_in_2_x() {
    let references = vec![
        AttributeReference::Standard(tag::NAME),
        AttributeReference::Custom {
            vendor: "x".into(),
            name: "c".into(),
        },
    ];
    for version in VERSIONS {
        let request = GetAttributesRequest {
            unique_identifier: None,
            references: keyferry_kmip::attribute::AttributeReferences(references.clone()),
            extra: Extra::NONE,
        };
        let item = RequestItem::new(&request, context(*version)).unwrap();
        assert_eq!(
            item.payload::<GetAttributesRequest>(context(*version))
                .unwrap()
                .references
                .0,
            references,
            "{version}"
        );
    }
    assert_eq!(
        name("n").reference(),
        AttributeReference::Standard(tag::NAME)
    );
    assert_eq!(references[1].to_string(), "x-c");
}

#[test]
fn setting_and_adding_keep_single_attributes_single() {
    let mut attributes = some();
    attributes.set(V::State(State::DESTROYED));
    attributes.set_default(V::State(State::PRE_ACTIVE));
    assert_eq!(
        attributes.all(tag::STATE).collect::<Vec<_>>(),
        [&V::State(State::DESTROYED)]
    );
    attributes.remove(tag::NAME);
    attributes.push(name("new"));
    assert_eq!(
        attributes.iter().last().unwrap().index,
        None,
        "the first instance needs no index"
    );
}

fn raw(
    tag: keyferry_ttlv::Tag,
    version: Version,
    write: impl FnOnce(&mut keyferry_ttlv::Writer),
) -> Raw {
    let mut w = keyferry_ttlv::Writer::new(context(version));
    w.structure(tag, |w| {
        write(w);
        Ok(())
    })
    .unwrap();
    let frame = w.finish();
    let r = keyferry_ttlv::Reader::new(&frame, context(version));
    r.child(keyferry_ttlv::Item::parse(&frame).unwrap())
        .unwrap()
}

#[test]
fn a_reference_is_what_it_was_or_an_error() {
    let read = |write: &dyn Fn(&mut keyferry_ttlv::Writer)| {
        raw(tag::REQUEST_PAYLOAD, Version::V2_1, write)
            .read::<GetAttributesRequest>(context(Version::V2_1))
    };
    // An extension's number is no tag, and to cut it off would name another attribute.
    read(&|w| w.enumeration(tag::ATTRIBUTE_REFERENCE, 0x8042_0092)).unwrap_err();
    let valued = |w: &mut keyferry_ttlv::Writer| {
        w.structure(tag::ATTRIBUTE_REFERENCE, |w| {
            w.text(tag::VENDOR_IDENTIFICATION, "acme")?;
            w.text(tag::ATTRIBUTE_NAME, "colour")?;
            w.text(tag::ATTRIBUTE_VALUE, "red")
        })
        .unwrap();
    };
    read(&valued).unwrap_err();
    let asked = |reference, version| {
        let request = GetAttributesRequest {
            unique_identifier: None,
            references: AttributeReferences(vec![reference]),
            extra: Extra::NONE,
        };
        RequestItem::new(&request, context(version))
    };
    let acme = || AttributeReference::Custom {
        vendor: "acme".into(),
        name: "colour".into(),
    };
    asked(acme(), Version::V2_1).unwrap();
    asked(acme(), Version::V1_4).unwrap_err();
    asked(
        AttributeReference::Standard(keyferry_ttlv::Tag::new(0x54ABCD)),
        Version::V2_1,
    )
    .unwrap();
    asked(
        AttributeReference::Standard(keyferry_ttlv::Tag::new(0x54ABCD)),
        Version::V1_4,
    )
    .unwrap_err();
    asked(
        AttributeReference::Standard(tag::ROTATE_NAME),
        Version::V1_4,
    )
    .unwrap_err();
    asked(
        AttributeReference::Standard(tag::CERTIFICATE_IDENTIFIER),
        Version::V2_1,
    )
    .unwrap_err();
}

#[test]
fn one_attribute_is_one() {
    let add = |version, write: &dyn Fn(&mut keyferry_ttlv::Writer)| {
        raw(tag::REQUEST_PAYLOAD, version, write).read::<AddAttributeRequest>(context(version))
    };
    let comment = |w: &mut keyferry_ttlv::Writer| w.text(tag::COMMENT, "c").unwrap();
    let new = |times: usize| {
        move |w: &mut keyferry_ttlv::Writer| {
            w.structure(tag::NEW_ATTRIBUTE, |w| {
                (0..times).for_each(|_| comment(w));
                Ok(())
            })
            .unwrap();
        }
    };
    add(Version::V2_1, &new(1)).unwrap();
    for times in [0, 2] {
        add(Version::V2_1, &new(times)).unwrap_err();
    }
    add(Version::V2_1, &|_| {}).unwrap_err();
    add(Version::V2_1, &|w| {
        new(1)(w);
        new(1)(w);
    })
    .unwrap_err();
    let named = |w: &mut keyferry_ttlv::Writer| {
        w.structure(tag::ATTRIBUTE, |w| {
            w.text(tag::ATTRIBUTE_NAME, "Comment")?;
            w.text(tag::ATTRIBUTE_VALUE, "c")
        })
        .unwrap();
    };
    add(Version::V1_4, &named).unwrap();
    add(Version::V1_4, &|w| {
        named(w);
        named(w);
    })
    .unwrap_err();
    add(Version::V1_4, &|_| {}).unwrap_err();
}

/// What is let pass is no reason to take an attribute for one that is not known.
#[test]
fn leniency_reads_a_name_with_odd_padding() {
    let mut bytes = raw(tag::REQUEST_PAYLOAD, Version::V1_4, |w| {
        w.structure(tag::ATTRIBUTE, |w| {
            w.text(tag::ATTRIBUTE_NAME, "State")?;
            w.enumeration(tag::ATTRIBUTE_VALUE, State::ACTIVE.0);
            Ok(())
        })
        .unwrap();
    })
    .bytes()
    .to_vec();
    bytes[31] = 1;
    let lenient = keyferry_ttlv::Context {
        lenient: keyferry_ttlv::Lenient::ALWAYS,
        ..context(Version::V1_4)
    };
    let r = keyferry_ttlv::Reader::new(&bytes, lenient);
    let item: Raw = r
        .child(keyferry_ttlv::Item::parse(&bytes).unwrap())
        .unwrap();
    let request = item.read::<LocateRequest>(lenient).unwrap();
    assert_eq!(request.attributes.state(), Some(State::ACTIVE));
}

/// A deleted attribute is an Attribute without a value in 1.x and a reference in 2.x.
#[test]
fn a_notify_tells_of_deletions() {
    let deleted = |index| DeletedAttribute {
        reference: AttributeReference::Standard(tag::OBJECT_GROUP),
        index,
    };
    let notify = |index| NotifyRequest {
        unique_identifier: "1".into(),
        attributes: Attributes::new().with(V::LastChangeDate(DateTime(1))),
        deleted: DeletedAttributes(vec![deleted(index)]),
        extra: Extra::NONE,
    };
    for version in VERSIONS {
        let item = RequestItem::new(&notify(None), context(*version)).unwrap();
        assert_eq!(
            item.payload::<NotifyRequest>(context(*version)).unwrap(),
            notify(None),
            "{version}"
        );
    }
    let second = RequestItem::new(&notify(Some(1)), context(Version::V1_4)).unwrap();
    assert_eq!(
        second
            .payload::<NotifyRequest>(context(Version::V1_4))
            .unwrap(),
        notify(Some(1))
    );
    RequestItem::new(&notify(Some(1)), context(Version::V2_0)).unwrap_err();
}

#[test]
fn template_names_come_along_until_1_4() {
    let create = CreateRequest {
        object_type: ObjectType::SYMMETRIC_KEY,
        attributes: TemplateAttribute {
            names: vec![Name::text("house rules")],
            attributes: some(),
        },
        protection_storage_masks: None,
        extra: Extra::NONE,
    };
    for version in VERSIONS {
        match RequestItem::new(&create, context(*version)) {
            Ok(item) => assert_eq!(
                item.payload::<CreateRequest>(context(*version)).unwrap(),
                create
            ),
            Err(_) => assert!(*version >= Version::V2_0),
        }
    }
}

/// Two of the standard's own test cases have one.
#[test]
fn an_attribute_without_its_name_is_kept_and_lost_in_2_x() {
    let nameless = |w: &mut keyferry_ttlv::Writer| {
        w.structure(tag::ATTRIBUTE, |w| {
            w.integer(tag::ATTRIBUTE_INDEX, 2);
            w.text(tag::ATTRIBUTE_VALUE, "v")
        })
        .unwrap();
    };
    let cx = context(Version::V1_4);
    let payload = raw(tag::REQUEST_PAYLOAD, Version::V1_4, nameless);
    let request: LocateRequest = payload.read(cx).unwrap();
    assert_eq!(
        Raw::of(tag::REQUEST_PAYLOAD, &request, cx).unwrap().bytes(),
        payload.bytes()
    );
    let (kept, loss) = downgraded(request, Version::V1_4, Version::V2_0);
    assert_eq!((kept, loss.len()), (None, 1));
    let empty = raw(tag::REQUEST_PAYLOAD, Version::V1_4, |w| {
        w.structure(tag::ATTRIBUTE, |_| Ok(())).unwrap()
    });
    empty.read::<LocateRequest>(cx).unwrap_err();
}
