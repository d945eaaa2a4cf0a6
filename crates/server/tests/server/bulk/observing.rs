//! A foreign server is observed: what changed since the last pass, now and then everything.

use crate::bulk::drive::*;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_server::Access;
use keyferry_store::plan::Query;
use keyferry_store::{ObjectId, SnapshotExt, StoreExt};
use keyferry_ttlv::Version;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// How a foreign server answers: as an own one, but for this.
#[derive(Default)]
struct How {
    /// Ignores Last Change Date in a Locate.
    ignores_dates: AtomicBool,
    /// Refuses it.
    refuses_dates: AtomicBool,
    /// Objects that it has forgotten.
    gone: Mutex<BTreeSet<String>>,
    /// Objects that it does not give away.
    forbidden: Mutex<BTreeSet<String>>,
    fetched: AtomicUsize,
    locates: Mutex<Vec<bool>>,
}

impl Responder for How {
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Answered, Failure>> {
        let refused = |id: &Option<UniqueIdentifier>| {
            let id = id.as_ref().and_then(UniqueIdentifier::as_text)?;
            if self.gone.lock().unwrap().contains(id) {
                return Some(Err(Failure::new(Cause::ObjectNotFound, "there is none")));
            }
            self.forbidden
                .lock()
                .unwrap()
                .contains(id)
                .then(|| Err(Failure::new(Cause::PermissionDenied, "not yours")))
        };
        match item.operation {
            Operation::GET => {
                return refused(
                    &item
                        .payload::<GetRequest>(ask.cx)
                        .unwrap()
                        .unique_identifier,
                );
            }
            Operation::GET_ATTRIBUTES => {
                self.fetched.fetch_add(1, Ordering::SeqCst);
                return refused(
                    &item
                        .payload::<GetAttributesRequest>(ask.cx)
                        .unwrap()
                        .unique_identifier,
                );
            }
            Operation::LOCATE => {}
            _ => return None,
        }
        let mut request: LocateRequest = item.payload(ask.cx).unwrap();
        let dates = request.attributes.all(tag::LAST_CHANGE_DATE).count();
        assert!(dates == 0 || dates == 2, "a date given twice is a range");
        self.locates.lock().unwrap().push(dates > 0);
        if dates > 0 && self.refuses_dates.load(Ordering::SeqCst) {
            return Some(Err(Failure::new(
                Cause::InvalidField,
                "it is not known here",
            )));
        }
        if self.ignores_dates.load(Ordering::SeqCst) {
            request.attributes.remove(tag::LAST_CHANGE_DATE);
        }
        // Like most, it does not find what is destroyed unless it is asked for it.
        let query = Query::new(&request.attributes, request.storage_status_mask, true).unwrap();
        let all = query
            .locate(ask.snapshot, ask.now.wall, (0, usize::MAX), &|_| Ok(true))
            .unwrap()
            .identifiers;
        let gone = self.gone.lock().unwrap();
        let offset = request.offset_items.unwrap_or(0) as usize;
        let most = request.maximum_items.map_or(usize::MAX, |n| n as usize);
        let mut response = LocateResponse::default();
        let there = all.iter().filter(|id| !gone.contains(&id.to_string()));
        there
            .skip(offset)
            .take(most)
            .for_each(|id| response.unique_identifiers.push(id));
        Some(Answered::answer(&response, ask.cx))
    }
}

impl How {
    fn fetched(&self) -> usize {
        self.fetched.swap(0, Ordering::SeqCst)
    }

    /// Whether all Locates since the last question were for dates; none were where there were none.
    fn was_window(&self) -> bool {
        let locates = std::mem::take(&mut *self.locates.lock().unwrap());
        assert!(!locates.is_empty());
        locates.iter().all(|dated| *dated)
    }
}

fn foreign() -> (Host, Arc<How>) {
    let how = Arc::new(How::default());
    let mut host = Host::named("f", Access::Authenticated, Policy::closed());
    host.server = Arc::new(Arc::into_inner(host.server).unwrap().with(how.clone()));
    (host, how)
}

fn observer(what: &ForeignMasterOptions) -> Host {
    let host = Host::named(
        "p",
        Access::Named(["client".to_owned()].into()),
        Policy::closed(),
    );
    ForeignMaster::observe(&*host.store, "f", "f", what, host.now().wall).unwrap();
    host
}

fn session(p: &Host, version: Version) -> Pull {
    let options = PullOptions {
        version,
        batch: 4,
        in_flight: 2,
        ..PullOptions::new("f", Peer::new("f"), PullStrategy::Get)
    };
    Pull::new(p.server.node().clone(), options).observing()
}

fn pass(p: &Host, f: &Host, version: Version) -> Report {
    let report = drive(
        p,
        f,
        &mut session(p, version),
        "client",
        Cut::Never,
        &mut |_, _| {},
    )
    .unwrap()
    .unwrap();
    assert!(report.counts.finished && report.counts.add_up(), "{report}");
    report
}

fn relation(p: &Host) -> ForeignMaster {
    p.store
        .view::<_, Error>(|snapshot| ForeignMaster::find(snapshot, "f"))
        .unwrap()
        .unwrap()
}

fn held(p: &Host, id: &str) -> Option<keyferry_store::Record> {
    let id = ObjectId {
        server: "f".into(),
        instance: Vec::new(),
        identifier: id.into(),
    };
    p.store
        .view::<_, keyferry_store::Error>(|s| Ok(s.by_object_id(&id)?.map(|(_, record)| record)))
        .unwrap()
}

fn together(p: &Host, f: &Host, seconds: i64) {
    p.pass(seconds);
    f.pass(seconds);
}

fn many(f: &Host, count: u8) -> Vec<String> {
    let client = f.client(Version::V2_1);
    (0..count)
        .map(|n| client.register(key(&[n; 16]), named(&format!("n{n}"))))
        .collect()
}

const VERSIONS: [Version; 3] = [Version::V1_0, Version::V1_4, Version::V2_1];

#[test]
fn the_first_pass_sees_everything_and_the_next_ones_what_changed() {
    for version in VERSIONS {
        let ((f, how), p) = (foreign(), observer(&ForeignMasterOptions::default()));
        let ids = many(&f, 30);
        assert_eq!(pass(&p, &f, version).counts.created, 30);
        assert!(!how.was_window());
        together(&p, &f, 1000);
        f.client(version)
            .add(&ids[3], V::ObjectGroup("later".into()))
            .unwrap();
        how.fetched();
        // What changed is in the window, and all of the last window's overlap.
        let report = pass(&p, &f, version);
        assert_eq!(
            (report.counts.updated, report.counts.asked),
            (1, 30),
            "{version} {}",
            report.table()
        );
        together(&p, &f, 1000);
        how.was_window();
        f.client(version)
            .add(&ids[7], V::ObjectGroup("later".into()))
            .unwrap();
        let report = pass(&p, &f, version);
        assert_eq!(
            (report.counts.updated, report.counts.asked),
            (1, 2),
            "{version} {}",
            report.table()
        );
        assert!(how.was_window());
        // Nothing new: the newest one alone is looked at.
        let head = p.head();
        how.fetched();
        let report = pass(&p, &f, version);
        assert_eq!(
            (report.counts.unchanged, how.fetched(), p.head()),
            (1, 1, head),
            "{version}"
        );
        let relation = relation(&p);
        assert_eq!(
            (
                relation.runs,
                relation.locates_dates,
                relation.lag_seconds(p.now().wall)
            ),
            (3, None, Some(0))
        );
        assert_eq!(
            held(&p, &ids[7])
                .unwrap()
                .attributes
                .all(tag::OBJECT_GROUP)
                .count(),
            1
        );
    }
}

#[test]
fn destruction_is_found_and_absence_is_named_and_never_applied() {
    for version in VERSIONS {
        let ((f, how), p) = (
            foreign(),
            observer(&ForeignMasterOptions {
                full_every: 2,
                ..ForeignMasterOptions::default()
            }),
        );
        let ids = many(&f, 12);
        pass(&p, &f, version);
        together(&p, &f, 1000);
        f.client(version).destroy(&ids[2]).unwrap();
        how.gone.lock().unwrap().insert(ids[5].clone());
        let ends = |p: &Host| {
            (
                held(p, &ids[2]).unwrap().is_destroyed(),
                p.object(&ids[5]).is_some(),
            )
        };
        (0..2).for_each(|_| drop(pass(&p, &f, version)));
        let report = pass(&p, &f, version);
        assert!(relation(&p).runs == 0, "every third one is over everything");
        assert_eq!(ends(&p), (true, true), "{version} {}", report.table());
        assert_eq!(report.missing, [ids[5].clone()], "{version}");
        assert_eq!(p.object(&ids[2]), None);
        let missing = p
            .store
            .view::<_, Error>(|snapshot| ForeignMaster::missing(snapshot, "f"))
            .unwrap();
        assert_eq!(
            missing
                .iter()
                .map(|id| id.identifier.to_string())
                .collect::<Vec<_>>(),
            [ids[5].clone()]
        );
        // It is there again.
        how.gone.lock().unwrap().clear();
        (0..3).for_each(|_| drop(pass(&p, &f, version)));
        assert_eq!(
            (relation(&p).missing, pass(&p, &f, version).missing.len()),
            (0, 0),
            "{version}"
        );
        assert_eq!(p.client(Version::V2_1).state(&ids[5]), State::PRE_ACTIVE);
    }
}

#[test]
fn a_server_that_does_not_look_for_dates_is_looked_at_as_a_whole() {
    for refuses in [false, true] {
        let ((f, how), p) = (foreign(), observer(&ForeignMasterOptions::default()));
        how.ignores_dates.store(!refuses, Ordering::SeqCst);
        how.refuses_dates.store(refuses, Ordering::SeqCst);
        let ids = many(&f, 20);
        pass(&p, &f, Version::V1_4);
        together(&p, &f, 1000);
        f.client(Version::V1_4)
            .add(&ids[0], V::ObjectGroup("a".into()))
            .unwrap();
        assert_eq!(pass(&p, &f, Version::V1_4).counts.updated, 1);
        together(&p, &f, 1000);
        // The newest date is that of one object; all others are hits that nobody asked for.
        f.client(Version::V1_4)
            .add(&ids[1], V::ObjectGroup("a".into()))
            .unwrap();
        let report = pass(&p, &f, Version::V1_4);
        assert_eq!(
            (report.counts.updated, report.counts.asked),
            (1, 20),
            "{refuses} {}",
            report.table()
        );
        assert_eq!(relation(&p).locates_dates, Some(false), "{refuses}");
        how.was_window();
        pass(&p, &f, Version::V1_4);
        assert!(
            !how.locates.lock().unwrap().contains(&true),
            "it is not asked for dates any more"
        );
        // A person knows better.
        how.ignores_dates.store(false, Ordering::SeqCst);
        how.refuses_dates.store(false, Ordering::SeqCst);
        ForeignMaster::observe(
            &*p.store,
            "f",
            "f",
            &ForeignMasterOptions::default(),
            p.now().wall,
        )
        .unwrap();
        pass(&p, &f, Version::V1_4);
        how.was_window();
        pass(&p, &f, Version::V1_4);
        assert!(how.was_window(), "{refuses}");
    }
}

#[test]
fn a_clock_that_jumps_loses_nothing() {
    for jump in [-5000, -30, 5000] {
        let ((f, _), p) = (
            foreign(),
            observer(&ForeignMasterOptions {
                full_after: 0,
                full_every: 0,
                ..ForeignMasterOptions::default()
            }),
        );
        let ids = many(&f, 9);
        together(&p, &f, 10_000);
        f.client(Version::V1_4)
            .add(&ids[8], V::ObjectGroup("a".into()))
            .unwrap();
        (0..2).for_each(|_| drop(pass(&p, &f, Version::V1_4)));
        f.pass(jump);
        f.client(Version::V1_4)
            .add(&ids[0], V::ObjectGroup("a".into()))
            .unwrap();
        assert_eq!(pass(&p, &f, Version::V1_4).counts.updated, 1, "{jump}");
        f.pass(-jump);
        f.client(Version::V1_4)
            .add(&ids[1], V::ObjectGroup("a".into()))
            .unwrap();
        assert_eq!(
            pass(&p, &f, Version::V1_4).counts.updated,
            1,
            "{jump} and back"
        );
        f.pass(100);
        f.client(Version::V1_4)
            .add(&ids[2], V::ObjectGroup("a".into()))
            .unwrap();
        assert_eq!(
            pass(&p, &f, Version::V1_4).counts.updated,
            1,
            "{jump} and on"
        );
    }
}

#[test]
fn what_changes_during_a_pass_that_is_interrupted_anywhere_is_not_lost() {
    let mut messages = 0;
    let made = || {
        let ((f, how), p) = (
            foreign(),
            observer(&ForeignMasterOptions {
                full_every: 0,
                ..ForeignMasterOptions::default()
            }),
        );
        let ids = many(&f, 24);
        (f, how, p, ids)
    };
    let (f, _, p, _) = made();
    drive(
        &p,
        &f,
        &mut session(&p, Version::V1_4),
        "client",
        Cut::Never,
        &mut |taken, _| messages = taken + 1,
    )
    .unwrap()
    .unwrap();
    assert!(messages > 6);
    for at in 0..messages {
        for cut in [Cut::Before(at), Cut::Behind(at), Cut::Dead(at)] {
            let (f, how, p, ids) = made();
            let client = f.client(Version::V1_4);
            // Each message is a long time after the one before, and each sees another change.
            let mut steps = |taken: usize, _: &RequestMessage| {
                together(&p, &f, 600);
                client
                    .add(&ids[(taken * 7) % 24], custom(&format!("c{taken}"), "v"))
                    .unwrap();
            };
            let ended = drive(
                &p,
                &f,
                &mut session(&p, Version::V1_4),
                "client",
                cut,
                &mut steps,
            );
            if ended.is_none() {
                how.fetched();
                let report = pass(&p, &f, Version::V1_4);
                assert_eq!(
                    (report.counts.created, report.counts.asked),
                    (24, 24),
                    "{cut:?}"
                );
                assert!(at < 6 || how.fetched() < 24, "it goes on where it was");
            }
            how.was_window();
            pass(&p, &f, Version::V1_4);
            assert!(how.was_window(), "{cut:?}");
            for id in &ids {
                let copy = held(&p, id).unwrap();
                let customs = |attributes: &Attributes| {
                    attributes
                        .iter()
                        .filter(|a| matches!(a.value, V::Custom(_)))
                        .count()
                };
                assert_eq!(
                    customs(&copy.attributes),
                    customs(&f.record(id).attributes),
                    "{cut:?} {id}"
                );
            }
        }
    }
}

#[test]
fn what_can_not_be_taken_is_asked_for_again_and_a_relation_is_paused_and_ended() {
    let ((f, how), p) = (
        foreign(),
        observer(&ForeignMasterOptions {
            full_every: 0,
            full_after: 0,
            ..ForeignMasterOptions::default()
        }),
    );
    let ids = many(&f, 6);
    how.forbidden.lock().unwrap().insert(ids[1].clone());
    assert_eq!(pass(&p, &f, Version::V1_4).counts.failed, 1);
    let retries = |p: &Host| {
        p.store
            .view::<_, Error>(|snapshot| ForeignMaster::retries(snapshot, "f"))
            .unwrap()
    };
    assert_eq!(
        (
            relation(&p).retried,
            retries(&p)[0].attempts,
            &*retries(&p)[0].why
        ),
        (1, 1, "not yours")
    );
    together(&p, &f, 1000);
    f.client(Version::V1_4)
        .add(&ids[5], V::ObjectGroup("a".into()))
        .unwrap();
    pass(&p, &f, Version::V1_4);
    assert_eq!(retries(&p)[0].attempts, 2, "it is due");
    pass(&p, &f, Version::V1_4);
    assert_eq!(retries(&p)[0].attempts, 2, "it is not, yet");
    how.forbidden.lock().unwrap().clear();
    together(&p, &f, 1000);
    assert_eq!(pass(&p, &f, Version::V1_4).counts.created, 1);
    assert_eq!((relation(&p).retried, retries(&p).len()), (0, 0));

    ForeignMaster::pause(&*p.store, "f").unwrap();
    let refused = |p: &Host| {
        let ended = drive(
            p,
            &f,
            &mut session(p, Version::V1_4),
            "client",
            Cut::Never,
            &mut |_, _| {},
        )
        .unwrap();
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::Relation);
    };
    refused(&p);
    ForeignMaster::resume(&*p.store, "f").unwrap();
    pass(&p, &f, Version::V1_4);
    let other = ForeignMaster::observe(
        &*p.store,
        "f",
        "g",
        &ForeignMasterOptions::default(),
        p.now().wall,
    );
    assert_eq!(other.unwrap_err().kind(), ErrorKind::Relation);
    ForeignMaster::end(&*p.store, "f").unwrap();
    refused(&p);
    assert_eq!(p.count(), 6, "the copies stay");
    assert_eq!(
        ForeignMaster::pause(&*p.store, "f").unwrap_err().kind(),
        ErrorKind::Relation
    );
}

#[test]
fn an_older_session_writes_no_more() {
    let ((f, _), p) = (foreign(), observer(&ForeignMasterOptions::default()));
    many(&f, 12);
    let mut old = session(&p, Version::V1_4);
    let ended = drive(&p, &f, &mut old, "client", Cut::Never, &mut |taken, _| {
        if taken == 2 {
            assert_eq!(pass(&p, &f, Version::V1_4).counts.asked, 12);
        }
    });
    assert_eq!(ended.unwrap().unwrap_err().kind(), ErrorKind::Relation);
    assert_eq!(p.count(), 12);
}
