//! Taking in what was fetched: the objects of one answer and the progress of the pull, in one transaction, by a plan where there is one.

use crate::ask::Ask;
use crate::error::{Error, ErrorKind, Result};
use crate::material::transit::{check_bound, wrapped_by};
use crate::pull::answers::{FetchedContent, FetchedObject};
use crate::pull::observed::Observed;
use crate::pull::{Pull, Sought, Taken, Why, observed};
use crate::receive::apply::{ApplyPage, apply_page};
use crate::receive::copy::{SeenObject, verify_copy};
use crate::receive::merge::Incoming;
use crate::relation::foreign_master::ForeignMaster;
use crate::relation::unkept::note_sender;
use crate::report::{ObjectResult, Outcome};
use crate::selection::link_targets;
use crate::session::SessionContext;
use crate::transfer::plan::Planned;
use crate::wire::copy::{Held, Short};
use keyferry_kmip::spec::{Operation, tag};
use keyferry_kmip::{Failure, Identity, Now, Random, Text, context};
use keyferry_store::record::{bytes_of, copy_digest};
use keyferry_store::{
    Deferred, Effects, ObjectId, Record, Snapshot, SnapshotExt, StoreExt, Transaction,
};
use keyferry_ttlv::Extra;
use sha2::{Digest as _, Sha256};
use std::ops::ControlFlow;

/// What was decided of an object that was fetched.
struct Decided {
    result: ObjectResult,
    effects: Effects,
}

/// What a plan wants to know of an object.
struct Facts {
    id: ObjectId,
    digest: Vec<u8>,
    held: Held,
}

/// A planned object that is not as it was planned: the execution stops there.
struct Deviation {
    planned: Planned,
    was: String,
    found: String,
}

/// The objects of one answer, while they are applied.
struct FetchedPage<'a> {
    pull: &'a Pull,
    caller: &'a Identity,
    now: Now,
    random: &'a mut dyn Random,
    /// The relation that the pull runs, where it runs one.
    relation: Option<ForeignMaster>,
    applied: Applied,
    /// What was found of the object that is looked at.
    facts: Option<Facts>,
}

/// What applying an answer has come to.
#[derive(Default)]
struct Applied {
    results: Vec<ObjectResult>,
    plans: Vec<Planned>,
    /// The identifiers that the Links of what was taken lead to.
    links: Vec<Text>,
    deviation: Option<Deviation>,
    /// Whether the transaction was rolled back on purpose, since nothing is to be done in a dry run.
    is_dry_run: bool,
}

impl Pull {
    /// Applies what an answer shows: objects and progress in one transaction.
    pub(super) fn apply(
        &mut self,
        cx: &mut SessionContext<'_>,
        fetched: Vec<(Sought, FetchedObject)>,
    ) -> Result<()> {
        let mut applied = Applied::default();
        let written = cx.store.transact::<_, Error>(|transaction| {
            self.apply_in(transaction, cx.now, &mut *cx.random, &fetched, &mut applied)
        });
        if let Err(error) = written
            && !applied.is_dry_run
        {
            return Err(error);
        }
        self.stored += 1;
        let dates = self.dates(&fetched);
        self.tell(applied)?;
        self.expect();
        self.ledger.observe(cx.now);
        self.took(cx, &dates)
    }

    /// The work of [`apply`](Pull::apply) in its transaction, which may run more than once.
    fn apply_in(
        &self,
        transaction: &mut dyn Transaction,
        now: Now,
        random: &mut dyn Random,
        fetched: &[(Sought, FetchedObject)],
        applied: &mut Applied,
    ) -> Result<()> {
        *applied = Applied::default();
        let caller = Identity::peer(&self.options.from.server);
        let relation = self.current(transaction)?;
        let mut world = Deferred::new(transaction);
        let mut page = FetchedPage {
            pull: self,
            caller: &caller,
            now,
            random,
            relation,
            applied: Applied::default(),
            facts: None,
        };
        apply_page(&mut world, Some((&self.node, now)), &mut page, fetched)?;
        world.finish()?;
        let relation = page.relation;
        *applied = page.applied;
        if self.ledger.dry_run {
            // What was decided stands in `applied`; nothing of it is to be done.
            applied.is_dry_run = true;
            return Err(Error::new(ErrorKind::Store, "a dry run"));
        }
        self.store_progress(transaction, now, relation, fetched, &applied.results)
    }

    /// Stores how far the pull is, with what it has taken.
    fn store_progress(
        &self,
        transaction: &mut dyn Transaction,
        now: Now,
        relation: Option<ForeignMaster>,
        fetched: &[(Sought, FetchedObject)],
        results: &[ObjectResult],
    ) -> Result<()> {
        let executes = self.ledger.executing.is_some();
        let mut counts = self.ledger.report.counts.clone();
        results
            .iter()
            .for_each(|result| counts.count(result.outcome));
        if executes {
            counts.cursor += i64::try_from(results.len()).unwrap_or(i64::MAX);
        }
        if let Some(mut relation) = relation {
            relation.contact = now.wall;
            if let Some(pass) = &mut relation.pass {
                pass.seen = pass.seen.max(self.dates(fetched).newest);
            }
            let (key, value) = relation.entry()?;
            transaction.set_state(&key, value.as_deref())?;
        }
        // A plan knows by its cursor what was taken.
        if !executes {
            let taken = Taken {
                identifiers: fetched
                    .iter()
                    .map(|(sought, _)| sought.identifier.clone())
                    .collect(),
                extra: Extra::NONE,
            };
            let key = [&self.own_lists()[..], &self.stored.to_be_bytes()].concat();
            transaction.set_state(&key, Some(&bytes_of(&taken)?))?;
        }
        Ok(transaction.set_state(&self.ledger.key, Some(&bytes_of(&counts)?))?)
    }

    /// Tells the ledger, and asks next for what Links lead to, where that is selected.
    fn tell(&mut self, applied: Applied) -> Result<()> {
        for planned in applied.plans {
            self.ledger.add_to_plan(|| planned)?;
        }
        self.ledger.complete_planned(applied.results.len());
        applied
            .results
            .into_iter()
            .for_each(|result| self.ledger.record_result(result));
        if let Some(Deviation {
            planned,
            was,
            found,
        }) = applied.deviation
        {
            self.ledger.stop(&planned, was, found);
        }
        if self.options.selection.with_links
            && self.ledger.executing.is_none()
            && let Some(listing) = &mut self.listing
        {
            let fresh = applied
                .links
                .into_iter()
                .filter(|target: &Text| listing.seen.insert(target));
            self.wanted.extend(fresh.map(|identifier| Sought {
                identifier,
                why: Why::Reached,
                planned: None,
            }));
        }
        Ok(())
    }

    /// The object id of an object that the foreign server has.
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

    /// What is to be held of an object as it was fetched, and what is held of it.
    fn incoming(
        &self,
        ask: &Ask<'_>,
        sight: &FetchedContent,
    ) -> Result<(Incoming, Option<Record>), Failure> {
        let by = sight.object.as_ref().and_then(wrapped_by);
        let object = match (&self.options.wrapping, sight.object.clone()) {
            (Some(wrapping), Some(wrapped)) => {
                let mut clear = self.node.unwrapped_under(ask, wrapped, &wrapping.here)?;
                let has_value = clear.key_block().is_some_and(|key| key.key_value.is_some());
                let is_copy = sight.copy.is_some() && has_value;
                check_bound(&mut clear, &sight.attributes, is_copy)?;
                Some(clear)
            }
            (_, object) => object,
        };
        let seen = SeenObject {
            identifier: sight.identifier.clone(),
            object_type: sight.object_type,
            attributes: sight.attributes.clone(),
            object,
            wrapped_by: by,
        };
        if let Some(copy) = sight.copy.clone() {
            let held = ask.snapshot.by_object_id(&copy.id)?.map(|(_, held)| held);
            let incoming = verify_copy(&self.node, &self.options.from, seen, copy, held.as_ref())?;
            return Ok((incoming, None));
        }
        let of = Observed {
            server: &self.options.from.server,
            instance: &self.options.instance,
            adopter: self.options.adopter.as_ref(),
        };
        observed::observed_copy(&self.node, ask, &of, seen)
    }
}

impl ApplyPage for FetchedPage<'_> {
    type Item = (Sought, FetchedObject);
    type Decided = Option<Decided>;

    fn decide(
        &mut self,
        snapshot: &dyn Snapshot,
        (sought, fetched): &Self::Item,
    ) -> Result<Option<Decided>, Failure> {
        self.facts = None;
        let content = match fetched {
            FetchedObject::ObjectResult(known) => {
                return Ok(Some(Decided {
                    result: known.clone(),
                    effects: Effects::none(),
                }));
            }
            FetchedObject::Object(content) => content,
        };
        let pull = self.pull;
        let mut ask = Ask::new(
            snapshot,
            self.caller,
            Operation::IMPORT,
            self.now,
            &mut *self.random,
        )
        .in_context(context(pull.options.version));
        let (incoming, held) = pull.incoming(&ask, content)?;
        let is_selected = sought.why == Why::Reached
            || sought.why == Why::Again && held.is_some()
            || pull.options.selection.criteria.is_empty()
            || pull
                .query
                .as_ref()
                .is_some_and(|query| query.matches(&incoming.record, self.now.wall));
        if !is_selected {
            return Ok(None);
        }
        if pull.ledger.planning.is_some() || sought.planned.is_some() {
            self.facts = Some(pull.facts(&ask, content, &incoming)?);
        }
        let links = link_targets(&incoming.record).map(Text::from);
        self.applied.links.extend(links);
        let collisions = &pull.options.from.collisions;
        let (merged, message) =
            observed::take_observed(&pull.node, &mut ask, collisions, incoming, held.as_ref())?;
        let target =
            Some(merged.identifier.to_string()).filter(|here| **here != *sought.identifier);
        Ok(Some(Decided {
            result: ObjectResult {
                target,
                message,
                ..ObjectResult::new(&sought.identifier, merged.outcome)
            },
            effects: merged.effects,
        }))
    }

    fn record(
        &mut self,
        snapshot: &dyn Snapshot,
        (sought, _): &Self::Item,
        decided: Result<Option<Decided>, Failure>,
    ) -> Result<ControlFlow<(), Effects>> {
        let decided = decided.unwrap_or_else(|failure| {
            let reason = failure.reason(self.pull.options.version);
            Some(Decided {
                result: ObjectResult::failed(&sought.identifier, Some(reason), failure.message()),
                effects: Effects::none(),
            })
        });
        let facts = self.facts.take();
        if let Some(planned) = &sought.planned
            && let Some((was, found)) = deviation(
                planned,
                decided.as_ref().map(|decided| &decided.result),
                facts.as_ref(),
            )
        {
            let planned = planned.clone();
            self.applied.deviation = Some(Deviation {
                planned,
                was,
                found,
            });
            return Ok(ControlFlow::Break(()));
        }
        // It was not asked for.
        let Some(Decided {
            result,
            mut effects,
        }) = decided
        else {
            return Ok(ControlFlow::Continue(Effects::none()));
        };
        if let Some(relation) = &mut self.relation {
            let random = &mut *self.random;
            let of = (sought, &result);
            self.pull
                .keep(snapshot, self.now.wall, random, relation, of, &mut effects)?;
        }
        if !result.outcome.is_failure() {
            let server = &self.pull.options.from.server;
            effects
                .state
                .extend(note_sender(snapshot, server, self.now.wall)?);
        }
        let planned = self.pull.planned(sought, result.outcome, facts);
        self.applied.plans.push(planned);
        self.applied.results.push(result);
        Ok(ControlFlow::Continue(effects))
    }
}

/// What was planned and what is found instead, where that is not the same.
fn deviation(
    planned: &Planned,
    result: Option<&ObjectResult>,
    facts: Option<&Facts>,
) -> Option<(String, String)> {
    let Some(result) = result else {
        return Some((
            planned.outcome.to_string(),
            "one that is not selected any more".to_owned(),
        ));
    };
    let (digest, held) = (
        facts.map(|facts| &facts.digest),
        facts.map(|facts| &facts.held),
    );
    if digest != planned.digest.as_ref() {
        let words = |digest: Option<&Vec<u8>>| match digest {
            Some(digest) => format!("one at the source with the digest {}", Short(digest)),
            None => "none that could be read at the source".to_owned(),
        };
        let message = result.message.as_ref().filter(|_| digest.is_none());
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
    let message = result
        .message
        .as_ref()
        .map(|message| format!(": {message}"))
        .unwrap_or_default();
    (result.outcome != outcome)
        .then(|| (outcome.to_string(), format!("{}{message}", result.outcome)))
}
