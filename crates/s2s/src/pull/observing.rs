//! A pull that runs a relation: passes over windows of Last Change Date, now and then one over everything, and what could not be taken asked for
//! again ([rule 14](crate::design#rule-14)).

use crate::error::{Error, ErrorKind, Result};
use crate::pull::answers::{FetchedContent, FetchedObject, is_absent};
use crate::pull::missing::next_records;
use crate::pull::{Pull, Sought, Why};
use crate::relation::foreign_master::{ForeignMaster, Pass};
use crate::relation::keys;
use crate::relation::retry::{Retry, later};
use crate::report::{NAMED, ObjectResult, Outcome};
use crate::session::SessionContext;
use keyferry_kmip::spec::{ResultReason as Reason, State, tag};
use keyferry_kmip::{DateTime, Random, Text};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{Cursor, Effects, Record, Snapshot, SnapshotExt, StoreExt, Transaction};
use keyferry_ttlv::Extra;

/// The last second of the year 9999: the largest value of all means that there is no such attribute (KMIP 1.4 §4.9).
pub(super) const LAST: DateTime = DateTime(253_402_300_799);

/// What a session knows of the relation that it runs.
#[derive(Default)]
pub(crate) struct Observing {
    /// The number of the session.
    session: i64,
    /// The pass under way, as it was begun.
    pass: Pass,
    /// The newest date that the pass before reached.
    newest: Option<DateTime>,
    /// The newest date that was seen.
    seen: Option<DateTime>,
    unlisted: UnlistedScan,
}

/// How far the own objects were looked through for those that the server has not listed.
#[derive(Clone, Default)]
enum UnlistedScan {
    /// They are not looked through, or all of them were.
    #[default]
    Over,
    /// From the beginning.
    Begin,
    /// Behind this one.
    Behind(Cursor),
}

/// Last Change Dates that an answer shows.
pub(super) struct Dates {
    pub(super) newest: Option<DateTime>,
    /// A hit was none: the server does not look for dates, or shows none.
    stray: bool,
}

/// Objects of the retry set that a pass begins with, at the most.
const AT_ONCE: usize = 1000;

/// Whether a refusal says that the server can't look for the attribute.
pub(super) fn is_unknown(reason: Option<Reason>) -> bool {
    matches!(
        reason,
        Some(
            Reason::INVALID_FIELD
                | Reason::INVALID_ATTRIBUTE
                | Reason::INVALID_ATTRIBUTE_VALUE
                | Reason::UNSUPPORTED_ATTRIBUTE
                | Reason::ATTRIBUTE_NOT_FOUND
                | Reason::FEATURE_NOT_SUPPORTED
                | Reason::OPERATION_NOT_SUPPORTED
        )
    )
}

impl Pull {
    /// Whether the pass under way is one over a window.
    pub(super) fn is_window(&self) -> bool {
        self.observing
            .as_ref()
            .is_some_and(|observing| observing.pass.from.is_some())
    }

    /// Begins a session of the relation: under a number above all earlier ones.
    pub(super) fn begin(&mut self, cx: &SessionContext<'_>) -> Result<()> {
        let Some(observing) = &mut self.observing else {
            return Ok(());
        };
        let refused = |why: &str| Err(Error::new(ErrorKind::Relation, why));
        if self.ledger.dry_run || self.ledger.executing.is_some() {
            return refused("a relation is not run dry, and has no plan");
        }
        let server = &self.options.from.server;
        let relation = ForeignMaster::change(cx.store, &self.options.name, |relation| {
            if relation.server != *server {
                return refused("the relation is with another server");
            }
            if relation.paused == Some(true) {
                return refused("the relation is paused");
            }
            relation.session += 1;
            Ok(())
        })?;
        self.options.selection = relation.selection();
        self.options.instance = relation.instance.clone();
        observing.session = relation.session;
        Ok(())
    }

    /// Begins a pass, or goes on with one that was interrupted. `head` is what the server takes for now.
    pub(super) fn begin_pass(&mut self, cx: &SessionContext<'_>, head: DateTime) -> Result<()> {
        let Some(observing) = &mut self.observing else {
            return Ok(());
        };
        if self.listing.is_some() {
            return Ok(());
        }
        let head = Some(head).filter(|head| head.0 > 0);
        let (now, session) = (cx.now.wall, observing.session);
        let stored = cx
            .store
            .view(|snapshot| ForeignMaster::current(snapshot, &self.options.name, session))?;
        if stored.pass.is_none() && self.ledger.report.counts.asked > 0 {
            // What an earlier pass has taken that was given up says nothing about this one.
            self.ledger.start_over();
        }
        let relation = ForeignMaster::change(cx.store, &self.options.name, |relation| {
            if relation.pass.is_none() {
                relation.pass = Some(Pass {
                    from: relation.window(head, now),
                    head,
                    ..Pass::default()
                });
            }
            relation.contact = now;
            Ok(())
        })?;
        observing.pass = relation.pass.clone().unwrap_or_default();
        (observing.newest, observing.seen) = (relation.newest, observing.pass.seen);
        let from = observing.pass.from;
        observing.unlisted = match from {
            None => UnlistedScan::Begin,
            Some(_) => UnlistedScan::Over,
        };
        self.list(cx, from)?;
        self.due(cx, &relation)
    }

    /// What could not be taken, and is due, comes first.
    fn due(&mut self, cx: &SessionContext<'_>, relation: &ForeignMaster) -> Result<()> {
        if relation.retried == 0 {
            return Ok(());
        }
        let retries = cx
            .store
            .view(|snapshot| ForeignMaster::retries(snapshot, &self.options.name))?;
        let Some(listing) = &mut self.listing else {
            return Ok(());
        };
        let due = retries
            .into_iter()
            .filter(|retry| retry.due <= cx.now.wall)
            .take(AT_ONCE);
        for Retry { id, .. } in due.filter(|retry| listing.seen.insert(&retry.id.identifier)) {
            self.wanted.push_back(Sought {
                identifier: id.identifier,
                why: Why::Again,
                planned: None,
            });
        }
        Ok(())
    }

    /// Makes the pass one over everything: `unknown` says that the server does not look for dates.
    pub(super) fn widen(&mut self, cx: &SessionContext<'_>, unknown: bool) -> Result<()> {
        let Some(observing) = &mut self.observing else {
            return Ok(());
        };
        let relation = ForeignMaster::change(cx.store, &self.options.name, |relation| {
            if relation.session != observing.session {
                return Err(Error::new(ErrorKind::Relation, "another session has begun"));
            }
            if let Some(pass) = &mut relation.pass {
                pass.from = None;
            }
            if unknown {
                relation.locates_dates = Some(false);
            }
            Ok(())
        })?;
        observing.pass = relation.pass.unwrap_or_default();
        observing.unlisted = UnlistedScan::Begin;
        let before = self.listing.take();
        let wanted = std::mem::take(&mut self.wanted);
        self.list(cx, None)?;
        self.wanted = wanted;
        if let (Some(listing), Some(before)) = (&mut self.listing, before) {
            // What is asked for already is not asked for again.
            listing.seen = before.seen;
        }
        Ok(())
    }

    /// The relation as it is stored now, where this runs one.
    pub(super) fn current(&self, snapshot: &dyn Snapshot) -> Result<Option<ForeignMaster>> {
        let current = |observing: &Observing| {
            ForeignMaster::current(snapshot, &self.options.name, observing.session)
        };
        self.observing.as_ref().map(current).transpose()
    }

    /// What the dates in an answer say.
    pub(super) fn dates(&self, shown: &[(Sought, FetchedObject)]) -> Dates {
        let from = self
            .observing
            .as_ref()
            .and_then(|observing| observing.pass.from);
        let mut dates = Dates {
            newest: None,
            stray: false,
        };
        for (sought, shown) in shown {
            let FetchedObject::Object(seeing) = shown else {
                continue;
            };
            let date = date(seeing);
            dates.newest = dates.newest.max(date);
            dates.stray |= sought.why == Why::Located
                && from.is_some_and(|from| date.is_none_or(|date| date < from));
        }
        dates
    }

    /// After an answer was taken.
    pub(super) fn took(&mut self, cx: &SessionContext<'_>, dates: &Dates) -> Result<()> {
        let Some(observing) = &mut self.observing else {
            return Ok(());
        };
        observing.seen = observing.seen.max(dates.newest);
        // Something that was not asked for: whatever else it does not look for was not listed, perhaps.
        if dates.stray && observing.pass.from.is_some() {
            self.widen(cx, true)
        } else {
            Ok(())
        }
    }

    /// What is kept of an object in the relation, in the transaction that takes it: that it could not be taken, or is missing there.
    pub(super) fn keep(
        &self,
        snapshot: &dyn Snapshot,
        now: DateTime,
        random: &mut dyn Random,
        relation: &mut ForeignMaster,
        (sought, told): (&Sought, &ObjectResult),
        effects: &mut Effects,
    ) -> Result<()> {
        let id = self.foreign(sought);
        let (retry, missing) = (
            keys::about(keys::foreign_retry_prefix(&relation.relation), &id)?,
            keys::about(keys::foreign_missing_prefix(&relation.relation), &id)?,
        );
        let stored = |key: &[u8], any: bool| {
            if any {
                snapshot.state_value(key)
            } else {
                Ok(None)
            }
        };
        let tried: Option<Retry> = stored(&retry, relation.retried > 0)?
            .map(|bytes| read(&bytes, "object to retry"))
            .transpose()?;
        if told.outcome.is_failure() {
            let next = Retry {
                id: id.clone(),
                why: told.message.as_deref().unwrap_or_default().into(),
                attempts: tried
                    .as_ref()
                    .map_or(1, |tried| tried.attempts.saturating_add(1)),
                due: later(now, tried.as_ref(), random),
                pass: self.ledger.report.counts.session,
                extra: Extra::NONE,
            };
            effects.state.push((retry, Some(bytes_of(&next)?)));
            relation.retried += i64::from(tried.is_none());
        } else if tried.is_some() {
            effects.state.push((retry, None));
            relation.retried = relation.retried.saturating_sub(1);
        }
        let was = stored(&missing, relation.missing > 0)?.is_some();
        let gone = told.outcome == Outcome::Skipped && is_absent(told.reason);
        let is = match told.outcome {
            Outcome::Failed => was,
            _ => {
                gone && snapshot
                    .by_object_id(&id)?
                    .is_some_and(|(_, held)| !held.is_destroyed())
            }
        };
        if is != was {
            effects
                .state
                .push((missing, is.then(|| bytes_of(&id)).transpose()?));
            relation.missing = relation.missing.saturating_add(if is { 1 } else { -1 });
        }
        Ok(())
    }

    /// Whether something is left of a pass whose list has come to its end.
    pub(super) fn has_more(&mut self, cx: &SessionContext<'_>) -> Result<bool> {
        let Some(observing) = &self.observing else {
            return Ok(false);
        };
        if observing.pass.from.is_some() && observing.newest > observing.seen {
            // What was newest is gone, or the clock was set back: nobody knows what else was.
            self.widen(cx, false)?;
            return Ok(true);
        }
        self.ask_for_unlisted(cx)
    }

    /// Asks for what is held here and was not listed: destroyed objects that a Locate does not find, and those that are no more there.
    fn ask_for_unlisted(&mut self, cx: &SessionContext<'_>) -> Result<bool> {
        let Some(query) = &self.query else {
            return Ok(false);
        };
        while let (Some(listing), Some(observing)) = (&mut self.listing, &mut self.observing) {
            let after = match std::mem::take(&mut observing.unlisted) {
                UnlistedScan::Over => return Ok(false),
                UnlistedScan::Begin => None,
                UnlistedScan::Behind(cursor) => Some(cursor),
            };
            let (lacking, last) = cx.store.view::<_, Error>(|snapshot| {
                let (records, last) = next_records(snapshot, after.as_ref())?;
                let is_lacking = |record: &Record| {
                    let selection = &self.options.selection;
                    let is_selected = selection.is_everything()
                        || selection.is_listed(&record.id.identifier)
                            && query.matches(record, cx.now.wall);
                    // That it was compromised, too, may be learnt of what is destroyed.
                    let is_final = record.attributes.state() == Some(State::DESTROYED_COMPROMISED);
                    self.options.is_of_source(record)
                        && is_selected
                        && !is_final
                        && !listing.seen.has(&record.id.identifier)
                };
                let lacking: Vec<Text> = records
                    .into_iter()
                    .filter(is_lacking)
                    .map(|record| record.id.identifier)
                    .collect();
                Ok((lacking, last))
            })?;
            if let Some(last) = last {
                observing.unlisted = UnlistedScan::Behind(last);
            }
            for identifier in lacking {
                listing.seen.insert(&identifier);
                self.wanted.push_back(Sought {
                    identifier,
                    why: Why::Again,
                    planned: None,
                });
            }
            if !self.wanted.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Names what is missing there by its identifiers here.
    pub(super) fn name_missing(&mut self, cx: &SessionContext<'_>) -> Result<()> {
        self.ledger.report.missing = cx.store.view::<_, Error>(|snapshot| {
            let mut names = Vec::new();
            for id in ForeignMaster::missing(snapshot, &self.options.name)?
                .iter()
                .take(NAMED)
            {
                names.extend(
                    snapshot
                        .by_object_id(id)?
                        .map(|(_, record)| record.identifier.to_string()),
                );
            }
            Ok(names)
        })?;
        Ok(())
    }

    /// The end of a pass, in the transaction that ends it.
    pub(super) fn passed(
        &self,
        cx: &SessionContext<'_>,
        transaction: &mut dyn Transaction,
    ) -> Result<()> {
        let Some(mut relation) = self.current(transaction)? else {
            return Ok(());
        };
        relation.passed(cx.now.wall);
        let (key, value) = relation.entry()?;
        Ok(transaction.set_state(&key, value.as_deref())?)
    }

    /// Notes why a session failed, for whoever looks at the relation.
    pub(super) fn failed(&self, cx: &SessionContext<'_>, error: &Error) {
        let Some(observing) = &self.observing else {
            return;
        };
        // That this can't be stored would be no better reason.
        let _ = ForeignMaster::change(cx.store, &self.options.name, |relation| {
            if relation.session == observing.session {
                relation.error = Some(error.to_string().as_str().into());
            }
            Ok(())
        });
    }
}

fn date(seeing: &FetchedContent) -> Option<DateTime> {
    seeing.attributes.date(tag::LAST_CHANGE_DATE)
}
