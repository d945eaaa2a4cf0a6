//! What an observer is told on the way: of how much, how fast, until when.

use crate::bulk::awkward::{Awkward, awkward, many, options_for, puller};
use crate::bulk::drive::*;
use crate::support::*;
use keyferry_kmip::spec::AttributeValue as V;
use keyferry_s2s::{
    Bulk, BulkOptions, Policy, Progress, Pull, PullOptions, PullStrategy, Register,
    RegisterOptions, Report, Selection, Session, Strategy,
};
use keyferry_server::Access;
use keyferry_ttlv::Version;
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Seen = Arc<Mutex<Vec<Progress>>>;

fn listener() -> (Seen, impl FnMut(&Progress) + Send + 'static) {
    let seen = Seen::default();
    let into = seen.clone();
    (seen, move |progress: &Progress| {
        into.lock().unwrap().push(progress.clone())
    })
}

/// Drives it, a second for each message, and checks what holds of every progress.
fn watched(
    from: &Host,
    to: &Host,
    session: &mut dyn Session,
    caller: &str,
    seen: &Seen,
) -> (Report, Vec<Progress>) {
    let report = drive(from, to, session, caller, Cut::Never, &mut |_, _| {
        from.pass(1)
    })
    .unwrap()
    .unwrap();
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert!(seen.is_sorted_by_key(|one| one.objects) && seen.len() > 2);
    for one in &seen {
        assert_eq!(
            (one.objects, one.bytes),
            (one.counts.asked as u64, one.counts.bytes as u64)
        );
        assert!(one.of_objects.is_none_or(|of| of >= one.objects));
    }
    let last = seen.last().unwrap();
    assert_eq!(
        (last.objects, last.of_objects),
        (report.counts.asked as u64, Some(report.counts.asked as u64))
    );
    assert_eq!(last.remaining, Some(Duration::ZERO));
    assert_eq!(last.of_bytes, Some(last.bytes));
    (report, seen)
}

#[test]
fn a_push_is_told_of_how_much_how_fast_and_until_when() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let ids = many(&a, 60);
        let (seen, listener) = listener();
        let mut session = Bulk::new(options(strategy)).on_progress(listener);
        let (report, seen) = watched(&a, &b, &mut session, "a.example", &seen);
        assert_eq!(report.counts.asked, ids.len() as i64);
        assert!(seen.iter().all(|one| one.of_objects == Some(60)));
        // Three objects a message, and a second each.
        let middle = &seen[10];
        assert!(
            middle
                .objects_per_second
                .is_some_and(|rate| (2.0..=3.0).contains(&rate)),
            "{middle:?}"
        );
        let expected = (60 - middle.objects) as f64 / middle.objects_per_second.unwrap();
        assert!((middle.remaining.unwrap().as_secs_f64() - expected).abs() < 0.001);
        let (reckoned, bytes) = (middle.of_bytes.unwrap() as f64, report.counts.bytes as f64);
        assert!(
            (0.8..1.2).contains(&(reckoned / bytes)),
            "{reckoned} of {bytes}"
        );
        assert!(middle.bytes_per_second.unwrap() > middle.objects_per_second.unwrap());
    }
}

#[test]
fn the_total_is_that_of_the_selection_and_outlives_an_interruption() {
    let (a, b) = (master(), replica());
    let client = a.client(Version::V2_1);
    let ids: Vec<String> = (0..40)
        .map(|n| {
            client.create(named(&format!("n{n}")).with(V::ObjectGroup(
                if n % 4 == 0 { "few" } else { "many" }.into(),
            )))
        })
        .collect();
    let few = Selection::everything().with(V::ObjectGroup("few".into()));
    let listed = Selection::everything().listed(ids.iter().take(7).map(|id| id.as_str().into()));
    let gone = Selection::everything().listed([ids[0].as_str().into(), "never there".into()]);
    let pattern = Selection::everything().with(V::ObjectGroup("m*".into()));
    for (selection, total) in [(few.clone(), 10), (listed, 7), (gone, 1), (pattern, 30)] {
        let (seen, listener) = listener();
        let mut session = Bulk::new(BulkOptions {
            selection,
            batch: 1,
            ..options(Strategy::Import)
        })
        .on_progress(listener);
        drive(
            &a,
            &b,
            &mut session,
            "a.example",
            Cut::Never,
            &mut |_, _| {},
        )
        .unwrap()
        .unwrap();
        assert!(
            seen.lock()
                .unwrap()
                .iter()
                .all(|one| one.of_objects == Some(total)),
            "{:?}",
            seen.lock().unwrap()
        );
    }
    // The first half of it, and then the other one: of the whole.
    let options = || BulkOptions {
        selection: few.clone(),
        batch: 1,
        ..options(Strategy::Import)
    };
    let mut session = Bulk::new(options()).on_progress(|_| {});
    assert!(
        drive(
            &a,
            &b,
            &mut session,
            "a.example",
            Cut::Dead(7),
            &mut |_, _| {}
        )
        .is_none()
    );
    let (seen, listener) = listener();
    watched(
        &a,
        &b,
        &mut Bulk::new(options()).on_progress(listener),
        "a.example",
        &seen,
    );
}

#[test]
fn a_register_is_told_the_same() {
    let (a, t) = (
        master(),
        Host::named("t", Access::Authenticated, Policy::closed()),
    );
    many(&a, 30);
    let (seen, listener) = listener();
    let options = RegisterOptions {
        batch: 4,
        ..RegisterOptions::new("t")
    };
    let (_, seen) = watched(
        &a,
        &t,
        &mut Register::new(options).on_progress(listener),
        "anyone",
        &seen,
    );
    assert!(
        seen.iter()
            .all(|one| one.of_objects == Some(30) && one.objects_per_second.is_some())
    );
}

#[test]
fn a_pull_knows_the_total_when_the_server_tells_or_has_listed_everything() {
    for (version, cap) in [
        (Version::V1_4, None),
        (Version::V1_0, None),
        (Version::V2_1, Some(10)),
    ] {
        let (f, p) = (
            awkward(Awkward {
                cap,
                ..Awkward::default()
            }),
            puller(),
        );
        let ids = many(&f, 30);
        let (seen, listener) = listener();
        let options = PullOptions {
            version,
            ..options_for(PullStrategy::Get)
        };
        let mut session = Pull::new(p.server.node().clone(), options).on_progress(listener);
        let (report, seen) = watched(&p, &f, &mut session, "client", &seen);
        assert_eq!(report.counts.created, ids.len() as i64);
        // This one does not tell, and since 1.3 it is asked page by page.
        assert_eq!(
            seen.iter().any(|one| one.of_objects.is_none()),
            version >= Version::V1_3,
            "{version}"
        );
        assert!(
            seen.iter()
                .all(|one| one.of_objects.is_none_or(|of| of == 30)),
            "{version} {seen:?}"
        );
    }
    // One that tells Located Items does so before it has listed everything.
    let (f, p) = (
        Host::named("f", Access::Authenticated, Policy::closed()),
        puller(),
    );
    many(&f, 1100);
    let (seen, listener) = listener();
    let options = PullOptions {
        batch: 300,
        in_flight: 4,
        ..options_for(PullStrategy::Get)
    };
    let mut session = Pull::new(p.server.node().clone(), options).on_progress(listener);
    let (_, seen) = watched(&p, &f, &mut session, "client", &seen);
    assert!(
        seen.iter().all(|one| one.of_objects == Some(1100)),
        "{seen:?}"
    );
}
