//! Runs with an adversary: a server `m` that is a peer of the others in some of the roles that policy knows, and sends them whatever it likes,
//! while they work. Nothing of what the others issue changes by it, and none of them is stopped.
//!
//! `HOSTILE_RUNS` says how many runs, `HOSTILE_SEED` which one to begin with; a failed run prints its seed.

use crate::check::Check;
use crate::forger::Forger;
use crate::rng::Rng;
use crate::site::Site;
use crate::world::{Adversary, Fault, World};
use crate::writes;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::*;
use keyferry_store::{Effects, Material, ObjectId, Record, SnapshotExt, Store, StoreExt};
use keyferry_ttlv::Version;
use std::collections::{HashMap, HashSet};
use std::time::Instant;

const NAMES: [&str; 4] = ["a", "b", "c", "m"];
const ADVERSARY: usize = 3;

/// What the adversary may do, by the policies of the others.
#[derive(Clone, Copy, Debug)]
struct Roles {
    sends: bool,
    learns_nothing: bool,
    follows: bool,
    gives_back: bool,
    is_followed: bool,
    limited: bool,
    /// Whether one server lets it relay what another one issues, and so believes what it makes up until it hears the issuer itself.
    relays: bool,
    restores: bool,
}

impl Roles {
    fn drawn(rng: &mut Rng) -> Roles {
        Roles {
            sends: !rng.one_in(3),
            learns_nothing: rng.one_in(3),
            follows: !rng.one_in(3),
            gives_back: rng.one_in(2),
            is_followed: !rng.one_in(3),
            limited: rng.one_in(3),
            relays: rng.one_in(4),
            restores: rng.one_in(3),
        }
    }

    /// The adversary as a peer of an honest server.
    fn peer(&self) -> Peer {
        let mut peer = Peer::new("m").may_pull().colliding(collisions());
        peer.may_send = self.sends;
        peer.learns_nothing = self.learns_nothing;
        peer.may_follow = self.follows;
        peer.may_follow_copies = self.follows;
        peer.may_give_back = self.follows && self.gives_back;
        if self.limited {
            let red = Selection::everything().with(V::ObjectGroup("red".into()));
            peer = peer.agreed(red);
        }
        peer
    }
}

impl Roles {
    /// The adversary as a peer of the server that may let it relay.
    fn relay(&self) -> Peer {
        if self.relays {
            self.peer().may_relay_for(["a"])
        } else {
            self.peer()
        }
    }
}

fn collisions() -> Collisions {
    Collisions {
        identifier: OnIdentifier::Assign,
        name: OnName::Park,
    }
}

/// What an honest issuer has said of one of its objects.
#[derive(Default)]
struct Truth {
    /// The digest of each change, by reign and sequence.
    changes: HashMap<(Vec<u8>, i64), Vec<u8>>,
    /// The attributes of each change but those of the life cycle, by their digest.
    bodies: HashSet<Vec<u8>>,
    material: Option<Object>,
    step: u8,
    compromised: bool,
}

/// What happened, over many runs.
#[derive(Debug, Default)]
struct Figures {
    forged: usize,
    writes: usize,
    restored: usize,
    compared: usize,
    copies_of_the_adversary: usize,
}

struct Hostile {
    world: World,
    roles: Roles,
    rng: Rng,
    truth: HashMap<Vec<u8>, Truth>,
    /// The material that each issuer has called compromised, whatever the object.
    compromised: HashSet<(Text, Vec<u8>)>,
    /// The servers that were restored, which may take back what they have once said.
    restored: HashSet<usize>,
    figures: Figures,
}

fn build(rng: &mut Rng) -> (World, Roles) {
    let roles = Roles::drawn(rng);
    let honest = |name: &str| Peer::new(name).colliding(collisions());
    let policy = |peers: Vec<(&str, Peer)>| {
        let with = |policy: Policy, (name, peer): (&str, Peer)| {
            policy.with(format!("{name}.example"), peer)
        };
        peers.into_iter().fold(Policy::closed(), with)
    };
    let policies = vec![
        policy(vec![
            ("b", honest("b").may_follow().may_give_back()),
            ("c", honest("c").may_follow().may_give_back()),
            ("m", roles.peer()),
        ]),
        policy(vec![
            ("a", honest("a").may_send()),
            (
                "c",
                honest("c").may_follow().may_follow_copies().may_give_back(),
            ),
            ("m", roles.peer()),
        ]),
        policy(vec![
            ("a", honest("a").may_send()),
            ("b", honest("b").may_send().may_relay_for(["a"])),
            ("m", roles.relay()),
        ]),
        policy(vec![
            (
                "a",
                honest("a")
                    .may_follow()
                    .may_follow_copies()
                    .may_send()
                    .may_relay(),
            ),
            (
                "b",
                honest("b")
                    .may_follow()
                    .may_follow_copies()
                    .may_send()
                    .may_relay(),
            ),
            (
                "c",
                honest("c")
                    .may_follow()
                    .may_follow_copies()
                    .may_send()
                    .may_relay(),
            ),
        ]),
    ];
    let sites = NAMES
        .iter()
        .zip(policies)
        .map(|(name, policy)| Site::new(name, policy, Rng(rng.next())));
    let mut world = World::new(sites.collect());
    let everything = Selection::everything;
    world.link("b of a", 1, 0, honest("a"), everything());
    world.link("c of a", 2, 0, honest("a"), everything());
    world.link(
        "c of b",
        2,
        1,
        honest("b").may_relay_for(["a"]),
        everything(),
    );
    if roles.follows {
        let of = |name: &str| Peer::new(name).may_relay();
        world.link("m of a", ADVERSARY, 0, of("a"), everything());
        world.link("m of b", ADVERSARY, 1, of("b"), everything());
    }
    if roles.relays {
        world.link("c of m", 2, ADVERSARY, roles.relay(), everything());
    }
    if roles.is_followed {
        world.link("b of m", 1, ADVERSARY, roles.peer(), everything());
        world.link("a of m", 0, ADVERSARY, roles.peer(), everything());
    }
    let forger = Forger::new(Rng(rng.next()));
    world.adversary = Some(Adversary::new(ADVERSARY, forger));
    (world, roles)
}

/// The digest of what is left of a record without its life cycle.
fn body(record: &Record) -> Vec<u8> {
    let mut attributes = record.attributes.clone();
    attributes.retain(|attribute| {
        !lifecycle::is_lifecycle_attribute(attribute.value.tag())
            && attribute.value.tag() != tag::LAST_CHANGE_DATE
    });
    keyferry_store::record::copy_digest(record.object_type, &attributes).unwrap()
}

impl Hostile {
    /// Fails when an honest server holds of an honest object what its issuer has not said.
    fn check(&mut self) {
        let adversary = self.world.adversary.as_mut().unwrap();
        for (at, record) in std::mem::take(&mut adversary.own_words) {
            let known = self.truth.get(&record.id.encoded().unwrap());
            let rank = lifecycle::Rank::of(record.stored_state().unwrap());
            let said = known.is_some_and(|truth| {
                let is_twin = truth.material.as_ref().is_some_and(|material| {
                    let bytes = keyferry_store::record::material_of(material).unwrap();
                    let key = (record.stamp.issuer.clone(), bytes.to_vec());
                    self.compromised.contains(&key)
                });
                truth.bodies.contains(&body(&record))
                    && rank.step <= truth.step
                    && rank.compromised <= (truth.compromised || is_twin)
            });
            assert!(said, "{} never said {record:?}", NAMES[at]);
        }
        for (at, name) in NAMES.iter().enumerate().take(ADVERSARY) {
            for record in self.world.sites[at].records() {
                if *record.id.server == **name {
                    self.learn_truth(at, &record);
                }
            }
        }
        for at in 0..ADVERSARY {
            let records = self.world.sites[at].records();
            records
                .iter()
                .for_each(|record| self.check_record(at, record));
        }
        let adversary = self.world.adversary.as_ref().unwrap();
        assert!(adversary.harm.is_empty(), "{:?}", adversary.harm);
    }

    fn learn_truth(&mut self, at: usize, record: &Record) {
        let site = &self.world.sites[at];
        assert_eq!(
            *record.stamp.issuer, *site.name,
            "{} lost {}",
            site.name, record.id
        );
        assert_eq!(record.owner.as_deref(), Some("client"), "{}", record.id);
        let rank = lifecycle::Rank::of(record.stored_state().unwrap());
        let truth = self.truth.entry(record.id.encoded().unwrap()).or_default();
        if self.restored.contains(&at) && !truth.bodies.is_empty() {
            // It may have got back what it said once, in any State that it said once.
            let is_own = truth
                .changes
                .contains_key(&(record.stamp.incarnation.clone(), record.stamp.sequence));
            let is_known = truth.bodies.contains(&body(record));
            assert!(
                is_own || is_known || !site.owes().contains(&"m".to_owned()),
                "{} got {} back otherwise",
                site.name,
                record.id
            );
        }
        let key = (record.stamp.incarnation.clone(), record.stamp.sequence);
        let digest = record.copy_digest().unwrap();
        let known = truth.changes.entry(key).or_insert_with(|| digest.clone());
        assert_eq!(
            *known, digest,
            "one change of {} has two contents",
            record.id
        );
        truth.bodies.insert(body(record));
        truth.step = truth.step.max(rank.step);
        truth.compromised |= rank.compromised;
        let material = site.material(&record.id);
        if let (Some(known), Some(now)) = (&truth.material, &material) {
            // A server that has forgotten an object may make another one under its identifier.
            let is_same = known == now || self.restored.contains(&at);
            assert!(is_same, "{} has other material", record.id);
        }
        truth.material = material.or(truth.material.take());
        if let Some(material) = truth.material.as_ref().filter(|_| truth.compromised) {
            let bytes = keyferry_store::record::material_of(material).unwrap();
            self.compromised
                .insert((record.stamp.issuer.clone(), bytes.to_vec()));
        }
    }

    fn check_record(&mut self, at: usize, record: &Record) {
        let site = &self.world.sites[at];
        let origin = &*record.id.server;
        if origin == "m" {
            assert_eq!(*record.stamp.issuer, *"m", "{} at {}", record.id, site.name);
            self.figures.copies_of_the_adversary += 1;
            if self.roles.limited
                && !record.is_withdrawn()
                && record.lineage.is_empty()
                && record.stamp.sequence == 1
            {
                let is_red =
                    |a: &Attribute| matches!(&a.value, V::ObjectGroup(group) if *group == "red");
                assert!(
                    record.attributes.iter().any(is_red),
                    "{} was not agreed on",
                    record.id
                );
            }
            return;
        }
        if self.roles.relays && (at, origin) == (2, "a") {
            return;
        }
        let known = self.truth.get(&record.id.encoded().unwrap());
        let Some(truth) = known.filter(|_| NAMES.contains(&origin)) else {
            panic!("{} holds {}, which nobody has made", site.name, record.id);
        };
        assert_eq!(
            *record.stamp.issuer, *origin,
            "{} at {}",
            record.id, site.name
        );
        let key = (record.stamp.incarnation.clone(), record.stamp.sequence);
        assert_eq!(
            truth.changes.get(&key),
            Some(&record.copy_digest().unwrap()),
            "{}: the copy of {} is none of its issuer's changes",
            site.name,
            record.id
        );
        let rank = lifecycle::Rank::of(record.stored_state().unwrap());
        // What its issuer says of one object goes for its others of the same material.
        let held = site.material(&record.id);
        let is_twin = [&truth.material, &held]
            .into_iter()
            .flatten()
            .any(|material| {
                let bytes = keyferry_store::record::material_of(material).unwrap();
                let key = (record.stamp.issuer.clone(), bytes.to_vec());
                self.compromised.contains(&key)
            });
        assert!(
            rank.step <= truth.step && rank.compromised <= (truth.compromised || is_twin),
            "{}: {} is {:?}, which its issuer never said: {record:?} {held:?}; {:?}",
            site.name,
            record.id,
            record.stored_state(),
            site.forks()
        );
        if origin != site.name {
            let owner = record
                .overlay
                .as_ref()
                .and_then(|overlay| overlay.owner.as_deref());
            assert_eq!(owner, Some("client"), "{} at {}", record.id, site.name);
            assert_eq!(record.owner, None, "{} at {}", record.id, site.name);
        }
        let was_restored = NAMES
            .iter()
            .position(|name| *name == origin)
            .is_some_and(|issuer| self.restored.contains(&issuer));
        if let (Some(known), Some(held)) = (&truth.material, site.material(&record.id)) {
            let is_same = *known == held || was_restored;
            assert!(is_same, "{} has other material at {}", record.id, site.name);
        }
    }

    /// The adversary sends an Import or a Put, of an object that it holds, has made up or has altered.
    fn send(&mut self) {
        let to = self.rng.below(ADVERSARY);
        let site = &self.world.sites[ADVERSARY];
        let records = site.records();
        if records.is_empty() {
            return;
        }
        let record = records[self.rng.below(records.len())].clone();
        let object = site
            .material(&record.id)
            .or_else(|| self.rng.one_in(2).then(|| writes::key(77)));
        let terms = SendOptions {
            strategy: if self.rng.one_in(3) {
                Strategy::Put
            } else {
                Strategy::Import
            },
            version: Version::V2_1,
            keyferry: !self.rng.one_in(10),
            session: None,
            dry_run: self.rng.one_in(5),
            wrapped: self.rng.one_in(10),
        };
        let record = self.altered(record);
        let site = &self.world.sites[ADVERSARY];
        let sender = (&Sender::of(&site.node.home), &site.disk as &dyn Store);
        let Ok(item) = request_item(terms, record, object, sender) else {
            return;
        };
        let message = RequestMessage::new(Version::V2_1, vec![item]);
        self.world.deliver(ADVERSARY, to, &message);
    }

    /// A record as somebody would alter it who wants another's key.
    fn altered(&mut self, mut record: Record) -> Record {
        let server: Text = NAMES[self.rng.below(4)].into();
        for _ in 0..self.rng.below(4) {
            match self.rng.below(12) {
                0 => record.stamp.issuer = server.clone(),
                1 => record.id.server = server.clone(),
                2 => record.stamp.epoch = self.rng.below(4) as i64,
                3 => {
                    let by = self.rng.below(5) as i64 - 1;
                    record.stamp.sequence = record.stamp.sequence.saturating_add(by);
                }
                4 => record.stamp.sequence = i64::MAX,
                5 => record.stamp.incarnation = self.rng.id().to_vec(),
                6 => record.lineage = vec![record.stamp.clone()].into(),
                7 => record.lineage.clear(),
                8 => record.attributes.set(V::State(
                    [
                        State::DESTROYED,
                        State::COMPROMISED,
                        State::DEACTIVATED,
                        State::ACTIVE,
                    ][self.rng.below(4)],
                )),
                9 => record.attributes.set(V::Sensitive(false)),
                10 => record.owner = Some("mallory".into()),
                _ => record.identifier = format!("{}", self.rng.below(20)).into(),
            }
        }
        record
    }

    /// The adversary puts an altered record into its own store, which then follows the protocol with it.
    fn plant(&mut self) {
        let site = &self.world.sites[ADVERSARY];
        let records = site.records();
        if records.is_empty() {
            return;
        }
        let before = records[self.rng.below(records.len())].clone();
        let material = site.material(&before.id);
        let after = self.altered(before.clone());
        let anew = after.id != before.id;
        let site = &self.world.sites[ADVERSARY];
        // What its own store can't hold is not sent either.
        let _ = site
            .disk
            .transact::<_, keyferry_store::Error>(|transaction| {
                let held = transaction.by_object_id(&after.id)?;
                let effects = match (&material, held) {
                    (_, Some((number, held))) => {
                        Effects::change(Some((number, held)), after.clone(), Material::Keep)
                    }
                    (Some(object), None) if anew => {
                        let mut after = after.clone();
                        while transaction.by_identifier(&after.identifier)?.is_some() {
                            after.identifier = format!("{}'", after.identifier).into();
                        }
                        Effects::change(None, after, Material::Set(object.clone().into()))
                    }
                    _ => Effects::none(),
                };
                effects.apply(transaction)?;
                Ok(())
            });
    }

    fn event(&mut self) {
        let kind = self.rng.below(100);
        crate::trace(|| format!("event {kind}"));
        match kind {
            0..22 => {
                let at = self.rng.below(2);
                let now = self.world.now(at);
                let owes = !self.world.sites[at].owes().is_empty();
                let done = writes::random(&mut self.world.sites[at], &mut self.rng, now);
                assert!(!(owes && done));
                self.figures.writes += usize::from(done);
            }
            22..28 => {
                let now = self.world.now(ADVERSARY);
                writes::random(&mut self.world.sites[ADVERSARY], &mut self.rng, now);
            }
            28..60 => {
                for _ in 0..1 + self.rng.below(5) {
                    self.world.random_step(&mut self.rng);
                }
            }
            60..78 => self.send(),
            78..84 => self.plant(),
            84..88 if !self.world.strays.is_empty() => {
                let which = self.rng.below(self.world.strays.len());
                self.world.stray(which, self.rng.one_in(3));
            }
            88..91 => {
                let at = self.rng.below(ADVERSARY);
                let disk = self.world.sites[at].disk.clone();
                self.world.sites[at].backups.push(disk);
            }
            91..93 if self.roles.restores => {
                let at = self.rng.below(2);
                let kept = self.world.sites[at].backups.len();
                if kept > 0 {
                    self.check();
                    self.world.stop(at);
                    let older = self.world.sites[at].backups[self.rng.below(kept)].clone();
                    let (told, now) = (self.rng.one_in(2), self.world.now(at));
                    self.world.sites[at].restore(older, told, now);
                    self.restored.insert(at);
                    self.figures.restored += 1;
                }
            }
            93..95 => {
                let at = self.rng.below(ADVERSARY);
                self.world.stop(at);
                self.world.sites[at].restart();
            }
            _ => {
                let at = self.rng.below(self.world.links.len());
                self.world.step(at, Fault::Dead);
            }
        }
    }

    /// The adversary goes silent, persons decide what is theirs to decide, and the honest servers go on as if nothing had been.
    fn end(&mut self) {
        self.world.strays.clear();
        self.world.adversary.as_mut().unwrap().silent = true;
        for at in 0..self.world.sites.len() {
            self.world.stop(at);
        }
        // Nobody asks the adversary any more.
        self.world
            .links
            .retain(|link| link.replica != ADVERSARY && link.issuer != ADVERSARY);
        for _ in 0..7 {
            self.world.time += 5_000_000;
            self.world.settle();
            self.check();
        }
        for at in 0..ADVERSARY {
            let now = self.world.now(at);
            let site = &self.world.sites[at];
            let owes = site.owes();
            assert!(
                owes.is_empty() || self.restored.contains(&at),
                "{} waits for {owes:?}, and was not restored",
                site.name
            );
            for server in owes {
                waive_give_back(&site.disk, &server, "somebody", now.wall).unwrap();
            }
        }
        for _ in 0..4 {
            self.world.time += 5_000_000;
            self.world.settle();
        }
        for at in 0..2 {
            let now = self.world.now(at);
            let site = &mut self.world.sites[at];
            let made = writes::make(site, now, "afterwards", 1000 + at as u64, Attributes::new());
            assert!(made, "{} is stopped", site.name);
        }
        for _ in 0..4 {
            self.world.time += 5_000_000;
            self.world.settle();
        }
        self.check();
        let mut check = Check::without("m");
        for link in &self.world.links {
            check.equal(&self.world, link.replica, link.issuer, &link.name);
            let here = &self.world.sites[link.replica];
            let id = ObjectId {
                server: self.world.sites[link.issuer].name.as_str().into(),
                instance: self.world.sites[link.issuer].node.home.instance.clone(),
                identifier: "afterwards".into(),
            };
            assert!(
                here.record(&id).is_some(),
                "{} does not hear of {id}",
                here.name
            );
            let retries = here
                .disk
                .view::<_, Error>(|s| Retry::all(s, &link.name))
                .unwrap();
            let ours = retries.iter().filter(|retry| *retry.id.server != *"m");
            let restored = !self.restored.is_empty();
            assert!(restored || ours.count() == 0, "{}: {retries:?}", link.name);
        }
        for site in &self.world.sites[..ADVERSARY] {
            let entries = site.entries();
            assert!(entries < 2000, "{} keeps {entries} entries", site.name);
        }
        self.figures.compared += check.compared;
        self.figures.forged = self.world.adversary.as_ref().unwrap().forger.forged;
    }
}

fn run(seed: u64) -> Figures {
    let mut rng = Rng(seed.wrapping_mul(0x1_0001) ^ 0x5EED);
    let (world, roles) = build(&mut rng);
    crate::trace(|| format!("{roles:?}"));
    let mut hostile = Hostile {
        world,
        roles,
        rng,
        truth: HashMap::new(),
        compromised: HashSet::new(),
        restored: HashSet::new(),
        figures: Figures::default(),
    };
    let events = 60 + hostile.rng.below(140);
    for _ in 0..events {
        hostile.world.time += hostile.rng.below(1500) as u64;
        hostile.event();
        hostile.check();
    }
    hostile.end();
    hostile.figures
}

/// Whether a run with this seed ends well.
pub fn ends_well(seed: u64) -> bool {
    std::panic::catch_unwind(|| run(seed)).is_ok()
}

#[cfg_attr(not(keyferry_planted), test)]
fn hostile_runs() {
    let runs = crate::number("HOSTILE_RUNS").unwrap_or(300);
    let first = crate::number("HOSTILE_SEED").unwrap_or(1);
    let started = Instant::now();
    let mut sum = Figures::default();
    for seed in first..first + runs {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(figures) => {
                sum.forged += figures.forged;
                sum.writes += figures.writes;
                sum.restored += figures.restored;
                sum.compared += figures.compared;
                sum.copies_of_the_adversary += figures.copies_of_the_adversary;
            }
            Err(_) => panic!("the run with HOSTILE_SEED={seed} HOSTILE_RUNS=1 failed"),
        }
    }
    println!(
        "{runs} hostile runs in {:.1} s: {sum:?}",
        started.elapsed().as_secs_f64()
    );
    // What never happens proves nothing.
    if runs >= 200 {
        let counts = [
            sum.forged,
            sum.writes,
            sum.restored,
            sum.compared,
            sum.copies_of_the_adversary,
        ];
        assert!(counts.iter().all(|count| *count > 0), "{sum:?}");
    }
}
