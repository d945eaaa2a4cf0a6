//! What a replica makes of one change, by who tells it and what is held.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod left;

use super::*;
use crate::policy::Peer;
use crate::relation::followed::UpstreamOptions;
use crate::relation::retry::objects_missing_at_issuer;
use crate::testing::{TestServer, change, note_kept, relations_of};
use crate::wire::receipt::Receipt;
use keyferry_kmip::spec::{AttributeValue, CryptographicAlgorithm, ObjectType, State};
use keyferry_kmip::{Object, Secret};
use keyferry_store::record::material_of;
use keyferry_store::{Incarnation, Lineage, Record, Stamp};

/// The reign in which the server `c` made its changes.
const REIGN: [u8; 16] = [5; 16];

fn record(sequence: i64, state: State) -> Record {
    let id = ObjectId {
        server: "c".into(),
        instance: vec![9; 16],
        identifier: "k".into(),
    };
    let mut stamp = Stamp::first(&"c".into(), Incarnation(REIGN));
    stamp.sequence = sequence;
    Record {
        identifier: id.identifier.clone(),
        id,
        owner: None,
        stamp,
        lineage: Lineage::new(),
        object_type: ObjectType::SYMMETRIC_KEY,
        attributes: [AttributeValue::State(state)].into_iter().collect(),
        overlay: None,
        fingerprint: None,
        lost: Vec::new(),
        extra: Extra::NONE,
    }
}

/// The object itself along with its copy.
fn whole(record: &Record) -> Change {
    let object = Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(&[1; 16]));
    Change {
        material: Some(Secret::new(&material_of(&object).unwrap())),
        ..change(Kind::COPY, record)
    }
}

/// With the receipts of a relay.
fn relayed(mut change: Change) -> Change {
    let receipt = || Receipt {
        proof: vec![1; 48],
        identifier: "k".into(),
        extra: Extra::NONE,
    };
    change.copy.receipt = Some(receipt());
    change.copy.relay_receipt = Some(receipt());
    change
}

fn issuer() -> FollowOptions {
    FollowOptions::new("r", Peer::new("c"))
}

fn relay() -> FollowOptions {
    FollowOptions::new("s", Peer::new("b").may_relay_for(["c"]))
}

/// A server that follows `c` in the relation `r`, and `b` in `s`.
fn replica() -> TestServer {
    let server = TestServer::new(|peer: Peer| peer);
    for (relation, with) in [("r", "c"), ("s", "b")] {
        let what = UpstreamOptions::default();
        Upstream::follow(&server.store, relation, with, &what, server.now().wall).unwrap();
    }
    server
}

/// Hears a change in an answer of this reign; the effects are applied.
fn hear_in(
    server: &TestServer,
    options: &FollowOptions,
    change: &Change,
    reign: &[u8],
    asked_again: &[ObjectId],
) -> Result<Outcome, Failure> {
    let receiver = Receiver {
        node: &server.node,
        options,
        reign,
        asked_again,
        searches: false,
    };
    let decision = server.asking(|ask| receiver.decide(ask, change))?;
    if let Some(refused) = decision.refused {
        server.apply(decision.effects);
        return Err(refused);
    }
    Ok(settle(server, options, change, decision).outcome)
}

/// Writes what was decided of a change.
fn settle(
    server: &TestServer,
    options: &FollowOptions,
    change: &Change,
    decision: Decision,
) -> ObjectResult {
    server.apply(decision.effects);
    let way = (&*options.from.server, &*options.relation);
    match decision.standing {
        Standing::AsBefore => {}
        Standing::Comes(_) => note_kept(&server.store, way, &change.copy.id, true),
        Standing::Leaves(_) => note_kept(&server.store, way, &change.copy.id, false),
    }
    decision.result
}

fn hear(server: &TestServer, options: &FollowOptions, change: &Change) -> Outcome {
    hear_in(server, options, change, &REIGN, &[]).unwrap()
}

fn missing(server: &TestServer, relation: &str) -> usize {
    let found = server.asking(|ask| objects_missing_at_issuer(ask.snapshot, relation));
    found.unwrap().len()
}

#[test]
fn an_issuer_that_is_behind_is_named_until_it_is_not() {
    let server = replica();
    assert_eq!(
        hear(&server, &issuer(), &whole(&record(3, State::ACTIVE))),
        Outcome::Created
    );
    assert_eq!(missing(&server, "r"), 0);
    let older = change(Kind::COPY, &record(2, State::ACTIVE));
    assert_eq!(hear(&server, &issuer(), &older), Outcome::Unchanged);
    assert_eq!(missing(&server, "r"), 1);
    // Told once more it is not written again, told right it is named no more.
    hear(&server, &issuer(), &older);
    assert_eq!(missing(&server, "r"), 1);
    hear(
        &server,
        &issuer(),
        &change(Kind::COPY, &record(3, State::ACTIVE)),
    );
    assert_eq!(missing(&server, "r"), 0);
    // A relay that is behind is late, and nothing else.
    assert_eq!(hear(&server, &relay(), &relayed(older)), Outcome::Unchanged);
    assert_eq!((missing(&server, "r"), missing(&server, "s")), (0, 0));
}

#[test]
fn what_a_relay_brings_first_is_ahead_of_the_issuer_that_is_followed_too() {
    let server = replica();
    assert_eq!(
        hear(
            &server,
            &relay(),
            &relayed(whole(&record(1, State::ACTIVE)))
        ),
        Outcome::Created
    );
    assert_eq!((missing(&server, "r"), missing(&server, "s")), (1, 0));
    hear(
        &server,
        &issuer(),
        &change(Kind::COPY, &record(1, State::ACTIVE)),
    );
    assert_eq!(missing(&server, "r"), 0);
    hear(
        &server,
        &relay(),
        &relayed(change(Kind::COPY, &record(2, State::ACTIVE))),
    );
    assert_eq!(missing(&server, "r"), 1);
}

#[test]
fn the_issuer_is_asked_for_what_relays_alone_have_told() {
    let server = replica();
    hear(
        &server,
        &relay(),
        &relayed(whole(&record(5, State::ACTIVE))),
    );
    let told = whole(&record(4, State::ACTIVE));
    let id = told.copy.id.clone();
    // In the reign of the change, the issuer would know it: it is asked for the object, and what it says then counts.
    let asked = hear_in(&server, &issuer(), &told, &REIGN, &[]).unwrap_err();
    assert_eq!(asked.cause(), Cause::MissingData);
    let outcome = hear_in(&server, &issuer(), &told, &REIGN, std::slice::from_ref(&id));
    assert_eq!(outcome.unwrap(), Outcome::Updated);
    assert_eq!(server.record(&id).unwrap().stamp.sequence, 4);
    // In another reign it may have lost it; and a relay overrules nobody.
    let server = replica();
    hear(
        &server,
        &relay(),
        &relayed(whole(&record(5, State::ACTIVE))),
    );
    let outcome = hear_in(
        &server,
        &issuer(),
        &told,
        &[6; 16],
        std::slice::from_ref(&id),
    );
    assert_eq!(outcome.unwrap(), Outcome::Unchanged);
    let outcome = hear_in(
        &server,
        &relay(),
        &relayed(told),
        &REIGN,
        std::slice::from_ref(&id),
    );
    assert_eq!(outcome.unwrap(), Outcome::Unchanged);
    assert_eq!(server.record(&id).unwrap().stamp.sequence, 5);
    // What the issuer has told itself it is not asked for.
    let server = replica();
    hear(&server, &issuer(), &whole(&record(5, State::ACTIVE)));
    let outcome = hear_in(
        &server,
        &issuer(),
        &change(Kind::COPY, &record(4, State::ACTIVE)),
        &REIGN,
        &[],
    );
    assert_eq!(outcome.unwrap(), Outcome::Unchanged);
}

#[test]
fn a_state_without_its_copy_is_heard() {
    let server = replica();
    hear(&server, &issuer(), &whole(&record(1, State::ACTIVE)));
    let id = record(1, State::ACTIVE).id;
    let withheld = |state| change(Kind::WITHHELD, &record(2, state));
    assert_eq!(
        hear(&server, &issuer(), &withheld(State::COMPROMISED)),
        Outcome::Skipped
    );
    let held = server.record(&id).unwrap();
    assert_eq!(held.stored_state(), Some(State::COMPROMISED));
    assert_eq!(
        held.attributes.state(),
        Some(State::ACTIVE),
        "the copy stays verbatim"
    );
    // Not from whom it is no affair of, and not of what is not here.
    let stranger = FollowOptions::new("s", Peer::new("b"));
    let refused = hear_in(&server, &stranger, &withheld(State::DESTROYED), &REIGN, &[]);
    assert_eq!(refused.unwrap_err().cause(), Cause::PermissionDenied);
    let empty = replica();
    assert_eq!(
        hear(&empty, &issuer(), &withheld(State::COMPROMISED)),
        Outcome::Skipped
    );
    assert!(empty.record(&id).is_none());
}

#[test]
fn a_withdrawal_by_an_issuer_that_is_behind_names_what_it_has_lost() {
    for (sequence, by_relay, named) in [(2, false, 1), (3, false, 0), (4, false, 0), (2, true, 0)] {
        let server = replica();
        let options = if by_relay { relay() } else { issuer() };
        let first = whole(&record(3, State::ACTIVE));
        hear(
            &server,
            &options,
            &if by_relay { relayed(first) } else { first },
        );
        let before = missing(&server, "r");
        let withdrawal = change(Kind::WITHDRAWN, &record(sequence, State::COMPROMISED));
        assert_eq!(hear(&server, &options, &withdrawal), Outcome::Withdrawn);
        let after = missing(&server, "r") - before + missing(&server, "s");
        assert_eq!(after, named, "{sequence} {by_relay}");
        let held = server.record(&record(1, State::ACTIVE).id).unwrap();
        assert!(held.is_withdrawn());
        assert_eq!(held.stored_state(), Some(State::COMPROMISED));
    }
}

#[test]
fn what_is_gone_at_the_issuer_is_kept_and_named_if_it_is_here() {
    let server = replica();
    let gone = change(Kind::GONE, &record(1, State::ACTIVE));
    assert_eq!(hear(&server, &issuer(), &gone), Outcome::Skipped);
    assert_eq!(missing(&server, "r"), 0);
    hear(&server, &issuer(), &whole(&record(1, State::ACTIVE)));
    assert_eq!(hear(&server, &issuer(), &gone), Outcome::Skipped);
    assert_eq!(missing(&server, "r"), 1);
    assert!(!server.record(&gone.copy.id).unwrap().is_withdrawn());
}

#[test]
fn a_relation_that_has_nothing_new_differs_in_the_time_alone() {
    let server = replica();
    let upstream = server
        .asking(|ask| Upstream::find(ask.snapshot, "r"))
        .unwrap()
        .unwrap();
    let later = Upstream {
        contact: DateTime(99),
        ..upstream.clone()
    };
    assert!(differ_in_contact_alone(&upstream, &later));
    let more = Upstream {
        retried: 1,
        ..later
    };
    assert!(!differ_in_contact_alone(&upstream, &more));
}

#[test]
fn a_result_says_what_became_of_an_object_here() {
    let server = replica();
    let result = |change: &Change| {
        let options = issuer();
        let receiver = Receiver {
            node: &server.node,
            options: &options,
            reign: &REIGN,
            asked_again: &[],
            searches: false,
        };
        let decision = server.asking(|ask| receiver.decide(ask, change)).unwrap();
        settle(&server, &options, change, decision)
    };
    let created = result(&whole(&record(1, State::ACTIVE)));
    assert_eq!((created.target, created.message), (None, None));
    let mut other = record(1, State::ACTIVE);
    other
        .attributes
        .push(AttributeValue::Comment("other".into()));
    let forked = result(&change(Kind::COPY, &other));
    assert_eq!((forked.outcome, forked.target), (Outcome::Forked, None));
    assert!(forked.message.unwrap().contains("both are kept"));
    // It is called otherwise at its issuer from now on.
    let mut renamed = change(Kind::COPY, &record(2, State::ACTIVE));
    renamed.identifier = "called otherwise".into();
    assert_eq!(result(&renamed).target.as_deref(), Some("k"));
}

#[test]
fn ways_that_no_honest_server_tells_are_not_kept() {
    let server = replica();
    let path = |servers: &[&str]| KeptPath {
        servers: servers.iter().map(|server| (*server).into()).collect(),
        extra: Extra::NONE,
    };
    let long = "x".repeat(server.node.policy.limits.name_bytes + 1);
    let answer = |keeps| FollowResponse {
        wanted_back: Vec::new(),
        proof: None,
        answer: crate::wire::follow::Answer::CHANGES,
        server: "b".into(),
        instance: Vec::new(),
        reign: Vec::new(),
        session: 1,
        behind: None,
        place: Default::default(),
        head: Default::default(),
        changes: Vec::new(),
        terms: None,
        offers: 0,
        check: None,
        time: None,
        keeps,
        extra: Extra::NONE,
    };
    let told = vec![
        path(&["c"]),
        path(&["a", "d"]),
        path(&["e", &long]),
        path(&["f"; 17]),
        path(&["f"; 16]),
    ];
    let kept = credible_paths(&answer(told), &server.node);
    assert_eq!(kept, [path(&["c"]), path(&["f"; 16])]);
    let kept = credible_paths(&answer(vec![path(&["c"]); MOST_WAYS + 1]), &server.node);
    assert_eq!(kept.len(), MOST_WAYS);
}

#[test]
fn what_stands_against_a_copy_does_not_stand_against_its_state() {
    for (state, kept) in [
        (State::ACTIVE, State::ACTIVE),
        (State::COMPROMISED, State::COMPROMISED),
        (State::DESTROYED, State::DESTROYED),
    ] {
        let server = replica();
        let id = record(1, State::ACTIVE).id;
        hear(&server, &issuer(), &whole(&record(1, State::ACTIVE)));
        let name = || AttributeValue::Name(keyferry_kmip::Name::text("taken"));
        server.key("another", vec![name()]);
        let mut named = record(2, state);
        named.attributes.push(name());
        let refused = hear_in(&server, &issuer(), &change(Kind::COPY, &named), &REIGN, &[]);
        assert!(refused.unwrap_err().message().contains("has the Name"));
        let held = server.record(&id).unwrap();
        assert_eq!(held.stored_state(), Some(kept), "{state}");
        assert_eq!(held.stamp.sequence, 1);
        assert_eq!(server.object(&id).is_none(), state == State::DESTROYED);
    }
    // What has other material is another object.
    let server = replica();
    hear(&server, &issuer(), &whole(&record(1, State::ACTIVE)));
    let other = Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(&[2; 16]));
    let told = Change {
        material: Some(Secret::new(&material_of(&other).unwrap())),
        ..whole(&record(2, State::DESTROYED_COMPROMISED))
    };
    for told in [
        told.clone(),
        Change {
            copy: change(Kind::COPY, &record(2, State::COMPROMISED)).copy,
            ..told
        },
    ] {
        let _ = hear_in(&server, &issuer(), &told, &REIGN, &[]);
        let held = server.record(&record(1, State::ACTIVE).id).unwrap();
        assert_eq!(held.stored_state(), Some(State::ACTIVE));
    }
    // What is not held is not there afterwards.
    let server = replica();
    server.key("k", Vec::new());
    let told = whole(&record(1, State::COMPROMISED));
    let refused = hear_in(&server, &issuer(), &told, &REIGN, &[]);
    assert!(refused.unwrap_err().message().contains("identifier"));
    assert!(server.record(&record(1, State::ACTIVE).id).is_none());
}
