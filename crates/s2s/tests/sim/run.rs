//! One random run.

use crate::check::Check;
use crate::relations;
use crate::rng::Rng;
use crate::site::Site;
use crate::world::{Hearing, World};
use crate::writes;
use keyferry_kmip::spec::AttributeValue as V;
use keyferry_s2s::*;
use keyferry_store::StoreExt;

/// What happened, over many runs.
#[derive(Debug, Default)]
pub struct Figures {
    writes: usize,
    refused: usize,
    emergencies: usize,
    restored: usize,
    crashes: usize,
    cuts: usize,
    strays: usize,
    selections: usize,
    stale: usize,
    forks: usize,
    tombstones: usize,
    withdrawals: usize,
    given_back: usize,
    compared: usize,
    repaired: usize,
    /// A digest over all that the stores hold in the end: it stays the same while the engine does the same.
    end_states: u64,
}

impl Figures {
    pub fn add(&mut self, other: &Figures) {
        self.writes += other.writes;
        self.refused += other.refused;
        self.emergencies += other.emergencies;
        self.restored += other.restored;
        self.crashes += other.crashes;
        self.cuts += other.cuts;
        self.strays += other.strays;
        self.selections += other.selections;
        self.stale += other.stale;
        self.forks += other.forks;
        self.tombstones += other.tombstones;
        self.withdrawals += other.withdrawals;
        self.given_back += other.given_back;
        self.compared += other.compared;
        self.repaired += other.repaired;
        self.end_states = chain(self.end_states, &other.end_states.to_be_bytes());
    }

    /// Whether everything has happened that can.
    pub fn is_everything(&self) -> bool {
        [
            self.writes,
            self.refused,
            self.emergencies,
            self.restored,
            self.crashes,
            self.cuts,
            self.strays,
            self.selections,
            self.stale,
            self.forks,
            self.tombstones,
            self.withdrawals,
            self.given_back,
            self.compared,
            self.repaired,
        ]
        .iter()
        .all(|count| *count > 0)
    }
}

/// Who may follow whom: replica, issuer, and whether with what others issue.
const LINKS: [(usize, usize, bool); 6] = [
    (1, 0, false),
    (2, 0, false),
    (3, 1, true),
    (0, 1, false),
    (2, 3, true),
    (1, 3, true),
];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn selection(rng: &mut Rng) -> Selection {
    match rng.below(2) {
        0 => Selection::everything(),
        _ => Selection::everything().with(V::ObjectGroup(writes::GROUPS[rng.below(3)].into())),
    }
}

fn build(rng: &mut Rng) -> World {
    let chosen: Vec<_> = LINKS
        .iter()
        .enumerate()
        .filter(|(n, _)| *n == 0 || !rng.one_in(3))
        .map(|(_, link)| *link)
        .collect();
    let gives_back: Vec<bool> = chosen.iter().map(|_| !rng.one_in(4)).collect();
    let mut policies = vec![
        Policy::closed(),
        Policy::closed(),
        Policy::closed(),
        Policy::closed(),
    ];
    for ((replica, issuer, copies), gives_back) in chosen.iter().zip(&gives_back) {
        // What it follows may also send it copies, such as those of an old bundle; one peer may be both.
        let sender = format!("{}.example", NAMES[*issuer]);
        let known = policies[*replica]
            .peer(&crate::site::identity(NAMES[*issuer]))
            .cloned();
        let mut from = known
            .unwrap_or_else(|| Peer::new(NAMES[*issuer]))
            .may_send();
        from = if *copies { from.may_relay() } else { from };
        policies[*replica] = policies[*replica].clone().with(sender, from);
        let known = policies[*issuer]
            .peer(&crate::site::identity(NAMES[*replica]))
            .cloned();
        let mut peer = known
            .unwrap_or_else(|| Peer::new(NAMES[*replica]))
            .may_follow()
            .may_revoke();
        peer = if *copies {
            peer.may_follow_copies()
        } else {
            peer
        };
        peer = if *gives_back {
            peer.may_give_back()
        } else {
            peer
        };
        policies[*issuer] = policies[*issuer]
            .clone()
            .with(format!("{}.example", NAMES[*replica]), peer);
    }
    let sites = NAMES
        .iter()
        .zip(policies)
        .map(|(name, policy)| Site::new(name, policy, Rng(rng.next())));
    let mut world = World::new(sites.collect());
    let settles = rng.one_in(2);
    for (replica, issuer, copies) in chosen {
        let mut from = Peer::new(NAMES[issuer]);
        from = if copies { from.may_relay() } else { from };
        if settles {
            from = from.colliding(Collisions {
                identifier: OnIdentifier::Assign,
                name: if rng.one_in(2) {
                    OnName::Park
                } else {
                    OnName::Rename("{server}: {name}".into())
                },
            });
        }
        let what = selection(rng);
        let link = world.link(
            &format!("{} of {}", NAMES[replica], NAMES[issuer]),
            replica,
            issuer,
            from,
            what,
        );
        world.hearing(
            link,
            [Hearing::Asks, Hearing::Turns, Hearing::Poked][rng.below(3)],
        );
    }
    world
}

pub fn run(seed: u64) -> Figures {
    let mut rng = Rng(seed);
    let mut figures = Figures::default();
    let mut world = build(&mut rng);
    let mut check = Check::default();
    let events = 60 + rng.below(140);
    // Few restores, or most of what is seen is their traces.
    let restores = !rng.one_in(3);
    for _ in 0..events {
        world.time += rng.below(800) as u64;
        let at = rng.below(world.sites.len());
        let kind = rng.below(100);
        crate::trace(|| format!("{} ms: event {kind} at {}", world.time, NAMES[at]));
        match kind {
            0..35 => {
                let at = if rng.one_in(3) { 1 } else { 0 };
                if world.sites[at].up {
                    let now = world.now(at);
                    let owes = world.sites[at]
                        .disk
                        .view::<_, Error>(|snapshot| {
                            Ok(!keyferry_s2s::PendingGiveBack::all(snapshot)?.is_empty())
                        })
                        .unwrap();
                    let done = writes::random(&mut world.sites[at], &mut rng, now);
                    assert!(!(owes && done), "a change before what was lost is back");
                    figures.writes += usize::from(done);
                    figures.refused += usize::from(owes);
                }
                if rng.one_in(12) {
                    figures.emergencies += usize::from(emergency(&mut world, &mut rng));
                }
            }
            35..80 => {
                for _ in 0..1 + rng.below(6) {
                    world.random_step(&mut rng);
                }
            }
            80..84 => {
                let link = rng.below(world.links.len());
                let pair = (world.links[link].replica, world.links[link].issuer);
                let back = (pair.1, pair.0);
                if !(world.cut.remove(&pair) | world.cut.remove(&back)) {
                    // Both ways, or one.
                    let which = rng.below(3);
                    world.cut.extend((which != 1).then_some(pair));
                    world.cut.extend((which != 2).then_some(back));
                    figures.cuts += 1;
                }
            }
            84..87 => {
                world.stop(at);
                world.sites[at].up = !world.sites[at].up;
                if world.sites[at].up {
                    world.sites[at].restart();
                }
                figures.crashes += 1;
            }
            87..90 => {
                let disk = world.sites[at].disk.clone();
                world.sites[at].backups.push(disk);
            }
            90..92 if restores => {
                let kept = world.sites[at].backups.len();
                if kept > 0 {
                    world.stop(at);
                    check.restoring(&world, at);
                    let older = world.sites[at].backups[rng.below(kept)].clone();
                    let (told, now) = (rng.one_in(2), world.now(at));
                    world.sites[at].restore(older, told, now);
                    relations::look_again(&mut world, at);
                    figures.restored += 1;
                }
            }
            98 => relations::keep_or_not(&mut world, &mut rng),
            99 => relations::leave_or_return(&mut world, &mut rng),
            96..98 => {
                // Copies are kept for later, as in a bundle, or those of some time ago arrive.
                let link = rng.below(world.links.len());
                if rng.one_in(2) {
                    world.keep_copies(link);
                } else if world.old_copies(link, &mut rng) {
                    figures.stale += 1;
                }
            }
            92..94 => {
                let link = rng.below(world.links.len());
                let (replica, issuer) = (world.links[link].replica, world.links[link].issuer);
                if world.left.contains(&link) {
                    continue;
                }
                world.stop(replica);
                let what = UpstreamOptions {
                    selection: selection(&mut rng),
                    ..UpstreamOptions::default()
                };
                let (name, server) = (
                    world.links[link].name.clone(),
                    world.sites[issuer].name.clone(),
                );
                let now = world.now(replica).wall;
                Upstream::follow(&world.sites[replica].disk, &name, &server, &what, now).unwrap();
                figures.selections += 1;
            }
            94..96 => {
                if !world.strays.is_empty() {
                    let which = rng.below(world.strays.len());
                    world.stray(which, rng.one_in(3));
                    figures.strays += 1;
                }
            }
            _ => world.sites[at].skew = rng.below(40) as i64 - 20,
        }
        check.observe(&mut world);
    }
    heal(&mut world, &mut check, &mut rng);
    check.end(&world);
    figures.end_states = digest(&world);
    figures.forks += check.forks;
    figures.tombstones += check.tombstones;
    figures.withdrawals += check.withdrawals;
    figures.given_back += check.given_back;
    figures.compared += check.compared;
    figures.repaired += check.repaired;
    figures
}

/// A client somewhere revokes what it finds there, whoever issues it. It is Compromised there at once.
fn emergency(world: &mut World, rng: &mut Rng) -> bool {
    let at = rng.below(world.sites.len());
    let now = world.now(at);
    let site = &mut world.sites[at];
    let mut held = site.records();
    held.retain(|record| !record.is_withdrawn());
    if !site.up || held.is_empty() {
        return false;
    }
    let id = held[rng.below(held.len())].id.clone();
    let done = site.emergency(now, &id);
    assert!(site.record(&id).unwrap().1.is_compromised());
    done
}

/// Everything works again, and runs until nothing moves.
fn heal(world: &mut World, check: &mut Check, rng: &mut Rng) {
    world.cut.clear();
    world.strays.clear();
    relations::some_return(world, rng);
    for at in 0..world.sites.len() {
        world.sites[at].skew = 0;
        if !world.sites[at].up {
            world.sites[at].up = true;
            world.sites[at].restart();
        }
        world.stop(at);
    }
    let settle = |world: &mut World, check: &mut Check| {
        for _ in 0..7 {
            world.time += 5_000_000;
            world.settle();
            check.observe(world);
        }
    };
    settle(world, check);
    // Whoever can't give back is waited for until a person waives it; and forks are decided, by their issuers first.
    for at in 0..world.sites.len() {
        let now = world.now(at);
        let site = &world.sites[at];
        for owed in site
            .disk
            .view::<_, Error>(|snapshot| PendingGiveBack::all(snapshot))
            .unwrap()
        {
            waive_give_back(&site.disk, &owed.server, "somebody", now.wall).unwrap();
        }
        for fork in site.forks() {
            check.forks += 1;
            let issues = site
                .record(&fork.id)
                .is_some_and(|(_, record)| site.node.issues(&record));
            if issues && rng.one_in(2) {
                let keep = if rng.one_in(2) {
                    ForkVersion::Held
                } else {
                    ForkVersion::Other
                };
                resolve_fork(
                    &site.disk,
                    &site.node,
                    &fork.id,
                    &fork.stamp,
                    keep,
                    "somebody",
                    now,
                )
                .unwrap();
            }
        }
    }
    for at in 0..world.sites.len() {
        let now = world.now(at);
        world.sites[at].settle_emergencies(now);
    }
    settle(world, check);
    let heads: Vec<_> = world
        .sites
        .iter()
        .map(|site| {
            site.disk
                .view::<_, keyferry_store::Error>(|s| s.head())
                .unwrap()
        })
        .collect();
    settle(world, check);
    let after: Vec<_> = world
        .sites
        .iter()
        .map(|site| {
            site.disk
                .view::<_, keyferry_store::Error>(|s| s.head())
                .unwrap()
        })
        .collect();
    assert_eq!(heads, after, "it does not come to rest");
    news_travels(world, check, rng);
    // What was revoked in an emergency then is told with the next question, and what a relay lists is found with it. Whoever waits to be poked asks
    // when it connects the next time.
    for _ in 0..3 {
        for at in 0..world.sites.len() {
            world.stop(at);
        }
        settle(world, check);
    }
}

/// What changes now is everywhere before long, also where nobody asks more than once an hour, and where the first word of it was lost.
fn news_travels(world: &mut World, check: &mut Check, rng: &mut Rng) {
    for at in 0..world.sites.len() {
        let now = world.now(at);
        (0..20).any(|_| writes::random(&mut world.sites[at], rng, now));
    }
    check.observe(world);
    (0..10).for_each(|_| world.random_step(rng));
    for _ in 0..8 {
        world.time += 1100;
        world.settle();
        check.observe(world);
    }
    for (at, link) in world
        .links
        .iter()
        .enumerate()
        .filter(|(at, _)| !world.trouble.contains(at) && world.is_followed(*at))
    {
        let head = world.sites[link.issuer]
            .disk
            .view::<_, keyferry_store::Error>(|s| s.head())
            .unwrap();
        let master = world.sites[link.replica]
            .disk
            .view::<_, Error>(|s| Upstream::find(s, &link.name))
            .unwrap()
            .unwrap();
        let hears = link.session.is_some();
        assert!(
            !hears || master.cursor == Place::from(head),
            "link {at} did not hear of {head:?}: {master:?}"
        );
    }
}

/// FNV-1a, which needs to tell runs apart and no more.
fn chain(state: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(state ^ 0xcbf2_9ce4_8422_2325, |state, byte| {
            (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// What all stores hold in the end: the head, whose commit id covers all that was ever put, and the state.
fn digest(world: &World) -> u64 {
    let mut digest = 0;
    for site in &world.sites {
        site.disk
            .view::<_, keyferry_store::Error>(|snapshot| {
                let head = snapshot.head()?;
                digest = chain(digest, &head.incarnation.0);
                digest = chain(digest, &head.number.to_be_bytes());
                digest = chain(digest, &head.commit.0);
                snapshot.state(&keyferry_store::Span::prefix(b""), &mut |key, value| {
                    digest = chain(chain(digest, key), value);
                    Ok(std::ops::ControlFlow::Continue(()))
                })
            })
            .unwrap();
    }
    digest
}
