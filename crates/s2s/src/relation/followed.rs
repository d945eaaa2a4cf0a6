//! The relation of two keyferry servers, as data in the store: a [`Downstream`] at the issuer, an [`Upstream`] at its replica.

use crate::error::Result;
use crate::feed;
use crate::relation::ended::EndedRelation;
use crate::relation::keys;
use crate::relation::keys::Entry;
use crate::relation::stored::{self, Address, Relation};
use crate::report::Counts;
use crate::selection::{Selected, Selection};
use crate::wire::follow::KeptPath;
use crate::wire::place::Place;
use keyferry_kmip::{DateTime, Text, extension as x};
use keyferry_store::{Snapshot, Store, StoreExt};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::collections::BTreeMap;

/// A replica of this server, as this server knows it.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::SLAVE)]
#[non_exhaustive]
pub struct Downstream {
    /// The server id of the replica.
    #[ttlv(tag = x::SERVER_ID)]
    pub server: Text,
    /// The name of the relation, at both servers.
    #[ttlv(tag = x::RELATION)]
    pub relation: Text,
    /// Which objects it follows.
    pub(crate) selected: Selected,
    /// Attributes, by name, that it does not get.
    #[ttlv(tag = x::WITHOUT)]
    pub without: Vec<Text>,
    /// The digest of the agreement that the selection was cut down to ([`Peer::agreed`](crate::Peer::agreed)).
    #[ttlv(tag = x::AGREED)]
    pub(crate) agreed: Option<Vec<u8>>,
    /// The number of its session. Requests of an earlier session are refused.
    #[ttlv(tag = x::SESSION)]
    pub session: i64,
    /// The number of the last feed entry that was sent in this session.
    #[ttlv(tag = x::SENT)]
    pub(crate) sent: i64,
    /// The number of the last feed entry of this server that the replica has committed. It is noted once a second at most.
    #[ttlv(tag = x::ACKNOWLEDGED)]
    pub acknowledged: i64,
    /// How often this server has noted what the replica was offered.
    #[ttlv(tag = x::OFFERS)]
    pub(crate) offers: i64,
    /// Whether the replica, or this server, was found to be a copy of an older moment: then the replica says which copies it holds.
    #[ttlv(tag = x::CHECKING)]
    pub(crate) checks: Option<bool>,
    /// Since when it follows.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// When it last asked, as last noted.
    #[ttlv(tag = x::CONTACT)]
    pub contact: DateTime,
    /// Whether the relation is paused.
    #[ttlv(tag = x::PAUSED)]
    pub paused: Option<bool>,
    /// Whether the relation is [ended](Downstream::end).
    #[ttlv(tag = x::ENDED)]
    pub ended: Option<bool>,
    /// How many forks it has reported.
    #[ttlv(tag = x::COUNT_FORKED)]
    pub forked: Option<i64>,
    /// How many objects it has reported that it could not apply.
    #[ttlv(tag = x::COUNT_RETRIED)]
    pub retried: Option<i64>,
    /// In which respect the two servers' agreements differ, by their policies, so that one sends what the other does not take.
    #[ttlv(tag = x::TERMS_DIFFER)]
    pub terms_differ: Option<Text>,
    /// How many objects are [listed](crate::WithheldObject) as withheld from it.
    #[ttlv(tag = x::COUNT_WITHHELD)]
    pub withheld: Option<i64>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// A server that this one follows.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::MASTER)]
#[non_exhaustive]
pub struct Upstream {
    /// The name of the relation, at both servers.
    #[ttlv(tag = x::RELATION)]
    pub relation: Text,
    /// The server id of the server that is followed.
    #[ttlv(tag = x::SERVER_ID)]
    pub server: Text,
    /// The instance of that server, once it has answered: another instance under its server id is not followed.
    #[ttlv(tag = x::INSTANCE)]
    pub instance: Option<Vec<u8>>,
    /// The reign of that server in which it answered last.
    #[ttlv(tag = x::REIGN)]
    pub(crate) reign: Option<Vec<u8>>,
    /// Where clients find that server. The message that refuses a client's change names it.
    #[ttlv(tag = x::ADDRESS)]
    pub address: Option<Text>,
    /// Which objects are followed.
    pub(crate) selected: Selected,
    /// Attributes, by name, that the server does not send.
    #[ttlv(tag = x::WITHOUT)]
    pub without: Vec<Text>,
    /// The place in its feed up to which everything was committed here.
    pub cursor: Place,
    /// The last known head of its feed.
    #[ttlv(tag = x::HEAD)]
    pub head: Place,
    /// Whether every object comes with its material. It is so until the cursor has reached the head for the first time.
    #[ttlv(tag = x::ANEW)]
    pub(crate) anew: Option<bool>,
    /// Up to which number this server's own feed was searched for copies that the issuer does not have, or that this server may not have any
    /// more. The search begins when the issuer's feed is read from its beginning again.
    #[ttlv(tag = x::CHECKING)]
    pub(crate) checking: Option<i64>,
    /// The digest of what the server may say by the policy here ([`Peer::trust`]). When it changes, the feed is read from its beginning: what was
    /// refused before may be taken now.
    #[ttlv(tag = x::AGREED)]
    pub(crate) trust: Option<Vec<u8>>,
    /// How often the issuer has noted what this server was offered, by its last answer. Where the issuer's own number differs, one of the two
    /// has lost something.
    #[ttlv(tag = x::OFFERS)]
    pub(crate) offers: i64,
    /// The number of the last session.
    #[ttlv(tag = x::SESSION)]
    pub session: i64,
    /// Since when it is followed.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// When its last answer came that brought something new.
    #[ttlv(tag = x::CONTACT)]
    pub contact: DateTime,
    /// Why the last session failed.
    #[ttlv(tag = x::WHY)]
    pub error: Option<Text>,
    /// Whether the relation is paused.
    #[ttlv(tag = x::PAUSED)]
    pub paused: Option<bool>,
    /// Since when the server that is followed has ended the relation, as it answered: its copies are kept true by nobody here.
    #[ttlv(tag = x::ENDED)]
    pub ended: Option<DateTime>,
    /// The servers whose objects that server passes on and hears of itself, by its last answer, and on which way.
    pub(crate) keeps: Vec<KeptPath>,
    /// How many objects could not be applied and are asked for again.
    #[ttlv(tag = x::COUNT_RETRIED)]
    pub retried: i64,
    /// In which respect the two servers' agreements differ, by their policies, so that one sends what the other does not take.
    #[ttlv(tag = x::TERMS_DIFFER)]
    pub terms_differ: Option<Text>,
    /// How many objects are [listed](crate::WithheldObject::lacking) as withheld from this server.
    #[ttlv(tag = x::COUNT_WITHHELD)]
    pub withheld: Option<i64>,
    /// How many copies are [listed](crate::DifferingCopy) as not held as they were told.
    #[ttlv(tag = x::COUNT_DIFFERING)]
    pub differing: Option<i64>,
    /// Whether more copies differ than are listed, so that the relation can't be compared until its feed is read from the beginning.
    #[ttlv(tag = x::UNCOMPARED)]
    pub uncompared: Option<bool>,
    /// When it was last proved that all copies of this relation are held as they were told, or listed. It is noted once an hour.
    #[ttlv(tag = x::PROVED)]
    pub proved: Option<DateTime>,
    /// How many copies were found by comparison that differed, and were asked for again.
    #[ttlv(tag = x::COUNT_REPAIRED)]
    pub repaired: Option<i64>,
    /// How often records were noted as coming by the relation, or not any more, that did not change otherwise. `None` in a relation of an earlier
    /// build, which noted it in the records: its feed is read from the beginning.
    #[ttlv(tag = x::ACCOUNT)]
    pub(crate) account: Option<i64>,
    /// What became of the objects of the current pass, or of the last one.
    pub counts: Counts,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl Relation for Downstream {
    const PREFIX: &'static [u8] = keys::DOWNSTREAM;
    const KIND: &'static str = "relation";

    fn key(&self) -> Vec<u8> {
        keys::downstream(&self.server, &self.relation)
    }

    fn paused(&mut self) -> &mut Option<bool> {
        &mut self.paused
    }
}

impl Downstream {
    fn address<'a>(server: &str, relation: &'a str) -> Address<'a> {
        Address {
            key: keys::downstream(server, relation),
            name: relation,
        }
    }

    /// The replicas that follow this server.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<Downstream>> {
        stored::all(snapshot)
    }

    /// The relations in which one server follows this one, or has followed.
    pub(crate) fn of(snapshot: &dyn Snapshot, server: &str) -> Result<Vec<Downstream>> {
        stored::all_under(snapshot, &keys::downstream(server, ""), Downstream::KIND)
    }

    /// One replica, by its server id and the name of the relation.
    ///
    /// # Errors
    /// Those of the store.
    pub fn find(
        snapshot: &dyn Snapshot,
        server: &str,
        relation: &str,
    ) -> Result<Option<Downstream>> {
        stored::find(snapshot, &keys::downstream(server, relation))
    }

    /// The objects that it follows.
    pub fn selection(&self) -> Selection {
        self.selected.selection()
    }

    /// How many changes it has not committed yet, as far as was noted.
    ///
    /// # Errors
    /// Those of the store.
    pub fn lag(&self, snapshot: &dyn Snapshot) -> Result<u64> {
        Ok(snapshot
            .head()?
            .number
            .saturating_sub(self.acknowledged_number()))
    }

    /// For how many seconds the oldest change that it has not committed has waited. `None` when there is no such change.
    ///
    /// # Errors
    /// Those of the store.
    pub fn lag_seconds(&self, snapshot: &dyn Snapshot, now: DateTime) -> Result<Option<u64>> {
        feed::seconds_waiting(snapshot, self.acknowledged_number(), now)
    }

    fn acknowledged_number(&self) -> u64 {
        u64::try_from(self.acknowledged).unwrap_or(0)
    }

    pub(crate) fn entry(&self) -> keyferry_store::Result<Entry> {
        stored::entry(self)
    }

    /// Sends it nothing until it is [resumed](Downstream::resume).
    ///
    /// # Errors
    /// [`ErrorKind::Relation`](crate::ErrorKind::Relation) when it does not follow, and those of the store.
    pub fn pause(store: &dyn Store, server: &str, relation: &str) -> Result<()> {
        stored::pause::<Downstream>(store, &Downstream::address(server, relation))
    }

    /// Sends to it again.
    ///
    /// # Errors
    /// As for [`pause`](Downstream::pause).
    pub fn resume(store: &dyn Store, server: &str, relation: &str) -> Result<()> {
        stored::resume::<Downstream>(store, &Downstream::address(server, relation))
    }

    /// Ends the relation: the replica is answered that it is ended, whatever it asks. It keeps the copies that it has, and lists them as
    /// [unkept](crate::UnkeptCopy) as soon as it asks. What it was offered stays known here, as it still holds it, until the relation is
    /// [begun again](Downstream::begin_again) or [forgotten](Downstream::forget).
    ///
    /// # Errors
    /// As for [`pause`](Downstream::pause).
    pub fn end(store: &dyn Store, server: &str, relation: &str) -> Result<()> {
        store.transact(|transaction| {
            let address = Downstream::address(server, relation);
            let mut downstream: Downstream = stored::existing(transaction, &address)?;
            downstream.ended = Some(true);
            transaction.set_state(&keys::give_back(server), None)?;
            stored::put(transaction, &downstream)
        })
    }

    /// Lets the replica follow again in a relation that was [ended](Downstream::end): it says which copies it holds. If it has heard of the end, it reads
    /// the whole feed again; otherwise it goes on where it was.
    ///
    /// # Errors
    /// As for [`pause`](Downstream::pause).
    pub fn begin_again(store: &dyn Store, server: &str, relation: &str) -> Result<()> {
        let address = Downstream::address(server, relation);
        stored::change(store, &address, |downstream: &mut Downstream| {
            downstream.ended = None;
            downstream.checks = Some(true);
            Ok(())
        })
        .map(drop)
    }

    /// Forgets the relation, and what the replica was offered. If it follows again, that is a new relation.
    ///
    /// # Errors
    /// As for [`pause`](Downstream::pause).
    pub fn forget(store: &dyn Store, server: &str, relation: &str) -> Result<()> {
        stored::end::<Downstream>(
            store,
            &Downstream::address(server, relation),
            &[keys::give_back(server)],
            &[
                keys::offered_prefix(server, relation),
                keys::withheld_prefix(server, relation),
            ],
        )
    }
}

impl Relation for Upstream {
    const PREFIX: &'static [u8] = keys::UPSTREAM;
    const KIND: &'static str = "relation";

    fn key(&self) -> Vec<u8> {
        keys::upstream(&self.relation)
    }

    fn paused(&mut self) -> &mut Option<bool> {
        &mut self.paused
    }
}

impl Upstream {
    fn address(relation: &str) -> Address<'_> {
        Address {
            key: keys::upstream(relation),
            name: relation,
        }
    }

    /// The servers that this one follows.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<Upstream>> {
        stored::all(snapshot)
    }

    /// One server that this one follows, by the name of the relation.
    ///
    /// # Errors
    /// Those of the store.
    pub fn find(snapshot: &dyn Snapshot, relation: &str) -> Result<Option<Upstream>> {
        stored::find(snapshot, &keys::upstream(relation))
    }

    /// The objects that are followed.
    pub fn selection(&self) -> Selection {
        self.selected.selection()
    }

    /// How many changes were not applied here yet, measured at the last known head of the feed.
    pub fn lag(&self) -> u64 {
        u64::try_from(self.head.number.saturating_sub(self.cursor.number)).unwrap_or(0)
    }

    /// Whether everything was applied here up to the last known head of the feed, and more is to come.
    pub fn is_up_to_date(&self) -> bool {
        self.ended.is_none()
            && self.anew != Some(true)
            && self.checking.is_none()
            && self.lag() == 0
    }

    /// Whether that server issues the objects of this issuer itself, or hears of them.
    pub(crate) fn tells_of(&self, issuer: &Text) -> bool {
        let is_issuer = |path: &KeptPath| path.servers.last() == Some(issuer);
        self.server == *issuer || self.keeps.iter().any(is_issuer)
    }

    /// On which ways this server hears of others' objects, for a replica: the shortest to each issuer that does not lead over the replica itself.
    pub(crate) fn kept_paths(snapshot: &dyn Snapshot, replica: &Text) -> Result<Vec<KeptPath>> {
        let mut shortest: BTreeMap<Text, Vec<Text>> = BTreeMap::new();
        for upstream in Upstream::all(snapshot)? {
            if upstream.paused == Some(true) || upstream.ended.is_some() {
                continue;
            }
            let told = upstream.keeps.iter().map(|path| path.servers.clone());
            for rest in std::iter::once(Vec::new()).chain(told) {
                let servers = [vec![upstream.server.clone()], rest].concat();
                let Some(issuer) = servers.last().filter(|_| !servers.contains(replica)) else {
                    continue;
                };
                let known = shortest.get(issuer);
                if known.is_none_or(|known| servers.len() < known.len()) {
                    shortest.insert(issuer.clone(), servers);
                }
            }
        }
        let paths = shortest.into_values();
        Ok(paths
            .map(|servers| KeptPath {
                servers,
                extra: Extra::NONE,
            })
            .collect())
    }

    pub(crate) fn entry(&self) -> keyferry_store::Result<Entry> {
        stored::entry(self)
    }

    /// Begins to follow a server, or follows another selection or other attributes of it from now on: then its whole feed is read again, and
    /// copies that do not belong to the selection any more are withdrawn. The attributes that are left out are those of all relations with that
    /// server ([rule E](crate::design#rule-e)): the others change with this one.
    ///
    /// # Errors
    /// [`ErrorKind::Selection`](crate::ErrorKind::Selection) for a selection that can't be followed, [`ErrorKind::Relation`](crate::ErrorKind::Relation) when the relation is with another server,
    /// and those of the store.
    pub fn follow(
        store: &dyn Store,
        relation: &str,
        server: &str,
        what: &UpstreamOptions,
        now: DateTime,
    ) -> Result<()> {
        stored::check_selection(&what.selection)?;
        store.transact(|transaction| {
            let upstream = match Upstream::find(transaction, relation)? {
                Some(held) if held.server != *server => {
                    return Err(stored::is_with_another(relation, &held.server, ""));
                }
                Some(held) => held.with_options(what),
                None => {
                    let (session, account) = EndedRelation::goes_on_with(transaction, relation)?;
                    let mut upstream = Upstream {
                        session,
                        account: Some(account),
                        ..Upstream::new(relation, server, what, now)
                    };
                    // What is held of that server's objects already, however it came, is to hear what became of them.
                    let holds_objects = transaction.head()?.number > 0;
                    upstream.checking = holds_objects.then_some(0);
                    upstream
                }
            };
            for other in Upstream::all(transaction)? {
                if other.server == *server && other.without != what.without {
                    stored::put(transaction, &other.leaving_out(&what.without))?;
                }
            }
            transaction.set_state(&keys::ended_relation(relation), None)?;
            stored::put(transaction, &upstream)
        })
    }

    fn new(relation: &str, server: &str, what: &UpstreamOptions, now: DateTime) -> Upstream {
        Upstream {
            relation: relation.into(),
            server: server.into(),
            instance: None,
            reign: None,
            address: what.address.clone(),
            selected: Selected::of(&what.selection),
            without: what.without.clone(),
            cursor: Place::default(),
            head: Place::default(),
            anew: Some(true),
            checking: None,
            trust: None,
            offers: 0,
            session: 0,
            since: now,
            contact: DateTime(0),
            error: None,
            paused: None,
            ended: None,
            keeps: Vec::new(),
            retried: 0,
            terms_differ: None,
            withheld: None,
            differing: None,
            uncompared: None,
            proved: None,
            repaired: None,
            account: Some(0),
            counts: Counts::default(),
            extra: Extra::NONE,
        }
    }

    /// The same relation with these options. Where they select something else, the feed is read from its beginning.
    fn with_options(mut self, what: &UpstreamOptions) -> Upstream {
        let selected = Selected::of(&what.selection);
        if self.selected != selected {
            self.read_anew();
        }
        Upstream {
            selected,
            address: what.address.clone(),
            ..self.leaving_out(&what.without)
        }
    }

    /// The relation once the server that is followed has ended it: if that lets this one in again, its whole feed is read.
    pub(crate) fn ended_there(mut self, now: DateTime) -> Upstream {
        self.read_anew();
        self.ended = Some(now);
        self
    }

    /// The same relation without these attributes.
    fn leaving_out(mut self, without: &[Text]) -> Upstream {
        if self.without != *without {
            self.read_anew();
            self.without = without.to_vec();
        }
        self
    }

    /// Has the feed read from its beginning, and all copies checked with the server that is followed.
    pub(crate) fn read_anew(&mut self) {
        self.cursor = Place::default();
        self.checking = Some(0);
        self.uncompared = None;
    }

    /// Stops following until it is [resumed](Upstream::resume).
    ///
    /// # Errors
    /// [`ErrorKind::Relation`](crate::ErrorKind::Relation) when there is no such relation, and those of the store.
    pub fn pause(store: &dyn Store, relation: &str) -> Result<()> {
        stored::pause::<Upstream>(store, &Upstream::address(relation))
    }

    /// Follows again.
    ///
    /// # Errors
    /// As for [`pause`](Upstream::pause).
    pub fn resume(store: &dyn Store, relation: &str) -> Result<()> {
        stored::resume::<Upstream>(store, &Upstream::address(relation))
    }

    /// Accepts whatever server answers under this server id from now on, as a person has decided: one that was set up anew, for example.
    ///
    /// # Errors
    /// As for [`pause`](Upstream::pause).
    pub fn accept(store: &dyn Store, relation: &str) -> Result<()> {
        stored::change(
            store,
            &Upstream::address(relation),
            |upstream: &mut Upstream| {
                upstream.read_anew();
                upstream.instance = None;
                upstream.head = Place::default();
                upstream.offers = 0;
                Ok(())
            },
        )
        .map(drop)
    }

    /// Ends the relation. The copies stay as they are, and are [unkept](crate::UnkeptCopy) unless another relation tells of them.
    ///
    /// # Errors
    /// As for [`pause`](Upstream::pause).
    pub fn end(store: &dyn Store, relation: &str) -> Result<()> {
        let prefixes = [
            keys::retry_prefix(relation),
            keys::missing_prefix(relation),
            keys::done_prefix(relation),
            keys::lacking_prefix(relation),
            keys::differing_prefix(relation),
        ];
        store.transact(|transaction| {
            let address = Upstream::address(relation);
            let upstream: Upstream = stored::existing(transaction, &address)?;
            let numbers = (upstream.session, upstream.account);
            let ended = EndedRelation::new(&upstream.relation, upstream.contact, numbers);
            let (key, value) = ended.entry()?;
            transaction.set_state(&key, value.as_deref())?;
            stored::end_in::<Upstream>(transaction, &address, &[], &prefixes)
        })
    }
}

/// Options of a relation with a server that is followed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpstreamOptions {
    /// Which objects are followed.
    pub selection: Selection,
    /// Attributes, by name, that are left out of the copies, in all relations with that server. Attributes of the life cycle are never left out.
    pub without: Vec<Text>,
    /// Where the clients of that server find it.
    pub address: Option<Text>,
}
