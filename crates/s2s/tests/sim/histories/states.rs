//! Histories in which a State is raised, and must not be lost again.

use crate::histories::*;
use crate::world::World;
use crate::writes::{change, event, make, revoke};
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_store::{Effects, Material, SnapshotExt, StoreExt};

#[cfg_attr(not(keyferry_planted), test)]
pub fn a_date_passes_at_the_replica_while_its_postponement_is_under_way() {
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
pub fn material_that_is_compromised_is_taken_under_no_other_name_elsewhere() {
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
pub fn a_state_that_was_raised_here_outlives_the_next_change_there() {
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
pub fn a_compromise_reaches_the_twins_that_are_held_already() {
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

#[cfg_attr(not(keyferry_planted), test)]
pub fn an_emergency_at_a_replica_travels_to_the_issuer() {
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
