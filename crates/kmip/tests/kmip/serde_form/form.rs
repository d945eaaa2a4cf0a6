//! What each kind of value looks like in serde's formats, and that it comes back.

use crate::serde_form::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_ttlv::{Context, DateTimeExtended, Limits, Tag, Value, Version};
use serde::de::DeserializeOwned;
use serde_json::json;

/// What it is written as, and that it comes back.
#[track_caller]
fn form<T: serde::Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    value: T,
    form: serde_json::Value,
) {
    assert_eq!(serde_json::to_value(&value).unwrap(), form);
    assert_eq!(serde_json::from_value::<T>(form).unwrap(), value);
}

#[test]
fn values_stand_by_their_names() {
    form(CryptographicAlgorithm::AES, json!("AES"));
    form(CryptographicAlgorithm(0x8000_0001), json!("0x80000001"));
    form(
        CryptographicUsageMask::ENCRYPT | CryptographicUsageMask::DECRYPT,
        json!(["Encrypt", "Decrypt"]),
    );
    form(
        CryptographicUsageMask(0x8000_0004),
        json!(["Encrypt", "0x80000000"]),
    );
    form(CryptographicUsageMask(0), json!([]));
    form(keyferry_ttlv::Enumeration(7), json!("0x00000007"));
    form(ExtensionType(7), json!("Text String"));
    form(Tag::new(0x420008), json!("0x420008"));
    form(
        AttributeReference::Standard(tag::STATE),
        json!({"Standard": "State"}),
    );
    form(
        AttributeReference::Standard(Tag::new(0x54FFFF)),
        json!({"Standard": "0x54FFFF"}),
    );
    form(Version::V1_4, json!("1.4"));
    form(DateTime(0), json!("1970-01-01T00:00:00Z"));
    form(DateTime(i64::MAX), json!(i64::MAX));
    form(DateTime(-62_135_596_801), json!(-62_135_596_801_i64));
    form(DateTimeExtended(-1), json!("1969-12-31T23:59:59.999999Z"));
    form(Interval(60), json!(60));
    form(UniqueIdentifier::from("a"), json!("a"));
    form(UniqueIdentifier::Integer(-1), json!(-1));
    form(
        UniqueIdentifier::Enumeration(UniqueIdentifierEnumeration::ID_PLACEHOLDER),
        json!({"enumeration": "ID Placeholder"}),
    );
    form(
        ["a", "b"].iter().collect::<UniqueIdentifiers>(),
        json!(["a", "b"]),
    );
    form(
        BigInteger(vec![0, 0, 0, 0, 0, 0, 1, 255]),
        json!("00000000000001ff"),
    );
    form(Value::Bytes(vec![1]), json!({"Bytes": "01"}));
    form(
        TicketLifetime::Interval(Interval(9)),
        json!({"Interval": 9}),
    );
    form(
        Failure::new(Cause::WrongState, "no"),
        json!({"cause": "WrongState", "message": "no"}),
    );
    form(lifecycle::Event::Activate, json!("Activate"));
    form(
        Identity {
            fingerprint: [1; 32],
            ..Identity::new("a")
        },
        json!({"name": "a", "fingerprint": "01".repeat(32)}),
    );
    form(
        Identity::new("a").with_certificate([1; 32], [2; 32]),
        json!({"name": "a", "fingerprint": "01".repeat(32), "public_key": "02".repeat(32)}),
    );
    assert_eq!(
        serde_json::from_value::<Limits>(json!({"depth": 8})).unwrap(),
        Limits {
            depth: 8,
            ..Limits::DEFAULT
        }
    );
    assert_eq!(
        serde_json::from_value::<CryptographicAlgorithm>(json!(3)).unwrap(),
        CryptographicAlgorithm::AES
    );
    assert_eq!(
        serde_json::from_value::<DateTime>(json!("1970-01-01T01:00:00+01:00")).unwrap(),
        DateTime(0)
    );
}

#[test]
fn every_value_and_bit_of_the_tables_comes_back() {
    // Any number has the same form in every enumeration but for its names: these two have the most of them.
    for row in Operation::DOMAIN.values {
        form(Operation(row.value), json!(row.name));
    }
    for row in CryptographicUsageMask::DOMAIN.values {
        form(CryptographicUsageMask(row.value), json!([row.name]));
    }
    for domain in enumeration_domains().chain(mask_domains()) {
        let twice = domain.values.iter().filter(|a| {
            domain
                .values
                .iter()
                .any(|b| a.name == b.name && a.value != b.value)
        });
        assert_eq!(twice.count(), 0, "{}: a name for two numbers", domain.name);
    }
}

#[test]
fn a_request_is_short_and_reads_well() {
    let mut create =
        CreateRequest::symmetric_key(CryptographicAlgorithm::AES, 256).named("backup key");
    create.attributes.push(V::Name(Name::text("second")));
    let message = RequestMessage::of(Version::V2_1, [create.into()]);
    let name =
        |name: &str| json!({"Name": {"value": name, "name_type": "Uninterpreted Text String"}});
    form(
        message,
        json!({
            "header": {"protocol_version": {"major": 2, "minor": 1}, "batch_count": 1},
            "batch": [{"operation": "Create", "request_payload": {"Create": {
                "object_type": "Symmetric Key",
                "attributes": {"attributes": [
                    {"value": {"CryptographicAlgorithm": "AES"}},
                    {"value": {"CryptographicLength": 256}},
                    {"value": {"CryptographicUsageMask": ["Encrypt", "Decrypt"]}},
                    {"value": name("backup key")},
                    {"index": 1, "value": name("second")},
                ]},
            }}}],
        }),
    );
}

#[test]
fn what_is_secret_says_how_long_it_is() {
    let register = RegisterRequest::of(objects().remove(0), Attributes::new());
    assert_eq!(
        serde_json::to_value(&register).unwrap(),
        json!({
            "object_type": "Symmetric Key",
            "object": {"SymmetricKey": {"key_block": {
                "key_format_type": "Raw",
                "key_value": {"Plain": {"key_material": {"Bytes": "(8 bytes masked)"}}},
                "cryptographic_algorithm": "AES",
                "cryptographic_length": 64,
            }}},
        })
    );
    let ping = PingRequest {
        extra: with_unknown(),
    };
    assert_eq!(
        serde_json::to_value(&ping).unwrap(),
        json!({"extra": [{"tag": "0x540001", "item": "(24 bytes masked)"}]})
    );
    assert_eq!(
        serde_json::to_value(Exposed(&ping)).unwrap(),
        json!({"extra": [{"tag": "0x540001", "item": "5400010100000010540002080000000868757368 2d6b6579".replace(' ', "")}]})
    );
}

#[test]
fn what_does_not_belong_there_is_an_error() {
    let fails = |text: &str, why: &str| {
        let error = serde_json::from_str::<GetRequest>(text)
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{error}");
    };
    fails(r#"{"unique_identifer": "1"}"#, "unknown field");
    fails(
        r#"{"unique_identifier": {"enumeration": "Nobody"}}"#,
        "Nobody",
    );
    fails(r#"{"unique_identifier": 4294967296}"#, "32 bits");
    fails(r#"{"key_format_type": "0x1FFFFFFFF"}"#, "name of a value");
    fails(
        r#"{"extra": [{"tag": "0x540002", "item": "5400010200000004000000010000000 0"}]}"#,
        "not hexadecimal",
    );
    fails(
        r#"{"extra": [{"tag": "0x540002", "item": "54000102000000040000000100000000"}]}"#,
        "another tag",
    );
    fails(
        r#"{"extra": [{"item": "5400010200000005000000010000000000"}]}"#,
        "",
    );
    fails(r#"{"extra": [{"tag": "0x540002"}]}"#, "missing");
    assert_eq!(
        serde_json::from_str::<GetRequest>("{}").unwrap(),
        GetRequest::default()
    );
    let error =
        keyferry_ttlv::decode::<RequestMessage>(&[], Context::new(Version::V2_1)).unwrap_err();
    assert_eq!(
        serde_json::to_value(&error).unwrap(),
        json!(error.to_string())
    );
}
