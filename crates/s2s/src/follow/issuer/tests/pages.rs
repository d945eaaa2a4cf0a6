//! Whose objects an issuer sends, how many at once, and what it says besides.

use super::*;

#[test]
fn nobody_gets_its_own_objects_and_copies_of_others_go_where_policy_says_so() {
    for copies in [false, true] {
        let issuer = Issuer::new(|peer| match copies {
            true => peer.may_follow_copies(),
            false => peer,
        });
        issuer.key("own", Vec::new());
        // Made at the follower and issued here; issued by the follower; a copy of a third server's.
        for (name, origin, by) in [
            ("adopted", "b", "a"),
            ("theirs", "b", "b"),
            ("taken over", "a", "b"),
            ("third", "c", "c"),
        ] {
            let id = issuer.key(name, Vec::new());
            let (number, held) = issuer
                .store
                .view::<_, keyferry_store::Error>(|s| Ok(s.by_object_id(&id)?.unwrap()))
                .unwrap();
            let mut after = held.clone();
            after.id.server = origin.into();
            after.id.identifier = format!("{name} there").into();
            after.stamp.issuer = by.into();
            // The object id of a record does not change: it is made anew.
            let object = issuer
                .store
                .view::<_, keyferry_store::Error>(|s| Ok(s.whole(number)?.unwrap().1))
                .unwrap();
            let object = object.unwrap();
            after.identifier = format!("{name} here").into();
            issuer.apply(Effects::change(None, after, Material::Set(object.into())));
            issuer.change(&id, |record| {
                record
                    .attributes
                    .set(AttributeValue::State(State::DESTROYED));
            });
        }
        let (_, told) = issuer.ask(&question());
        let mut names: Vec<String> = told
            .changes
            .iter()
            .filter(|change| change.kind == Kind::COPY)
            .map(|change| change.identifier.to_string())
            .collect();
        names.sort();
        let expected: &[&str] = match copies {
            true => &["own", "third here"],
            false => &["own"],
        };
        assert_eq!(names, expected);
        assert_eq!(
            told.changes.len(),
            expected.len(),
            "and of the others nothing"
        );
    }
}

/// The bytes that the page counts for a key, which is sent with its material.
fn bytes_of_key(issuer: &Issuer, id: &ObjectId) -> usize {
    let record = issuer.record(id).unwrap();
    let attributes = record.attributes.clone();
    let (_, told) = crate::wire::copy::Copy::with_size(&record, attributes, None).unwrap();
    let object = issuer.object(id).unwrap();
    let material = keyferry_store::record::material_of(&object).unwrap().len();
    crate::size::copy_bytes(&record.identifier, told, material)
}

#[test]
fn what_is_exactly_as_large_as_the_limit_is_sent() {
    for (less, kind) in [(0, Kind::COPY), (1, Kind::WITHHELD)] {
        let mut issuer = Issuer::new(|peer| peer);
        let id = issuer.key(
            "k",
            vec![AttributeValue::Comment("c".repeat(500).as_str().into())],
        );
        let limits = crate::limits::Limits {
            copy_bytes: bytes_of_key(&issuer, &id) - less,
            ..Default::default()
        };
        let policy = issuer.node.policy.clone().with_limits(limits);
        issuer.node = Node::new(issuer.node.home.clone(), policy, Arc::new(Ring::new()));
        let (_, told) = issuer.ask(&question());
        assert_eq!(kinds(&told), [kind], "{less}");
    }
}

#[test]
fn a_page_ends_at_the_objects_or_the_bytes_that_were_asked_for() {
    let issuer = Issuer::new(|peer| peer);
    let ids: Vec<ObjectId> = (0..10)
        .map(|n| {
            issuer.key(
                &format!("key {n}"),
                vec![AttributeValue::ObjectGroup("g".into())],
            )
        })
        .collect();
    let each = i32::try_from(bytes_of_key(&issuer, &ids[0])).unwrap();
    let count = |objects, bytes| {
        let request = FollowRequest {
            anew: Some(true),
            objects,
            bytes,
            ..question()
        };
        issuer.ask(&request).1.changes.len()
    };
    assert_eq!(count(4, 1 << 20), 4);
    // The first object that reaches the bytes is the last one.
    assert_eq!(count(100, 3 * each), 3);
    assert_eq!(count(100, 3 * each + 1), 4);
    assert_eq!(count(100, 1), 1);
    // What makes no sense is the least there is.
    assert_eq!(count(0, 0), 1);
    assert_eq!(count(-1, i32::MAX), 1);
}

#[test]
fn a_withdrawal_is_told_until_it_is_acknowledged_as_it_was_told() {
    let group = |name: &str| AttributeValue::ObjectGroup(name.into());
    let selected = || Selected::of(&Selection::everything().with(group("g")));
    let issuer = Issuer::new(|peer| peer);
    let id = issuer.key("k", vec![group("g")]);
    let selecting = |request: FollowRequest| FollowRequest {
        selected: selected(),
        ..request
    };
    let (_, first) = issuer.ask(&selecting(question()));
    assert_eq!(kinds(&first), [Kind::COPY]);
    let stamp = |issuer: &Issuer| issuer.record(&id).unwrap().stamp;
    let acknowledging = |answer: &FollowResponse, stamp: &Stamp| {
        selecting(FollowRequest {
            done: vec![crate::wire::follow::Done {
                id: id.clone(),
                stamp: stamp.clone(),
                extra: Extra::NONE,
            }],
            ..behind(answer)
        })
    };
    // What is covered still is not forgotten, though its stamp is named.
    let (_, told) = issuer.ask(&acknowledging(&first, &stamp(&issuer)));
    let leave = |record: &mut Record| record.attributes.set(group("elsewhere"));
    issuer.change(&id, leave);
    let (_, told) = issuer.ask(&selecting(behind(&told)));
    assert_eq!(kinds(&told), [Kind::WITHDRAWN]);
    // A change later, the acknowledgement of the one before says nothing.
    let before = stamp(&issuer);
    issuer.change(&id, leave);
    let (_, told) = issuer.ask(&acknowledging(&told, &before));
    assert_eq!(kinds(&told), [Kind::WITHDRAWN]);
    let (_, told) = issuer.ask(&acknowledging(&told, &stamp(&issuer)));
    issuer.change(&id, leave);
    let (_, told) = issuer.ask(&selecting(behind(&told)));
    assert_eq!(kinds(&told), []);
}

#[test]
fn a_selection_that_can_not_be_looked_for_is_the_peers_fault() {
    let refused = refuse_selection(Error::new(ErrorKind::Selection, "no such attribute"));
    assert_eq!(refused.cause(), Cause::InvalidField);
    let store = keyferry_store::Error::new(keyferry_store::ErrorKind::Io, "the disk");
    assert!(is_internal(&refuse_selection(store.into())));
}

#[test]
fn no_circle_of_replicas_keeps_itself() {
    let issuer = Issuer::new(Peer::may_follow_copies);
    let follow = |relation: &str, server: &str, keeps: &[&[&str]]| {
        let what = crate::relation::followed::UpstreamOptions::default();
        Upstream::follow(&issuer.store, relation, server, &what, issuer.now().wall).unwrap();
        let mut upstream = issuer
            .asking(|ask| Upstream::find(ask.snapshot, relation))
            .unwrap()
            .unwrap();
        let path = |servers: &&[&str]| crate::wire::follow::KeptPath {
            servers: servers.iter().map(|server| (*server).into()).collect(),
            extra: Extra::NONE,
        };
        upstream.keeps = keeps.iter().map(path).collect();
        let mut effects = Effects::none();
        effects.state.push(upstream.entry().unwrap());
        issuer.apply(effects);
    };
    // The follower `b` is on one of the ways to `f`, and issues objects itself.
    follow("c", "c", &[&["d"], &["b", "f"], &["e", "f"]]);
    follow("d", "d", &[&["c", "g"]]);
    follow("b", "b", &[&["h"]]);
    let told = |issuer: &Issuer| -> Vec<String> {
        let answer = issuer.ask(&question()).1;
        let paths = answer.keeps.iter().map(|path| {
            path.servers
                .iter()
                .map(Text::as_str)
                .collect::<Vec<_>>()
                .join(" ")
        });
        paths.collect()
    };
    assert_eq!(told(&issuer), ["c", "d", "c e f", "d c g"]);
    // What is paused, and what is ended there, keeps nothing.
    Upstream::pause(&issuer.store, "d").unwrap();
    assert_eq!(told(&issuer), ["c", "c d", "c e f"]);
    let ended = issuer
        .asking(|ask| Upstream::find(ask.snapshot, "c"))
        .unwrap()
        .unwrap()
        .ended_there(issuer.now().wall);
    let mut effects = Effects::none();
    effects.state.push(ended.entry().unwrap());
    issuer.apply(effects);
    assert_eq!(told(&issuer), [""; 0]);
    // Whoever does not follow copies is not told.
    let other = Issuer::new(|peer| peer);
    Upstream::follow(
        &other.store,
        "c",
        "c",
        &Default::default(),
        other.now().wall,
    )
    .unwrap();
    assert_eq!(told(&other), [""; 0]);
}

/// Notes that the replica was sent these objects in a bundle.
fn sent_in_a_bundle(issuer: &Issuer, ids: &[ObjectId]) {
    let account = issuer
        .store
        .view::<_, Error>(|snapshot| Account::in_bundles(snapshot, "b"));
    let numbers = ids.iter().map(|id| {
        let found = issuer
            .store
            .view::<_, keyferry_store::Error>(|s| s.by_object_id(id));
        found.unwrap().unwrap().0
    });
    let numbers: Vec<_> = numbers.collect();
    account.unwrap().note(&issuer.store, &numbers).unwrap();
}

fn end(issuer: &Issuer, id: &ObjectId, state: State) {
    issuer.change(id, |record| {
        record.attributes.set(AttributeValue::State(state));
    });
}

#[test]
fn the_end_of_what_was_sent_beside_a_relation_is_told_by_its_state_alone() {
    let issuer = Issuer::new(|peer| peer);
    let blue = AttributeValue::ObjectGroup("blue".into());
    let red = || vec![AttributeValue::ObjectGroup("red".into())];
    let sent = issuer.key("sent", red());
    let live = issuer.key("live", red());
    let never = issuer.key("never", red());
    let covered = issuer.key("covered", vec![blue.clone()]);
    sent_in_a_bundle(&issuer, &[sent.clone(), live.clone(), covered.clone()]);
    let asking = |after| FollowRequest {
        selected: Selected::of(&Selection::everything().with(blue.clone())),
        ..after
    };
    let (_, first) = issuer.ask(&asking(question()));
    let names = |answer: &FollowResponse| -> Vec<(Kind, String)> {
        let changes = answer.changes.iter();
        changes
            .map(|change| (change.kind, change.identifier.to_string()))
            .collect()
    };
    assert_eq!(names(&first), [(Kind::COPY, "covered".into())]);
    end(&issuer, &sent, State::COMPROMISED);
    end(&issuer, &never, State::COMPROMISED);
    issuer.change(&live, |record| {
        let comment = AttributeValue::Comment("in use still".into());
        record.attributes.push(comment);
    });
    let (_, second) = issuer.ask(&asking(behind(&first)));
    assert_eq!(names(&second), [(Kind::ENDED, "sent".into())]);
    let told = &second.changes[0];
    assert_eq!(told.copy.unrepresentable.state(), Some(State::COMPROMISED));
    assert!(told.material.is_none() && told.copy.unrepresentable.len() < 4);
    // Asked for by name it is told so, too; what was never sent is not there for the replica.
    let again = FollowRequest {
        again: vec![sent.clone(), never.clone()],
        ..asking(behind(&second))
    };
    let (_, third) = issuer.ask(&again);
    assert_eq!(
        names(&third),
        [(Kind::ENDED, "sent".into()), (Kind::GONE, "never".into())]
    );
    // It was not offered in the relation: nothing is withdrawn of it later.
    end(&issuer, &sent, State::DESTROYED_COMPROMISED);
    let (_, fourth) = issuer.ask(&asking(behind(&third)));
    assert_eq!(names(&fourth), [(Kind::ENDED, "sent".into())]);
}

#[test]
fn a_destruction_goes_to_whoever_was_sent_the_object_in_any_way() {
    let issuer = Issuer::new(|peer| peer);
    let ids = ["sent", "never"].map(|name| issuer.key(name, Vec::new()));
    sent_in_a_bundle(&issuer, &ids[..1]);
    for id in &ids {
        end(&issuer, id, State::DESTROYED);
    }
    let (_, told) = issuer.ask(&question());
    assert_eq!(kinds(&told), [Kind::ENDED]);
    assert_eq!(told.changes[0].copy.id, ids[0]);
    // A claim without proof is believed of what was sent in any way.
    let claim = |id: &ObjectId| HeldCopy {
        id: id.clone(),
        stamp: issuer.record(id).unwrap().stamp,
        proof: None,
        extra: Extra::NONE,
    };
    let claiming = FollowRequest {
        held: ids.iter().map(claim).collect(),
        ..behind(&told)
    };
    let (_, checked) = issuer.ask(&claiming);
    assert_eq!(kinds(&checked), [Kind::COPY, Kind::GONE]);
}

#[test]
fn of_others_objects_and_of_the_replicas_own_nothing_is_told_beside_a_relation() {
    for (copies, expected) in [(false, 1), (true, 2)] {
        let issuer = Issuer::new(|peer| match copies {
            true => peer.may_follow_copies(),
            false => peer,
        });
        let own = issuer.key("own", Vec::new());
        let like = issuer.record(&own).unwrap();
        let mut ids = vec![own.clone()];
        for (name, server, withdrawn) in [
            ("theirs", "b", None),
            ("third", "c", None),
            ("withdrawn", "c", Some(true)),
        ] {
            let mut record = like.clone();
            record.id.server = server.into();
            record.id.identifier = name.into();
            record.identifier = name.into();
            record.stamp.issuer = server.into();
            record
                .attributes
                .set(AttributeValue::State(State::COMPROMISED));
            record.overlay = Some(keyferry_store::Overlay {
                withdrawn,
                ..Default::default()
            });
            ids.push(record.id.clone());
            issuer.apply(Effects::change(None, record, Material::Keep));
        }
        sent_in_a_bundle(&issuer, &ids);
        end(&issuer, &own, State::COMPROMISED);
        let nothing = FollowRequest {
            selected: Selected::of(
                &Selection::everything().with(AttributeValue::ObjectGroup("none".into())),
            ),
            ..question()
        };
        let (_, told) = issuer.ask(&nothing);
        assert_eq!(kinds(&told), vec![Kind::ENDED; expected], "{copies}");
    }
}
