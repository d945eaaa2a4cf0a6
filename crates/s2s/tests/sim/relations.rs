//! Relations that are ended, paused, left and begun again, under the same name or another one, and what is pushed beside them.

use crate::rng::Rng;
use crate::world::World;
use keyferry_s2s::{Downstream, Error, Upstream, UpstreamOptions};
use keyferry_store::StoreExt;

/// Something is pushed, or a relation is ended, or begun again.
pub fn keep_or_not(world: &mut World, rng: &mut Rng) {
    let at = rng.below(world.links.len());
    let (replica, issuer) = (world.links[at].replica, world.links[at].issuer);
    let name = world.links[at].name.clone();
    match rng.below(3) {
        0 if world.sites[issuer].up && world.sites[replica].up => {
            let site = &world.sites[issuer];
            let mut own = site.records();
            own.retain(|record| site.node.issues(record));
            if !own.is_empty() {
                let id = own[rng.below(own.len())].id.clone();
                world.push(issuer, replica, &id);
            }
        }
        0 => {}
        1 => {
            let to = world.sites[replica].name.clone();
            if Downstream::end(&world.sites[issuer].disk, &to, &name).is_ok() {
                world.ended.insert(at);
            }
        }
        _ => begin_again(world, at),
    }
}

/// Lets the replica of a link follow again.
fn begin_again(world: &mut World, at: usize) {
    let link = &world.links[at];
    let to = world.sites[link.replica].name.clone();
    if world.ended.remove(&at) {
        // A store that was put back may know nothing of it.
        let _ = Downstream::begin_again(&world.sites[link.issuer].disk, &to, &link.name);
    }
}

/// A replica pauses a relation, or ends it; or goes on with it, or begins it again.
pub fn leave_or_return(world: &mut World, rng: &mut Rng) {
    let at = rng.below(world.links.len());
    let (replica, name) = (world.links[at].replica, world.links[at].name.clone());
    if !world.sites[replica].up {
        return;
    }
    if world.left.contains(&at) {
        return come_back(world, at, rng);
    }
    world.stop(replica);
    let disk = &world.sites[replica].disk;
    let done = match rng.one_in(2) {
        true => Upstream::pause(disk, &name),
        false => Upstream::end(disk, &name),
    };
    done.unwrap();
    world.left.insert(at);
}

/// A replica goes on with a relation that it has paused, or begins the one again that it has ended, under the same name or another one.
fn come_back(world: &mut World, at: usize, rng: &mut Rng) {
    let (replica, issuer) = (world.links[at].replica, world.links[at].issuer);
    let name = world.links[at].name.clone();
    let server = world.sites[issuer].name.clone();
    let now = world.now(replica).wall;
    world.stop(replica);
    let disk = &world.sites[replica].disk;
    if Upstream::resume(disk, &name).is_err() {
        let name = match rng.one_in(2) {
            true => name,
            false => format!(
                "{} of {server}, {}",
                world.sites[replica].name,
                rng.below(3)
            ),
        };
        Upstream::follow(disk, &name, &server, &UpstreamOptions::default(), now).unwrap();
        world.links[at].options.relation = name.clone();
        world.links[at].name = name;
    }
    world.left.remove(&at);
}

/// Which relations the store of a replica has, once it was put back.
pub fn look_again(world: &mut World, replica: usize) {
    let known = world.sites[replica]
        .disk
        .view::<_, Error>(|s| Upstream::all(s));
    let known = known.unwrap();
    for at in 0..world.links.len() {
        let link = &world.links[at];
        if link.replica != replica {
            continue;
        }
        let server = &world.sites[link.issuer].name;
        let found = known.iter().find(|upstream| *upstream.server == **server);
        let is_followed = found.is_some_and(|upstream| upstream.paused != Some(true));
        if let Some(found) = found {
            let name = found.relation.to_string();
            world.links[at].options.relation = name.clone();
            world.links[at].name = name;
        }
        match is_followed {
            true => world.left.remove(&at),
            false => world.left.insert(at),
        };
    }
}

/// Some relations stay ended or paused, and some go on.
pub fn some_return(world: &mut World, rng: &mut Rng) {
    // One that a store which was put back had ended before may be so still.
    for at in 0..world.links.len() {
        let link = &world.links[at];
        let to = world.sites[link.replica].name.clone();
        let find = |s: &dyn keyferry_store::Snapshot| Downstream::find(s, &to, &link.name);
        let found = world.sites[link.issuer]
            .disk
            .view::<_, Error>(find)
            .unwrap();
        let is_ended = found.is_some_and(|found| found.ended == Some(true));
        match is_ended {
            true => world.ended.insert(at),
            false => world.ended.remove(&at),
        };
        if rng.one_in(2) {
            begin_again(world, at);
        }
    }
    for at in 0..world.links.len() {
        if world.left.contains(&at) && rng.one_in(2) {
            come_back(world, at, rng);
        }
    }
}
