//! What becomes of single changes that an answer tells of.

use crate::ask::Ask;
use crate::follow::options::FollowOptions;
use crate::node::Node;
use crate::planted::planted;
use crate::receive::authority::{ChangeRef, check_speaker};
use crate::receive::copy::{SeenObject, verify_copy};
use crate::receive::import::outside_agreement;
use crate::receive::merge::{self, Incoming};
use crate::relation::keys::{self, Entry, about, missing_prefix};
use crate::relation::retry::ahead;
use crate::relation::rotten::readable;
use crate::report::{ObjectResult, Outcome};
use crate::wire::copy::Copy;
use crate::wire::follow::{Change, Kind};
use keyferry_kmip::{Attributes, Cause, Failure};
use keyferry_store::record::{bytes_of, object_of};
use keyferry_store::{
    Effects, Lineage, ObjectId, Overlay, Record, RecordNumber, SnapshotExt, Stamp,
};

/// Decides what becomes of single changes.
pub(super) struct Receiver<'a> {
    pub(super) node: &'a Node,
    pub(super) options: &'a FollowOptions,
    /// The reign in which the server answers.
    pub(super) reign: &'a [u8],
    /// The objects that the question has asked for again.
    pub(super) asked_again: &'a [ObjectId],
    /// Whether the question has asked for objects that were found by comparison.
    pub(super) searches: bool,
}

/// What was decided of a change.
pub(super) struct Decision {
    pub(super) result: ObjectResult,
    pub(super) effects: Effects,
    pub(super) standing: Standing,
    /// Why a copy is not taken, whose State counts all the same: what stands against it, a Name that another object has here for example, does not stand
    /// against its State ([rule 5](crate::design#rule-5)).
    pub(super) refused: Option<Failure>,
}

/// Whether a copy comes by the relation from now on.
#[derive(Clone, Copy)]
pub(super) enum Standing {
    /// It does if it did before.
    AsBefore,
    /// It does. A record that is created with it has no number yet.
    Comes(Option<RecordNumber>),
    /// It does no more.
    Leaves(RecordNumber),
}

/// What is held of an object when a copy comes.
struct Before {
    number: Option<RecordNumber>,
    /// The change of it, unless the copy was withdrawn.
    stamp: Option<Stamp>,
}

impl Before {
    fn of(held: Option<&(RecordNumber, Record)>) -> Before {
        let live = held.filter(|(_, record)| !record.is_withdrawn());
        Before {
            number: held.map(|(number, _)| *number),
            stamp: live.map(|(_, record)| record.stamp.clone()),
        }
    }

    /// Whether a copy comes by the relation once its change has come to this. One that is unchanged, and of this change, is the same, or fuller; any other
    /// is newer.
    fn standing(&self, stamp: &Stamp, outcome: Outcome) -> Standing {
        let is_same = outcome == Outcome::Unchanged && self.stamp.as_ref() == Some(stamp);
        match is_taken(outcome) || is_same {
            true => Standing::Comes(self.number),
            false => Standing::AsBefore,
        }
    }
}

fn is_taken(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Created | Outcome::Updated | Outcome::Renamed
    )
}

/// What becomes of an object that is left as it is, and why.
fn skipped(change: &Change, why: &str) -> ObjectResult {
    ObjectResult {
        message: Some(why.to_owned()),
        ..ObjectResult::new(&change.identifier, Outcome::Skipped)
    }
}

impl Receiver<'_> {
    pub(super) fn decide(&self, ask: &mut Ask<'_>, change: &Change) -> Result<Decision, Failure> {
        let result = |outcome| ObjectResult::new(&change.identifier, outcome);
        let (result, effects) = match change.kind {
            Kind::COPY => return self.take_copy(ask, change),
            Kind::WITHDRAWN => return self.withdraw(ask, change),
            Kind::GONE if planted!(GoneIsWithdrawn) => return self.withdraw(ask, change),
            Kind::WITHHELD => {
                let why = change.why.as_deref().unwrap_or("it may not leave");
                let skipped = skipped(change, why);
                (skipped, self.hear_state(ask, &change.copy)?)
            }
            Kind::ENDED => {
                let effects = self.hear_state(ask, &change.copy)?;
                let outcome = match effects.changes.is_empty() {
                    true => Outcome::Unchanged,
                    false => Outcome::Updated,
                };
                (result(outcome), effects)
            }
            Kind::UNKEPT => {
                let why = "nobody keeps it true at the relay either";
                (skipped(change, why), Effects::none())
            }
            Kind::GONE => {
                let why = "the server has it no more, or not for this one: it is kept";
                (
                    skipped(change, why),
                    self.name_missing(ask, &change.copy.id)?,
                )
            }
            _ => {
                return Err(Failure::new(
                    Cause::InvalidMessage,
                    "a change of a kind that is not known here",
                ));
            }
        };
        Ok(Decision {
            result,
            effects,
            standing: Standing::AsBefore,
            refused: None,
        })
    }

    /// Hears the State of an object whose copy does not come: what is held of it here gets no further behind than that.
    fn hear_state(&self, ask: &Ask<'_>, copy: &Copy) -> Result<Effects, Failure> {
        let Some((number, held)) = ask.snapshot.by_object_id(&copy.id)? else {
            return Ok(Effects::none());
        };
        let named = ChangeRef {
            id: &copy.id,
            stamp: &copy.stamp,
            lineage: &copy.lineage,
        };
        check_speaker(self.node, &self.options.from, &named, Some(&held))?;
        let there = copy.unrepresentable.state();
        Ok(merge::join_state(self.node, (number, &held), there))
    }

    /// Names an object that is held here and that the issuer does not have any more.
    fn name_missing(&self, ask: &Ask<'_>, id: &ObjectId) -> Result<Effects, Failure> {
        let mut effects = Effects::none();
        let is_held = match readable(ask.snapshot.by_object_id(id))? {
            Some(held) => held.is_some(),
            None => ask.snapshot.damaged(id)?.is_some(),
        };
        if is_held {
            effects.state.push(self.missing(id, true)?);
        }
        Ok(effects)
    }

    /// The state entry that says whether an object is missing at the issuer.
    pub(super) fn missing(&self, id: &ObjectId, is_missing: bool) -> Result<Entry, Failure> {
        let key = about(missing_prefix(&self.options.relation), id)?;
        let value = is_missing.then(|| bytes_of(id)).transpose()?;
        Ok((key, value))
    }

    /// Takes a copy in.
    fn take_copy(&self, ask: &mut Ask<'_>, change: &Change) -> Result<Decision, Failure> {
        let from = &self.options.from;
        let mut copy = change.copy.clone();
        let attributes = std::mem::take(&mut copy.unrepresentable);
        let seen = self.seen_object(ask, change, attributes)?;
        let held = ask.snapshot.by_object_id(&copy.id)?;
        let known = held.as_ref().map(|(_, held)| held);
        let mut incoming = verify_copy(self.node, from, seen, copy, known)?;
        incoming.record.overlay.get_or_insert_with(Overlay::default);
        incoming.by_relation = true;
        if held.is_none() && !from.has_agreed(&incoming.record, ask.now.wall)? {
            return Err(outside_agreement());
        }
        let told = ToldChange::of(&incoming.record);
        if let Some(held) = &held {
            self.check_hearsay(ask, &mut incoming, &held.1)?;
            incoming.rotted = self.has_rotted(ask, held, &incoming)?;
        }
        // What a relay brings of an issuer that is followed, too, is ahead of it until that one has told of it itself.
        let ahead = if told.stamp.issuer == from.server {
            Vec::new()
        } else {
            ahead(ask, &incoming.record)?
        };
        let was = held.as_ref().map(|(_, held)| ToldChange::of(held));
        let before = Before::of(held.as_ref());
        let mended = mended(held.as_ref(), &incoming);
        let merged = merge::merge_with_held(self.node, ask, &from.collisions, held, incoming);
        let mut merged = match merged {
            Ok(merged) => merged,
            Err(failure) => return self.state_alone(ask, change, failure),
        };
        if is_taken(merged.outcome) {
            merged.effects.state.extend(ahead);
        }
        merged.effects.state.extend(mended);
        let standing = before.standing(&told.stamp, merged.outcome);
        if let Some(was) = was {
            let behind = self.note_behind(ask, &told, &was)?;
            merged.effects.state.extend(behind);
        }
        let target =
            (merged.identifier != change.identifier).then(|| merged.identifier.to_string());
        let message = (merged.outcome == Outcome::Forked)
            .then(|| "it was changed on both sides: both are kept".to_owned());
        let result = ObjectResult {
            target,
            message,
            ..ObjectResult::new(&change.identifier, merged.outcome)
        };
        Ok(Decision {
            result,
            effects: merged.effects,
            standing,
            refused: None,
        })
    }

    /// What becomes of a copy that is the one that was sent, and can't be taken. Where a Name or an identifier stands against it, its State counts; what has
    /// other material is another object, whatever it is called.
    fn state_alone(
        &self,
        ask: &Ask<'_>,
        change: &Change,
        failure: Failure,
    ) -> Result<Decision, Failure> {
        if !matches!(failure.cause(), Cause::NameExists | Cause::ObjectExists) {
            return Err(failure);
        }
        Ok(Decision {
            result: ObjectResult::new(&change.identifier, Outcome::Failed),
            effects: self.hear_state(ask, &change.copy)?,
            standing: Standing::AsBefore,
            refused: Some(failure),
        })
    }

    /// The object that a change brings, in the clear.
    fn seen_object(
        &self,
        ask: &Ask<'_>,
        change: &Change,
        attributes: Attributes,
    ) -> Result<SeenObject, Failure> {
        let object_type = change.object_type.ok_or_else(|| {
            Failure::new(Cause::InvalidMessage, "the copy's Object Type is missing")
        })?;
        let object = change
            .material
            .as_ref()
            .map(|bytes| object_of(bytes.expose()))
            .transpose()
            .map_err(|e| Failure::new(Cause::InvalidMessage, e))?;
        if object
            .as_ref()
            .is_some_and(|object| object.object_type() != object_type)
        {
            return Err(Failure::new(
                Cause::InvalidMessage,
                "the object is of another type than is told",
            ));
        }
        let is_wrapped = change.wrapped == Some(true);
        let from = &self.options.from;
        let (object, by) = (self.node).opened(ask, from, object, is_wrapped, &attributes)?;
        Ok(SeenObject {
            identifier: change.identifier.clone(),
            object_type,
            attributes,
            object,
            wrapped_by: by,
        })
    }
}

/// A change of an object, and what it descends from.
pub(super) struct ToldChange {
    pub(super) id: ObjectId,
    pub(super) stamp: Stamp,
    lineage: Lineage,
}

impl ToldChange {
    pub(super) fn of(record: &Record) -> ToldChange {
        ToldChange {
            id: record.id.clone(),
            stamp: record.stamp.clone(),
            lineage: record.lineage.clone(),
        }
    }

    pub(super) fn line(&self) -> (&Stamp, &[Stamp]) {
        (&self.stamp, &self.lineage)
    }
}

/// What notes that a rotten record is right again.
fn mended(held: Option<&(RecordNumber, Record)>, incoming: &Incoming) -> Option<Entry> {
    let (number, _) = held.filter(|_| incoming.rotted)?;
    Some((keys::rotten(*number), None))
}
