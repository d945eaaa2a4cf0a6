//! Add, Modify and Delete Attribute.

use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_ttlv::{Extra, Version};

fn one_x() -> impl Iterator<Item = Version> {
    ALL.into_iter().filter(|v| *v < Version::V2_0)
}

fn two_x() -> impl Iterator<Item = Version> {
    ALL.into_iter().filter(|v| *v >= Version::V2_0)
}

fn read_only(version: Version) -> ResultReason {
    by(
        version,
        ResultReason::PERMISSION_DENIED,
        ResultReason::ATTRIBUTE_READ_ONLY,
    )
}

fn names(client: &Client, id: &str) -> Vec<(i32, String)> {
    let attributes = client.attributes(id);
    let names = attributes.iter().filter_map(|a| match &a.value {
        V::Name(name) => Some((a.index.unwrap_or(0), name.value.to_string())),
        _ => None,
    });
    names.collect()
}

#[test]
fn indices_count_up_and_are_never_moved() {
    for version in one_x() {
        let host = Host::new();
        let client = host.client(version);
        let id = client.create(named("zero"));
        let added = client.add(&id, name("one")).unwrap();
        assert_eq!(
            added.iter().next().unwrap(),
            &Attribute {
                index: Some(1),
                value: name("one")
            },
            "{version}"
        );
        client.add(&id, name("two")).unwrap();
        let deleted = client
            .delete_at(&id, reference(tag::NAME), Some(1))
            .unwrap();
        assert_eq!(deleted.iter().next().unwrap().value, name("one"));
        assert_eq!(names(&client, &id), [(0, "zero".into()), (2, "two".into())]);
        let modified = client.modify_at(&id, Some(2), name("TWO")).unwrap();
        assert_eq!(
            modified.iter().next().unwrap(),
            &Attribute {
                index: Some(2),
                value: name("TWO")
            }
        );
        client.modify_at(&id, None, name("ZERO")).unwrap();
        assert_eq!(
            names(&client, &id),
            [(0, "ZERO".into()), (2, "TWO".into())],
            "no index means 0"
        );
        assert_eq!(
            reason(client.modify_at(&id, Some(1), name("x"))),
            ResultReason::ITEM_NOT_FOUND
        );
        assert_eq!(
            reason(client.delete_at(&id, reference(tag::NAME), Some(1))),
            ResultReason::ITEM_NOT_FOUND
        );
        assert_eq!(
            reason(client.delete_at(&id, reference(tag::NAME), Some(-1))),
            ResultReason::ITEM_NOT_FOUND
        );
    }
}

#[test]
fn delete_without_an_index_means_the_first_and_in_1_0_the_only_one() {
    for version in one_x() {
        let host = Host::new();
        let client = host.client(version);
        let id = client.create(named("zero").with(name("one")));
        let answered = client.delete_at(&id, reference(tag::NAME), None);
        assert_eq!(answered.is_err(), version == Version::V1_0, "{version}");
        if answered.is_ok() {
            assert_eq!(names(&client, &id), [(1, "one".into())]);
        }
    }
}

#[test]
fn add_takes_no_index() {
    let host = Host::new();
    let client = host.client(Version::V1_2);
    let id = client.create(none());
    let mut attribute = Attributes::new();
    attribute.keep(Attribute {
        index: Some(0),
        value: name("n"),
    });
    let request = AddAttributeRequest {
        unique_identifier: Some(id.as_str().into()),
        attribute,
        extra: Extra::NONE,
    };
    assert_eq!(
        reason(client.call::<_, AddAttributeResponse>(&request)),
        ResultReason::INVALID_FIELD
    );
}

#[test]
fn current_and_new_attribute_of_2_x() {
    for version in two_x() {
        let host = Host::new();
        let client = host.client(version);
        let id = client.create(named("a").with(name("b")));
        let answered = client.modify(&id, Some(name("b")), name("B")).unwrap();
        assert!(
            answered.is_empty(),
            "the response of 2.x holds no attribute"
        );
        assert_eq!(
            client
                .attributes(&id)
                .names()
                .map(|n| n.value.to_string())
                .collect::<Vec<_>>(),
            ["a", "B"]
        );
        assert_eq!(
            reason(client.modify(&id, None, name("c"))),
            ResultReason::INVALID_FIELD,
            "several values: which one?"
        );
        assert_eq!(
            reason(client.modify(&id, Some(name("none")), name("c"))),
            ResultReason::ATTRIBUTE_INSTANCE_NOT_FOUND
        );
        assert_eq!(
            reason(client.modify(&id, Some(V::Comment("x".into())), name("c"))),
            ResultReason::INVALID_FIELD
        );
        client.delete(&id, name("a")).unwrap();
        client.modify(&id, None, name("c")).unwrap();
        assert_eq!(
            client
                .attributes(&id)
                .names()
                .map(|n| n.value.to_string())
                .collect::<Vec<_>>(),
            ["c"]
        );
        assert_eq!(
            reason(client.delete(&id, name("a"))),
            ResultReason::ATTRIBUTE_INSTANCE_NOT_FOUND
        );
        client.add(&id, name("d")).unwrap();
        client.delete_all(&id, reference(tag::NAME)).unwrap();
        assert_eq!(
            client.attributes(&id).names().count(),
            0,
            "a reference means every instance"
        );
        assert_eq!(
            reason(client.delete_all(&id, reference(tag::NAME))),
            ResultReason::ATTRIBUTE_NOT_FOUND
        );
        assert_eq!(
            reason(client.modify(&id, None, name("e"))),
            ResultReason::ATTRIBUTE_NOT_FOUND
        );
    }
}

#[test]
fn a_single_valued_attribute_can_be_added_once() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let id = client.create(none());
        client.add(&id, V::ContactInformation("a".into())).unwrap();
        let expected = by(
            version,
            ResultReason::ILLEGAL_OPERATION,
            ResultReason::ATTRIBUTE_SINGLE_VALUED,
        );
        assert_eq!(
            reason(client.add(&id, V::ContactInformation("b".into()))),
            expected
        );
        assert_eq!(
            client.attributes(&id).get(tag::CONTACT_INFORMATION),
            Some(&V::ContactInformation("a".into()))
        );
    }
}

#[test]
fn custom_attributes_can_be_added_changed_and_deleted() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let id = client.create(none());
        let by_name = AttributeReference::Custom {
            vendor: "x".into(),
            name: "c".into(),
        };
        client.add(&id, custom("c", "1")).unwrap();
        if version < Version::V2_0 {
            client.modify_at(&id, None, custom("c", "2")).unwrap();
            assert!(
                client
                    .attributes(&id)
                    .iter()
                    .any(|a| a.value == custom("c", "2"))
            );
            client.delete_at(&id, by_name, None).unwrap();
        } else {
            client
                .modify(&id, Some(custom("c", "1")), custom("c", "2"))
                .unwrap();
            client.delete(&id, custom("c", "2")).unwrap();
        }
        assert!(
            !client
                .attributes(&id)
                .iter()
                .any(|a| matches!(a.value, V::Custom(_)))
        );
        let y = |value| {
            V::Custom(CustomAttribute {
                vendor: "y".into(),
                ..CustomAttribute::text("c", value)
            })
        };
        assert_eq!(reason(client.add(&id, y("1"))), read_only(version));
        assert_eq!(
            reason(client.add(&id, custom("s2s-master", "me"))),
            read_only(version)
        );
    }
}

#[test]
fn names_stay_unique() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let taken = format!("taken {version}");
        let (_, id) = (
            client.create(named(&taken)),
            client.create(named(&format!("free {version}"))),
        );
        let expected = by(
            version,
            ResultReason::ILLEGAL_OPERATION,
            ResultReason::NON_UNIQUE_NAME_ATTRIBUTE,
        );
        assert_eq!(reason(client.add(&id, name(&taken))), expected);
        let modified = if version < Version::V2_0 {
            client.modify_at(&id, None, name(&taken))
        } else {
            client.modify(&id, None, name(&taken))
        };
        assert_eq!(reason(modified), expected);
        assert_eq!(
            reason(client.add(&id, name(&format!("free {version}")))),
            expected,
            "its own name again is no new one"
        );
    }
}

#[test]
fn read_only_attributes_stay_as_they_are() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let id = client.create(none());
        let before = client.attributes(&id);
        host.pass(1);
        let values = [
            V::UniqueIdentifier("mine".into()),
            V::ObjectType(ObjectType::SECRET_DATA),
            V::CryptographicAlgorithm(CryptographicAlgorithm::DES),
            V::CryptographicLength(1),
            V::State(State::ACTIVE),
            V::InitialDate(DateTime(1)),
            V::LastChangeDate(DateTime(1)),
            V::DestroyDate(DateTime(1)),
            V::CompromiseDate(DateTime(1)),
            V::CompromiseOccurrenceDate(DateTime(1)),
            V::ArchiveDate(DateTime(1)),
            V::Digest(Digest {
                hashing_algorithm: HashingAlgorithm::MD5,
                value: None,
                key_format_type: None,
                extra: Extra::NONE,
            }),
            V::RevocationReason(RevocationReason {
                code: RevocationReasonCode::SUPERSEDED,
                message: None,
                extra: Extra::NONE,
            }),
            V::LeaseTime(Interval(9)),
            V::CryptographicUsageMask(CryptographicUsageMask::SIGN),
        ];
        for value in values {
            let modified = if version < Version::V2_0 {
                client.modify_at(&id, None, value.clone())
            } else {
                client.modify(&id, None, value.clone())
            };
            assert_eq!(
                reason(modified),
                read_only(version),
                "modify {value:?} in {version}"
            );
            assert_eq!(
                reason(client.add(&id, value.clone())),
                read_only(version),
                "add {value:?} in {version}"
            );
            let deleted = client.delete_at(&id, value.reference(), None);
            assert_eq!(
                reason(deleted),
                read_only(version),
                "delete {value:?} in {version}"
            );
        }
        assert_eq!(client.attributes(&id), before);
    }
}

#[test]
fn dates_can_be_moved_until_the_state_forbids_it() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let modify = |id: &str, value: V| {
            if version < Version::V2_0 {
                client.modify_at(id, None, value)
            } else {
                client.modify(id, None, value)
            }
        };
        let now = host.now().wall.0;
        let at = |seconds: i64| DateTime(now + seconds);
        let id = client.create(
            none()
                .with(V::ActivationDate(at(100)))
                .with(V::DeactivationDate(at(1000))),
        );
        modify(&id, V::ActivationDate(at(50))).unwrap();
        assert_eq!(client.state(&id), State::PRE_ACTIVE);
        modify(&id, V::ActivationDate(at(0))).unwrap();
        assert_eq!(client.state(&id), State::ACTIVE, "transition 4");
        let since_2_1 = version >= Version::V2_1;
        let late = if since_2_1 {
            ResultReason::WRONG_KEY_LIFECYCLE_STATE
        } else {
            ResultReason::PERMISSION_DENIED
        };
        assert_eq!(reason(modify(&id, V::ActivationDate(at(100)))), late);
        modify(&id, V::DeactivationDate(at(500))).unwrap();
        modify(&id, V::DeactivationDate(at(0))).unwrap();
        assert_eq!(client.state(&id), State::DEACTIVATED, "transition 6");
        assert_eq!(reason(modify(&id, V::DeactivationDate(at(500)))), late);
        for reference in [
            reference(tag::ACTIVATION_DATE),
            reference(tag::DEACTIVATION_DATE),
        ] {
            assert_eq!(
                reason(client.delete_at(&id, reference, None)),
                read_only(version),
                "dates can't be deleted"
            );
        }
    }
}

#[test]
fn protect_stop_date_can_be_moved_until_it_is_reached() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let id = client.create(none().with(V::ProtectStopDate(DateTime(START + 10))));
    client
        .modify(&id, None, V::ProtectStopDate(DateTime(START + 20)))
        .unwrap();
    host.pass(20);
    assert_eq!(
        reason(client.modify(&id, None, V::ProtectStopDate(DateTime(START + 90)))),
        ResultReason::WRONG_KEY_LIFECYCLE_STATE
    );
}

#[test]
fn usage_limits_are_a_clients_to_set_before_anything_was_spent() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let limits = |total, count| {
        V::UsageLimits(UsageLimits {
            total,
            count,
            unit: UsageLimitsUnit::BYTE,
            extra: Extra::NONE,
        })
    };
    let id = client.create(none());
    client.add(&id, limits(10, Some(99))).unwrap();
    assert_eq!(
        client.attributes(&id).get(tag::USAGE_LIMITS),
        Some(&limits(10, Some(10))),
        "the count is the server's"
    );
    client.modify(&id, None, limits(20, None)).unwrap();
    assert_eq!(
        client.attributes(&id).get(tag::USAGE_LIMITS),
        Some(&limits(20, Some(20)))
    );
    client
        .import(
            "spent",
            Some(key(&[4; 16])),
            none().with(limits(10, Some(5))),
            false,
        )
        .unwrap();
    assert_eq!(
        reason(client.modify("spent", None, limits(20, None))),
        ResultReason::ATTRIBUTE_READ_ONLY
    );
    assert_eq!(
        reason(client.delete("spent", limits(10, Some(5)))),
        ResultReason::ATTRIBUTE_READ_ONLY
    );
}

#[test]
fn every_change_sets_the_last_change_date_and_a_refusal_does_not() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let id = client.create(none());
    let last = || client.attributes(&id).date(tag::LAST_CHANGE_DATE).unwrap();
    host.pass(5);
    client.add(&id, name("n")).unwrap();
    assert_eq!(last(), DateTime(START + 5));
    host.pass(5);
    client.modify(&id, None, name("m")).unwrap();
    assert_eq!(last(), DateTime(START + 10));
    host.pass(5);
    client.delete(&id, name("m")).unwrap();
    assert_eq!(last(), DateTime(START + 15));
    host.pass(5);
    client.delete(&id, name("m")).unwrap_err();
    client
        .modify(&id, None, V::State(State::ACTIVE))
        .unwrap_err();
    client.get(&id).unwrap();
    assert_eq!(last(), DateTime(START + 15));
}

#[test]
fn empty_names_and_unknown_attributes_are_refused() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let id = client.create(none());
        assert_eq!(
            reason(client.add(&id, name(""))),
            by(
                version,
                ResultReason::INVALID_FIELD,
                ResultReason::INVALID_ATTRIBUTE_VALUE
            )
        );
        let unknown = if version < Version::V2_0 {
            AttributeReference::Unknown("No Such Attribute".into())
        } else {
            AttributeReference::Standard(tag::BATCH_COUNT)
        };
        let answered = client.delete_at(&id, unknown, None);
        assert_eq!(
            reason(answered),
            by(
                version,
                ResultReason::INVALID_FIELD,
                ResultReason::INVALID_ATTRIBUTE
            ),
            "{version}"
        );
    }
}

#[test]
fn a_link_may_not_point_to_a_placeholder() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let id = client.create(none());
    let link = Link {
        link_type: LinkType::PUBLIC_KEY_LINK,
        target: UniqueIdentifier::Enumeration(UniqueIdentifierEnumeration::ID_PLACEHOLDER),
        extra: Extra::NONE,
    };
    assert!(
        client.add(&id, V::Link(link.clone())).is_err(),
        "other versions and servers could not read it"
    );
    client
        .add(
            &id,
            V::Link(Link {
                target: "other".into(),
                ..link
            }),
        )
        .unwrap();
}

#[test]
fn the_original_creation_date_may_be_told_late_and_once() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let id = client.register(key(&[1; 16]), none());
    client
        .add(&id, V::OriginalCreationDate(DateTime(7)))
        .unwrap();
    assert_eq!(
        reason(client.add(&id, V::OriginalCreationDate(DateTime(8)))),
        ResultReason::ATTRIBUTE_READ_ONLY
    );
    assert_eq!(
        reason(client.modify(&id, None, V::OriginalCreationDate(DateTime(8)))),
        ResultReason::ATTRIBUTE_READ_ONLY
    );
    assert_eq!(
        client.attributes(&id).date(tag::ORIGINAL_CREATION_DATE),
        Some(DateTime(7))
    );
}
