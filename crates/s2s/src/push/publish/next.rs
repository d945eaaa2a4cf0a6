//! The next batch of objects: from the feed, from a plan, or those to be tried again; and the intents that are stored before anything is sent
//! ([rule 13](crate::design#rule-13)).

use crate::error::{Error, Result};
use crate::outgoing::feed::FeedPage;
use crate::push::publish::object::{Kind, Stage, Work};
use crate::push::publish::steps::is_usable;
use crate::push::publish::{KeepsState, Phase, Publish, change};
use crate::push::running::was_brought;
use crate::relation::identifier_map;
use crate::relation::identifier_map::Mapped;
use crate::relation::keys;
use crate::session::SessionContext;
use crate::transfer::plan::PlannedSource;
use keyferry_kmip::Object;
use keyferry_store::{Record, Snapshot, SnapshotExt, StoreExt};

impl Publish {
    /// Reads the next batch; `false` at the end.
    pub(super) fn next_batch(&mut self, cx: &mut SessionContext<'_>) -> Result<bool> {
        if !std::mem::replace(&mut self.looked_for_leftover_probe, true)
            && !self.ledger.dry_run
            && let Some(leftover) = self.leftover_probe(cx)?
        {
            self.works.push(leftover);
            (self.phase, self.batch_began) = (Phase::Check, cx.now.tick);
            return Ok(true);
        }
        let found = if self.ledger.executing.is_some() {
            self.add_next_planned(cx)?
        } else {
            self.add_due_retries(cx)? || self.add_feed_page(cx)?
        };
        if !found {
            return Ok(false);
        }
        self.add_probe_if_needed(cx)?;
        self.store_intents(cx)?;
        (self.phase, self.batch_began) = (Phase::Check, cx.now.tick);
        Ok(true)
    }

    /// Adds the objects of the next page of the feed; `false` at its end.
    fn add_feed_page(&mut self, cx: &SessionContext<'_>) -> Result<bool> {
        let Some(chosen) = &self.chosen else {
            return Ok(false);
        };
        let (runs_relation, name) = (self.runs_relation, &self.setting.name);
        let include_deselected = &mut |snapshot: &dyn Snapshot, _, record: &Record| {
            Ok(runs_relation && was_brought(snapshot, name, record)?)
        };
        let page = FeedPage::read(
            cx.store,
            self.batch_end,
            self.batch,
            self.setting.batch_bytes,
            chosen,
            include_deselected,
        )?;
        let Some(FeedPage { objects, end }) = page else {
            return Ok(false);
        };
        let mut found = Vec::new();
        for (number, record, object) in objects {
            found.push((kind_of(chosen.has(number, &record)), record, object));
        }
        self.add_works(cx, found)?;
        self.batch_end = end;
        Ok(true)
    }

    /// Adds the next object of the plan; `false` at its end. It is one at a time, since nothing may be done behind an object that is not as
    /// planned.
    fn add_next_planned(&mut self, cx: &SessionContext<'_>) -> Result<bool> {
        let Some(plan) = &mut self.ledger.executing else {
            return Ok(false);
        };
        let Some(planned) = plan.upcoming(1)?.pop() else {
            return Ok(false);
        };
        match planned.find_source(cx)? {
            PlannedSource::AsPlanned(source) => {
                let (record, object) = *source;
                let work = self.work_for(cx, record, object, Some(planned), Kind::Selected)?;
                self.works.push(work);
                Ok(true)
            }
            PlannedSource::Changed {
                planned: was,
                found,
            } => {
                self.ledger.stop(&planned, was, found);
                Ok(false)
            }
        }
    }

    /// Adds the objects that the relation has to try again; `false` when none of them is left.
    fn add_due_retries(&mut self, cx: &SessionContext<'_>) -> Result<bool> {
        let Some(running) = &mut self.running else {
            return Ok(false);
        };
        let due = running.due_retries(cx, self.batch)?;
        let Some(chosen) = &self.chosen else {
            return Ok(false);
        };
        let found = cx.store.view::<_, Error>(|snapshot| {
            let mut found = Vec::new();
            for id in &due {
                let Some((number, _)) = snapshot.by_object_id(id)? else {
                    continue;
                };
                let Some((record, object)) = snapshot.whole(number)? else {
                    continue;
                };
                let is_chosen = chosen.has(number, &record);
                found.push((kind_of(is_chosen), record, object.filter(|_| is_chosen)));
            }
            Ok(found)
        })?;
        self.add_works(cx, found)?;
        Ok(!self.works.is_empty())
    }

    fn add_works(
        &mut self,
        cx: &SessionContext<'_>,
        found: Vec<(Kind, Record, Option<Object>)>,
    ) -> Result<()> {
        for (kind, record, object) in found {
            let work = self.work_for(cx, record, object, None, kind)?;
            self.works.push(work);
        }
        Ok(())
    }

    /// Puts a probe in front if the batch has a key that is not usable and may come to the peer for the first time: now, or when the peer shows
    /// nothing of an earlier run.
    fn add_probe_if_needed(&mut self, cx: &mut SessionContext<'_>) -> Result<()> {
        let may_arrive_unusable = |work: &Work| {
            !work.is_over()
                && !work.arrived_before()
                && work.object.is_some()
                && !is_usable(work.record.state(cx.now.wall))
        };
        if self.keeps_state == KeepsState::Unknown
            && !self.ledger.dry_run
            && self.works.iter().any(may_arrive_unusable)
        {
            let probe = self.new_probe(cx)?;
            self.works.insert(0, probe);
        }
        Ok(())
    }

    /// Stores the intents of all objects that may be created at the peer.
    fn store_intents(&self, cx: &SessionContext<'_>) -> Result<()> {
        let mut intents = Vec::new();
        for work in &self.works {
            if matches!(work.stage, Stage::Create | Stage::Check)
                && work.mapped.is_none()
                && !work.is_probe()
            {
                intents.extend(self.intent(cx, work)?);
            }
        }
        self.store(cx, &intents)
    }

    /// Stores the marks of the attribute values that are about to be sent: should the answer be lost, the next run knows which values at the peer
    /// are ours.
    pub(super) fn store_marks_to_send(
        &mut self,
        cx: &SessionContext<'_>,
        works: &[usize],
    ) -> Result<()> {
        let mut entries = Vec::new();
        for n in works {
            let Some(work) = self.works.get(*n) else {
                continue;
            };
            if work.presence.is_created() || work.is_deselected() {
                continue;
            }
            let wanted = self.wanted_at_peer(cx, work)?;
            let new: Vec<_> = wanted
                .iter()
                .filter(|value| !change::is_marked(work.sent_marks(), value))
                .collect();
            let sent_marks = [work.sent_marks(), &change::marks(new.iter().copied())].concat();
            if new.is_empty() {
                continue;
            }
            let mapped = self.works.get_mut(*n).and_then(|work| work.mapped.as_mut());
            if let Some(mapped) = mapped {
                mapped.said = Some(sent_marks);
                entries.extend(identifier_map::entries(&self.setting.name, mapped)?);
            }
        }
        self.store(cx, &entries)
    }

    /// The intent: what is stored before an object is sent for the first time.
    pub(super) fn intent(&self, cx: &SessionContext<'_>, work: &Work) -> Result<Vec<keys::Entry>> {
        let wanted = self.wanted_at_peer(cx, work)?;
        // An earlier run may have brought it there as it was then.
        let sent_marks = Some([work.sent_marks(), &change::marks(wanted.iter())].concat());
        let mapped = Mapped {
            said: sent_marks,
            ..Mapped::intended(&work.record.id)
        };
        identifier_map::entries(&self.setting.name, &mapped)
    }
}

fn kind_of(is_chosen: bool) -> Kind {
    if is_chosen {
        Kind::Selected
    } else {
        Kind::Deselected
    }
}
