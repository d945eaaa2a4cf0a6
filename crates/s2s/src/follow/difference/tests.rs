//! What is listed as not held as it was told.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::compare::table::Told;
use crate::follow::apply::Applied;
use crate::follow::options::FollowOptions;
use crate::follow::{Asked, Checked};
use crate::limits::Limits;
use crate::policy::{Peer, Policy};
use crate::relation::followed::{Upstream, UpstreamOptions};
use crate::relation::kept::KeptCopies;
use crate::testing::{TestServer, change, note_kept};
use crate::wire::follow::Kind;
use keyferry_crypto::SystemRandom;
use keyferry_kmip::Identity;
use keyferry_kmip::spec::{AttributeValue, State};
use keyferry_store::{Material, ObjectId, Overlay, Record};

/// A server that follows `c` in the relation `r`, and a record of `c`.
fn replica(most: usize) -> (TestServer, Record) {
    let mut server = TestServer::new(|peer| peer);
    let limits = Limits {
        differing: most,
        ..Limits::default()
    };
    server.node.policy = Policy::closed().with_limits(limits);
    let what = UpstreamOptions::default();
    Upstream::follow(&server.store, "r", "c", &what, server.now().wall).unwrap();
    let own = server.key("own", Vec::new());
    let mut record = server.record(&own).unwrap();
    record.id.server = "c".into();
    record.stamp.issuer = "c".into();
    record.id.identifier = "k".into();
    record.identifier = "k".into();
    record.overlay = Some(Overlay::default());
    (server, record)
}

struct Noted {
    applied: Applied,
    listed: Vec<DifferingCopy>,
}

/// Notes a change after which the store holds what `effects` make of it.
fn note(server: &TestServer, change: &Change, outcome: Outcome, effects: Effects) -> Noted {
    let upstream = server
        .asking(|ask| Upstream::find(ask.snapshot, "r"))
        .unwrap()
        .unwrap();
    let (caller, options) = (Identity::peer("c"), FollowOptions::new("r", Peer::new("c")));
    let asked = Asked {
        acknowledged: Vec::new(),
        again: Vec::new(),
        searches: false,
        checked: Checked::NoFurther,
    };
    let mut page = ChangesPage {
        node: &server.node,
        options: &options,
        reign: &[],
        asked: &asked,
        caller: &caller,
        now: server.now(),
        random: &mut SystemRandom::new(),
        kept: KeptCopies::of(&"c".into(), &"r".into()),
        created: Vec::new(),
        applied: Applied::none(upstream),
    };
    let entry = server
        .asking(|ask| page.note_difference(ask.snapshot, change, outcome, &effects))
        .unwrap();
    let mut all = effects;
    all.state.extend(entry);
    all.state.push(page.applied.upstream.entry().unwrap());
    let applied = page.applied;
    server.apply(all);
    let listed = server
        .asking(|ask| DifferingCopy::all(ask.snapshot, "r"))
        .unwrap();
    Noted { applied, listed }
}

/// Has the server hold a copy that comes by the relation.
fn hold(server: &TestServer, record: &Record) {
    server.apply(Effects::change(None, record.clone(), Material::Keep));
    note_kept(&server.store, ("c", "r"), &record.id, true);
}

fn nothing(server: &TestServer, change: &Change, outcome: Outcome) -> Noted {
    note(server, change, outcome, Effects::none())
}

fn told(record: &Record) -> CopySum {
    CopySum::of_record(record).unwrap()
}

#[test]
fn what_is_taken_is_told_and_what_is_refused_is_listed_until_it_is_taken() {
    let (server, record) = replica(10);
    let copy = change(Kind::COPY, &record);
    let id: &ObjectId = &record.id;
    let refused = nothing(&server, &copy, Outcome::Failed);
    assert_eq!(refused.applied.upstream.differing, Some(1));
    assert_eq!(refused.applied.told, Told::new());
    assert_eq!(
        refused.applied.differing,
        [(id.clone(), Some(Some(told(&record))))]
    );
    let row = &refused.listed[0];
    assert_eq!((&row.id, row.stamp.as_ref()), (id, Some(&record.stamp)));
    assert_eq!(
        (row.since, row.sum()),
        (server.now().wall, Some(told(&record)))
    );
    // Once more: it is listed once.
    let again = nothing(&server, &copy, Outcome::Failed);
    assert_eq!(
        (again.applied.upstream.differing, again.listed.len()),
        (Some(1), 1)
    );
    let created = Effects::change(None, record.clone(), Material::Keep);
    let taken = note(&server, &copy, Outcome::Created, created);
    assert_eq!(
        (taken.applied.upstream.differing, taken.listed.len()),
        (None, 0)
    );
    assert_eq!(taken.applied.differing, [(id.clone(), None)]);
    let known = (record.stamp.clone(), told(&record));
    assert_eq!(taken.applied.told.get(id), Some(&known));
    note_kept(&server.store, ("c", "r"), id, true);
    // Told once more and held so.
    let same = nothing(&server, &copy, Outcome::Unchanged);
    assert_eq!((same.applied.differing.len(), same.listed.len()), (0, 0));
    assert_eq!(same.applied.told.get(id), Some(&known));
}

#[test]
fn what_is_held_otherwise_than_told_is_listed() {
    let (server, record) = replica(10);
    hold(&server, &record);
    let mut newer = record.clone();
    newer.stamp.sequence += 1;
    let mut bare = record.clone();
    bare.attributes.set(AttributeValue::Comment("x".into()));
    for other in [&newer, &bare] {
        let noted = nothing(&server, &change(Kind::COPY, other), Outcome::Unchanged);
        assert_eq!(noted.listed[0].sum(), Some(told(other)));
        assert_eq!(noted.applied.told, Told::new());
        let right = nothing(&server, &change(Kind::WITHHELD, &record), Outcome::Skipped);
        assert_eq!(right.listed, [], "withheld, and held so");
    }
    // A copy that comes by another relation is not held by way of this one.
    let (server, record) = replica(10);
    server.apply(Effects::change(None, record.clone(), Material::Keep));
    note_kept(&server.store, ("c", "s"), &record.id, true);
    let noted = nothing(&server, &change(Kind::COPY, &record), Outcome::Unchanged);
    assert_eq!(noted.listed.len(), 1);
}

#[test]
fn what_is_over_or_gone_leaves_nothing_to_compare() {
    let (server, record) = replica(10);
    let mut destroyed = record.clone();
    destroyed
        .attributes
        .set(AttributeValue::State(State::DESTROYED));
    // Not held: there is nothing to say.
    for gone in [
        change(Kind::GONE, &record),
        change(Kind::WITHDRAWN, &record),
        change(Kind::COPY, &destroyed),
        change(Kind::WITHHELD, &destroyed),
    ] {
        let noted = nothing(&server, &gone, Outcome::Skipped);
        assert_eq!((noted.listed.len(), noted.applied.told.len()), (0, 0));
    }
    // Held, and its issuer has it no more; or a relay holds it as destroyed.
    hold(&server, &record);
    let raised = Change {
        raised: Some(State::DESTROYED),
        ..change(Kind::COPY, &record)
    };
    for gone in [
        change(Kind::GONE, &record),
        change(Kind::UNKEPT, &record),
        raised,
    ] {
        let noted = nothing(&server, &gone, Outcome::Skipped);
        assert_eq!(noted.listed[0].stamp, None);
        assert_eq!(noted.listed[0].sum(), None);
        assert_eq!(noted.applied.differing, [(record.id.clone(), Some(None))]);
        let right = nothing(&server, &change(Kind::COPY, &record), Outcome::Unchanged);
        assert_eq!(right.listed, []);
    }
    // Raised to something else is no end.
    let raised = Change {
        raised: Some(State::COMPROMISED),
        ..change(Kind::COPY, &record)
    };
    assert_eq!(nothing(&server, &raised, Outcome::Unchanged).listed, []);
}

#[test]
fn while_more_differ_than_are_listed_nothing_is_compared() {
    let (server, record) = replica(2);
    for n in 0..3 {
        let mut other = record.clone();
        other.id.identifier = format!("{n}").as_str().into();
        let noted = nothing(&server, &change(Kind::COPY, &other), Outcome::Failed);
        let uncompared = (n == 2).then_some(true);
        assert_eq!(noted.applied.upstream.uncompared, uncompared, "{n}");
        assert_eq!(noted.listed.len(), 2.min(n + 1));
    }
    // One that is listed already is listed on.
    let mut known = record.clone();
    known.id.identifier = "1".into();
    known.stamp.sequence += 1;
    let noted = nothing(&server, &change(Kind::COPY, &known), Outcome::Failed);
    assert_eq!(noted.applied.upstream.differing, Some(2));
    assert!(
        noted
            .listed
            .iter()
            .any(|row| row.sum() == Some(told(&known)))
    );
}

#[test]
fn a_transport_key_is_compared_by_nobody() {
    let (server, mut record) = replica(10);
    let owner = crate::transport_key::owner("c");
    record.attributes = [
        AttributeValue::CryptographicUsageMask(crate::transport_key::USAGE),
        AttributeValue::State(State::ACTIVE),
    ]
    .into_iter()
    .chain(crate::transport_key::marks(&"h".into(), &"t".into()))
    .collect();
    record.overlay.as_mut().unwrap().owner = Some(owner);
    assert!(is_transport_key(&record));
    let created = Effects::change(None, record.clone(), Material::Keep);
    let noted = note(
        &server,
        &change(Kind::COPY, &record),
        Outcome::Created,
        created,
    );
    assert_eq!((noted.listed.len(), noted.applied.told.len()), (0, 0));
}
