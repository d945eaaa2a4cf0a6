//! Sites, what lies between them, and who follows whom.

use crate::check::changes;
use crate::forger::Forger;
use crate::rng::Rng;
use crate::site::{START, Site, identity};
use keyferry_kmip::*;
use keyferry_s2s::{Step, *};
use keyferry_store::{ObjectId, Record, Store, StoreExt};
use keyferry_ttlv::Version;
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering;

/// One server follows another.
pub struct Link {
    pub name: String,
    pub replica: usize,
    pub issuer: usize,
    pub options: FollowOptions,
    pub session: Option<Live>,
    /// The issuer's pokes, over a connection that it has opened: where there is one, the replica asks but once an hour by itself.
    pub pokes: Option<Poking>,
}

/// A session that runs.
pub struct Live {
    session: Follow,
    ticket: u64,
    under_way: VecDeque<(Ticket, RequestMessage)>,
    /// The issuer asks, until it turns the connection back.
    turned: Option<Poking>,
}

/// The issuer's side of a connection on which it asks.
pub struct Poking {
    session: Poke,
    ticket: u64,
}

impl Poking {
    pub fn new(session: Poke) -> Poking {
        Poking { session, ticket: 0 }
    }
}

/// How a replica hears that there is something new.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hearing {
    /// It asks every second.
    Asks,
    /// It turns the connection round.
    Turns,
    /// The issuer pokes it over a connection of its own.
    Poked,
}

/// Milliseconds after which an issuer pokes without a reason, too.
const BEAT: u64 = 60_000;

/// What the network does to a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    None,
    /// It never arrives.
    Before,
    /// It arrives, and its answer is lost.
    Behind,
    /// It is late: the sender takes it for lost, and it arrives at some time, perhaps twice.
    Late,
    /// The replica's process dies instead.
    Dead,
}

pub struct World {
    pub sites: Vec<Site>,
    pub links: Vec<Link>,
    /// Milliseconds.
    pub time: u64,
    /// From whom to whom nothing arrives.
    pub cut: HashSet<(usize, usize)>,
    /// Messages that arrive late, and the links that they are of.
    pub strays: Vec<(usize, RequestMessage)>,
    /// Copies of some time ago, and the links whose issuers made them.
    pub kept: Vec<(usize, Vec<(Record, Option<Object>)>)>,
    /// Links that failed since the world was last settled: they are not tried again at once.
    pub trouble: HashSet<usize>,
    /// The links whose relation its issuer has ended.
    pub ended: HashSet<usize>,
    /// The links whose relation its replica has ended or paused.
    pub left: HashSet<usize>,
    /// Asked of every answer that an issuer gives: the link, and what was asked and answered.
    pub answers: Vec<(usize, RequestMessage, ResponseMessage)>,
    /// The site that lies, and how it does.
    pub adversary: Option<Adversary>,
}

/// A site whose messages are forged on their way.
pub struct Adversary {
    pub at: usize,
    pub forger: Forger,
    /// Whether it has gone silent.
    pub silent: bool,
    /// What its messages have done that they may not do.
    pub harm: Vec<String>,
    /// What its messages have changed of the objects that restored servers issue, which these must have said once themselves.
    pub own_words: Vec<(usize, Record)>,
    /// What it was offered by anybody: whoever has the issuer's receipt of a copy may hear from the issuer, too.
    pub offered: HashSet<Vec<u8>>,
}

impl Adversary {
    pub fn new(at: usize, forger: Forger) -> Adversary {
        Adversary {
            at,
            forger,
            silent: false,
            harm: Vec::new(),
            own_words: Vec::new(),
            offered: HashSet::new(),
        }
    }

    /// Notes what an answer offers it, and that it tells of what was never offered.
    fn hear(&mut self, answer: &ResponseMessage) {
        self.forger.learn(&answer.to_frame().unwrap());
        for item in answer
            .batch
            .iter()
            .filter(|item| item.operation == Some(FOLLOW))
        {
            let Some(payload) = &item.response_payload else {
                continue;
            };
            for told in changes(payload.bytes()) {
                match told.kind {
                    1 if !told.destroyed => drop(self.offered.insert(told.id)),
                    1 | 2 if !self.offered.contains(&told.id) => {
                        let harm =
                            format!("it was told of {:?}, which it was never offered", told.id);
                        self.harm.push(harm);
                    }
                    _ => {}
                }
            }
        }
    }
}

impl World {
    pub fn new(sites: Vec<Site>) -> World {
        World {
            sites,
            links: Vec::new(),
            time: 0,
            cut: HashSet::new(),
            strays: Vec::new(),
            kept: Vec::new(),
            trouble: HashSet::new(),
            ended: HashSet::new(),
            left: HashSet::new(),
            answers: Vec::new(),
            adversary: None,
        }
    }

    /// Whether the relation of a link goes on.
    pub fn is_followed(&self, at: usize) -> bool {
        !self.ended.contains(&at) && !self.left.contains(&at)
    }

    pub fn now(&self, site: usize) -> Now {
        let seconds = i64::try_from(self.time / 1000).unwrap();
        Now {
            tick: Tick(self.time),
            wall: DateTime(START + seconds + self.sites[site].skew),
        }
    }

    pub fn link(
        &mut self,
        name: &str,
        replica: usize,
        issuer: usize,
        from: Peer,
        selection: Selection,
    ) -> usize {
        let mut options = FollowOptions::new(name, from).every(1000);
        options.batch = 3;
        options.in_flight = 2;
        let what = UpstreamOptions {
            selection,
            ..UpstreamOptions::default()
        };
        let server = self.sites[issuer].name.clone();
        let now = self.now(replica).wall;
        Upstream::follow(&self.sites[replica].disk, name, &server, &what, now).unwrap();
        self.links.push(Link {
            name: name.into(),
            replica,
            issuer,
            options,
            session: None,
            pokes: None,
        });
        self.links.len() - 1
    }

    pub fn hearing(&mut self, at: usize, how: Hearing) {
        let link = &mut self.links[at];
        match how {
            Hearing::Asks => {}
            Hearing::Turns => link.options.turns = true,
            Hearing::Poked => {
                link.options.every = Some(3_600_000);
                let poke = Poke::new(
                    &self.sites[link.issuer].node,
                    self.sites[link.replica].name.as_str(),
                    Place::default(),
                );
                link.pokes = Some(Poking::new(poke.every(BEAT)));
            }
        }
    }

    /// Drops the sessions of a site, and the connections that it has with others, as a crash does.
    pub fn stop(&mut self, site: usize) {
        for link in &mut self.links {
            if link.replica == site {
                link.session = None;
            }
            if link.issuer == site {
                link.session.iter_mut().for_each(|live| live.turned = None);
            }
            if link.pokes.is_some() && [link.replica, link.issuer].contains(&site) {
                let poke = Poke::new(
                    &self.sites[link.issuer].node,
                    self.sites[link.replica].name.as_str(),
                    Place::default(),
                );
                link.pokes = Some(Poking::new(poke.every(BEAT)));
            }
        }
    }

    pub fn deliver(
        &mut self,
        from: usize,
        to: usize,
        message: &RequestMessage,
    ) -> Option<ResponseMessage> {
        if !self.sites[to].up {
            return None;
        }
        let caller = identity(&self.sites[from].name);
        let now = self.now(to);
        let Some(adversary) = &mut self.adversary else {
            return Some(self.sites[to].answer(&caller, now, message));
        };
        if adversary.at == from {
            return Some(self.attack(to, &caller, now, message));
        }
        let answer = self.sites[to].answer(&caller, now, message);
        if adversary.at != to {
            return Some(answer);
        }
        adversary.forger.learn(&message.to_frame().unwrap());
        if adversary.silent || adversary.forger.rng.one_in(4) {
            return Some(answer);
        }
        Some(adversary.forger.forge_response(&answer))
    }

    /// Lets a message of the adversary arrive, forged or not. What a server issues does not change by it, unless the server has asked for what it
    /// lost.
    fn attack(
        &mut self,
        to: usize,
        caller: &Identity,
        now: Now,
        message: &RequestMessage,
    ) -> ResponseMessage {
        let Some(adversary) = &mut self.adversary else {
            return self.sites[to].answer(caller, now, message);
        };
        let forged = if adversary.silent || adversary.forger.rng.one_in(4) {
            message.clone()
        } else {
            adversary.forger.forge_request(message)
        };
        let name = self.sites[adversary.at].name.clone();
        let site = &mut self.sites[to];
        let issued = |site: &Site| {
            let mut records = site.records();
            records.retain(|record| site.node.issues(record));
            records
        };
        let (before, owed, head) = (issued(site), site.owes(), site.incarnation());
        let answer = site.answer(caller, now, &forged);
        adversary.hear(&answer);
        if !owed.contains(&name) {
            let after = issued(site);
            if before != after && site.was_restored {
                // It may have heard its own words again, as their receipts show.
                let heard = after.into_iter().filter(|record| !before.contains(record));
                adversary.own_words.extend(heard.map(|record| (to, record)));
            } else if before != after {
                let operation = forged.batch.first().map(|item| item.operation);
                let harm = format!("{name} changed what {} issues by {operation:?}", site.name);
                adversary.harm.push(harm);
            }
            let waits = owed != site.owes() || head != site.incarnation();
            // Nobody has said that the disk was put back, and the adversary may know it.
            if waits && site.lost != Some(head) {
                let harm = format!("{name} made {} wait: {:?}", site.name, site.owes());
                adversary.harm.push(harm);
            }
        }
        answer
    }

    /// Lets a late message arrive. Nobody waits for its answer.
    pub fn stray(&mut self, which: usize, again: bool) {
        let (at, message) = self.strays[which].clone();
        if !again {
            self.strays.remove(which);
        }
        let (replica, issuer) = (self.links[at].replica, self.links[at].issuer);
        if let Some(answer) = self.deliver(replica, issuer, &message) {
            self.answers.push((at, message, answer));
        }
    }

    /// Keeps what the issuer of a link has now.
    pub fn keep_copies(&mut self, at: usize) {
        let issuer = &self.sites[self.links[at].issuer];
        let own = issuer
            .records()
            .into_iter()
            .filter(|record| issuer.node.issues(record));
        let copies = own.map(|record| {
            let object = issuer.material(&record.id);
            (record, object)
        });
        self.kept.push((at, copies.collect()));
    }

    /// Lets copies that were kept arrive as Imports of their issuer.
    pub fn old_copies(&mut self, at: usize, rng: &mut Rng) -> bool {
        let of_link: Vec<usize> = (0..self.kept.len())
            .filter(|n| self.kept[*n].0 == at)
            .collect();
        if of_link.is_empty() {
            return false;
        }
        let copies = self.kept[of_link[rng.below(of_link.len())]].1.clone();
        let (replica, issuer) = (self.links[at].replica, self.links[at].issuer);
        for (record, object) in copies {
            self.import(issuer, replica, record, object);
        }
        true
    }

    /// Lets a site send what it holds of an object to another one, as an Import.
    pub fn push(&mut self, from: usize, to: usize, id: &ObjectId) {
        let site = &self.sites[from];
        let (record, object) = (site.record(id).unwrap().1, site.material(id));
        self.import(from, to, record, object);
    }

    fn import(&mut self, from: usize, to: usize, record: Record, object: Option<Object>) {
        let terms = SendOptions {
            strategy: Strategy::Import,
            version: Version::V2_1,
            keyferry: true,
            session: None,
            dry_run: false,
            wrapped: false,
        };
        let site = &self.sites[from];
        let sender = (&Sender::of(&site.node.home), &site.disk as &dyn Store);
        let item = request_item(terms, record, object, sender).unwrap();
        let message = RequestMessage::new(Version::V2_1, vec![item]);
        self.deliver(from, to, &message);
    }

    /// One step of a link; `false` when it waits for time to pass.
    pub fn step(&mut self, at: usize, fault: Fault) -> bool {
        let (replica, issuer) = (self.links[at].replica, self.links[at].issuer);
        if !self.sites[replica].up {
            return false;
        }
        if self.links[at]
            .session
            .as_ref()
            .is_some_and(|live| live.turned.is_some())
        {
            return self.poke(at, true, fault);
        }
        let now = self.now(replica);
        let link = &mut self.links[at];
        let site = &mut self.sites[replica];
        let live = link.session.get_or_insert_with(|| Live {
            session: Follow::new(site.node.clone(), link.options.clone()),
            ticket: 0,
            under_way: VecDeque::new(),
            turned: None,
        });
        let mut cx = SessionContext {
            now,
            store: &site.disk,
            random: &mut site.rng,
        };
        match live.session.poll(&mut cx, Ticket(live.ticket)) {
            Ok(Step::Send(message) | Step::Turn(message)) => {
                live.under_way.push_back((Ticket(live.ticket), *message));
                live.ticket += 1;
                if fault == Fault::None {
                    return true;
                }
            }
            Ok(Step::Wait(until)) if live.under_way.is_empty() => {
                return until.is_some_and(|until| until <= now.tick);
            }
            Ok(Step::Wait(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(_) => {
                link.session = None;
                return false;
            }
        }
        let Some((ticket, message)) = live.under_way.pop_front() else {
            return true;
        };
        let is_cut = self.cut.contains(&(replica, issuer)) || !self.sites[issuer].up;
        let fault = if fault == Fault::None {
            self.way(replica, issuer)
        } else {
            fault
        };
        if fault == Fault::Dead {
            self.stop(replica);
            self.sites[replica].restart();
            return true;
        }
        // A connection that is turned round late is one that nobody reads.
        if fault == Fault::Late && !asks_to_turn(&message) {
            self.strays.push((at, message.clone()));
        }
        let arrives = matches!(fault, Fault::None | Fault::Behind) && !is_cut;
        let turns = asks_to_turn(&message);
        let answer = match arrives {
            true if turns => {
                let poke = Poke::new(
                    &self.sites[issuer].node,
                    self.sites[replica].name.as_str(),
                    replica_position(&message),
                );
                if let Some(live) = self.links[at]
                    .session
                    .as_mut()
                    .filter(|_| fault == Fault::None)
                {
                    live.turned = Some(Poking::new(poke.every(BEAT).turning_back()));
                }
                Some(accepts(&message))
            }
            true => self.deliver(replica, issuer, &message),
            false => None,
        };
        if let Some(answer) = answer.as_ref().filter(|_| !turns) {
            let (name, issuer) = (self.links[at].name.clone(), &self.sites[issuer]);
            crate::trace(|| {
                let master = self.sites[replica]
                    .disk
                    .view::<_, Error>(|s| Upstream::find(s, &name))
                    .unwrap();
                let slave = issuer
                    .disk
                    .view::<_, Error>(|s| Downstream::find(s, &self.sites[replica].name, &name))
                    .unwrap();
                format!("link {at} {master:?} {slave:?}")
            });
            self.answers.push((at, message, answer.clone()));
        }
        let link = &mut self.links[at];
        let site = &mut self.sites[replica];
        let Some(live) = &mut link.session else {
            return true;
        };
        let mut cx = SessionContext {
            now,
            store: &site.disk,
            random: &mut site.rng,
        };
        let answer = answer.filter(|_| fault == Fault::None);
        let lost = answer.is_none();
        let taken = live.session.answer(
            &mut cx,
            ticket,
            answer.ok_or_else(|| Lost("planned".into())),
        );
        if lost {
            live.under_way.clear();
        }
        if taken.is_err() {
            link.session = None;
        }
        if lost || taken.is_err() {
            self.trouble.insert(at);
        }
        true
    }

    /// What becomes of a question, and its answer.
    fn way(&self, from: usize, to: usize) -> Fault {
        if self.cut.contains(&(from, to)) || !self.sites[from].up || !self.sites[to].up {
            Fault::Before
        } else if self.cut.contains(&(to, from)) {
            Fault::Behind
        } else {
            Fault::None
        }
    }

    /// One step of an issuer's pokes, on the connection that the replica has turned round or on its own.
    fn poke(&mut self, at: usize, turned: bool, fault: Fault) -> bool {
        let (replica, issuer) = (self.links[at].replica, self.links[at].issuer);
        let way = self.way(issuer, replica);
        let fault = if fault == Fault::None || way == Fault::Before {
            way
        } else {
            fault
        };
        let now = self.now(issuer);
        let link = &mut self.links[at];
        let poking = if turned {
            link.session.as_mut().and_then(|live| live.turned.take())
        } else {
            link.pokes.take()
        };
        let Some(mut poking) = poking else {
            return false;
        };
        let site = &mut self.sites[issuer];
        let mut cx = SessionContext {
            now,
            store: &site.disk,
            random: &mut site.rng,
        };
        let ticket = Ticket(poking.ticket);
        poking.ticket += 1;
        let step = if site.up {
            poking.session.poll(&mut cx, ticket)
        } else {
            Ok(Step::Wait(None))
        };
        let (mut keeps, mut moves) = (true, true);
        match step {
            Ok(Step::Send(message) | Step::Turn(message)) => {
                let turns = asks_to_turn(&message);
                let answer = match fault {
                    Fault::None | Fault::Behind if turns => Some(accepts(&message)),
                    Fault::None | Fault::Behind => Some(self.hear(replica, issuer, &message)),
                    Fault::Before | Fault::Late | Fault::Dead => None,
                };
                let answer = answer.filter(|_| fault == Fault::None);
                let lost = answer.is_none();
                let site = &mut self.sites[issuer];
                let mut cx = SessionContext {
                    now,
                    store: &site.disk,
                    random: &mut site.rng,
                };
                let taken = poking.session.answer(
                    &mut cx,
                    ticket,
                    answer.ok_or_else(|| Lost("planned".into())),
                );
                // A connection that was turned ends when it is turned back, and when it is lost.
                keeps = !(turned && (turns || lost || taken.is_err()));
                if lost || taken.is_err() {
                    self.trouble.insert(at);
                    moves = turned;
                }
            }
            Ok(Step::Wait(until)) => {
                keeps = !turned || site.up;
                moves = until.is_some_and(|until| until <= now.tick);
            }
            Ok(Step::Done(_)) if turned => keeps = false,
            Ok(Step::Done(_)) => moves = false,
            Ok(other) => panic!("{other:?}"),
            Err(error) => panic!("{error}"),
        }
        let link = &mut self.links[at];
        match (keeps, turned) {
            (true, true) => link.session.as_mut().expect("a session").turned = Some(poking),
            (true, false) => link.pokes = Some(poking),
            (false, _) => {}
        }
        moves
    }

    /// How a replica answers a poke: whatever follows the issuer hears it.
    fn hear(&mut self, replica: usize, issuer: usize, message: &RequestMessage) -> ResponseMessage {
        let of_both = self
            .links
            .iter()
            .filter(|link| (link.replica, link.issuer) == (replica, issuer));
        let flags: Vec<_> = of_both
            .flat_map(|link| &link.session)
            .map(|live| live.session.poked())
            .collect();
        let heard = move |_: &str, _: &Place| {
            flags
                .iter()
                .for_each(|flag| flag.store(true, Ordering::SeqCst))
        };
        let pokes = PokeResponder::new(self.sites[replica].node.clone(), heard);
        let (caller, now) = (identity(&self.sites[issuer].name), self.now(replica));
        let item = &message.batch[0];
        let site = &self.sites[replica];
        let mut random = site.rng.clone();
        let outcome = site.disk.view::<_, Error>(|snapshot| {
            let mut ask = site.ask(snapshot, &caller, item.operation, now, &mut random);
            Ok(pokes.respond(&mut ask, item).expect("a poke"))
        });
        let answer = match outcome.unwrap() {
            Ok(outcome) => outcome.response,
            Err(failure) => ResponseItem::failure(Some(item.operation), &failure, Version::V2_1),
        };
        ResponseMessage::new(Version::V2_1, now.wall, vec![answer])
    }

    /// Lets all links run until they wait.
    pub fn settle(&mut self) {
        self.trouble.clear();
        for _ in 0..2000 {
            let mut any = false;
            for at in 0..self.links.len() {
                any |= !self.trouble.contains(&at)
                    && (self.step(at, Fault::None) | self.poke(at, false, Fault::None));
            }
            if !any {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// A random step.
    pub fn random_step(&mut self, rng: &mut Rng) {
        if self.links.is_empty() {
            return;
        }
        let at = rng.below(self.links.len());
        let fault = match rng.below(24) {
            0 => Fault::Before,
            1 => Fault::Behind,
            2 => Fault::Late,
            3 => Fault::Dead,
            _ => Fault::None,
        };
        if self.links[at].pokes.is_some() && rng.one_in(2) {
            self.poke(at, false, fault);
        } else {
            self.step(at, fault);
        }
    }
}

/// The answer of whoever lets the connection be turned round.
fn accepts(message: &RequestMessage) -> ResponseMessage {
    ResponseMessage::from_frame(&turn_answer(message, DateTime(START)).unwrap()).unwrap()
}
