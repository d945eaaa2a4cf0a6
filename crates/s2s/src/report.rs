use keyferry_kmip::extension as x;
use keyferry_kmip::spec::ResultReason;
use keyferry_ttlv::{Decode, Encode, Extra, Item, Reader, Tag, Writer};
use serde_json::{Value, json};
use std::fmt;

/// What became of a transfer. Counts cover the whole transfer, however often it was interrupted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The counts.
    pub counts: Counts,
    /// The first of what failed, with the reasons; [`Counts::failed`] says how many there are. A sink is told all.
    pub failures: Vec<FailedObject>,
    /// The first of the attributes that could not be carried; [`Counts::lost`] says how many there are.
    pub losses: Vec<Loss>,
    /// What could not be seen of a source that does not tell everything, in words.
    pub unseen: Vec<String>,
    /// The first of the objects held here that the source does not have any more, by their identifiers here. They are kept (rule 6).
    pub missing: Vec<String>,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// Where the execution of a plan stopped. This object and those behind it are not done, and are not counted.
    pub stopped: Option<PlanDeviation>,
}

/// An object that was not as planned any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanDeviation {
    /// Its Unique Identifier at the source.
    pub identifier: String,
    /// What was planned, in words.
    pub planned: String,
    /// What was found instead.
    pub found: String,
}

/// What an object that went over lost on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Its Unique Identifier at the source.
    pub identifier: String,
    /// The attributes, by name.
    pub attributes: Vec<String>,
}

/// An object that was not transferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedObject {
    /// Its Unique Identifier at the source.
    pub identifier: String,
    /// The Result Reason, where there is one.
    pub reason: Option<ResultReason>,
    /// Why, in words.
    pub message: String,
}

/// How an object of a transfer ended (rule 12). Between keyferry servers it is told as a number, in the answer to a copy.
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
    /// The object was not taken.
    Failed,
    /// The peer told a number that this build does not know. What became of the object is not known either: it counts as failed.
    Unknown(u32),
}

/// The outcomes that a report counts, in the order in which it shows them.
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

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectResult {
    /// Its Unique Identifier at the source.
    pub identifier: String,
    /// Its Unique Identifier at the target, where that is known to be another one.
    pub target: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
    /// The Result Reason of a failure, where there is one.
    pub reason: Option<ResultReason>,
    /// Why, in words, where there is something to say.
    pub message: Option<String>,
    /// Attributes that it lost on the way, by name.
    pub lost: Vec<String>,
}

impl ObjectResult {
    /// An object that ended so, without more to say.
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

    /// An object that was not taken.
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

    /// As JSON.
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

/// How many objects ended how. They [add up](Counts::add_up) to `asked`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[ttlv(tag = x::PROGRESS)]
pub struct Counts {
    /// Where the transfer stands in our feed.
    #[ttlv(tag = x::CURSOR)]
    pub cursor: i64,
    /// Counts the transfers under this name.
    #[ttlv(tag = x::SESSION)]
    pub session: i64,
    /// Whether it came to its end.
    #[ttlv(tag = x::FINISHED)]
    pub finished: bool,
    /// Objects that were to go over.
    #[ttlv(tag = x::COUNT_ASKED)]
    pub asked: i64,
    /// New there.
    #[ttlv(tag = x::COUNT_CREATED)]
    pub created: i64,
    /// Brought up to date there.
    #[ttlv(tag = x::COUNT_UPDATED)]
    pub updated: i64,
    /// The same there already.
    #[ttlv(tag = x::COUNT_UNCHANGED)]
    pub unchanged: i64,
    /// Not taken.
    #[ttlv(tag = x::COUNT_FAILED)]
    pub failed: i64,
    /// Bytes of requests sent, or of objects received.
    #[ttlv(tag = x::COUNT_BYTES)]
    pub bytes: i64,
    /// The incarnation of our store that the cursor belongs to.
    #[ttlv(tag = x::INCARNATION)]
    pub incarnation: Vec<u8>,
    /// The incarnation of the peer's store, where it told: what another one was sent says nothing about this one.
    #[ttlv(tag = x::PEER_INCARNATION)]
    pub peer: Option<Vec<u8>>,
    /// Attributes of objects that went over, which the peer or the version could not carry.
    #[ttlv(tag = x::COUNT_LOST)]
    pub lost: Option<i64>,
    /// Left out on purpose.
    #[ttlv(tag = x::COUNT_SKIPPED)]
    pub skipped: Option<i64>,
    /// New there, under another identifier or other Names.
    #[ttlv(tag = x::COUNT_RENAMED)]
    pub renamed: Option<i64>,
    /// Changed on both sides.
    #[ttlv(tag = x::COUNT_FORKED)]
    pub forked: Option<i64>,
    /// Gone from there, since they do not belong to the selection any more.
    #[ttlv(tag = x::COUNT_WITHDRAWN)]
    pub withdrawn: Option<i64>,
    /// Tells the selection: with another one, the transfer is another one.
    #[ttlv(tag = x::SELECTION)]
    pub selection: Option<Vec<u8>>,
    /// Objects that were to go over when it began, where that was counted.
    #[ttlv(tag = x::COUNT_TOTAL)]
    pub total: Option<i64>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl Counts {
    /// How many ended in one way.
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

    /// Counts an object that ended so.
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

    /// Whether everything that was asked for has an ending.
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
    /// Counts what became of an object.
    pub fn add_result(&mut self, told: ObjectResult) {
        self.counts.count(told.outcome);
        if told.outcome.is_failure() {
            if self.failures.len() < NAMED {
                let message = told.message.unwrap_or_default();
                self.failures.push(FailedObject {
                    identifier: told.identifier,
                    reason: told.reason,
                    message,
                });
            }
        } else if !told.lost.is_empty() {
            *self.counts.lost.get_or_insert(0) +=
                i64::try_from(told.lost.len()).unwrap_or(i64::MAX);
            if self.losses.len() < NAMED {
                self.losses.push(Loss {
                    identifier: told.identifier,
                    attributes: told.lost,
                });
            }
        }
    }

    /// As JSON.
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
            "failures": self.failures.iter().map(|failed| json!({
                "identifier": failed.identifier,
                "reason": failed.reason.map(|reason| reason.to_string()),
                "message": failed.message,
            })).collect::<Vec<_>>(),
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

    /// As a table, for people.
    pub fn table(&self) -> impl fmt::Display + '_ {
        Table(self)
    }
}

/// How many of each kind a table names.
const SHOWN: usize = 10;

fn more(f: &mut fmt::Formatter<'_>, what: &str, all: i64, named: usize) -> fmt::Result {
    match all - i64::try_from(named).unwrap_or(i64::MAX) {
        left @ 1.. => writeln!(f, "and {left} more {what}"),
        _ => Ok(()),
    }
}

struct Table<'a>(&'a Report);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Table(report) = self;
        if report.dry_run {
            writeln!(f, "{:<24} {:>12}", "a dry run", "not written")?;
        }
        writeln!(f, "{:<24} {:>12}", "asked", report.counts.asked)?;
        for outcome in OUTCOMES {
            writeln!(
                f,
                "{:<24} {:>12}",
                outcome.to_string(),
                report.counts.of(outcome)
            )?;
        }
        writeln!(
            f,
            "{:<24} {:>12}",
            "attributes not carried",
            report.counts.lost.unwrap_or(0)
        )?;
        for failed in report.failures.iter().take(SHOWN) {
            let reason = failed
                .reason
                .map(|reason| format!(" ({reason})"))
                .unwrap_or_default();
            writeln!(
                f,
                "failed: {}{reason}: {}",
                failed.identifier, failed.message
            )?;
        }
        more(
            f,
            "failures",
            report.counts.failed,
            report.failures.len().min(SHOWN),
        )?;
        for loss in report.losses.iter().take(SHOWN) {
            writeln!(
                f,
                "not carried: {}: {}",
                loss.identifier,
                loss.attributes.join(", ")
            )?;
        }
        let named: usize = report
            .losses
            .iter()
            .take(SHOWN)
            .map(|loss| loss.attributes.len())
            .sum();
        more(
            f,
            "attributes not carried",
            report.counts.lost.unwrap_or(0),
            named,
        )?;
        report
            .unseen
            .iter()
            .try_for_each(|unseen| writeln!(f, "could not be seen: {unseen}"))?;
        report
            .missing
            .iter()
            .try_for_each(|missing| writeln!(f, "missing at the source: {missing}"))?;
        match &report.stopped {
            Some(PlanDeviation {
                identifier,
                planned,
                found,
            }) => {
                writeln!(
                    f,
                    "stopped at {identifier}: planned was {planned}, and there is {found}"
                )
            }
            None => Ok(()),
        }
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
