//! Random stores, collisions, crashes and stale copies: after each step the rules hold that bulk work is under (docs/design.md).
//!
//! `KEYFERRY_CASES` says how many, and `KEYFERRY_SEED` runs one of them again.

use crate::bulk::drive::*;
use crate::support::*;
use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_s2s::{
    Bulk, BulkOptions, Collisions, Follow, FollowOptions, Fork, OnIdentifier, OnName, Peer, Policy,
    Pull, PullOptions, PullStrategy, Report, Retry, Strategy, Upstream, UpstreamOptions,
    objects_missing_at_issuer,
};
use keyferry_server::Access;
use keyferry_store::{ErrorKind, Fault, Record, RecordNumber, SnapshotExt, Store, StoreExt};
use keyferry_ttlv::Version;
use std::collections::{BTreeMap, BTreeSet};

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most as u64) as usize
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn identifier(&mut self) -> &'static str {
        IDENTIFIERS[self.below(IDENTIFIERS.len())]
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.below(NAMES.len())]
    }
}

/// Tells which case failed.
struct ObjectResult(u64);

impl Drop for ObjectResult {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("KEYFERRY_SEED={} fails", self.0);
        }
    }
}

/// What is remembered of an object from step to step.
struct Known {
    rank: lifecycle::Rank,
    object: Option<Object>,
    object_type: ObjectType,
    identifier: String,
    sequence: i64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum TransferMethod {
    Push(Strategy),
    Export,
    Feed,
}

const WAYS: [TransferMethod; 4] = [
    TransferMethod::Push(Strategy::Import),
    TransferMethod::Push(Strategy::Put),
    TransferMethod::Export,
    TransferMethod::Feed,
];

struct World {
    a: Host,
    b: Host,
    way: TransferMethod,
    collisions: Collisions,
    known: BTreeMap<Vec<u8>, Known>,
    /// Copies that were made earlier.
    stale: Vec<(Record, Option<Object>)>,
}

const IDENTIFIERS: [&str; 9] = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
const NAMES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];

fn all(host: &Host) -> Vec<(Record, Option<Object>)> {
    host.store
        .view::<_, keyferry_store::Error>(|s| {
            (1..=s.count()?)
                .map(|n| {
                    Ok(s.whole(RecordNumber(n))?
                        .expect("records are numbered without gaps"))
                })
                .collect()
        })
        .unwrap()
}

impl World {
    fn new(rng: &mut Rng) -> World {
        let collisions = Collisions {
            identifier: *rng.one(&[OnIdentifier::Fail, OnIdentifier::Skip, OnIdentifier::Assign]),
            name: rng
                .one(&[
                    OnName::Fail,
                    OnName::Rename("{name} of {server}".into()),
                    OnName::Park,
                ])
                .clone(),
        };
        let policy = Policy::closed()
            .with("client", Peer::new("b").may_pull().also_client())
            .with("b.example", Peer::new("b").may_follow().may_give_back());
        let a = Host::named("a", Access::Named(["client".to_owned()].into()), policy);
        let b = replica_with(collisions.clone());
        Upstream::follow(
            &*b.store,
            "r",
            "a",
            &UpstreamOptions::default(),
            b.now().wall,
        )
        .unwrap();
        World {
            a,
            b,
            way: *rng.one(&WAYS),
            collisions,
            known: BTreeMap::new(),
            stale: Vec::new(),
        }
    }

    /// Goes the world's way.
    fn go(
        &self,
        sizes: [usize; 3],
        cut: Cut,
        told: impl FnMut(&keyferry_s2s::ObjectResult) + Send + 'static,
    ) -> Option<Result<Report, keyferry_s2s::Error>> {
        let (a, b, [batch, in_flight, group]) = (&self.a, &self.b, sizes);
        let peer = Peer::new("a").may_send().colliding(self.collisions.clone());
        match self.way {
            TransferMethod::Push(strategy) => {
                let options = BulkOptions {
                    batch,
                    in_flight,
                    group,
                    ..options(strategy)
                };
                drive(
                    a,
                    b,
                    &mut Bulk::new(options).on_object(told),
                    "a.example",
                    cut,
                    &mut |_, _| {},
                )
            }
            TransferMethod::Export => {
                let options = PullOptions {
                    batch,
                    in_flight,
                    ..PullOptions::new("a", peer, PullStrategy::Export)
                };
                let mut session = Pull::new(b.server.node().clone(), options).on_object(told);
                drive(b, a, &mut session, "client", cut, &mut |_, _| {})
            }
            TransferMethod::Feed => {
                let options = FollowOptions {
                    batch,
                    in_flight,
                    ..FollowOptions::new("r", peer)
                };
                let mut session = Follow::new(b.server.node().clone(), options).on_object(told);
                drive(b, a, &mut session, "b.example", cut, &mut |_, _| {})
            }
        }
    }

    fn make(&mut self, rng: &mut Rng, here: bool) {
        let host = if here { &self.a } else { &self.b };
        let mut attributes = none();
        for name in (0..rng.below(3))
            .map(|_| rng.name())
            .collect::<BTreeSet<_>>()
        {
            attributes = attributes.with(crate::support::name(name));
        }
        // Several objects have the same material, which is compromised under each identifier once it is under one.
        let material = key(&[rng.below(5) as u8; 16]);
        // Its identifier or its Name may be taken.
        let _ =
            host.client(Version::V2_1)
                .import(rng.identifier(), Some(material), attributes, false);
    }

    fn change(&mut self, rng: &mut Rng) {
        let client = self.a.client(Version::V2_1);
        let id = rng.identifier();
        let _ = match rng.below(6) {
            0 => client.activate(id),
            1 => client.revoke(id, RevocationReasonCode::SUPERSEDED),
            2 => client.revoke(id, RevocationReasonCode::KEY_COMPROMISE),
            3 => client.destroy(id),
            4 => client.add(id, name(rng.name())).map(drop),
            _ => self
                .a
                .client(Version::V1_4)
                .delete_at(id, reference(tag::NAME), Some(0))
                .map(drop),
        };
    }

    /// The replica's own objects change; with their material, copies become compromised.
    fn change_there(&mut self, rng: &mut Rng) {
        let own: Vec<String> = all(&self.b)
            .into_iter()
            .filter(|(record, _)| record.stamp.issuer == "b")
            .map(|(record, _)| record.identifier.to_string())
            .collect();
        if own.is_empty() {
            return self.make(rng, false);
        }
        let (client, id) = (self.b.client(Version::V2_1), rng.one(&own));
        let _ = if rng.below(3) > 0 {
            client.revoke(id, RevocationReasonCode::KEY_COMPROMISE)
        } else {
            client.destroy(id)
        };
    }

    fn transfer(&mut self, rng: &mut Rng, disturbed: bool) {
        let cut = match rng.below(5) {
            _ if !disturbed => Cut::Never,
            0 => Cut::Before(rng.below(5)),
            1 => Cut::Behind(rng.below(5)),
            2 => Cut::Dead(rng.below(5)),
            _ => Cut::Never,
        };
        if disturbed && rng.below(2) == 0 {
            let fault = match rng.below(6) {
                0 => Fault::Refuse(ErrorKind::Full),
                1 => Fault::RollBack(ErrorKind::Io),
                2 => Fault::LoseAnswer,
                3 => Fault::Rerun,
                committed => Fault::Crash {
                    committed: committed == 4,
                },
            };
            let at = if cut == Cut::Never && rng.below(2) == 0 {
                &self.a
            } else {
                &self.b
            };
            at.store.fail(1 + rng.below(4) as u64, fault);
        }
        let sizes = [1 + rng.below(4), 1 + rng.below(3), 1 + rng.below(3)];
        match self.go(sizes, cut, |_| {}) {
            Some(Ok(report)) => {
                assert!(report.counts.finished && report.counts.add_up(), "{report}");
                // A feed tells of what is new.
                assert!(
                    self.way == TransferMethod::Feed
                        || report.counts.asked >= self.a.count() as i64,
                    "{report}"
                );
            }
            ended => assert!(disturbed, "nothing disturbed it: {ended:?}"),
        }
        // What was planned and has not come yet comes now.
        for host in [&self.a, &self.b] {
            for _ in 0..5 {
                let _ = host.store.write(&mut |_| Ok(()));
                host.store.revive();
            }
        }
    }

    fn copy(&mut self, rng: &mut Rng) {
        let all = all(&self.a);
        if !all.is_empty() {
            self.stale.push(rng.one(&all).clone());
        }
    }

    /// A copy that was made earlier comes again, or comes with other material.
    fn replay(&mut self, rng: &mut Rng) {
        if self.stale.is_empty() {
            return;
        }
        let (record, mut object) = rng.one(&self.stale).clone();
        // Of what it does not hold yet, the replica believes the peer.
        let held = self.known.contains_key(&record.id.encoded().unwrap());
        if rng.below(3) == 0 && object.is_some() && held {
            object = Some(key(&[0xEE; 16]));
        }
        let peer = self.b.client_named("a.example", Version::V2_1);
        let _ = peer.call_item::<ImportResponse>(copy_item(&peer, &record, object, |_| {}));
    }

    fn check(&mut self) {
        let (mut ids, mut identifiers, mut names) =
            (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        let held = all(&self.b);
        for (record, object) in &held {
            let id = record.id.encoded().unwrap();
            assert!(ids.insert(id.clone()), "{} is held twice", record.id);
            assert!(
                identifiers.insert(record.identifier.to_string()),
                "two objects are {}",
                record.identifier
            );
            self.b
                .store
                .view::<_, keyferry_store::Error>(|s| {
                    let by_id = s.by_object_id(&record.id)?.map(|(number, _)| number);
                    let by_identifier = s
                        .by_identifier(&record.identifier)?
                        .map(|(number, _)| number);
                    assert!(
                        by_id.is_some() && by_id == by_identifier,
                        "the map is not the same both ways: {}",
                        record.id
                    );
                    Ok(())
                })
                .unwrap();
            for attribute in record.client_attributes() {
                // What belongs to nobody here keeps no local object from having its Name.
                let is_local = self.b.server.node().issues(record);
                if let AttributeValue::Name(name) = &attribute.value
                    && is_local
                {
                    // What one issuer has renamed may arrive in another order.
                    let of = names
                        .entry(name.value.to_string())
                        .or_insert_with(|| record.stamp.issuer.clone());
                    assert_eq!(
                        *of, record.stamp.issuer,
                        "{} has the Name {} of another",
                        record.id, name.value
                    );
                }
            }
            let rank = lifecycle::Rank::of(record.stored_state().unwrap());
            assert_eq!(
                record.is_destroyed(),
                object.is_none(),
                "destroyed is without material: {}",
                record.id
            );
            if let Some(known) = self.known.get(&id) {
                let (old, new) = (known.rank, rank);
                // What is compromised has no step but destroyed.
                let on = new.compromised || !old.compromised && old.step <= new.step;
                assert!(
                    on && (old.step < 3 || new.step == 3),
                    "{}: {old:?} became {new:?}",
                    record.id
                );
                assert!(
                    known.sequence <= record.stamp.sequence,
                    "a stale copy of {} was taken",
                    record.id
                );
                assert_eq!(known.object_type, record.object_type);
                assert_eq!(known.identifier, record.identifier.as_str());
                assert!(
                    object.is_none() || known.object == *object,
                    "the material of {} is another",
                    record.id
                );
            }
            // A copy of the same change is the same.
            if record.stamp.issuer == "a" {
                let issued = self.a.record(&record.id.identifier);
                assert_eq!(issued.id, record.id, "what a issued");
                assert!(record.stamp.sequence <= issued.stamp.sequence);
                if record.stamp == issued.stamp {
                    assert_eq!(
                        record.copy_digest().unwrap(),
                        issued.copy_digest().unwrap(),
                        "{}",
                        record.id
                    );
                    assert!(object.is_none() || *object == self.a.object(&record.id.identifier));
                    let theirs = lifecycle::Rank::of(issued.stored_state().unwrap());
                    let joined = (rank.compromised || !theirs.compromised)
                        && (rank.step == 3 || theirs.step < 3);
                    assert!(
                        joined,
                        "{}: {theirs:?} at its issuer, and {rank:?} here",
                        record.id
                    );
                }
            }
            let identifier = record.identifier.to_string();
            let sequence = record.stamp.sequence;
            let object_type = record.object_type;
            self.known.insert(
                id,
                Known {
                    rank,
                    object: object.clone(),
                    object_type,
                    identifier,
                    sequence,
                },
            );
        }
        assert!(
            self.known.keys().all(|id| ids.contains(id)),
            "an object is gone"
        );
    }

    /// What is not here as its issuer made it is named; tombstones go only where the object was.
    fn is_followed(&self) {
        let named = self.b.store.view::<_, keyferry_s2s::Error>(|s| {
            let retries = Retry::all(s, "r")?.into_iter().map(|retry| retry.id);
            let forks = Fork::all(s)?.into_iter().map(|fork| fork.id);
            // A replayed copy has no receipt: its issuer says as little of it as of one that it does not have.
            let missing = objects_missing_at_issuer(s, "r")?;
            Ok(retries.chain(forks).chain(missing).collect::<Vec<_>>())
        });
        let named = named.unwrap();
        for (record, _) in all(&self.a) {
            let there = self
                .b
                .store
                .view::<_, keyferry_store::Error>(|s| s.by_object_id(&record.id))
                .unwrap();
            match there {
                _ if named.contains(&record.id) => {}
                // What has its identifier already makes it be skipped, where that was agreed.
                None if self.collisions.identifier == OnIdentifier::Skip
                    && all(&self.b)
                        .iter()
                        .any(|(other, _)| other.identifier == record.identifier) => {}
                None => assert!(
                    record.is_destroyed(),
                    "{} is neither here nor named",
                    record.id
                ),
                Some((_, there)) => {
                    let same = (&there.stamp, there.copy_digest().unwrap())
                        == (&record.stamp, record.copy_digest().unwrap());
                    assert!(same, "{} differs, and is not named", record.id);
                }
            }
        }
    }
}

fn run(seed: u64) {
    let _told = ObjectResult(seed);
    let mut rng = Rng(seed);
    let mut world = World::new(&mut rng);
    for _ in 0..8 + rng.below(24) {
        match rng.below(12) {
            0..3 => world.make(&mut rng, true),
            3 => world.make(&mut rng, false),
            4..7 => world.change(&mut rng),
            7 => world.change_there(&mut rng),
            8 => world.copy(&mut rng),
            9 => world.replay(&mut rng),
            _ => world.transfer(&mut rng, true),
        }
        world.a.pass(1);
        world.b.pass(1);
        world.check();
    }
    // Whatever happened: an undisturbed one goes through, and each object is there as its issuer made it, or is named.
    for _ in 0..2 {
        world.transfer(&mut rng, false);
        world.check();
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    let tell = move |one: &keyferry_s2s::ObjectResult| {
        sender.send((one.identifier.clone(), one.outcome)).unwrap()
    };
    world.go([3, 2, 2], Cut::Never, tell).unwrap().unwrap();
    if world.way == TransferMethod::Feed {
        return world.is_followed();
    }
    let told: BTreeMap<String, keyferry_s2s::Outcome> = receiver.iter().collect();
    assert_eq!(told.len() as u64, world.a.count(), "each is told of");
    for (record, _) in all(&world.a) {
        if told[record.identifier.as_str()] == keyferry_s2s::Outcome::Unchanged {
            let there = world
                .b
                .store
                .view::<_, keyferry_store::Error>(|s| s.by_object_id(&record.id))
                .unwrap()
                .unwrap()
                .1;
            assert_eq!(
                (&there.stamp, there.copy_digest().unwrap()),
                (&record.stamp, record.copy_digest().unwrap())
            );
        }
    }
}

#[test]
fn whatever_happens_the_rules_hold() {
    if let Ok(seed) = std::env::var("KEYFERRY_SEED") {
        return run(seed.parse().unwrap());
    }
    let cases = std::env::var("KEYFERRY_CASES").map_or(200, |cases| cases.parse().unwrap());
    let mut base = [0; 8];
    keyferry_crypto::SystemRandom::new()
        .fill(&mut base)
        .unwrap();
    let base = u64::from_ne_bytes(base);
    println!("seeds from {base}");
    (0..cases).for_each(|case| run(base.wrapping_add(case)));
}
