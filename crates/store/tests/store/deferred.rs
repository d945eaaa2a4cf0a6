//! Gathered effects are seen as if they had been applied one by one.

use keyferry_kmip::spec::{AttributeValue, CryptographicAlgorithm, ObjectType};
use keyferry_kmip::{Attributes, Name, Object, Secret};
use keyferry_store::{
    Deferred, Effects, Error, Incarnation, Lineage, Material, Memory, ObjectId, Order, Record,
    RecordNumber, Snapshot, SnapshotExt, Span, Stamp, StoreExt, index,
};
use keyferry_ttlv::Extra;
use std::ops::ControlFlow;

const OBJECTS: u64 = 8;

fn record(n: u64) -> Record {
    let identifier = format!("object {n}").as_str().into();
    Record {
        id: ObjectId {
            server: "alpha".into(),
            instance: vec![1],
            identifier,
        },
        identifier: format!("object {n}").as_str().into(),
        owner: None,
        stamp: Stamp::first(&"alpha".into(), Incarnation([1; 16])),
        lineage: Lineage::new(),
        object_type: ObjectType::SYMMETRIC_KEY,
        attributes: Attributes::new(),
        overlay: None,
        fingerprint: None,
        lost: Vec::new(),
        extra: Extra::NONE,
    }
}

fn head(store: &Memory) -> u64 {
    store.view::<_, Error>(|at| at.head()).unwrap().number
}

fn named(value: u64) -> String {
    format!("name {value}")
}

/// What is asked, by kinds: by one object, by a Name, for all that have a Name, for all.
fn asked(at: &dyn Snapshot, kind: u64, n: u64) -> String {
    let numbers = |index, span: &Span| {
        let mut found = Vec::new();
        at.scan(index, span, Order::Ascending, None, &mut |_, number| {
            found.push((number, at.record(number)?.map(|record| record.attributes)));
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
        format!("{found:?}")
    };
    match kind {
        0 => {
            let Some((number, record)) = at.by_identifier(&format!("object {n}")).unwrap() else {
                return "none".into();
            };
            let (_, object) = at.whole(number).unwrap().unwrap();
            format!(
                "{number:?} {record:?} {:?}",
                object.map(|object| object.digestible().map(<[u8]>::to_vec))
            )
        }
        1 => numbers(index::NAME, &Span::exact(&index::name(&named(n)).key)),
        2 => numbers(index::NAME, &Span::all()),
        _ => format!(
            "{:?} {}",
            at.by_object_id(&record(n).id).unwrap(),
            at.count().unwrap()
        ),
    }
}

/// A change of an object, made from what is shown.
fn effects(at: &dyn Snapshot, n: u64, value: u64) -> Effects {
    let before: Option<(RecordNumber, Record)> = at.by_identifier(&format!("object {n}")).unwrap();
    let mut after = before
        .clone()
        .map_or_else(|| record(n), |(_, record)| record);
    after.stamp.sequence += 1;
    match value % 3 {
        0 => {
            after.attributes = Attributes::new();
            after
                .attributes
                .push(AttributeValue::Name(Name::text(named(value))));
        }
        1 => after
            .attributes
            .push(AttributeValue::Comment(named(value).as_str().into())),
        _ => after.attributes = Attributes::new(),
    }
    let material = match value % 5 {
        0 => {
            let secret = Secret::new(&[u8::try_from(value % 200).unwrap(); 16]);
            Material::Set(Object::symmetric_key(CryptographicAlgorithm::AES, 128, secret).into())
        }
        1 if before.is_some() => Material::Remove,
        _ => Material::Keep,
    };
    let mut effects = Effects::change(before, after, material);
    let kept = !value.is_multiple_of(4);
    effects
        .state
        .push((state_key(n), kept.then(|| value.to_be_bytes().to_vec())));
    effects
}

/// Keys of several kinds: some begin with another kind, some have none.
const STATE_KEYS: [&str; OBJECTS as usize] =
    ["a/1", "a/2", "a/b/1", "ab/1", "b/1", "b/", "a", "plain"];

fn state_key(n: u64) -> Vec<u8> {
    STATE_KEYS[usize::try_from(n).unwrap()].into()
}

/// Spans within a kind, across kinds, and of everything.
fn state_span(n: u64, which: u64) -> Span {
    let from_to = |from: &str, to: Option<&str>| Span {
        from: from.into(),
        to: to.map(Into::into),
    };
    match which {
        0 => Span::exact(&state_key(n)),
        1 => Span::prefix(&state_key(n)),
        2 => Span::prefix(b"a/"),
        3 => Span::prefix(b"a"),
        4 => from_to("a/2", Some("b/2")),
        5 => from_to("a/1", Some("a/2")),
        6 => from_to("b/", None),
        _ => Span::all(),
    }
}

fn state_in(at: &dyn Snapshot, span: &Span) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    at.state(span, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    found
}

#[test]
fn what_is_gathered_is_seen_as_if_it_had_been_applied() {
    for seed in 0..600_u64 {
        let mut last = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut random = |below: u64| {
            last = last
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (last >> 33) % below
        };
        let (one, other) = (
            Memory::new(Incarnation([1; 16])),
            Memory::new(Incarnation([1; 16])),
        );
        one.transact::<_, Error>(|gathering| {
            let mut world = Deferred::new(gathering);
            for step in 0..40 {
                let n = random(OBJECTS);
                if random(3) > 0 {
                    let value = random(1000);
                    world.add(effects(&world, n, value))?;
                    other.transact::<_, Error>(|at| effects(at, n, value).apply(at).map(drop))?;
                } else {
                    let kind = random(4);
                    let expected = other.view::<_, Error>(|at| Ok(asked(at, kind, n)))?;
                    assert_eq!(asked(&world, kind, n), expected, "seed {seed}, step {step}");
                    let span = state_span(n, random(8));
                    let expected = other.view::<_, Error>(|at| Ok(state_in(at, &span)))?;
                    assert_eq!(
                        state_in(&world, &span),
                        expected,
                        "seed {seed}, step {step}"
                    );
                }
            }
            // Each change has its entry of the feed, and its record at its end stands last of it.
            let written = world.written()?;
            assert_eq!(written.len() as u64, head(&other), "seed {seed}");
            for n in 0..OBJECTS {
                let there = other.view::<_, Error>(|at| at.by_object_id(&record(n).id))?;
                let encoded = record(n).id.encoded()?;
                let last = written.iter().rev().find(|(_, id)| *id == encoded);
                assert_eq!(
                    last.map(|(number, _)| *number),
                    there.map(|(number, _)| number),
                    "seed {seed}"
                );
            }
            assert!(world.written()?.is_empty());
            world.finish()
        })
        .unwrap();
        for n in 0..OBJECTS {
            for kind in 0..4 {
                let found = one.view::<_, Error>(|at| Ok(asked(at, kind, n))).unwrap();
                assert_eq!(
                    found,
                    other.view::<_, Error>(|at| Ok(asked(at, kind, n))).unwrap(),
                    "seed {seed}"
                );
            }
        }
    }
}
