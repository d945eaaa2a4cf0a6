//! The relation with a foreign server that this one observes, as data in the store. The foreign server knows nothing of it
//! ([rule 14](crate::design#rule-14)).

use crate::error::{Error, ErrorKind, Result};
use crate::relation::keys;
use crate::relation::keys::Entry;
use crate::relation::retry::Retry;
use crate::relation::stored::{self, Address, Relation};
use crate::report::Counts;
use crate::selection::{Selected, Selection};
use keyferry_kmip::{DateTime, Text, extension as x};
use keyferry_store::{ObjectId, Snapshot, Store, StoreExt};
use keyferry_ttlv::{Decode, Encode, Extra};

/// A foreign server that this one observes. A [`Pull`](crate::Pull) that is [`observing`](crate::Pull::observing) runs the relation.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::FOREIGN_MASTER)]
#[non_exhaustive]
pub struct ForeignMaster {
    /// The name of the relation here.
    #[ttlv(tag = x::RELATION)]
    pub relation: Text,
    /// The server id that its objects get here.
    #[ttlv(tag = x::SERVER_ID)]
    pub server: Text,
    /// The instance of that server.
    #[ttlv(tag = x::INSTANCE)]
    pub instance: Vec<u8>,
    /// Which objects are observed.
    pub(crate) selected: Selected,
    /// How many seconds before the newest known date a window begins.
    #[ttlv(tag = x::OVERLAP)]
    pub overlap: i64,
    /// After how many passes over a window a pass looks at all objects; 0 for never.
    #[ttlv(tag = x::FULL_EVERY)]
    pub full_every: i64,
    /// After how many seconds a pass looks at all objects; 0 for never.
    #[ttlv(tag = x::FULL_AFTER)]
    pub full_after: i64,
    /// The newest Last Change Date up to which everything was seen, by the clock of that server; `None` where it shows no such date.
    #[ttlv(tag = x::NEWEST)]
    pub newest: Option<DateTime>,
    /// Whether its Locate knows Last Change Date, as far as was seen. Where it does not, every pass looks at all objects.
    #[ttlv(tag = x::LOCATES_DATES)]
    pub locates_dates: Option<bool>,
    /// The current pass.
    pub(crate) pass: Option<Pass>,
    /// How many passes over a window were completed since the last pass over everything.
    #[ttlv(tag = x::RUNS)]
    pub runs: i64,
    /// When the last pass was completed, by the clock of this server; 0 for never.
    #[ttlv(tag = x::LAST_PASS)]
    pub passed: DateTime,
    /// When the last pass over everything was completed, by the clock of this server; 0 for never.
    #[ttlv(tag = x::LAST_FULL_PASS)]
    pub full: DateTime,
    /// The number of the last session. An earlier session writes nothing any more.
    #[ttlv(tag = x::SESSION)]
    pub session: i64,
    /// Since when it is observed.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// When it last answered.
    #[ttlv(tag = x::CONTACT)]
    pub contact: DateTime,
    /// Why the last session failed.
    #[ttlv(tag = x::WHY)]
    pub error: Option<Text>,
    /// Whether the relation is paused.
    #[ttlv(tag = x::PAUSED)]
    pub paused: Option<bool>,
    /// How many objects could not be taken and are asked for again.
    #[ttlv(tag = x::COUNT_RETRIED)]
    pub retried: i64,
    /// How many objects held here it does not have any more.
    #[ttlv(tag = x::COUNT_MISSING)]
    pub missing: i64,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// A pass that is not completed: over a window of dates, or over everything.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[ttlv(tag = x::PASS)]
pub(crate) struct Pass {
    /// Where its window begins; `None` for all objects.
    #[ttlv(tag = x::WINDOW_FROM)]
    pub(crate) from: Option<DateTime>,
    /// The clock of that server when the pass began. The next pass sees what changes later.
    #[ttlv(tag = x::PASS_HEAD)]
    pub(crate) head: Option<DateTime>,
    /// The newest Last Change Date that it saw.
    #[ttlv(tag = x::NEWEST)]
    pub(crate) seen: Option<DateTime>,
    /// Other fields.
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

/// Options of a relation with a foreign server that is observed. The values in parentheses are the defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignMasterOptions {
    /// Which objects are observed (all).
    pub selection: Selection,
    /// The instance of the server (empty): a server that was set up anew is another instance.
    pub instance: Vec<u8>,
    /// How many seconds windows overlap (60). It has to be more than the clocks of that server differ, and more than a change takes to be seen.
    pub overlap: i64,
    /// After how many passes over a window a pass looks at all objects (24); 0 for never.
    pub full_every: i64,
    /// After how many seconds a pass looks at all objects (a day); 0 for never.
    pub full_after: i64,
}

impl Default for ForeignMasterOptions {
    fn default() -> Self {
        ForeignMasterOptions {
            selection: Selection::everything(),
            instance: Vec::new(),
            overlap: 60,
            full_every: 24,
            full_after: 86_400,
        }
    }
}

impl Relation for ForeignMaster {
    const PREFIX: &'static [u8] = keys::FOREIGN_MASTER;
    const KIND: &'static str = "foreign relation";

    fn key(&self) -> Vec<u8> {
        keys::foreign_master(&self.relation)
    }

    fn paused(&mut self) -> &mut Option<bool> {
        &mut self.paused
    }
}

impl ForeignMaster {
    fn address(relation: &str) -> Address<'_> {
        Address {
            key: keys::foreign_master(relation),
            name: relation,
        }
    }

    /// The foreign servers that are observed.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<ForeignMaster>> {
        stored::all(snapshot)
    }

    /// One foreign server, by the name of the relation.
    ///
    /// # Errors
    /// Those of the store.
    pub fn find(snapshot: &dyn Snapshot, relation: &str) -> Result<Option<ForeignMaster>> {
        stored::find(snapshot, &keys::foreign_master(relation))
    }

    /// The objects that could not be taken so far, each with the time when it is asked for again.
    ///
    /// # Errors
    /// Those of the store.
    pub fn retries(snapshot: &dyn Snapshot, relation: &str) -> Result<Vec<Retry>> {
        Retry::all_under(snapshot, &keys::foreign_retry_prefix(relation))
    }

    /// The objects held here that the last pass over everything did not find there any more. They are kept ([rule 6](crate::design#rule-6)).
    ///
    /// # Errors
    /// Those of the store.
    pub fn missing(snapshot: &dyn Snapshot, relation: &str) -> Result<Vec<ObjectId>> {
        let prefix = keys::foreign_missing_prefix(relation);
        stored::all_under(snapshot, &prefix, "missing object")
    }

    /// The objects that are observed.
    pub fn selection(&self) -> Selection {
        self.selected.selection()
    }

    /// What became of the objects of the current pass, or of the last one.
    ///
    /// # Errors
    /// Those of the store.
    pub fn counts(&self, snapshot: &dyn Snapshot) -> Result<Counts> {
        stored::counts(snapshot, &keys::foreign_counts(&self.relation))
    }

    /// For how many seconds changes there may not have been seen: since the last pass was completed. `None` before the first.
    pub fn lag_seconds(&self, now: DateTime) -> Option<u64> {
        (self.passed.0 > 0).then(|| u64::try_from(now.0.saturating_sub(self.passed.0)).unwrap_or(0))
    }

    pub(crate) fn entry(&self) -> keyferry_store::Result<Entry> {
        stored::entry(self)
    }

    /// Begins to observe a foreign server, or observes it with other options from now on: then the next pass looks at everything.
    ///
    /// # Errors
    /// [`ErrorKind::Selection`] for a selection that can't be followed, [`ErrorKind::Relation`] when the relation is with another server or
    /// another instance of it, and those of the store.
    pub fn observe(
        store: &dyn Store,
        relation: &str,
        server: &str,
        what: &ForeignMasterOptions,
        now: DateTime,
    ) -> Result<()> {
        stored::check_selection(&what.selection)?;
        store.transact(|transaction| {
            let new = ForeignMaster::new(relation, server, what, now);
            let master = match ForeignMaster::find(transaction, relation)? {
                None => new,
                Some(held) if held.server != *server || held.instance != what.instance => {
                    let more = ", or an instance of it";
                    return Err(stored::is_with_another(relation, &held.server, more));
                }
                Some(held) => ForeignMaster {
                    session: held.session,
                    since: held.since,
                    passed: held.passed,
                    contact: held.contact,
                    paused: held.paused,
                    retried: held.retried,
                    missing: held.missing,
                    extra: held.extra,
                    ..new
                },
            };
            stored::put(transaction, &master)
        })
    }

    fn new(
        relation: &str,
        server: &str,
        what: &ForeignMasterOptions,
        now: DateTime,
    ) -> ForeignMaster {
        ForeignMaster {
            relation: relation.into(),
            server: server.into(),
            instance: what.instance.clone(),
            selected: Selected::of(&what.selection),
            overlap: what.overlap.max(0),
            full_every: what.full_every.max(0),
            full_after: what.full_after.max(0),
            newest: None,
            locates_dates: None,
            pass: None,
            runs: 0,
            passed: DateTime(0),
            full: DateTime(0),
            session: 0,
            since: now,
            contact: DateTime(0),
            error: None,
            paused: None,
            retried: 0,
            missing: 0,
            extra: Extra::NONE,
        }
    }

    /// Changes the relation as it is stored, and returns it as it is then.
    pub(crate) fn change(
        store: &dyn Store,
        relation: &str,
        change: impl Fn(&mut ForeignMaster) -> Result<()>,
    ) -> Result<ForeignMaster> {
        stored::change(store, &ForeignMaster::address(relation), change)
    }

    /// Stops observing until it is [resumed](ForeignMaster::resume).
    ///
    /// # Errors
    /// [`ErrorKind::Relation`] when there is no such relation, and those of the store.
    pub fn pause(store: &dyn Store, relation: &str) -> Result<()> {
        stored::pause::<ForeignMaster>(store, &ForeignMaster::address(relation))
    }

    /// Observes again.
    ///
    /// # Errors
    /// As for [`pause`](ForeignMaster::pause).
    pub fn resume(store: &dyn Store, relation: &str) -> Result<()> {
        stored::resume::<ForeignMaster>(store, &ForeignMaster::address(relation))
    }

    /// Ends the relation. The copies stay as they are.
    ///
    /// # Errors
    /// As for [`pause`](ForeignMaster::pause).
    pub fn end(store: &dyn Store, relation: &str) -> Result<()> {
        let prefixes = [
            keys::foreign_taken_prefix(relation),
            keys::foreign_retry_prefix(relation),
            keys::foreign_missing_prefix(relation),
        ];
        let counts = [keys::foreign_counts(relation)];
        let address = ForeignMaster::address(relation);
        stored::end::<ForeignMaster>(store, &address, &counts, &prefixes)
    }

    /// The relation as it is stored, if the session of this number may still write.
    pub(crate) fn current(
        snapshot: &dyn Snapshot,
        relation: &str,
        session: i64,
    ) -> Result<ForeignMaster> {
        match ForeignMaster::find(snapshot, relation)? {
            Some(master) if master.session == session && master.paused != Some(true) => Ok(master),
            _ => Err(Error::new(
                ErrorKind::Relation,
                "another session has begun, or the relation was paused or ended",
            )),
        }
    }

    /// Where the next window begins; `None` when the next pass looks at everything.
    pub(crate) fn window(&self, head: Option<DateTime>, now: DateTime) -> Option<DateTime> {
        let newest = self.newest.filter(|_| self.locates_dates != Some(false))?;
        let from = DateTime(newest.0.saturating_sub(self.overlap));
        let after_passes = self.full_every > 0 && self.runs >= self.full_every;
        let after_time =
            self.full_after > 0 && now.0.saturating_sub(self.full.0) >= self.full_after;
        // Its clock was set back: what changes now has dates before the window.
        let is_set_back = head.is_some_and(|head| head < from);
        (!after_passes && !after_time && !is_set_back).then_some(from)
    }

    /// Completes the current pass.
    pub(crate) fn passed(&mut self, now: DateTime) {
        let Some(pass) = self.pass.take() else { return };
        // It may have seen what changed since it began, or not.
        let newest = match (pass.seen, pass.head) {
            (Some(seen), Some(head)) => Some(seen.min(head)),
            (seen, _) => seen,
        };
        if pass.from.is_some() {
            (self.newest, self.runs) = (newest.or(self.newest), self.runs.saturating_add(1));
        } else {
            (self.newest, self.runs, self.full) = (newest, 0, now);
        }
        (self.passed, self.error) = (now, None);
    }
}
