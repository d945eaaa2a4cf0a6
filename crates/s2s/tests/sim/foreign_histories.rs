//! One of ours observes a foreign server, and publishes to another one all that it has: random runs, with losses at every boundary of a message,
//! and one history by name.

use crate::foreign::Naive;
use crate::rng::Rng;
use crate::site::{START, Site};
use crate::writes;
use keyferry_kmip::spec::{AttributeValue as V, *};
use keyferry_kmip::*;
use keyferry_s2s::{Step, *};
use keyferry_store::{ObjectId, StoreExt};
use keyferry_ttlv::Version;
use std::collections::BTreeMap;

/// What the network does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Before,
    Behind,
    /// The sender takes it for lost, and it arrives later.
    Late,
    Dead,
}

struct Ring {
    site: Site,
    master: Naive,
    replica: Naive,
    version: Version,
    by: Operation,
    time: u64,
    /// Imports that are still on their way to the replica.
    strays: Vec<RequestMessage>,
    /// The furthest that each object here was.
    ranks: BTreeMap<String, lifecycle::Rank>,
    /// What the replica's own clients have destroyed there.
    taken: Vec<String>,
    figures: Figures,
}

#[derive(Debug, Default)]
struct Figures {
    losses: usize,
    strays: usize,
    destroyed: usize,
    missing: usize,
    named: usize,
    compared: usize,
    jumps: usize,
}

impl Ring {
    fn new(rng: &mut Rng) -> Ring {
        let site = Site::new("a", Policy::closed(), Rng(rng.next()));
        let clock = START + rng.below(4000) as i64 - 2000;
        let master = Naive {
            clock,
            forgets: rng.one_in(2),
            ignores_dates: rng.one_in(4),
            cap: 5 + rng.below(40),
            ..Naive::default()
        };
        let replica = Naive {
            clock: START,
            cap: 100,
            ..Naive::default()
        };
        let (by, version) = match rng.below(3) {
            0 => (Operation::REGISTER, Version::V1_4),
            1 => (Operation::IMPORT, Version::V1_4),
            _ => (Operation::IMPORT, Version::V2_1),
        };
        let full_every = 1 + rng.below(4) as i64;
        let observing = ForeignMasterOptions {
            full_every,
            ..ForeignMasterOptions::default()
        };
        ForeignMaster::observe(&site.disk, "m", "m", &observing, DateTime(START)).unwrap();
        let publishing = ForeignReplicaOptions {
            by,
            ..ForeignReplicaOptions::default()
        };
        ForeignReplica::publish(&site.disk, "r", "r", &publishing, DateTime(START)).unwrap();
        let (strays, ranks, taken) = (Vec::new(), BTreeMap::new(), Vec::new());
        Ring {
            site,
            master,
            replica,
            version,
            by,
            time: 0,
            strays,
            ranks,
            taken,
            figures: Figures::default(),
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.time += seconds * 1000;
        self.master.clock += seconds as i64;
        self.replica.clock += seconds as i64;
    }

    fn now(&self) -> Now {
        Now {
            tick: Tick(self.time),
            wall: DateTime(START + (self.time / 1000) as i64),
        }
    }

    /// A run of one relation, to its end or until the process dies. Meanwhile clients go on.
    fn run(
        &mut self,
        observes: bool,
        rng: &mut Rng,
        mut faults: impl FnMut(&mut Rng) -> Fault,
        busy: bool,
    ) {
        let mut session: Box<dyn Session> = if observes {
            let options = PullOptions {
                version: self.version,
                batch: 3,
                in_flight: 2,
                ..PullOptions::new("m", Peer::new("m").colliding(settling()), PullStrategy::Get)
            };
            Box::new(Pull::new(self.site.node.clone(), options).observing())
        } else {
            Box::new(Publication::new(PublicationOptions {
                version: self.version,
                batch: 3,
                ..PublicationOptions::new("r")
            }))
        };
        let (mut ticket, mut under_way) = (0, std::collections::VecDeque::new());
        for _ in 0..3000 {
            let now = self.now();
            let mut cx = SessionContext {
                now,
                store: &self.site.disk,
                random: &mut self.site.rng,
            };
            match session.poll(&mut cx, Ticket(ticket)).unwrap() {
                Step::Send(message) => {
                    under_way.push_back((Ticket(ticket), *message));
                    ticket += 1;
                    continue;
                }
                Step::Done(report) => {
                    assert!(report.counts.add_up() && under_way.is_empty());
                    return;
                }
                _ => {}
            }
            let (answered, message) = under_way.pop_front().expect("it waits for nothing");
            let traced = message.clone();
            let mut fault = faults(rng);
            // What comes twice, and late, only an Import without replacing can stand.
            let imports = message
                .batch
                .iter()
                .all(|item| item.operation == Operation::IMPORT);
            if fault == Fault::Late && (observes || !imports) {
                fault = Fault::Before;
            }
            self.figures.losses += usize::from(fault != Fault::None);
            let server = if observes {
                &mut self.master
            } else {
                &mut self.replica
            };
            let answer = match fault {
                Fault::Dead => {
                    self.site.restart();
                    return;
                }
                Fault::Before => None,
                Fault::Late => {
                    self.strays.push(message);
                    None
                }
                Fault::Behind => Some(server.answer(&message)).and(None),
                Fault::None => Some(server.answer(&message)),
            };
            crate::trace(|| {
                let asked: Vec<String> = message_words(&traced);
                let told = answer.iter().flat_map(|answer| &answer.batch);
                let told: Vec<String> = told
                    .map(|item| {
                        item.result_message
                            .as_ref()
                            .map_or("good".into(), ToString::to_string)
                    })
                    .collect();
                format!("{} s, {fault:?}: {asked:?} {told:?}", self.time / 1000)
            });
            let lost = answer.is_none();
            let mut cx = SessionContext {
                now,
                store: &self.site.disk,
                random: &mut self.site.rng,
            };
            session
                .answer(
                    &mut cx,
                    answered,
                    answer.ok_or_else(|| Lost("planned".into())),
                )
                .unwrap();
            if lost {
                for (ticket, _) in under_way.drain(..) {
                    session
                        .answer(&mut cx, ticket, Err(Lost("planned".into())))
                        .unwrap();
                }
            }
            self.watch();
            if busy && rng.one_in(4) {
                self.clients(rng);
            }
        }
        panic!("it does not come to an end");
    }

    /// No state of a copy goes back here; what own clients do with dates is theirs.
    fn watch(&mut self) {
        let now = self.now().wall;
        for record in self
            .site
            .records()
            .into_iter()
            .filter(|record| &*record.id.server == "m")
        {
            let Some(state) = record.state(now) else {
                continue;
            };
            let rank = lifecycle::Rank::of(state);
            let before = self.ranks.insert(record.identifier.to_string(), rank);
            assert!(
                before.is_none_or(|before| before.may_become(rank)),
                "{} went back: {before:?} {rank:?}",
                record.id
            );
        }
    }

    /// What clients do, somewhere.
    fn clients(&mut self, rng: &mut Rng) {
        match rng.below(10) {
            0..4 => {
                let now = self.now();
                writes::random(&mut self.site, rng, now);
            }
            4..8 => self.at_master(rng),
            8 => {
                let alive = self
                    .replica
                    .things
                    .iter()
                    .filter(|(_, thing)| thing.object.is_some());
                let names: Vec<String> = alive.map(|(name, _)| name.clone()).collect();
                if !names.is_empty() && rng.one_in(3) {
                    let name = &names[rng.below(names.len())];
                    if self.replica.event(name, &lifecycle::Event::Destroy).is_ok() {
                        self.figures.destroyed += 1;
                        self.taken.push(name.clone());
                    }
                }
            }
            _ => {
                if !self.strays.is_empty() {
                    let at = rng.below(self.strays.len());
                    let stray = self.strays.swap_remove(at);
                    self.replica.answer(&stray);
                    self.figures.strays += 1;
                }
            }
        }
        self.pass(rng.below(30) as u64);
    }

    fn at_master(&mut self, rng: &mut Rng) {
        let names: Vec<String> = self.master.things.keys().cloned().collect();
        if names.len() < 12 && rng.one_in(3) || names.is_empty() {
            let attributes = Attributes::new()
                .with(V::ObjectGroup("theirs".into()))
                .with(V::CryptographicUsageMask(CryptographicUsageMask::ENCRYPT));
            let request =
                RegisterRequest::of(writes::key(1000 + rng.next() % (1 << 40)), attributes);
            let item = RequestItem::new(&request, context(Version::V1_4)).unwrap();
            self.master
                .answer(&RequestMessage::new(Version::V1_4, vec![item]));
            return;
        }
        let name = &names[rng.below(names.len())];
        let _ = match rng.below(8) {
            0 => self.master.event(name, &lifecycle::Event::Activate),
            1 => self
                .master
                .event(name, &writes::revoke(RevocationReasonCode::SUPERSEDED)),
            2 => self
                .master
                .event(name, &writes::revoke(RevocationReasonCode::KEY_COMPROMISE)),
            3 => self.master.event(name, &lifecycle::Event::Destroy),
            4 => {
                // Its clock is set.
                self.master.clock += rng.below(2000) as i64 - 1000;
                self.figures.jumps += 1;
                Ok(())
            }
            _ => {
                let group = format!("g{}", rng.below(5));
                self.master.write(name, |attributes| {
                    attributes.remove(tag::OBJECT_GROUP);
                    attributes.push(V::ObjectGroup(group.as_str().into()));
                })
            }
        };
    }

    /// Everything works again, long enough for whatever is tried again.
    fn heal(&mut self, rng: &mut Rng) {
        let _ = std::mem::take(&mut self.strays);
        // Full passes come of themselves: its clock may have been anywhere.
        for _ in 0..6 {
            self.pass(90_000);
            self.run(true, rng, |_| Fault::None, false);
            self.run(false, rng, |_| Fault::None, false);
        }
    }

    fn check(&mut self) {
        self.master.settle();
        self.replica.settle();
        let now = self.now().wall;
        let missing = self
            .site
            .disk
            .view::<_, Error>(|snapshot| ForeignMaster::missing(snapshot, "m"))
            .unwrap();
        for (name, thing) in &self.master.things {
            let id = ObjectId {
                server: "m".into(),
                instance: Vec::new(),
                identifier: name.as_str().into(),
            };
            let Some((number, record)) = self.site.record(&id) else {
                // In 1.x nobody finds what was destroyed before it was seen.
                assert!(thing.object.is_none(), "{name} never came");
                continue;
            };
            assert_eq!(record.state(now), Some(thing.state()), "{name}");
            assert_eq!(
                groups(&record.attributes),
                groups(&thing.attributes),
                "{name}"
            );
            let (_, object) = self.whole(number);
            assert_eq!(object, thing.object, "{name}");
            assert!(!missing.contains(&id), "{name} is there");
            self.figures.compared += 1;
        }
        for record in self.site.records() {
            let (number, _) = self.site.record(&record.id).unwrap();
            if &*record.id.server == "m" && !self.master.things.contains_key(&*record.id.identifier)
            {
                // It has forgotten it: nobody knows that it was destroyed.
                if !record.is_destroyed() {
                    assert!(
                        missing.contains(&record.id) && self.whole(number).1.is_some(),
                        "{} is neither named nor kept",
                        record.id
                    );
                    self.figures.missing += 1;
                }
            }
            self.published(&record, now);
        }
        if self.by == Operation::REGISTER {
            // Only probes are in no group.
            let left = self
                .replica
                .things
                .values()
                .filter(|thing| thing.object.is_some() && groups(&thing.attributes).is_empty());
            assert_eq!(left.count(), 0, "a probe was left there");
        }
        let retries = self
            .site
            .disk
            .view::<_, Error>(|snapshot| ForeignMaster::retries(snapshot, "m"))
            .unwrap();
        assert!(retries.is_empty(), "{retries:?}");
    }

    fn whole(
        &self,
        number: keyferry_store::RecordNumber,
    ) -> (keyferry_store::Record, Option<Object>) {
        use keyferry_store::SnapshotExt;
        self.site
            .disk
            .view::<_, keyferry_store::Error>(|snapshot| snapshot.whole(number))
            .unwrap()
            .unwrap()
    }

    /// What there should be of an object at the replica.
    fn published(&mut self, record: &keyferry_store::Record, now: DateTime) {
        let (named, there) = self
            .site
            .disk
            .view::<_, Error>(|snapshot| {
                let named = ForeignReplica::retries(snapshot, "r")?
                    .iter()
                    .any(|retry| retry.id == record.id);
                Ok((named, identifier_at_peer(snapshot, "r", &record.id)?))
            })
            .unwrap();
        let (number, _) = self.site.record(&record.id).unwrap();
        let object = self.whole(number).1;
        if self.by == Operation::REGISTER {
            let mine = |thing: &&crate::foreign::Thing| {
                object.is_some()
                    && thing.object == object
                    && !groups(&thing.attributes).is_empty()
                    && groups(&thing.attributes) == groups(&record.attributes)
            };
            let with_marker = self.replica.things.values().filter(mine).count();
            let records = self.site.records();
            let alike = records.iter().filter(|other| {
                let (number, _) = self.site.record(&other.id).unwrap();
                self.whole(number).1 == object
                    && groups(&other.attributes) == groups(&record.attributes)
            });
            assert!(with_marker <= alike.count(), "{} is doubled", record.id);
        }
        let Some(there) = there else {
            assert!(
                named || record.is_destroyed(),
                "{} is neither there nor named",
                record.id
            );
            return;
        };
        let thing = &self.replica.things[&*there];
        let state = record.state(now).unwrap();
        if self.taken.contains(&there.to_string()) {
            assert!(
                thing.object.is_none(),
                "{} was brought to life again",
                record.id
            );
            // What has not changed here since, nobody looks at there.
            self.figures.named += usize::from(named);
            return;
        }
        if named {
            self.figures.named += 1;
            return;
        }
        assert_eq!(thing.state(), state, "{}", record.id);
        if object.is_some() {
            assert_eq!(
                groups(&thing.attributes),
                groups(&record.attributes),
                "{}",
                record.id
            );
            assert_eq!(thing.object, object, "{}", record.id);
        }
        self.figures.compared += 1;
    }
}

/// The operations of a message, and what they are about.
fn message_words(message: &RequestMessage) -> Vec<String> {
    let cx = context(message.version().unwrap());
    let about = |item: &RequestItem| match item.operation {
        Operation::IMPORT => item
            .payload::<ImportRequest>(cx)
            .ok()
            .map(|request| request.unique_identifier),
        Operation::ACTIVATE => item
            .payload::<ActivateRequest>(cx)
            .ok()
            .and_then(|request| request.unique_identifier),
        Operation::REVOKE => item
            .payload::<RevokeRequest>(cx)
            .ok()
            .and_then(|request| request.unique_identifier),
        Operation::DESTROY => item
            .payload::<DestroyRequest>(cx)
            .ok()
            .and_then(|request| request.unique_identifier),
        Operation::GET_ATTRIBUTES => item
            .payload::<GetAttributesRequest>(cx)
            .ok()
            .and_then(|request| request.unique_identifier),
        _ => None,
    };
    message
        .batch
        .iter()
        .map(|item| {
            format!(
                "{} {:?}",
                item.operation,
                about(item).and_then(|id| id.as_text().map(str::to_owned))
            )
        })
        .collect()
}

fn settling() -> Collisions {
    Collisions {
        identifier: OnIdentifier::Assign,
        name: OnName::Park,
    }
}

fn groups(attributes: &Attributes) -> Vec<String> {
    let mut all: Vec<String> = attributes
        .all(tag::OBJECT_GROUP)
        .map(|group| format!("{group:?}"))
        .collect();
    all.sort();
    all
}

fn random(seed: u64) -> Figures {
    let mut rng = Rng(seed);
    let mut ring = Ring::new(&mut rng);
    for _ in 0..20 + rng.below(30) {
        for _ in 0..rng.below(5) {
            ring.clients(&mut rng);
        }
        let faults = |rng: &mut Rng| match rng.below(16) {
            0 => Fault::Before,
            1 => Fault::Behind,
            2 => Fault::Late,
            3 => Fault::Dead,
            _ => Fault::None,
        };
        let observes = rng.one_in(2);
        ring.run(observes, &mut rng, faults, true);
        ring.pass(rng.below(100) as u64);
    }
    ring.heal(&mut rng);
    ring.check();
    ring.figures
}

#[cfg_attr(not(keyferry_planted), test)]
fn random_foreign_runs() {
    let runs = crate::number("SIM_RUNS").unwrap_or(100);
    let first = crate::number("SIM_SEED").unwrap_or(1);
    let mut sum = Figures::default();
    for seed in first..first + runs {
        let one = match std::panic::catch_unwind(|| random(seed)) {
            Ok(one) => one,
            Err(_) => panic!("the foreign run with SIM_SEED={seed} SIM_RUNS=1 failed"),
        };
        sum.losses += one.losses;
        sum.strays += one.strays;
        sum.destroyed += one.destroyed;
        sum.missing += one.missing;
        sum.named += one.named;
        sum.compared += one.compared;
        sum.jumps += one.jumps;
    }
    println!("{runs} foreign runs: {sum:?}");
    if runs >= 100 {
        let Figures {
            losses,
            strays,
            destroyed,
            missing,
            named,
            compared,
            jumps,
        } = sum;
        assert!(
            [losses, strays, destroyed, missing, named, compared, jumps]
                .iter()
                .all(|n| *n > 0)
        );
    }
}

/// Our check shows nothing there; an Import of ours that was late arrives, and a client of the foreign server destroys what it brought; then our
/// next Import arrives.
#[cfg_attr(not(keyferry_planted), test)]
fn a_foreign_client_that_destroys_between_our_check_and_our_import() {
    for version in [Version::V1_4, Version::V2_1] {
        let mut rng = Rng(7);
        let mut ring = Ring::new(&mut rng);
        (ring.by, ring.version) = (Operation::IMPORT, version);
        ForeignReplica::end(&ring.site.disk, "r").unwrap();
        ForeignReplica::publish(
            &ring.site.disk,
            "r",
            "r",
            &ForeignReplicaOptions::default(),
            DateTime(START),
        )
        .unwrap();
        let now = ring.now();
        assert!(writes::make(
            &mut ring.site,
            now,
            "k",
            5,
            Attributes::new().with(V::ObjectGroup("ours".into()))
        ));
        let mut sent = 0;
        ring.run(
            false,
            &mut rng,
            |_| {
                sent += 1;
                if sent == 2 {
                    Fault::Late
                } else if sent == 4 {
                    Fault::Dead
                } else {
                    Fault::None
                }
            },
            false,
        );
        // It was lost, looked for, and not found; before it goes once more:
        let stray = ring.strays.pop().expect("the first Import is on its way");
        ring.replica.answer(&stray);
        ring.replica.event("k", &lifecycle::Event::Destroy).unwrap();
        for round in 0..3 {
            ring.pass(5000);
            ring.run(false, &mut rng, |_| Fault::None, false);
            let now = ring.now();
            let id = ring.site.records()[0].id.clone();
            writes::change(&mut ring.site, now, &id, |record| {
                record
                    .attributes
                    .set(V::ContactInformation(format!("{round}").as_str().into()));
                Ok(())
            });
        }
        assert!(
            ring.replica.things["k"].object.is_none(),
            "{version}: it is alive again"
        );
        assert_eq!(ring.replica.things.len(), 1);
        let retries = ring
            .site
            .disk
            .view::<_, Error>(|snapshot| ForeignReplica::retries(snapshot, "r"))
            .unwrap();
        assert_eq!(retries.len(), 1, "{version}: and it is named");
        assert_eq!(
            ring.site.records()[0].attributes.state(),
            Some(State::PRE_ACTIVE),
            "{version}: here nothing happens"
        );
    }
}
