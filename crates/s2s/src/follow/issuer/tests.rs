//! What an issuer notes and answers, question by question.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod pages;
mod proofs;
mod rotted;

use super::*;
use crate::selection::{Selected, Selection};
use crate::testing::{REIGN, TestServer};
use crate::wire::follow::{HeldCopy, Kind, RaisedCopy};
use keyferry_crypto::Ring;
use keyferry_kmip::spec::{AttributeValue, RevocationReasonCode, State};
use keyferry_kmip::{DateTime, RevocationReason, context};
use keyferry_store::{Effects, Material, ObjectId, Record, SnapshotExt, Stamp, StoreExt};
use keyferry_ttlv::Version;
use std::sync::Arc;

type Issuer = TestServer;

impl TestServer {
    /// The effects of a question, which are applied, and the answer.
    fn ask(&self, request: &FollowRequest) -> (Effects, FollowResponse) {
        self.try_ask(request).unwrap()
    }

    fn try_ask(&self, request: &FollowRequest) -> Result<(Effects, FollowResponse), Failure> {
        let cx = context(Version::V2_1);
        let item = RequestItem::new(request, cx).unwrap();
        let answered = self.asking(|ask| follow(&self.node, ask, &item))?;
        let response = answered.response.payload(cx).unwrap();
        let effects = Effects {
            changes: Vec::new(),
            state: answered.effects.state.clone(),
            ..Effects::none()
        };
        self.apply(answered.effects);
        Ok((effects, response))
    }

    fn downstream(&self) -> Downstream {
        self.store
            .view::<_, Error>(|snapshot| Downstream::find(snapshot, "b", "r"))
            .unwrap()
            .unwrap()
    }
}

fn question() -> FollowRequest {
    FollowRequest {
        wanted: Vec::new(),
        cells: None,
        cells_from: None,
        relation: "r".into(),
        session: 1,
        reign: Some(REIGN.to_vec()),
        after: Some(Place::default()),
        head: Place::default(),
        selected: Selected::of(&Selection::everything()),
        without: Vec::new(),
        anew: None,
        again: Vec::new(),
        done: Vec::new(),
        offers: 0,
        checking: None,
        terms: None,
        held: Vec::new(),
        more: None,
        objects: 100,
        bytes: 1 << 20,
        raised: Vec::new(),
        time: None,
        forked: None,
        retried: None,
        extra: Extra::NONE,
    }
}

/// The kinds of state that effects write, and "slave/" is that of the relation.
fn keys_of(effects: &Effects) -> Vec<&str> {
    let kind = |key: &'_ Vec<u8>| key.iter().position(|byte| *byte == b'/').unwrap_or(0);
    effects
        .state
        .iter()
        .map(|(key, _)| std::str::from_utf8(&key[..=kind(key)]).unwrap())
        .collect()
}

/// The question that goes on behind an answer that was committed.
fn behind(answer: &FollowResponse) -> FollowRequest {
    FollowRequest {
        after: Some(answer.place.clone()),
        head: answer.head.clone(),
        offers: answer.offers,
        ..question()
    }
}

fn kinds(answer: &FollowResponse) -> Vec<Kind> {
    answer.changes.iter().map(|change| change.kind).collect()
}

/// An issuer with one key that the replica has, and the question that finds nothing new.
fn settled() -> (Issuer, ObjectId, FollowRequest) {
    let issuer = Issuer::new(|peer| peer);
    let id = issuer.key("k", Vec::new());
    let (_, first) = issuer.ask(&question());
    assert_eq!(
        (first.answer, kinds(&first)),
        (Answer::CHANGES, vec![Kind::COPY])
    );
    let (_, second) = issuer.ask(&behind(&first));
    assert_eq!((second.answer, second.changes.len()), (Answer::CHANGES, 0));
    let next = behind(&second);
    (issuer, id, next)
}

#[test]
fn a_question_without_news_is_not_written() {
    let (mut issuer, _, next) = settled();
    assert!(issuer.ask(&next).0.is_empty());
    // In another second what it has committed is noted, and then nothing more.
    issuer.wall += 1;
    assert_eq!(keys_of(&issuer.ask(&next).0), ["slave/"]);
    issuer.wall += 1;
    assert!(issuer.ask(&next).0.is_empty());
    // A question that goes on behind this answer has to know where it ended.
    let more = FollowRequest {
        more: Some(true),
        ..next.clone()
    };
    assert_eq!(keys_of(&issuer.ask(&more).0), ["slave/"]);
    let ahead = FollowRequest {
        after: None,
        ..next
    };
    assert_eq!(keys_of(&issuer.ask(&ahead).0), ["slave/"]);
}

#[test]
fn how_far_the_replica_has_come_is_written_once_a_second() {
    let issuer = Issuer::new(|peer| peer);
    issuer.key("k", Vec::new());
    let (_, first) = issuer.ask(&question());
    assert_eq!(issuer.downstream().acknowledged, 0);
    // In the second of the last question it is not worth a write.
    let next = behind(&first);
    assert!(issuer.ask(&next).0.is_empty());
    assert_eq!(issuer.downstream().acknowledged, 0);
    let mut issuer = issuer;
    issuer.wall += 1;
    assert_eq!(keys_of(&issuer.ask(&next).0), ["slave/"]);
    let noted = issuer.downstream();
    assert_eq!(
        (noted.acknowledged, noted.contact),
        (first.place.number, DateTime(issuer.wall))
    );
    assert!(issuer.ask(&next).0.is_empty());
}

#[test]
fn each_news_of_a_relation_is_written_at_once() {
    let (issuer, _, next) = settled();
    let changed: [(&str, FollowRequest); 4] = [
        (
            "another session",
            FollowRequest {
                session: 2,
                ..next.clone()
            },
        ),
        (
            "another selection",
            FollowRequest {
                session: 2,
                selected: Selected::of(
                    &Selection::everything().with(AttributeValue::ObjectGroup("g".into())),
                ),
                ..next.clone()
            },
        ),
        (
            "other terms",
            FollowRequest {
                session: 2,
                terms: Some(Terms::of_replica(&Peer::new("a").may_relay()).unwrap()),
                ..next.clone()
            },
        ),
        (
            "offers that were lost",
            FollowRequest {
                session: 2,
                offers: next.offers - 1,
                ..next.clone()
            },
        ),
    ];
    for (what, request) in changed {
        assert_eq!(keys_of(&issuer.ask(&request).0), ["slave/"], "{what}");
    }
    let noted = issuer.downstream();
    assert_eq!((noted.session, noted.checks), (2, Some(true)));
}

#[test]
fn a_page_that_does_not_reach_the_head_is_noted_and_gone_on_with() {
    let issuer = Issuer::new(|peer| peer);
    for name in ["one", "two", "three"] {
        issuer.key(name, vec![AttributeValue::ObjectGroup("g".into())]);
    }
    let request = FollowRequest {
        objects: 1,
        ..question()
    };
    let (_, first) = issuer.ask(&request);
    assert_eq!(first.changes.len(), 1);
    assert_eq!(issuer.downstream().sent, first.place.number);
    // Without a place the issuer goes on behind its last answer.
    let more = FollowRequest {
        after: None,
        objects: 1,
        offers: first.offers,
        ..question()
    };
    let (effects, second) = issuer.ask(&more);
    assert_eq!(second.behind, Some(first.place.number));
    assert!(second.place.number > first.place.number && second.place.number < second.head.number);
    assert!(keys_of(&effects).contains(&"slave/"));
    // The same objects again are no new offers, and where the answer ended is noted all the same.
    let again = FollowRequest {
        after: Some(first.place.clone()),
        head: second.head.clone(),
        offers: second.offers,
        objects: 1,
        ..question()
    };
    let (effects, third) = issuer.ask(&again);
    assert_eq!(
        (third.place.number, third.offers),
        (second.place.number, second.offers)
    );
    assert_eq!(keys_of(&effects), ["slave/"]);
}

#[test]
fn a_session_begins_with_a_place_and_ends_the_earlier_ones() {
    let (issuer, _, next) = settled();
    let begun = FollowRequest {
        session: 5,
        after: None,
        ..next.clone()
    };
    let refused = issuer.try_ask(&begun).unwrap_err();
    assert!(
        refused
            .message()
            .contains("a session begins with the place"),
        "{refused}"
    );
    let begun = FollowRequest {
        session: 5,
        ..next.clone()
    };
    assert_eq!(issuer.ask(&begun).1.answer, Answer::CHANGES);
    // The same session goes on without one, an earlier one does not go on at all.
    let on = FollowRequest {
        after: None,
        ..begun
    };
    assert_eq!(issuer.ask(&on).1.answer, Answer::CHANGES);
    let (effects, earlier) = issuer.ask(&FollowRequest { session: 4, ..next });
    assert_eq!((earlier.answer, earlier.session), (Answer::SUPERSEDED, 5));
    assert!(effects.is_empty());
}

fn raised(id: &ObjectId, record: &Record, proof: Option<Vec<u8>>) -> RaisedCopy {
    RaisedCopy {
        id: id.clone(),
        stamp: record.stamp.clone(),
        proof,
        at: DateTime(999_000),
        reason: RevocationReason {
            code: RevocationReasonCode::KEY_COMPROMISE,
            message: None,
            extra: Extra::NONE,
        },
        occurrence: None,
        extra: Extra::NONE,
    }
}

#[test]
fn an_emergency_is_taken_of_what_was_offered_or_is_proved_and_of_nothing_else() {
    for may_revoke in [true, false] {
        let issuer = Issuer::new(|peer| match may_revoke {
            true => peer.may_revoke(),
            false => peer,
        });
        let offered = issuer.key("k", Vec::new());
        let (_, first) = issuer.ask(&question());
        let receipt = first.changes[0].copy.receipt.clone().unwrap();
        let secret = issuer.key("secret", Vec::new());
        let record = |id: &ObjectId| issuer.record(id).unwrap();
        let is_compromised = |id: &ObjectId| record(id).is_compromised();
        let ask = |raised: RaisedCopy| {
            // The page is empty: it is asked for nothing behind its place.
            let request = FollowRequest {
                raised: vec![raised],
                objects: 1,
                after: Some(first.place.clone()),
                head: first.head.clone(),
                session: 2,
                ..question()
            };
            issuer.ask(&request)
        };
        // It was not offered yet, and a proof of another copy proves nothing of this one.
        ask(raised(
            &secret,
            &record(&secret),
            Some(receipt.proof.clone()),
        ));
        assert!(!is_compromised(&secret), "{may_revoke}");
        // What does not exist is passed over.
        let nowhere = ObjectId {
            identifier: "nowhere".into(),
            ..offered.clone()
        };
        ask(raised(&nowhere, &record(&offered), None));
        // What was offered needs no proof.
        ask(raised(&offered, &record(&offered), None));
        assert_eq!(is_compromised(&offered), may_revoke);
        let compromised = record(&offered);
        // Once more changes nothing.
        ask(raised(&offered, &record(&offered), None));
        assert_eq!(record(&offered).stamp, compromised.stamp);
    }
}

#[test]
fn the_receipt_proves_what_was_offered_once_and_is_forgotten_here() {
    let issuer = Issuer::new(Peer::may_revoke);
    let id = issuer.key("k", Vec::new());
    let (_, first) = issuer.ask(&question());
    let proof = first.changes[0].copy.receipt.clone().unwrap().proof;
    Downstream::forget(&issuer.store, "b", "r").unwrap();
    let held = first.changes[0].copy.stamp.clone();
    let claim = |proof| RaisedCopy {
        stamp: held.clone(),
        ..raised(&id, &issuer.record(&id).unwrap(), proof)
    };
    let request = |raised| FollowRequest {
        raised: vec![raised],
        after: Some(first.place.clone()),
        head: first.head.clone(),
        ..question()
    };
    issuer.ask(&request(claim(None)));
    assert!(!issuer.record(&id).unwrap().is_compromised());
    issuer.ask(&request(claim(Some(proof))));
    assert!(issuer.record(&id).unwrap().is_compromised());
}

/// A question that says, beside all else, that a copy is held, without proof.
fn claiming(id: &ObjectId, stamp: &Stamp, question: &FollowRequest) -> FollowRequest {
    let claim = HeldCopy {
        id: id.clone(),
        stamp: stamp.clone(),
        proof: None,
        extra: Extra::NONE,
    };
    FollowRequest {
        held: vec![claim],
        ..question.clone()
    }
}

#[test]
fn a_claim_is_answered_by_what_the_replica_may_hold() {
    let (issuer, id, next) = settled();
    let stamp = issuer.record(&id).unwrap().stamp;
    let claim = |id: &ObjectId| claiming(id, &stamp, &next);
    // Rightly held: nothing is said.
    assert_eq!(kinds(&issuer.ask(&claim(&id)).1), []);
    // Not offered and not proved: as if it did not exist.
    let other = issuer.key("other", vec![AttributeValue::ObjectGroup("g".into())]);
    let told = issuer.ask(&claim(&other)).1;
    assert_eq!(kinds(&told)[0], Kind::GONE);
    assert_eq!(issuer.node.refusals.counts().unproved, 1);
    // Destroyed: the tombstone, also behind its entry.
    issuer.change(&id, |record| {
        record
            .attributes
            .set(AttributeValue::State(State::DESTROYED));
    });
    let (_, told) = issuer.ask(&next);
    let past = FollowRequest {
        held: claim(&id).held,
        ..behind(&told)
    };
    let told = issuer.ask(&past).1;
    assert_eq!(kinds(&told), [Kind::COPY]);
    assert_eq!(told.changes[0].copy.id, id);
    assert!(told.changes[0].material.is_none());
}

#[test]
fn a_change_that_was_taken_back_is_not_sent_with_its_material_again() {
    let (issuer, id, next) = settled();
    issuer.change(&id, |record| {
        let name = AttributeValue::Comment("changed".into());
        record.attributes.push(name);
    });
    let (effects, told) = issuer.ask(&next);
    assert_eq!(kinds(&told), [Kind::COPY]);
    assert!(told.changes[0].material.is_none());
    // It was offered already: nothing is noted but how far the answer went, in the same second not even that.
    assert!(effects.is_empty(), "{effects:?}");
    let again = FollowRequest {
        again: vec![id],
        ..behind(&told)
    };
    let told = issuer.ask(&again).1;
    assert!(told.changes[0].material.is_some());
}
