//! Import.

use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_ttlv::{Extra, Version};

const IMPORTS: [Version; 3] = [Version::V1_4, Version::V2_0, Version::V2_1];

/// All that another server may have said of a key.
fn supplied(version: Version, label: &str) -> Attributes {
    let digest = Digest {
        hashing_algorithm: HashingAlgorithm::SHA_1,
        value: Some(vec![9; 20]),
        key_format_type: Some(KeyFormatType::RAW),
        extra: Extra::NONE,
    };
    let mut attributes = named(label)
        .with(V::CryptographicAlgorithm(CryptographicAlgorithm::AES))
        .with(V::CryptographicLength(128))
        .with(V::CryptographicUsageMask(CryptographicUsageMask::WRAP_KEY))
        .with(V::Digest(digest))
        .with(V::LeaseTime(Interval(3600)))
        .with(V::State(State::DEACTIVATED))
        .with(V::InitialDate(DateTime(100)))
        .with(V::ActivationDate(DateTime(200)))
        .with(V::DeactivationDate(DateTime(300)))
        .with(V::LastChangeDate(DateTime(400)))
        .with(V::OriginalCreationDate(DateTime(50)))
        .with(V::Fresh(false))
        .with(V::RevocationReason(RevocationReason {
            code: RevocationReasonCode::SUPERSEDED,
            message: None,
            extra: Extra::NONE,
        }))
        .with(V::Sensitive(false))
        .with(V::AlwaysSensitive(false))
        .with(V::Extractable(true))
        .with(V::NeverExtractable(false))
        .with(V::UsageLimits(UsageLimits {
            total: 10,
            count: Some(4),
            unit: UsageLimitsUnit::BYTE,
            extra: Extra::NONE,
        }))
        .with(custom("c", "v"));
    if version >= Version::V2_0 {
        attributes.push(V::ShortUniqueIdentifier(vec![1, 2, 3, 4]));
        attributes.push(V::ProtectionStorageMask(ProtectionStorageMask::HARDWARE));
    }
    attributes
}

/// The attributes beside identifier and type.
fn others(attributes: &Attributes) -> Attributes {
    let mut others = attributes.clone();
    others.remove(tag::UNIQUE_IDENTIFIER);
    others.remove(tag::OBJECT_TYPE);
    others
}

#[test]
fn all_supplied_attributes_are_kept_unchanged() {
    let host = Host::new();
    for version in IMPORTS {
        let client = host.client(version);
        let id = format!("given {version}");
        let attributes = supplied(version, &id);
        assert_eq!(
            client
                .import(&id, Some(key(&[7; 16])), attributes.clone(), false)
                .unwrap(),
            id
        );
        assert_eq!(others(&client.attributes(&id)), attributes, "{version}");
        assert_eq!(client.get(&id).unwrap().object, key(&[7; 16]));
        assert_eq!(client.locate(named(&id)), [id.clone()]);
    }
}

#[test]
fn what_was_exported_can_be_imported_elsewhere() {
    let (here, there) = (
        Host::new(),
        Host::named(
            "b",
            keyferry_server::Access::Authenticated,
            keyferry_s2s::Policy::closed(),
        ),
    );
    for version in IMPORTS {
        let (from, to) = (here.client(version), there.client(version));
        let id = from.create(named(&format!("{version}")).with(custom("c", "v")));
        from.activate(&id).unwrap();
        let exported = from.export(&id).unwrap();
        there.pass(1000);
        to.import(&id, exported.object, exported.attributes, false)
            .unwrap();
        assert_eq!(to.attributes(&id), from.attributes(&id));
        assert_eq!(to.get(&id).unwrap().object, from.get(&id).unwrap().object);
    }
}

#[test]
fn an_identifier_that_exists_is_refused_unless_it_shall_be_replaced() {
    let host = Host::new();
    for version in IMPORTS {
        let client = host.client(version);
        let id = client.register(key(&[1; 16]), named(&format!("old {version}")));
        assert_eq!(
            reason(client.import(&id, Some(key(&[2; 16])), none(), false)),
            ResultReason::OBJECT_ALREADY_EXISTS
        );
        assert_eq!(client.get(&id).unwrap().object, key(&[1; 16]));
        let attributes = supplied(version, &format!("new {version}"));
        client
            .import(&id, Some(key(&[1; 16])), attributes.clone(), true)
            .unwrap();
        assert_eq!(
            others(&client.attributes(&id)),
            attributes,
            "the Last Change Date is the supplied one, too"
        );
        assert!(client.locate(named(&format!("old {version}"))).is_empty());
        client
            .import(&format!("new {version}"), Some(key(&[3; 16])), none(), true)
            .unwrap();
    }
}

#[test]
fn replacing_never_revives_or_moves_a_state_back() {
    let host = Host::new();
    for version in IMPORTS {
        let client = host.client(version);
        let destroyed = client.register(key(&[1; 16]), none());
        let exported = client.export(&destroyed).unwrap();
        client.destroy(&destroyed).unwrap();
        let gone = by(
            version,
            ResultReason::PERMISSION_DENIED,
            ResultReason::OBJECT_DESTROYED,
        );
        assert_eq!(
            reason(client.import(&destroyed, exported.object, exported.attributes, true)),
            gone
        );
        assert_eq!(
            reason(client.import(&destroyed, Some(key(&[1; 16])), none(), true)),
            gone
        );
        assert_eq!(client.state(&destroyed), State::DESTROYED);
        assert!(host.object(&destroyed).is_none());

        let back = by(
            version,
            ResultReason::PERMISSION_DENIED,
            ResultReason::WRONG_KEY_LIFECYCLE_STATE,
        );
        let compromised = client.register(key(&[0x10 + version.minor; 16]), none());
        client
            .revoke(&compromised, RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
        for state in [
            State::PRE_ACTIVE,
            State::ACTIVE,
            State::DEACTIVATED,
            State::DESTROYED,
        ] {
            let attributes = none().with(V::State(state));
            assert_eq!(
                reason(client.import(&compromised, Some(key(&[5; 16])), attributes, true)),
                back,
                "{state}"
            );
        }
        assert_eq!(client.state(&compromised), State::COMPROMISED);

        let active = client.create(none());
        client.activate(&active).unwrap();
        assert_eq!(
            reason(client.import(
                &active,
                Some(key(&[5; 16])),
                none().with(V::State(State::PRE_ACTIVE)),
                true
            )),
            back
        );
        assert_eq!(client.state(&active), State::ACTIVE);
    }
}

#[test]
fn a_state_that_its_dates_have_led_to_is_no_step_back() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let dates = none()
        .with(V::ActivationDate(DateTime(START + 10)))
        .with(V::State(State::PRE_ACTIVE));
    client
        .import("dated", Some(key(&[5; 16])), dates.clone(), false)
        .unwrap();
    host.pass(20);
    assert_eq!(client.state("dated"), State::ACTIVE);
    client
        .import("dated", Some(key(&[5; 16])), dates, true)
        .unwrap();
    assert_eq!(client.state("dated"), State::ACTIVE);
}

#[test]
fn compromised_material_is_not_imported_under_another_identifier() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let first = client.register(key(&[6; 32]), none());
    client
        .revoke(&first, RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    let active = || none().with(V::State(State::ACTIVE));
    let import = |id: &str, bytes: u8, attributes| {
        client.import(id, Some(key(&[bytes; 32])), attributes, false)
    };
    let denied = ResultReason::PERMISSION_DENIED;
    assert_eq!(reason(import("clean", 6, active())), denied);
    // Also when the compromised object is long destroyed.
    client.destroy(&first).unwrap();
    assert_eq!(reason(import("cleaner", 6, active())), denied);
    // As what it is it may come.
    let known = none().with(V::State(State::COMPROMISED));
    import("known", 6, known).unwrap();
    assert_eq!(client.state("known"), State::COMPROMISED);
    import("other", 8, active()).unwrap();
    assert_eq!(client.state("other"), State::ACTIVE);
}

#[test]
fn a_tombstone_can_be_imported_and_holds_no_material() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let attributes = none()
        .with(V::State(State::DESTROYED))
        .with(V::DestroyDate(DateTime(9)));
    client
        .import("with", Some(key(&[1; 16])), attributes.clone(), false)
        .unwrap();
    client.import("without", None, attributes, false).unwrap();
    for id in ["with", "without"] {
        assert_eq!(client.state(id), State::DESTROYED);
        assert!(host.object(id).is_none());
    }
    assert!(matches!(
        reason(client.import("live", None, none(), false)),
        ResultReason::MISSING_DATA
    ));
}

#[test]
fn names_stay_unique() {
    let host = Host::new();
    for version in IMPORTS {
        let client = host.client(version);
        let label = format!("n{version}");
        client.create(named(&label));
        let expected = by(
            version,
            ResultReason::INVALID_FIELD,
            ResultReason::NON_UNIQUE_NAME_ATTRIBUTE,
        );
        assert_eq!(
            reason(client.import(
                &format!("i{version}"),
                Some(key(&[1; 16])),
                named(&label),
                false
            )),
            expected
        );
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let mut wrong_type = client.import_request("i", Some(key(&[1; 16])), none());
    wrong_type.object_type = Some(ObjectType::PRIVATE_KEY);
    assert_eq!(
        reason(client.import_by(&wrong_type)),
        ResultReason::INVALID_FIELD
    );
    let named_otherwise = none().with(V::ObjectType(ObjectType::SECRET_DATA));
    assert_eq!(
        reason(client.import("i", Some(key(&[1; 16])), named_otherwise, false)),
        ResultReason::INVALID_FIELD
    );
    assert_eq!(
        reason(client.import("", Some(key(&[1; 16])), none(), false)),
        ResultReason::INVALID_FIELD
    );
    let mut twice = none();
    twice.keep(V::State(State::ACTIVE).into());
    twice.keep(V::State(State::DESTROYED).into());
    assert!(
        client
            .import("i", Some(key(&[1; 16])), twice, false)
            .is_err(),
        "which State?"
    );
    assert!(
        client
            .import(
                "i",
                Some(key(&[1; 16])),
                none().with(custom("s2s-master", "me")),
                false
            )
            .is_err(),
        "x-s2s is ours"
    );
    let other = client.register(key(&[2; 16]), none());
    let secret = Object::secret_data(SecretDataType::PASSWORD, Secret::new(b"pw"));
    assert_eq!(
        reason(client.import(&other, Some(secret), none(), true)),
        ResultReason::INVALID_FIELD,
        "the type of an object never changes"
    );
    assert_eq!(host.count(), 1);
}

#[test]
fn a_key_that_is_to_be_unwrapped_is_refused_and_one_as_registered_is_kept() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let (_, object) = crate::objects::all(Version::V2_1)
        .into_iter()
        .find(|(what, _)| *what == "wrapped")
        .unwrap();
    let mut request = client.import_request("w", Some(object.clone()), none());
    request.key_wrap_type = Some(KeyWrapType::NOT_WRAPPED);
    assert_eq!(
        reason(client.import_by(&request)),
        ResultReason::WRAPPING_OBJECT_NOT_FOUND
    );
    request.key_wrap_type = Some(KeyWrapType::AS_REGISTERED);
    client.import_by(&request).unwrap();
    assert_eq!(client.get("w").unwrap().object, object);
}

#[test]
fn an_import_sets_the_id_placeholder() {
    let host = Host::new();
    let client = host.client(Version::V2_1);
    let items = vec![
        client.item(&client.import_request("placed", Some(key(&[1; 16])), none())),
        client.item(&ActivateRequest {
            unique_identifier: None,
            extra: Extra::NONE,
        }),
    ];
    assert!(
        client
            .batch(items)
            .batch
            .iter()
            .all(ResponseItem::is_success)
    );
    assert_eq!(client.state("placed"), State::ACTIVE);
}

#[test]
fn an_identifier_keeps_its_material_for_life_and_a_compromised_object_is_never_replaced() {
    let host = Host::new();
    for version in IMPORTS {
        let client = host.client(version);
        let minor = version.minor + 10 * version.major;
        let id = client.register(key(&[minor; 16]), none());
        let other = client.import(&id, Some(key(&[0x70 + version.minor; 16])), none(), true);
        assert_eq!(reason(other), ResultReason::INVALID_FIELD);
        assert_eq!(client.get(&id).unwrap().object, key(&[minor; 16]));
        client
            .import(&id, Some(key(&[minor; 16])), none(), true)
            .unwrap();

        client
            .revoke(&id, RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
        let same = client.import(
            &id,
            Some(key(&[minor; 16])),
            none().with(V::State(State::COMPROMISED)),
            true,
        );
        assert_eq!(
            reason(same),
            by(
                version,
                ResultReason::PERMISSION_DENIED,
                ResultReason::WRONG_KEY_LIFECYCLE_STATE
            )
        );
    }
}
