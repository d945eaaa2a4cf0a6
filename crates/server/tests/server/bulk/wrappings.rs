//! Key material that is wrapped on its way.

use crate::bulk::drive::*;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_server::Access;
use keyferry_ttlv::Version;

const KEK: [u8; 32] = [0x4B; 32];

fn usage() -> V {
    V::CryptographicUsageMask(CryptographicUsageMask::WRAP_KEY | CryptographicUsageMask::UNWRAP_KEY)
}

/// Gives a server the shared key, Active, under an identifier of its own.
fn share(host: &Host, id: &str) {
    let client = host.client(Version::V2_1);
    client
        .import(
            id,
            Some(key(&KEK)),
            none()
                .with(usage())
                .with(V::ActivationDate(DateTime(START - 10))),
            false,
        )
        .unwrap();
}

fn secrets(host: &Host) -> Vec<String> {
    let client = host.client(Version::V2_1);
    let sensitive = |n: u8| {
        client.register(
            key(&[n; 24]),
            named(&format!("s{n}"))
                .with(V::Sensitive(true))
                .with(usage()),
        )
    };
    vec![
        sensitive(1),
        sensitive(2),
        client.register(key(&[3; 16]), named("open")),
    ]
}

#[test]
fn sensitive_keys_are_pushed_wrapped_and_are_the_same_there() {
    for version in [Version::V1_4, Version::V2_0, Version::V2_1] {
        for mode in [
            BlockCipherMode::NIST_KEY_WRAP,
            BlockCipherMode::AES_KEY_WRAP_PADDING,
        ] {
            let (a, b) = (master(), replica());
            share(&a, "kek at a");
            share(&b, "kek at b");
            let ids = secrets(&a);
            let listed = Selection::everything().listed(ids.iter().map(|id| id.as_str().into()));
            let options = BulkOptions {
                version,
                selection: listed,
                ..options(Strategy::Import)
            };
            // In the clear they stay at home.
            let mut session = Bulk::new(options.clone());
            let report = drive(
                &a,
                &b,
                &mut session,
                "a.example",
                Cut::Never,
                &mut |_, _| {},
            )
            .unwrap()
            .unwrap();
            assert_eq!(
                (report.counts.created, report.counts.failed),
                (1, 2),
                "{}",
                report.table()
            );
            let parameters = CryptographicParameters {
                block_cipher_mode: Some(mode),
                ..Default::default()
            };
            let wrapping = Wrapping {
                parameters,
                ..Wrapping::new("kek at a", "kek at b")
            };
            let mut session = Bulk::new(options).wrapping(a.server.node().clone(), wrapping);
            let mut seen = false;
            let report = drive(
                &a,
                &b,
                &mut session,
                "a.example",
                Cut::Never,
                &mut |_, message| {
                    let bytes = message.to_frame().unwrap();
                    seen |= bytes
                        .windows(16)
                        .any(|window| window == [1; 16] || window == [3; 16]);
                },
            );
            let report = report.unwrap().unwrap();
            assert_eq!(
                (report.counts.created, report.counts.unchanged),
                (2, 1),
                "{version} {mode} {}",
                report.table()
            );
            assert!(!seen, "no key was in the clear on its way");
            assert_same(&a, &b, &ids);
        }
    }
}

#[test]
fn what_can_not_be_wrapped_or_is_not_extractable_stays() {
    let (a, b) = (master(), replica());
    share(&a, "kek");
    share(&b, "kek");
    let client = a.client(Version::V2_1);
    let kept = client.register(key(&[1; 16]), none().with(V::Extractable(false)));
    let opaque = OpaqueObject {
        opaque_data_type: keyferry_ttlv::Enumeration(0x8000_0000),
        value: Secret::new(b"data"),
        extra: keyferry_ttlv::Extra::NONE,
    };
    let bare = client.register(
        Object::OpaqueObject(opaque),
        none().with(V::Sensitive(true)),
    );
    let selection = Selection::everything().listed([kept.as_str().into(), bare.as_str().into()]);
    let options = BulkOptions {
        selection,
        ..options(Strategy::Import)
    };
    let mut session =
        Bulk::new(options.clone()).wrapping(a.server.node().clone(), Wrapping::new("kek", "kek"));
    let report = drive(
        &a,
        &b,
        &mut session,
        "a.example",
        Cut::Never,
        &mut |_, _| {},
    )
    .unwrap()
    .unwrap();
    assert_eq!(
        (report.counts.asked, report.counts.failed, b.count()),
        (2, 2, 1),
        "{}",
        report.table()
    );
    // Put has no way to say that a key was wrapped for its way.
    let options = BulkOptions {
        strategy: Strategy::Put,
        version: Version::V1_4,
        ..options
    };
    let mut session =
        Bulk::new(options).wrapping(a.server.node().clone(), Wrapping::new("kek", "kek"));
    assert!(
        drive(
            &a,
            &b,
            &mut session,
            "a.example",
            Cut::Never,
            &mut |_, _| {}
        )
        .unwrap()
        .is_err()
    );
}

#[test]
fn a_wrong_or_missing_key_at_the_receiver_fails_each_object() {
    for shared in [false, true] {
        let (a, b) = (master(), replica());
        share(&a, "kek");
        if shared {
            let attributes = none()
                .with(usage())
                .with(V::ActivationDate(DateTime(START - 10)));
            b.client(Version::V2_1)
                .import("kek", Some(key(&[0; 32])), attributes, false)
                .unwrap();
        }
        let ids = secrets(&a);
        let selection = Selection::everything().listed(ids.iter().map(|id| id.as_str().into()));
        let options = BulkOptions {
            selection,
            ..options(Strategy::Import)
        };
        let mut session =
            Bulk::new(options).wrapping(a.server.node().clone(), Wrapping::new("kek", "kek"));
        let report = drive(
            &a,
            &b,
            &mut session,
            "a.example",
            Cut::Never,
            &mut |_, _| {},
        )
        .unwrap()
        .unwrap();
        assert_eq!(report.counts.failed, 3, "{}", report.table());
        assert_eq!(b.count(), u64::from(shared));
    }
}

#[test]
fn attributes_that_are_bound_to_a_key_can_not_be_exchanged_on_the_way() {
    let (a, b) = (master(), replica());
    share(&a, "kek");
    share(&b, "kek");
    let ids = secrets(&a);
    let selection = Selection::everything().listed([ids[0].as_str().into()]);
    let options = BulkOptions {
        selection,
        ..options(Strategy::Import)
    };
    let mut session =
        Bulk::new(options).wrapping(a.server.node().clone(), Wrapping::new("kek", "kek"));
    let mut taken = None;
    drive(
        &a,
        &b,
        &mut session,
        "a.example",
        Cut::Never,
        &mut |_, message| {
            if message.batch[0].operation == Operation::IMPORT {
                taken = Some(message.batch[0].clone());
            }
        },
    );
    // The same wrapped key beside other attributes, with a digest that is right: one who can't open it makes another copy of it.
    let peer = replica();
    share(&peer, "kek");
    let peer = peer.client_named("a.example", Version::V2_1);
    let item = taken.unwrap();
    let request: ImportRequest = item.payload(peer.cx()).unwrap();
    let mut other = a.record(&ids[0]);
    other
        .attributes
        .set(V::CryptographicUsageMask(CryptographicUsageMask::ENCRYPT));
    let mut forged = copy_item(&peer, &other, request.object, |_| {});
    let mut payload: ImportRequest = forged.payload(peer.cx()).unwrap();
    payload.key_wrap_type = Some(KeyWrapType::NOT_WRAPPED);
    forged.request_payload = peer.item(&payload).request_payload;
    let refused = peer.call_item::<ImportResponse>(forged).unwrap_err();
    assert_eq!(refused.0, ResultReason::INVALID_MESSAGE, "{refused:?}");
}

#[test]
fn sensitive_keys_are_pulled_wrapped() {
    for strategy in [PullStrategy::Get, PullStrategy::Export] {
        let f = Host::named("f", Access::Authenticated, Policy::closed());
        let p = Host::named("p", Access::Authenticated, Policy::closed());
        share(&f, "kek at f");
        share(&p, "kek at p");
        let ids = secrets(&f);
        let selection = Selection::everything().listed(ids.iter().map(|id| id.as_str().into()));
        for wrapping in [None, Some(Wrapping::new("kek at p", "kek at f"))] {
            let wraps = wrapping.is_some();
            let options = PullOptions {
                version: Version::V1_4,
                selection: selection.clone(),
                wrapping,
                ..PullOptions::new("f", Peer::new("f"), strategy)
            };
            let mut session = Pull::new(p.server.node().clone(), options);
            let report = drive(&p, &f, &mut session, "client", Cut::Never, &mut |_, _| {})
                .unwrap()
                .unwrap();
            let expected = if wraps { (2, 1, 0) } else { (1, 0, 2) };
            let c = &report.counts;
            assert_eq!(
                (c.created, c.unchanged, c.failed),
                expected,
                "{strategy:?} {}",
                report.table()
            );
        }
        ids.iter()
            .for_each(|id| assert_eq!(p.object(id), f.object(id)));
    }
}
