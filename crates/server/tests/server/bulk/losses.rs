//! The connection is lost, or one side dies, at every message boundary.

use crate::bulk::drive::*;
use keyferry_s2s::Bulk;

/// How many messages an undisturbed transfer takes.
fn messages(strategy: keyferry_s2s::Strategy) -> usize {
    let (a, b) = (master(), replica());
    fill(&a);
    let mut most = 0;
    let mut session = Bulk::new(options(strategy));
    drive(
        &a,
        &b,
        &mut session,
        "a.example",
        Cut::Never,
        &mut |taken, _| most = taken + 1,
    )
    .unwrap()
    .unwrap();
    most
}

#[test]
fn a_lost_connection_loses_and_doubles_nothing() {
    for strategy in BOTH {
        for at in 0..messages(strategy) {
            for cut in [Cut::Before(at), Cut::Behind(at)] {
                let (a, b) = (master(), replica());
                let ids = fill(&a);
                let mut session = Bulk::new(options(strategy));
                let report = drive(&a, &b, &mut session, "a.example", cut, &mut |_, _| {})
                    .unwrap()
                    .unwrap();
                let (created, updated, unchanged, failed) = counts(&report);
                assert_eq!(
                    (created + unchanged, updated, failed),
                    (ids.len() as i64, 0, 0),
                    "{strategy:?} {cut:?}"
                );
                assert!(
                    unchanged <= 6,
                    "only what was under way is sent again: {report} {cut:?}"
                );
                assert_eq!(b.count(), ids.len() as u64);
                assert_same(&a, &b, &ids);
            }
        }
    }
}

#[test]
fn a_session_that_dies_goes_on_from_its_stored_cursor() {
    for strategy in BOTH {
        for at in 0..messages(strategy) {
            let (a, b) = (master(), replica());
            let ids = fill(&a);
            let mut session = Bulk::new(options(strategy));
            assert!(
                drive(
                    &a,
                    &b,
                    &mut session,
                    "a.example",
                    Cut::Dead(at),
                    &mut |_, _| {}
                )
                .is_none()
            );
            drop(session);
            let had = b.count() as i64;
            let report = transfer(&a, &b, strategy);
            assert_eq!(
                report.counts.asked,
                ids.len() as i64,
                "counts cover the whole transfer"
            );
            let (created, _, unchanged, _) = counts(&report);
            assert_eq!(created + unchanged, ids.len() as i64);
            // What was stored as done is not sent again: at most one group and what was under way is.
            assert!(unchanged <= 12.min(had), "{report}, after {had}");
            assert_eq!(report.counts.session, 1, "still the same transfer");
            assert_same(&a, &b, &ids);
            assert_eq!(transfer(&a, &b, strategy).counts.session, 2);
        }
    }
}

#[test]
fn connections_that_are_lost_again_and_again_still_come_to_an_end() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let ids = fill(&a);
        // A new session each time, and each dies a message later.
        let mut died = 0;
        for at in 1.. {
            let mut session = Bulk::new(options(strategy));
            if drive(
                &a,
                &b,
                &mut session,
                "a.example",
                Cut::Dead(at),
                &mut |_, _| {},
            )
            .is_some()
            {
                break;
            }
            died += 1;
        }
        assert!(died > 1);
        assert_same(&a, &b, &ids);
    }
}

#[test]
fn two_transfers_of_different_names_do_not_disturb_each_other() {
    let (a, b, c) = (master(), replica(), replica());
    let ids = fill(&a);
    let strategy = keyferry_s2s::Strategy::Import;
    let mut to_b = Bulk::new(options(strategy));
    assert!(drive(&a, &b, &mut to_b, "a.example", Cut::Dead(3), &mut |_, _| {}).is_none());
    let mut to_c = Bulk::new(keyferry_s2s::BulkOptions {
        name: "c".into(),
        ..options(strategy)
    });
    let report = drive(&a, &c, &mut to_c, "a.example", Cut::Never, &mut |_, _| {})
        .unwrap()
        .unwrap();
    assert_eq!(counts(&report).0, ids.len() as i64);
    transfer(&a, &b, strategy);
    assert_same(&a, &b, &ids);
    assert_same(&a, &c, &ids);
}
