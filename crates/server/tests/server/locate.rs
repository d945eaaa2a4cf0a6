//! Locate.

use crate::objects;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_store::{Fault, Store};
use keyferry_ttlv::{Extra, Value, Version};

const ON_LINE: StorageStatusMask = StorageStatusMask::ON_LINE_STORAGE;
const DESTROYED: StorageStatusMask = StorageStatusMask::DESTROYED_STORAGE;

fn shown(client: &Client, attributes: Attributes, mask: StorageStatusMask) -> Vec<String> {
    let request = LocateRequest {
        storage_status_mask: Some(mask),
        ..client.locate_request(attributes)
    };
    client.locate_by(&request).unwrap().0
}

#[test]
fn without_attributes_every_object_is_found_newest_first() {
    let host = Host::new();
    let mut ids: Vec<String> = (0..5).map(|n| host.client(ALL[n]).create(none())).collect();
    ids.reverse();
    for version in ALL {
        assert_eq!(host.client(version).locate(none()), ids, "{version}");
    }
}

#[test]
fn by_name_in_every_version() {
    let host = Host::new();
    let id = host
        .client(Version::V1_0)
        .create(named("one").with(name("two")));
    host.client(Version::V1_0).create(named("on"));
    for version in ALL {
        let client = host.client(version);
        assert_eq!(client.locate(named("one")), [id.clone()]);
        assert_eq!(
            client.locate(named("two").with(name("one"))),
            [id.clone()],
            "all criteria must match"
        );
        assert!(client.locate(named("one").with(name("on"))).is_empty());
        assert!(client.locate(named("ONE")).is_empty());
        assert!(
            client
                .locate(none().with(V::Name(Name {
                    name_type: NameType::URI,
                    ..Name::text("one")
                })))
                .is_empty()
        );
    }
}

#[test]
fn by_long_names_that_begin_alike() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let (one, other) = ("n".repeat(5000) + "1", "n".repeat(5000) + "2");
    let first = client.create(named(&one));
    let second = client.create(named(&other));
    assert_eq!(client.locate(named(&one)), [first]);
    assert_eq!(client.locate(named(&other)), [second]);
    assert!(client.locate(named(&"n".repeat(5000))).is_empty());
    let odd = client.create(named("a\0b\u{1F511}"));
    assert_eq!(client.locate(named("a\0b\u{1F511}")), [odd]);
    assert!(client.locate(named("a")).is_empty());
}

#[test]
fn by_object_type_and_other_plain_attributes() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let mut by_type: Vec<(ObjectType, Vec<String>)> = Vec::new();
    for (_, object) in objects::all(Version::V2_1) {
        let object_type = object.object_type();
        let id = client.register(object, none());
        match by_type.iter_mut().find(|(t, _)| *t == object_type) {
            Some((_, ids)) => ids.insert(0, id),
            None => by_type.push((object_type, vec![id])),
        }
    }
    for (object_type, ids) in by_type {
        assert_eq!(client.locate(none().with(V::ObjectType(object_type))), ids);
    }
    let id = client.create(
        none()
            .with(V::ContactInformation("joe".into()))
            .with(V::ObjectGroup("blue".into()))
            .with(V::CryptographicParameters(Box::default()))
            .with(V::UsageLimits(UsageLimits {
                total: 9,
                count: None,
                unit: UsageLimitsUnit::BYTE,
                extra: Extra::NONE,
            })),
    );
    for value in [
        V::ContactInformation("joe".into()),
        V::ObjectGroup("blue".into()),
        V::UniqueIdentifier(id.as_str().into()),
        V::CryptographicParameters(Box::default()),
        V::UsageLimits(UsageLimits {
            total: 9,
            count: None,
            unit: UsageLimitsUnit::BYTE,
            extra: Extra::NONE,
        }),
    ] {
        assert_eq!(
            client.locate(none().with(value.clone())),
            [id.clone()],
            "{value:?}"
        );
    }
    assert_eq!(
        client.locate(none().with(V::CryptographicUsageMask(CryptographicUsageMask::DECRYPT))),
        [id.clone()]
    );
    assert!(
        client
            .locate(none().with(V::CryptographicUsageMask(CryptographicUsageMask::SIGN)))
            .is_empty()
    );
    assert!(
        client
            .locate(none().with(V::ObjectGroup("red".into())))
            .is_empty()
    );
}

#[test]
fn by_custom_attributes_of_every_type() {
    let host = Host::new();
    let values = [
        Value::Text("t".into()),
        Value::Integer(-7),
        Value::LongInteger(1 << 40),
        Value::BigInteger(vec![1, 2, 3, 4, 5, 6, 7, 8]),
        Value::Enumeration(5),
        Value::Boolean(true),
        Value::Bytes(vec![1, 2]),
        Value::DateTime(DateTime(77)),
        Value::Interval(Interval(9)),
    ];
    for version in ALL {
        for (n, value) in values.iter().enumerate() {
            let client = host.client(version);
            let attribute = |value: &Value| {
                V::Custom(CustomAttribute {
                    vendor: "x".into(),
                    name: format!("n{n} {version}").into(),
                    value: Some(value.clone()),
                })
            };
            let id = client.create(none().with(attribute(value)));
            assert_eq!(
                client.locate(none().with(attribute(value))),
                [id.clone()],
                "{value:?} {version}"
            );
            assert!(
                client
                    .locate(none().with(attribute(&Value::Text("other".into()))))
                    .is_empty()
            );
            assert!(
                client
                    .attributes(&id)
                    .iter()
                    .any(|a| a.value == attribute(value)),
                "{value:?} {version}"
            );
        }
    }
}

#[test]
fn the_vendor_x_of_2_x_is_the_prefix_x_of_1_x() {
    let host = Host::new();
    let id = host
        .client(Version::V1_2)
        .create(none().with(custom("colour", "red")));
    let client = host.client(Version::V2_0);
    assert_eq!(
        client.locate(none().with(custom("colour", "red"))),
        [id.clone()]
    );
    client
        .add(
            &id,
            V::Custom(CustomAttribute {
                vendor: "acme".into(),
                ..CustomAttribute::text("colour", "blue")
            }),
        )
        .unwrap();
    assert!(
        client
            .locate(none().with(custom("colour", "blue")))
            .is_empty(),
        "another vendor's is another attribute"
    );
    let seen = host.client(Version::V1_4).attributes(&id);
    assert_eq!(
        seen.iter()
            .filter(|a| matches!(a.value, V::Custom(_)))
            .count(),
        1,
        "1.x has no form for a vendor's"
    );
}

#[test]
fn by_state_including_the_states_that_dates_lead_to() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let id = client.create(
        none()
            .with(V::ActivationDate(DateTime(START + 10)))
            .with(V::DeactivationDate(DateTime(START + 20))),
    );
    let by = |state| client.locate(none().with(V::State(state)));
    assert_eq!(by(State::PRE_ACTIVE), [id.clone()]);
    host.pass(10);
    assert_eq!(
        (by(State::PRE_ACTIVE).len(), by(State::ACTIVE)),
        (0, vec![id.clone()])
    );
    host.pass(10);
    assert_eq!(
        (by(State::ACTIVE).len(), by(State::DEACTIVATED)),
        (0, vec![id.clone()])
    );
    client
        .revoke(&id, RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    assert_eq!(
        (by(State::DEACTIVATED).len(), by(State::COMPROMISED)),
        (0, vec![id.clone()])
    );
    client.destroy(&id).unwrap();
    assert!(
        by(State::DESTROYED_COMPROMISED).is_empty(),
        "destroyed objects have to be asked for"
    );
    assert_eq!(
        shown(
            &client,
            none().with(V::State(State::DESTROYED_COMPROMISED)),
            DESTROYED
        ),
        [id]
    );
}

#[test]
fn the_storage_status_mask_says_whether_destroyed_objects_are_found() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let (kept, gone) = (client.create(named("kept")), client.create(named("gone")));
    client.destroy(&gone).unwrap();
    assert_eq!(client.locate(none()), [kept.clone()]);
    assert_eq!(shown(&client, none(), ON_LINE), [kept.clone()]);
    assert_eq!(shown(&client, none(), DESTROYED), [gone.clone()]);
    assert_eq!(shown(&client, named("gone"), DESTROYED), [gone.clone()]);
    assert!(client.locate(named("gone")).is_empty());
    assert_eq!(shown(&client, none(), ON_LINE | DESTROYED), [gone, kept]);
    assert!(shown(&client, none(), StorageStatusMask::ARCHIVAL_STORAGE).is_empty());
}

#[test]
fn by_one_date_by_a_range_and_by_none() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let group = V::ObjectGroup(format!("{version}").into());
        let ids: Vec<String> = (0..4)
            .map(|n| {
                client.create(
                    none()
                        .with(group.clone())
                        .with(V::ActivationDate(DateTime(START + 100 + n))),
                )
            })
            .collect();
        let dateless = client.create(none().with(group.clone()));
        let find = |dates: &[i64]| {
            let mut attributes = none().with(group.clone());
            dates
                .iter()
                .for_each(|date| attributes.keep(V::ActivationDate(DateTime(*date)).into()));
            client.locate(attributes)
        };
        assert_eq!(find(&[START + 101]), [ids[1].clone()]);
        assert_eq!(
            find(&[START + 101, START + 102]),
            [ids[2].clone(), ids[1].clone()]
        );
        assert_eq!(
            find(&[START + 102, START + 101]),
            [ids[2].clone(), ids[1].clone()],
            "ends in any order"
        );
        assert_eq!(find(&[START + 103, START + 103]), [ids[3].clone()]);
        assert!(find(&[START + 50]).is_empty());
        assert_eq!(
            find(&[i64::MAX]),
            [dateless],
            "the largest value means no such date"
        );
        let mut three = none();
        (0..3).for_each(|n| three.keep(V::ActivationDate(DateTime(START + n)).into()));
        assert_eq!(
            reason(client.locate_by(&client.locate_request(three))),
            ResultReason::INVALID_FIELD
        );
    }
}

#[test]
fn maximum_and_offset_items_page_through() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let mut ids: Vec<String> = (0..7).map(|_| client.create(none())).collect();
    ids.reverse();
    for version in ALL.into_iter().filter(|v| *v >= Version::V1_3) {
        let client = host.client(version);
        let page = |offset, maximum| {
            let request = LocateRequest {
                maximum_items: maximum,
                offset_items: offset,
                ..client.locate_request(none())
            };
            client.locate_by(&request).unwrap()
        };
        assert_eq!(page(None, Some(3)).0, ids[..3]);
        assert_eq!(page(Some(3), Some(3)).0, ids[3..6]);
        assert_eq!(page(Some(6), Some(3)), (ids[6..].to_vec(), Some(7)));
        assert_eq!(page(Some(7), Some(3)), (Vec::new(), Some(7)));
        assert_eq!(page(Some(2), None), (ids[2..].to_vec(), Some(7)));
        assert_eq!(
            page(Some(0), Some(2)),
            (ids[..2].to_vec(), Some(7)),
            "Located Items counts all"
        );
        assert_eq!(page(None, Some(2)).1, None, "and is told to those who page");
        assert_eq!(page(None, Some(0)).0.len(), 0);
    }
    let old = host.client(Version::V1_0);
    let request = LocateRequest {
        maximum_items: Some(2),
        ..old.locate_request(none())
    };
    assert_eq!(old.locate_by(&request).unwrap(), (ids[..2].to_vec(), None));
}

#[test]
fn a_negative_count_is_refused() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    for (maximum_items, offset_items) in [(Some(-1), None), (None, Some(-1))] {
        let request = LocateRequest {
            maximum_items,
            offset_items,
            ..client.locate_request(none())
        };
        assert_eq!(
            reason(client.locate_by(&request)),
            ResultReason::INVALID_FIELD
        );
    }
}

#[test]
fn unknown_attributes_are_refused_with_the_reason_of_the_version() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        // An attribute of a later version is unknown in 1.x; in 2.x one that was taken out.
        let unknown = if version < Version::V2_0 {
            let raw = keyferry_ttlv::Raw::of(tag::ATTRIBUTE_VALUE, "v", client.cx()).unwrap();
            V::Unknown(UnknownAttribute {
                name: Some("No Such Attribute".into()),
                value: Some(raw),
            })
        } else {
            V::Unknown(UnknownAttribute {
                name: None,
                value: Some(
                    keyferry_ttlv::Raw::of(tag::OPERATION_POLICY_NAME, "default", client.cx())
                        .unwrap(),
                ),
            })
        };
        let mut attributes = none();
        attributes.keep(unknown.into());
        let expected = by(
            version,
            ResultReason::INVALID_FIELD,
            ResultReason::INVALID_ATTRIBUTE,
        );
        assert_eq!(
            reason(client.locate_by(&client.locate_request(attributes))),
            expected,
            "{version}"
        );
    }
}

#[test]
fn changed_attributes_are_found_by_their_new_value_alone() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let id = client.create(named("old").with(custom("c", "old")));
    client.modify(&id, None, name("new")).unwrap();
    client.modify(&id, None, custom("c", "new")).unwrap();
    assert_eq!(
        (
            client.locate(named("old")).len(),
            client.locate(named("new"))
        ),
        (0, vec![id.clone()])
    );
    assert_eq!(
        (
            client.locate(none().with(custom("c", "old"))).len(),
            client.locate(none().with(custom("c", "new")))
        ),
        (0, vec![id.clone()])
    );
    client.delete(&id, name("new")).unwrap();
    assert!(client.locate(named("new")).is_empty());
    let other = client.create(named("new"));
    assert_eq!(client.locate(named("new")), [other]);
}

#[test]
fn a_store_that_fails_at_what_it_knows_of_others_fails_the_locate() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    client.register(key(&[1; 16]), named("n"));
    let wanted = || client.locate_request(none().with(custom("s2s-slave-b", "1")));
    assert_eq!(client.locate_by(&wanted()).unwrap().0, [""; 0]);
    // What is stored of a replica makes no sense.
    host.store
        .write(&mut |tx| tx.set_state(b"foreign/slave/r", Some(b"garbage")))
        .unwrap();
    assert_eq!(
        reason(client.locate_by(&wanted())),
        ResultReason::INTERNAL_SERVER_ERROR
    );
    assert_eq!(
        client.locate(none()).len(),
        1,
        "others need no such knowledge"
    );
}

#[test]
fn a_store_that_crashes_in_a_locate_fails_it() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    client.register(key(&[1; 16]), named("n"));
    host.store.fail(1, Fault::Crash { committed: false });
    client
        .register_with(ObjectType::SYMMETRIC_KEY, Some(key(&[2; 16])), none())
        .unwrap_err();
    let wanted = client.locate_request(none().with(custom("s2s-slave-b", "1")));
    assert_eq!(
        reason(client.locate_by(&wanted)),
        ResultReason::INTERNAL_SERVER_ERROR
    );
}
