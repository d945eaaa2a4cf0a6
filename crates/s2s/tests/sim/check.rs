//! What must hold, during a run and at its end.

use crate::world::World;
use keyferry_kmip::spec::State;
use keyferry_kmip::{RequestMessage, ResponseMessage, extension as x, lifecycle};
use keyferry_s2s::*;
use keyferry_store::{
    Descent, Lineage, ObjectId, Record, SnapshotExt, Stamp, Store, StoreExt, descent,
};
use keyferry_ttlv::{Item, Reader, Version};
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

type Id = Vec<u8>;
type Change = (Id, i64, Vec<u8>, i64);

fn id(of: &ObjectId) -> Id {
    of.encoded().unwrap()
}

fn change(of: &ObjectId, stamp: &Stamp) -> Change {
    (
        id(of),
        stamp.epoch,
        stamp.incarnation.clone(),
        stamp.sequence,
    )
}

/// A change that a replica held when its issuer was restored: it may not be lost without a word.
#[derive(Clone)]
struct PendingGiveBack {
    holder: usize,
    issuer: usize,
    id: ObjectId,
    stamp: Stamp,
    lineage: Lineage,
}

#[derive(Default)]
pub struct Check {
    /// The content of every change that an issuer has committed.
    history: HashMap<Change, Vec<u8>>,
    /// How far along each object was seen at each site.
    states: HashMap<(usize, Id), State>,
    /// What was seen of each site's feed.
    heads: HashMap<usize, u64>,
    /// What was offered by way of which link.
    offered: HashSet<(usize, Id)>,
    owed: Vec<PendingGiveBack>,
    pub forks: usize,
    pub tombstones: usize,
    pub withdrawals: usize,
    pub given_back: usize,
    pub compared: usize,
    /// Copies that were found by comparison.
    pub repaired: usize,
    /// Copies that were true at the end, and that were listed as unkept.
    pub kept: usize,
    pub unkept: usize,
    /// The origin whose objects are not compared.
    left_out: Option<&'static str>,
}

/// The effective state as stored.
fn state(record: &Record) -> State {
    record.stored_state().unwrap()
}

impl Check {
    /// Compares all but the objects of one origin.
    pub fn without(origin: &'static str) -> Check {
        Check {
            left_out: Some(origin),
            ..Check::default()
        }
    }

    /// Looks at what has changed everywhere.
    pub fn observe(&mut self, world: &mut World) {
        for (at, request, response) in std::mem::take(&mut world.answers) {
            self.answered(at, &request, &response);
        }
        // What issuers have made first, since others may hold it by now.
        let seen: Vec<_> = (0..world.sites.len())
            .map(|site| (site, self.news(world, site)))
            .collect();
        for own in [true, false] {
            for (site, records) in &seen {
                let node = &world.sites[*site].node;
                records
                    .iter()
                    .filter(|record| node.issues(record) == own)
                    .for_each(|record| self.see(world, *site, record));
            }
        }
    }

    /// What has changed at a site.
    fn news(&mut self, world: &World, at: usize) -> Vec<Record> {
        let site = &world.sites[at];
        let from = self.heads.get(&at).copied().unwrap_or(0);
        let (mut numbers, mut head) = (Vec::new(), from);
        site.disk
            .read(&mut |snapshot| {
                numbers.clear();
                snapshot.feed(from, &mut |row| {
                    numbers.push(row.record);
                    head = row.number;
                    Ok(ControlFlow::Continue(()))
                })
            })
            .unwrap();
        self.heads.insert(at, head);
        let mut news = Vec::new();
        for number in numbers {
            let (record, object) = site
                .disk
                .view::<_, keyferry_store::Error>(|snapshot| Ok(snapshot.whole(number)?.unwrap()))
                .unwrap();
            crate::trace(|| {
                format!(
                    "{} holds {} at {} of {} in {} {}",
                    site.name,
                    record.id,
                    record.stamp.sequence,
                    record.stamp.incarnation[0],
                    state(&record),
                    if record.is_withdrawn() {
                        "withdrawn"
                    } else {
                        ""
                    }
                )
            });
            assert!(
                !(record.is_destroyed() || record.is_withdrawn()) || object.is_none(),
                "{}: {} holds material, and should not",
                site.name,
                record.id
            );
            news.push(record);
        }
        news
    }

    fn see(&mut self, world: &World, at: usize, record: &Record) {
        let site = &world.sites[at];
        let now = state(record);
        let held = self.states.insert((at, id(&record.id)), now);
        if let Some(held) = held {
            let (held, now) = (lifecycle::Rank::of(held), lifecycle::Rank::of(now));
            assert!(
                held.may_become(now),
                "{}: {} went from {held:?} to {now:?}",
                site.name,
                record.id
            );
        }
        let digest = record.copy_digest().unwrap();
        let key = change(&record.id, &record.stamp);
        if site.node.issues(record) {
            let known = self.history.entry(key).or_insert_with(|| digest.clone());
            assert_eq!(
                *known, digest,
                "{}: one change of {} has two contents",
                site.name, record.id
            );
        } else {
            assert_eq!(
                self.history.get(&key),
                Some(&digest),
                "{}: the copy of {} at {:?} is none of its issuer's changes",
                site.name,
                record.id,
                record.stamp.sequence
            );
        }
    }

    /// An issuer has answered by way of a link.
    fn answered(&mut self, at: usize, request: &RequestMessage, response: &ResponseMessage) {
        let Some(item) = response
            .batch
            .first()
            .filter(|item| item.is_success() && item.operation == Some(FOLLOW))
        else {
            self.given_back += usize::from(request.batch[0].operation == GIVE_BACK);
            return;
        };
        let payload = item.response_payload.as_ref().unwrap();
        let asked = request.batch[0].request_payload.bytes();
        crate::trace(|| {
            let told: Vec<String> = changes(payload.bytes())
                .iter()
                .map(|told| {
                    format!(
                        "{}{} {}",
                        told.kind,
                        if told.destroyed { "+" } else { "" },
                        String::from_utf8_lossy(&told.id[told.id.len() - 8..])
                    )
                })
                .collect();
            format!("link {at} answered {told:?}")
        });
        // What it says it holds is as good as offered.
        let r = Reader::new(asked, keyferry_kmip::context(Version::V2_1));
        let mut fields = r.children(Item::parse(asked).unwrap()).unwrap();
        while let Some(field) = fields.step() {
            if field.tag() == x::CLAIM {
                let mut claim = r.children(field).unwrap();
                while let Some(part) = claim.step() {
                    if part.tag() == x::OBJECT_ID {
                        self.offered.insert((at, part.raw().to_vec()));
                    }
                }
            }
        }
        for told in changes(payload.bytes()) {
            match told.kind {
                1 if told.destroyed => {
                    self.tombstones += 1;
                    assert!(
                        self.offered.contains(&(at, told.id.clone())),
                        "a tombstone went where the object was never offered"
                    );
                }
                1 => drop(self.offered.insert((at, told.id))),
                2 => self.withdrawals += 1,
                _ => {}
            }
        }
    }

    /// A site is about to get an older disk: what others hold of its objects must not be lost.
    pub fn restoring(&mut self, world: &World, at: usize) {
        // What was withdrawn since an earlier restore is nobody's any more.
        self.owed
            .retain(|owed| owed.holder != at && owed.issuer != at);
        self.states.retain(|(site, _), _| *site != at);
        self.heads.remove(&at);
        for link in world.links.iter().filter(|link| link.issuer == at) {
            for record in world.sites[link.replica].records() {
                if record.stamp.issuer == *world.sites[at].name && !record.is_withdrawn() {
                    self.owed.push(PendingGiveBack {
                        holder: link.replica,
                        issuer: at,
                        id: record.id,
                        stamp: record.stamp,
                        lineage: record.lineage,
                    });
                }
            }
        }
    }

    /// At the end, when nothing moves any more.
    pub fn end(&mut self, world: &World) {
        Check::compromises_have_spread(world);
        for (at, link) in world.links.iter().enumerate() {
            if world.is_followed(at) {
                self.equal(world, link.replica, link.issuer, &link.name);
            }
        }
        for owed in &self.owed {
            // Nobody asks whoever may not follow any more.
            let may_give_back = world.links.iter().enumerate().any(|(at, link)| {
                (link.replica, link.issuer) == (owed.holder, owed.issuer) && world.is_followed(at)
            });
            if may_give_back {
                self.survived(world, owed);
            }
        }
        for at in (0..world.sites.len()).filter(|_| crate::compares()) {
            self.every_copy_is_true_or_listed(world, at);
        }
    }

    /// What a server lists as not being true, or not known to be.
    fn listed(world: &World, at: usize) -> HashSet<Id> {
        let site = &world.sites[at];
        let unkept = UnkeptCopy::all(&site.node, &site.disk, world.now(at).wall).unwrap();
        let mut listed: HashSet<Id> = unkept.iter().map(|copy| id(&copy.id)).collect();
        site.disk
            .view::<_, Error>(|snapshot| {
                for upstream in Upstream::all(snapshot)? {
                    let relation = &upstream.relation;
                    let missing = objects_missing_at_issuer(snapshot, relation)?;
                    let retries = Retry::all(snapshot, relation)?;
                    let differing = DifferingCopy::all(snapshot, relation)?;
                    let retried = retries.iter().map(|retry| &retry.id);
                    let differs = differing.iter().map(|copy| &copy.id);
                    listed.extend(missing.iter().chain(retried).chain(differs).map(id));
                }
                Ok(())
            })
            .unwrap();
        listed.extend(site.forks().iter().map(|fork| id(&fork.id)));
        listed
    }

    /// Each copy that clients of a server may use is what its issuer holds, or stands on one of the lists of that server.
    fn every_copy_is_true_or_listed(&mut self, world: &World, at: usize) {
        let site = &world.sites[at];
        let scrub = site.node.scrub(&site.disk, usize::MAX, world.now(at).wall);
        let rotten = site
            .disk
            .view::<_, Error>(|snapshot| RottenRecord::all(snapshot));
        assert_eq!(scrub.unwrap().found, 0, "{}: {rotten:?}", site.name);
        let listed = Check::listed(world, at);
        self.unkept += listed.len();
        for copy in site.records() {
            let is_usable = !copy.is_destroyed() && !copy.is_withdrawn();
            if !is_usable || site.node.issues(&copy) || listed.contains(&id(&copy.id)) {
                continue;
            }
            let issuer = world
                .sites
                .iter()
                .find(|site| *site.name == *copy.stamp.issuer);
            let own = issuer
                .and_then(|issuer| issuer.record(&copy.id))
                .map(|(_, own)| own);
            let is_true = own.as_ref().is_some_and(|own| {
                let same = own.stamp == copy.stamp
                    && own.copy_digest().unwrap() == copy.copy_digest().unwrap();
                let (own, here) = (
                    lifecycle::Rank::of(state(own)),
                    lifecycle::Rank::of(state(&copy)),
                );
                same && own.may_become(here)
            });
            assert!(
                is_true,
                "{}: the copy of {} is not true, and no list has it: {copy:?}, and {own:?} at its issuer",
                site.name, copy.id
            );
            self.kept += 1;
        }
    }

    pub fn equal(&mut self, world: &World, replica: usize, issuer: usize, relation: &str) {
        let (here, there) = (&world.sites[replica], &world.sites[issuer]);
        let now = world.now(issuer).wall;
        let master = here
            .disk
            .view::<_, Error>(|snapshot| Upstream::find(snapshot, relation))
            .unwrap()
            .unwrap();
        assert!(master.is_up_to_date(), "{relation}: {master:?}");
        assert!(master.counts.add_up(), "{relation}: {:?}", master.counts);
        assert!(
            master.proved.is_some() || !crate::compares(),
            "{relation}: {master:?}"
        );
        self.repaired += usize::try_from(master.repaired.unwrap_or(0)).unwrap();
        let alarms = here.disk.view::<_, Error>(|snapshot| Alarm::all(snapshot));
        // An adversary does tell of copies that are none.
        let differs =
            |alarm: &Alarm| alarm.kind == AlarmKind::COPIES_DIFFER && *alarm.server == *there.name;
        assert!(
            !alarms.unwrap().iter().any(differs),
            "{relation}: {} has told of copies otherwise than {} holds them",
            there.name,
            here.name
        );
        let retries = here
            .disk
            .view::<_, Error>(|snapshot| Retry::all(snapshot, relation))
            .unwrap();
        assert_eq!(retries.len() as i64, master.retried, "{relation}");
        let peer = there
            .policy
            .peer(&crate::site::identity(&here.name))
            .unwrap();
        let chosen = there
            .disk
            .view::<_, Error>(|snapshot| {
                let chosen = master.selection().choose(snapshot, now)?;
                let mut matching = HashSet::new();
                for record in there.records() {
                    let (number, _) = snapshot.by_object_id(&record.id)?.unwrap();
                    if chosen.has(number, &record) {
                        matching.insert(id(&record.id));
                    }
                }
                Ok(matching)
            })
            .unwrap();
        let missing = here
            .disk
            .view::<_, Error>(|snapshot| objects_missing_at_issuer(snapshot, relation))
            .unwrap();
        let mut served = HashSet::new();
        for record in there.records() {
            let theirs = record.stamp.issuer == *here.name || record.id.server == *here.name;
            let ours = there.node.issues(&record) || peer.may_follow_copies;
            let is_left_out = self
                .left_out
                .is_some_and(|origin| *record.id.server == *origin);
            if is_left_out
                || theirs
                || !ours
                || record.is_withdrawn()
                || !chosen.contains(&id(&record.id))
            {
                continue;
            }
            served.insert(id(&record.id));
            self.compared += 1;
            let copy = here.record(&record.id).map(|(_, copy)| copy);
            let named = retries.iter().any(|retry| retry.id == record.id)
                || here.forks().iter().any(|fork| fork.id == record.id);
            let Some(copy) = copy else {
                assert!(
                    named || record.is_destroyed(),
                    "{relation}: {} is not at {}",
                    record.id,
                    here.name
                );
                continue;
            };
            // A mark hears no more, unless the object enters again with its material; and a tombstone does not go by where it never was.
            let by_this = here.relations_of(&copy.id).iter().any(|by| by == relation);
            let by_issuer = copy.overlay.as_ref().and_then(|overlay| overlay.by_issuer);
            let is_barred =
                copy.is_withdrawn() && by_issuer == Some(true) && !there.node.issues(&record);
            if named || is_barred || record.is_destroyed() && (copy.is_withdrawn() || !by_this) {
                continue;
            }
            match descent(
                (&record.stamp, &record.lineage),
                (&copy.stamp, &copy.lineage),
            ) {
                Descent::Equal => {
                    assert_eq!(
                        copy.copy_digest().unwrap(),
                        record.copy_digest().unwrap(),
                        "{relation}: {}",
                        record.id
                    );
                    let mark = record.is_destroyed() || copy.is_destroyed();
                    assert!(
                        !copy.is_withdrawn() || mark,
                        "{relation}: {} is withdrawn",
                        record.id
                    );
                    assert!(
                        mark || here.material(&record.id) == there.material(&record.id),
                        "{relation}: {} has {:?}",
                        record.id,
                        here.material(&record.id)
                    );
                }
                // It came by another way, and is ahead. Nobody is ahead of an issuer for long.
                Descent::Newer
                    if self.left_out.is_none()
                        || !there.node.issues(&record)
                        || missing.contains(&record.id) => {}
                // A relay was restored, and has got a tombstone since that it never offered: it says that it has no such object, and is named.
                Descent::Fork if !there.node.issues(&record) && missing.contains(&record.id) => {}
                // Likewise, and the State has come on another way: both are at their end.
                Descent::Older
                    if !there.node.issues(&record)
                        && copy.is_destroyed()
                        && record.is_destroyed() => {}
                other => panic!(
                    "{relation}: {} is {other:?} at {}: {:?} {:?} withdrawn {}, and {:?} {:?} at {}",
                    record.id,
                    here.name,
                    copy.stamp.sequence,
                    copy.lineage,
                    copy.is_withdrawn(),
                    record.stamp.sequence,
                    record.lineage,
                    there.name
                ),
            }
        }
        for copy in here.records() {
            let by_this = here.relations_of(&copy.id).iter().any(|by| by == relation);
            let is_left_out = self
                .left_out
                .is_some_and(|origin| *copy.id.server == *origin);
            if by_this
                && !is_left_out
                && !copy.is_withdrawn()
                && !copy.is_destroyed()
                && !served.contains(&id(&copy.id))
            {
                let is_missing = missing.contains(&copy.id);
                let withdrawn_there = there
                    .record(&copy.id)
                    .is_some_and(|(_, record)| record.is_withdrawn());
                assert!(
                    is_missing || withdrawn_there,
                    "{relation}: {} should have been withdrawn from {}",
                    copy.id,
                    here.name
                );
            }
        }
    }

    /// A compromise has reached whatever has the same material and the same issuer; and what was revoked in an emergency, its issuer.
    fn compromises_have_spread(world: &World) {
        for site in &world.sites {
            let mut known: HashMap<(Vec<u8>, String), bool> = HashMap::new();
            let held = site.records();
            for record in held.iter().filter(|record| !record.is_withdrawn()) {
                let Some(fingerprint) = record.fingerprint.clone() else {
                    continue;
                };
                let key = (fingerprint, record.stamp.issuer.to_string());
                let is_compromised = record.is_compromised();
                let twin = *known.entry(key).or_insert(is_compromised);
                assert_eq!(
                    twin, is_compromised,
                    "{}: {} has a twin that is not as it is",
                    site.name, record.id
                );
            }
            for id in site.emergencies() {
                let record = held.iter().find(|record| record.id == id).unwrap();
                assert!(record.is_compromised(), "{}: {id} is not", site.name);
                let issuer = world
                    .sites
                    .iter()
                    .find(|other| other.name == *record.stamp.issuer)
                    .unwrap();
                let brought_by = site.relations_of(&id);
                let is_followed = world.links.iter().enumerate().any(|(at, link)| {
                    let between = [
                        &world.sites[link.replica].name,
                        &world.sites[link.issuer].name,
                    ];
                    between == [&site.name, &issuer.name]
                        && world.is_followed(at)
                        && brought_by.iter().any(|by| *by == *link.name)
                });
                let is_forked = [site, issuer]
                    .iter()
                    .any(|at| at.forks().iter().any(|fork| fork.id == id));
                let there = issuer.record(&id).map(|(_, record)| record);
                let is_known =
                    there.is_none_or(|there| there.is_compromised() || there.stamp != record.stamp);
                assert!(
                    !is_followed || is_forked || is_known,
                    "{}: {id} was revoked, and {} does not know",
                    site.name,
                    issuer.name
                );
            }
        }
    }

    fn survived(&self, world: &World, owed: &PendingGiveBack) {
        let covers = |stamp: &Stamp, lineage: &[Stamp]| {
            matches!(
                descent((&owed.stamp, &owed.lineage), (stamp, lineage)),
                Descent::Equal | Descent::Newer
            )
        };
        let there = &world.sites[owed.issuer];
        let here = &world.sites[owed.holder];
        if there
            .record(&owed.id)
            .is_some_and(|(_, record)| covers(&record.stamp, &record.lineage))
        {
            return;
        }
        // Whoever has it from a relay alone, keeps it, and can't know that its issuer has lost it.
        let direct: Vec<&String> = world
            .links
            .iter()
            .filter(|link| (link.replica, link.issuer) == (owed.holder, owed.issuer))
            .map(|link| &link.name)
            .collect();
        let relayed = here.record(&owed.id).is_some_and(|(_, record)| {
            let by_it = here
                .relations_of(&owed.id)
                .iter()
                .any(|by| direct.iter().any(|name| **name == **by));
            !by_it && covers(&record.stamp, &record.lineage)
        });
        if relayed {
            return;
        }
        for site in [there, here] {
            let forks = site.forks();
            let decided = site
                .disk
                .view::<_, Error>(|snapshot| ForkDecision::all(snapshot))
                .unwrap();
            if forks
                .iter()
                .any(|fork| fork.id == owed.id && covers(&fork.stamp, &fork.lineage))
                || decided.iter().any(|decision| {
                    decision.id == owed.id && covers(&decision.stamp, &decision.lineage)
                })
                || forks.iter().any(|fork| fork.id == owed.id)
                    && site
                        .record(&owed.id)
                        .is_some_and(|(_, record)| covers(&record.stamp, &record.lineage))
            {
                return;
            }
        }
        let untaken = there
            .disk
            .view::<_, Error>(|snapshot| FailedGiveBack::all(snapshot))
            .unwrap();
        let mut named: Vec<ObjectId> = untaken.into_iter().map(|one| one.id).collect();
        // Whoever follows the issuer itself names what it has lost; and an object that was made under the same identifier meanwhile is a
        // collision, and named as one.
        for site in &world.sites {
            let more = site.disk.view::<_, Error>(|snapshot| {
                let mut all = Vec::new();
                for master in Upstream::all(snapshot)? {
                    all.extend(objects_missing_at_issuer(snapshot, &master.relation)?);
                    all.extend(
                        Retry::all(snapshot, &master.relation)?
                            .into_iter()
                            .map(|retry| retry.id),
                    );
                }
                Ok(all)
            });
            named.extend(more.unwrap());
        }
        let is_named = named.contains(&owed.id);
        assert!(
            is_named,
            "{}: the change {} of {} that {} held is lost",
            there.name, owed.stamp.sequence, owed.id, here.name
        );
    }
}

/// What an answer tells of an object.
pub struct ObjectResult {
    pub kind: u32,
    pub id: Id,
    pub destroyed: bool,
}

pub fn changes(payload: &[u8]) -> Vec<ObjectResult> {
    let r = Reader::new(payload, keyferry_kmip::context(Version::V2_1));
    let mut told = Vec::new();
    let mut children = r.children(Item::parse(payload).unwrap()).unwrap();
    while let Some(child) = children.step() {
        if child.tag() != x::CHANGE {
            continue;
        }
        let (mut kind, mut of, mut destroyed) = (0, Vec::new(), false);
        let mut fields = r.children(child).unwrap();
        while let Some(field) = fields.step() {
            if field.tag() == x::CHANGE_KIND {
                kind = field.enumeration(&r).unwrap();
            } else if field.tag() == x::COPY {
                let mut parts = r.children(field).unwrap();
                while let Some(part) = parts.step() {
                    if part.tag() == x::OBJECT_ID {
                        of = part.raw().to_vec();
                    } else if part.tag() == keyferry_kmip::spec::tag::ATTRIBUTES {
                        destroyed |= is_destroyed(part, &r);
                    }
                }
            }
        }
        told.push(ObjectResult {
            kind,
            id: of,
            destroyed,
        });
    }
    told
}

/// Whether a State somewhere in it says so.
fn is_destroyed<'a>(item: Item<'a>, r: &Reader<'a>) -> bool {
    if item.tag() == keyferry_kmip::spec::tag::STATE {
        return item
            .enumeration(r)
            .is_ok_and(|state| lifecycle::is_destroyed(State(state)));
    }
    let Ok(mut children) = r.children(item) else {
        return false;
    };
    let mut found = false;
    while let Some(child) = children.step() {
        found |= is_destroyed(child, r);
    }
    found
}
