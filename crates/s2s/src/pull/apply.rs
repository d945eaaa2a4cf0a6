//! Taking in what was shown: objects and progress in one transaction, by a plan where there is one.

use crate::ask::Ask;
use crate::error::{Error, ErrorKind, Result};
use crate::pull::answers::{FetchedContent, FetchedObject};
use crate::pull::observed::Observed;
use crate::pull::{Pull, Sought, Taken, Why, observed};
use crate::receive::copy::{SeenObject, copied};
use crate::receive::merge::Incoming;
use crate::report::{ObjectResult, Outcome};
use crate::selection::link_targets;
use crate::session::SessionContext;
use crate::transfer::plan::Planned;
use crate::wire::copy::{Held, Short};
use keyferry_kmip::spec::{Operation, tag};
use keyferry_kmip::{Failure, Identity, Text, context};
use keyferry_store::record::{bytes_of, copy_digest};
use keyferry_store::{Deferred, Effects, ObjectId, Record, SnapshotExt, StoreExt};
use keyferry_ttlv::Extra;
use sha2::{Digest as _, Sha256};

/// What became of an object that was shown.
struct Judged {
    told: ObjectResult,
    effects: Effects,
    facts: Option<Facts>,
}

/// What a plan wants to know of an object.
struct Facts {
    id: ObjectId,
    digest: Vec<u8>,
    held: Held,
}

impl Pull {
    /// Takes what a message's answer shows: objects and progress in one transaction.
    pub(super) fn take(
        &mut self,
        cx: &mut SessionContext<'_>,
        shown: Vec<(Sought, FetchedObject)>,
    ) -> Result<()> {
        let identifiers: Vec<Text> = shown
            .iter()
            .map(|(sought, _)| sought.identifier.clone())
            .collect();
        let key = [&self.own_lists()[..], &self.stored.to_be_bytes()].concat();
        let value = bytes_of(&Taken {
            identifiers,
            extra: Extra::NONE,
        })?;
        let dates = self.dates(&shown);
        let caller = Identity {
            name: self.options.from.server.to_string(),
            fingerprint: [0; 32],
        };
        let (mut told, mut plans, mut links, mut stop) = (Vec::new(), Vec::new(), Vec::new(), None);
        let executes = self.ledger.executing.is_some();
        let written = cx.store.transact::<_, Error>(|transaction| {
            (told, plans, links, stop) = (Vec::new(), Vec::new(), Vec::new(), None);
            let mut relation = self.current(transaction)?;
            let mut world = Deferred::new(transaction);
            for (sought, shown) in &shown {
                let mut ask = Ask::new(&world, &caller, Operation::IMPORT, cx.now, &mut *cx.random)
                    .in_context(context(self.options.version));
                let judged = match shown {
                    FetchedObject::ObjectResult(known) => Some(Judged {
                        told: known.clone(),
                        effects: Effects::none(),
                        facts: None,
                    }),
                    FetchedObject::Object(sight) => self.judge(&mut ask, sought, sight, &mut links),
                };
                if let Some(planned) = &sought.planned
                    && let Some((was, found)) = unplanned(planned, judged.as_ref())
                {
                    stop = Some((planned.clone(), was, found));
                    break;
                }
                if let Some(Judged {
                    told: one,
                    mut effects,
                    facts,
                }) = judged
                {
                    if let Some(relation) = &mut relation {
                        self.keep(
                            &world,
                            cx.now.wall,
                            &mut *cx.random,
                            relation,
                            (sought, &one),
                            &mut effects,
                        )?;
                    }
                    plans.push(self.planned(sought, one.outcome, facts));
                    told.push(one);
                    world.add(effects)?;
                }
            }
            world.finish()?;
            if self.ledger.dry_run {
                // What was decided stands in `told`; nothing of it is to be done.
                return Err(Error::new(ErrorKind::Store, "a dry run"));
            }
            let mut counts = self.ledger.report.counts.clone();
            told.iter()
                .for_each(|told: &ObjectResult| counts.count(told.outcome));
            if executes {
                counts.cursor += i64::try_from(told.len()).unwrap_or(i64::MAX);
            }
            if let Some(mut relation) = relation {
                relation.contact = cx.now.wall;
                if let Some(pass) = &mut relation.pass {
                    pass.seen = pass.seen.max(dates.newest);
                }
                let (key, value) = relation.entry()?;
                transaction.set_state(&key, value.as_deref())?;
            }
            // A plan knows by its cursor what was taken.
            if !executes {
                transaction.set_state(&key, Some(&value))?;
            }
            transaction.set_state(&self.ledger.key, Some(&bytes_of(&counts)?))?;
            Ok(())
        });
        match written {
            Err(error) if !self.ledger.dry_run => return Err(error),
            _ => self.stored += 1,
        }
        for planned in plans {
            self.ledger.plan(|| planned)?;
        }
        self.ledger.done(told.len());
        told.into_iter().for_each(|told| self.ledger.tell(told));
        if let Some((planned, was, found)) = stop {
            self.ledger.stop(&planned, was, found);
        }
        if self.options.selection.with_links
            && !executes
            && let Some(listing) = &mut self.listing
        {
            let fresh = links
                .into_iter()
                .filter(|target: &Text| listing.seen.insert(target));
            self.wanted.extend(fresh.map(|identifier| Sought {
                identifier,
                why: Why::Reached,
                planned: None,
            }));
        }
        self.expect();
        self.ledger.observe(cx.now);
        self.took(cx, &dates)
    }

    /// An object of the foreign server.
    pub(super) fn foreign(&self, sought: &Sought) -> ObjectId {
        let from = &self.options;
        let (server, instance) = (from.from.server.clone(), from.instance.clone());
        ObjectId {
            server,
            instance,
            identifier: sought.identifier.clone(),
        }
    }

    /// What stands in a plan of an object.
    fn planned(&self, sought: &Sought, outcome: Outcome, facts: Option<Facts>) -> Planned {
        let (id, digest, held) = match facts {
            Some(Facts { id, digest, held }) => (id, Some(digest), Some(held)),
            None => (self.foreign(sought), None, None),
        };
        Planned {
            id,
            identifier: sought.identifier.clone(),
            digest,
            held,
            outcome,
            extra: Extra::NONE,
        }
    }

    /// What becomes of one object; `None` when it was not asked for.
    fn judge(
        &self,
        ask: &mut Ask<'_>,
        sought: &Sought,
        sight: &FetchedContent,
        links: &mut Vec<Text>,
    ) -> Option<Judged> {
        let mut facts = None;
        let judged = self.incoming(ask, sight).and_then(|(incoming, held)| {
            let is_chosen = sought.why == Why::Reached
                || sought.why == Why::Again && held.is_some()
                || self.options.selection.criteria.is_empty()
                || self
                    .query
                    .as_ref()
                    .is_some_and(|query| query.matches(&incoming.record, ask.now.wall));
            if !is_chosen {
                return Ok(None);
            }
            if self.ledger.planning.is_some() || sought.planned.is_some() {
                facts = Some(self.facts(ask, sight, &incoming)?);
            }
            links.extend(link_targets(&incoming.record).map(Text::from));
            observed::decide(
                &self.node,
                ask,
                &self.options.from.collisions,
                incoming,
                held.as_ref(),
            )
            .map(Some)
        });
        let (told, effects) = match judged {
            Ok(None) => return None,
            Err(failure) => {
                let reason = failure.reason(self.options.version);
                (
                    ObjectResult::failed(&sought.identifier, Some(reason), failure.message()),
                    Effects::none(),
                )
            }
            Ok(Some((decision, message))) => {
                let target = Some(decision.identifier.to_string())
                    .filter(|here| **here != *sought.identifier);
                let told = ObjectResult {
                    target,
                    message,
                    ..ObjectResult::new(&sought.identifier, decision.outcome)
                };
                (told, decision.effects)
            }
        };
        Some(Judged {
            told,
            effects,
            facts,
        })
    }

    /// What the server showed of an object, and what is held of it here.
    fn facts(
        &self,
        ask: &Ask<'_>,
        sight: &FetchedContent,
        incoming: &Incoming,
    ) -> Result<Facts, Failure> {
        let id = incoming.record.id.clone();
        let held = ask.snapshot.by_object_id(&id)?;
        let held = Held::of(held.as_ref().map(|(_, held)| held))?;
        if incoming.observed {
            // As it was shown: what is completed here depends on when.
            let mut shown = sight.attributes.clone();
            shown.remove(tag::FRESH);
            let fingerprint = incoming
                .object
                .as_ref()
                .map(|object| self.node.fingerprint(object));
            let fingerprint = fingerprint.transpose()?.unwrap_or_default();
            let attributes = copy_digest(sight.object_type, &shown)?;
            let digest = Sha256::new()
                .chain_update(&attributes)
                .chain_update(&fingerprint)
                .finalize()
                .to_vec();
            return Ok(Facts { id, digest, held });
        }
        Ok(Facts {
            id,
            digest: incoming.digest.clone(),
            held,
        })
    }

    fn incoming(
        &self,
        ask: &Ask<'_>,
        sight: &FetchedContent,
    ) -> Result<(Incoming, Option<Record>), Failure> {
        let object = match (&self.options.wrapping, sight.object.clone()) {
            (Some(wrapping), Some(wrapped)) => {
                Some(self.node.unwrapped_under(ask, wrapped, &wrapping.here)?)
            }
            (_, object) => object,
        };
        let seen = SeenObject {
            identifier: sight.identifier.clone(),
            object_type: sight.object_type,
            attributes: sight.attributes.clone(),
            object,
        };
        if let Some(copy) = sight.copy.clone() {
            return Ok((copied(&self.options.from, seen, copy)?, None));
        }
        let of = Observed {
            server: &self.options.from.server,
            instance: &self.options.instance,
            adopter: self.options.adopter.as_ref(),
        };
        observed::observed(&self.node, ask, &of, seen)
    }
}

/// What was planned and what is found instead, where that is not the same.
fn unplanned(planned: &Planned, judged: Option<&Judged>) -> Option<(String, String)> {
    let Some(Judged { told, facts, .. }) = judged else {
        return Some((
            planned.outcome.to_string(),
            "one that is not selected any more".to_owned(),
        ));
    };
    let (digest, held) = (
        facts.as_ref().map(|facts| &facts.digest),
        facts.as_ref().map(|facts| &facts.held),
    );
    if digest != planned.digest.as_ref() {
        let words = |digest: Option<&Vec<u8>>| match digest {
            Some(digest) => format!("one at the source with the digest {}", Short(digest)),
            None => "none that could be read at the source".to_owned(),
        };
        let message = told.message.as_ref().filter(|_| digest.is_none());
        let message = message
            .map(|message| format!(" ({message})"))
            .unwrap_or_default();
        return Some((words(planned.digest.as_ref()), words(digest) + &message));
    }
    if held != planned.held.as_ref() {
        let words =
            |held: Option<&Held>| format!("{} held here", held.cloned().unwrap_or_default());
        return Some((words(planned.held.as_ref()), words(held)));
    }
    let outcome = planned.outcome;
    let message = told
        .message
        .as_ref()
        .map(|message| format!(": {message}"))
        .unwrap_or_default();
    (told.outcome != outcome).then(|| (outcome.to_string(), format!("{}{message}", told.outcome)))
}
