//! The ledger of a transfer: what it has done so far. The counts are kept in the store, each result is told to whoever listens, and all are summed
//! up in the report.

use crate::error::{Error, Result};
use crate::progress::{Meter, Observer, Sink};
use crate::relation::keys;
use crate::report::{Counts, ObjectResult, Outcome, PlanDeviation, Report};
use crate::session::SessionContext;
use crate::transfer::plan::{PlanExecution, PlanFile, PlanWriter, Planned, Purpose};
use keyferry_kmip::Now;
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{SnapshotExt, StoreExt};
use std::io::Write;

/// What a transfer has done so far.
#[derive(Default)]
pub(crate) struct Ledger {
    /// The state key under which the counts are kept.
    pub(crate) key: Vec<u8>,
    pub(crate) report: Report,
    pub(crate) dry_run: bool,
    pub(crate) sink: Option<Sink>,
    pub(crate) observer: Option<Observer>,
    /// The plan that a dry run writes.
    pub(crate) planning: Option<PlanWriter>,
    /// The plan that is executed.
    pub(crate) executing: Option<PlanExecution>,
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
    pub(crate) fn write_plan(&mut self, sink: impl Write + Send + 'static) {
        self.dry_run = true;
        self.planning = Some(PlanWriter::new(Box::new(sink)));
    }

    /// Makes it the execution of a plan. Its counts are kept apart from those of the transfer without a plan.
    pub(crate) fn execute_plan(&mut self, plan: impl PlanFile + 'static) {
        self.key = keys::plan(&self.key);
        self.executing = Some(PlanExecution::new(Box::new(plan)));
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started
    }

    /// Begins where the stored counts say, or anew: counts of another incarnation of the store or of another selection say nothing about this
    /// transfer.
    ///
    /// Fails when a plan is to be executed that is not whole, or is for something else.
    pub(crate) fn start(&mut self, cx: &SessionContext<'_>, purpose: &Purpose<'_>) -> Result<()> {
        let mut selection = purpose.selection.clone();
        if let Some(plan) = &mut self.executing {
            plan.open(cx, purpose)?;
            selection = Some(plan.seal.clone());
        }
        let (stored, head) = cx.store.view::<_, Error>(|snapshot| {
            Ok((snapshot.state_value(&self.key)?, snapshot.head()?))
        })?;
        let stored: Counts = stored
            .map(|bytes| read(&bytes, "progress of a transfer"))
            .transpose()?
            .unwrap_or_default();
        let continues = !stored.finished
            && stored.session > 0
            && stored.incarnation == head.incarnation.0
            && stored.selection == selection
            && !self.dry_run;
        self.report.counts = if continues {
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

    /// Has the objects of a transfer that begins now counted, if an observer wants to know their number.
    pub(crate) fn expect_total(&mut self, count: impl FnOnce() -> Result<u64>) -> Result<()> {
        if self.observer.is_some()
            && self.report.counts.asked == 0
            && self.report.counts.total.is_none()
        {
            self.report.counts.total = Some(i64::try_from(count()?).unwrap_or(i64::MAX));
        }
        Ok(())
    }

    /// Starts over under the next session number.
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

    /// The state entry that keeps the counts; `None` for a dry run, which keeps nothing.
    pub(crate) fn counts_entry(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        if self.dry_run || !self.started {
            return Ok(None);
        }
        Ok(Some((self.key.clone(), bytes_of(&self.report.counts)?)))
    }

    /// Stores the counts.
    pub(crate) fn save(&self, cx: &SessionContext<'_>) -> Result<()> {
        match self.counts_entry()? {
            Some((key, value)) => cx
                .store
                .transact::<_, Error>(|transaction| Ok(transaction.set_state(&key, Some(&value))?)),
            None => Ok(()),
        }
    }

    /// Adds an object to the plan, if one is written.
    pub(crate) fn add_to_plan(&mut self, planned: impl FnOnce() -> Planned) -> Result<()> {
        self.planning
            .as_mut()
            .map_or(Ok(()), |planning| planning.add(&planned()))
    }

    /// Passes over the next objects of the plan, which are done.
    pub(crate) fn complete_planned(&mut self, objects: usize) {
        if let Some(plan) = &mut self.executing {
            plan.complete(objects);
            self.report.counts.cursor += i64::try_from(objects).unwrap_or(i64::MAX);
        }
    }

    /// Stops the execution of a plan if an object did not end as planned; returns whether it did stop. An object that was found unchanged counts as
    /// planned: an earlier run of the same plan has brought it.
    pub(crate) fn stop_if_unplanned(
        &mut self,
        planned: &Planned,
        result: &mut ObjectResult,
    ) -> bool {
        let outcome = planned.outcome;
        if result.outcome == Outcome::Unchanged
            && matches!(
                outcome,
                Outcome::Created | Outcome::Updated | Outcome::Renamed
            )
        {
            result.outcome = outcome;
        }
        if result.outcome == outcome {
            return false;
        }
        let message = result
            .message
            .as_ref()
            .map(|message| format!(": {message}"))
            .unwrap_or_default();
        self.stop(
            planned,
            outcome,
            format_args!("{}{message}", result.outcome),
        );
        true
    }

    /// Stops the execution of a plan at an object, and notes what was planned of it and what was found.
    pub(crate) fn stop(
        &mut self,
        at: &Planned,
        planned: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) {
        let identifier = at.identifier.to_string();
        self.report.stopped = Some(PlanDeviation {
            identifier,
            planned: planned.to_string(),
            found: found.to_string(),
        });
    }

    /// Notes that the transfer has ended: it is finished unless the execution of a plan has stopped. A plan that is written gets its end.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.report.counts.finished = self.report.stopped.is_none();
        self.planning.as_mut().map_or(Ok(()), PlanWriter::end)
    }

    /// Counts what became of an object, and tells the sink.
    pub(crate) fn record_result(&mut self, result: ObjectResult) {
        if let Some(sink) = &mut self.sink {
            sink(&result);
        }
        self.report.add_result(result);
    }

    /// Tells the observer how far the transfer has come.
    pub(crate) fn observe(&mut self, now: Now) {
        if let Some(observer) = &mut self.observer {
            let total = self
                .report
                .counts
                .total
                .and_then(|total| u64::try_from(total).ok());
            observer(&self.meter.progress(now.tick, &self.report.counts, total));
        }
    }

    /// Returns the report of the transfer that has ended.
    pub(crate) fn finish(&mut self) -> Report {
        self.started = false;
        Report {
            dry_run: self.dry_run,
            ..std::mem::take(&mut self.report)
        }
    }
}
