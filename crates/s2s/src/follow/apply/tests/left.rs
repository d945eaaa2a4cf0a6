//! What leaves, is not kept true, or has rotted.

use super::*;

#[test]
fn what_its_issuer_has_withdrawn_comes_back_by_no_relay() {
    let server = replica();
    let id = record(1, State::ACTIVE).id;
    hear(&server, &issuer(), &whole(&record(1, State::ACTIVE)));
    hear(
        &server,
        &relay(),
        &relayed(change(Kind::COPY, &record(1, State::ACTIVE))),
    );
    let via = |server: &TestServer| relations_of(&server.store, &id);
    assert_eq!(via(&server), ["s", "r"]);
    let withdrawal = change(Kind::WITHDRAWN, &record(1, State::ACTIVE));
    hear(&server, &issuer(), &withdrawal);
    let mark = server.record(&id).unwrap();
    assert!(mark.is_withdrawn() && server.object(&id).is_none());
    assert_eq!(mark.overlay.unwrap().by_issuer, Some(true));
    // The relay has it still: its State is heard, and nothing else.
    let newer = relayed(whole(&record(2, State::COMPROMISED)));
    assert_eq!(hear(&server, &relay(), &newer), Outcome::Unchanged);
    let mark = server.record(&id).unwrap();
    assert!(mark.is_withdrawn() && mark.is_compromised());
    // The issuer brings it back itself.
    assert_eq!(
        hear(&server, &issuer(), &whole(&record(3, State::COMPROMISED))),
        Outcome::Created
    );
    assert!(!server.record(&id).unwrap().is_withdrawn());
    // A relay withdraws what it has brought, and the issuer's relation goes on.
    hear(
        &server,
        &relay(),
        &relayed(change(Kind::COPY, &record(3, State::COMPROMISED))),
    );
    let withdrawal = change(Kind::WITHDRAWN, &record(3, State::COMPROMISED));
    hear(&server, &relay(), &relayed(withdrawal));
    assert_eq!(via(&server), ["r"]);
    assert!(server.object(&id).is_some());
}

#[test]
fn a_mark_hears_how_far_the_state_has_come() {
    let server = replica();
    let id = record(1, State::ACTIVE).id;
    hear(&server, &issuer(), &whole(&record(1, State::ACTIVE)));
    for state in [State::ACTIVE, State::COMPROMISED, State::DESTROYED] {
        hear(
            &server,
            &issuer(),
            &change(Kind::WITHDRAWN, &record(2, state)),
        );
        let mark = server.record(&id).unwrap();
        assert!(mark.is_withdrawn());
        assert_eq!(mark.is_compromised(), state != State::ACTIVE);
        assert_eq!(mark.is_destroyed(), state == State::DESTROYED);
    }
    // At its end it hears no more.
    let before = server.record(&id).unwrap();
    let late = change(Kind::WITHDRAWN, &record(3, State::ACTIVE));
    hear(&server, &issuer(), &late);
    assert_eq!(server.record(&id).unwrap(), before);
}

#[test]
fn what_its_issuer_has_withdrawn_comes_by_relays_when_it_is_followed_no_more() {
    for ends_there in [true, false] {
        let server = replica();
        let id = record(1, State::ACTIVE).id;
        hear(&server, &issuer(), &whole(&record(1, State::ACTIVE)));
        let withdrawal = change(Kind::WITHDRAWN, &record(1, State::ACTIVE));
        hear(&server, &issuer(), &withdrawal);
        if ends_there {
            server
                .store
                .transact::<_, Error>(|transaction| {
                    let upstream = Upstream::find(transaction, "r")?.unwrap();
                    let (key, value) = upstream.ended_there(DateTime(1)).entry()?;
                    Ok(transaction.set_state(&key, value.as_deref())?)
                })
                .unwrap();
        } else {
            Upstream::end(&server.store, "r").unwrap();
        }
        let told = relayed(whole(&record(1, State::ACTIVE)));
        assert_eq!(hear(&server, &relay(), &told), Outcome::Created);
        assert!(server.object(&id).is_some(), "{ends_there}");
    }
}

#[test]
fn another_relation_with_the_issuer_goes_on_bringing_what_one_has_withdrawn() {
    let server = replica();
    let what = UpstreamOptions::default();
    Upstream::follow(&server.store, "t", "c", &what, server.now().wall).unwrap();
    let other = FollowOptions::new("t", Peer::new("c"));
    let id = record(1, State::ACTIVE).id;
    hear(&server, &issuer(), &whole(&record(1, State::ACTIVE)));
    hear(
        &server,
        &other,
        &change(Kind::COPY, &record(1, State::ACTIVE)),
    );
    let withdrawal = change(Kind::WITHDRAWN, &record(1, State::ACTIVE));
    hear(&server, &issuer(), &withdrawal);
    let held = server.record(&id).unwrap();
    assert!(!held.is_withdrawn() && server.object(&id).is_some());
    assert_eq!(relations_of(&server.store, &id), ["t"]);
}

/// Hears of an object by the relay.
fn hear_of_relay(server: &TestServer) {
    let told = relayed(whole(&record(1, State::ACTIVE)));
    hear(server, &relay(), &told);
}

/// The relay hears of the issuer, and so many of its copies differ.
fn note_upstream(server: &TestServer, differing: Option<i64>) {
    server
        .store
        .transact::<_, Error>(|transaction| {
            let mut upstream = Upstream::find(transaction, "s")?.unwrap();
            upstream.keeps = vec![KeptPath {
                servers: vec!["c".into()],
                extra: Extra::NONE,
            }];
            upstream.differing = differing;
            let (key, value) = upstream.entry()?;
            Ok(transaction.set_state(&key, value.as_deref())?)
        })
        .unwrap();
}

#[test]
fn what_a_relay_does_not_keep_true_is_unkept_here() {
    let server = replica();
    let id = record(1, State::ACTIVE).id;
    hear_of_relay(&server);
    let unkept = || {
        let all = crate::UnkeptCopy::all(&server.node, &server.store, DateTime(1));
        let all = all.unwrap().into_iter();
        all.map(|copy| (copy.id, copy.why)).collect::<Vec<_>>()
    };
    let upstream = |differing| note_upstream(&server, differing);
    upstream(None);
    assert_eq!(unkept(), []);
    let untrue = change(Kind::UNKEPT, &record(1, State::ACTIVE));
    assert_eq!(hear(&server, &relay(), &untrue), Outcome::Skipped);
    let list = |relation: &str, stamp: Option<Stamp>| {
        let row = crate::DifferingCopy {
            id: id.clone(),
            stamp,
            digest: None,
            since: DateTime(1),
            extra: Extra::NONE,
        };
        let prefix = crate::relation::keys::differing_prefix(relation);
        let mut effects = Effects::none();
        effects
            .state
            .push((about(prefix, &id).unwrap(), Some(bytes_of(&row).unwrap())));
        server.apply(effects);
    };
    list("s", None);
    assert_eq!(unkept(), [], "the relation says that it lists nothing");
    upstream(Some(1));
    assert_eq!(unkept(), [(id.clone(), crate::UnkeptReason::AtRelay)]);
    // What is held otherwise than told is kept all the same.
    list("s", Some(record(2, State::ACTIVE).stamp));
    assert_eq!(unkept(), []);
    // The issuer itself keeps what it is told of, and names what it does not have.
    list("s", None);
    hear(
        &server,
        &issuer(),
        &change(Kind::COPY, &record(1, State::ACTIVE)),
    );
    list("r", None);
    assert_eq!(unkept(), []);
}

/// A server that holds a copy of `c` with receipts, which has changed by itself since.
fn rotted(with_receipts: bool) -> TestServer {
    let server = replica();
    let mut first = whole(&record(1, State::ACTIVE));
    first.copy.receipt = Some(Receipt {
        proof: vec![1; 48],
        identifier: "k".into(),
        extra: Extra::NONE,
    });
    if !with_receipts {
        first.copy.receipt = None;
    }
    hear(&server, &issuer(), &first);
    let found = server.asking(|ask| ask.snapshot.by_object_id(&first.copy.id));
    let (number, held) = found.unwrap().unwrap();
    let mut after = held.clone();
    after.attributes.set(AttributeValue::Comment("x".into()));
    let material = keyferry_store::Material::Keep;
    server.apply(Effects::change(Some((number, held)), after, material));
    server
}

#[test]
fn what_has_changed_by_itself_gives_way_when_its_keeper_is_asked_for_it() {
    let told = whole(&record(1, State::ACTIVE));
    let id = told.copy.id.clone();
    let asked = std::slice::from_ref(&id);
    let comments = |server: &TestServer| {
        let held = server.record(&id).unwrap().attributes;
        held.get(keyferry_kmip::spec::tag::COMMENT).is_some()
    };
    // Not asked for, it is a change on both sides.
    let server = rotted(true);
    let outcome = hear_in(&server, &issuer(), &told, &REIGN, &[]);
    assert_eq!(
        (outcome.unwrap(), comments(&server)),
        (Outcome::Forked, true)
    );
    for asked_by_name in [true, false] {
        let server = rotted(true);
        let options = issuer();
        let receiver = Receiver {
            node: &server.node,
            options: &options,
            reign: &REIGN,
            asked_again: if asked_by_name { asked } else { &[] },
            searches: !asked_by_name,
        };
        let decision = server.asking(|ask| receiver.decide(ask, &told)).unwrap();
        let result = settle(&server, &options, &told, decision);
        assert_eq!(
            (result.outcome, comments(&server)),
            (Outcome::Updated, false)
        );
    }
    // Without receipts nobody knows which of the two is right.
    let server = rotted(false);
    let outcome = hear_in(&server, &issuer(), &told, &REIGN, asked);
    assert_eq!(
        (outcome.unwrap(), comments(&server)),
        (Outcome::Forked, true)
    );
}

#[test]
fn what_was_found_rotten_gives_way_to_a_copy_with_material() {
    let told = whole(&record(1, State::ACTIVE));
    let id = told.copy.id.clone();
    let asked = std::slice::from_ref(&id);
    let comments = |server: &TestServer| {
        let held = server.record(&id).unwrap().attributes;
        held.get(keyferry_kmip::spec::tag::COMMENT).is_some()
    };
    let server = rotted(false);
    let list = |server: &TestServer| {
        let found = server.asking(|ask| ask.snapshot.by_object_id(&id));
        let number = found.unwrap().unwrap().0;
        let mut effects = Effects::none();
        effects
            .state
            .push((crate::relation::keys::rotten(number), Some(vec![1])));
        server.apply(effects);
        number
    };
    let number = list(&server);
    let bare = change(Kind::COPY, &record(1, State::ACTIVE));
    let outcome = hear_in(&server, &issuer(), &bare, &REIGN, asked);
    assert_eq!(
        (outcome.unwrap(), comments(&server)),
        (Outcome::Forked, true)
    );
    let outcome = hear_in(&server, &issuer(), &told, &REIGN, asked);
    assert_eq!(
        (outcome.unwrap(), comments(&server)),
        (Outcome::Updated, false)
    );
    let key = crate::relation::keys::rotten(number);
    let row = server.asking(|ask| ask.snapshot.state_value(&key));
    assert_eq!(row.unwrap(), None, "it is right again");
}

#[test]
fn another_change_of_what_has_rotted_is_taken_as_ever() {
    let id = record(1, State::ACTIVE).id;
    let asked = std::slice::from_ref(&id);
    let server = rotted(true);
    let newer = change(Kind::COPY, &record(2, State::ACTIVE));
    let outcome = hear_in(&server, &issuer(), &newer, &REIGN, asked);
    assert_eq!(outcome.unwrap(), Outcome::Updated);
}

#[test]
fn what_a_relay_sends_in_the_place_of_what_has_rotted_is_what_the_receipts_are_of() {
    let server = replica();
    // It came by the relay, with the receipt of its issuer.
    let home = |secret| keyferry_store::Home {
        server: "c".into(),
        instance: vec![9; 16],
        fingerprint_key: Secret::new(&[secret; 32]),
        extra: Extra::NONE,
    };
    let mut right = relayed(whole(&record(1, State::ACTIVE)));
    let key = crate::wire::receipt::ReceiptKey::of(&home(8));
    right.copy.receipt = Some(key.receipt(&right.copy.facts(), &"k".into(), None));
    hear(&server, &relay(), &right);
    let id = right.copy.id.clone();
    let found = server.asking(|ask| ask.snapshot.by_object_id(&id));
    let (number, held) = found.unwrap().unwrap();
    let mut after = held.clone();
    after.attributes.set(AttributeValue::Comment("x".into()));
    let material = keyferry_store::Material::Keep;
    server.apply(Effects::change(Some((number, held)), after, material));
    // Another copy of the same change is made up, or has rotted at the relay.
    let mut other = record(1, State::ACTIVE);
    other.attributes.push(AttributeValue::Comment("y".into()));
    let asked = std::slice::from_ref(&id);
    let outcome = hear_in(&server, &relay(), &relayed(whole(&other)), &REIGN, asked);
    assert_eq!(outcome.unwrap(), Outcome::Forked);
    let outcome = hear_in(&server, &relay(), &right, &REIGN, asked);
    assert_eq!(outcome.unwrap(), Outcome::Updated);
    let held = server.record(&id).unwrap();
    assert_eq!(held.copy_digest().unwrap(), right.copy.digest);
}

#[test]
fn what_a_server_withdraws_none_of_its_ended_relations_brings() {
    let server = replica();
    let id = record(1, State::ACTIVE).id;
    hear_of_relay(&server);
    // Brought by relations that were ended with the same relay, and with another one.
    note_kept(&server.store, ("b", "ended"), &id, true);
    note_kept(&server.store, ("d", "ended too"), &id, true);
    let withdrawal = || relayed(change(Kind::WITHDRAWN, &record(1, State::ACTIVE)));
    hear(&server, &relay(), &withdrawal());
    assert_eq!(relations_of(&server.store, &id), ["ended too"]);
    assert!(
        server.object(&id).is_some(),
        "nobody has withdrawn that one"
    );
    note_kept(&server.store, ("d", "ended too"), &id, false);
    note_kept(&server.store, ("b", "s"), &id, true);
    hear(&server, &relay(), &withdrawal());
    assert!(server.object(&id).is_none());
    // A relation of the same name with another server is another one.
    let server = replica();
    hear_of_relay(&server);
    note_kept(&server.store, ("b", "r"), &id, true);
    hear(&server, &relay(), &withdrawal());
    assert!(server.record(&id).unwrap().is_withdrawn());
}

#[test]
fn the_end_of_what_was_sent_beside_the_relation_is_heard_and_does_not_bring_it() {
    let server = replica();
    let id = record(1, State::ACTIVE).id;
    let ended = |state| change(Kind::ENDED, &record(2, state));
    // What is not held here stays so.
    assert_eq!(
        hear(&server, &issuer(), &ended(State::COMPROMISED)),
        Outcome::Unchanged
    );
    assert!(server.record(&id).is_none());
    hear(&server, &issuer(), &whole(&record(1, State::ACTIVE)));
    note_kept(&server.store, ("c", "r"), &id, false);
    for (state, outcome) in [
        (State::COMPROMISED, Outcome::Updated),
        (State::COMPROMISED, Outcome::Unchanged),
        (State::DESTROYED_COMPROMISED, Outcome::Updated),
    ] {
        assert_eq!(hear(&server, &issuer(), &ended(state)), outcome);
        assert_eq!(server.record(&id).unwrap().stored_state(), Some(state));
    }
    assert!(server.object(&id).is_none());
    assert!(relations_of(&server.store, &id).is_empty());
    // Nobody else says so.
    let other = FollowOptions::new("u", Peer::new("d"));
    let refused = hear_in(&server, &other, &ended(State::DESTROYED), &REIGN, &[]);
    assert!(refused.is_err());
}
