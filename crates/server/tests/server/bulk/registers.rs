//! The emulation by Register, towards servers that know nothing of a transfer.

use crate::bulk::drive::*;
use crate::support::*;
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_server::Access;
use keyferry_store::StoreExt;
use keyferry_ttlv::Version;
use std::sync::{Arc, Mutex};

fn target() -> Host {
    Host::named("t", Access::Authenticated, Policy::closed())
}

fn options_in(version: Version) -> RegisterOptions {
    RegisterOptions {
        version,
        batch: 4,
        ..RegisterOptions::new("t")
    }
}

fn register(a: &Host, t: &Host, options: RegisterOptions) -> (Report, Vec<ObjectResult>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let into = told.clone();
    let mut session =
        Register::new(options).on_object(move |one| into.lock().unwrap().push(one.clone()));
    let report = drive(a, t, &mut session, "anyone", Cut::Never, &mut |_, _| {})
        .unwrap()
        .unwrap();
    assert!(report.counts.finished && report.counts.add_up(), "{report}");
    let told = told.lock().unwrap().clone();
    (report, told)
}

fn there(a: &Host, id: &str) -> Option<String> {
    let id = a.record(id).id;
    a.store
        .view::<_, keyferry_s2s::Error>(|s| identifier_at_peer(s, "t", &id))
        .unwrap()
        .map(|there| there.to_string())
}

#[test]
fn every_kind_and_state_arrives_or_is_reported_and_no_difference_is_silent() {
    for version in ALL {
        let (a, t) = (master(), target());
        let ids = fill(&a);
        t.pass(a.now().wall.0 - START);
        let (report, told) = register(&a, &t, options_in(version));
        let look = t.client(version);
        let mut seen = 0;
        for one in &told {
            let record = a.record(&one.identifier);
            match one.outcome {
                Outcome::Created => {
                    let to = there(&a, &one.identifier).unwrap();
                    assert_eq!(one.target.as_deref(), Some(&*to));
                    let back = a
                        .store
                        .view::<_, keyferry_s2s::Error>(|s| object_at_peer(s, "t", &to))
                        .unwrap();
                    assert_eq!(
                        back,
                        Some(record.id.clone()),
                        "the map can be asked both ways"
                    );
                    assert_eq!(
                        t.object(&to),
                        a.object(&one.identifier),
                        "{}",
                        one.identifier
                    );
                    assert_eq!(
                        t.record(&to).state(t.now().wall),
                        record.state(a.now().wall),
                        "{version} {one:?}"
                    );
                    let shown = look.attributes(&to);
                    for attribute in &record.attributes {
                        // A Link leads to what its target is called there.
                        let mut value = attribute.value.clone();
                        if let AttributeValue::Link(link) = &mut value {
                            let target = there(&a, link.target.as_text().unwrap());
                            link.target = target.unwrap_or_default().as_str().into();
                        }
                        let kept = shown.iter().any(|other| other.value == value);
                        let said = one.lost.contains(&attribute.value.reference().to_string());
                        assert!(
                            kept || said,
                            "{version}: {:?} is lost and not reported",
                            attribute.value
                        );
                    }
                    seen += 1;
                }
                Outcome::Skipped => assert!(record.is_destroyed()),
                // PGP keys are not in 1.0 and 1.1; a certificate request, not in 1.x, is not among them.
                Outcome::Failed => assert!(version < Version::V1_2, "{version} {one:?}"),
                other => panic!("{other}"),
            }
        }
        assert!(seen >= ids.len() - 4, "{}", report.table());
        assert_eq!(
            t.count() as usize,
            seen + 1,
            "the probe's tombstone beside them"
        );
        // Again: nothing is sent for what is there.
        let (again, _) = register(&a, &t, options_in(version));
        assert_eq!(
            (again.counts.created, again.counts.unchanged),
            (0, seen as i64),
            "{again}"
        );
        assert_eq!(t.count() as usize, seen + 1);
    }
}

#[test]
fn a_state_that_changes_later_is_led_there() {
    let (a, t) = (master(), target());
    let client = a.client(Version::V2_1);
    let ids: Vec<String> = (0..4)
        .map(|n| client.register(key(&[n; 16]), named(&format!("n{n}"))))
        .collect();
    register(&a, &t, options_in(Version::V1_2));
    client.activate(&ids[0]).unwrap();
    client.activate(&ids[1]).unwrap();
    client
        .revoke(&ids[1], RevocationReasonCode::SUPERSEDED)
        .unwrap();
    client
        .revoke(&ids[2], RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    client.destroy(&ids[3]).unwrap();
    let (report, _) = register(&a, &t, options_in(Version::V1_2));
    assert_eq!(report.counts.updated, 4, "{}", report.table());
    for (id, state) in ids.iter().zip([
        State::ACTIVE,
        State::DEACTIVATED,
        State::COMPROMISED,
        State::DESTROYED,
    ]) {
        assert_eq!(
            t.client(Version::V1_2).state(&there(&a, id).unwrap()),
            state
        );
    }
}

#[test]
fn a_register_that_is_interrupted_anywhere_doubles_nothing() {
    let mut messages = 0;
    let made = || {
        let a = master();
        let client = a.client(Version::V2_1);
        let ids: Vec<String> = (0..10)
            .map(|n| client.register(key(&[n; 16]), named(&format!("n{n}"))))
            .collect();
        client.activate(&ids[3]).unwrap();
        client
            .revoke(&ids[5], RevocationReasonCode::KEY_COMPROMISE)
            .unwrap();
        a
    };
    let mut session = Register::new(options_in(Version::V1_0));
    drive(
        &made(),
        &target(),
        &mut session,
        "anyone",
        Cut::Never,
        &mut |taken, _| messages = taken + 1,
    )
    .unwrap()
    .unwrap();
    assert!(messages > 8);
    for at in 0..messages {
        for cut in [Cut::Before(at), Cut::Behind(at), Cut::Dead(at)] {
            let (a, t) = (made(), target());
            let mut session = Register::new(options_in(Version::V1_0));
            let report = match drive(&a, &t, &mut session, "anyone", cut, &mut |_, _| {}) {
                Some(report) => report.unwrap(),
                None => register(&a, &t, options_in(Version::V1_0)).0,
            };
            assert_eq!(report.counts.asked, 10, "{report} {cut:?}");
            assert_eq!(
                (report.counts.created, report.counts.failed),
                (10, 0),
                "{} {cut:?}",
                report.table()
            );
            let client = t.client(Version::V1_0);
            for n in 0..10 {
                assert_eq!(client.locate(named(&format!("n{n}"))).len(), 1, "{cut:?}");
            }
        }
    }
}

/// Forgets that a key was compromised.
pub struct Forgetful;

impl Responder for Forgetful {
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Answered, Failure>> {
        let request: RevokeRequest =
            (item.operation == Operation::REVOKE).then(|| item.payload(ask.cx).unwrap())?;
        let response = RevokeResponse {
            unique_identifier: request.unique_identifier.unwrap(),
            extra: keyferry_ttlv::Extra::NONE,
        };
        Some(Answered::answer(&response, ask.cx))
    }
}

#[test]
fn the_material_of_an_unusable_key_does_not_go_where_its_state_is_not_kept() {
    let mut t = target();
    t.server = Arc::new(Arc::into_inner(t.server).unwrap().with(Arc::new(Forgetful)));
    let a = master();
    let client = a.client(Version::V2_1);
    let good = client.register(key(&[1; 16]), none());
    let bad = client.register(key(&[2; 16]), none());
    client
        .revoke(&bad, RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    let (report, _) = register(&a, &t, options_in(Version::V1_2));
    assert_eq!(
        (report.counts.created, report.counts.failed),
        (1, 1),
        "{}",
        report.table()
    );
    assert_eq!(report.failures[0].identifier, bad);
    assert!(there(&a, &good).is_some() && there(&a, &bad).is_none());
    let alive = t.client(Version::V1_2).locate(none());
    assert_eq!(alive, [there(&a, &good).unwrap()], "the probe is gone, too");
}

#[test]
fn a_dry_register_sends_nothing_but_a_query() {
    let (a, t) = (master(), target());
    let ids = fill(&a);
    let head = (a.head(), t.head());
    let (dry, _) = register(
        &a,
        &t,
        RegisterOptions {
            dry_run: true,
            ..options_in(Version::V1_2)
        },
    );
    assert_eq!((a.head(), t.head()), head);
    assert!(ids.iter().all(|id| there(&a, id).is_none()));
    let (wet, _) = register(&a, &t, options_in(Version::V1_2));
    assert_eq!(
        (dry.counts.created, dry.counts.skipped),
        (wet.counts.created, wet.counts.skipped)
    );
}

#[test]
fn a_source_and_a_target_that_are_both_strangers() {
    // From one foreign server to another by way of ours, which takes nothing over.
    let (f, t) = (target(), target());
    let client = f.client(Version::V1_2);
    let ids: Vec<String> = (0..5)
        .map(|n| client.register(key(&[n; 16]), named(&format!("n{n}"))))
        .collect();
    let ours = Host::named("o", Access::Authenticated, Policy::closed());
    let options = PullOptions::new("f", Peer::new("f"), PullStrategy::Get);
    let mut session = Pull::new(ours.server.node().clone(), options);
    drive(
        &ours,
        &f,
        &mut session,
        "anyone",
        Cut::Never,
        &mut |_, _| {},
    )
    .unwrap()
    .unwrap();
    let (report, _) = register(&ours, &t, options_in(Version::V1_2));
    assert_eq!(report.counts.created, 5);
    for (n, id) in ids.iter().enumerate() {
        let found = t.client(Version::V1_2).locate(named(&format!("n{n}")));
        assert_eq!(t.object(&found[0]), f.object(id));
    }
    let held = ours
        .store
        .view::<_, keyferry_store::Error>(|s| s.count())
        .unwrap();
    assert_eq!(held, 5);
}
