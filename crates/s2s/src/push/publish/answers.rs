//! What the answers about an object say.

use crate::error::{Error, Result};
use crate::push::publish::steps::{self, lacking};
use crate::push::publish::{Birth, NOT_KEPT, Phase, Publish, change};
use crate::relation::identifier_map;
use crate::relation::identifier_map::Mapped;
use crate::report::{ObjectResult, Outcome};
use crate::session::SessionContext;
use crate::wire::copy::Held;
use keyferry_kmip::spec::ResultReason;
use keyferry_kmip::{
    Attributes, GetAttributesResponse, ImportResponse, LocateResponse, Payload, RegisterResponse,
    ResponseItem, Text, UniqueIdentifier, context, lifecycle,
};
use keyferry_store::StoreExt;

/// Whether an answer says that there is no such object.
fn is_absent(item: &ResponseItem) -> bool {
    matches!(
        item.result_reason,
        Some(ResultReason::ITEM_NOT_FOUND | ResultReason::OBJECT_NOT_FOUND)
    )
}

fn message(item: &ResponseItem) -> String {
    item.result_message
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default()
}

impl Publish {
    fn read<P: Payload>(&self, item: &ResponseItem) -> Result<P> {
        item.payload(context(self.setting.version))
            .map_err(Error::protocol)
    }

    /// Takes what the answer about one object says: its last item tells.
    pub(super) fn take(
        &mut self,
        cx: &SessionContext<'_>,
        n: usize,
        items: &[ResponseItem],
    ) -> Result<()> {
        let last = items.last();
        let good = last.filter(|item| item.is_success());
        let refused = last.filter(|item| !item.is_success());
        match self.phase {
            Phase::Locate => {
                let found = good
                    .map(|item| self.read::<LocateResponse>(item))
                    .transpose()?;
                let found =
                    found.map(|found| found.unique_identifiers.iter().map(Text::from).collect());
                self.located(n, found.unwrap_or_default());
                self.intend(cx, n)?;
            }
            Phase::Birth => {
                let there = match (good, self.setting.birth) {
                    (Some(item), Birth::Register) => {
                        Some(self.read::<RegisterResponse>(item)?.unique_identifier)
                    }
                    (Some(item), Birth::Import) => {
                        Some(self.read::<ImportResponse>(item)?.unique_identifier)
                    }
                    (None, _) => None,
                };
                let there = there.and_then(|there| {
                    if let UniqueIdentifier::Text(text) = there {
                        Some(text)
                    } else {
                        None
                    }
                });
                self.born(cx, n, there, refused)?;
            }
            Phase::Check | Phase::Look | Phase::Lead => {
                let shown = good
                    .map(|item| self.read::<GetAttributesResponse>(item))
                    .transpose()?;
                let shown = shown.map(|answer| answer.attributes);
                match self.phase {
                    Phase::Check => self.checked(n, shown, refused)?,
                    Phase::Look => self.looked(cx, n, shown, refused)?,
                    _ => self.led(cx, n, shown, refused)?,
                }
            }
            Phase::Remove => {
                let removed = items.iter().all(ResponseItem::is_success);
                self.works
                    .get_mut(n)
                    .into_iter()
                    .for_each(|work| (work.at, work.gone) = (None, work.probe && removed));
            }
            Phase::Query | Phase::Next => {}
        }
        Ok(())
    }

    /// A hit is checked by what it shows; with none, it was never registered.
    fn located(&mut self, n: usize, found: Vec<Text>) {
        let Some(work) = self.works.get_mut(n) else {
            return;
        };
        work.candidates = found;
        work.there = work.candidates.pop();
        if work.there.is_none() && work.object.is_none() {
            let told = ObjectResult::new(&work.record.identifier, Outcome::Skipped);
            work.gone = work.stale;
            return work.over(told);
        }
        work.at = Some(if work.there.is_some() {
            Phase::Look
        } else {
            Phase::Birth
        });
    }

    fn born(
        &mut self,
        cx: &SessionContext<'_>,
        n: usize,
        there: Option<Text>,
        refused: Option<&ResponseItem>,
    ) -> Result<()> {
        let (imports, looks) = (self.setting.birth == Birth::Import, self.can_look());
        let Some(work) = self.works.get_mut(n) else {
            return Ok(());
        };
        let Some(there) = there else {
            let exists = refused.is_some_and(|item| {
                item.result_reason == Some(ResultReason::OBJECT_ALREADY_EXISTS)
            });
            if exists && imports && looks && !work.exists && work.mapped.is_some() {
                // An earlier Import was late, perhaps.
                (work.exists, work.meant) = (true, true);
                work.there = Some(work.record.identifier.clone());
                work.at = Some(Phase::Look);
                return Ok(());
            }
            match work.level.less().filter(|_| !imports && !exists) {
                Some(less) => work.level = less,
                None if work.probe => (work.at, work.gone) = (None, true),
                None => {
                    work.there = None;
                    let reason = refused.and_then(|item| item.result_reason);
                    work.over(ObjectResult::failed(
                        &work.record.identifier,
                        reason,
                        refused.map(message).unwrap_or_default(),
                    ));
                }
            }
            return Ok(());
        };
        work.there = Some(there.clone());
        work.at = Some(Phase::Look);
        work.born = true;
        let (of, level, probe, record) = (
            work.record.object_type,
            work.level,
            work.probe,
            work.record.clone(),
        );
        if !looks {
            let is_other = there != work.record.identifier;
            let lost =
                crate::outgoing::item::carried(&work.record.attributes, self.setting.version).1;
            let outcome = if is_other {
                Outcome::Renamed
            } else {
                Outcome::Created
            };
            let target = is_other.then(|| there.to_string());
            work.over(ObjectResult {
                lost,
                target,
                ..ObjectResult::new(&work.record.identifier, outcome)
            });
        }
        // A probe has little, which says nothing of how much the peer takes.
        if !probe {
            self.levels.retain(|(known, _)| *known != of);
            self.levels.push((of, level));
            let (name, version) = (&self.setting.name, self.setting.version);
            let wanted = cx
                .store
                .view::<_, Error>(|snapshot| steps::wanted(snapshot, name, &record, version))?;
            let said = Some(change::marks(wanted.iter()));
            let mapped = Mapped {
                there: Some(there),
                said,
                ..Mapped::intended(&record.id)
            };
            self.changed.extend(identifier_map::entries(name, &mapped)?);
            self.works
                .get_mut(n)
                .into_iter()
                .for_each(|work| work.mapped = Some(mapped.clone()));
        }
        Ok(())
    }

    /// Before anything is written: for a plan, or by one.
    fn checked(
        &mut self,
        n: usize,
        shown: Option<Attributes>,
        refused: Option<&ResponseItem>,
    ) -> Result<()> {
        let losses = self
            .works
            .get(n)
            .map(|work| self.expected_losses(&work.record))
            .unwrap_or_default();
        let Some(work) = self.works.get_mut(n) else {
            return Ok(());
        };
        let identifier = work.record.identifier.clone();
        let is_absent = refused.is_some_and(is_absent);
        if shown.is_none() && !is_absent {
            let reason = refused.and_then(|item| item.result_reason);
            work.over(ObjectResult::failed(
                &identifier,
                reason,
                refused.map(message).unwrap_or_default(),
            ));
            return Ok(());
        }
        let held = match &shown {
            Some(shown) => Held::foreign(steps::shown_digest(&work.record, shown)?),
            None => Held::default(),
        };
        if let Some(planned) = work
            .planned
            .as_ref()
            .filter(|planned| planned.held.as_ref().is_some_and(|was| *was != held))
        {
            let was = planned.held.clone().unwrap_or_default();
            self.ledger.stop(
                planned,
                format_args!("{was} at the target"),
                format_args!("{held} at the target"),
            );
            return Ok(());
        }
        work.held = Some(held);
        match (shown, work.is_known()) {
            (Some(shown), true) => {
                work.shown = Some(shown);
                if self.ledger.dry_run {
                    work.over(ObjectResult {
                        lost: losses,
                        ..ObjectResult::new(&identifier, Outcome::Updated)
                    });
                    return Ok(());
                }
                work.at = Some(Phase::Lead);
                // From now on it may be what the plan does not know.
                let begun = self.ledger.executing.as_ref().map(|plan| plan.seal.clone());
                if let Some(mapped) = work.mapped.as_mut() {
                    mapped.begun = begun;
                    self.changed
                        .extend(identifier_map::entries(&self.setting.name, mapped)?);
                }
            }
            (None, true) => work.over(ObjectResult::failed(&identifier, None, GONE)),
            (Some(_), false) => {
                work.there = None;
                let why = "the peer has an object of this identifier";
                work.over(ObjectResult::failed(
                    &identifier,
                    Some(ResultReason::OBJECT_ALREADY_EXISTS),
                    why,
                ));
            }
            (None, false) => {
                work.there = None;
                work.at = Some(Phase::Birth);
                if self.ledger.dry_run {
                    work.over(ObjectResult {
                        lost: losses,
                        ..ObjectResult::new(&identifier, Outcome::Created)
                    });
                }
            }
        }
        Ok(())
    }

    /// Stores that an object is to be brought there after all, as it is now.
    fn intend(&mut self, cx: &SessionContext<'_>, n: usize) -> Result<()> {
        if let Some(work) = self
            .works
            .get(n)
            .filter(|work| work.at == Some(Phase::Birth) && !work.probe)
        {
            let intent = self.intent(cx, work)?;
            self.changed.extend(intent);
        }
        Ok(())
    }

    fn looked(
        &mut self,
        cx: &SessionContext<'_>,
        n: usize,
        shown: Option<Attributes>,
        refused: Option<&ResponseItem>,
    ) -> Result<()> {
        let imports = self.setting.birth == Birth::Import;
        let goal = self.works.get(n).and_then(|work| self.goal(cx, work));
        let Some(work) = self.works.get_mut(n) else {
            return Ok(());
        };
        let identifier = work.record.identifier.clone();
        match (shown, refused) {
            (Some(shown), _)
                if work.stale && !shown.state().is_some_and(lifecycle::is_destroyed) =>
            {
                (work.shown, work.at) = (Some(shown), Some(Phase::Remove));
            }
            (shown, refused) if work.stale => {
                (work.at, work.gone) = (None, shown.is_some() || refused.is_none_or(is_absent));
            }
            (Some(shown), _) if work.meant && imports && !steps::may_be(&shown, &work.record) => {
                work.there = None;
                let why = "the peer has another object of this identifier";
                work.over(ObjectResult::failed(
                    &identifier,
                    Some(ResultReason::OBJECT_ALREADY_EXISTS),
                    why,
                ));
            }
            (Some(shown), _)
                if work.meant && !imports && !steps::has_marker(&shown, &work.record.id)? =>
            {
                // Another object, which the peer has taken for it.
                work.there = work.candidates.pop();
                work.at = Some(if work.there.is_some() {
                    Phase::Look
                } else {
                    Phase::Birth
                });
                work.meant = work.there.is_some();
                self.intend(cx, n)?;
            }
            (Some(shown), _)
                if shown.state().is_some_and(lifecycle::is_destroyed)
                    && steps::is_usable(goal)
                    && !work.probe =>
            {
                work.over(ObjectResult::failed(&identifier, None, DESTROYED_THERE));
            }
            (Some(shown), _) => {
                work.shown = Some(shown.clone());
                work.at = Some(Phase::Lead);
                // Where nothing is to be done, this was the reading back.
                if self.leading(cx, n)?.is_empty() {
                    return self.led(cx, n, Some(shown), None);
                }
            }
            // It never came there.
            (None, refused) if work.meant && imports && refused.is_none_or(is_absent) => {
                (work.there, work.meant) = (None, false);
                work.at = Some(Phase::Birth);
                if work.object.is_none() {
                    work.over(ObjectResult::new(&identifier, Outcome::Skipped));
                }
                self.intend(cx, n)?;
            }
            (None, refused) => {
                let reason = refused.and_then(|item| item.result_reason);
                work.unsure = work.meant;
                work.over(ObjectResult::failed(
                    &identifier,
                    reason,
                    refused.map(message).unwrap_or_default(),
                ));
            }
        }
        Ok(())
    }

    fn led(
        &mut self,
        cx: &SessionContext<'_>,
        n: usize,
        shown: Option<Attributes>,
        refused: Option<&ResponseItem>,
    ) -> Result<()> {
        let goal = self.works.get(n).and_then(|work| self.goal(cx, work));
        let goes = self.works.get(n).is_some_and(|work| self.goes(work));
        let imports = self.setting.birth == Birth::Import;
        let Some(work) = self.works.get_mut(n) else {
            return Ok(());
        };
        let identifier = work.record.identifier.clone();
        let Some(shown) = shown else {
            let reason = refused.and_then(|item| item.result_reason);
            // What was destroyed there may have no attributes any more.
            let told = if goes {
                ObjectResult::new(&identifier, Outcome::Withdrawn)
            } else if work.record.is_destroyed() && self.setting.may_destroy {
                ObjectResult {
                    lost: steps::all(&work.record),
                    ..ObjectResult::new(&identifier, Outcome::Updated)
                }
            } else {
                ObjectResult::failed(
                    &identifier,
                    reason,
                    refused.map(message).unwrap_or_default(),
                )
            };
            work.over(told);
            return Ok(());
        };
        let kept = steps::is_usable(shown.state()) == steps::is_usable(goal);
        if work.probe {
            self.keeps = Some(kept);
            work.shown = Some(shown);
            work.at = Some(Phase::Remove);
        } else if !kept && shown.state().is_some_and(lifecycle::is_destroyed) {
            work.over(ObjectResult::failed(&identifier, None, DESTROYED_THERE));
        } else if goes && !shown.state().is_some_and(lifecycle::is_destroyed) {
            work.over(ObjectResult::failed(
                &identifier,
                None,
                "it has left the selection, and the peer does not destroy it",
            ));
        } else if goes {
            work.over(ObjectResult::new(&identifier, Outcome::Withdrawn));
        } else if work.left && kept {
            let message = Some(LEFT_THERE.to_owned());
            work.over(ObjectResult {
                message,
                ..ObjectResult::new(&identifier, Outcome::Skipped)
            });
        } else if !kept {
            work.told = Some(ObjectResult::failed(&identifier, None, NOT_KEPT));
            // It must not stay there as one that can be used.
            let goes = self.setting.may_destroy && !steps::is_usable(goal);
            work.shown = Some(shown);
            work.at = goes.then_some(Phase::Remove);
        } else {
            let mut lost = lacking(
                cx.store,
                &self.setting.name,
                &work.record,
                &shown,
                cx.now.wall,
            )?;
            let stays = |value: &&keyferry_kmip::spec::AttributeValue| {
                change::is_marked(work.said(), value)
                    && !work.record.attributes.has(&value.reference())
            };
            // What is no more here and still there.
            lost.extend(
                shown
                    .iter()
                    .map(|other| &other.value)
                    .filter(stays)
                    .map(|value| value.reference().to_string()),
            );
            lost.dedup();
            let other = work.there.as_ref().filter(|there| **there != identifier);
            let outcome = match (work.is_known(), other) {
                (true, _) => Outcome::Updated,
                (false, Some(_)) if imports => Outcome::Renamed,
                (false, _) => Outcome::Created,
            };
            let target = if imports { other } else { work.there.as_ref() };
            work.over(ObjectResult {
                lost,
                target: target.map(ToString::to_string),
                ..ObjectResult::new(&identifier, outcome)
            });
        }
        Ok(())
    }
}

const DESTROYED_THERE: &str = "it was destroyed at the peer, and is not brought there again";

const LEFT_THERE: &str =
    "it does not belong to the selection any more: it stays there, and only its State is led on";

const GONE: &str = "the peer does not have it any more";
