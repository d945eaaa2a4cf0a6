//! The report of a transfer: how each object ended, how many ended how, and what was lost on the way.

use keyferry_kmip::spec::ResultReason;
use keyferry_kmip::{Escaped, extension as x};
use keyferry_ttlv::{Decode, Encode, Extra, Item, Reader, Tag, Writer};
use serde_json::{Value, json};
use std::fmt;

/// The report of a transfer. Its counts cover the whole transfer, however often it was interrupted.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// How many objects ended how.
    pub counts: Counts,
    /// The first objects that failed (100 at most); [`Counts::failed`] says how many there are. An observer of single objects gets all of them.
    pub failures: Vec<FailedObject>,
    /// The first objects that were skipped and why (100 at most), such as those that a server which is followed withholds;
    /// [`Counts::skipped`] says how many there are.
    pub skipped: Vec<FailedObject>,
    /// The first objects that lost attributes on the way (100 at most); [`Counts::lost`] says how many attributes were lost.
    pub losses: Vec<Loss>,
    /// What could not be seen of a source that does not show everything, in words.
    pub unseen: Vec<String>,
    /// The first objects held here that the source does not have any more (100 at most), by their identifiers here. They are kept
    /// ([rule 6](crate::design#rule-6)).
    pub missing: Vec<String>,
    /// Whether it was a dry run, which writes nothing.
    pub dry_run: bool,
    /// Where the execution of a plan stopped. This object and the objects after it were not transferred, and are not counted.
    pub stopped: Option<PlanDeviation>,
}

/// An object that was not found as its plan says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanDeviation {
    /// Its Unique Identifier at the source.
    pub identifier: String,
    /// What was planned, in words.
    pub planned: String,
    /// What was found instead.
    pub found: String,
}

/// The attributes that an object lost when it was transferred.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// Its Unique Identifier at the source.
    pub identifier: String,
    /// The attributes, by name.
    pub attributes: Vec<String>,
}

/// An object that was not transferred.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedObject {
    /// Its Unique Identifier at the source.
    pub identifier: String,
    /// The Result Reason, where there is one.
    pub reason: Option<ResultReason>,
    /// Why, in words.
    pub message: String,
}

impl FailedObject {
    fn json(&self) -> Value {
        json!({
            "identifier": self.identifier,
            "reason": self.reason.map(|reason| reason.to_string()),
            "message": self.message,
        })
    }
}

impl FailedObject {
    /// A failure of this object, with the Result Reason if there is one.
    pub fn new(
        identifier: impl Into<String>,
        reason: Option<ResultReason>,
        message: impl Into<String>,
    ) -> FailedObject {
        FailedObject {
            identifier: identifier.into(),
            reason,
            message: message.into(),
        }
    }
}

/// How an object of a transfer ended ([rule 12](crate::design#rule-12)). The answer of a keyferry server to a copy carries it as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The object is new at the target.
    Created,
    /// The object was brought up to date at the target.
    Updated,
    /// The target had this change of the object already, or a later one.
    Unchanged,
    /// The object was left out on purpose.
    Skipped,
    /// The object is new at the target, under another identifier or other Names.
    Renamed,
    /// The object was changed on both sides: both are kept, until a person decides.
    Forked,
    /// The object is gone from the target, since it does not belong to the selection any more.
    Withdrawn,
    /// The object was not transferred.
    Failed,
    /// The peer answered with a number that this build does not know. What became of the object is not known either: it counts as failed.
    Unknown(u32),
}

/// The outcomes that a report counts, in the order of its table.
const OUTCOMES: [Outcome; 8] = [
    Outcome::Created,
    Outcome::Updated,
    Outcome::Unchanged,
    Outcome::Skipped,
    Outcome::Renamed,
    Outcome::Forked,
    Outcome::Withdrawn,
    Outcome::Failed,
];

impl Outcome {
    /// Whether the object did not arrive, or may not have.
    pub fn is_failure(self) -> bool {
        matches!(self, Outcome::Failed | Outcome::Unknown(_))
    }

    /// The number that stands for it in messages and plans.
    fn number(self) -> u32 {
        match self {
            Outcome::Created => 1,
            Outcome::Updated => 2,
            Outcome::Unchanged => 3,
            Outcome::Skipped => 4,
            Outcome::Renamed => 5,
            Outcome::Forked => 6,
            Outcome::Failed => 7,
            Outcome::Withdrawn => 8,
            Outcome::Unknown(number) => number,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Created => "created",
            Outcome::Updated => "updated",
            Outcome::Unchanged => "unchanged",
            Outcome::Skipped => "skipped",
            Outcome::Renamed => "renamed",
            Outcome::Forked => "forked",
            Outcome::Withdrawn => "withdrawn",
            Outcome::Failed => "failed",
            Outcome::Unknown(number) => return write!(f, "unknown ({number})"),
        })
    }
}

impl Decode for Outcome {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> keyferry_ttlv::Result<Self> {
        let number = item.enumeration(r)?;
        let known = OUTCOMES.iter().find(|known| known.number() == number);
        Ok(known.copied().unwrap_or(Outcome::Unknown(number)))
    }
}

impl Encode for Outcome {
    fn encode(&self, tag: Tag, w: &mut Writer) -> keyferry_ttlv::Result<()> {
        w.enumeration(tag, self.number());
        Ok(())
    }
}

/// What became of one object of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectResult {
    /// Its Unique Identifier at the source.
    pub identifier: String,
    /// Its Unique Identifier at the target, if that is known to differ.
    pub target: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// The Result Reason of a failure, where there is one.
    pub reason: Option<ResultReason>,
    /// The reason in words, if there is one.
    pub message: Option<String>,
    /// Attributes that it lost on the way, by name.
    pub lost: Vec<String>,
}

impl ObjectResult {
    /// A result without a reason and without losses.
    pub fn new(identifier: &str, outcome: Outcome) -> ObjectResult {
        ObjectResult {
            identifier: identifier.to_owned(),
            target: None,
            outcome,
            reason: None,
            message: None,
            lost: Vec::new(),
        }
    }

    /// The result of an object that was not transferred.
    pub fn failed(
        identifier: &str,
        reason: Option<ResultReason>,
        message: impl Into<String>,
    ) -> ObjectResult {
        ObjectResult {
            reason,
            message: Some(message.into()),
            ..ObjectResult::new(identifier, Outcome::Failed)
        }
    }

    /// The result as JSON.
    pub fn json(&self) -> Value {
        json!({
            "identifier": self.identifier,
            "target": self.target,
            "ending": self.outcome.to_string(),
            "reason": self.reason.map(|reason| reason.to_string()),
            "message": self.message,
            "lost": self.lost,
        })
    }
}

/// The counts of a transfer: how many of its objects ended how. They [add up](Counts::add_up) to `asked`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[ttlv(tag = x::PROGRESS)]
#[non_exhaustive]
pub struct Counts {
    /// How far the transfer has come: the number of an entry of this server's feed, or of objects of a plan.
    #[ttlv(tag = x::CURSOR)]
    pub cursor: i64,
    /// The number of the transfer under its name, from 1.
    #[ttlv(tag = x::SESSION)]
    pub session: i64,
    /// Whether the transfer has ended.
    #[ttlv(tag = x::FINISHED)]
    pub finished: bool,
    /// How many objects have an outcome.
    #[ttlv(tag = x::COUNT_ASKED)]
    pub asked: i64,
    /// How many objects are new at the target.
    #[ttlv(tag = x::COUNT_CREATED)]
    pub created: i64,
    /// How many objects were brought up to date at the target.
    #[ttlv(tag = x::COUNT_UPDATED)]
    pub updated: i64,
    /// How many objects the target had already.
    #[ttlv(tag = x::COUNT_UNCHANGED)]
    pub unchanged: i64,
    /// How many objects were not transferred.
    #[ttlv(tag = x::COUNT_FAILED)]
    pub failed: i64,
    /// How many bytes the requests had that were sent, or the objects that were received.
    #[ttlv(tag = x::COUNT_BYTES)]
    pub bytes: i64,
    /// The incarnation of this server's store that the cursor belongs to.
    #[ttlv(tag = x::INCARNATION)]
    pub incarnation: Vec<u8>,
    /// The incarnation of the peer's store, if the peer says it. With another incarnation, the transfer begins anew.
    #[ttlv(tag = x::PEER_INCARNATION)]
    pub peer: Option<Vec<u8>>,
    /// How many attributes of transferred objects the peer or the version could not carry.
    #[ttlv(tag = x::COUNT_LOST)]
    pub lost: Option<i64>,
    /// How many objects were left out on purpose.
    #[ttlv(tag = x::COUNT_SKIPPED)]
    pub skipped: Option<i64>,
    /// How many objects are new at the target, under another identifier or other Names.
    #[ttlv(tag = x::COUNT_RENAMED)]
    pub renamed: Option<i64>,
    /// How many objects were changed on both sides.
    #[ttlv(tag = x::COUNT_FORKED)]
    pub forked: Option<i64>,
    /// How many objects are gone from the target, since they do not belong to the selection any more.
    #[ttlv(tag = x::COUNT_WITHDRAWN)]
    pub withdrawn: Option<i64>,
    /// The digest of the selection. With another selection, the transfer begins anew.
    #[ttlv(tag = x::SELECTION)]
    pub selection: Option<Vec<u8>>,
    /// How many objects the transfer had when it began, if that was counted.
    #[ttlv(tag = x::COUNT_TOTAL)]
    pub total: Option<i64>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl Counts {
    /// How many objects had this outcome.
    pub fn of(&self, outcome: Outcome) -> i64 {
        match outcome {
            Outcome::Created => self.created,
            Outcome::Updated => self.updated,
            Outcome::Unchanged => self.unchanged,
            Outcome::Skipped => self.skipped.unwrap_or(0),
            Outcome::Renamed => self.renamed.unwrap_or(0),
            Outcome::Forked => self.forked.unwrap_or(0),
            Outcome::Withdrawn => self.withdrawn.unwrap_or(0),
            Outcome::Failed | Outcome::Unknown(_) => self.failed,
        }
    }

    /// Counts an object that had this outcome.
    pub fn count(&mut self, outcome: Outcome) {
        self.asked += 1;
        *match outcome {
            Outcome::Created => &mut self.created,
            Outcome::Updated => &mut self.updated,
            Outcome::Unchanged => &mut self.unchanged,
            Outcome::Skipped => self.skipped.get_or_insert(0),
            Outcome::Renamed => self.renamed.get_or_insert(0),
            Outcome::Forked => self.forked.get_or_insert(0),
            Outcome::Withdrawn => self.withdrawn.get_or_insert(0),
            Outcome::Failed | Outcome::Unknown(_) => &mut self.failed,
        } += 1;
    }

    /// Whether the outcomes add up to `asked`.
    pub fn add_up(&self) -> bool {
        OUTCOMES
            .iter()
            .map(|outcome| self.of(*outcome))
            .sum::<i64>()
            == self.asked
    }
}

/// How many failures, losses and missing objects a report names.
pub(crate) const NAMED: usize = 100;

impl Report {
    /// Counts the result of an object, and keeps its failure or its losses as long as there is room.
    pub fn add_result(&mut self, result: ObjectResult) {
        self.counts.count(result.outcome);
        if result.outcome.is_failure() {
            if self.failures.len() < NAMED {
                let message = result.message.unwrap_or_default();
                self.failures.push(FailedObject {
                    identifier: result.identifier,
                    reason: result.reason,
                    message,
                });
            }
        } else if result.outcome == Outcome::Skipped {
            if self.skipped.len() < NAMED
                && let Some(message) = result.message
            {
                self.skipped.push(FailedObject {
                    identifier: result.identifier,
                    reason: result.reason,
                    message,
                });
            }
        } else if !result.lost.is_empty() {
            *self.counts.lost.get_or_insert(0) +=
                i64::try_from(result.lost.len()).unwrap_or(i64::MAX);
            if self.losses.len() < NAMED {
                self.losses.push(Loss {
                    identifier: result.identifier,
                    attributes: result.lost,
                });
            }
        }
    }

    /// The report as JSON.
    pub fn json(&self) -> Value {
        let counts: serde_json::Map<String, Value> = OUTCOMES
            .iter()
            .map(|outcome| (outcome.to_string(), self.counts.of(*outcome).into()))
            .collect();
        json!({
            "asked": self.counts.asked,
            "counts": counts,
            "lost": self.counts.lost.unwrap_or(0),
            "bytes": self.counts.bytes,
            "session": self.counts.session,
            "finished": self.counts.finished,
            "dry_run": self.dry_run,
            "failures": self.failures.iter().map(FailedObject::json).collect::<Vec<_>>(),
            "skipped": self.skipped.iter().map(FailedObject::json).collect::<Vec<_>>(),
            "losses": self.losses.iter().map(|loss| json!({
                "identifier": loss.identifier,
                "attributes": loss.attributes,
            })).collect::<Vec<_>>(),
            "unseen": self.unseen,
            "missing": self.missing,
            "stopped": self.stopped.as_ref().map(|stopped| json!({
                "identifier": stopped.identifier,
                "planned": stopped.planned,
                "found": stopped.found,
            })),
        })
    }

    /// The report as a table for people.
    pub fn table(&self) -> impl fmt::Display + '_ {
        Table(self)
    }
}

/// How many failures and losses a table names.
const LISTED: usize = 10;

struct Table<'a>(&'a Report);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_counts(f)?;
        self.write_failures(f)?;
        self.write_skipped(f)?;
        self.write_losses(f)?;
        self.write_source(f)?;
        self.write_stop(f)
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, what: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "{what:<24} {value:>12}")
}

fn write_more(f: &mut fmt::Formatter<'_>, what: &str, all: i64, named: usize) -> fmt::Result {
    match all - i64::try_from(named).unwrap_or(i64::MAX) {
        left @ 1.. => writeln!(f, "and {left} more {what}"),
        _ => Ok(()),
    }
}

impl Table<'_> {
    fn write_counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.0.counts;
        if self.0.dry_run {
            write_row(f, "a dry run", "not written")?;
        }
        write_row(f, "asked", counts.asked)?;
        for outcome in OUTCOMES {
            write_row(f, &outcome.to_string(), counts.of(outcome))?;
        }
        write_row(f, "attributes not carried", counts.lost.unwrap_or(0))
    }

    fn write_failures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failures = &self.0.failures;
        for failed in failures.iter().take(LISTED) {
            let reason = failed
                .reason
                .map(|reason| format!(" ({reason})"))
                .unwrap_or_default();
            writeln!(
                f,
                "failed: {}{reason}: {}",
                Escaped(&failed.identifier),
                Escaped(&failed.message)
            )?;
        }
        let named = failures.len().min(LISTED);
        write_more(f, "failures", self.0.counts.failed, named)
    }

    fn write_skipped(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for skipped in self.0.skipped.iter().take(LISTED) {
            let (identifier, why) = (Escaped(&skipped.identifier), Escaped(&skipped.message));
            writeln!(f, "skipped: {identifier}: {why}")?;
        }
        Ok(())
    }

    fn write_losses(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut named = 0;
        for loss in self.0.losses.iter().take(LISTED) {
            let attributes = loss.attributes.join(", ");
            let (attributes, identifier) = (Escaped(&attributes), Escaped(&loss.identifier));
            writeln!(f, "not carried: {identifier}: {attributes}")?;
            named += loss.attributes.len();
        }
        let lost = self.0.counts.lost.unwrap_or(0);
        write_more(f, "attributes not carried", lost, named)
    }

    fn write_source(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for unseen in &self.0.unseen {
            writeln!(f, "could not be seen: {}", Escaped(unseen))?;
        }
        for missing in &self.0.missing {
            writeln!(f, "missing at the source: {}", Escaped(missing))?;
        }
        Ok(())
    }

    fn write_stop(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(stopped) = &self.0.stopped else {
            return Ok(());
        };
        writeln!(
            f,
            "stopped at {}: planned was {}, and there is {}",
            Escaped(&stopped.identifier),
            stopped.planned,
            Escaped(&stopped.found)
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "asked {}", self.counts.asked)?;
        OUTCOMES
            .iter()
            .try_for_each(|outcome| write!(f, ", {outcome} {}", self.counts.of(*outcome)))
    }
}
