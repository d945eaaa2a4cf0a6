//! Leases, usage, archives, attributes that are set and adjusted, States that dates lead to, and what a Locate may ask.

use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_ttlv::{Extra, Raw, Value, Version};

fn limited(total: i64) -> Attributes {
    let limits = UsageLimits {
        total,
        count: None,
        unit: UsageLimitsUnit::BYTE,
        extra: Extra::NONE,
    };
    none()
        .with(V::UsageLimits(limits))
        .with(V::ActivationDate(DateTime(1)))
}

fn allocate(client: &Client, id: &str, count: i64) -> ItemResult {
    let request = GetUsageAllocationRequest {
        unique_identifier: Some(id.into()),
        usage_limits_count: count,
        extra: Extra::NONE,
    };
    client
        .call::<_, GetUsageAllocationResponse>(&request)
        .map(drop)
}

#[test]
fn usage_is_given_out_until_it_is_spent() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let id = client.create(limited(100));
        allocate(&client, &id, 60).unwrap();
        let spent = by(
            version,
            ResultReason::PERMISSION_DENIED,
            ResultReason::USAGE_LIMIT_EXCEEDED,
        );
        assert_eq!(reason(allocate(&client, &id, 41)), spent);
        allocate(&client, &id, 40).unwrap();
        assert_eq!(reason(allocate(&client, &id, 1)), spent);
        for nonsense in [0, -1, i64::MIN] {
            assert_eq!(
                reason(allocate(&client, &id, nonsense)),
                ResultReason::INVALID_FIELD
            );
        }
        let left = client.attributes(&id).iter().find_map(|a| match &a.value {
            V::UsageLimits(limits) => limits.count,
            _ => None,
        });
        assert_eq!(left, Some(0));
        assert!(
            allocate(
                &client,
                &client.create(none().with(V::ActivationDate(DateTime(1)))),
                1
            )
            .is_err(),
            "it has no limits"
        );
        let idle = client
            .create_with(aes(
                none().with(limited(5).iter().next().unwrap().value.clone())
            ))
            .unwrap();
        assert!(allocate(&client, &idle, 1).is_err(), "it is not Active");
    }
}

#[test]
fn check_says_what_stands_against_it() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let id = client.create(limited(100));
        let check = |count, mask, lease: Option<u32>| {
            client.call::<_, CheckResponse>(&CheckRequest {
                unique_identifier: Some(id.as_str().into()),
                usage_limits_count: count,
                cryptographic_usage_mask: mask,
                lease_time: lease.map(Interval),
                extra: Extra::NONE,
            })
        };
        let good = check(Some(100), Some(CryptographicUsageMask::ENCRYPT), Some(60)).unwrap();
        assert_eq!(good.unique_identifier, Some(id.as_str().into()));
        assert_eq!(
            (
                good.usage_limits_count,
                good.cryptographic_usage_mask,
                good.lease_time
            ),
            (None, None, None)
        );
        let long = check(None, None, Some(1_000_000)).unwrap();
        assert_eq!(
            (long.unique_identifier, long.lease_time),
            (None, Some(Interval(1_000_000)))
        );
        let (count, mask) = (
            check(Some(101), None, None),
            check(None, Some(CryptographicUsageMask::SIGN), None),
        );
        if version >= Version::V2_0 {
            assert_eq!(reason(count), ResultReason::USAGE_LIMIT_EXCEEDED);
            assert_eq!(
                reason(mask),
                ResultReason::INCOMPATIBLE_CRYPTOGRAPHIC_USAGE_MASK
            );
        } else {
            assert_eq!(count.unwrap().usage_limits_count, Some(101));
            assert_eq!(
                mask.unwrap().cryptographic_usage_mask,
                Some(CryptographicUsageMask::SIGN)
            );
        }
    }
}

#[test]
fn leases_are_given_for_what_may_be_used() {
    let host = Host::new();
    let client = host.client(Version::V1_0);
    let id = client.create(none());
    let lease: ObtainLeaseResponse = client.call(&ObtainLeaseRequest::of(id.as_str())).unwrap();
    assert_eq!(
        (lease.lease_time, lease.last_change_date),
        (Interval(3600), host.now().wall)
    );
    client
        .revoke(&id, RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    assert_eq!(
        reason(client.call::<_, ObtainLeaseResponse>(&ObtainLeaseRequest::of(id.as_str()))),
        ResultReason::PERMISSION_DENIED
    );
}

#[test]
fn what_is_archived_is_not_served_until_it_is_recovered() {
    let host = Host::new();
    for version in ALL {
        let client = host.client(version);
        let id = client.create(none().with(custom("v", &format!("{version}"))));
        client
            .call::<_, ArchiveResponse>(&ArchiveRequest::of(id.as_str()))
            .unwrap();
        assert_eq!(reason(client.get(&id)), ResultReason::OBJECT_ARCHIVED);
        assert_eq!(reason(client.activate(&id)), ResultReason::OBJECT_ARCHIVED);
        assert!(client.attributes(&id).date(tag::ARCHIVE_DATE).is_some());
        let wanted = none().with(custom("v", &format!("{version}")));
        assert!(client.locate(wanted.clone()).is_empty());
        let archived = LocateRequest {
            storage_status_mask: Some(StorageStatusMask::ARCHIVAL_STORAGE),
            ..client.locate_request(wanted.clone())
        };
        assert_eq!(client.locate_by(&archived).unwrap().0, [id.clone()]);
        client
            .call::<_, RecoverResponse>(&RecoverRequest::of(id.as_str()))
            .unwrap();
        client
            .call::<_, RecoverResponse>(&RecoverRequest::of(id.as_str()))
            .unwrap();
        assert!(client.get(&id).is_ok() && client.locate(wanted) == [id.clone()]);
        assert!(client.attributes(&id).date(tag::ARCHIVE_DATE).is_none());
    }
}

fn set(client: &Client, id: &str, value: V) -> ItemResult {
    let request = SetAttributeRequest {
        unique_identifier: Some(id.into()),
        attribute: none().with(value),
        extra: Extra::NONE,
    };
    client.call::<_, SetAttributeResponse>(&request).map(drop)
}

fn adjust(
    client: &Client,
    id: &str,
    value: &V,
    how: AdjustmentType,
    by: Option<Value>,
) -> ItemResult {
    let request = AdjustAttributeRequest {
        unique_identifier: Some(id.into()),
        references: AttributeReferences(vec![value.reference()]),
        adjustment_type: how,
        adjustment_value: by,
        extra: Extra::NONE,
    };
    client
        .call::<_, AdjustAttributeResponse>(&request)
        .map(drop)
}

#[test]
fn attributes_are_set_whether_they_are_there_or_not() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let id = client.create(none());
    set(&client, &id, custom("c", "1")).unwrap();
    set(&client, &id, custom("c", "2")).unwrap();
    assert_eq!(
        client
            .attributes(&id)
            .iter()
            .filter(|a| a.value == custom("c", "2"))
            .count(),
        1
    );
    client.add(&id, custom("c", "3")).unwrap();
    assert_eq!(
        reason(set(&client, &id, custom("c", "4"))),
        ResultReason::MULTI_VALUED_ATTRIBUTE
    );
    assert_eq!(
        reason(set(&client, &id, V::State(State::ACTIVE))),
        ResultReason::ATTRIBUTE_READ_ONLY
    );
    assert_eq!(client.state(&id), State::PRE_ACTIVE);
}

#[test]
fn attributes_are_counted_up_and_down() {
    let host = Host::new();
    let client = host.client(Version::V2_0);
    let id = client.create(none());
    let n = V::Custom(CustomAttribute {
        vendor: "x".into(),
        name: "n".into(),
        value: Some(Value::Integer(5)),
    });
    set(&client, &id, n.clone()).unwrap();
    adjust(
        &client,
        &id,
        &n,
        AdjustmentType::INCREMENT,
        Some(Value::Integer(3)),
    )
    .unwrap();
    adjust(&client, &id, &n, AdjustmentType::DECREMENT, None).unwrap();
    let value = |id: &str| {
        client
            .attributes(id)
            .of(&n.reference())
            .next()
            .map(|a| a.value.clone())
    };
    let expected = V::Custom(CustomAttribute {
        vendor: "x".into(),
        name: "n".into(),
        value: Some(Value::Integer(7)),
    });
    assert_eq!(value(&id), Some(expected.clone()));
    let over = adjust(
        &client,
        &id,
        &n,
        AdjustmentType::INCREMENT,
        Some(Value::Integer(i32::MAX)),
    );
    assert_eq!(reason(over), ResultReason::NUMERIC_RANGE);
    assert_eq!(value(&id), Some(expected), "nothing was done");
    let wrong = adjust(
        &client,
        &id,
        &n,
        AdjustmentType::INCREMENT,
        Some(Value::Text("3".into())),
    );
    assert_eq!(reason(wrong), ResultReason::INVALID_DATA_TYPE);
    // What is not there counts as 0, or False.
    let safe = V::QuantumSafe(true);
    adjust(&client, &id, &safe, AdjustmentType::NEGATE, None).unwrap();
    assert_eq!(client.attributes(&id).get(tag::QUANTUM_SAFE), Some(&safe));
    let state = adjust(
        &client,
        &id,
        &V::CryptographicLength(1),
        AdjustmentType::INCREMENT,
        None,
    );
    assert_eq!(reason(state), ResultReason::ATTRIBUTE_READ_ONLY);
}

#[test]
fn dates_are_settled_by_the_issuer_and_found_before_that() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let at = |seconds: i64| DateTime(START + seconds);
    let rises = client.create(none().with(V::ActivationDate(at(100))));
    let falls = client.create(
        none()
            .with(V::ActivationDate(at(-1)))
            .with(V::DeactivationDate(at(100))),
    );
    let both = client.create(
        none()
            .with(V::ActivationDate(at(50)))
            .with(V::DeactivationDate(at(100))),
    );
    let still = client.create(none());
    let found = |state| client.locate(none().with(V::State(state)));
    assert_eq!(
        (found(State::PRE_ACTIVE), found(State::ACTIVE)),
        (
            vec![still.clone(), both.clone(), rises.clone()],
            vec![falls.clone()]
        )
    );
    host.pass(100);
    for settled in [false, true] {
        assert_eq!(found(State::PRE_ACTIVE), [still.clone()], "{settled}");
        assert_eq!(found(State::ACTIVE), [rises.clone()], "{settled}");
        assert_eq!(
            found(State::DEACTIVATED),
            [both.clone(), falls.clone()],
            "{settled}"
        );
        let page = LocateRequest {
            offset_items: Some(1),
            maximum_items: Some(1),
            ..client.locate_request(none().with(V::State(State::DEACTIVATED)))
        };
        assert_eq!(
            client.locate_by(&page).unwrap(),
            (vec![falls.clone()], Some(2)),
            "{settled}"
        );
        let head = host.head();
        assert_eq!(
            host.server.store_due_states(host.now(), 2).unwrap(),
            if settled { 0 } else { 2 }
        );
        assert_eq!(
            host.server.store_due_states(host.now(), 2).unwrap(),
            usize::from(!settled)
        );
        assert_eq!(host.head() > head, !settled);
    }
    assert_eq!(host.record(&both).stored_state(), Some(State::DEACTIVATED));
}

#[test]
fn patterns_parts_and_ranges_are_found() {
    let host = Host::new();
    let old = host.client(Version::V1_4);
    let make = |name: &str, group: &str| old.create(named(name).with(V::ObjectGroup(group.into())));
    let ids = [
        make("shop/1", "a"),
        make("shop/22", "ab"),
        make("centre", "b"),
        make("shop*", "c"),
    ];
    let by_name = |client: &Client, name: &str| client.locate(named(name));
    assert_eq!(by_name(&old, "shop/*"), [ids[1].clone(), ids[0].clone()]);
    assert_eq!(by_name(&old, "shop/?"), [ids[0].clone()]);
    assert_eq!(
        by_name(&old, "*"),
        [
            ids[3].clone(),
            ids[2].clone(),
            ids[1].clone(),
            ids[0].clone()
        ]
    );
    assert_eq!(
        old.locate(none().with(V::ObjectGroup("a*".into()))),
        [ids[1].clone(), ids[0].clone()]
    );
    assert_eq!(
        old.locate(none().with(V::UniqueIdentifier(
            format!("{}*", &ids[2][..8]).as_str().into()
        ))),
        [ids[2].clone()]
    );
    // 2.0 took patterns out.
    assert_eq!(
        by_name(&host.client(Version::V2_1), "shop*"),
        [ids[3].clone()]
    );
    // An object of two Names that fit is one object.
    old.add(&ids[0], V::Name(Name::text("shop/one"))).unwrap();
    let counted = LocateRequest {
        offset_items: Some(0),
        ..old.locate_request(named("shop/*"))
    };
    assert_eq!(
        old.locate_by(&counted).unwrap(),
        (vec![ids[1].clone(), ids[0].clone()], Some(2))
    );

    // A structure may lack fields.
    let link = V::Link(Link {
        link_type: LinkType::PARENT_LINK,
        target: ids[1].as_str().into(),
        extra: Extra::NONE,
    });
    old.add(&ids[2], link).unwrap();
    for version in ALL {
        let client = host.client(version);
        let tag = if version < Version::V2_0 {
            tag::ATTRIBUTE_VALUE
        } else {
            tag::LINK
        };
        let mut w = keyferry_ttlv::Writer::new(client.cx());
        w.structure(tag, |w| w.text(tag::LINKED_OBJECT_IDENTIFIER, &ids[1]))
            .unwrap();
        let frame = w.finish();
        let item = keyferry_ttlv::Item::parse(&frame).unwrap();
        let raw: Raw = keyferry_ttlv::Reader::new(&frame, client.cx())
            .child(item)
            .unwrap();
        let name = (version < Version::V2_0).then(|| "Link".into());
        let wanted = V::Unknown(UnknownAttribute {
            name,
            value: Some(raw),
        });
        assert_eq!(
            client.locate(none().with(wanted)),
            [ids[2].clone()],
            "{version}"
        );
    }
    // Dates in a range, the newest object first whatever the date.
    let dated: Vec<String> = [30, 10, 20]
        .map(|at| old.create(none().with(V::DeactivationDate(DateTime(START + at)))))
        .to_vec();
    let range = none()
        .with(V::DeactivationDate(DateTime(START + 10)))
        .with(V::DeactivationDate(DateTime(START + 29)));
    assert_eq!(old.locate(range), [dated[2].clone(), dated[1].clone()]);
    let group = LocateRequest {
        object_group_member: Some(ObjectGroupMember::GROUP_MEMBER_FRESH),
        ..old.locate_request(none().with(V::ObjectGroup("a".into())))
    };
    assert_eq!(old.locate_by(&group).unwrap().0, [ids[0].clone()]);
    old.get(&ids[0]).unwrap();
    assert!(
        old.locate_by(&group).unwrap().0.is_empty(),
        "once served it is no longer fresh"
    );
}

#[test]
fn identifiers_of_a_batch_can_be_pointed_at_in_2_x() {
    use UniqueIdentifierEnumeration as E;
    let host = Host::new();
    let client = host.client(Version::V2_0);
    let create = |name: &str| client.item(&create_request(aes(named(name))));
    let get = |id: UniqueIdentifier| {
        client.item(&GetAttributesRequest {
            unique_identifier: Some(id),
            ..GetAttributesRequest::of("")
        })
    };
    let batch = vec![
        create("a"),
        create("b"),
        get(UniqueIdentifier::Integer(0)),
        get(UniqueIdentifier::Enumeration(E::CREATE)),
        get(UniqueIdentifier::Integer(-4)),
    ];
    let response = client.batch(batch);
    let name = |n: usize| {
        let payload: GetAttributesResponse = client.read(&response.batch[n]).unwrap();
        payload.attributes.names().next().unwrap().value.to_string()
    };
    assert_eq!(
        (name(2), name(3), name(4)),
        ("a".into(), "b".into(), "a".into())
    );
    let response = client.batch(vec![create("c"), get(UniqueIdentifier::Integer(7))]);
    assert_eq!(refused(&response.batch[1]).0, ResultReason::INVALID_FIELD);
    let response = client.batch(vec![
        create("d"),
        get(UniqueIdentifier::Enumeration(E::REGISTER)),
    ]);
    assert_eq!(refused(&response.batch[1]).0, ResultReason::INVALID_FIELD);
}

#[test]
fn small_operations() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    client
        .call::<_, PingResponse>(&PingRequest::default())
        .unwrap();
    let log = LogRequest {
        log_message: "a client speaks".into(),
        extra: Extra::NONE,
    };
    client.call::<_, LogResponse>(&log).unwrap();
    let role = |endpoint_role| SetEndpointRoleRequest {
        endpoint_role,
        extra: Extra::NONE,
    };
    client
        .call::<_, SetEndpointRoleResponse>(&role(EndpointRole::SERVER))
        .unwrap();
    let turned = client.call::<_, SetEndpointRoleResponse>(&role(EndpointRole::CLIENT));
    assert_eq!(reason(turned), ResultReason::PERMISSION_DENIED);
    let interop = |interop_function| InteropRequest {
        interop_function,
        interop_identifier: Some("t".into()),
        extra: Extra::NONE,
    };
    client
        .call::<_, InteropResponse>(&interop(InteropFunction::BEGIN))
        .unwrap();
    assert_eq!(
        reason(client.call::<_, InteropResponse>(&interop(InteropFunction::RESET))),
        ResultReason::FEATURE_NOT_SUPPORTED
    );
}
