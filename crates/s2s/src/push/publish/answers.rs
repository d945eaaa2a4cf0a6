//! The answers of the peer: what each of them says about an object, and what follows from that.

use crate::error::{Error, Result};
use crate::outgoing::item::representable_attributes;
use crate::push::publish::object::{Changes, Ending, Kind, Presence, Stage, Work};
use crate::push::publish::reading::{Reading, Refusal};
use crate::push::publish::steps::{self, is_usable, names_not_kept};
use crate::push::publish::{CreateBy, KeepsState, Phase, Publish, STATE_NOT_KEPT, change};
use crate::relation::identifier_map;
use crate::relation::identifier_map::Mapped;
use crate::report::{ObjectResult, Outcome};
use crate::session::SessionContext;
use crate::wire::copy::Held;
use keyferry_kmip::spec::{AttributeValue, ResultReason, State};
use keyferry_kmip::{
    Attributes, GetAttributesResponse, ImportResponse, LocateResponse, Payload, RegisterResponse,
    ResponseItem, Text, UniqueIdentifier, context, lifecycle,
};

fn is_destroyed(shown: &Attributes) -> bool {
    shown.state().is_some_and(lifecycle::is_destroyed)
}

impl Publish {
    fn read<P: Payload>(&self, item: &ResponseItem) -> Result<P> {
        item.payload(context(self.setting.version))
            .map_err(Error::protocol)
    }

    /// Reads the answer about one object and moves the object to its next stage. The last of the items says what became of it.
    pub(super) fn apply_answer(
        &mut self,
        cx: &SessionContext<'_>,
        n: usize,
        items: &[ResponseItem],
    ) -> Result<()> {
        let last = items.last();
        let success = last.filter(|item| item.is_success());
        let refusal = Refusal(last.filter(|item| !item.is_success()));
        match self.phase {
            Phase::Locate => {
                let candidates = match success {
                    Some(item) => {
                        let found = self.read::<LocateResponse>(item)?.unique_identifiers;
                        found.iter().map(Text::from).collect()
                    }
                    None => Vec::new(),
                };
                self.on_located(n, candidates);
                self.add_intent(cx, n)
            }
            Phase::Create => {
                let identifier = match success {
                    Some(item) => self.created_identifier(item)?,
                    None => None,
                };
                match identifier {
                    Some(identifier) => self.on_created(cx, n, identifier),
                    None => {
                        self.on_creation_refused(n, refusal);
                        Ok(())
                    }
                }
            }
            Phase::Check | Phase::Inspect | Phase::Update => {
                let reading = match success {
                    Some(item) => {
                        Reading::Shown(self.read::<GetAttributesResponse>(item)?.attributes)
                    }
                    None => Reading::Refused(refusal),
                };
                match self.phase {
                    Phase::Check => self.on_checked(n, reading),
                    Phase::Inspect => self.on_inspected(cx, n, reading),
                    _ => self.on_updated(cx, n, reading),
                }
            }
            Phase::Remove => {
                self.on_removed(n, items.iter().all(ResponseItem::is_success));
                Ok(())
            }
            Phase::Query | Phase::Next => Ok(()),
        }
    }

    fn created_identifier(&self, item: &ResponseItem) -> Result<Option<Text>> {
        let identifier = match self.setting.create_by {
            CreateBy::Register => self.read::<RegisterResponse>(item)?.unique_identifier,
            CreateBy::Import => self.read::<ImportResponse>(item)?.unique_identifier,
        };
        Ok(match identifier {
            UniqueIdentifier::Text(text) => Some(text),
            _ => None,
        })
    }

    /// Takes the last hit of Locate to be looked at; without one, the object was never registered.
    fn on_located(&mut self, n: usize, mut candidates: Vec<Text>) {
        let Some(work) = self.works.get_mut(n) else {
            return;
        };
        work.peer_identifier = candidates.pop();
        if work.peer_identifier.is_some() {
            work.stage = Stage::Inspect { candidates };
        } else if work.object.is_some() {
            work.stage = Stage::Create;
        } else if work.kind == Kind::LeftoverProbe {
            work.stage = Stage::Over(Ending::ProbeGone);
        } else {
            work.report_outcome(Outcome::Skipped);
        }
    }

    fn on_creation_refused(&mut self, n: usize, refusal: Refusal<'_>) {
        let (imports, looks) = (self.imports(), self.can_look());
        let Some(work) = self.works.get_mut(n) else {
            return;
        };
        let exists = refusal.says_existing();
        if exists && imports && looks && !work.presence.was_refused() && work.mapped.is_some() {
            // The object may be an earlier Import of ours that arrived late.
            work.presence = Presence::RefusedAsExisting;
            work.peer_identifier = Some(work.record.identifier.clone());
            work.stage = Stage::inspect();
            return;
        }
        match work.level.reduced().filter(|_| !imports && !exists) {
            Some(reduced) => work.level = reduced,
            None if work.is_probe() => work.stage = Stage::Over(Ending::ProbeGone),
            None => {
                work.peer_identifier = None;
                work.report(refusal.result(&work.record.identifier));
            }
        }
    }

    /// Notes that the peer has created an object, in the map as well.
    fn on_created(&mut self, cx: &SessionContext<'_>, n: usize, identifier: Text) -> Result<()> {
        let (looks, version) = (self.can_look(), self.setting.version);
        let Some(work) = self.works.get_mut(n) else {
            return Ok(());
        };
        work.peer_identifier = Some(identifier.clone());
        work.presence = work.presence.after_creation();
        work.stage = Stage::inspect();
        if !looks {
            let is_other = identifier != work.record.identifier;
            let outcome = if is_other {
                Outcome::Renamed
            } else {
                Outcome::Created
            };
            work.report(ObjectResult {
                lost: representable_attributes(&work.record.attributes, version).1,
                target: is_other.then(|| identifier.to_string()),
                ..ObjectResult::new(&work.record.identifier, outcome)
            });
        }
        if work.is_probe() {
            // A probe has few attributes, which says nothing of how many the peer takes.
            return Ok(());
        }
        let (object_type, level) = (work.record.object_type, work.level);
        self.levels.retain(|(known, _)| *known != object_type);
        self.levels.push((object_type, level));
        let Some(work) = self.works.get(n) else {
            return Ok(());
        };
        let mapped = Mapped {
            there: Some(identifier),
            said: Some(change::marks(self.wanted_at_peer(cx, work)?.iter())),
            ..Mapped::intended(&work.record.id)
        };
        self.map_changes
            .extend(identifier_map::entries(&self.setting.name, &mapped)?);
        if let Some(work) = self.works.get_mut(n) {
            work.mapped = Some(mapped);
        }
        Ok(())
    }

    /// Compares what the peer holds with the plan before anything is written, or notes it for the plan.
    fn on_checked(&mut self, n: usize, reading: Reading<'_>) -> Result<()> {
        let Some(work) = self.works.get_mut(n) else {
            return Ok(());
        };
        let shown = match reading {
            Reading::Shown(shown) => Some(shown),
            Reading::Refused(refusal) if refusal.says_absent() => None,
            Reading::Refused(refusal) => {
                work.report(refusal.result(&work.record.identifier));
                return Ok(());
            }
        };
        let held = match &shown {
            Some(shown) => Held::foreign(steps::digest_of_shown(&work.record, shown)?),
            None => Held::default(),
        };
        if let Some(planned) = &work.planned
            && let Some(was) = planned.held.as_ref().filter(|was| **was != held)
        {
            let (was, found) = (
                format!("{was} at the target"),
                format!("{held} at the target"),
            );
            self.ledger.stop(planned, was, found);
            return Ok(());
        }
        work.held = Some(held);
        match (shown, work.arrived_before()) {
            (Some(shown), true) => return self.begin_checked_update(n, shown),
            (None, true) => work.report_failure(GONE_AT_PEER),
            (Some(_), false) => report_identifier_taken(work, HAS_OBJECT),
            (None, false) => {
                work.peer_identifier = None;
                work.stage = Stage::Create;
                if self.ledger.dry_run {
                    self.report_expected(n, Outcome::Created);
                }
            }
        }
        Ok(())
    }

    /// Goes on with an object that the peer holds as planned, or ends it in a dry run.
    fn begin_checked_update(&mut self, n: usize, shown: Attributes) -> Result<()> {
        if self.ledger.dry_run {
            self.report_expected(n, Outcome::Updated);
            return Ok(());
        }
        let Some(work) = self.works.get_mut(n) else {
            return Ok(());
        };
        work.stage = update_of(shown);
        // From now on the peer may hold what the plan does not know.
        let begun = self.ledger.executing.as_ref().map(|plan| plan.seal.clone());
        if let Some(mapped) = work.mapped.as_mut() {
            mapped.begun = begun;
            self.map_changes
                .extend(identifier_map::entries(&self.setting.name, mapped)?);
        }
        Ok(())
    }

    fn report_expected(&mut self, n: usize, outcome: Outcome) {
        let expected = self
            .works
            .get(n)
            .map(|work| self.expected_result(&work.record, outcome));
        if let (Some(work), Some(expected)) = (self.works.get_mut(n), expected) {
            work.report(expected);
        }
    }

    /// Stores the intent of an object that is to be created after all, as it is now.
    fn add_intent(&mut self, cx: &SessionContext<'_>, n: usize) -> Result<()> {
        if let Some(work) = self
            .works
            .get(n)
            .filter(|work| matches!(work.stage, Stage::Create) && !work.is_probe())
        {
            let intent = self.intent(cx, work)?;
            self.map_changes.extend(intent);
        }
        Ok(())
    }

    fn on_inspected(
        &mut self,
        cx: &SessionContext<'_>,
        n: usize,
        reading: Reading<'_>,
    ) -> Result<()> {
        let imports = self.imports();
        let target_state = self
            .works
            .get(n)
            .and_then(|work| self.target_state(cx, work));
        let Some(work) = self.works.get_mut(n) else {
            return Ok(());
        };
        if work.kind == Kind::LeftoverProbe {
            inspect_leftover_probe(work, reading);
            return Ok(());
        }
        let unconfirmed = work.presence.is_unconfirmed();
        let shown = match reading {
            Reading::Shown(shown) => shown,
            Reading::Refused(refusal) => {
                on_inspection_refused(work, imports, refusal);
                return self.add_intent(cx, n);
            }
        };
        if unconfirmed && imports && !steps::may_be_imported(&shown, &work.record) {
            report_identifier_taken(work, HAS_OTHER_OBJECT);
        } else if unconfirmed && !imports && !steps::has_marker(&shown, &work.record.id)? {
            // It is another object, which the peer has taken for this one.
            inspect_next_candidate(work);
            return self.add_intent(cx, n);
        } else if is_destroyed(&shown) && is_usable(target_state) && !work.is_probe() {
            work.report_failure(DESTROYED_AT_PEER);
        } else {
            work.stage = update_of(shown.clone());
            let nothing_to_change = match self.works.get(n) {
                Some(work) => self.update_items(cx, work)?.is_empty(),
                None => false,
            };
            if nothing_to_change {
                // Then it need not be read back.
                return self.on_updated(cx, n, Reading::Shown(shown));
            }
        }
        Ok(())
    }

    /// Finds out from what the peer shows in the end how the object arrived.
    fn on_updated(
        &mut self,
        cx: &SessionContext<'_>,
        n: usize,
        reading: Reading<'_>,
    ) -> Result<()> {
        let Some(work) = self.works.get(n) else {
            return Ok(());
        };
        let (target_state, destroys) = (
            self.target_state(cx, work),
            self.is_destroyed_as_deselected(work),
        );
        let shown = match reading {
            Reading::Shown(shown) => shown,
            Reading::Refused(refusal) => {
                let result = self.result_without_reading(work, refusal);
                if let Some(work) = self.works.get_mut(n) {
                    work.report(result);
                }
                return Ok(());
            }
        };
        let kept = is_usable(shown.state()) == is_usable(target_state);
        if work.is_probe() {
            self.keeps_state = if kept {
                KeepsState::Yes
            } else {
                KeepsState::No
            };
            if let Some(work) = self.works.get_mut(n) {
                work.stage = Stage::Remove {
                    shown,
                    result: None,
                };
            }
            return Ok(());
        }
        let stage = if !kept && is_destroyed(&shown) {
            failure(work, DESTROYED_AT_PEER)
        } else if destroys && !is_destroyed(&shown) {
            failure(work, NOT_DESTROYED_AT_PEER)
        } else if destroys {
            ended(work, Outcome::Withdrawn, None)
        } else if work.is_deselected() && kept {
            ended(work, Outcome::Skipped, Some(LEFT_AT_PEER))
        } else if !kept {
            self.stage_of_unkept(work, shown, target_state)
        } else {
            Stage::Over(Ending::Reported(self.result_of_arrival(cx, work, &shown)?))
        };
        if let Some(work) = self.works.get_mut(n) {
            work.stage = stage;
        }
        Ok(())
    }

    /// What is reported of an object that can't be read back.
    fn result_without_reading(&self, work: &Work, refusal: Refusal<'_>) -> ObjectResult {
        let identifier = &work.record.identifier;
        // What was destroyed at the peer may not have attributes any more.
        if self.is_destroyed_as_deselected(work) {
            ObjectResult::new(identifier, Outcome::Withdrawn)
        } else if work.record.is_destroyed() && self.setting.may_destroy {
            ObjectResult {
                lost: steps::attribute_names(&work.record),
                ..ObjectResult::new(identifier, Outcome::Updated)
            }
        } else {
            refusal.result(identifier)
        }
    }

    /// The stage of an object whose State the peer does not keep: a key must not stay there as one that can be used.
    fn stage_of_unkept(
        &self,
        work: &Work,
        shown: Attributes,
        target_state: Option<State>,
    ) -> Stage {
        let result = ObjectResult::failed(&work.record.identifier, None, STATE_NOT_KEPT);
        if self.setting.may_destroy && !is_usable(target_state) {
            Stage::Remove {
                shown,
                result: Some(result),
            }
        } else {
            Stage::Over(Ending::Reported(result))
        }
    }

    /// What is reported of an object that has arrived, with the attributes that are not at the peer as they are here.
    fn result_of_arrival(
        &self,
        cx: &SessionContext<'_>,
        work: &Work,
        shown: &Attributes,
    ) -> Result<ObjectResult> {
        let (imports, identifier) = (self.imports(), &work.record.identifier);
        let name = &self.setting.name;
        let mut lost = names_not_kept(cx.store, name, &work.record, shown, cx.now.wall)?;
        let is_left_over = |value: &&AttributeValue| {
            change::is_marked(work.sent_marks(), value)
                && !work.record.attributes.has(&value.reference())
        };
        // Attributes that were sent earlier, are gone here, and are still at the peer.
        lost.extend(
            shown
                .iter()
                .map(|attribute| &attribute.value)
                .filter(is_left_over)
                .map(|value| value.reference().to_string()),
        );
        lost.dedup();
        let other = work
            .peer_identifier
            .as_ref()
            .filter(|there| *there != identifier);
        let outcome = match (work.arrived_before(), other) {
            (true, _) => Outcome::Updated,
            (false, Some(_)) if imports => Outcome::Renamed,
            (false, _) => Outcome::Created,
        };
        let target = if imports {
            other
        } else {
            work.peer_identifier.as_ref()
        };
        Ok(ObjectResult {
            lost,
            target: target.map(ToString::to_string),
            ..ObjectResult::new(identifier, outcome)
        })
    }

    fn on_removed(&mut self, n: usize, removed: bool) {
        if let Some(work) = self.works.get_mut(n) {
            if work.is_probe() && removed {
                work.stage = Stage::Over(Ending::ProbeGone);
            } else {
                work.end_unsent();
            }
        }
    }
}

fn update_of(shown: Attributes) -> Stage {
    Stage::Update {
        shown,
        changes: Changes::Together,
    }
}

fn failure(work: &Work, why: &str) -> Stage {
    let result = ObjectResult::failed(&work.record.identifier, None, why);
    Stage::Over(Ending::Reported(result))
}

fn ended(work: &Work, outcome: Outcome, message: Option<&str>) -> Stage {
    Stage::Over(Ending::Reported(ObjectResult {
        message: message.map(str::to_owned),
        ..ObjectResult::new(&work.record.identifier, outcome)
    }))
}

/// Ends an object whose identifier is another object's at the peer.
fn report_identifier_taken(work: &mut Work, why: &str) {
    work.peer_identifier = None;
    let reason = Some(ResultReason::OBJECT_ALREADY_EXISTS);
    work.report(ObjectResult::failed(&work.record.identifier, reason, why));
}

/// Has the probe of an earlier session removed if the peer still has it.
fn inspect_leftover_probe(work: &mut Work, reading: Reading<'_>) {
    work.stage = match reading {
        Reading::Shown(shown) if !is_destroyed(&shown) => Stage::Remove {
            shown,
            result: None,
        },
        Reading::Refused(refusal) if !refusal.says_absent_or_nothing() => {
            Stage::Over(Ending::Unfinished)
        }
        _ => Stage::Over(Ending::ProbeGone),
    };
}

/// Goes on with an object that the peer does not show: if it may never have come there, it is created.
fn on_inspection_refused(work: &mut Work, imports: bool, refusal: Refusal<'_>) {
    let unconfirmed = work.presence.is_unconfirmed();
    if unconfirmed && imports && refusal.says_absent_or_nothing() {
        work.peer_identifier = None;
        work.presence = work.presence.after_refutation();
        work.stage = Stage::Create;
        if work.object.is_none() {
            work.report_outcome(Outcome::Skipped);
        }
        return;
    }
    let result = refusal.result(&work.record.identifier);
    work.stage = Stage::Over(if unconfirmed {
        Ending::Unconfirmed(result)
    } else {
        Ending::Reported(result)
    });
}

/// Goes on with the next object that bears the marker; after the last one, the object is created.
fn inspect_next_candidate(work: &mut Work) {
    let mut candidates = match std::mem::replace(&mut work.stage, Stage::Create) {
        Stage::Inspect { candidates } => candidates,
        _ => Vec::new(),
    };
    work.peer_identifier = candidates.pop();
    if work.peer_identifier.is_some() {
        work.stage = Stage::Inspect { candidates };
    } else {
        work.presence = work.presence.after_refutation();
    }
}

const DESTROYED_AT_PEER: &str = "it was destroyed at the peer, and is not brought there again";

const NOT_DESTROYED_AT_PEER: &str = "it has left the selection, and the peer does not destroy it";

const LEFT_AT_PEER: &str =
    "it does not belong to the selection any more: it stays there, and only its State is led on";

const GONE_AT_PEER: &str = "the peer does not have it any more";

const HAS_OBJECT: &str = "the peer has an object of this identifier";

const HAS_OTHER_OBJECT: &str = "the peer has another object of this identifier";
