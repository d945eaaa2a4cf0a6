//! A server that knows nothing of it and is followed all the same, as data in the store: what was seen of it, and until when (DESIGN: rule 14).

use crate::error::{Error, ErrorKind, Result};
use crate::relation::followed::LINKS;
use crate::relation::keys::{self, forget, none};
use crate::relation::retry::Retry;
use crate::report::Counts;
use crate::selection::{Selected, Selection};
use keyferry_kmip::{DateTime, Text, extension as x};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{ObjectId, Snapshot, SnapshotExt, Span, Store, StoreExt};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::ops::ControlFlow;

/// A foreign server that this one observes: run by a [`Pull`](crate::Pull) that is [`observing`](crate::Pull::observing).
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::FOREIGN_MASTER)]
pub struct ForeignMaster {
    /// What the relation is called here.
    #[ttlv(tag = x::RELATION)]
    pub relation: Text,
    /// The server id that its objects get here.
    #[ttlv(tag = x::SERVER_ID)]
    pub server: Text,
    /// The instance of that server.
    #[ttlv(tag = x::INSTANCE)]
    pub instance: Vec<u8>,
    pub(crate) selected: Selected,
    /// How many seconds before the newest date a window begins.
    #[ttlv(tag = x::OVERLAP)]
    pub overlap: i64,
    /// After how many passes over a window all objects are looked at; 0 for never.
    #[ttlv(tag = x::FULL_EVERY)]
    pub full_every: i64,
    /// After how many seconds all objects are looked at; 0 for never.
    #[ttlv(tag = x::FULL_AFTER)]
    pub full_after: i64,
    /// The newest Last Change Date up to which everything was seen, by the clock of that server; none where it shows none.
    #[ttlv(tag = x::NEWEST)]
    pub newest: Option<DateTime>,
    /// Whether its Locate knows Last Change Date, as far as was seen: where it does not, all objects are looked at each time.
    #[ttlv(tag = x::LOCATES_DATES)]
    pub locates_dates: Option<bool>,
    /// What is under way.
    pub(crate) pass: Option<Pass>,
    /// Passes over a window since the last one over everything.
    #[ttlv(tag = x::RUNS)]
    pub runs: i64,
    /// When the last pass came to its end, by our clock; 0 for never.
    #[ttlv(tag = x::LAST_PASS)]
    pub passed: DateTime,
    /// When the last pass over everything came to its end, by our clock; 0 for never.
    #[ttlv(tag = x::LAST_FULL_PASS)]
    pub full: DateTime,
    /// The number of the last session: an earlier one writes no more.
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
    /// Whether it is not observed for the time being.
    #[ttlv(tag = x::PAUSED)]
    pub paused: Option<bool>,
    /// How many objects could not be taken so far, and are asked for again.
    #[ttlv(tag = x::COUNT_RETRIED)]
    pub retried: i64,
    /// How many objects held here it does not have any more.
    #[ttlv(tag = x::COUNT_MISSING)]
    pub missing: i64,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// A pass under way: over a window of dates, or over everything.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[ttlv(tag = x::PASS)]
pub(crate) struct Pass {
    /// Where its window begins; none for all objects.
    #[ttlv(tag = x::WINDOW_FROM)]
    pub(crate) from: Option<DateTime>,
    /// The clock of that server when it began: what changes later is seen by the next one.
    #[ttlv(tag = x::PASS_HEAD)]
    pub(crate) head: Option<DateTime>,
    /// The newest Last Change Date that it saw.
    #[ttlv(tag = x::NEWEST)]
    pub(crate) seen: Option<DateTime>,
    #[ttlv(extra)]
    pub(crate) extra: Extra,
}

/// What is observed, and how often as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignMasterOptions {
    /// Which objects.
    pub selection: Selection,
    /// The instance of the server, so that one that was set up anew is another one.
    pub instance: Vec<u8>,
    /// How many seconds windows overlap (60): more than its clocks differ, and than a change takes to be shown.
    pub overlap: i64,
    /// After how many passes over a window all objects are looked at (24); 0 for never.
    pub full_every: i64,
    /// After how many seconds all objects are looked at (a day); 0 for never.
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

/// Everything of a kind that is kept under a prefix.
pub(crate) fn all<T: Decode + keyferry_ttlv::Tagged>(
    snapshot: &dyn Snapshot,
    prefix: &[u8],
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    snapshot.state(&Span::prefix(prefix), &mut |_, value| {
        all.push(read(value, "foreign relation")?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(all)
}

impl ForeignMaster {
    /// The foreign servers that are observed.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<ForeignMaster>> {
        all(snapshot, keys::FOREIGN_MASTER)
    }

    /// One of them, by the name of the relation.
    ///
    /// # Errors
    /// Those of the store.
    pub fn find(snapshot: &dyn Snapshot, relation: &str) -> Result<Option<ForeignMaster>> {
        let stored = snapshot.state_value(&keys::foreign_master(relation))?;
        Ok(stored
            .map(|bytes| read(&bytes, "foreign relation"))
            .transpose()?)
    }

    /// What could not be taken so far, with when it is asked for again.
    ///
    /// # Errors
    /// Those of the store.
    pub fn retries(snapshot: &dyn Snapshot, relation: &str) -> Result<Vec<Retry>> {
        all(snapshot, &keys::foreign_retry_prefix(relation))
    }

    /// The objects held here that the last look at everything did not find there any more: they are kept (DESIGN: rule 6).
    ///
    /// # Errors
    /// Those of the store.
    pub fn missing(snapshot: &dyn Snapshot, relation: &str) -> Result<Vec<ObjectId>> {
        all(snapshot, &keys::foreign_missing_prefix(relation))
    }

    /// What is observed.
    pub fn selection(&self) -> Selection {
        self.selected.selection()
    }

    /// What became of the objects of the pass under way, or of the last one.
    ///
    /// # Errors
    /// Those of the store.
    pub fn counts(&self, snapshot: &dyn Snapshot) -> Result<Counts> {
        let stored = snapshot.state_value(&keys::foreign_counts(&self.relation))?;
        Ok(stored
            .map(|bytes| read(&bytes, "progress of a transfer"))
            .transpose()?
            .unwrap_or_default())
    }

    /// For how many seconds what changed there may not have been seen: since the last pass came to its end. Nothing before the first.
    pub fn lag_seconds(&self, now: DateTime) -> Option<u64> {
        (self.passed.0 > 0).then(|| u64::try_from(now.0.saturating_sub(self.passed.0)).unwrap_or(0))
    }

    pub(crate) fn entry(&self) -> keyferry_store::Result<(Vec<u8>, Option<Vec<u8>>)> {
        Ok((keys::foreign_master(&self.relation), Some(bytes_of(self)?)))
    }

    /// Begins to observe a foreign server, or observes it otherwise from now on: the next pass looks at everything.
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
        if what.selection.with_links {
            return Err(Error::new(ErrorKind::Selection, LINKS));
        }
        what.selection.query()?;
        store.transact(|transaction| {
            let held = ForeignMaster::find(transaction, relation)?;
            if let Some(held) = held
                .as_ref()
                .filter(|held| held.server != *server || held.instance != what.instance)
            {
                let why = format_args!(
                    "the relation {relation:?} is with the server {:?}, or an instance of it",
                    held.server
                );
                return Err(Error::new(ErrorKind::Relation, why));
            }
            let fresh = ForeignMaster {
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
            };
            let master = match held {
                None => fresh,
                Some(held) => ForeignMaster {
                    session: held.session,
                    since: held.since,
                    passed: held.passed,
                    contact: held.contact,
                    paused: held.paused,
                    retried: held.retried,
                    missing: held.missing,
                    extra: held.extra,
                    ..fresh
                },
            };
            let (key, value) = master.entry()?;
            Ok(transaction.set_state(&key, value.as_deref())?)
        })
    }

    /// Changes the relation as it is stored.
    pub(crate) fn change(
        store: &dyn Store,
        relation: &str,
        change: impl Fn(&mut ForeignMaster) -> Result<()>,
    ) -> Result<ForeignMaster> {
        store.transact(|transaction| {
            let mut master =
                ForeignMaster::find(transaction, relation)?.ok_or_else(|| none(relation))?;
            change(&mut master)?;
            let (key, value) = master.entry()?;
            transaction.set_state(&key, value.as_deref())?;
            Ok(master)
        })
    }

    /// Observes it no further until it is [resumed](ForeignMaster::resume).
    ///
    /// # Errors
    /// When there is no such relation, and those of the store; so for the next two.
    pub fn pause(store: &dyn Store, relation: &str) -> Result<()> {
        ForeignMaster::change(store, relation, |master| {
            master.paused = Some(true);
            Ok(())
        })
        .map(drop)
    }

    /// Goes on observing it.
    ///
    /// # Errors
    /// As for [`pause`](ForeignMaster::pause).
    pub fn resume(store: &dyn Store, relation: &str) -> Result<()> {
        ForeignMaster::change(store, relation, |master| {
            master.paused = None;
            Ok(())
        })
        .map(drop)
    }

    /// Observes it no more. The copies stay as they are.
    ///
    /// # Errors
    /// As for [`pause`](ForeignMaster::pause).
    pub fn end(store: &dyn Store, relation: &str) -> Result<()> {
        store.transact(|transaction| {
            if ForeignMaster::find(transaction, relation)?.is_none() {
                return Err(none(relation));
            }
            transaction.set_state(&keys::foreign_master(relation), None)?;
            transaction.set_state(&keys::foreign_counts(relation), None)?;
            forget(transaction, &keys::foreign_taken_prefix(relation))?;
            forget(transaction, &keys::foreign_retry_prefix(relation))?;
            Ok(forget(
                transaction,
                &keys::foreign_missing_prefix(relation),
            )?)
        })
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

    /// Where the next window begins; nothing when everything is to be looked at.
    pub(crate) fn window(&self, head: Option<DateTime>, now: DateTime) -> Option<DateTime> {
        let newest = self.newest.filter(|_| self.locates_dates != Some(false))?;
        let from = DateTime(newest.0.saturating_sub(self.overlap));
        let often = self.full_every > 0 && self.runs >= self.full_every;
        let long = self.full_after > 0 && now.0.saturating_sub(self.full.0) >= self.full_after;
        // Its clock was set back: what changes now has dates before the window.
        let back = head.is_some_and(|head| head < from);
        (!often && !long && !back).then_some(from)
    }

    /// Ends the pass under way.
    pub(crate) fn passed(&mut self, now: DateTime) {
        let Some(pass) = self.pass.take() else { return };
        // What changed since it began, it may have seen or not.
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
