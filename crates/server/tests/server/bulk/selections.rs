//! What is selected goes over, and nothing else; what a dry run tells comes true.

use crate::bulk::drive::*;
use crate::support::*;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::{Bulk, BulkOptions, ObjectResult, Outcome, Report, Selection, Strategy};
use keyferry_ttlv::{Extra, Version};
use std::sync::{Arc, Mutex};

fn send(a: &Host, b: &Host, options: BulkOptions) -> Report {
    let report = drive(
        a,
        b,
        &mut Bulk::new(options),
        "a.example",
        Cut::Never,
        &mut |_, _| {},
    )
    .unwrap()
    .unwrap();
    assert!(report.counts.finished && report.counts.add_up(), "{report}");
    report
}

fn selecting(selection: Selection) -> BulkOptions {
    BulkOptions {
        selection,
        ..options(Strategy::Import)
    }
}

fn link(to: &str) -> V {
    V::Link(Link {
        link_type: LinkType::NEXT_LINK,
        target: to.into(),
        extra: Extra::NONE,
    })
}

#[test]
fn every_kind_of_filter() {
    let a = master();
    let client = a.client(Version::V2_1);
    let make = |id: &str, attributes: Attributes| {
        drop(
            client
                .import(id, Some(key(&[id.as_bytes()[0]; 16])), attributes, false)
                .unwrap(),
        )
    };
    make(
        "a",
        named("alpha 1")
            .with(V::ObjectGroup("web".into()))
            .with(V::ActivationDate(DateTime(START - 10))),
    );
    make("b", named("alpha 2").with(custom("site", "north")));
    make(
        "c",
        named("beta")
            .with(V::ObjectGroup("web".into()))
            .with(custom("site", "south")),
    );
    make("d", none().with(V::InitialDate(DateTime(START - 1000))));
    client.register(
        Object::secret_data(SecretDataType::SEED, Secret::new(&[1; 16])),
        named("seed"),
    );
    client
        .revoke("c", RevocationReasonCode::KEY_COMPROMISE)
        .unwrap();
    let date = |seconds| V::InitialDate(DateTime(START + seconds));
    let all = Selection::everything;
    for (selection, expected) in [
        (all(), None),
        (
            all().with(V::ObjectGroup("web".into())),
            Some(&["a", "c"][..]),
        ),
        (all().with(V::ObjectGroup("w*".into())), Some(&["a", "c"])),
        (all().with(name("alpha ?")), Some(&["a", "b"])),
        (all().with(V::State(State::ACTIVE)), Some(&["a"])),
        (all().with(V::State(State::COMPROMISED)), Some(&["c"])),
        (
            all().with(V::ObjectType(ObjectType::SYMMETRIC_KEY)),
            Some(&["a", "b", "c", "d"]),
        ),
        (all().with(date(-2000)).with(date(-1)), Some(&["d"])),
        (all().with(custom("site", "north")), Some(&["b"])),
        (all().with(custom("site", "*th")), Some(&["b", "c"])),
        (
            all().with(V::ObjectGroup("web".into())).with(name("beta")),
            Some(&["c"]),
        ),
        (
            all().listed(["a".into(), "d".into(), "none".into()]),
            Some(&["a", "d"]),
        ),
        (
            all().listed(["a".into(), "d".into()]).with(name("alpha*")),
            Some(&["a"]),
        ),
        (all().with(V::ObjectGroup("none".into())), Some(&[])),
    ] {
        let b = replica();
        let said = selection.to_string();
        let report = send(&a, &b, selecting(selection));
        let count = expected.map_or(5, <[_]>::len);
        assert_eq!(
            (report.counts.created, report.counts.asked, b.count()),
            (count as i64, count as i64, count as u64),
            "{said}"
        );
        expected
            .iter()
            .copied()
            .flatten()
            .for_each(|id| assert_eq!(b.record(id).id, a.record(id).id, "{said}"));
    }
}

#[test]
fn what_links_reach_goes_along_when_it_is_asked_for() {
    let a = master();
    let client = a.client(Version::V2_1);
    let make = |id: &str, attributes: Attributes| {
        drop(
            client
                .import(id, Some(key(&[1; 16])), attributes, false)
                .unwrap(),
        )
    };
    make("a", none().with(V::ObjectGroup("g".into())).with(link("b")));
    make("b", none().with(link("c")));
    make("c", none().with(link("a")).with(link("nowhere")));
    make("d", none().with(link("a")));
    let selection = Selection::everything().with(V::ObjectGroup("g".into()));
    assert_eq!(
        send(&a, &replica(), selecting(selection.clone()))
            .counts
            .asked,
        1
    );
    let b = replica();
    assert_eq!(
        send(&a, &b, selecting(selection.with_links()))
            .counts
            .created,
        3
    );
    assert_same(&a, &b, &["a".into(), "b".into(), "c".into()]);
}

#[test]
fn another_selection_is_another_transfer_and_few_among_many_are_found() {
    let (a, b) = (master(), replica());
    let client = a.client(Version::V2_1);
    for n in 0..300 {
        let group = if n % 100 == 7 { "rare" } else { "usual" };
        client
            .import(
                &format!("{n}"),
                Some(key(&[1; 16])),
                none().with(V::ObjectGroup(group.into())),
                false,
            )
            .unwrap();
    }
    let rare = Selection::everything().with(V::ObjectGroup("rare".into()));
    let mut session = Bulk::new(selecting(rare.clone()));
    assert!(
        drive(
            &a,
            &b,
            &mut session,
            "a.example",
            Cut::Dead(2),
            &mut |_, _| {}
        )
        .is_none()
    );
    // The interrupted one goes on, unless it is about something else.
    let usual = Selection::everything().with(V::ObjectGroup("usual".into()));
    assert_eq!(send(&a, &b, selecting(usual)).counts.created, 297);
    assert_eq!(send(&a, &b, selecting(rare)).counts.asked, 3);
    assert_eq!(b.count(), 300);
}

#[test]
fn a_selection_that_can_not_be_looked_for_is_refused_at_once() {
    let a = master();
    let unknown = UnknownAttribute {
        name: Some("No Such".into()),
        value: None,
    };
    let options = selecting(Selection::everything().with(V::Unknown(unknown)));
    let ended = drive(
        &a,
        &replica(),
        &mut Bulk::new(options),
        "a.example",
        Cut::Never,
        &mut |_, _| {},
    )
    .unwrap();
    assert_eq!(
        ended.unwrap_err().kind(),
        keyferry_s2s::ErrorKind::Selection
    );
}

#[test]
fn a_dry_run_tells_what_the_transfer_then_does_and_writes_nothing() {
    for strategy in BOTH {
        let (a, b) = (master(), replica());
        let ids = fill(&a);
        let there = b.client(Version::V2_1);
        there
            .import(&ids[1], Some(key(&[9; 16])), none(), false)
            .unwrap();
        there.create(named("rich"));
        let half =
            Selection::everything().listed(ids.iter().step_by(2).map(|id| id.as_str().into()));
        send(
            &a,
            &b,
            BulkOptions {
                selection: half,
                ..options(strategy)
            },
        );
        a.client(Version::V2_1).add(&ids[0], name("later")).unwrap();
        let heads = (a.head(), b.head());
        let mut runs = Vec::new();
        for dry_run in [true, false] {
            let told = Arc::new(Mutex::new(Vec::<ObjectResult>::new()));
            let into = told.clone();
            let mut session = Bulk::new(BulkOptions {
                dry_run,
                ..options(strategy)
            })
            .on_object(move |told| into.lock().unwrap().push(told.clone()));
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
            assert_eq!(report.dry_run, dry_run);
            if dry_run {
                assert_eq!((a.head(), b.head()), heads, "nothing is written");
            }
            let told = told.lock().unwrap().clone();
            assert_eq!(told.len() as i64, report.counts.asked);
            for outcome in [
                Outcome::Created,
                Outcome::Updated,
                Outcome::Unchanged,
                Outcome::Failed,
            ] {
                let count = told.iter().filter(|told| told.outcome == outcome).count() as i64;
                assert_eq!(count, report.counts.of(outcome));
                assert!(count > 0, "{outcome} {report}");
            }
            runs.push((told, report.failures));
        }
        assert_eq!(runs[0], runs[1]);
    }
}

#[test]
fn the_report_says_the_same_as_json_and_as_a_table() {
    let (a, b) = (master(), replica());
    let ids = fill(&a);
    b.client(Version::V2_1)
        .import(&ids[1], Some(key(&[9; 16])), none(), false)
        .unwrap();
    let report = send(&a, &b, options(Strategy::Import));
    let json = report.json();
    assert_eq!(json["asked"], ids.len() as i64);
    assert_eq!(json["counts"]["created"], ids.len() as i64 - 1);
    assert_eq!(json["failures"][0]["identifier"], ids[1]);
    assert_eq!(json["failures"][0]["reason"], "Object Already Exists");
    let table = report.table().to_string();
    assert!(
        table.contains(&format!("failed: {} (Object Already Exists)", ids[1])),
        "{table}"
    );
    assert!(table.lines().any(|line| line.starts_with("created") && line.ends_with(&(ids.len() - 1).to_string())));
}
