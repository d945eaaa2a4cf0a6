//! An object on its way, and where it begins.

use crate::error::{Error, ErrorKind, Result};
use crate::material::transit::reason_withheld;
use crate::push::publish::steps::{self, Level};
use crate::push::publish::{Birth, NOT_KEPT, Phase, Publish};
use crate::relation::identifier_map;
use crate::relation::identifier_map::Mapped;
use crate::report::{ObjectResult, Outcome};
use crate::session::SessionContext;
use crate::transfer::plan::Planned;
use crate::wire::copy::Held;
use keyferry_kmip::spec::{CryptographicAlgorithm, ObjectType, State};
use keyferry_kmip::{Attributes, Object, RequestItem, Secret, Text, lifecycle};
use keyferry_store::{Incarnation, ObjectId, Record, SnapshotExt, Stamp, StoreExt};
use keyferry_ttlv::Extra;
use std::collections::VecDeque;

pub(crate) struct Work {
    pub(super) record: Record,
    pub(super) object: Option<Object>,
    pub(super) there: Option<Text>,
    /// What else the peer found by its marker.
    pub(super) candidates: Vec<Text>,
    /// An earlier run meant to bring it there.
    pub(super) meant: bool,
    pub(super) level: Level,
    pub(super) probe: bool,
    /// It is the probe of an earlier session, which may be there still.
    pub(super) stale: bool,
    /// A probe is not there any more, or never came.
    pub(super) gone: bool,
    /// What the map says of it.
    pub(super) mapped: Option<Mapped>,
    /// What the peer showed last.
    pub(super) shown: Option<Attributes>,
    /// Changes of attributes that are still to be sent, each by itself, since the peer could not take them together.
    pub(super) singly: Option<VecDeque<RequestItem>>,
    /// One of them is under way.
    pub(super) changing: bool,
    /// It was brought there just now, as it is.
    pub(super) born: bool,
    /// It has left the selection.
    pub(super) left: bool,
    /// Nobody could tell whether it ever came there: the intent stays.
    pub(super) unsure: bool,
    /// The peer said that it exists, though it had not been shown.
    pub(super) exists: bool,
    pub(super) planned: Option<Planned>,
    /// What the target held, for a plan.
    pub(super) held: Option<Held>,
    /// The phase that it waits for; it is over without one.
    pub(super) at: Option<Phase>,
    pub(super) told: Option<ObjectResult>,
}

impl Work {
    fn new(record: Record, object: Option<Object>) -> Work {
        Work {
            record,
            object,
            there: None,
            candidates: Vec::new(),
            meant: false,
            level: Level::Full,
            probe: false,
            stale: false,
            gone: false,
            mapped: None,
            shown: None,
            singly: None,
            changing: false,
            born: false,
            left: false,
            unsure: false,
            exists: false,
            planned: None,
            held: None,
            at: None,
            told: None,
        }
    }

    pub(super) fn over(&mut self, told: ObjectResult) {
        self.at = None;
        self.told = Some(told);
    }

    /// Whether all of it was there once.
    pub(super) fn is_known(&self) -> bool {
        self.mapped
            .as_ref()
            .is_some_and(|mapped| mapped.digest.is_some())
    }

    /// What the peer was told of its attributes.
    pub(super) fn said(&self) -> &[u8] {
        self.mapped
            .as_ref()
            .and_then(|mapped| mapped.said.as_deref())
            .unwrap_or_default()
    }

    /// What stands in a plan of it.
    pub(super) fn plan(&self, told: &ObjectResult) -> Result<Planned> {
        let held = match told.outcome {
            Outcome::Created => Some(Held::default()),
            Outcome::Updated => self.held.clone(),
            _ => None,
        };
        let digest = Some(self.record.copy_digest()?);
        let (id, identifier) = (self.record.id.clone(), self.record.identifier.clone());
        Ok(Planned {
            id,
            identifier,
            digest,
            held,
            outcome: told.outcome,
            extra: Extra::NONE,
        })
    }
}

impl Publish {
    /// What is to be done for an object.
    pub(super) fn work(
        &self,
        cx: &SessionContext<'_>,
        record: Record,
        object: Option<Object>,
        planned: Option<Planned>,
        left: bool,
    ) -> Result<Work> {
        let known = cx.store.view::<_, Error>(|snapshot| {
            identifier_map::find(snapshot, &self.setting.name, &record.id)
        })?;
        let mut work = Work {
            planned,
            left,
            ..Work::new(record, object)
        };
        let level = self
            .levels
            .iter()
            .find(|(of, _)| *of == work.record.object_type);
        work.level = level.map_or(Level::Full, |(_, level)| *level);
        work.there = known.as_ref().and_then(|known| known.there.clone());
        work.meant = known.is_some() && work.there.is_none();
        work.mapped = known;
        let identifier = work.record.identifier.clone();
        let (digest, unusable) = (
            work.record.copy_digest()?,
            !steps::is_usable(work.record.state(cx.now.wall)),
        );
        let imports = self.setting.birth == Birth::Import;
        let looks = self.can_look();
        let unchanged = |known: &Mapped| {
            !left && known.left.is_none() && known.digest.as_ref() == Some(&digest)
        };
        if left && work.mapped.is_none() {
            work.over(ObjectResult::new(&identifier, Outcome::Skipped));
        } else if work.mapped.as_ref().is_some_and(unchanged) {
            let target = work
                .there
                .as_ref()
                .filter(|there| **there != identifier || !imports)
                .map(ToString::to_string);
            work.over(ObjectResult {
                target,
                ..ObjectResult::new(&identifier, Outcome::Unchanged)
            });
        } else if let Some(why) =
            reason_withheld(&work.record, self.wrapping.is_some()).filter(|_| !left)
        {
            work.over(ObjectResult::failed(&identifier, None, why));
        } else if work.there.is_some() && !looks {
            let why =
                "the peer does not offer Get Attributes: what has changed can't be brought there";
            work.over(ObjectResult::failed(&identifier, None, why));
        } else if work.there.is_some() {
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
            work.at = Some(if checks && !begun && work.is_known() {
                Phase::Check
            } else {
                Phase::Look
            });
        } else if work.record.is_destroyed() && !work.meant {
            let message = Some("it is destroyed, and was never there".to_owned());
            work.over(ObjectResult {
                message,
                ..ObjectResult::new(&identifier, Outcome::Skipped)
            });
        } else if work.meant {
            // Its own identifier is where an Import has brought it, if it has.
            work.at = Some(if imports { Phase::Look } else { Phase::Locate });
            work.there = imports.then(|| identifier.clone());
        } else if unusable && (self.keeps == Some(false) || !looks) {
            work.over(ObjectResult::failed(&identifier, None, NOT_KEPT));
        } else {
            // Whether something is in its way, an Import finds out by itself, unless it must not go on.
            let checks = imports && looks && (self.ledger.dry_run || work.planned.is_some());
            work.at = Some(if checks { Phase::Check } else { Phase::Birth });
            work.there = checks.then(|| identifier.clone());
        }
        if self.ledger.dry_run
            && work
                .at
                .is_some_and(|at| at != Phase::Check || self.ledger.planning.is_none() && !imports)
        {
            let outcome = if work.is_known() {
                Outcome::Updated
            } else {
                Outcome::Created
            };
            let told = ObjectResult {
                lost: self.expected_losses(&work.record),
                ..ObjectResult::new(&identifier, outcome)
            };
            work.over(told);
        }
        Ok(work)
    }

    pub(super) fn expected_losses(&self, record: &Record) -> Vec<String> {
        match self.setting.birth {
            Birth::Register => steps::expected_losses(record, self.setting.version),
            Birth::Import => {
                crate::outgoing::item::carried(&record.attributes, self.setting.version).1
            }
        }
    }

    /// Where an object is led at the peer: where it is here, but for a Destroy that is not allowed there.
    pub(super) fn goal(&self, cx: &SessionContext<'_>, work: &Work) -> Option<State> {
        let state = work.record.state(cx.now.wall)?;
        if self.goes(work) {
            let rank = lifecycle::Rank {
                step: 3,
                ..lifecycle::Rank::of(state)
            };
            return Some(rank.joined_state(rank));
        }
        if lifecycle::is_destroyed(state) && !self.setting.may_destroy && !work.probe {
            let rank = lifecycle::Rank {
                step: 2,
                ..lifecycle::Rank::of(state)
            };
            return Some(rank.joined_state(rank));
        }
        Some(state)
    }

    /// Whether an object is destroyed there since it has left the selection.
    pub(super) fn goes(&self, work: &Work) -> bool {
        work.left
            && self
                .running
                .as_ref()
                .is_some_and(|running| running.slave.destroys_left)
    }

    /// A key for nothing, which shows whether the peer keeps the State of one that is not usable. It is noted before it goes.
    pub(super) fn probe(&self, cx: &mut SessionContext<'_>) -> Result<Work> {
        let mut bytes = [0; 32];
        cx.random
            .fill(&mut bytes)
            .map_err(|e| Error::caused_by(ErrorKind::Random, e))?;
        let (name, material) = bytes.split_at(16);
        let identifier: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        self.store(
            cx,
            &[(self.probe_key(), Some(identifier.as_bytes().to_vec()))],
        )?;
        let object = Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(material));
        Ok(Work {
            at: Some(Phase::Birth),
            ..Publish::probing(identifier.into(), Some(object))
        })
    }

    /// The probe of a session that was interrupted, as long as nobody knows that it is gone.
    pub(super) fn stale_probe(&self, cx: &SessionContext<'_>) -> Result<Option<Work>> {
        let noted = cx
            .store
            .view::<_, Error>(|snapshot| Ok(snapshot.state_value(&self.probe_key())?))?;
        let Some(identifier) = noted.and_then(|noted| String::from_utf8(noted).ok()) else {
            return Ok(None);
        };
        let imports = self.setting.birth == Birth::Import;
        let there = imports.then(|| Text::from(identifier.clone()));
        let at = Some(if imports { Phase::Look } else { Phase::Locate });
        Ok(Some(Work {
            stale: true,
            there,
            at,
            ..Publish::probing(identifier.into(), None)
        }))
    }

    pub(super) fn probe_key(&self) -> Vec<u8> {
        [b"probe/", self.setting.name.as_bytes()].concat()
    }

    fn probing(identifier: Text, object: Option<Object>) -> Work {
        let record = Record {
            id: ObjectId {
                server: "probe".into(),
                instance: Vec::new(),
                identifier: identifier.clone(),
            },
            identifier,
            owner: None,
            stamp: Stamp::first(&"probe".into(), Incarnation([0; 16])),
            lineage: Vec::new(),
            object_type: ObjectType::SYMMETRIC_KEY,
            attributes: steps::probe_attributes(),
            overlay: None,
            fingerprint: None,
            lost: Vec::new(),
            extra: Extra::NONE,
        };
        Work {
            level: Level::Core,
            probe: true,
            ..Work::new(record, object)
        }
    }
}
