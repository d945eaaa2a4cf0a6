//! What comes next: out of the feed, out of a plan, or once more; and the intents that are stored before anything is sent.

use crate::error::{Error, Result};
use crate::outgoing::feed::FeedPage;
use crate::push::publish::object::Work;
use crate::push::publish::steps::{self, is_usable};
use crate::push::publish::{Phase, Publish, change};
use crate::push::running::has_left;
use crate::relation::identifier_map;
use crate::relation::identifier_map::Mapped;
use crate::relation::keys;
use crate::session::SessionContext;
use keyferry_store::{Record, Snapshot, SnapshotExt, StoreExt};

impl Publish {
    /// Reads the next batch; `false` at the end.
    pub(super) fn next(&mut self, cx: &mut SessionContext<'_>) -> Result<bool> {
        if !std::mem::replace(&mut self.swept, true)
            && !self.ledger.dry_run
            && let Some(stale) = self.stale_probe(cx)?
        {
            self.works.push(stale);
            (self.phase, self.began) = (Phase::Check, cx.now.tick);
            return Ok(true);
        }
        if self.ledger.executing.is_some() {
            if !self.next_planned(cx)? {
                return Ok(false);
            }
        } else if !self.next_again(cx)? {
            let Some(chosen) = &self.chosen else {
                return Ok(false);
            };
            let (runs, name) = (self.runs, &self.setting.name);
            let tells = &mut |snapshot: &dyn Snapshot, _, record: &Record| {
                Ok(runs && has_left(snapshot, name, record)?)
            };
            let stretch = FeedPage::read(
                cx.store,
                self.end,
                self.batch,
                self.setting.batch_bytes,
                chosen,
                tells,
            )?;
            let Some(FeedPage { objects, end }) = stretch else {
                return Ok(false);
            };
            let objects = objects
                .into_iter()
                .map(|(of, record, object)| (!chosen.has(of, &record), record, object));
            for (left, record, object) in objects.collect::<Vec<_>>() {
                let work = self.work(cx, record, object, None, left)?;
                self.works.push(work);
            }
            self.end = end;
        }
        // Whatever may come there for the first time, now or when nothing was found of an earlier run.
        let unusable = |work: &Work| {
            let comes = work.at.is_some() && !work.is_known() && work.object.is_some();
            comes && !is_usable(work.record.state(cx.now.wall))
        };
        if self.keeps.is_none() && !self.ledger.dry_run && self.works.iter().any(unusable) {
            let probe = self.probe(cx)?;
            self.works.insert(0, probe);
        }
        // The intents, before anything is sent.
        let comes = |work: &&Work| {
            let born =
                matches!(work.at, Some(Phase::Birth | Phase::Check)) && work.mapped.is_none();
            born && !work.probe
        };
        let intents = self
            .works
            .iter()
            .filter(comes)
            .map(|work| self.intent(cx, work));
        let intents: Vec<_> = intents
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect();
        self.store(cx, &intents)?;
        (self.phase, self.began) = (Phase::Check, cx.now.tick);
        Ok(true)
    }

    /// What objects are about to be told of attributes is stored before it goes: should the answer be lost, the peer has what is ours.
    pub(super) fn saying(&mut self, cx: &SessionContext<'_>, of: &[usize]) -> Result<()> {
        let (name, version) = (self.setting.name.clone(), self.setting.version);
        let mut entries = Vec::new();
        for n in of {
            let Some(work) = self
                .works
                .get_mut(*n)
                .filter(|work| !work.born && !work.left)
            else {
                continue;
            };
            let wanted = cx.store.view::<_, Error>(|snapshot| {
                steps::wanted(snapshot, &name, &work.record, version)
            })?;
            let new: Vec<_> = wanted
                .iter()
                .filter(|value| !change::is_marked(work.said(), value))
                .collect();
            let said = [work.said(), &change::marks(new.iter().copied())].concat();
            if let Some(mapped) = work.mapped.as_mut().filter(|_| !new.is_empty()) {
                mapped.said = Some(said);
                entries.extend(identifier_map::entries(&name, mapped)?);
            }
        }
        self.store(cx, &entries)
    }

    /// What is stored before an object is sent for the first time.
    pub(super) fn intent(&self, cx: &SessionContext<'_>, work: &Work) -> Result<Vec<keys::Entry>> {
        let (name, version) = (&self.setting.name, self.setting.version);
        let wanted = cx
            .store
            .view::<_, Error>(|snapshot| steps::wanted(snapshot, name, &work.record, version))?;
        // An earlier one may have come there as it was then.
        let said = Some([work.said(), &change::marks(wanted.iter())].concat());
        identifier_map::entries(
            name,
            &Mapped {
                said,
                ..Mapped::intended(&work.record.id)
            },
        )
    }

    /// The next object of a plan: one at a time, since nothing behind one that is not as planned may be done.
    fn next_planned(&mut self, cx: &SessionContext<'_>) -> Result<bool> {
        let Some(plan) = &mut self.ledger.executing else {
            return Ok(false);
        };
        let Some(planned) = plan.next(1)?.pop() else {
            return Ok(false);
        };
        let (record, object) = match planned.source(cx)? {
            Ok(source) => source,
            Err((was, found)) => {
                self.ledger.stop(&planned, was, found);
                return Ok(false);
            }
        };
        let work = self.work(cx, record, object, Some(planned), false)?;
        self.works.push(work);
        Ok(true)
    }

    /// What a relation has to try again; `false` when there is nothing of it left.
    fn next_again(&mut self, cx: &SessionContext<'_>) -> Result<bool> {
        let Some(running) = &mut self.running else {
            return Ok(false);
        };
        let due = running.due(cx, self.batch)?;
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
                let left = !chosen.has(number, &record);
                found.push((left, record, object.filter(|_| !left)));
            }
            Ok(found)
        })?;
        for (left, record, object) in found {
            let work = self.work(cx, record, object, None, left)?;
            self.works.push(work);
        }
        Ok(!self.works.is_empty())
    }
}
