//! Histories of copies that come, change, and go.

use crate::histories::*;
use crate::rng::Rng;
use crate::site::Site;
use crate::world::{Fault, World};
use crate::writes::{change, event, name, revoke};
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_store::StoreExt;

#[cfg_attr(not(keyferry_planted), test)]
pub fn a_change_is_not_lost_because_the_next_one_arrived() {
    let mut world = sites(&["a", "b"]);
    let link = follow(&mut world, 1, 0, Selection::everything());
    // The first can't be taken: its Name is another's.
    create(
        &mut world,
        1,
        "own",
        9,
        Attributes::new().with(name("taken")),
    );
    let one = create(&mut world, 0, "1", 1, Attributes::new().with(name("taken")));
    let two = create(&mut world, 0, "2", 2, group("red"));
    settle(&mut world);
    assert!(world.sites[1].record(&one).is_none());
    equal(&world, 0, 1, &two);
    // Many others come and go through, with losses.
    for n in 0..20 {
        create(&mut world, 0, &format!("{}", 10 + n), 10 + n, group("blue"));
        for fault in [
            Fault::None,
            Fault::Behind,
            Fault::None,
            Fault::Dead,
            Fault::Late,
            Fault::None,
        ] {
            world.time += 300;
            world.step(link, fault);
        }
    }
    let at = now(&world, 1);
    let own = id(&world, 1, "own");
    assert!(change(&mut world.sites[1], at, &own, |record| {
        record.attributes.remove(tag::NAME);
        Ok(())
    }));
    world.time += 10_000_000;
    settle(&mut world);
    equal(&world, 0, 1, &one);
    for n in 0..20 {
        equal(&world, 0, 1, &id(&world, 0, &format!("{}", 10 + n)));
    }
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn a_tombstone_hits_its_own_object_alone() {
    let mut world = sites(&["a", "b", "c"]);
    follow(&mut world, 2, 0, Selection::everything());
    follow(&mut world, 2, 1, Selection::everything());
    for link in &mut world.links {
        link.options.from.collisions = Collisions {
            identifier: OnIdentifier::Assign,
            name: OnName::Park,
        };
    }
    let one = create(&mut world, 0, "1", 1, group("red"));
    let other = create(&mut world, 1, "1", 2, group("red"));
    settle(&mut world);
    let at = now(&world, 0);
    assert!(event(
        &mut world.sites[0],
        at,
        &one,
        &lifecycle::Event::Destroy
    ));
    settle(&mut world);
    assert_eq!(
        (state(&world, 2, &one), state(&world, 2, &other)),
        (State::DESTROYED, State::PRE_ACTIVE)
    );
    equal(&world, 1, 2, &other);
    assert!(world.sites[2].material(&other).is_some());
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn an_object_leaves_one_shop_and_is_compromised_in_another() {
    let mut world = sites(&["a", "b", "c"]);
    let red = Selection::everything().with(V::ObjectGroup("red".into()));
    let blue = Selection::everything().with(V::ObjectGroup("blue".into()));
    let left = follow(&mut world, 1, 0, red);
    follow(&mut world, 2, 0, blue);
    let one = create(&mut world, 0, "1", 1, group("red"));
    settle(&mut world);
    // The first shop's line is down.
    world.cut.insert((1, 0));
    let at = now(&world, 0);
    assert!(change(&mut world.sites[0], at, &one, |record| {
        record.attributes.remove(tag::OBJECT_GROUP);
        record.attributes.push(V::ObjectGroup("blue".into()));
        Ok(())
    }));
    settle(&mut world);
    assert!(event(
        &mut world.sites[0],
        at,
        &one,
        &revoke(RevocationReasonCode::KEY_COMPROMISE)
    ));
    settle(&mut world);
    equal(&world, 0, 2, &one);
    world.cut.clear();
    world.links[left].session = None;
    settle(&mut world);
    let mark = world.sites[1].record(&one).unwrap().1;
    assert!(
        mark.is_withdrawn() && mark.is_compromised() && world.sites[1].material(&one).is_none()
    );
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn names_move_between_two_keys_and_arrive_in_the_other_order() {
    let mut world = sites(&["a", "b"]);
    let link = follow(&mut world, 1, 0, Selection::everything());
    world.links[link].options.batch = 1;
    let one = create(
        &mut world,
        0,
        "1",
        1,
        Attributes::new().with(name("current")),
    );
    let two = create(&mut world, 0, "2", 2, Attributes::new().with(name("next")));
    settle(&mut world);
    let at = now(&world, 0);
    let rename = |world: &mut World, id: &ObjectId, to: &str| {
        let changed = change(&mut world.sites[0], at, id, |record| {
            record.attributes.remove(tag::NAME);
            record.attributes.push(name(to));
            Ok(())
        });
        assert!(changed);
    };
    // In the feed the second key, with the first one's Name, now stands before the first.
    rename(&mut world, &one, "previous");
    rename(&mut world, &two, "current");
    let touched = change(&mut world.sites[0], at, &one, |record| {
        record
            .attributes
            .push(V::Custom(CustomAttribute::text("note", "later")));
        Ok(())
    });
    assert!(touched);
    settle(&mut world);
    for id in [&one, &two] {
        equal(&world, 0, 1, id);
        assert!(
            world.sites[1]
                .record(id)
                .unwrap()
                .1
                .overlay
                .is_none_or(|overlay| overlay.hidden.is_empty())
        );
    }
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn a_cycle_of_relays_comes_to_rest() {
    let mut world = sites(&["a", "b", "c"]);
    for site in &mut world.sites {
        let mut policy = Policy::closed();
        for name in ["a", "b", "c"] {
            policy = policy.with(
                format!("{name}.example"),
                Peer::new(name).may_follow().may_follow_copies(),
            );
        }
        site.policy = policy;
        site.restart();
    }
    for (replica, issuer) in [(1, 0), (2, 1), (0, 2), (1, 2), (2, 0)] {
        let link = follow(&mut world, replica, issuer, Selection::everything());
        world.links[link].options.from.relays = Servers::All;
    }
    let one = create(&mut world, 0, "1", 1, group("red"));
    let two = create(&mut world, 1, "2", 2, group("red"));
    settle(&mut world);
    let at = now(&world, 0);
    assert!(event(
        &mut world.sites[0],
        at,
        &one,
        &revoke(RevocationReasonCode::KEY_COMPROMISE)
    ));
    settle(&mut world);
    for id in [&one, &two] {
        equal(&world, 0, 1, id);
        equal(&world, 1, 2, id);
    }
    let heads = |world: &World| -> Vec<u64> {
        world
            .sites
            .iter()
            .map(|site| {
                site.disk
                    .view::<_, keyferry_store::Error>(|s| Ok(s.head()?.number))
                    .unwrap()
            })
            .collect()
    };
    let before = heads(&world);
    settle(&mut world);
    assert_eq!(heads(&world), before);
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn a_withdrawal_is_acknowledged_when_the_object_is_back() {
    let mut world = sites(&["a", "b"]);
    let link = follow(
        &mut world,
        1,
        0,
        Selection::everything().with(V::ObjectGroup("red".into())),
    );
    world.links[link].options.batch = 1;
    let one = create(&mut world, 0, "1", 1, group("red"));
    for n in 2..5 {
        create(&mut world, 0, &format!("{n}"), n, group("red"));
    }
    let regroup = |world: &mut World, to: &str| {
        let at = now(world, 0);
        let changed = change(&mut world.sites[0], at, &one, |record| {
            record.attributes.remove(tag::OBJECT_GROUP);
            record.attributes.push(V::ObjectGroup(to.into()));
            Ok(())
        });
        assert!(changed);
    };
    let withdrawn = |world: &World| {
        world.sites[1]
            .record(&one)
            .is_some_and(|(_, record)| record.is_withdrawn())
    };
    // The first load is under way when it leaves, and still when it comes back.
    while world.sites[1].record(&one).is_none() {
        world.step(link, Fault::None);
    }
    regroup(&mut world, "blue");
    for n in 5..30 {
        create(&mut world, 0, &format!("{n}"), n, group("red"));
    }
    while !withdrawn(&world) {
        world.step(link, Fault::None);
    }
    regroup(&mut world, "red");
    settle(&mut world);
    equal(&world, 0, 1, &one);
    let at = now(&world, 0);
    assert!(event(
        &mut world.sites[0],
        at,
        &one,
        &lifecycle::Event::Destroy
    ));
    settle(&mut world);
    equal(&world, 0, 1, &one);
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn an_earlier_session_that_comes_back_to_life_gets_nothing() {
    let mut world = sites(&["a", "b"]);
    let link = follow(&mut world, 1, 0, Selection::everything());
    create(&mut world, 0, "1", 1, group("red"));
    settle(&mut world);
    create(&mut world, 0, "2", 2, group("red"));
    world.time += 10_000;
    // Its question is late; the replica starts again, and is answered.
    while world.strays.is_empty() {
        world.step(link, Fault::Late);
    }
    world.links[link].session = None;
    settle(&mut world);
    world.answers.clear();
    world.stray(0, false);
    let (_, _, answer) = world.answers.remove(0);
    let payload = answer.batch[0].response_payload.as_ref().unwrap();
    assert!(crate::check::changes(payload.bytes()).is_empty());
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn the_same_identifier_with_other_material_is_no_update() {
    let mut world = sites(&["a", "b"]);
    world.sites[0].policy = Policy::closed().with("b.example", Peer::new("b").may_follow());
    world.sites[0].restart();
    follow(&mut world, 1, 0, Selection::everything());
    let older = world.sites[0].disk.clone();
    let one = create(&mut world, 0, "1", 1, group("red"));
    settle(&mut world);
    let held = world.sites[1].record(&one).unwrap().1;
    // It is lost, and another object is made under its identifier; later that one is changed.
    let at = now(&world, 0);
    world.sites[0].restore(older, true, at);
    create(&mut world, 0, "1", 2, group("red"));
    settle(&mut world);
    assert!(event(
        &mut world.sites[0],
        at,
        &one,
        &lifecycle::Event::Activate
    ));
    settle(&mut world);
    assert_eq!(world.sites[1].record(&one).unwrap().1, held);
    assert_eq!(world.sites[1].material(&one), Some(crate::writes::key(1)));
    let retries = world.sites[1]
        .disk
        .view::<_, Error>(|snapshot| Retry::all(snapshot, "b of a"))
        .unwrap();
    assert!(
        retries
            .iter()
            .any(|retry| retry.id == one && retry.why.contains("key material")),
        "{retries:?}"
    );
    assert!(world.sites[1].forks().is_empty());
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn a_relay_withdraws_only_what_it_has_brought() {
    let peer = |name: &str| Peer::new(name).may_follow().may_follow_copies();
    let policies = [
        Policy::closed().with("b.example", peer("b")),
        Policy::closed().with("c.example", peer("c")),
        Policy::closed().with("a.example", Peer::new("a").may_send()),
    ];
    let mut world = World::new(
        ["a", "b", "c"]
            .iter()
            .zip(policies)
            .zip(1..)
            .map(|((name, policy), seed)| Site::new(name, policy, Rng(seed)))
            .collect(),
    );
    let red = Selection::everything().with(V::ObjectGroup("red".into()));
    follow(&mut world, 1, 0, Selection::everything());
    world.link("c of b", 2, 1, Peer::new("b").may_relay(), red);
    let two = create(&mut world, 0, "2", 2, group("red"));
    settle(&mut world);
    // The relay offers the object, and its answer is lost.
    world.cut.insert((1, 2));
    let one = create(&mut world, 0, "1", 1, group("red"));
    settle(&mut world);
    assert!(world.sites[2].record(&one).is_none());
    // The issuer sends the object itself, and then the object leaves what the relay may bring.
    world.push(0, 2, &one);
    assert!(world.sites[2].material(&one).is_some());
    let at = now(&world, 0);
    assert!(change(&mut world.sites[0], at, &one, |record| {
        record.attributes.set(V::ObjectGroup("blue".into()));
        Ok(())
    }));
    settle(&mut world);
    world.cut.clear();
    settle(&mut world);
    equal(&world, 0, 2, &two);
    assert!(world.sites[2].material(&one).is_some());
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn a_relay_passes_a_withdrawal_on() {
    let mut world = chain(false);
    let red = Selection::everything().with(V::ObjectGroup("red".into()));
    let now_b = now(&world, 1).wall;
    let what = UpstreamOptions {
        selection: red,
        ..UpstreamOptions::default()
    };
    Upstream::follow(&world.sites[1].disk, "b of a", "a", &what, now_b).unwrap();
    let one = create(&mut world, 0, "1", 1, group("red"));
    settle(&mut world);
    equal(&world, 0, 2, &one);
    let at = now(&world, 0);
    assert!(change(&mut world.sites[0], at, &one, |record| {
        record.attributes.set(V::ObjectGroup("blue".into()));
        Ok(())
    }));
    settle(&mut world);
    for site in [1, 2] {
        let record = world.sites[site].record(&one).unwrap().1;
        assert!(record.is_withdrawn(), "{}", world.sites[site].name);
        assert!(world.sites[site].material(&one).is_none());
    }
    // When it is back, it is back everywhere.
    let at = now(&world, 0);
    assert!(change(&mut world.sites[0], at, &one, |record| {
        record.attributes.set(V::ObjectGroup("red".into()));
        Ok(())
    }));
    settle(&mut world);
    equal(&world, 0, 1, &one);
    equal(&world, 0, 2, &one);
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn an_answer_without_news_is_not_written() {
    let mut world = sites(&["a", "b"]);
    follow(&mut world, 1, 0, Selection::everything());
    create(&mut world, 0, "1", 1, group("red"));
    settle(&mut world);
    let contact = |world: &World| {
        let found = world.sites[1]
            .disk
            .view::<_, Error>(|snapshot| Upstream::find(snapshot, "b of a"));
        found.unwrap().unwrap().contact
    };
    let before = contact(&world);
    world.answers.clear();
    settle(&mut world);
    assert!(world.answers.len() > 2, "the issuer was asked");
    assert_eq!(contact(&world), before);
    create(&mut world, 0, "2", 2, group("red"));
    settle(&mut world);
    assert!(contact(&world) > before);
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn what_was_pushed_before_hears_of_its_end_when_a_relation_begins() {
    let mut world = sites(&["a", "b"]);
    world.sites[1].policy = Policy::closed().with("a.example", Peer::new("a").may_send());
    world.sites[1].restart();
    let ids = [1, 2, 3].map(|n| create(&mut world, 0, &n.to_string(), n, group("red")));
    for id in &ids {
        world.push(0, 1, id);
    }
    let at = now(&world, 0);
    let destroy = lifecycle::Event::Destroy;
    assert!(event(&mut world.sites[0], at, &ids[0], &destroy));
    let compromise = revoke(RevocationReasonCode::KEY_COMPROMISE);
    assert!(event(&mut world.sites[0], at, &ids[1], &compromise));
    assert!(world.sites[1].material(&ids[0]).is_some());
    // One of them has left what is followed.
    let red = Selection::everything().with(V::ObjectGroup("red".into()));
    assert!(change(&mut world.sites[0], at, &ids[2], |record| {
        record.attributes.set(V::ObjectGroup("blue".into()));
        Ok(())
    }));
    follow(&mut world, 1, 0, red);
    settle(&mut world);
    assert_eq!(state(&world, 1, &ids[0]), State::DESTROYED);
    assert!(world.sites[1].material(&ids[0]).is_none());
    assert_eq!(state(&world, 1, &ids[1]), State::COMPROMISED);
    let left = world.sites[1].record(&ids[2]).unwrap().1;
    assert!(left.is_withdrawn());
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn whoever_attaches_to_the_issuer_after_its_relay_died_hears_of_what_ended_meanwhile() {
    let mut world = chain(false);
    let policy = Policy::closed()
        .with("b.example", Peer::new("b").may_follow().may_follow_copies())
        .with("c.example", Peer::new("c").may_follow());
    world.sites[0].policy = policy;
    world.sites[0].restart();
    let ids = [1, 2].map(|n| create(&mut world, 0, &n.to_string(), n, group("red")));
    settle(&mut world);
    equal(&world, 0, 2, &ids[0]);
    world.stop(1);
    world.sites[1].up = false;
    let at = now(&world, 0);
    let destroy = lifecycle::Event::Destroy;
    assert!(event(&mut world.sites[0], at, &ids[0], &destroy));
    follow(&mut world, 2, 0, Selection::everything());
    settle(&mut world);
    assert_eq!(state(&world, 2, &ids[0]), State::DESTROYED);
    assert!(world.sites[2].material(&ids[0]).is_none());
    equal(&world, 0, 2, &ids[1]);
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn two_relays_do_not_keep_for_each_other_what_its_issuer_has_withdrawn() {
    let peer = |name: &str| Peer::new(name).may_follow().may_follow_copies();
    let policy = Policy::closed()
        .with("b.example", peer("b"))
        .with("c.example", peer("c"));
    let names = ["a", "b", "c"];
    let site = |(n, name): (usize, &&str)| Site::new(name, policy.clone(), Rng(n as u64 + 1));
    let mut world = World::new(names.iter().enumerate().map(site).collect());
    let red = Selection::everything().with(V::ObjectGroup("red".into()));
    for (name, replica, issuer, selection) in [
        ("b of a", 1, 0, red),
        ("c of b", 2, 1, Selection::everything()),
        ("b of c", 1, 2, Selection::everything()),
    ] {
        let from = Peer::new(names[issuer]).may_relay();
        world.link(name, replica, issuer, from, selection);
    }
    let one = create(&mut world, 0, "1", 1, group("red"));
    settle(&mut world);
    settle(&mut world);
    let via = |world: &World| world.sites[1].relations_of(&one);
    assert_eq!(via(&world), ["b of a", "b of c"]);
    let at = now(&world, 0);
    assert!(change(&mut world.sites[0], at, &one, |record| {
        record.attributes.remove(tag::OBJECT_GROUP);
        Ok(())
    }));
    settle(&mut world);
    settle(&mut world);
    for site in [1, 2] {
        let mark = world.sites[site].record(&one).unwrap().1;
        assert!(mark.is_withdrawn() && world.sites[site].material(&one).is_none());
    }
}
