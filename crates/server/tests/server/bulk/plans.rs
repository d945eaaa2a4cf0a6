//! What a dry run planned is done as planned, or it stops where something has moved.

use crate::bulk::awkward::{Awkward, awkward, many, options_for, puller};
use crate::bulk::drive::*;
use crate::support::*;
use keyferry_kmip::spec::AttributeValue as V;
use keyferry_s2s::{
    Bulk, BulkOptions, Collisions, Counts, Error, ErrorKind, OnName, Outcome, Peer, Policy, Pull,
    PullOptions, PullStrategy, Report, Selection, Strategy,
};
use keyferry_server::Access;
use keyferry_store::{Fault, Incarnation, Store};
use keyferry_ttlv::Version;
use std::io::{Cursor, Write};
use std::sync::{Arc, Mutex};

/// Where a plan is written, in memory.
#[derive(Clone, Default)]
pub struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Paper {
    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

/// How the objects ended.
pub fn endings(report: &Report) -> Counts {
    let mut endings = Counts::default();
    for outcome in [
        Outcome::Created,
        Outcome::Updated,
        Outcome::Unchanged,
        Outcome::Failed,
        Outcome::Skipped,
        Outcome::Renamed,
    ] {
        (0..report.counts.of(outcome)).for_each(|_| endings.count(outcome));
    }
    endings
}

fn planned(a: &Host, b: &Host, options: BulkOptions) -> (Report, Vec<u8>) {
    let paper = Paper::default();
    let head = (a.head(), b.head());
    let mut session = Bulk::new(options).planning(paper.clone());
    let report = drive(a, b, &mut session, "a.example", Cut::Never, &mut |_, _| {})
        .unwrap()
        .unwrap();
    assert_eq!((a.head(), b.head()), head, "nothing is written");
    assert!(report.dry_run && report.counts.finished && report.stopped.is_none());
    (report, paper.bytes())
}

fn execute_cut(
    a: &Host,
    b: &Host,
    options: BulkOptions,
    plan: &[u8],
    cut: Cut,
) -> Option<Result<Report, Error>> {
    let mut session = Bulk::new(options).executing(Cursor::new(plan.to_vec()));
    drive(a, b, &mut session, "a.example", cut, &mut |_, _| {})
}

fn execute(a: &Host, b: &Host, options: BulkOptions, plan: &[u8]) -> Report {
    execute_cut(a, b, options, plan, Cut::Never)
        .unwrap()
        .unwrap()
}

/// A master with some of everything, of which the replica has the first part already, and a Name that collides.
fn before() -> (Host, Host, Vec<String>) {
    let (a, b) = (
        master(),
        replica_with(Collisions {
            name: OnName::Rename("{name} ({server})".into()),
            ..Collisions::default()
        }),
    );
    let ids = fill(&a);
    transfer(&a, &b, Strategy::Import);
    let client = a.client(Version::V2_1);
    client.add(&ids[0], name("later")).unwrap();
    client.activate(&ids[1]).unwrap();
    let mut all = ids;
    all.extend((0..5).map(|n| client.create(named(&format!("new {n}")))));
    all.push(client.create(none().with(V::Sensitive(true))));
    b.client(Version::V2_1).create(named("new 3"));
    (a, b, all)
}

#[test]
fn what_was_planned_is_done() {
    for strategy in BOTH {
        let (a, b, ids) = before();
        let (dry, plan) = planned(&a, &b, options(strategy));
        let c = &dry.counts;
        assert_eq!(
            (c.created, c.updated, c.renamed, c.failed),
            (4, 2, Some(1), 1),
            "{dry}"
        );
        let report = execute(&a, &b, options(strategy), &plan);
        assert_eq!(endings(&report), endings(&dry), "{strategy:?}");
        assert!(report.counts.finished && report.stopped.is_none() && !report.dry_run);
        assert_same(&a, &b, &ids[..ids.len() - 1]);
        // Once more: it is there as planned.
        let again = execute(&a, &b, options(strategy), &plan);
        assert_eq!(endings(&again), endings(&dry));
        // And the transfer without a plan knows nothing of it.
        assert_eq!(transfer(&a, &b, strategy).counts.session, 2);
    }
}

#[test]
fn what_came_since_is_not_sent() {
    let (a, b) = (master(), replica());
    let ids = many(&a, 10);
    let (_, plan) = planned(&a, &b, options(Strategy::Import));
    let new = a.client(Version::V2_1).create(named("new"));
    assert_eq!(
        execute(&a, &b, options(Strategy::Import), &plan)
            .counts
            .created,
        10
    );
    assert_same(&a, &b, &ids);
    assert!(
        b.client(Version::V2_1).locate(named("new")).is_empty(),
        "{new}"
    );
}

#[test]
fn it_stops_where_the_source_has_moved() {
    for strategy in BOTH {
        for at in [0, 4, 9] {
            let (a, b) = (master(), replica());
            let ids = many(&a, 10);
            let (_, plan) = planned(&a, &b, options(strategy));
            a.client(Version::V2_1)
                .add(&ids[at], name("moved"))
                .unwrap();
            for _ in 0..2 {
                let report = execute(&a, &b, options(strategy), &plan);
                let stopped = report.stopped.clone().unwrap();
                assert_eq!(stopped.identifier, ids[at]);
                assert!(
                    stopped.planned.contains("digest") && stopped.found != stopped.planned,
                    "{stopped:?}"
                );
                assert_eq!(
                    (report.counts.created, report.counts.asked),
                    (at as i64, at as i64),
                    "what was done stays counted"
                );
                assert!(!report.counts.finished && report.counts.add_up());
                assert!(
                    report
                        .table()
                        .to_string()
                        .contains(&format!("stopped at {}", ids[at]))
                );
                assert_eq!(report.json()["stopped"]["identifier"], ids[at]);
                assert_eq!(b.count(), at as u64, "nothing behind it is done");
                assert_same(&a, &b, &ids[..at]);
            }
        }
    }
}

#[test]
fn it_stops_where_the_target_has_moved() {
    for strategy in BOTH {
        // In the middle of a message, and at its beginning.
        for at in [0, 3, 5] {
            let (a, b) = (master(), replica());
            let ids = many(&a, 9);
            transfer(&a, &b, strategy);
            let client = a.client(Version::V2_1);
            ids.iter()
                .for_each(|id| drop(client.add(id, V::ObjectGroup("later".into())).unwrap()));
            let (dry, plan) = planned(&a, &b, options(strategy));
            assert_eq!(dry.counts.updated, 9);
            // Another transfer brings the replica one change further, and then the plan's change is older.
            let one = BulkOptions {
                selection: Selection::everything().listed([ids[at].as_str().into()]),
                ..BulkOptions::new("one", strategy)
            };
            let was = a.record(&ids[at]);
            client.add(&ids[at], name("even later")).unwrap();
            drive(
                &a,
                &b,
                &mut Bulk::new(one),
                "a.example",
                Cut::Never,
                &mut |_, _| {},
            )
            .unwrap()
            .unwrap();
            put_back(&a, &was);
            let report = execute(&a, &b, options(strategy), &plan);
            let stopped = report.stopped.clone().unwrap();
            assert_eq!(
                (&stopped.identifier, &*stopped.planned),
                (&ids[at], "updated"),
                "{stopped:?}"
            );
            assert!(stopped.found.contains("was to be held here"), "{stopped:?}");
            assert_eq!(report.counts.updated, at as i64);
            for (n, id) in ids.iter().enumerate() {
                assert_eq!(
                    b.record(id).stamp.sequence,
                    if n < at {
                        2
                    } else if n == at {
                        3
                    } else {
                        1
                    }
                );
            }
        }
    }
}

/// Makes a record what it was, as a restored store would.
fn put_back(host: &Host, record: &keyferry_store::Record) {
    use keyferry_store::{Deferred, Effects, Material, SnapshotExt, StoreExt};
    host.store
        .transact::<_, keyferry_store::Error>(|tx| {
            let before = tx.by_identifier(&record.identifier)?;
            let mut world = Deferred::new(tx);
            world.add(Effects::change(before, record.clone(), Material::Keep))?;
            world.finish()
        })
        .unwrap();
}

#[test]
fn what_was_to_be_refused_must_not_be_taken_instead() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let ids = many(&a, 5);
        let clash = b.client(Version::V2_1).create(named("n2"));
        let (dry, plan) = planned(&a, &b, options(strategy));
        assert_eq!((dry.counts.created, dry.counts.failed), (4, 1));
        let report = execute(&a, &b, options(strategy), &plan);
        assert_eq!(
            endings(&report),
            endings(&dry),
            "what is refused holds up nothing behind it"
        );
        let b = replica();
        let clash_too = b.client(Version::V2_1).create(named("n2"));
        let (_, plan) = planned(&a, &b, options(strategy));
        b.client(Version::V2_1)
            .modify_at(&clash_too, None, name("out of the way"))
            .unwrap();
        let report = execute(&a, &b, options(strategy), &plan);
        let stopped = report.stopped.unwrap();
        assert_eq!(
            (&*stopped.identifier, &*stopped.planned, &*stopped.found),
            (&*ids[2], "failed", "created")
        );
        assert_eq!(b.count(), 3, "{clash}");
    }
}

#[test]
fn an_execution_goes_on_where_it_was_and_knows_its_own_writes() {
    for strategy in BOTH {
        let (a, b, _) = before();
        let (_, plan) = planned(&a, &b, options(strategy));
        let mut messages = 0;
        let mut session = Bulk::new(options(strategy)).executing(Cursor::new(plan));
        drive(
            &a,
            &b,
            &mut session,
            "a.example",
            Cut::Never,
            &mut |taken, _| messages = taken + 1,
        )
        .unwrap()
        .unwrap();
        for at in 0..messages {
            for cut in [Cut::Before(at), Cut::Behind(at), Cut::Dead(at)] {
                let (a, b, ids) = before();
                let (dry, plan) = planned(&a, &b, options(strategy));
                let report = match execute_cut(&a, &b, options(strategy), &plan, cut) {
                    Some(report) => report.unwrap(),
                    None => execute(&a, &b, options(strategy), &plan),
                };
                assert_eq!(report.stopped, None, "{cut:?}");
                assert_eq!(endings(&report), endings(&dry), "{cut:?}");
                assert_eq!(report.counts.session, 1, "{cut:?}");
                assert_same(&a, &b, &ids[..ids.len() - 1]);
            }
        }
    }
}

/// Fails before anything is sent, for the reason that is named.
fn refused(a: &Host, b: &Host, options: BulkOptions, plan: &[u8], why: &str) {
    let head = (a.head(), b.head());
    let error = execute_cut(a, b, options, plan, Cut::Never)
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Plan, "{error}");
    assert!(error.to_string().contains(why), "{error}: not {why}");
    assert_eq!((a.head(), b.head()), head);
}

#[test]
fn bad_plans_are_refused_before_anything_is_done() {
    let (a, b) = (master(), replica());
    many(&a, 10);
    let import = || options(Strategy::Import);
    let (_, plan) = planned(&a, &b, import());
    // Cut anywhere, or with any byte changed, it is none.
    for length in (0..plan.len()).step_by(7).chain([plan.len() - 1]) {
        let error = execute_cut(&a, &b, import(), &plan[..length], Cut::Never)
            .unwrap()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Plan, "{length}: {error}");
    }
    for place in (0..plan.len()).step_by(11) {
        let mut forged = plan.clone();
        forged[place] ^= 1;
        let error = execute_cut(&a, &b, import(), &forged, Cut::Never)
            .unwrap()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Plan, "{place}: {error}");
    }
    refused(
        &a,
        &b,
        import(),
        &[plan.clone(), plan.clone()].concat(),
        "behind its end",
    );
    refused(&a, &b, import(), b"something else entirely", "damaged");
    refused(&a, &b, import(), &plan[..plan.len() - 70], "truncated");
    refused(&a, &b, options(Strategy::Put), &plan, "another strategy");
    refused(
        &a,
        &b,
        BulkOptions {
            version: Version::V2_0,
            ..import()
        },
        &plan,
        "another version",
    );
    refused(
        &a,
        &b,
        BulkOptions {
            name: "c".into(),
            ..import()
        },
        &plan,
        "another transfer",
    );
    let few = Selection::everything().with(V::ObjectGroup("few".into()));
    refused(
        &a,
        &b,
        BulkOptions {
            selection: few,
            ..import()
        },
        &plan,
        "another selection",
    );
    let other = master();
    many(&other, 10);
    refused(&other, &b, import(), &plan, "another server");
    let elsewhere = replica();
    elsewhere
        .store
        .write(&mut |tx| tx.restored(Incarnation([0x78; 16])))
        .unwrap();
    refused(&a, &elsewhere, import(), &plan, "another store of the peer");
    assert_eq!(b.count(), 0);
    // One of a server that calls itself the same is not this one's, whatever it says.
    let (_, theirs) = planned(&other, &b, import());
    refused(&a, &b, import(), &theirs, "another server");
    a.store
        .write(&mut |tx| tx.restored(Incarnation([0x77; 16])))
        .unwrap();
    refused(&a, &b, import(), &plan, "before this store was restored");
}

#[test]
fn a_plan_holds_no_key_material() {
    let (a, b) = (master(), replica());
    a.client(Version::V2_1)
        .register(key(&[0xA7; 16]), named("secret"));
    let (_, plan) = planned(&a, &b, options(Strategy::Import));
    assert!(!plan.windows(8).any(|window| window == [0xA7; 8]));
    let (f, p) = (awkward(Awkward::default()), puller());
    f.client(Version::V2_1)
        .register(key(&[0xA7; 16]), named("secret"));
    let (_, plan) = planned_pull(&p, &f, PullStrategy::Get);
    assert!(!plan.windows(8).any(|window| window == [0xA7; 8]));
}

fn planned_pull(p: &Host, f: &Host, strategy: PullStrategy) -> (Report, Vec<u8>) {
    let paper = Paper::default();
    let head = p.head();
    let mut session =
        Pull::new(p.server.node().clone(), options_for(strategy)).planning(paper.clone());
    let report = drive(p, f, &mut session, "client", Cut::Never, &mut |_, _| {})
        .unwrap()
        .unwrap();
    assert_eq!(p.head(), head);
    assert!(report.dry_run && report.counts.finished);
    (report, paper.bytes())
}

#[test]
fn a_dry_run_ends_when_the_store_fails_and_seals_no_plan() {
    let (f, p) = (awkward(Awkward::default()), puller());
    many(&f, 30);
    let (_, whole) = planned_pull(&p, &f, PullStrategy::Get);
    // Which write of the dry run fails makes no difference.
    for nth in 1.. {
        let paper = Paper::default();
        let options = options_for(PullStrategy::Get);
        let mut session = Pull::new(p.server.node().clone(), options).planning(paper.clone());
        let before = p.store.writes();
        p.store
            .fail(nth, Fault::Refuse(keyferry_store::ErrorKind::Full));
        let ended = drive(&p, &f, &mut session, "client", Cut::Never, &mut |_, _| {}).unwrap();
        if p.store.writes() < before + nth {
            assert!(nth > 3 && ended.is_ok());
            break;
        }
        let error = ended.unwrap_err();
        assert_eq!(
            (error.kind(), error.store_kind()),
            (ErrorKind::Store, Some(keyferry_store::ErrorKind::Full))
        );
        assert!(paper.bytes().len() < whole.len());
        let executed = execute_pull(
            &p,
            &f,
            options_for(PullStrategy::Get),
            &paper.bytes(),
            Cut::Never,
        );
        assert_eq!(executed.unwrap().unwrap_err().kind(), ErrorKind::Plan);
    }
}

fn execute_pull(
    p: &Host,
    f: &Host,
    options: PullOptions,
    plan: &[u8],
    cut: Cut,
) -> Option<Result<Report, Error>> {
    let mut session =
        Pull::new(p.server.node().clone(), options).executing(Cursor::new(plan.to_vec()));
    drive(p, f, &mut session, "client", cut, &mut |_, _| {})
}

#[test]
fn a_planned_pull_takes_what_was_planned() {
    for strategy in [PullStrategy::Get, PullStrategy::Export] {
        let (f, p) = (awkward(Awkward::default()), puller());
        let ids = fill(&f);
        p.client(Version::V2_1).create(named("rich"));
        p.pass(f.now().wall.0 - START);
        let (dry, plan) = planned_pull(&p, &f, strategy);
        assert_eq!(dry.counts.failed, 1, "{}", dry.table());
        f.client(Version::V2_1).create(named("newcomer"));
        // Time passes, and the plan is still good.
        p.pass(1000);
        let report = execute_pull(&p, &f, options_for(strategy), &plan, Cut::Never)
            .unwrap()
            .unwrap();
        assert_eq!(
            (endings(&report), report.stopped.clone()),
            (endings(&dry), None),
            "{strategy:?}"
        );
        assert_eq!(
            report.counts.asked,
            ids.len() as i64 - if strategy == PullStrategy::Get { 2 } else { 0 }
        );
        assert!(p.client(Version::V2_1).locate(named("newcomer")).is_empty());
    }
}

#[test]
fn a_planned_pull_stops_where_the_source_or_our_own_store_has_moved() {
    let from = |order: &dyn Fn(&Host, &Host, &str)| {
        let (f, p) = (awkward(Awkward::default()), puller());
        many(&f, 20);
        let (dry, plan) = planned_pull(&p, &f, PullStrategy::Get);
        assert_eq!(dry.counts.created, 20);
        // The plan has them in the order in which the server told of them: newest first.
        let listed = f.client(Version::V1_4).locate(none());
        order(&f, &p, &listed[9]);
        let report = execute_pull(&p, &f, options_for(PullStrategy::Get), &plan, Cut::Never)
            .unwrap()
            .unwrap();
        let stopped = report.stopped.clone().unwrap();
        assert_eq!(
            (&stopped.identifier, report.counts.asked),
            (&listed[9], 9),
            "{stopped:?}"
        );
        assert!(!report.counts.finished && report.counts.add_up());
        stopped
    };
    let stopped = from(&|f, _, id| drop(f.client(Version::V2_1).add(id, name("moved")).unwrap()));
    assert!(
        stopped.found.contains("at the source with the digest"),
        "{stopped:?}"
    );
    let stopped = from(&|f, _, id| f.client(Version::V2_1).destroy(id).unwrap());
    assert!(stopped.found != stopped.planned, "{stopped:?}");
    let stopped = from(&|f, p, id| {
        let one = PullOptions {
            selection: Selection::everything().listed([id.into()]),
            name: "one".into(),
            ..options_for(PullStrategy::Get)
        };
        drive(
            p,
            f,
            &mut Pull::new(p.server.node().clone(), one),
            "client",
            Cut::Never,
            &mut |_, _| {},
        )
        .unwrap()
        .unwrap();
    });
    assert_eq!(stopped.planned, "nothing held here");
    assert!(stopped.found.contains("change 1 of p"), "{stopped:?}");
    let stopped = from(&|f, p, id| {
        let named_as = f
            .client(Version::V2_1)
            .attributes(id)
            .names()
            .next()
            .unwrap()
            .value
            .to_string();
        p.client(Version::V2_1).create(named(&named_as));
    });
    assert!(
        stopped.planned == "created" && stopped.found.starts_with("failed"),
        "{stopped:?}"
    );
}

#[test]
fn a_planned_pull_goes_on_where_it_was_interrupted() {
    let mut messages = 0;
    let (f, p) = (awkward(Awkward::default()), puller());
    many(&f, 30);
    let (_, plan) = planned_pull(&p, &f, PullStrategy::Get);
    let mut session = Pull::new(p.server.node().clone(), options_for(PullStrategy::Get))
        .executing(Cursor::new(plan));
    drive(
        &p,
        &f,
        &mut session,
        "client",
        Cut::Never,
        &mut |taken, _| messages = taken + 1,
    )
    .unwrap()
    .unwrap();
    for at in 0..messages {
        for cut in [Cut::Before(at), Cut::Behind(at), Cut::Dead(at)] {
            let p = puller();
            let (dry, plan) = planned_pull(&p, &f, PullStrategy::Get);
            let report = match execute_pull(&p, &f, options_for(PullStrategy::Get), &plan, cut) {
                Some(report) => report.unwrap(),
                None => execute_pull(&p, &f, options_for(PullStrategy::Get), &plan, Cut::Never)
                    .unwrap()
                    .unwrap(),
            };
            assert_eq!(
                (endings(&report), report.stopped.clone()),
                (endings(&dry), None),
                "{cut:?}"
            );
            assert_eq!(p.count(), 30);
        }
    }
}

#[test]
fn a_plan_takes_little_room() {
    let a = Host::named(
        "a",
        Access::Named(["client".to_owned()].into()),
        Policy::closed(),
    );
    let b = Host::named(
        "b",
        Access::Authenticated,
        Policy::closed().with("a.example", Peer::new("a").may_send()),
    );
    many(&a, 200);
    let (_, plan) = planned(&a, &b, options(Strategy::Import));
    assert!(
        plan.len() / 200 < 400,
        "{} bytes an object",
        plan.len() / 200
    );
}
