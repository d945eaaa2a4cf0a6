//! Arbitrary messages of every operation, in every version: what is left of them for a version can be written, stands in that version's
//! tables, and comes back the same.

mod random;
mod walk;

use crate::arbitrary::random::Source;
use crate::arbitrary::walk::lacking;
use keyferry_kmip::spec::{Operation, tag};
use keyferry_kmip::*;
use keyferry_ttlv::{Downgrade, Encode, Lost, Raw, Tag, Version};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Runs `check` with seeds and sizes; what fails is made small, and named by them. PROPTEST_CASES makes more of them, from 256 on.
fn arbitrary(cases: u32, what: &str, check: impl Fn(u64, u32)) {
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(Config {
        cases: cases * config.cases.div_ceil(256),
        ..config
    });
    let outcome = runner.run(&(any::<u64>(), 0..60_u32), |(seed, budget)| {
        check(seed, budget);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, (seed, budget))) => {
            panic!("{what}, seed {seed}, size {budget}: {why}")
        }
        Err(TestError::Abort(why)) => panic!("{what}: {why}"),
    }
}

/// It comes back from serde's JSON, where its secrets are shown, and shows none where they are not.
fn by_json<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_string(&Exposed(value)).unwrap();
    assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value, "{text}");
}

/// Whether the last version has no place for what was left behind on the way to it. Attributes that a server set by implication are in no
/// response of 2.x, nor are those of one attribute's change.
fn went(lost: &Lost, implied: bool) -> bool {
    let Some(last) = lost.path.last().copied() else {
        return false;
    };
    let by_tag = lost
        .path
        .iter()
        .any(|tag| spec::tag_row(*tag).is_some_and(|row| !row.versions.contain(Version::V2_1)));
    let by_value = lost
        .value
        .as_ref()
        .is_some_and(|raw| !lacking(raw.bytes(), Version::V2_1).is_empty());
    let by_place = match last {
        // Of a template, in a Template-Attribute.
        tag::NAME => true,
        // Of one instance that was deleted, of several.
        tag::ATTRIBUTE_REFERENCE => true,
        // One that nobody knows, by its name alone, or without.
        tag::ATTRIBUTE_VALUE => true,
        // What is imported must have its type there, and there is no object to tell it.
        tag::BATCH_ITEM if lost.value.as_ref().is_some_and(is_import_of_nothing) => true,
        // One instance of several.
        tag::BATCH_ITEM if lost.value.as_ref().is_some_and(is_of_an_instance) => true,
        // A list of nothing but names that nobody knows.
        tag::BATCH_ITEM | tag::RESPONSE_PAYLOAD => lost
            .value
            .as_ref()
            .is_some_and(|raw| raw.bytes().windows(13).any(|part| part == b"Unknown Thing")),
        tag::ATTRIBUTE => {
            implied
                || lost
                    .name
                    .as_ref()
                    .is_some_and(|name| name == "Unknown Thing")
        }
        tag => implied && (tag.is_extension() || spec::attribute_row(tag).is_some()),
    };
    by_tag || by_value || by_place
}

fn is_import_of_nothing(item: &Raw) -> bool {
    let item: RequestItem = item.read(context(Version::V1_4)).unwrap();
    let request = item.payload::<ImportRequest>(context(Version::V1_4));
    item.operation == Operation::IMPORT
        && request.is_ok_and(|request| request.object_type.is_none() && request.object.is_none())
}

/// Operations that may name an instance by its index.
fn deletes(operation: Operation) -> bool {
    matches!(operation, Operation::DELETE_ATTRIBUTE | Operation::NOTIFY)
}

fn is_of_an_instance(item: &Raw) -> bool {
    let index = tag::ATTRIBUTE_INDEX.number().to_be_bytes();
    let item: RequestItem = item.read(context(Version::V1_4)).unwrap();
    item.operation == Operation::DELETE_ATTRIBUTE
        || item
            .request_payload
            .bytes()
            .windows(3)
            .any(|tag| tag == &index[1..])
}

/// Checks what is left of a value for a version, and gives it.
fn fits<T>(
    value: &T,
    version: Version,
    indices: bool,
    implied: bool,
    written: impl Fn(&T) -> Raw,
    read: impl Fn(&Raw) -> T,
) -> Option<T>
where
    T: Downgrade + PartialEq + Debug,
{
    let (kept, loss) = downgraded(value.clone(), Version::V2_1, version);
    let kept = kept?;
    let raw = written(&kept);
    assert_eq!(
        lacking(raw.bytes(), version),
        [""; 0],
        "{version}: {kept:?}"
    );
    assert_eq!(read(&raw), kept, "{version}");
    // Only what is told is left behind, but for the form of two fields of a message's header, and what says the same twice.
    let twice = |raw: &Raw| {
        raw.read::<ImportRequest>(context(version))
            .is_ok_and(|import| import.object.is_some())
    };
    if loss.is_empty()
        && ![tag::REQUEST_MESSAGE, tag::RESPONSE_MESSAGE].contains(&raw.tag())
        && !twice(&raw)
    {
        assert_eq!(&kept, value);
    }
    // Again is no more, and up and back again is the same, but for what went.
    let (again, loss) = downgraded(kept.clone(), version, version);
    assert!(
        loss.is_empty() && again.as_ref() == Some(&kept),
        "{version}: {:?}",
        describe_loss(&loss)
    );
    let (up, loss) = downgraded(kept.clone(), version, Version::V2_1);
    for lost in &loss {
        assert!(
            went(lost, implied),
            "{version} has it, 2.1 not: {:?} of {kept:?}",
            describe_loss(&loss)
        );
    }
    if let Some(up) = up.filter(|_| loss.is_empty()) {
        let (back, loss) = downgraded(up, Version::V2_1, version);
        // An index that tells no more than the order does is not said in between.
        assert!(
            loss.is_empty() && (indices || back.as_ref() == Some(&kept)),
            "{version}: {:?} {kept:?} {back:?}",
            describe_loss(&loss)
        );
    }
    Some(kept)
}

macro_rules! payloads {
    ($test:ident, $payload:ident, $tag:ident) => {
        #[test]
        fn $test() {
            let name = stringify!($payload);
            let mut probe = Source::new(1, 10, false);
            probe.make::<$payload>();
            let operations = probe.enums[name].0;
            let (mut operation, mut never) = (Operation(0), Vec::new());
            for (n, variant) in operations.iter().enumerate() {
                let kept = std::cell::Cell::new(0);
                let made = std::cell::Cell::new(operation);
                arbitrary(64, variant, |seed, budget| {
                    for indices in [false, true] {
                        let value: $payload =
                            Source::new(seed, budget, indices).make_variant(name, n);
                        made.set(value.operation());
                        let lists = matches!(
                            value.operation(),
                            Operation::GET_ATTRIBUTES | Operation::EXPORT
                        );
                        let implied = name == "ResponsePayload" && !lists;
                        by_json(&value);
                        for version in VERSIONS
                            .iter()
                            .filter(|version| !indices || **version < Version::V2_0)
                        {
                            let written = |kept: &$payload| {
                                Raw::of(tag::$tag, kept, context(*version)).unwrap()
                            };
                            let read = |raw: &Raw| {
                                $payload::read(value.operation(), raw, context(*version)).unwrap()
                            };
                            let there = fits(
                                &value,
                                *version,
                                indices || deletes(value.operation()),
                                implied,
                                written,
                                read,
                            )
                            .is_some();
                            assert!(
                                !there || Operation::DOMAIN.has(value.operation().0, *version),
                                "not in {version}"
                            );
                            kept.set(kept.get() + u32::from(there));
                        }
                    }
                });
                operation = made.get();
                if kept.get() == 0 {
                    never.push(variant);
                }
            }
            assert_eq!(never, [&""; 0], "nothing was left of any of these");
            // Every operation that a version has, but for those without a payload of their own in this direction.
            let known: Vec<Operation> = (0..operations.len())
                .map(|n| {
                    Source::new(1, 1, false)
                        .make_variant::<$payload>(name, n)
                        .operation()
                })
                .collect();
            let missing = Operation::DOMAIN
                .values
                .iter()
                .filter(|row| !row.versions.is_draft());
            let missing: Vec<&str> = missing
                .filter(|row| !known.contains(&Operation(row.value)))
                .map(|row| row.name)
                .collect();
            assert_eq!(
                missing,
                if name == "RequestPayload" {
                    vec![]
                } else {
                    vec!["Poll"]
                }
            );
        }
    };
}

payloads!(requests_of_every_operation, RequestPayload, REQUEST_PAYLOAD);
payloads!(
    responses_of_every_operation,
    ResponsePayload,
    RESPONSE_PAYLOAD
);

fn as_raw(message: &impl Encode, tag: Tag, version: Version) -> Raw {
    Raw::of(tag, message, context(version)).unwrap()
}

#[test]
fn whole_messages() {
    arbitrary(400, "messages", |seed, budget| {
        for indices in [false, true] {
            let mut request: RequestMessage<RequestPayload> =
                Source::new(seed, budget, indices).make();
            request.header.protocol_version = Version::V2_1.into();
            for item in &mut request.batch {
                item.operation = item.request_payload.operation();
            }
            by_json(&request);
            let mut response: ResponseMessage<ResponsePayload> =
                Source::new(seed, budget, indices).make();
            response.header.protocol_version = Version::V2_1.into();
            for item in &mut response.batch {
                item.operation = item
                    .response_payload
                    .as_ref()
                    .map_or(item.operation, |payload| Some(payload.operation()));
            }
            by_json(&response);
            for version in VERSIONS
                .iter()
                .filter(|version| !indices || **version < Version::V2_0)
            {
                let read = |raw: &Raw| {
                    RequestMessage::from_frame(raw.bytes())
                        .unwrap()
                        .read_payloads()
                        .unwrap()
                };
                let deletes = request.batch.iter().any(|item| deletes(item.operation));
                fits(
                    &request,
                    *version,
                    indices || deletes,
                    false,
                    |kept| as_raw(kept, tag::REQUEST_MESSAGE, *version),
                    read,
                );
                let read = |raw: &Raw| {
                    ResponseMessage::from_frame(raw.bytes())
                        .unwrap()
                        .read_payloads()
                        .unwrap()
                };
                fits(
                    &response,
                    *version,
                    indices,
                    true,
                    |kept| as_raw(kept, tag::RESPONSE_MESSAGE, *version),
                    read,
                );
            }
        }
    });
}

#[test]
fn every_form_of_every_choice_is_made() {
    let mut source = Source::new(0, 0, true);
    for seed in 0..4000 {
        let enums = std::mem::take(&mut source.enums);
        source = Source::new(seed, 60, true);
        source.enums = enums;
        source.make::<RequestMessage<RequestPayload>>();
        source.make::<ResponseMessage<ResponsePayload>>();
    }
    let made: Vec<&str> = source.enums.keys().copied().collect();
    for name in [
        "RequestPayload",
        "ResponsePayload",
        "Object",
        "AttributeValue",
        "AttributeReference",
        "CredentialValue",
        "Value",
    ] {
        assert!(made.contains(&name), "{made:?}");
    }
    for (name, (variants, made)) in source.enums {
        let never: Vec<_> = variants
            .iter()
            .filter(|variant| !made.contains(*variant))
            .collect();
        assert_eq!(never, [&""; 0], "{name}");
    }
}
