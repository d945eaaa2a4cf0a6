//! Collisions settled in the overlay: the copy stays verbatim, and clients see what was settled.

use crate::bulk::drive::*;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::{Collisions, OnIdentifier, OnName, Strategy};
use keyferry_ttlv::{Extra, Version};

fn link(to: &str) -> V {
    V::Link(Link {
        link_type: LinkType::NEXT_LINK,
        target: to.into(),
        extra: Extra::NONE,
    })
}

fn by_object_id(host: &Host, origin: &Host, id: &str) -> keyferry_store::Record {
    use keyferry_store::{SnapshotExt, StoreExt};
    let id = origin.record(id).id;
    host.store
        .view::<_, keyferry_store::Error>(|s| Ok(s.by_object_id(&id)?.unwrap().1))
        .unwrap()
}

fn settling(identifier: OnIdentifier, name: OnName) -> Host {
    replica_with(Collisions { identifier, name })
}

#[test]
fn a_taken_identifier_is_skipped_or_another_one_is_assigned() {
    for strategy in BOTH {
        for on in [OnIdentifier::Skip, OnIdentifier::Assign] {
            let (a, b) = (master(), settling(on, OnName::Fail));
            let (here, there) = (a.client(Version::V2_1), b.client(Version::V2_1));
            let taken = here
                .import("1", Some(key(&[1; 16])), named("one"), false)
                .unwrap();
            let free = here.register(key(&[2; 16]), named("two"));
            there
                .import("1", Some(key(&[9; 16])), named("local"), false)
                .unwrap();
            let report = transfer(&a, &b, strategy);
            assert_eq!(
                (report.counts.created, report.counts.failed),
                (1, 0),
                "{report}"
            );
            assert_eq!(
                there.get("1").unwrap().object,
                key(&[9; 16]),
                "what was here stays"
            );
            assert_eq!(b.object(&free), a.object(&free));
            if on == OnIdentifier::Skip {
                assert_eq!((report.counts.skipped, b.count()), (Some(1), 2));
                continue;
            }
            assert_eq!(report.counts.renamed, Some(1), "{report}");
            let copy = by_object_id(&b, &a, &taken);
            assert_ne!(copy.identifier, "1");
            assert_eq!(there.get(&copy.identifier).unwrap().object, key(&[1; 16]));
            assert_eq!(there.locate(named("one")), [copy.identifier.to_string()]);
            assert_eq!(
                copy.copy_digest().unwrap(),
                a.record(&taken).copy_digest().unwrap(),
                "verbatim"
            );
            // The same object later finds itself again, changed or not.
            assert_eq!(transfer(&a, &b, strategy).counts.unchanged, 2);
            here.add(&taken, name("uno")).unwrap();
            assert_eq!(transfer(&a, &b, strategy).counts.updated, 1);
            assert_eq!(there.locate(named("uno")), [copy.identifier.to_string()]);
        }
    }
}

#[test]
fn a_taken_name_is_shown_by_a_rule_or_as_an_alternative_name() {
    for strategy in BOTH {
        let rule = OnName::Rename("{name} of {server}".into());
        for on in [rule, OnName::Park] {
            let renames = on != OnName::Park;
            let (a, b) = (master(), settling(OnIdentifier::Fail, on));
            let (here, there) = (a.client(Version::V2_1), b.client(Version::V2_1));
            let id = here.register(key(&[1; 16]), named("n").with(name("free")));
            let local = there.create(named("n"));
            let other = there.create(named("n of a"));
            assert_eq!(transfer(&a, &b, strategy).counts.renamed, Some(1));
            assert_eq!(
                sorted(&b.record(&id).attributes),
                sorted(&a.record(&id).attributes),
                "verbatim"
            );
            assert_eq!(
                there.locate(named("n")),
                std::slice::from_ref(&local),
                "one Name, one object"
            );
            assert_eq!(there.locate(named("free")), std::slice::from_ref(&id));
            let shown = there.attributes(&id);
            if renames {
                assert_eq!(
                    there.locate(named("n of a 2")),
                    std::slice::from_ref(&id),
                    "and no Name is given twice"
                );
                assert!(shown.names().all(|name| name.value != "n"));
            } else {
                assert_eq!(shown.names().count(), 1);
                assert!(
                    matches!(shown.get(tag::ALTERNATIVE_NAME), Some(V::AlternativeName(parked)) if parked.value == "n")
                );
            }
            // What was settled stays, also when the Name becomes free, and goes with the Name at the master.
            assert_eq!(transfer(&a, &b, strategy).counts.unchanged, 1);
            there.delete(&local, name("n")).unwrap();
            there.delete(&other, name("n of a")).unwrap();
            here.add(&id, name("more")).unwrap();
            assert_eq!(transfer(&a, &b, strategy).counts.updated, 1);
            assert_eq!(there.locate(named("n")), Vec::<String>::new());
            assert_eq!(there.locate(named("more")), std::slice::from_ref(&id));
            here.delete(&id, name("n")).unwrap();
            transfer(&a, &b, strategy);
            assert_eq!(
                sorted(&there.attributes(&id)),
                sorted(&here.attributes(&id))
            );
        }
    }
}

#[test]
fn links_lead_to_their_targets_whichever_comes_first() {
    for target_first in [true, false] {
        let (a, b) = (master(), settling(OnIdentifier::Assign, OnName::Fail));
        let (here, there) = (a.client(Version::V2_1), b.client(Version::V2_1));
        there
            .import("t", Some(key(&[9; 16])), none(), false)
            .unwrap();
        let make = |id: &str, attributes| {
            here.import(id, Some(key(id.repeat(16).as_bytes())), attributes, false)
                .unwrap()
        };
        if target_first {
            make("t", none());
            make("l", none().with(link("t")));
            transfer(&a, &b, Strategy::Import);
        } else {
            make("l", none().with(link("t")));
            transfer(&a, &b, Strategy::Import);
            assert_eq!(
                there.attributes("l").get(tag::LINK),
                None,
                "it does not lead to another object meanwhile"
            );
            make("t", none());
            transfer(&a, &b, Strategy::Import);
        }
        let target = by_object_id(&b, &a, "t").identifier;
        assert_ne!(target, "t");
        assert_eq!(there.attributes("l").get(tag::LINK), Some(&link(&target)));
        assert_eq!(there.locate(none().with(link(&target))), ["l"]);
        assert_eq!(there.locate(none().with(link("t"))), Vec::<String>::new());
        assert_eq!(
            b.record("l").attributes.get(tag::LINK),
            Some(&link("t")),
            "verbatim"
        );
        let mut state = 0;
        keyferry_store::Store::read(&*b.store, &mut |s| {
            s.state(&keyferry_store::Span::prefix(b"await/"), &mut |_, _| {
                state += 1;
                Ok(std::ops::ControlFlow::Continue(()))
            })
        })
        .unwrap();
        assert_eq!(state, 0, "nothing is waited for any more");
    }
}

#[test]
fn the_key_that_a_copy_is_wrapped_under_is_named_as_it_is_called_here() {
    let (a, b) = (master(), settling(OnIdentifier::Assign, OnName::Fail));
    let (here, there) = (a.client(Version::V1_4), b.client(Version::V1_4));
    there
        .import("kek", Some(key(&[9; 16])), none(), false)
        .unwrap();
    let usage = CryptographicUsageMask::WRAP_KEY | CryptographicUsageMask::UNWRAP_KEY;
    here.import(
        "kek",
        Some(key(&[1; 16])),
        none().with(V::CryptographicUsageMask(usage)),
        false,
    )
    .unwrap();
    let mut wrapped = key(&[7; 24]);
    let Object::SymmetricKey(inner) = &mut wrapped else {
        panic!()
    };
    inner.key_block.key_value = Some(KeyValue::Wrapped(Secret::new(&[7; 24])));
    inner.key_block.key_wrapping_data = Some(Box::new(KeyWrappingData {
        wrapping_method: WrappingMethod::ENCRYPT,
        encryption_key_information: Some(WrappingKeyInformation {
            unique_identifier: "kek".into(),
            cryptographic_parameters: None,
            extra: Extra::NONE,
        }),
        mac_signature_key_information: None,
        mac_signature: None,
        iv_counter_nonce: None,
        encoding_option: Some(EncodingOption::NO_ENCODING),
        extra: Extra::NONE,
    }));
    let id = here.register(wrapped.clone(), none());
    assert_eq!(transfer(&a, &b, Strategy::Import).counts.failed, 0);
    let kek = by_object_id(&b, &a, "kek").identifier;
    assert_eq!(b.object(&id), Some(wrapped), "verbatim");
    let Object::SymmetricKey(got) = there.get(&id).unwrap().object else {
        panic!()
    };
    let data = got.key_block.key_wrapping_data.unwrap();
    assert_eq!(
        data.encryption_key_information.unwrap().unique_identifier,
        kek.as_str().into()
    );
}
