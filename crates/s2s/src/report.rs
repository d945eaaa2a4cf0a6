use keyferry_kmip::extension as x;
use keyferry_kmip::spec::ResultReason;
use keyferry_ttlv::{Decode, Encode, Extra};
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
    pub stopped: Option<Stopped>,
}

/// An object that was not as planned any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
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

/// How an object of a transfer ended (rule 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// New at the target.
    Created,
    /// Brought up to date at the target.
    Updated,
    /// The same at the target already, or a later one.
    Unchanged,
    /// Left out on purpose.
    Skipped,
    /// New at the target, under another identifier or other Names.
    Renamed,
    /// Changed on both sides: both are kept, until a person decides.
    Forked,
    /// Gone from the target, since it does not belong to the selection any more.
    Withdrawn,
    /// Not taken.
    Failed,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::Created => "created",
            Ending::Updated => "updated",
            Ending::Unchanged => "unchanged",
            Ending::Skipped => "skipped",
            Ending::Renamed => "renamed",
            Ending::Forked => "forked",
            Ending::Withdrawn => "withdrawn",
            Ending::Failed => "failed",
        })
    }
}

/// What became of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its Unique Identifier at the source.
    pub identifier: String,
    /// Its Unique Identifier at the target, where that is known to be another one.
    pub target: Option<String>,
    /// How it ended.
    pub ending: Ending,
    /// The Result Reason of a failure, where there is one.
    pub reason: Option<ResultReason>,
    /// Why, in words, where there is something to say.
    pub message: Option<String>,
    /// Attributes that it lost on the way, by name.
    pub lost: Vec<String>,
}

impl Told {
    /// An object that ended so, without more to say.
    pub fn new(identifier: &str, ending: Ending) -> Told {
        Told {
            identifier: identifier.to_owned(),
            target: None,
            ending,
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
    ) -> Told {
        Told {
            reason,
            message: Some(message.into()),
            ..Told::new(identifier, Ending::Failed)
        }
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({
            "identifier": self.identifier,
            "target": self.target,
            "ending": self.ending.to_string(),
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
    pub fn of(&self, ending: Ending) -> i64 {
        match ending {
            Ending::Created => self.created,
            Ending::Updated => self.updated,
            Ending::Unchanged => self.unchanged,
            Ending::Skipped => self.skipped.unwrap_or(0),
            Ending::Renamed => self.renamed.unwrap_or(0),
            Ending::Forked => self.forked.unwrap_or(0),
            Ending::Withdrawn => self.withdrawn.unwrap_or(0),
            Ending::Failed => self.failed,
        }
    }

    /// Counts an object that ended so.
    pub fn count(&mut self, ending: Ending) {
        self.asked += 1;
        *match ending {
            Ending::Created => &mut self.created,
            Ending::Updated => &mut self.updated,
            Ending::Unchanged => &mut self.unchanged,
            Ending::Skipped => self.skipped.get_or_insert(0),
            Ending::Renamed => self.renamed.get_or_insert(0),
            Ending::Forked => self.forked.get_or_insert(0),
            Ending::Withdrawn => self.withdrawn.get_or_insert(0),
            Ending::Failed => &mut self.failed,
        } += 1;
    }

    /// Whether everything that was asked for has an ending.
    pub fn add_up(&self) -> bool {
        ENDINGS.iter().map(|ending| self.of(*ending)).sum::<i64>() == self.asked
    }
}

const ENDINGS: [Ending; 8] = [
    Ending::Created,
    Ending::Updated,
    Ending::Unchanged,
    Ending::Skipped,
    Ending::Renamed,
    Ending::Forked,
    Ending::Withdrawn,
    Ending::Failed,
];

/// How many failures, losses and missing objects a report names.
pub(crate) const NAMED: usize = 100;

impl Report {
    /// Counts what became of an object.
    pub fn tell(&mut self, told: Told) {
        self.counts.count(told.ending);
        if told.ending == Ending::Failed {
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
        let counts: serde_json::Map<String, Value> = ENDINGS
            .iter()
            .map(|ending| (ending.to_string(), self.counts.of(*ending).into()))
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
        for ending in ENDINGS {
            writeln!(
                f,
                "{:<24} {:>12}",
                ending.to_string(),
                report.counts.of(ending)
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
            Some(Stopped {
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
        ENDINGS
            .iter()
            .try_for_each(|ending| write!(f, ", {ending} {}", self.counts.of(*ending)))
    }
}
