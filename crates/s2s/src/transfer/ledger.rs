//! What a transfer has done so far: kept in the store, told to whoever listens, summed up in the report.

use crate::error::Result;
use crate::progress::{Meter, Observer, Sink};
use crate::relation::keys;
use crate::report::{Counts, ObjectResult, Outcome, PlanDeviation, Report};
use crate::session::SessionContext;
use crate::transfer::plan::{Executing, Planned, Planning, Purpose, Source};
use keyferry_kmip::Now;
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{SnapshotExt, StoreExt};
use std::io::Write;

#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) key: Vec<u8>,
    pub(crate) report: Report,
    pub(crate) dry_run: bool,
    pub(crate) sink: Option<Sink>,
    pub(crate) observer: Option<Observer>,
    /// The plan that a dry run writes.
    pub(crate) planning: Option<Planning>,
    /// The plan that is executed.
    pub(crate) executing: Option<Executing>,
    meter: Meter,
    started: bool,
}

impl Ledger {
    pub(crate) fn new(key: Vec<u8>, dry_run: bool) -> Self {
        Ledger {
            key,
            dry_run,
            ..Ledger::default()
        }
    }

    /// Makes it a dry run that writes a plan.
    pub(crate) fn plans(&mut self, sink: impl Write + Send + 'static) {
        self.dry_run = true;
        self.planning = Some(Planning::new(Box::new(sink)));
    }

    /// Makes it the execution of a plan. Its progress is none of the transfer without one.
    pub(crate) fn executes(&mut self, plan: impl Source + 'static) {
        self.key = keys::plan(&self.key);
        self.executing = Some(Executing::new(Box::new(plan)));
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    /// Where the transfer stands: stored progress, or a new one. A cursor of another incarnation or selection says nothing about this one.
    ///
    /// Fails when a plan is to be executed that is not whole, or not for this.
    pub(crate) fn start(&mut self, cx: &SessionContext<'_>, purpose: &Purpose<'_>) -> Result<()> {
        let mut selection = purpose.selection.clone();
        if let Some(plan) = &mut self.executing {
            plan.open(cx, purpose)?;
            selection = Some(plan.seal.clone());
        }
        let (stored, head) = cx.store.view::<_, crate::error::Error>(|snapshot| {
            Ok((snapshot.state_value(&self.key)?, snapshot.head()?))
        })?;
        let stored: Counts = stored
            .map(|bytes| read(&bytes, "progress of a transfer"))
            .transpose()?
            .unwrap_or_default();
        let goes_on = !stored.finished
            && stored.session > 0
            && stored.incarnation == head.incarnation.0
            && stored.selection == selection
            && !self.dry_run;
        self.report.counts = if goes_on {
            stored
        } else {
            Counts {
                session: stored.session + 1,
                incarnation: head.incarnation.0.to_vec(),
                selection,
                ..Counts::default()
            }
        };
        if let Some(plan) = &mut self.executing {
            plan.skip(self.report.counts.cursor)?;
            self.report.counts.total = Some(plan.count());
        }
        self.meter.start(cx.now.tick, &self.report.counts);
        self.started = true;
        Ok(())
    }

    /// How many objects a transfer has that begins now. Nobody counts them unless somebody wants to know.
    pub(crate) fn expect(&mut self, count: impl FnOnce() -> Result<u64>) -> Result<()> {
        if self.observer.is_some()
            && self.report.counts.asked == 0
            && self.report.counts.total.is_none()
        {
            self.report.counts.total = Some(i64::try_from(count()?).unwrap_or(i64::MAX));
        }
        Ok(())
    }

    /// Starts over under the next number.
    pub(crate) fn start_over(&mut self) {
        let counts = std::mem::take(&mut self.report).counts;
        self.report.counts = Counts {
            session: counts.session + 1,
            incarnation: counts.incarnation,
            selection: counts.selection,
            total: counts.total,
            ..Counts::default()
        };
    }

    /// The counts as they are kept; `None` for a dry run, which keeps nothing.
    pub(crate) fn kept(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        if self.dry_run || !self.started {
            return Ok(None);
        }
        Ok(Some((self.key.clone(), bytes_of(&self.report.counts)?)))
    }

    /// Stores the counts.
    pub(crate) fn save(&self, cx: &SessionContext<'_>) -> Result<()> {
        match self.kept()? {
            Some((key, value)) => cx.store.transact::<_, crate::error::Error>(|transaction| {
                Ok(transaction.set_state(&key, Some(&value))?)
            }),
            None => Ok(()),
        }
    }

    /// Writes into the plan, where there is one.
    pub(crate) fn plan(&mut self, planned: impl FnOnce() -> Planned) -> Result<()> {
        self.planning
            .as_mut()
            .map_or(Ok(()), |planning| planning.add(&planned()))
    }

    /// So many objects of the plan are done.
    pub(crate) fn done(&mut self, objects: usize) {
        if let Some(plan) = &mut self.executing {
            plan.done(objects);
            self.report.counts.cursor += i64::try_from(objects).unwrap_or(i64::MAX);
        }
    }

    /// Whether an object did not end as planned: then the execution stops at it. What is there already as planned an earlier run has
    /// brought: it counts as that.
    pub(crate) fn is_unplanned(&mut self, planned: &Planned, told: &mut ObjectResult) -> bool {
        let outcome = planned.outcome;
        if told.outcome == Outcome::Unchanged
            && matches!(
                outcome,
                Outcome::Created | Outcome::Updated | Outcome::Renamed
            )
        {
            told.outcome = outcome;
        }
        if told.outcome == outcome {
            return false;
        }
        let message = told
            .message
            .as_ref()
            .map(|message| format!(": {message}"))
            .unwrap_or_default();
        self.stop(planned, outcome, format_args!("{}{message}", told.outcome));
        true
    }

    /// Stops the execution of a plan at an object.
    pub(crate) fn stop(
        &mut self,
        planned: &Planned,
        was: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) {
        let identifier = planned.identifier.to_string();
        self.report.stopped = Some(PlanDeviation {
            identifier,
            planned: was.to_string(),
            found: found.to_string(),
        });
    }

    /// It has come to its end: to the end of all that there is, unless a plan was stopped.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.report.counts.finished = self.report.stopped.is_none();
        self.planning.as_mut().map_or(Ok(()), Planning::end)
    }

    /// Counts what became of an object.
    pub(crate) fn tell(&mut self, told: ObjectResult) {
        if let Some(sink) = &mut self.sink {
            sink(&told);
        }
        self.report.add_result(told);
    }

    pub(crate) fn observe(&mut self, now: Now) {
        if let Some(observer) = &mut self.observer {
            let of = self
                .report
                .counts
                .total
                .and_then(|total| u64::try_from(total).ok());
            observer(&self.meter.progress(now.tick, &self.report.counts, of));
        }
    }

    /// The report, at the end.
    pub(crate) fn finish(&mut self) -> Report {
        self.started = false;
        Report {
            dry_run: self.dry_run,
            ..std::mem::take(&mut self.report)
        }
    }
}
