//! Servers that know nothing of it are brought up to date by Import, with a probe of what the peer does with a key that may not be used.

use crate::bulk::drive::*;
use crate::bulk::foreign::foreign;
use crate::bulk::publishing::*;
use crate::bulk::registers::Forgetful;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_ttlv::{Extra, Version};
use std::sync::Arc;

#[test]
fn an_import_probes_before_it_brings_what_can_not_be_used() {
    for forgets in [false, true] {
        let (a, mut t) = (master(), foreign(&EVERYTHING));
        if forgets {
            // It forgets what an Import and a Revoke say of the State.
            t.server = Arc::new(
                Arc::into_inner(t.server)
                    .unwrap()
                    .with(Arc::new(Forgetful))
                    .with(Arc::new(Stateless)),
            );
        }
        let client = a.client(Version::V2_1);
        let good = client.register(key(&[1; 16]), none());
        let bad = client.register(key(&[2; 16]), none());
        client
            .revoke(&bad, RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
        let mut sent = Vec::new();
        let mut session = Birth::Import.session(Version::V1_4);
        let report = drive(
            &a,
            &t,
            &mut *session,
            "anyone",
            Cut::Never,
            &mut |_, message| {
                sent.extend_from_slice(&message.to_frame().unwrap());
            },
        );
        let report = report.unwrap().unwrap();
        let went = sent.windows(16).any(|window| window == [2; 16]);
        assert_eq!(
            went, !forgets,
            "its material goes only where its State is kept"
        );
        assert_eq!(
            (report.counts.created, report.counts.failed),
            if forgets { (1, 1) } else { (2, 0) },
            "{}",
            report.table()
        );
        assert_eq!(
            there(&a, &good).as_deref(),
            Some(&*good),
            "the map is the identity"
        );
        assert_eq!(there(&a, &bad).is_some(), !forgets);
        let alive = t.client(Version::V1_4).locate(none());
        assert_eq!(
            alive.len(),
            if forgets { 1 } else { 2 },
            "the probe is gone: {alive:?}"
        );
    }
    // Where nobody can look, nothing unusable goes; nor by a Put, behind which nobody can.
    for (strategy, offered) in [
        (Strategy::Import, &[Operation::IMPORT][..]),
        (Strategy::Put, &EVERYTHING[..]),
    ] {
        let (a, t) = (master(), foreign(offered));
        let client = a.client(Version::V2_1);
        let ids = [
            client.register(key(&[1; 16]), none()),
            client.register(key(&[2; 16]), none()),
        ];
        client
            .revoke(&ids[1], RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
        let report = transfer(&a, &t, strategy);
        assert_eq!(
            (report.counts.created, report.counts.failed),
            (1, 1),
            "{strategy:?} {}",
            report.table()
        );
        assert_eq!((&report.failures[0].identifier, t.count()), (&ids[1], 1));
    }
}

/// Imports everything as Pre-Active.
struct Stateless;

impl Responder for Stateless {
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Answered, Failure>> {
        let mut request: ImportRequest =
            (item.operation == Operation::IMPORT).then(|| item.payload(ask.cx).unwrap())?;
        request.attributes.retain(|attribute| {
            !matches!(
                attribute.value,
                V::State(_)
                    | V::CompromiseDate(_)
                    | V::CompromiseOccurrenceDate(_)
                    | V::RevocationReason(_)
            )
        });
        let item = RequestItem::new(&request, ask.cx).unwrap();
        let ring = Arc::new(keyferry_crypto::Ring::new());
        let home = keyferry_store::Home {
            server: "f".into(),
            instance: vec![1],
            fingerprint_key: Secret::new(&[1; 32]),
            extra: Extra::NONE,
        };
        Node::new(home, Policy::closed(), ring).respond(ask, &item)
    }
}

#[test]
fn an_import_that_is_interrupted_anywhere_doubles_and_loses_nothing() {
    let made = || {
        let a = master();
        let client = a.client(Version::V2_1);
        let ids: Vec<String> = (0..10)
            .map(|n| client.register(key(&[n; 16]), named(&format!("n{n}"))))
            .collect();
        client
            .revoke(&ids[5], RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
        (a, ids)
    };
    let mut messages = 0;
    let mut session = Birth::Import.session(Version::V1_4);
    drive(
        &made().0,
        &foreign(&EVERYTHING),
        &mut *session,
        "anyone",
        Cut::Never,
        &mut |taken, _| messages = taken + 1,
    )
    .unwrap()
    .unwrap();
    assert!(messages > 8);
    for at in 0..messages {
        for cut in [Cut::Before(at), Cut::Behind(at), Cut::Dead(at)] {
            let ((a, ids), t) = (made(), foreign(&EVERYTHING));
            let mut session = Birth::Import.session(Version::V1_4);
            let report = match drive(&a, &t, &mut *session, "anyone", cut, &mut |_, _| {}) {
                Some(report) => report.unwrap(),
                None => run(&a, &t, &mut *Birth::Import.session(Version::V1_4)),
            };
            assert_eq!(
                (report.counts.created, report.counts.asked),
                (10, 10),
                "{cut:?} {}",
                report.table()
            );
            ids.iter()
                .for_each(|id| assert_eq!(t.object(id), a.object(id)));
        }
    }
}
