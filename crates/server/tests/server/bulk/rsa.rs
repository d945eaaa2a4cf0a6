//! Key material that is wrapped on its way under the receiver's RSA key.

use crate::bulk::drive::*;
use crate::bulk::follows::*;
use crate::support::*;
use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_server::Access;
use keyferry_store::{Record, SnapshotExt, StoreExt};
use keyferry_ttlv::{Extra, Version};
use std::ops::ControlFlow;
use std::sync::OnceLock;

fn halves() -> [Object; 2] {
    static PAIR: OnceLock<KeyPair> = OnceLock::new();
    let pair = PAIR.get_or_init(|| Ring::new().rsa_key_pair(2048).unwrap());
    let half = |bytes: &[u8]| {
        let algorithm = Some((CryptographicAlgorithm::RSA, 2048));
        Key {
            key_block: KeyBlock::plain(KeyFormatType::PKCS_1, algorithm, Secret::new(bytes)).into(),
            extra: Extra::NONE,
        }
    };
    [
        Object::PublicKey(half(&pair.public)),
        Object::PrivateKey(half(&pair.private)),
    ]
}

fn active(usage: CryptographicUsageMask) -> Attributes {
    none()
        .with(V::CryptographicUsageMask(usage))
        .with(V::ActivationDate(DateTime(START - 10)))
}

/// Gives `sender` the public half and `receiver` the private one, linked from the public one there.
pub fn share(sender: &Host, receiver: &Host) {
    let [public, private] = halves();
    let of = |host: &Host| host.client(Version::V2_1);
    of(sender)
        .import(
            "public there",
            Some(public.clone()),
            active(CryptographicUsageMask::WRAP_KEY),
            false,
        )
        .unwrap();
    let link = Link {
        link_type: LinkType::PRIVATE_KEY_LINK,
        target: "private".into(),
        extra: Extra::NONE,
    };
    of(receiver)
        .import(
            "private",
            Some(private),
            active(CryptographicUsageMask::UNWRAP_KEY),
            false,
        )
        .unwrap();
    let linked = active(CryptographicUsageMask::WRAP_KEY).with(V::Link(link));
    of(receiver)
        .import("public", Some(public), linked, false)
        .unwrap();
}

pub fn secrets(host: &Host) -> Vec<String> {
    let client = host.client(Version::V2_1);
    let usage = V::CryptographicUsageMask(CryptographicUsageMask::ENCRYPT);
    let sensitive = |n: u8, length| {
        client.register(
            key(&vec![n; length]),
            named(&format!("s{n}"))
                .with(V::Sensitive(true))
                .with(usage.clone()),
        )
    };
    vec![
        sensitive(1, 16),
        sensitive(2, 32),
        client.register(key(&[3; 24]), named("open")),
    ]
}

fn listed(ids: &[String]) -> Selection {
    Selection::everything().listed(ids.iter().map(|id| id.as_str().into()))
}

pub fn push(
    a: &Host,
    b: &Host,
    version: Version,
    ids: &[String],
    wrapping: Wrapping,
) -> (Report, Vec<u8>) {
    let options = BulkOptions {
        version,
        selection: listed(ids),
        ..options(Strategy::Import)
    };
    let mut session = Bulk::new(options).wrapping(a.server.node().clone(), wrapping);
    let mut sent = Vec::new();
    let report = drive(
        a,
        b,
        &mut session,
        "a.example",
        Cut::Never,
        &mut |_, message| {
            sent.extend_from_slice(&message.to_frame().unwrap());
        },
    );
    (report.unwrap().unwrap(), sent)
}

/// The same in KMIP 2.1; `each` sees the last item of each message.
pub fn push_seeing(
    a: &Host,
    b: &Host,
    ids: &[String],
    wrapping: Wrapping,
    each: &mut dyn FnMut(&RequestItem),
) {
    let options = BulkOptions {
        selection: listed(ids),
        ..options(Strategy::Import)
    };
    let mut session = Bulk::new(options).wrapping(a.server.node().clone(), wrapping);
    let mut see = |_, message: &RequestMessage| each(message.batch.last().unwrap());
    drive(a, b, &mut session, "a.example", Cut::Never, &mut see)
        .unwrap()
        .unwrap();
}

#[test]
fn keys_are_pushed_under_the_receivers_public_key() {
    for version in [Version::V1_4, Version::V2_0, Version::V2_1] {
        for there in ["private", "public"] {
            let (a, b) = (master(), replica());
            share(&a, &b);
            let ids = secrets(&a);
            let (report, sent) = push(&a, &b, version, &ids, Wrapping::oaep("public there", there));
            assert_eq!(
                (report.counts.created, report.counts.failed),
                (3, 0),
                "{version} {there} {}",
                report.table()
            );
            assert!(!sent.windows(16).any(|window| [[1; 16], [2; 16], [3; 16]].contains(&window.try_into().unwrap())));
            assert_same(&a, &b, &ids);
        }
    }
}

#[test]
fn every_hash_and_the_defaults_of_the_standard_are_understood() {
    use HashingAlgorithm as H;
    for (hash, mask) in [
        (H::SHA_1, None),
        (H::SHA_256, None),
        (H::SHA_256, Some(H::SHA_1)),
        (H::SHA_384, Some(H::SHA_512)),
    ] {
        let (a, b) = (master(), replica());
        share(&a, &b);
        let ids = secrets(&a);
        let wrapping = Wrapping {
            parameters: CryptographicParameters {
                padding_method: Some(PaddingMethod::OAEP),
                hashing_algorithm: Some(hash),
                mask_generator_hashing_algorithm: mask,
                ..Default::default()
            },
            ..Wrapping::oaep("public there", "private")
        };
        let (report, _) = push(&a, &b, Version::V2_1, &ids, wrapping);
        // 32 bytes with their encoding and a bound attribute are 112, and SHA-384 leaves 158 of 256.
        assert_eq!(
            (report.counts.created, report.counts.failed),
            (3, 0),
            "{hash} {mask:?} {}",
            report.table()
        );
        assert_same(&a, &b, &ids);
    }
}

/// Objects that are longer than RSA can wrap: a private key, and a long secret.
fn long_secrets(host: &Host) -> Vec<String> {
    let client = host.client(Version::V2_1);
    let [_, private] = halves();
    let usage = V::CryptographicUsageMask(CryptographicUsageMask::SIGN);
    let sensitive = |what: &str| named(what).with(usage.clone()).with(V::Sensitive(true));
    let text = Object::secret_data(SecretDataType::PASSWORD, Secret::new(&[0x5E; 5003]));
    vec![
        client.register(private, sensitive("long")),
        client.register(text, sensitive("text")),
    ]
}

/// Whether bytes show anything of the secrets.
fn shows_a_secret(sent: &[u8]) -> bool {
    let [_, private] = halves();
    let material = private.digestible().unwrap()[200..232].to_vec();
    let shown = [
        vec![1; 16],
        vec![2; 16],
        vec![3; 16],
        vec![0x5E; 16],
        material,
    ];
    shown
        .iter()
        .any(|secret| sent.windows(secret.len()).any(|window| window == secret))
}

/// The transport keys that a server holds: their records, and their material.
pub fn transport_keys(host: &Host) -> Vec<(Record, Object)> {
    let is_one = |value: &V| matches!(value, V::ApplicationSpecificInformation(of) if of.namespace == *"keyferry-transport");
    let mut found = Vec::new();
    host.store
        .view::<_, Error>(|snapshot| {
            let mut numbers = Vec::new();
            snapshot.feed(0, &mut |row| {
                numbers.push(row.record);
                Ok(ControlFlow::Continue(()))
            })?;
            for number in numbers {
                let (record, object) = snapshot.whole(number)?.unwrap();
                if record.attributes.iter().any(|a| is_one(&a.value)) {
                    found.extend(object.map(|object| (record, object)));
                }
            }
            Ok(())
        })
        .unwrap();
    found
}

#[test]
fn what_is_too_long_for_rsa_goes_under_a_transport_key() {
    for version in [Version::V1_4, Version::V2_0, Version::V2_1] {
        for there in ["private", "public"] {
            let (a, b) = (master(), replica());
            share(&a, &b);
            let mut ids = secrets(&a);
            ids.extend(long_secrets(&a));
            let wrapping = || Wrapping::oaep("public there", there);
            let (report, sent) = push(&a, &b, version, &ids, wrapping());
            assert_eq!(
                counts(&report),
                (5, 0, 0, 0),
                "{version} {}",
                report.table()
            );
            assert!(!shows_a_secret(&sent));
            assert_same(&a, &b, &ids);
            // One key carries all, and is the same at both ends, in no weaker terms.
            let (made, taken) = (transport_keys(&a), transport_keys(&b));
            assert_eq!((made.len(), taken.len()), (1, 1));
            assert_eq!(made[0].1, taken[0].1);
            let material = made[0].1.digestible().unwrap();
            assert!(!sent.windows(32).any(|window| window == material));
            for record in [&made[0].0, &taken[0].0] {
                assert_eq!(
                    record.attributes.get(tag::SENSITIVE),
                    Some(&V::Sensitive(true))
                );
                assert_eq!(record.state(a.now().wall), Some(State::ACTIVE));
            }
            // It goes again where it was taken already, and another one where a person wants so; the one before is kept.
            let (report, _) = push(&a, &b, version, &ids, wrapping());
            assert_eq!(counts(&report), (0, 0, 5, 0), "{}", report.table());
            assert_eq!(transport_keys(&b).len(), 1);
            renew(&a, &wrapping());
            let more = a
                .client(Version::V2_1)
                .register(key(&[1; 32]), named("more"));
            let (report, _) = push(&a, &b, version, &[more], wrapping());
            assert_eq!(counts(&report), (1, 0, 0, 0), "{}", report.table());
            assert_eq!(transport_keys(&b).len(), 2);
        }
    }
}

fn renew(host: &Host, wrapping: &Wrapping) -> String {
    let mut random = SystemRandom::new();
    let (store, node) = (&*host.store, host.server.node());
    renew_transport_key(store, node, wrapping, host.now(), &mut random)
        .unwrap()
        .to_string()
}

#[test]
fn a_transport_key_is_replaced_after_a_year_and_goes_to_its_receiver_alone() {
    let (a, b) = (master(), replica());
    share(&a, &b);
    let ids = secrets(&a);
    let wrapping = || Wrapping::oaep("public there", "private");
    push(&a, &b, Version::V2_1, &ids, wrapping());
    a.pass(365 * 24 * 3600 - 1);
    push(&a, &b, Version::V2_1, &ids, wrapping());
    assert_eq!(transport_keys(&a).len(), 1);
    a.pass(1);
    push(&a, &b, Version::V2_1, &ids, wrapping());
    assert_eq!((transport_keys(&a).len(), transport_keys(&b).len()), (2, 2));
    // Everything goes to another server, also wrapped: but no transport key of the first.
    let c = replica();
    let kek = [0x4B; 32];
    for host in [&a, &c] {
        let both = CryptographicUsageMask::WRAP_KEY | CryptographicUsageMask::UNWRAP_KEY;
        host.client(Version::V2_1)
            .import("kek", Some(key(&kek)), active(both), false)
            .unwrap();
    }
    let mut session = Bulk::new(options(Strategy::Import))
        .wrapping(a.server.node().clone(), Wrapping::new("kek", "kek"));
    drive(
        &a,
        &c,
        &mut session,
        "a.example",
        Cut::Never,
        &mut |_, _| {},
    )
    .unwrap()
    .unwrap();
    assert_eq!(transport_keys(&c).len(), 0);
}

#[test]
fn a_replica_gets_the_transport_key_before_what_it_wraps() {
    let wrapping = || Wrapping::oaep("public there", "private");
    // The agreement lets one group through: the transport key is of it all the same.
    let group = |group: &str| V::ObjectGroup(group.into());
    let agreed = || Selection::everything().with(group("g"));
    let a = issuer_with(|peer| peer.wrapping(wrapping()).agreed(agreed()));
    let b = follower("b");
    share(&a, &b);
    let client = a.client(Version::V2_1);
    let mut ids = secrets(&a);
    ids.extend(long_secrets(&a));
    for id in &ids {
        client.add(id, group("g")).unwrap();
    }
    // Another partner calls its RSA key alike: what is for that one does not come here.
    renew(&a, &Wrapping::oaep("public of another", "private"));
    begin(&b, &UpstreamOptions::default());
    let options = || FollowOptions {
        batch: 3,
        in_flight: 2,
        ..FollowOptions::new("r", Peer::new("a").unwrapping("private").agreed(agreed()))
    };
    let report = pass_cut(&b, &a, options(), Cut::Never).unwrap().unwrap();
    assert_eq!(report.counts.failed, 0, "{}", report.table());
    assert_same(&a, &b, &ids);
    assert_eq!(transport_keys(&b).len(), 1);
    // Whatever answer is lost, the next pass finds the rest.
    for cut in 0..5 {
        let c = follower("c");
        share(&follower("x"), &c);
        begin(&c, &UpstreamOptions::default());
        renew(&a, &wrapping());
        pass_cut(&c, &a, options(), Cut::Dead(cut));
        pass_cut(&c, &a, options(), Cut::Behind(cut))
            .unwrap()
            .unwrap();
        assert_same(&a, &c, &ids);
    }
    // Another key wraps what is new, and what was wrapped by the one before stays.
    renew(&a, &wrapping());
    let more = client.register(key(&[1; 32]), named("more").with(group("g")));
    let report = pass_cut(&b, &a, options(), Cut::Never).unwrap().unwrap();
    assert_eq!(report.counts.failed, 0, "{}", report.table());
    ids.push(more);
    assert_same(&a, &b, &ids);
    // Without a key that the agreement names nothing is unwrapped.
    let c = follower("b");
    share(&follower("x"), &c);
    begin(&c, &UpstreamOptions::default());
    let options = FollowOptions::new("r", Peer::new("a").unwrapping("another"));
    pass_cut(&c, &a, options, Cut::Never).unwrap().unwrap();
    assert_eq!(c.count(), 2, "its own RSA key alone");
}

/// How it fails when `change` has happened at the sender or the receiver.
fn failing(change: impl Fn(&Host, &Host), wrapping: Wrapping) -> Vec<String> {
    let (a, b) = (master(), replica());
    share(&a, &b);
    let ids = secrets(&a);
    change(&a, &b);
    let (report, _) = push(&a, &b, Version::V2_1, &ids, wrapping);
    assert_eq!(
        (report.counts.created, report.counts.failed),
        (0, 3),
        "{}",
        report.table()
    );
    assert!(
        ids.iter()
            .all(|id| b.client(Version::V2_1).get(id).is_err())
    );
    report
        .failures
        .into_iter()
        .map(|failed| failed.message)
        .collect()
}

#[test]
fn a_key_that_is_wrong_missing_or_not_to_be_used_fails_each_object() {
    let usual = || Wrapping::oaep("public there", "private");
    let of = |host: &Host| host.client(Version::V2_1);
    let superseded = RevocationReasonCode::SUPERSEDED;
    let told = failing(
        |a, _| of(a).revoke("public there", superseded).unwrap(),
        usual(),
    );
    assert!(
        told[0].contains("may not be used so in its State"),
        "{told:?}"
    );
    let told = failing(
        |_, b| {
            of(b)
                .revoke("private", superseded)
                .and_then(|()| of(b).destroy("private"))
                .unwrap()
        },
        usual(),
    );
    assert!(told[0].contains("was destroyed"), "{told:?}");
    let told = failing(|_, _| (), Wrapping::oaep("public there", "nobody"));
    assert!(told[0].contains("there is no wrapping key"), "{told:?}");
    // The mask does not allow it.
    let told = failing(
        |a, _| {
            let [public, _] = halves();
            of(a)
                .import(
                    "verifies",
                    Some(public),
                    active(CryptographicUsageMask::VERIFY),
                    false,
                )
                .unwrap();
        },
        Wrapping::oaep("verifies", "private"),
    );
    assert!(told[0].contains("Cryptographic Usage Mask"), "{told:?}");
    // Another pair's private half.
    let told = failing(
        |_, b| {
            let pair = Ring::new().rsa_key_pair(2048).unwrap();
            let algorithm = Some((CryptographicAlgorithm::RSA, 2048));
            let key_block =
                KeyBlock::plain(KeyFormatType::PKCS_1, algorithm, Secret::new(&pair.private))
                    .into();
            let other = Object::PrivateKey(Key {
                key_block,
                extra: Extra::NONE,
            });
            of(b)
                .import(
                    "other",
                    Some(other),
                    active(CryptographicUsageMask::UNWRAP_KEY),
                    false,
                )
                .unwrap();
        },
        Wrapping::oaep("public there", "other"),
    );
    assert!(told[0].contains("altered data, or another key"), "{told:?}");
    // A private half does not wrap, and PKCS1 v1.5 is not done.
    let told = failing(
        |a, _| {
            let [_, private] = halves();
            of(a)
                .import(
                    "half",
                    Some(private),
                    active(CryptographicUsageMask::WRAP_KEY),
                    false,
                )
                .unwrap();
        },
        Wrapping::oaep("half", "private"),
    );
    assert!(told[0].contains("is no key that does this"), "{told:?}");
    let parameters = CryptographicParameters {
        padding_method: Some(PaddingMethod::PKCS1_V1_5),
        ..Default::default()
    };
    let told = failing(
        |_, _| (),
        Wrapping {
            parameters,
            ..usual()
        },
    );
    assert!(told[0].contains("by OAEP"), "{told:?}");
}

#[test]
fn keys_are_pulled_under_our_public_key() {
    for (strategy, version) in [
        (PullStrategy::Get, Version::V1_4),
        (PullStrategy::Get, Version::V2_1),
        (PullStrategy::Export, Version::V1_4),
        (PullStrategy::Export, Version::V2_1),
    ] {
        let f = Host::named("f", Access::Authenticated, Policy::closed());
        let p = Host::named("p", Access::Authenticated, Policy::closed());
        share(&f, &p);
        let ids = secrets(&f);
        let options = PullOptions {
            version,
            selection: listed(&ids),
            wrapping: Some(Wrapping::oaep("private", "public there")),
            ..PullOptions::new("f", Peer::new("f"), strategy)
        };
        let mut session = Pull::new(p.server.node().clone(), options);
        let report = drive(&p, &f, &mut session, "client", Cut::Never, &mut |_, _| {})
            .unwrap()
            .unwrap();
        assert_eq!(
            (report.counts.created, report.counts.failed),
            (3, 0),
            "{strategy:?} {version} {}",
            report.table()
        );
        ids.iter()
            .for_each(|id| assert_eq!(p.object(id), f.object(id)));
    }
}

#[test]
fn before_1_4_a_pull_says_all_of_it_with_sha_1_alone() {
    let f = Host::named("f", Access::Authenticated, Policy::closed());
    let p = Host::named("p", Access::Authenticated, Policy::closed());
    share(&f, &p);
    let ids = secrets(&f);
    let sha_1 = CryptographicParameters {
        padding_method: Some(PaddingMethod::OAEP),
        hashing_algorithm: Some(HashingAlgorithm::SHA_1),
        ..Default::default()
    };
    let sha_256 = CryptographicParameters {
        hashing_algorithm: Some(HashingAlgorithm::SHA_256),
        ..sha_1.clone()
    };
    for (parameters, expected) in [(sha_256, (0, 3)), (sha_1, (3, 0))] {
        let options = PullOptions {
            version: Version::V1_2,
            selection: listed(&ids),
            wrapping: Some(Wrapping {
                parameters,
                ..Wrapping::oaep("private", "public there")
            }),
            ..PullOptions::new("f", Peer::new("f"), PullStrategy::Get)
        };
        let mut session = Pull::new(p.server.node().clone(), options);
        let report = drive(&p, &f, &mut session, "client", Cut::Never, &mut |_, _| {})
            .unwrap()
            .unwrap();
        assert_eq!(
            (report.counts.created, report.counts.failed),
            expected,
            "{}",
            report.table()
        );
    }
}
