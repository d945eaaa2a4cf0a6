//! Who follows whom in what, as data in the store: a [`Downstream`] at the issuer, a [`Upstream`] at the replica.

use crate::error::{Error, ErrorKind, Result};
use crate::relation::keys::{self, all, forget, none};
use crate::report::Counts;
use crate::selection::{Selected, Selection};
use crate::wire::place::Place;
use keyferry_kmip::{DateTime, Text, extension as x};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{Snapshot, SnapshotExt, Store, StoreExt};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::ops::ControlFlow;

/// Why nobody follows what Links reach.
pub(crate) const LINKS: &str = "what Links reach can't be followed: a change of one object would select others that did not change";

/// A replica, as the server that it follows knows it.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::SLAVE)]
pub struct Downstream {
    /// Its server id.
    #[ttlv(tag = x::SERVER_ID)]
    pub server: Text,
    /// What it calls the relation.
    #[ttlv(tag = x::RELATION)]
    pub relation: Text,
    pub(crate) selected: Selected,
    /// Attributes, by name, that it does not get.
    #[ttlv(tag = x::WITHOUT)]
    pub without: Vec<Text>,
    /// Tells the agreement that the selection was cut down to.
    #[ttlv(tag = x::AGREED)]
    pub(crate) agreed: Option<Vec<u8>>,
    /// The number of its session: an earlier one is refused.
    #[ttlv(tag = x::SESSION)]
    pub session: i64,
    /// How far this session was sent.
    #[ttlv(tag = x::SENT)]
    pub(crate) sent: i64,
    /// The number of the last entry of our feed that it has committed, as last noted: once a second at the most.
    #[ttlv(tag = x::ACKNOWLEDGED)]
    pub acknowledged: i64,
    /// How often something was noted of what it was offered.
    #[ttlv(tag = x::OFFERS)]
    pub(crate) offers: i64,
    /// Whether it was found to be a copy of an older moment, or this server was: what it holds is to be checked.
    #[ttlv(tag = x::CHECKING)]
    pub(crate) checks: Option<bool>,
    /// Since when it follows.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// When it was last heard of, as last noted.
    #[ttlv(tag = x::CONTACT)]
    pub contact: DateTime,
    /// Whether it gets nothing for the time being.
    #[ttlv(tag = x::PAUSED)]
    pub paused: Option<bool>,
    /// How many forks it has told of.
    #[ttlv(tag = x::COUNT_FORKED)]
    pub forked: Option<i64>,
    /// How many objects it has told that it could not take.
    #[ttlv(tag = x::COUNT_RETRIED)]
    pub retried: Option<i64>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// What this server follows.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::MASTER)]
pub struct Upstream {
    /// What the relation is called, at both servers.
    #[ttlv(tag = x::RELATION)]
    pub relation: Text,
    /// The server id of whom it follows.
    #[ttlv(tag = x::SERVER_ID)]
    pub server: Text,
    /// The instance of that server, once it was met: another one under its name is not followed.
    #[ttlv(tag = x::INSTANCE)]
    pub instance: Option<Vec<u8>>,
    /// The reign of that server in which it answered last.
    #[ttlv(tag = x::REIGN)]
    pub(crate) reign: Option<Vec<u8>>,
    /// Where clients find it, for the message that refuses their changes.
    #[ttlv(tag = x::ADDRESS)]
    pub address: Option<Text>,
    pub(crate) selected: Selected,
    /// Attributes, by name, that it is not to send.
    #[ttlv(tag = x::WITHOUT)]
    pub without: Vec<Text>,
    /// What of its feed was taken and committed here.
    pub cursor: Place,
    /// The head of its feed, as last told.
    #[ttlv(tag = x::HEAD)]
    pub head: Place,
    /// Whether material is to come with each object until the cursor has reached the head for the first time.
    #[ttlv(tag = x::ANEW)]
    pub(crate) anew: Option<bool>,
    /// How far the own feed was looked through for copies that the issuer does not have, or not for this server any more, since its feed
    /// was asked for from the beginning again.
    #[ttlv(tag = x::CHECKING)]
    pub(crate) checking: Option<i64>,
    /// How often its server has noted something of what this one was offered, as last told: where the two differ, one of them has lost something.
    #[ttlv(tag = x::OFFERS)]
    pub(crate) offers: i64,
    /// The number of the last session.
    #[ttlv(tag = x::SESSION)]
    pub session: i64,
    /// Since when it is followed.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// When it last answered with something new.
    #[ttlv(tag = x::CONTACT)]
    pub contact: DateTime,
    /// Why the last session failed.
    #[ttlv(tag = x::WHY)]
    pub error: Option<Text>,
    /// Whether it is not followed for the time being.
    #[ttlv(tag = x::PAUSED)]
    pub paused: Option<bool>,
    /// How many objects could not be taken so far, and are asked for again.
    #[ttlv(tag = x::COUNT_RETRIED)]
    pub retried: i64,
    /// What became of the objects of the pass under way, or of the last one.
    pub counts: Counts,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl Downstream {
    /// Those that follow this server.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<Downstream>> {
        all(snapshot, keys::DOWNSTREAM)
    }

    /// One of them, by its server id and the name of the relation.
    ///
    /// # Errors
    /// Those of the store.
    pub fn find(
        snapshot: &dyn Snapshot,
        server: &str,
        relation: &str,
    ) -> Result<Option<Downstream>> {
        let stored = snapshot.state_value(&keys::downstream(server, relation))?;
        Ok(stored.map(|bytes| read(&bytes, "relation")).transpose()?)
    }

    /// What it follows.
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
            .saturating_sub(u64::try_from(self.acknowledged).unwrap_or(0)))
    }

    /// For how many seconds a change has waited to be committed there: the age of the oldest one. Nothing when there is none.
    ///
    /// # Errors
    /// Those of the store.
    pub fn lag_seconds(&self, snapshot: &dyn Snapshot, now: DateTime) -> Result<Option<u64>> {
        let mut next = None;
        snapshot.feed(u64::try_from(self.acknowledged).unwrap_or(0), &mut |row| {
            next = Some(row.record);
            Ok(ControlFlow::Break(()))
        })?;
        let Some(record) = next
            .map(|number| snapshot.record(number))
            .transpose()?
            .flatten()
        else {
            return Ok(None);
        };
        let changed = record
            .attributes
            .date(keyferry_kmip::spec::tag::LAST_CHANGE_DATE)
            .unwrap_or(now);
        Ok(Some(
            u64::try_from(now.0.saturating_sub(changed.0)).unwrap_or(0),
        ))
    }

    pub(crate) fn entry(&self) -> keyferry_store::Result<(Vec<u8>, Option<Vec<u8>>)> {
        Ok((
            keys::downstream(&self.server, &self.relation),
            Some(bytes_of(self)?),
        ))
    }

    fn change(
        store: &dyn Store,
        server: &str,
        relation: &str,
        change: impl Fn(&mut Downstream),
    ) -> Result<()> {
        store.transact(|transaction| {
            let mut slave =
                Downstream::find(transaction, server, relation)?.ok_or_else(|| none(relation))?;
            change(&mut slave);
            let (key, value) = slave.entry()?;
            Ok(transaction.set_state(&key, value.as_deref())?)
        })
    }

    /// Sends it nothing until it is [resumed](Downstream::resume).
    ///
    /// # Errors
    /// When it does not follow, and those of the store; so for the next two.
    pub fn pause(store: &dyn Store, server: &str, relation: &str) -> Result<()> {
        Downstream::change(store, server, relation, |slave| slave.paused = Some(true))
    }

    /// Goes on sending to it.
    ///
    /// # Errors
    /// As for [`pause`](Downstream::pause).
    pub fn resume(store: &dyn Store, server: &str, relation: &str) -> Result<()> {
        Downstream::change(store, server, relation, |slave| slave.paused = None)
    }

    /// Forgets it, and what it was offered. It keeps what it has; should it come again, that is a new relation.
    ///
    /// # Errors
    /// As for [`pause`](Downstream::pause).
    pub fn end(store: &dyn Store, server: &str, relation: &str) -> Result<()> {
        store.transact(|transaction| {
            if Downstream::find(transaction, server, relation)?.is_none() {
                return Err(none(relation));
            }
            transaction.set_state(&keys::downstream(server, relation), None)?;
            transaction.set_state(&keys::give_back(server), None)?;
            Ok(forget(
                transaction,
                &keys::offered_prefix(server, relation),
            )?)
        })
    }
}

impl Upstream {
    /// What this server follows.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<Upstream>> {
        all(snapshot, keys::UPSTREAM)
    }

    /// One of them, by the name of the relation.
    ///
    /// # Errors
    /// Those of the store.
    pub fn find(snapshot: &dyn Snapshot, relation: &str) -> Result<Option<Upstream>> {
        let stored = snapshot.state_value(&keys::upstream(relation))?;
        Ok(stored.map(|bytes| read(&bytes, "relation")).transpose()?)
    }

    /// What is followed.
    pub fn selection(&self) -> Selection {
        self.selected.selection()
    }

    /// How many changes were not taken yet, as far as was told.
    pub fn lag(&self) -> u64 {
        u64::try_from(self.head.number.saturating_sub(self.cursor.number)).unwrap_or(0)
    }

    /// Whether everything was taken up to the head that was last told.
    pub fn is_up_to_date(&self) -> bool {
        self.anew != Some(true) && self.checking.is_none() && self.lag() == 0
    }

    pub(crate) fn entry(&self) -> keyferry_store::Result<(Vec<u8>, Option<Vec<u8>>)> {
        Ok((keys::upstream(&self.relation), Some(bytes_of(self)?)))
    }

    /// Begins to follow a server, or follows it in another selection or another set of attributes from now on: then its feed is looked
    /// through again, and what does not belong to the selection any more is withdrawn. `address` is where its clients find it.
    ///
    /// # Errors
    /// [`ErrorKind::Selection`] for a selection that can't be followed, [`ErrorKind::Relation`] when the relation is with another server,
    /// and those of the store.
    pub fn follow(
        store: &dyn Store,
        relation: &str,
        server: &str,
        what: &UpstreamOptions,
        now: DateTime,
    ) -> Result<()> {
        if what.selection.with_links {
            return Err(Error::new(ErrorKind::Selection, LINKS));
        }
        let selected = Selected::of(&what.selection);
        what.selection.query()?;
        store.transact(|transaction| {
            let master = match Upstream::find(transaction, relation)? {
                Some(held) if held.server != *server => {
                    let why = format_args!(
                        "the relation {relation:?} is with the server {:?}",
                        held.server
                    );
                    return Err(Error::new(ErrorKind::Relation, why));
                }
                Some(mut held) => {
                    if held.selected != selected || held.without != what.without {
                        held.cursor = Place::default();
                        held.checking = Some(0);
                    }
                    held.selected = selected.clone();
                    held.without = what.without.clone();
                    held.address = what.address.clone();
                    held
                }
                None => Upstream {
                    relation: relation.into(),
                    server: server.into(),
                    instance: None,
                    reign: None,
                    address: what.address.clone(),
                    selected: selected.clone(),
                    without: what.without.clone(),
                    cursor: Place::default(),
                    head: Place::default(),
                    anew: Some(true),
                    checking: None,
                    offers: 0,
                    session: 0,
                    since: now,
                    contact: DateTime(0),
                    error: None,
                    paused: None,
                    retried: 0,
                    counts: Counts::default(),
                    extra: Extra::NONE,
                },
            };
            let (key, value) = master.entry()?;
            Ok(transaction.set_state(&key, value.as_deref())?)
        })
    }

    fn change(store: &dyn Store, relation: &str, change: impl Fn(&mut Upstream)) -> Result<()> {
        store.transact(|transaction| {
            let mut master =
                Upstream::find(transaction, relation)?.ok_or_else(|| none(relation))?;
            change(&mut master);
            let (key, value) = master.entry()?;
            Ok(transaction.set_state(&key, value.as_deref())?)
        })
    }

    /// Follows no further until it is [resumed](Upstream::resume).
    ///
    /// # Errors
    /// When there is no such relation, and those of the store; so for the next ones.
    pub fn pause(store: &dyn Store, relation: &str) -> Result<()> {
        Upstream::change(store, relation, |master| master.paused = Some(true))
    }

    /// Goes on following.
    ///
    /// # Errors
    /// As for [`pause`](Upstream::pause).
    pub fn resume(store: &dyn Store, relation: &str) -> Result<()> {
        Upstream::change(store, relation, |master| master.paused = None)
    }

    /// Follows whatever server has the name from now on, as a person has decided: one that was set up anew, for example.
    ///
    /// # Errors
    /// As for [`pause`](Upstream::pause).
    pub fn accept(store: &dyn Store, relation: &str) -> Result<()> {
        Upstream::change(store, relation, |master| {
            master.instance = None;
            master.cursor = Place::default();
            master.head = Place::default();
            master.checking = Some(0);
            master.offers = 0;
        })
    }

    /// Follows it no more. The copies stay as they are.
    ///
    /// # Errors
    /// As for [`pause`](Upstream::pause).
    pub fn end(store: &dyn Store, relation: &str) -> Result<()> {
        store.transact(|transaction| {
            if Upstream::find(transaction, relation)?.is_none() {
                return Err(none(relation));
            }
            transaction.set_state(&keys::upstream(relation), None)?;
            forget(transaction, &keys::retry_prefix(relation))?;
            forget(transaction, &keys::missing_prefix(relation))?;
            Ok(forget(transaction, &keys::done_prefix(relation))?)
        })
    }
}

/// What is followed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpstreamOptions {
    /// Which objects.
    pub selection: Selection,
    /// Attributes, by name, that are left out of the copies. What belongs to the life cycle is never left out.
    pub without: Vec<Text>,
    /// Where the master's clients find it.
    pub address: Option<Text>,
}
