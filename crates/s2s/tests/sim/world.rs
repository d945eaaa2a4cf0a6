//! Sites, what lies between them, and who follows whom.

use crate::rng::Rng;
use crate::site::{START, Site, identity};
use keyferry_kmip::*;
use keyferry_s2s::{Step, *};
use keyferry_store::Record;
use keyferry_ttlv::Version;
use std::collections::{HashSet, VecDeque};

/// One server follows another.
pub struct Link {
    pub name: String,
    pub replica: usize,
    pub issuer: usize,
    pub options: FollowOptions,
    pub session: Option<Live>,
}

/// A session that runs.
pub struct Live {
    session: Follow,
    ticket: u64,
    under_way: VecDeque<(Ticket, RequestMessage)>,
}

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
    pub cut: HashSet<(usize, usize)>,
    /// Messages that arrive late, and the links that they are of.
    pub strays: Vec<(usize, RequestMessage)>,
    /// Copies of some time ago, and the links whose issuers made them.
    pub kept: Vec<(usize, Vec<(Record, Option<Object>)>)>,
    /// Links that failed since the world was last settled: they are not tried again at once.
    pub trouble: HashSet<usize>,
    /// Asked of every answer that an issuer gives: the link, and what was asked and answered.
    pub answers: Vec<(usize, RequestMessage, ResponseMessage)>,
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
            answers: Vec::new(),
        }
    }

    pub fn now(&self, site: usize) -> Now {
        let seconds = i64::try_from(self.time / 1000).unwrap();
        Now { tick: Tick(self.time), wall: DateTime(START + seconds + self.sites[site].skew) }
    }

    pub fn link(&mut self, name: &str, replica: usize, issuer: usize, from: Peer, selection: Selection) -> usize {
        let mut options = FollowOptions::new(name, from).every(1000);
        options.batch = 3;
        options.in_flight = 2;
        let what = Following { selection, ..Following::default() };
        let server = self.sites[issuer].name.clone();
        let now = self.now(replica).wall;
        Master::follow(&self.sites[replica].disk, name, &server, &what, now).unwrap();
        self.links.push(Link { name: name.into(), replica, issuer, options, session: None });
        self.links.len() - 1
    }

    /// Drops the sessions of a site, as a crash does.
    pub fn stop(&mut self, site: usize) {
        self.links.iter_mut().filter(|link| link.replica == site).for_each(|link| link.session = None);
    }

    pub fn deliver(&mut self, from: usize, to: usize, message: &RequestMessage) -> Option<ResponseMessage> {
        if !self.sites[to].up {
            return None;
        }
        let caller = identity(&self.sites[from].name);
        let now = self.now(to);
        Some(self.sites[to].answer(&caller, now, message))
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
        let own = issuer.records().into_iter().filter(|record| issuer.node.issues(record));
        let copies = own.map(|record| {
            let object = issuer.material(&record.id);
            (record, object)
        });
        self.kept.push((at, copies.collect()));
    }

    /// Lets copies that were kept arrive as Imports of their issuer.
    pub fn old_copies(&mut self, at: usize, rng: &mut Rng) -> bool {
        let of_link: Vec<usize> = (0..self.kept.len()).filter(|n| self.kept[*n].0 == at).collect();
        if of_link.is_empty() {
            return false;
        }
        let copies = self.kept[of_link[rng.below(of_link.len())]].1.clone();
        let (replica, issuer) = (self.links[at].replica, self.links[at].issuer);
        let terms = Terms {
            strategy: Strategy::Import,
            version: Version::V2_1,
            keyferry: true,
            session: None,
            dry_run: false,
            wrapped: false,
        };
        for (record, object) in copies {
            let item = request_item(terms, record, object).unwrap();
            self.deliver(issuer, replica, &RequestMessage::new(Version::V2_1, vec![item]));
        }
        true
    }

    /// One step of a link; `false` when it waits for time to pass.
    pub fn step(&mut self, at: usize, fault: Fault) -> bool {
        let (replica, issuer) = (self.links[at].replica, self.links[at].issuer);
        if !self.sites[replica].up {
            return false;
        }
        let now = self.now(replica);
        let link = &mut self.links[at];
        let site = &mut self.sites[replica];
        let live = link.session.get_or_insert_with(|| Live {
            session: Follow::new(site.node.clone(), link.options.clone()),
            ticket: 0,
            under_way: VecDeque::new(),
        });
        let mut cx = Cx { now, store: &site.disk, random: &mut site.rng };
        match live.session.poll(&mut cx, Ticket(live.ticket)) {
            Ok(Step::Send(message)) => {
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
        let Some((ticket, message)) = live.under_way.pop_front() else { return true };
        let is_cut = self.cut.contains(&(replica, issuer)) || !self.sites[issuer].up;
        let fault = if is_cut && fault == Fault::None { Fault::Before } else { fault };
        if fault == Fault::Dead {
            self.stop(replica);
            self.sites[replica].restart();
            return true;
        }
        if fault == Fault::Late {
            self.strays.push((at, message.clone()));
        }
        let arrives = matches!(fault, Fault::None | Fault::Behind) && !is_cut;
        let answer = if arrives { self.deliver(replica, issuer, &message) } else { None };
        if let Some(answer) = &answer {
            let (name, issuer) = (self.links[at].name.clone(), &self.sites[issuer]);
            crate::trace(|| {
                use keyferry_store::StoreExt;
                let master = self.sites[replica].disk.view::<_, Error>(|s| Master::find(s, &name)).unwrap();
                let slave = issuer.disk.view::<_, Error>(|s| Slave::find(s, &self.sites[replica].name, &name)).unwrap();
                format!("link {at} {master:?} {slave:?}")
            });
            self.answers.push((at, message, answer.clone()));
        }
        let link = &mut self.links[at];
        let site = &mut self.sites[replica];
        let Some(live) = &mut link.session else { return true };
        let mut cx = Cx { now, store: &site.disk, random: &mut site.rng };
        let answer = answer.filter(|_| fault == Fault::None);
        let lost = answer.is_none();
        let taken = live.session.answer(&mut cx, ticket, answer.ok_or_else(|| Lost("planned".into())));
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

    /// Lets all links run until they wait.
    pub fn settle(&mut self) {
        self.trouble.clear();
        for _ in 0..2000 {
            let mut any = false;
            for at in 0..self.links.len() {
                any |= !self.trouble.contains(&at) && self.step(at, Fault::None);
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
        self.step(at, fault);
    }
}
