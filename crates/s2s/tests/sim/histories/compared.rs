//! Histories of copies that are not what was told: the comparison of what is held with what was told finds them.

use crate::histories::*;
use crate::site::Site;
use crate::world::World;
use keyferry_kmip::spec::AttributeValue as V;
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_store::{Effects, Material, ObjectId, Record, SnapshotExt, StoreExt};

/// Two servers, of which `b` has so many objects of `a`.
fn filled(objects: u64) -> (World, Vec<ObjectId>) {
    let mut world = sites(&["a", "b"]);
    follow(&mut world, 1, 0, Selection::everything());
    let ids = (1..=objects)
        .map(|n| create(&mut world, 0, &n.to_string(), n, group("red")))
        .collect();
    settle(&mut world);
    assert!(proved(&world).is_some());
    assert_eq!(repaired(&world), 0);
    (world, ids)
}

fn upstream(world: &World) -> Upstream {
    let found = world.sites[1]
        .disk
        .view::<_, Error>(|snapshot| Upstream::find(snapshot, "b of a"));
    found.unwrap().unwrap()
}

fn proved(world: &World) -> Option<DateTime> {
    upstream(world).proved
}

fn repaired(world: &World) -> i64 {
    upstream(world).repaired.unwrap_or(0)
}

fn differing(world: &World) -> Vec<DifferingCopy> {
    let listed = world.sites[1]
        .disk
        .view::<_, Error>(|snapshot| DifferingCopy::all(snapshot, "b of a"));
    listed.unwrap()
}

fn rotten(world: &World) -> Vec<RottenRecord> {
    let listed = world.sites[1]
        .disk
        .view::<_, Error>(|snapshot| RottenRecord::all(snapshot));
    listed.unwrap()
}

fn alarms(world: &World) -> Vec<AlarmKind> {
    let alarms = world.sites[1]
        .disk
        .view::<_, Error>(|snapshot| Alarm::all(snapshot));
    alarms.unwrap().iter().map(|alarm| alarm.kind).collect()
}

/// Changes what stands on the disk, by nobody's word.
fn rot(site: &mut Site, id: &ObjectId, material: Material, change: impl Fn(&mut Record)) {
    let (number, before) = site.record(id).unwrap();
    let mut after = before.clone();
    change(&mut after);
    let effects = Effects::change(Some((number, before)), after, material);
    site.disk
        .transact::<_, keyferry_store::Error>(|transaction| effects.apply(transaction))
        .unwrap();
}

fn comment(record: &mut Record) {
    record
        .attributes
        .set(V::Comment("a bit was flipped".into()));
}

fn scrub(world: &World, site: usize, most: usize) -> Scrub {
    let (site, now) = (&world.sites[site], world.now(site).wall);
    site.node.scrub(&site.disk, most, now).unwrap()
}

/// Half a day passes.
fn later(world: &mut World) {
    for _ in 0..6 {
        world.time += 7_200_000;
        world.settle();
    }
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn a_copy_that_changed_by_itself_is_found_and_sent_again() {
    let (mut world, ids) = filled(300);
    for id in &ids[10..13] {
        rot(&mut world.sites[1], id, Material::Keep, comment);
    }
    later(&mut world);
    ids.iter().for_each(|id| equal(&world, 0, 1, id));
    assert_eq!((repaired(&world), differing(&world).len()), (3, 0));
    assert!(world.sites[1].forks().is_empty() && alarms(&world).is_empty());
    // Nothing is found twice.
    later(&mut world);
    assert_eq!(repaired(&world), 3);
}

/// Takes out of a store which copies come by which relation.
fn forget_account(site: &mut Site) {
    let forgotten = site.disk.transact::<_, Error>(|transaction| {
        let mut kept = Vec::new();
        let prefix = keyferry_store::Span::prefix(b"kept/");
        transaction.state(&prefix, &mut |key, _| {
            kept.push(key.to_vec());
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        assert!(!kept.is_empty());
        kept.iter()
            .try_for_each(|key| Ok(transaction.set_state(key, None)?))
    });
    forgotten.unwrap();
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn what_a_relation_has_brought_and_nobody_remembers_is_sent_again() {
    // More than one question asks for.
    let (mut world, ids) = filled(1300);
    forget_account(&mut world.sites[1]);
    for id in &ids {
        rot(&mut world.sites[1], id, Material::Keep, |record| {
            record.overlay = None;
        });
    }
    later(&mut world);
    assert_eq!((repaired(&world), differing(&world).len()), (1300, 0));
    let copies = world.sites[1].records();
    assert_eq!(copies.len(), 1300);
    let comes_by_it = |record: &Record| world.sites[1].relations_of(&record.id) == ["b of a"];
    assert!(copies.iter().all(comes_by_it));
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn a_copy_that_its_issuer_does_not_have_is_named_and_compared_no_more() {
    let (mut world, ids) = filled(5);
    // A copy like the others, of an object that nobody ever made.
    let (_, like) = world.sites[1].record(&ids[0]).unwrap();
    let id = ObjectId {
        identifier: "made up".into(),
        ..like.id.clone()
    };
    let record = Record {
        id: id.clone(),
        identifier: "made up".into(),
        ..like
    };
    let effects = Effects::change(None, record, Material::Keep);
    world.sites[1]
        .disk
        .transact::<_, keyferry_store::Error>(|transaction| {
            let number = effects.apply(transaction)?[0].0;
            // One bit for each record says which copies the relation brings.
            let key = [&b"kept/a\0b of a\0"[..], &[0; 8]].concat();
            let mut kept = transaction.state_value(&key)?.unwrap();
            kept.resize(kept.len().max(number as usize / 8 + 1), 0);
            kept[number as usize / 8] |= 1 << (number % 8);
            transaction.set_state(&key, Some(&kept))
        })
        .unwrap();
    later(&mut world);
    let missing = world.sites[1]
        .disk
        .view::<_, Error>(|snapshot| objects_missing_at_issuer(snapshot, "b of a"));
    assert_eq!(missing.unwrap(), std::slice::from_ref(&id));
    let listed = differing(&world);
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].id, &listed[0].stamp), (&id, &None));
    assert!(alarms(&world).is_empty());
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn a_copy_that_can_not_be_repaired_is_listed_as_it_was_told() {
    let (mut world, ids) = filled(5);
    // No receipt says which of the two is right: a build without receipts has left it so.
    rot(&mut world.sites[1], &ids[2], Material::Keep, |record| {
        comment(record);
        record.overlay.as_mut().unwrap().receipts = None;
    });
    later(&mut world);
    let told = world.sites[0].record(&ids[2]).unwrap().1;
    let listed = differing(&world);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].stamp, Some(told.stamp.clone()));
    assert_eq!(listed[0].digest, Some(told.copy_digest().unwrap()));
    assert_eq!(world.sites[1].forks().len(), 1);
    assert!(alarms(&world).is_empty(), "what is listed is no difference");
    // The next change of it is taken.
    let at = now(&world, 0);
    assert!(crate::writes::change(
        &mut world.sites[0],
        at,
        &ids[2],
        |record| {
            record.attributes.set(V::Comment("right again".into()));
            Ok(())
        }
    ));
    settle(&mut world);
    equal(&world, 0, 1, &ids[2]);
    assert_eq!(differing(&world), []);
}

#[cfg_attr(not(keyferry_planted), test)]
pub fn the_slow_reading_finds_what_has_rotted_and_the_issuer_sends_it_again() {
    let (mut world, ids) = filled(40);
    let other = Object::symmetric_key(
        keyferry_kmip::spec::CryptographicAlgorithm::AES,
        128,
        Secret::new(&[0xEE; 16]),
    );
    // The material of a copy, and the attributes of another; neither is told by a change.
    let material = Material::Set(Box::new(other.clone()));
    rot(&mut world.sites[1], &ids[7], material, |_| {});
    // The material of one that this server issues itself.
    let own = create(&mut world, 1, "own", 99, group("blue"));
    let material = Material::Set(Box::new(other));
    rot(&mut world.sites[1], &own, material, |_| {});
    // In parts, and again from the beginning.
    let mut parts = 0;
    let read = loop {
        parts += 1;
        let read = scrub(&world, 1, 10);
        if read.last_pass.is_some() {
            break read;
        }
    };
    assert_eq!((parts, read.next, read.found), (5, 0, 2));
    let named: Vec<_> = rotten(&world).iter().map(|one| one.id.clone()).collect();
    assert_eq!(named, [Some(ids[7].clone()), Some(own.clone())]);
    later(&mut world);
    equal(&world, 0, 1, &ids[7]);
    assert_eq!((repaired(&world), alarms(&world).len()), (1, 0));
    // What this server issues itself stays listed, until a person has put it right.
    let left: Vec<_> = rotten(&world).iter().map(|one| one.id.clone()).collect();
    assert_eq!(left, [Some(own)]);
    for site in 0..2 {
        let found = if site == 0 { 0 } else { 2 };
        assert_eq!(scrub(&world, site, 1000).found, found);
    }
}
