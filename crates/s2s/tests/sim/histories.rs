//! Histories that are known to go wrong, one by one.

use crate::rng::Rng;
use crate::site::Site;
use crate::world::{Fault, World};
use crate::writes::{change, event, make, name, revoke};
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_store::{Effects, Incarnation, Material, Memory, ObjectId, SnapshotExt, StoreExt};

/// Servers that may all follow each other, and give back.
fn sites(names: &[&str]) -> World {
    let mut policy = Policy::closed();
    for name in names {
        policy = policy.with(
            format!("{name}.example"),
            Peer::new(*name).may_follow().may_give_back(),
        );
    }
    World::new(
        names
            .iter()
            .enumerate()
            .map(|(n, name)| Site::new(name, policy.clone(), Rng(n as u64 + 1)))
            .collect(),
    )
}

fn follow(world: &mut World, replica: usize, issuer: usize, selection: Selection) -> usize {
    let (r, i) = (
        world.sites[replica].name.clone(),
        world.sites[issuer].name.clone(),
    );
    world.link(
        &format!("{r} of {i}"),
        replica,
        issuer,
        Peer::new(i.as_str()),
        selection,
    )
}

fn id(world: &World, site: usize, identifier: &str) -> ObjectId {
    let home = &world.sites[site].node.home;
    ObjectId {
        server: home.server.clone(),
        instance: home.instance.clone(),
        identifier: identifier.into(),
    }
}

fn group(value: &str) -> Attributes {
    Attributes::new().with(V::ObjectGroup(value.into()))
}

fn now(world: &World, site: usize) -> Now {
    world.now(site)
}

fn settle(world: &mut World) {
    for _ in 0..3 {
        world.time += 10_000;
        world.settle();
    }
}

fn create(
    world: &mut World,
    site: usize,
    identifier: &str,
    material: u64,
    attributes: Attributes,
) -> ObjectId {
    let now = now(world, site);
    assert!(make(
        &mut world.sites[site],
        now,
        identifier,
        material,
        attributes
    ));
    id(world, site, identifier)
}

fn equal(world: &World, a: usize, b: usize, id: &ObjectId) {
    let (one, other) = (
        world.sites[a].record(id).unwrap().1,
        world.sites[b].record(id).unwrap().1,
    );
    assert_eq!(
        (one.stamp.clone(), one.copy_digest().unwrap()),
        (other.stamp.clone(), other.copy_digest().unwrap())
    );
    assert_eq!(world.sites[a].material(id), world.sites[b].material(id));
}

fn state(world: &World, site: usize, id: &ObjectId) -> State {
    let wall = world.now(site).wall;
    world.sites[site].record(id).unwrap().1.state(wall).unwrap()
}

#[cfg_attr(not(keyferry_planted), test)]
fn a_master_restored_below_its_replica_writes_on() {
    for told in [true, false] {
        let mut world = sites(&["a", "b"]);
        follow(&mut world, 1, 0, Selection::everything());
        let one = create(&mut world, 0, "1", 1, group("red"));
        let two = create(&mut world, 0, "2", 2, group("red"));
        settle(&mut world);
        let older = world.sites[0].disk.clone();
        let at = now(&world, 0);
        assert!(event(
            &mut world.sites[0],
            at,
            &one,
            &revoke(RevocationReasonCode::KEY_COMPROMISE)
        ));
        assert!(change(&mut world.sites[0], at, &two, |record| {
            record.attributes.push(name("known to the replica"));
            Ok(())
        }));
        settle(&mut world);
        world.sites[0].restore(older, told, at);
        let written = change(&mut world.sites[0], at, &two, |record| {
            record.attributes.push(name("written after the restore"));
            Ok(())
        });
        assert_eq!(
            written, !told,
            "a server that was told to be restored waits"
        );
        settle(&mut world);
        // The compromise is back, and what can't be joined is named on both sides.
        assert_eq!(state(&world, 0, &one), State::COMPROMISED);
        equal(&world, 0, 1, &one);
        let forks = (world.sites[0].forks(), world.sites[1].forks());
        if told {
            assert!(forks.0.is_empty() && forks.1.is_empty());
            equal(&world, 0, 1, &two);
        } else {
            assert_eq!((forks.0.len(), forks.1.len()), (1, 1));
            let fork = &forks.0[0];
            resolve_fork(
                &world.sites[0].disk,
                &world.sites[0].node,
                &two,
                &fork.stamp,
                ForkVersion::Other,
                "somebody",
                at,
            )
            .unwrap();
            settle(&mut world);
            equal(&world, 0, 1, &two);
            assert!(world.sites[0].forks().is_empty() && world.sites[1].forks().is_empty());
            assert!(
                world.sites[0]
                    .record(&two)
                    .unwrap()
                    .1
                    .names()
                    .any(|name| name.value == "known to the replica")
            );
        }
    }
}

#[cfg_attr(not(keyferry_planted), test)]
fn a_change_is_not_lost_because_the_next_one_arrived() {
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
fn a_tombstone_hits_its_own_object_alone() {
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
fn an_object_leaves_one_shop_and_is_compromised_in_another() {
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
fn a_full_pass_against_an_emptied_master_takes_nothing_away() {
    let mut world = sites(&["a", "b"]);
    let link = follow(&mut world, 1, 0, Selection::everything());
    let one = create(&mut world, 0, "1", 1, group("red"));
    settle(&mut world);
    let held = world.sites[1].record(&one).unwrap().1;
    // Set up anew under the old name: another instance.
    world.sites[0].disk = Memory::new(Incarnation([9; 16]));
    world.sites[0].restart();
    let at = now(&world, 0);
    assert!(make(&mut world.sites[0], at, "1", 77, group("red")));
    settle(&mut world);
    assert_eq!(world.sites[1].record(&one).unwrap().1, held);
    assert!(world.links[link].session.is_none(), "it is not followed");
    let master = world.sites[1]
        .disk
        .view::<_, Error>(|snapshot| Upstream::find(snapshot, "b of a"))
        .unwrap()
        .unwrap();
    assert!(
        master
            .error
            .is_some_and(|error| error.contains("another server"))
    );
    // A person accepts it: what it does not have is named as missing, and kept.
    Upstream::accept(&world.sites[1].disk, "b of a").unwrap();
    world.links[link].options.from.collisions.identifier = OnIdentifier::Assign;
    settle(&mut world);
    assert_eq!(
        world.sites[1].record(&one).unwrap().1.attributes,
        held.attributes
    );
    assert!(world.sites[1].material(&one).is_some());
    let missing = world.sites[1]
        .disk
        .view::<_, Error>(|snapshot| objects_missing_at_issuer(snapshot, "b of a"))
        .unwrap();
    assert_eq!(missing, [one]);
    // What it has now came beside it.
    let new = id(&world, 0, "1");
    equal(&world, 0, 1, &new);
}

#[cfg_attr(not(keyferry_planted), test)]
fn names_move_between_two_keys_and_arrive_in_the_other_order() {
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
fn a_date_passes_at_the_replica_while_its_postponement_is_under_way() {
    let mut world = sites(&["a", "b"]);
    follow(&mut world, 1, 0, Selection::everything());
    let one = create(&mut world, 0, "1", 1, group("red"));
    let at = now(&world, 0);
    assert!(event(
        &mut world.sites[0],
        at,
        &one,
        &lifecycle::Event::Activate
    ));
    let put_off = |world: &mut World, seconds: i64| {
        let at = now(world, 0);
        let date = DateTime(at.wall.0 + seconds);
        let changed = change(&mut world.sites[0], at, &one, |record| {
            record.attributes.set(V::DeactivationDate(date));
            Ok(())
        });
        assert!(changed);
    };
    put_off(&mut world, 60);
    settle(&mut world);
    assert_eq!(state(&world, 1, &one), State::ACTIVE);
    // Put off in time; but the replica does not hear of it until the old date has passed.
    world.cut.insert((1, 0));
    put_off(&mut world, 3600);
    world.time += 100_000;
    assert_eq!(
        (state(&world, 0, &one), state(&world, 1, &one)),
        (State::ACTIVE, State::DEACTIVATED)
    );
    // What the replica derives is not stored: it did not go back when it hears.
    world.cut.clear();
    world.links[0].session = None;
    settle(&mut world);
    assert_eq!(
        (state(&world, 0, &one), state(&world, 1, &one)),
        (State::ACTIVE, State::ACTIVE)
    );
    equal(&world, 0, 1, &one);
}

#[cfg_attr(not(keyferry_planted), test)]
fn an_entry_that_had_moved_up_comes_back_with_a_restore() {
    // Found by a random run: the replica passed the object's old place when its entry had moved up; the restored feed has it there again.
    let mut world = sites(&["a", "b"]);
    world.sites[0].policy = Policy::closed().with("b.example", Peer::new("b").may_follow());
    world.sites[0].restart();
    let link = follow(&mut world, 1, 0, Selection::everything());
    let one = create(&mut world, 0, "1", 1, group("red"));
    for n in 2..6 {
        create(&mut world, 0, &format!("{n}"), n, group("red"));
    }
    let older = world.sites[0].disk.clone();
    let at = now(&world, 0);
    assert!(event(
        &mut world.sites[0],
        at,
        &one,
        &lifecycle::Event::Activate
    ));
    // One answer of three objects, none of them the first, behind the one that tells the reign.
    for _ in 0..4 {
        world.step(link, Fault::None);
    }
    assert!(world.sites[1].record(&one).is_none() && !world.sites[1].records().is_empty());
    world.links[link].session = None;
    world.sites[0].restore(older, false, at);
    settle(&mut world);
    equal(&world, 0, 1, &one);
}

#[cfg_attr(not(keyferry_planted), test)]
fn a_cycle_of_relays_comes_to_rest() {
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
fn a_withdrawal_is_acknowledged_when_the_object_is_back() {
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
fn an_earlier_session_that_comes_back_to_life_gets_nothing() {
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
fn material_that_is_compromised_is_taken_under_no_other_name_elsewhere() {
    let mut world = sites(&["a", "b"]);
    follow(&mut world, 1, 0, Selection::everything());
    let one = create(&mut world, 0, "1", 7, group("red"));
    let at = now(&world, 0);
    assert!(event(
        &mut world.sites[0],
        at,
        &one,
        &revoke(RevocationReasonCode::KEY_COMPROMISE)
    ));
    settle(&mut world);
    // Nobody registers it there as if it were another key.
    let at = now(&world, 1);
    let made = make(&mut world.sites[1], at, "another", 7, group("blue"));
    assert!(!made, "compromised material is taken");
    assert!(make(&mut world.sites[1], at, "another", 8, group("blue")));
}

#[cfg_attr(not(keyferry_planted), test)]
fn the_same_identifier_with_other_material_is_no_update() {
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
fn what_can_not_be_taken_back_is_named() {
    let mut world = sites(&["a", "b"]);
    follow(&mut world, 1, 0, Selection::everything());
    let older = world.sites[0].disk.clone();
    let one = create(
        &mut world,
        0,
        "1",
        1,
        Attributes::new().with(name("current")),
    );
    settle(&mut world);
    let at = now(&world, 0);
    world.sites[0].restore(older, false, at);
    // Nobody has said that it was restored: another key takes the Name.
    create(
        &mut world,
        0,
        "2",
        2,
        Attributes::new().with(name("current")),
    );
    settle(&mut world);
    assert!(world.sites[0].record(&one).is_none());
    let untaken = world.sites[0]
        .disk
        .view::<_, Error>(|snapshot| FailedGiveBack::all(snapshot))
        .unwrap();
    assert_eq!(
        untaken.iter().map(|one| &one.id).collect::<Vec<_>>(),
        [&one]
    );
    assert!(untaken[0].why.contains("current"), "{untaken:?}");
    // The replica keeps it, and names it, too.
    let missing = world.sites[1]
        .disk
        .view::<_, Error>(|snapshot| objects_missing_at_issuer(snapshot, "b of a"))
        .unwrap();
    assert_eq!(
        (missing, world.sites[1].material(&one)),
        (vec![one], Some(crate::writes::key(1)))
    );
}

#[cfg_attr(not(keyferry_planted), test)]
fn an_older_copy_that_is_given_back_changes_nothing() {
    let mut world = sites(&["a", "b"]);
    follow(&mut world, 1, 0, Selection::everything());
    let one = create(&mut world, 0, "1", 1, group("red"));
    settle(&mut world);
    // The replica has not heard of the last change when the issuer is put back to a moment behind it.
    world.cut.insert((1, 0));
    let at = now(&world, 0);
    assert!(change(&mut world.sites[0], at, &one, |record| {
        record.attributes.push(name("the last word"));
        Ok(())
    }));
    let backup = world.sites[0].disk.clone();
    let last = world.sites[0].record(&one).unwrap().1;
    world.sites[0].restore(backup, true, at);
    world.cut.clear();
    world.links[0].session = None;
    settle(&mut world);
    assert_eq!(world.sites[0].record(&one).unwrap().1, last);
    equal(&world, 0, 1, &one);
    assert!(world.sites[0].forks().is_empty() && world.sites[1].forks().is_empty());
}

#[cfg_attr(not(keyferry_planted), test)]
fn a_state_that_was_raised_here_outlives_the_next_change_there() {
    let mut world = sites(&["a", "b"]);
    follow(&mut world, 1, 0, Selection::everything());
    let one = create(&mut world, 0, "1", 5, group("red"));
    settle(&mut world);
    // The replica knows the key to be compromised; the issuer does not.
    world.sites[1]
        .disk
        .transact::<_, keyferry_store::Error>(|transaction| {
            let (number, before) = transaction.by_object_id(&one)?.unwrap();
            let mut after = before.clone();
            after.overlay.get_or_insert_default().state = Some(State::COMPROMISED);
            Effects::change(Some((number, before)), after, Material::Keep).apply(transaction)?;
            Ok(())
        })
        .unwrap();
    assert_eq!(
        (state(&world, 0, &one), state(&world, 1, &one)),
        (State::PRE_ACTIVE, State::COMPROMISED)
    );
    let at = now(&world, 0);
    assert!(event(
        &mut world.sites[0],
        at,
        &one,
        &lifecycle::Event::Activate
    ));
    settle(&mut world);
    assert_eq!(
        (state(&world, 0, &one), state(&world, 1, &one)),
        (State::ACTIVE, State::COMPROMISED)
    );
    // The copy itself stays verbatim.
    equal(&world, 0, 1, &one);
}

#[cfg_attr(not(keyferry_planted), test)]
fn a_compromise_reaches_the_twins_that_are_held_already() {
    let mut world = sites(&["a", "b"]);
    follow(&mut world, 1, 0, Selection::everything());
    let (one, twin) = (
        create(&mut world, 0, "1", 7, group("red")),
        create(&mut world, 0, "2", 7, group("red")),
    );
    let (other, own) = (
        create(&mut world, 0, "3", 8, group("red")),
        create(&mut world, 1, "own", 7, group("blue")),
    );
    settle(&mut world);
    let at = now(&world, 0);
    assert!(event(
        &mut world.sites[0],
        at,
        &one,
        &revoke(RevocationReasonCode::KEY_COMPROMISE)
    ));
    assert_eq!(state(&world, 0, &twin), State::COMPROMISED);
    settle(&mut world);
    for id in [&one, &twin] {
        assert_eq!(state(&world, 1, id), State::COMPROMISED);
        equal(&world, 0, 1, id);
    }
    assert_eq!(state(&world, 0, &other), State::PRE_ACTIVE);
    // Nobody has spoken of what b issues itself: it is named.
    assert_eq!(state(&world, 1, &own), State::PRE_ACTIVE);
    let named = world.sites[1]
        .disk
        .view::<_, Error>(|snapshot| CompromisedTwin::all(snapshot))
        .unwrap();
    assert!(named.iter().all(|twin| twin.id == own) && named.len() == 1);
}

/// Servers of which c follows b, with what b has of a; `may` says where a client's emergency Revoke is taken on.
fn chain(may: bool) -> World {
    let peer = |name: &str| Peer::new(name).may_follow().may_follow_copies();
    let revoking = |peer: Peer| if may { peer.may_revoke() } else { peer };
    let policies = [
        Policy::closed().with("b.example", revoking(peer("b"))),
        Policy::closed().with("c.example", peer("c").may_revoke()),
        Policy::closed(),
    ];
    let mut world = World::new(
        ["a", "b", "c"]
            .iter()
            .zip(policies)
            .zip(1..)
            .map(|((name, policy), seed)| Site::new(name, policy, Rng(seed)))
            .collect(),
    );
    follow(&mut world, 1, 0, Selection::everything());
    world.link(
        "c of b",
        2,
        1,
        Peer::new("b").may_relay(),
        Selection::everything(),
    );
    world
}

#[cfg_attr(not(keyferry_planted), test)]
fn an_emergency_at_a_replica_travels_to_the_issuer() {
    for may in [true, false] {
        let mut world = chain(may);
        let one = create(&mut world, 0, "1", 7, group("red"));
        settle(&mut world);
        let at = now(&world, 2);
        assert!(world.sites[2].emergency(at, &one));
        assert!(!world.sites[2].emergency(at, &one), "once");
        assert_eq!(state(&world, 2, &one), State::COMPROMISED);
        settle(&mut world);
        assert_eq!(state(&world, 1, &one), State::COMPROMISED);
        let there = state(&world, 0, &one);
        let waiting: Vec<usize> = world
            .sites
            .iter()
            .map(|site| site.emergencies().len())
            .collect();
        if may {
            assert_eq!(there, State::COMPROMISED);
            assert_eq!(waiting, [0, 0, 0]);
            equal(&world, 0, 2, &one);
        } else {
            assert_eq!(there, State::PRE_ACTIVE, "a does not let b say so");
            assert_eq!(waiting, [0, 1, 1]);
        }
    }
}

/// All of them, for whoever runs them one by one.
pub const ALL: &[(&str, fn())] = &[
    (
        "a master restored below its replica",
        a_master_restored_below_its_replica_writes_on,
    ),
    (
        "a change and the next one",
        a_change_is_not_lost_because_the_next_one_arrived,
    ),
    (
        "another server's object 1",
        a_tombstone_hits_its_own_object_alone,
    ),
    (
        "one shop and another",
        an_object_leaves_one_shop_and_is_compromised_in_another,
    ),
    (
        "an emptied master",
        a_full_pass_against_an_emptied_master_takes_nothing_away,
    ),
    (
        "names that move",
        names_move_between_two_keys_and_arrive_in_the_other_order,
    ),
    (
        "a date that passes",
        a_date_passes_at_the_replica_while_its_postponement_is_under_way,
    ),
    (
        "an entry that comes back",
        an_entry_that_had_moved_up_comes_back_with_a_restore,
    ),
    ("a cycle of relays", a_cycle_of_relays_comes_to_rest),
    (
        "a late acknowledgement",
        a_withdrawal_is_acknowledged_when_the_object_is_back,
    ),
    (
        "a session back to life",
        an_earlier_session_that_comes_back_to_life_gets_nothing,
    ),
    (
        "compromised material",
        material_that_is_compromised_is_taken_under_no_other_name_elsewhere,
    ),
    (
        "other material",
        the_same_identifier_with_other_material_is_no_update,
    ),
    ("not taken back", what_can_not_be_taken_back_is_named),
    (
        "twins",
        a_compromise_reaches_the_twins_that_are_held_already,
    ),
    (
        "an emergency",
        an_emergency_at_a_replica_travels_to_the_issuer,
    ),
    (
        "a state raised here",
        a_state_that_was_raised_here_outlives_the_next_change_there,
    ),
    (
        "an older copy given back",
        an_older_copy_that_is_given_back_changes_nothing,
    ),
];
