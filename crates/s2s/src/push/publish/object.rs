//! An object on its way to the peer, as the machinery of a publication keeps it: what is known of it there, and how far it has come.

use crate::error::{Error, Result};
use crate::material::transit::reason_withheld;
use crate::outgoing::item::representable_attributes;
use crate::push::publish::steps::{self, Level, is_usable};
use crate::push::publish::{CreateBy, KeepsState, Phase, Publish, STATE_NOT_KEPT};
use crate::relation::identifier_map;
use crate::relation::identifier_map::Mapped;
use crate::report::{ObjectResult, Outcome};
use crate::session::SessionContext;
use crate::transfer::plan::Planned;
use crate::wire::copy::Held;
use keyferry_kmip::spec::State;
use keyferry_kmip::{Attributes, Object, RequestItem, Text, lifecycle};
use keyferry_store::{Record, StoreExt};
use keyferry_ttlv::Extra;
use std::collections::VecDeque;

/// An object on its way to the peer, or a probe.
pub(super) struct Work {
    pub(super) record: Record,
    pub(super) object: Option<Object>,
    pub(super) kind: Kind,
    /// The Unique Identifier at the peer, as far as it is known or supposed.
    pub(super) peer_identifier: Option<Text>,
    pub(super) presence: Presence,
    /// How many of its attributes a Register names.
    pub(super) level: Level,
    /// The row of the identifier map.
    pub(super) mapped: Option<Mapped>,
    /// What the plan says of it, when a plan is executed.
    pub(super) planned: Option<Planned>,
    /// What the peer held when it was checked, for a plan.
    pub(super) held: Option<Held>,
    pub(super) stage: Stage,
}

/// The reason why an object is on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// It belongs to the selection.
    Selected,
    /// It has left the selection: its State alone is changed at the peer, or it is destroyed there.
    Deselected,
    /// A throw-away key that shows whether the peer keeps the State of a key that is not usable.
    Probe,
    /// The probe of an earlier session, which may still be at the peer.
    LeftoverProbe,
}

/// What is known of whether the peer has an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Presence {
    /// The peer has it if its identifier there is known, and does not have it otherwise.
    Known,
    /// An earlier run stored an intent and saw no answer: the peer may have it.
    Unconfirmed,
    /// The peer refused its Import, since it has an object of the identifier. This may be an Import of an earlier run that arrived late.
    RefusedAsExisting,
    /// The peer refused its Import as above, and does not show such an object.
    AbsentAfterRefusal,
    /// This run has created it at the peer. What the peer shows is confirmed by the marker if an earlier run had stored an intent.
    Created { unconfirmed: bool },
}

impl Presence {
    /// Whether only what the peer shows can say that it has this object.
    pub(super) fn is_unconfirmed(self) -> bool {
        matches!(
            self,
            Presence::Unconfirmed
                | Presence::RefusedAsExisting
                | Presence::Created { unconfirmed: true }
        )
    }

    /// Whether this run has created the object.
    pub(super) fn is_created(self) -> bool {
        matches!(self, Presence::Created { .. })
    }

    /// Whether the peer has refused an Import already.
    pub(super) fn was_refused(self) -> bool {
        matches!(
            self,
            Presence::RefusedAsExisting | Presence::AbsentAfterRefusal
        )
    }

    /// What is known once the peer has created the object.
    pub(super) fn after_creation(self) -> Presence {
        Presence::Created {
            unconfirmed: self.is_unconfirmed(),
        }
    }

    /// What is known once the peer shows that it does not have the object.
    pub(super) fn after_refutation(self) -> Presence {
        match self {
            Presence::RefusedAsExisting | Presence::AbsentAfterRefusal => {
                Presence::AbsentAfterRefusal
            }
            Presence::Created { .. } => Presence::Created { unconfirmed: false },
            Presence::Known | Presence::Unconfirmed => Presence::Known,
        }
    }
}

/// How far an object has come.
pub(super) enum Stage {
    /// It waits to be looked at before anything is written: for a plan, or by one.
    Check,
    /// It waits to be searched for by its marker.
    Locate,
    /// It waits to be registered or imported.
    Create,
    /// It waits to be looked at. `candidates` are other objects that bear the marker.
    Inspect { candidates: Vec<Text> },
    /// It waits for its attributes and its State to be brought up to date. `shown` is what the peer showed.
    Update { shown: Attributes, changes: Changes },
    /// It waits to be destroyed at the peer. `result` is what is reported then; a probe has none.
    Remove {
        shown: Attributes,
        result: Option<ObjectResult>,
    },
    /// Nothing more is sent of it.
    Over(Ending),
}

impl Stage {
    /// The phase whose message it waits for.
    pub(super) fn phase(&self) -> Option<Phase> {
        Some(match self {
            Stage::Check => Phase::Check,
            Stage::Locate => Phase::Locate,
            Stage::Create => Phase::Create,
            Stage::Inspect { .. } => Phase::Inspect,
            Stage::Update { .. } => Phase::Update,
            Stage::Remove { .. } => Phase::Remove,
            Stage::Over(_) => return None,
        })
    }

    /// The stage of an object that waits to be looked at, where Locate has found no other candidates.
    pub(super) fn inspect() -> Stage {
        Stage::Inspect {
            candidates: Vec::new(),
        }
    }
}

/// The way in which an object's attributes are changed.
pub(super) enum Changes {
    /// All changes go in one message.
    Together,
    /// The peer could not take them together: each goes in a message of its own.
    Singly {
        remaining: VecDeque<RequestItem>,
        under_way: bool,
    },
}

/// How an object ended.
pub(super) enum Ending {
    /// This is reported of it.
    Reported(ObjectResult),
    /// This is reported of it, and nobody could tell whether it ever came to the peer: the row of the map stays as it is.
    Unconfirmed(ObjectResult),
    /// There was nothing to send of it.
    Unfinished,
    /// It was a probe, which the peer does not have any more, or never had.
    ProbeGone,
}

impl Work {
    pub(super) fn new(record: Record, object: Option<Object>, kind: Kind, stage: Stage) -> Work {
        Work {
            record,
            object,
            kind,
            peer_identifier: None,
            presence: Presence::Known,
            level: Level::Full,
            mapped: None,
            planned: None,
            held: None,
            stage,
        }
    }

    pub(super) fn is_probe(&self) -> bool {
        matches!(self.kind, Kind::Probe | Kind::LeftoverProbe)
    }

    pub(super) fn is_deselected(&self) -> bool {
        self.kind == Kind::Deselected
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over(_))
    }

    /// Whether it is a probe that is known not to be at the peer.
    pub(super) fn is_gone_probe(&self) -> bool {
        matches!(self.stage, Stage::Over(Ending::ProbeGone))
    }

    /// Whether its changes go in messages of their own.
    pub(super) fn is_sent_alone(&self) -> bool {
        matches!(
            self.stage,
            Stage::Update {
                changes: Changes::Singly { .. },
                ..
            }
        )
    }

    /// Ends it with what is reported of it.
    pub(super) fn report(&mut self, result: ObjectResult) {
        self.stage = Stage::Over(Ending::Reported(result));
    }

    /// Ends it with an outcome about which there is no more to say.
    pub(super) fn report_outcome(&mut self, outcome: Outcome) {
        self.report(ObjectResult::new(&self.record.identifier, outcome));
    }

    /// Ends it with a failure, without a Result Reason of the peer.
    pub(super) fn report_failure(&mut self, why: impl Into<String>) {
        self.report(ObjectResult::failed(&self.record.identifier, None, why));
    }

    /// Ends it, since there is nothing to send of it.
    pub(super) fn end_unsent(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over(Ending::Unfinished));
        if let Stage::Remove {
            result: Some(result),
            ..
        } = stage
        {
            self.report(result);
        }
    }

    /// What is reported of it, once it is over.
    pub(super) fn result(&self) -> ObjectResult {
        match &self.stage {
            Stage::Over(Ending::Reported(result) | Ending::Unconfirmed(result)) => result.clone(),
            _ => {
                let why = "it did not come to an end";
                ObjectResult::failed(&self.record.identifier, None, why)
            }
        }
    }

    /// The next of its changes, if they go in messages of their own.
    pub(super) fn next_single_change(&mut self) -> Option<RequestItem> {
        let Stage::Update {
            changes:
                Changes::Singly {
                    remaining,
                    under_way,
                },
            ..
        } = &mut self.stage
        else {
            return None;
        };
        let next = remaining.pop_front()?;
        *under_way = true;
        Some(next)
    }

    /// Whether all of it was at the peer once.
    pub(super) fn arrived_before(&self) -> bool {
        self.mapped
            .as_ref()
            .is_some_and(|mapped| mapped.digest.is_some())
    }

    /// The marks of the attribute values that were sent to the peer.
    pub(super) fn sent_marks(&self) -> &[u8] {
        self.mapped
            .as_ref()
            .and_then(|mapped| mapped.said.as_deref())
            .unwrap_or_default()
    }

    /// The record of a plan for an object that ended with this result in a dry run.
    pub(super) fn to_planned(&self, result: &ObjectResult) -> Result<Planned> {
        let held = match result.outcome {
            Outcome::Created => Some(Held::default()),
            Outcome::Updated => self.held.clone(),
            _ => None,
        };
        Ok(Planned {
            id: self.record.id.clone(),
            identifier: self.record.identifier.clone(),
            digest: Some(self.record.copy_digest()?),
            held,
            outcome: result.outcome,
            extra: Extra::NONE,
        })
    }
}

impl Publish {
    /// Finds out what is to be done with an object.
    pub(super) fn work_for(
        &self,
        cx: &SessionContext<'_>,
        record: Record,
        object: Option<Object>,
        planned: Option<Planned>,
        kind: Kind,
    ) -> Result<Work> {
        let mapped = cx.store.view::<_, Error>(|snapshot| {
            identifier_map::find(snapshot, &self.setting.name, &record.id)
        })?;
        let level = self
            .levels
            .iter()
            .find(|(object_type, _)| *object_type == record.object_type)
            .map_or(Level::Full, |(_, level)| *level);
        let peer_identifier = mapped.as_ref().and_then(|mapped| mapped.there.clone());
        let presence = if mapped.is_some() && peer_identifier.is_none() {
            Presence::Unconfirmed
        } else {
            Presence::Known
        };
        let mut work = Work {
            planned,
            level,
            peer_identifier,
            presence,
            mapped,
            ..Work::new(record, object, kind, Stage::Create)
        };
        work.stage = match self.result_without_sending(cx, &work)? {
            Some(result) => Stage::Over(Ending::Reported(result)),
            None => self.first_stage(&work),
        };
        if work.peer_identifier.is_none()
            && matches!(work.stage, Stage::Check | Stage::Inspect { .. })
        {
            // Under its own identifier an Import would bring it, or has brought it.
            work.peer_identifier = Some(work.record.identifier.clone());
        }
        self.end_dry_run(&mut work);
        Ok(work)
    }

    /// What is reported of an object of which nothing needs to be sent, or may be.
    fn result_without_sending(
        &self,
        cx: &SessionContext<'_>,
        work: &Work,
    ) -> Result<Option<ObjectResult>> {
        let identifier = &work.record.identifier;
        let digest = work.record.copy_digest()?;
        let is_unchanged = |mapped: &Mapped| {
            !work.is_deselected()
                && mapped.left.is_none()
                && mapped.digest.as_ref() == Some(&digest)
        };
        if work.is_deselected() && work.mapped.is_none() {
            return Ok(Some(ObjectResult::new(identifier, Outcome::Skipped)));
        }
        if work.mapped.as_ref().is_some_and(is_unchanged) {
            let target = work
                .peer_identifier
                .as_ref()
                .filter(|there| *there != identifier || !self.imports())
                .map(ToString::to_string);
            return Ok(Some(ObjectResult {
                target,
                ..ObjectResult::new(identifier, Outcome::Unchanged)
            }));
        }
        let withheld = reason_withheld(&work.record, self.wrapping.is_some());
        if let Some(why) = withheld.filter(|_| !work.is_deselected()) {
            return Ok(Some(ObjectResult::failed(identifier, None, why)));
        }
        if work.peer_identifier.is_some() && !self.can_look() {
            let why =
                "the peer does not offer Get Attributes: what has changed can't be brought there";
            return Ok(Some(ObjectResult::failed(identifier, None, why)));
        }
        if work.peer_identifier.is_some() || work.presence.is_unconfirmed() {
            return Ok(None);
        }
        if work.record.is_destroyed() {
            return Ok(Some(ObjectResult {
                message: Some("it is destroyed, and was never there".to_owned()),
                ..ObjectResult::new(identifier, Outcome::Skipped)
            }));
        }
        let unseen = self.keeps_state == KeepsState::No || !self.can_look();
        if unseen && !is_usable(work.record.state(cx.now.wall)) {
            return Ok(Some(ObjectResult::failed(identifier, None, STATE_NOT_KEPT)));
        }
        Ok(None)
    }

    /// The stage in which an object begins.
    fn first_stage(&self, work: &Work) -> Stage {
        if work.peer_identifier.is_some() {
            let checks = self.ledger.dry_run
                || work
                    .planned
                    .as_ref()
                    .is_some_and(|planned| planned.held.is_some());
            let begun = self.ledger.executing.as_ref().is_some_and(|plan| {
                work.mapped
                    .as_ref()
                    .is_some_and(|mapped| mapped.begun.as_ref() == Some(&plan.seal))
            });
            return if checks && !begun && work.arrived_before() {
                Stage::Check
            } else {
                Stage::inspect()
            };
        }
        if work.presence.is_unconfirmed() {
            return if self.imports() {
                Stage::inspect()
            } else {
                Stage::Locate
            };
        }
        // An Import finds out by itself whether something is in its way. A plan has to know before.
        let checks = self.ledger.dry_run || work.planned.is_some();
        if self.imports() && self.can_look() && checks {
            Stage::Check
        } else {
            Stage::Create
        }
    }

    /// Ends an object in a dry run with what is expected of it, unless the peer is looked at first.
    fn end_dry_run(&self, work: &mut Work) {
        if !self.ledger.dry_run || work.is_over() {
            return;
        }
        let looks_first = self.ledger.planning.is_some() || self.imports();
        if matches!(work.stage, Stage::Check) && looks_first {
            return;
        }
        let outcome = if work.arrived_before() {
            Outcome::Updated
        } else {
            Outcome::Created
        };
        work.report(self.expected_result(&work.record, outcome));
    }

    /// What a dry run reports of an object that would be sent.
    pub(super) fn expected_result(&self, record: &Record, outcome: Outcome) -> ObjectResult {
        let lost = match self.setting.create_by {
            CreateBy::Register => steps::expected_losses(record, self.setting.version),
            CreateBy::Import => {
                representable_attributes(&record.attributes, self.setting.version).1
            }
        };
        ObjectResult {
            lost,
            ..ObjectResult::new(&record.identifier, outcome)
        }
    }

    /// The State to which an object is brought at the peer: the State that it has here, unless a Destroy is not allowed there, or it is destroyed
    /// there since it has left the selection.
    pub(super) fn target_state(&self, cx: &SessionContext<'_>, work: &Work) -> Option<State> {
        let state = work.record.state(cx.now.wall)?;
        let rank = lifecycle::Rank::of(state);
        if self.is_destroyed_as_deselected(work) {
            let destroyed = lifecycle::Rank { step: 3, ..rank };
            return Some(destroyed.joined_state(destroyed));
        }
        if lifecycle::is_destroyed(state) && !self.setting.may_destroy && !work.is_probe() {
            let revoked = lifecycle::Rank { step: 2, ..rank };
            return Some(revoked.joined_state(revoked));
        }
        Some(state)
    }

    /// Whether an object is destroyed at the peer since it has left the selection.
    pub(super) fn is_destroyed_as_deselected(&self, work: &Work) -> bool {
        work.is_deselected()
            && self
                .running
                .as_ref()
                .is_some_and(|running| running.relation.destroys_left)
    }
}
