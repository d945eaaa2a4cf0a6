//! The end of a batch: what became of its objects is counted, and stored together with the identifier map and the place in the feed.

use crate::error::{Error, Result};
use crate::push::publish::object::{Ending, Stage, Work};
use crate::push::publish::{Publish, change};
use crate::relation::identifier_map;
use crate::relation::identifier_map::Mapped;
use crate::relation::keys::Entry;
use crate::report::{ObjectResult, Outcome};
use crate::session::SessionContext;
use keyferry_store::{ObjectId, StoreExt};

/// Milliseconds: a batch that took less is followed by a larger one.
const QUICK_BATCH: u64 = 2_000;

/// Milliseconds: a batch that took more is followed by a smaller one, so that a slow peer is not kept from answering.
const SLOW_BATCH: u64 = 10_000;

impl Publish {
    /// Counts what became of the batch's objects, and stores the counts, the map and the end of the batch together.
    pub(super) fn record_batch_results(&mut self, cx: &mut SessionContext<'_>) -> Result<()> {
        let (mut entries, mut results) = (Vec::new(), Vec::new());
        if self.works.iter().any(Work::is_gone_probe) {
            entries.push((self.probe_key(), None));
        }
        for work in std::mem::take(&mut self.works) {
            if work.is_probe() {
                continue;
            }
            let mut result = work.result();
            entries.extend(self.map_entries_after(cx, &work, &result)?);
            if let Some(planned) = &work.planned
                && self.ledger.stop_if_unplanned(planned, &mut result)
            {
                break;
            }
            if self.ledger.planning.is_some() {
                let planned = work.to_planned(&result)?;
                self.ledger.add_to_plan(|| planned)?;
            }
            results.push((work.record.id, result.clone()));
            self.ledger.record_result(result);
        }
        if self.ledger.executing.is_some() {
            self.ledger.complete_planned(results.len());
        } else {
            self.ledger.report.counts.cursor = i64::try_from(self.batch_end).unwrap_or(i64::MAX);
        }
        self.store_batch_results(cx, entries, &results)?;
        self.adapt_batch_size(cx);
        self.one_by_one = false;
        self.ledger.observe(cx.now);
        Ok(())
    }

    /// What the identifier map says of an object from now on.
    fn map_entries_after(
        &self,
        cx: &SessionContext<'_>,
        work: &Work,
        result: &ObjectResult,
    ) -> Result<Vec<Entry>> {
        let name = &self.setting.name;
        let forgotten = || Ok(vec![identifier_map::forgotten(name, &work.record.id)?]);
        if matches!(work.stage, Stage::Over(Ending::Unconfirmed(_))) {
            // The next run looks at it again.
            return match &work.mapped {
                Some(mapped) => identifier_map::entries(name, mapped),
                None => Ok(Vec::new()),
            };
        }
        if result.outcome == Outcome::Withdrawn {
            return forgotten();
        }
        let failed = result.outcome.is_failure();
        match (&work.peer_identifier, &work.mapped) {
            (Some(identifier), Some(mapped)) if work.is_deselected() => {
                let mapped = Mapped {
                    there: Some(identifier.clone()),
                    left: Some(true),
                    ..mapped.clone()
                };
                identifier_map::entries(name, &mapped)
            }
            (Some(identifier), _) => {
                let sent_marks = if failed {
                    work.sent_marks().to_vec()
                } else {
                    change::marks(self.wanted_at_peer(cx, work)?.iter())
                };
                let digest = if failed {
                    None
                } else {
                    Some(work.record.copy_digest()?)
                };
                let mapped = Mapped {
                    there: Some(identifier.clone()),
                    digest,
                    said: Some(sent_marks),
                    ..Mapped::intended(&work.record.id)
                };
                identifier_map::entries(name, &mapped)
            }
            (None, mapped) if failed || mapped.is_some() => forgotten(),
            (None, _) => Ok(Vec::new()),
        }
    }

    /// Stores the results of a batch in one transaction: that of the relation, if the session runs one.
    fn store_batch_results(
        &mut self,
        cx: &mut SessionContext<'_>,
        mut entries: Vec<Entry>,
        results: &[(ObjectId, ObjectResult)],
    ) -> Result<()> {
        let counts = self.ledger.counts_entry()?;
        entries.extend(counts.map(|(key, value)| (key, Some(value))));
        let Some(running) = &mut self.running else {
            return self.store(cx, &entries);
        };
        let end = self.batch_end;
        cx.store.transact::<_, Error>(|transaction| {
            running.record_results(transaction, cx.now.wall, &mut *cx.random, results, end)?;
            identifier_map::store(transaction, &self.setting.name, &entries)
        })?;
        running.committed = end;
        Ok(())
    }

    /// Makes the next batch larger while the peer is quick, and smaller when it is slow or refused a message as a whole.
    fn adapt_batch_size(&mut self, cx: &SessionContext<'_>) {
        let milliseconds = cx.now.tick.0.saturating_sub(self.batch_began.0);
        if self.one_by_one || milliseconds > SLOW_BATCH {
            self.batch = (self.batch / 2).max(1);
        } else if milliseconds < QUICK_BATCH {
            self.batch = (self.batch * 2).min(self.setting.batch.max(1));
        }
    }
}
