//! Histories of servers that were restored or replaced.

use crate::histories::*;
use crate::world::Fault;
use crate::writes::{change, event, make, name, revoke};
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_store::{Incarnation, Memory, StoreExt};

#[cfg_attr(not(keyferry_planted), test)]
pub fn a_master_restored_below_its_replica_writes_on() {
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
pub fn a_full_pass_against_an_emptied_master_takes_nothing_away() {
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
pub fn an_entry_that_had_moved_up_comes_back_with_a_restore() {
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
pub fn what_can_not_be_taken_back_is_named() {
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
pub fn an_older_copy_that_is_given_back_changes_nothing() {
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
pub fn a_place_of_an_incarnation_that_has_ended_restores_nobody() {
    let mut world = sites(&["a", "b"]);
    follow(&mut world, 1, 0, Selection::everything());
    create(&mut world, 0, "1", 1, group("red"));
    settle(&mut world);
    let older_master = world.sites[0].disk.clone();
    // What the replica gives back in one commit has come in two: so the history is another one afterwards.
    for n in 2..4 {
        create(&mut world, 0, &n.to_string(), n, group("red"));
        settle(&mut world);
    }
    let older_replica = world.sites[1].disk.clone();
    let at = now(&world, 0);
    world.sites[0].restore(older_master, true, at);
    settle(&mut world);
    assert!(world.sites[0].owes().is_empty());
    let incarnation = world.sites[0].incarnation();
    // The replica is put back, too, and shows a place that the master once told, before it was restored.
    world.stop(1);
    world.sites[1].restore(older_replica, false, at);
    settle(&mut world);
    assert_eq!(world.sites[0].incarnation(), incarnation);
    assert!(world.sites[0].owes().is_empty());
    let at = now(&world, 0);
    assert!(make(&mut world.sites[0], at, "4", 4, group("red")));
    settle(&mut world);
    for identifier in ["1", "2", "3", "4"] {
        let object = id(&world, 0, identifier);
        equal(&world, 0, 1, &object);
    }
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn what_an_earlier_start_asked_for_is_not_taken_back() {
    let mut world = sites(&["a", "b"]);
    follow(&mut world, 1, 0, Selection::everything());
    create(&mut world, 0, "1", 1, group("red"));
    settle(&mut world);
    let older = world.sites[0].disk.clone();
    for n in 2..10 {
        create(&mut world, 0, &n.to_string(), n, group("red"));
    }
    settle(&mut world);
    let at = now(&world, 0);
    world.sites[0].restore(older.clone(), true, at);
    settle(&mut world);
    assert!(world.sites[0].owes().is_empty());
    let given_back = |message: &RequestMessage| message.batch[0].operation == GIVE_BACK;
    let late = world.answers.iter().rev().find(|of| given_back(&of.1));
    let late = late.unwrap().1.clone();
    // The master is restored once more. The end of what the replica gave back to the start before arrives again, and is not the end of what it
    // has to give back to this one.
    world.sites[0].restore(older, true, at);
    world.stop(1);
    world.deliver(1, 0, &late).unwrap();
    assert_eq!(world.sites[0].owes(), ["b"]);
    settle(&mut world);
    assert!(world.sites[0].owes().is_empty());
    for n in 1..10 {
        let object = id(&world, 0, &n.to_string());
        equal(&world, 0, 1, &object);
    }
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn a_late_question_moves_no_other_session_on() {
    let mut world = sites(&["a", "b"]);
    let link = follow(&mut world, 1, 0, Selection::everything());
    create(&mut world, 0, "1", 1, group("red"));
    settle(&mut world);
    let older = world.sites[1].disk.clone();
    for n in 2..12 {
        create(&mut world, 0, &n.to_string(), n, group("red"));
    }
    // The next session asks ahead: its fourth question goes on behind the answers to those before.
    world.stop(1);
    world.time += 10_000;
    world.answers.clear();
    while world.answers.len() < 4 {
        world.step(link, Fault::None);
    }
    let late = world.answers[3].1.clone();
    // The replica is put back, and its next session has the same number.
    let at = now(&world, 1);
    world.stop(1);
    world.sites[1].restore(older, false, at);
    world.answers.clear();
    while world.answers.len() < 2 {
        world.step(link, Fault::None);
    }
    world.deliver(1, 0, &late).unwrap();
    settle(&mut world);
    for n in 1..12 {
        let object = id(&world, 0, &n.to_string());
        equal(&world, 0, 1, &object);
    }
}
