//! What goes in comes out.

use crate::support::*;
use keyferry_bundle::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_store::Home;

/// A server with keys in several states, some of them destroyed.
fn alpha() -> Host {
    let alpha = Host::new("alpha");
    for n in 0..57u8 {
        let id = alpha.key(n, &format!("key {n}"));
        match n % 10 {
            1 => alpha.revoke(&id, RevocationReasonCode::KEY_COMPROMISE),
            2 => alpha.revoke(&id, RevocationReasonCode::SUPERSEDED),
            3 => {
                alpha.revoke(&id, RevocationReasonCode::CESSATION_OF_OPERATION);
                alpha.destroy(&id);
            }
            _ => {}
        }
    }
    alpha
}

#[test]
fn copies_are_equal_tombstones_among_them() {
    let (alpha, beta, keys) = (alpha(), Host::new("beta"), Keys::new());
    let (sealed, file) = keys.seal_by(&alpha, 10);
    assert_eq!(
        (
            sealed.objects,
            sealed.tombstones,
            sealed.left,
            sealed.segments
        ),
        (57, 6, 0, 7)
    );
    let (opened, report) = keys.open(&file, &beta);
    assert_eq!(
        (opened.objects, opened.segments, opened.cursor),
        (57, 7, sealed.cursor as i64)
    );
    assert_eq!(opened.manifest, sealed.manifest);
    assert_eq!(
        (report.counts.created, report.counts.failed),
        (57, 0),
        "{report:?}"
    );
    assert!(report.counts.add_up());
    assert_eq!(alpha.copies(), beta.copies());
    assert_eq!(
        beta.copies().iter().filter(|copy| copy.3.is_none()).count(),
        6
    );
}

/// Objects of every type, and attributes of every kind of value.
#[test]
fn every_attribute_of_every_object_arrives() {
    use keyferry_ttlv::{DateTimeExtended, Extra, Interval, Value};
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let mut ids = Vec::new();
    let usage = V::CryptographicUsageMask(CryptographicUsageMask::ENCRYPT);
    for (what, object) in crate::objects::all(keyferry_ttlv::Version::V2_1) {
        ids.push(
            alpha.register(
                object,
                Attributes::new()
                    .with(V::Name(Name::text(what)))
                    .with(usage.clone()),
            ),
        );
    }
    let values = [
        ("integer", Value::Integer(i32::MIN)),
        ("long integer", Value::LongInteger(i64::MIN)),
        (
            "big integer",
            Value::BigInteger(vec![0x80, 0, 0, 0, 0, 0, 0, 1]),
        ),
        ("enumeration", Value::Enumeration(0x8000_0001)),
        ("boolean", Value::Boolean(true)),
        (
            "text",
            Value::Text("\u{fc}n\u{ef}c\u{f6}d\u{e9} \u{1F511}".into()),
        ),
        ("bytes", Value::Bytes((0..=255).collect())),
        ("date", Value::DateTime(DateTime(i64::MAX))),
        ("interval", Value::Interval(Interval(u32::MAX))),
        (
            "extended",
            Value::DateTimeExtended(DateTimeExtended(i64::MIN)),
        ),
    ];
    let custom = |name: &str, value| {
        V::Custom(CustomAttribute {
            vendor: "x".into(),
            name: name.into(),
            value: Some(value),
        })
    };
    let limits = UsageLimits {
        total: i64::MAX,
        count: None,
        unit: UsageLimitsUnit::BYTE,
        extra: Extra::NONE,
    };
    let link = Link {
        link_type: LinkType::REPLACED_OBJECT_LINK,
        target: ids[0].as_str().into(),
        extra: Extra::NONE,
    };
    let attributes = values
        .into_iter()
        .map(|(name, value)| custom(name, value))
        .fold(
            Attributes::new()
                .with(usage)
                .with(V::UsageLimits(limits))
                .with(V::Link(link)),
            Attributes::with,
        );
    let dates = [
        V::ActivationDate,
        V::ProcessStartDate,
        V::ProtectStopDate,
        V::DeactivationDate,
    ];
    let attributes = dates
        .into_iter()
        .zip(1..)
        .fold(attributes, |all, (date, n)| {
            all.with(date(DateTime(i64::MAX - 9 + n)))
        });
    let key = Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(&[0x21; 16]));
    ids.push(alpha.register(key, attributes));
    let (sealed, file) = keys.seal_by(&alpha, 5);
    assert_eq!(
        (sealed.objects, sealed.left),
        (ids.len() as u64, 0),
        "{:?}",
        sealed.named
    );
    let (_, report) = keys.open(&file, &beta);
    assert_eq!(
        (report.counts.created, report.losses.len()),
        (ids.len() as i64, 0),
        "{report:?}"
    );
    for id in &ids {
        let ((own, object), (copy, material)) = (alpha.held(id).unwrap(), beta.held(id).unwrap());
        assert_eq!(
            (own.id, own.object_type, own.stamp),
            (copy.id, copy.object_type, copy.stamp)
        );
        assert_eq!((own.attributes, object), (copy.attributes, material));
    }
}

#[test]
fn taken_twice_nothing_changes() {
    let (alpha, beta, keys) = (alpha(), Host::new("beta"), Keys::new());
    let file = keys.seal(&alpha);
    keys.open(&file, &beta);
    let (_, report) = keys.open(&file, &beta);
    assert_eq!((report.counts.unchanged, report.counts.asked), (57, 57));
    assert_eq!(alpha.copies(), beta.copies());
}

#[test]
fn a_server_takes_the_messages_as_requests() {
    let (alpha, beta, keys) = (alpha(), Host::new("beta"), Keys::new());
    let file = keys.seal(&alpha);
    let mut answered = 0;
    open::<Error>(
        &file[..],
        &OpenOptions::new("beta", &keys.trusted, &keys.identity, NOW),
        |part| {
            let response = beta.answer("alpha's", &part.message);
            assert!(response.batch.iter().all(ResponseItem::is_success));
            answered += response.batch.len();
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(answered, 57);
    assert_eq!(alpha.copies(), beta.copies());
}

#[test]
fn one_refused_object_does_not_stop_the_others() {
    let (alpha, beta, keys) = (alpha(), Host::new("beta"), Keys::new());
    beta.key(200, "key 5");
    let (_, report) = keys.open(&keys.seal(&alpha), &beta);
    assert_eq!((report.counts.created, report.counts.failed), (56, 1));
    assert!(report.failures[0].message.contains("key 5"), "{report:?}");
    assert_eq!(
        report.failures[0].reason,
        Some(ResultReason::NON_UNIQUE_NAME_ATTRIBUTE)
    );
    assert!(!report.failures[0].identifier.is_empty());
}

#[test]
fn whom_the_policy_does_not_know_gets_nothing_in() {
    let (alpha, beta, keys) = (alpha(), Host::new("beta"), Keys::new());
    let file = keys.seal(&alpha);
    let who = caller("a stranger");
    let node = &**beta.server.node();
    let receiving = Receiving {
        responder: node,
        store: &*beta.store,
        caller: &who,
        now: now(),
        again: false,
        restoring: None,
    };
    let options = OpenOptions::new("beta", &keys.trusted, &keys.identity, NOW);
    let (_, report) = receiving
        .take(
            &file[..],
            &options,
            &mut keyferry_crypto::SystemRandom::new(),
        )
        .unwrap();
    assert_eq!((report.counts.failed, beta.count()), (57, 0));
}

#[test]
fn what_may_not_leave_is_named() {
    let (alpha, keys) = (Host::new("alpha"), Keys::new());
    alpha.key(1, "goes");
    let secret = Object::symmetric_key(CryptographicAlgorithm::AES, 256, Secret::new(&[9; 32]));
    let mask = V::CryptographicUsageMask(CryptographicUsageMask::ENCRYPT);
    let stays = alpha.register(
        secret,
        Attributes::new().with(mask).with(V::Sensitive(true)),
    );
    let (sealed, file) = keys.seal_by(&alpha, 10);
    assert_eq!((sealed.objects, sealed.left), (1, 1));
    assert_eq!(sealed.named[0].identifier, stays);
    let beta = Host::new("beta");
    keys.open(&file, &beta);
    assert_eq!((beta.count(), beta.held(&stays).is_none()), (1, true));
}

#[test]
fn an_empty_store_makes_a_bundle_too() {
    let (alpha, beta, keys) = (Host::new("alpha"), Host::new("beta"), Keys::new());
    let opened = keys.open(&keys.seal(&alpha), &beta).0;
    assert_eq!((opened.objects, opened.segments), (0, 1));
}

#[test]
fn the_manifest_is_read_alone() {
    let (alpha, keys) = (alpha(), Keys::new());
    let (sealed, file) = keys.seal_by(&alpha, 10);
    let read = manifest(&file[..], &keys.trusted, &keys.identity).unwrap();
    assert_eq!(read, sealed.manifest);
    assert_eq!(
        (read.sender.as_str(), read.recipient.as_str(), read.objects),
        ("alpha", "beta", 57)
    );
    assert_eq!(
        (read.created, read.expires, read.position),
        (NOW, LATER, sealed.cursor as i64)
    );
    assert_eq!(read.signer, keys.sign.verifying_key().id());
    let unknown = manifest(&file[..], &[], &keys.identity).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::UnknownSigner);
}

#[test]
fn the_file_shows_no_key_and_neither_does_debug() {
    let (alpha, keys) = (Host::new("alpha"), Keys::new());
    alpha.key(0xA7, "x");
    let file = keys.seal(&alpha);
    assert!(!file.windows(8).any(|window| window == [0xA7; 8]));
    let home: &Home = &alpha.server.node().home;
    let readers = [AgeRecipient::passphrase("open sesame")];
    let seal_options = SealOptions::new(home, "beta", &keys.sign, &readers, NOW, LATER);
    let options = OpenOptions::new("beta", &keys.trusted, &keys.identity, NOW);
    let mut shown = format!(
        "{seal_options:?} {options:?} {:?} {:?} {readers:?}",
        keys.sign, keys.identity
    );
    open::<Error>(&file[..], &options, |part| {
        shown += &format!("{part:?}");
        Ok(())
    })
    .unwrap();
    for secret in [
        "167, 167, 167",
        "a7a7a7",
        "A7A7A7",
        "sesame",
        keys.identity.secret_text().unwrap().as_str(),
    ] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
