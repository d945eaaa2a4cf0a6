//! The replica's side of a page: what becomes of the changes that an answer brings.

use crate::ask::Ask;
use crate::compare::leaf::CopySum;
use crate::error::{Error, ErrorKind, Result};
use crate::follow::hearsay::ToldChange;
use crate::follow::options::FollowOptions;
use crate::follow::prove::Told;
use crate::follow::repair::{damaged, is_corrupt, mended};
use crate::follow::{Asked, Checked, Follow};
use crate::limits::short;
use crate::node::Node;
use crate::planted::planted;
use crate::receive::apply::{ApplyPage, apply_page};
use crate::receive::authority::{ChangeRef, check_speaker};
use crate::receive::copy::{SeenObject, verify_copy};
use crate::receive::import::outside_agreement;
use crate::receive::merge::{self};
use crate::refusals::is_unauthorised;
use crate::relation::followed::Upstream;
use crate::relation::keys::{about, lacking_prefix, missing_prefix, retry_prefix};
use crate::relation::retry::{Retry, ahead, later};
use crate::relation::withheld::WithheldObject;
use crate::report::{ObjectResult, Outcome};
use crate::session::SessionContext;
use crate::wire::copy::Copy;
use crate::wire::follow::{Change, FollowResponse, KeptPath, Kind, SPOKEN};
use crate::wire::terms::Terms;
use keyferry_kmip::spec::Operation;
use keyferry_kmip::{Attributes, Cause, DateTime, Failure, Identity, Now, Random, Text, context};
use keyferry_store::record::{bytes_of, object_of, read};
use keyferry_store::{Deferred, Effects, ObjectId, Overlay, Snapshot, SnapshotExt, StoreExt};
use keyferry_ttlv::Extra;
use std::ops::ControlFlow;

/// What applying an answer has come to.
pub(super) struct Applied {
    /// The relation, as it is stored now.
    pub(super) upstream: Upstream,
    /// What became of the objects.
    pub(super) results: Vec<ObjectResult>,
    /// Whether something is to be asked for again at once.
    pub(super) asks_again: bool,
    /// What was told of copies that are held so now.
    pub(super) told: Told,
    /// The copies that are listed from now on as not held as they were told, with what was told; or that are listed no more.
    pub(super) differing: Vec<(ObjectId, Option<Option<CopySum>>)>,
}

/// The changes of an answer, while they are applied.
pub(super) struct ChangesPage<'a> {
    pub(super) node: &'a Node,
    pub(super) options: &'a FollowOptions,
    reign: &'a [u8],
    asked_again: &'a [ObjectId],
    searches: bool,
    caller: &'a Identity,
    pub(super) now: Now,
    random: &'a mut dyn Random,
    pub(super) upstream: Upstream,
    results: Vec<ObjectResult>,
    asks_again: bool,
    /// What was told of copies that are held so now.
    pub(super) told: Told,
    /// The copies whose listing has changed.
    pub(super) differing: Vec<(ObjectId, Option<Option<CopySum>>)>,
}

/// What was decided of a change.
pub(super) enum Decided {
    /// The issuer still does not have the object: it is named already.
    StillMissing,
    /// The object ends so.
    Ends(ObjectResult, Effects),
    /// What is held of the object can't be read: with these effects it gives way, and the object is asked for again.
    Damaged(Effects),
}

impl Follow {
    /// Applies all that an answer brings, and stores the place where it ends, in one transaction. What can't be taken is kept to be asked for
    /// again.
    pub(super) fn apply(
        &self,
        cx: &mut SessionContext<'_>,
        answer: &FollowResponse,
        asked: &Asked,
    ) -> Result<Applied> {
        let acknowledged = &asked.acknowledged;
        let session = self.session();
        let caller = Identity::peer(&self.options.from.server);
        let SessionContext { now, store, random } = cx;
        store.transact(|transaction| {
            let upstream = self.current_upstream(transaction, session)?;
            let mut world = Deferred::new(transaction);
            let mut page = ChangesPage {
                node: &self.node,
                options: &self.options,
                reign: &answer.reign,
                asked_again: &asked.again,
                searches: asked.searches,
                caller: &caller,
                now: *now,
                random: &mut **random,
                upstream,
                results: Vec::new(),
                asks_again: false,
                told: Told::new(),
                differing: Vec::new(),
            };
            let spread = Some((&*self.node, *now));
            apply_page(&mut world, spread, &mut page, &answer.changes)?;
            let ChangesPage {
                mut upstream,
                results,
                asks_again,
                told,
                differing,
                ..
            } = page;
            let lacking = self.list_lacking(&world, &mut upstream, answer, now.wall)?;
            advance(&mut upstream, answer, asked.checked, now.wall);
            upstream.keeps = credible_paths(answer, &self.node);
            self.compare_terms(&mut upstream, answer)?;
            // Nothing new is nothing to write.
            let is_unchanged = results.is_empty()
                && acknowledged.is_empty()
                && self
                    .upstream
                    .as_ref()
                    .is_some_and(|held| differ_in_contact_alone(held, &upstream));
            if !is_unchanged {
                let acknowledged = acknowledged.iter().map(|key| (key.clone(), None));
                let mut effects = Effects::none();
                effects
                    .state
                    .extend(acknowledged.chain(lacking).chain([upstream.entry()?]));
                world.add(effects)?;
                world.finish()?;
            }
            Ok(Applied {
                upstream,
                results,
                asks_again,
                told,
                differing,
            })
        })
    }
}

impl Follow {
    /// Lists what the issuer withholds from this server.
    fn list_lacking(
        &self,
        snapshot: &dyn Snapshot,
        upstream: &mut Upstream,
        answer: &FollowResponse,
        now: DateTime,
    ) -> Result<Vec<StateEntry>> {
        let terms = (now, self.node.policy.limits.withheld_objects);
        let prefix = lacking_prefix(&self.options.relation);
        let (counted, changes) = (&mut upstream.withheld, &answer.changes);
        Ok(WithheldObject::note(
            snapshot, &prefix, counted, changes, terms,
        )?)
    }

    /// Names where the terms of the issuer differ from those of this server.
    fn compare_terms(&self, upstream: &mut Upstream, answer: &FollowResponse) -> Result<()> {
        if let Some(theirs) = &answer.terms {
            let ours = Terms::of_replica(&self.options.from)?;
            upstream.terms_differ = Terms::difference(theirs, &ours).map(Text::from);
        }
        Ok(())
    }
}

/// Moves a relation on to where an answer ends.
fn advance(upstream: &mut Upstream, answer: &FollowResponse, checked: Checked, now: DateTime) {
    upstream.cursor = answer.place.clone();
    upstream.offers = answer.offers;
    upstream.counts.cursor = answer.place.number;
    upstream.head = answer.head.clone();
    upstream.reign = Some(answer.reign.clone());
    upstream.contact = now;
    (upstream.error, upstream.ended) = (None, None);
    upstream.instance = Some(answer.instance.clone());
    if answer.place.number >= answer.head.number {
        upstream.anew = None;
    }
    match checked {
        Checked::UpTo(number) => upstream.checking = Some(number),
        Checked::All => upstream.checking = None,
        Checked::NoFurther if answer.check == Some(true) => {
            upstream.checking = upstream.checking.or(Some(0));
        }
        Checked::NoFurther => {}
    }
}

/// The ways on which the server that is followed says that it hears of others' objects, but for those that lead over this server, and for what no
/// honest server would say: longer names, longer ways, more of them.
fn credible_paths(answer: &FollowResponse, node: &Node) -> Vec<KeptPath> {
    let (here, most) = (&node.home.server, node.policy.limits.name_bytes);
    let mut paths = answer.keeps.clone();
    paths.retain(|path| {
        let servers = &path.servers;
        servers.len() <= MOST_ON_A_WAY
            && servers
                .iter()
                .all(|server| server != here && server.len() <= most)
    });
    paths.truncate(MOST_WAYS);
    paths
}

/// The most servers on a way, and the most ways, that are kept of one server that is followed.
const MOST_ON_A_WAY: usize = 16;
const MOST_WAYS: usize = 1000;

/// Whether two states of a relation differ in the time of the last contact at the most.
fn differ_in_contact_alone(held: &Upstream, now: &Upstream) -> bool {
    Upstream {
        contact: held.contact,
        ..now.clone()
    } == *held
}

impl ApplyPage for ChangesPage<'_> {
    type Item = Change;
    type Decided = Decided;

    fn decide(&mut self, snapshot: &dyn Snapshot, change: &Change) -> Result<Decided, Failure> {
        if change.kind == Kind::GONE {
            let key = about(missing_prefix(&self.options.relation), &change.copy.id)?;
            if snapshot.state_value(&key)?.is_some() {
                return Ok(Decided::StillMissing);
            }
        }
        let mut ask = Ask::new(
            snapshot,
            self.caller,
            Operation::IMPORT,
            self.now,
            &mut *self.random,
        )
        .in_context(context(SPOKEN));
        let receiver = Receiver {
            node: self.node,
            options: self.options,
            reign: self.reign,
            asked_again: self.asked_again,
            searches: self.searches,
        };
        match receiver.decide(&mut ask, change) {
            Ok((result, effects)) => Ok(Decided::Ends(result, effects)),
            Err(failure) if is_corrupt(&failure) => {
                let cleared = receiver.clear_damaged(&ask, change)?;
                cleared.map(Decided::Damaged).ok_or(failure)
            }
            Err(failure) => Err(failure),
        }
    }

    fn record(
        &mut self,
        snapshot: &dyn Snapshot,
        change: &Change,
        decided: Result<Decided, Failure>,
    ) -> Result<ControlFlow<(), Effects>> {
        let tried = match self.upstream.retried {
            0 => None,
            _ => find_retry(snapshot, &self.options.relation, &change.copy.id)?,
        };
        let is_unauthorised = decided.as_ref().is_err_and(is_unauthorised);
        if let Err(failure) = &decided {
            self.node.refusals.count(failure);
        }
        let (result, mut effects) = match decided {
            Ok(Decided::StillMissing) => {
                let mut effects = Effects::none();
                let differing =
                    self.note_difference(snapshot, change, Outcome::Skipped, &effects)?;
                effects.state.extend(differing);
                return Ok(ControlFlow::Continue(effects));
            }
            Ok(Decided::Ends(result, effects)) => (result, effects),
            Ok(Decided::Damaged(cleared)) => {
                let (result, mut effects) = self.retry_later(change, &damaged(), tried.as_ref())?;
                effects.extend(cleared);
                (result, effects)
            }
            // Whoever may not say something now may not say it later; a policy that says otherwise is a reason to start over.
            Err(failure) if is_unauthorised => (
                ObjectResult::failed(
                    &change.identifier,
                    Some(failure.reason(SPOKEN)),
                    failure.message(),
                ),
                Effects::none(),
            ),
            Err(failure) => self.retry_later(change, &failure, tried.as_ref())?,
        };
        let upstream = &mut self.upstream;
        if let Some(tried) = &tried {
            if !result.outcome.is_failure() || is_unauthorised {
                let key = about(retry_prefix(&self.options.relation), &tried.id)?;
                effects.state.push((key, None));
                upstream.retried = upstream.retried.saturating_sub(1);
            }
            if tried.pass == upstream.counts.session {
                // An object ends once in a pass: the failure that was counted first does not count any more.
                upstream.counts.asked -= 1;
                upstream.counts.failed -= 1;
            }
        }
        upstream.counts.count(result.outcome);
        let material = change
            .material
            .as_ref()
            .map_or(0, |material| material.len());
        upstream.counts.bytes += i64::try_from(material).unwrap_or(0);
        let differing = self.note_difference(snapshot, change, result.outcome, &effects)?;
        effects.state.extend(differing);
        self.results.push(result);
        Ok(ControlFlow::Continue(effects))
    }
}

impl ChangesPage<'_> {
    /// Keeps a change that was refused, to be asked for again.
    fn retry_later(
        &mut self,
        change: &Change,
        failure: &Failure,
        tried: Option<&Retry>,
    ) -> Result<(ObjectResult, Effects)> {
        // What came without its material is asked for with it at once.
        let lacks_material = failure.cause() == Cause::MissingData && tried.is_none();
        self.asks_again |= lacks_material;
        let now = self.now.wall;
        let limits = &self.node.policy.limits;
        if tried.is_none() && self.upstream.retried >= limits.retries as i64 {
            let why = format_args!(
                "the relation stops: more than {} of its objects could not be taken (the limit retries); the last one: {}",
                limits.retries,
                failure.message()
            );
            return Err(Error::new(ErrorKind::Limit, why));
        }
        let retry = Retry {
            id: change.copy.id.clone(),
            why: short(failure.message()),
            attempts: tried.map_or(1, |tried| tried.attempts.saturating_add(1)),
            due: if planted!(RetryNeverDue) {
                DateTime(i64::MAX)
            } else if lacks_material {
                now
            } else {
                later(now, tried, &mut *self.random)
            },
            pass: self.upstream.counts.session,
            extra: Extra::NONE,
        };
        let mut effects = Effects::none();
        let key = about(retry_prefix(&self.options.relation), &retry.id)?;
        if !planted!(RetryForgotten) {
            effects.state.push((key, Some(bytes_of(&retry)?)));
            self.upstream.retried += i64::from(tried.is_none());
        }
        let reason = failure.reason(SPOKEN);
        let result = ObjectResult::failed(&change.identifier, Some(reason), failure.message());
        Ok((result, effects))
    }
}

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

impl Receiver<'_> {
    fn decide(
        &self,
        ask: &mut Ask<'_>,
        change: &Change,
    ) -> Result<(ObjectResult, Effects), Failure> {
        let result = |outcome| ObjectResult::new(&change.identifier, outcome);
        match change.kind {
            Kind::COPY => self.take_copy(ask, change),
            Kind::WITHDRAWN => Ok((result(Outcome::Withdrawn), self.withdraw(ask, change)?)),
            Kind::GONE if planted!(GoneIsWithdrawn) => {
                Ok((result(Outcome::Withdrawn), self.withdraw(ask, change)?))
            }
            Kind::WITHHELD => {
                let why = change.why.as_deref().unwrap_or("it may not leave");
                let skipped = ObjectResult {
                    message: Some(why.to_owned()),
                    ..result(Outcome::Skipped)
                };
                Ok((skipped, self.hear_state(ask, &change.copy)?))
            }
            Kind::GONE => {
                let why = "the server has it no more, or not for this one: it is kept";
                let skipped = ObjectResult {
                    message: Some(why.to_owned()),
                    ..result(Outcome::Skipped)
                };
                Ok((skipped, self.name_missing(ask, &change.copy.id)?))
            }
            _ => Err(Failure::new(
                Cause::InvalidMessage,
                "a change of a kind that is not known here",
            )),
        }
    }

    /// Hears the State of an object whose copy the issuer withholds: what is held of it here gets no further behind than that.
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
        if ask.snapshot.by_object_id(id)?.is_some() {
            effects.state.push(self.missing(id, true)?);
        }
        Ok(effects)
    }

    /// The state entry that says whether an object is missing at the issuer.
    pub(super) fn missing(&self, id: &ObjectId, is_missing: bool) -> Result<StateEntry, Failure> {
        let key = about(missing_prefix(&self.options.relation), id)?;
        let value = is_missing.then(|| bytes_of(id)).transpose()?;
        Ok((key, value))
    }

    /// Takes a copy in.
    fn take_copy(
        &self,
        ask: &mut Ask<'_>,
        change: &Change,
    ) -> Result<(ObjectResult, Effects), Failure> {
        let from = &self.options.from;
        let mut copy = change.copy.clone();
        let attributes = std::mem::take(&mut copy.unrepresentable);
        let seen = self.seen_object(ask, change, attributes)?;
        let held = ask.snapshot.by_object_id(&copy.id)?;
        let mut incoming = verify_copy(
            self.node,
            from,
            seen,
            copy,
            held.as_ref().map(|(_, held)| held),
        )?;
        let overlay = incoming.record.overlay.get_or_insert_with(Overlay::default);
        overlay.via = vec![self.options.relation.as_str().into()];
        if held.is_none() && !from.has_agreed(&incoming.record, ask.now.wall)? {
            return Err(outside_agreement());
        }
        let told = ToldChange::of(&incoming.record);
        if let Some((_, held)) = &held {
            self.check_hearsay(ask, &mut incoming, held)?;
        }
        if let Some(held) = &held {
            incoming.rotted = self.has_rotted(ask, held, &incoming)?;
        }
        // What a relay brings of an issuer that is followed, too, is ahead of it until that one has told of it itself.
        let ahead = if told.stamp.issuer == from.server {
            Vec::new()
        } else {
            ahead(ask, &incoming.record)?
        };
        let was = held.as_ref().map(|(_, held)| ToldChange::of(held));
        let mended = mended(held.as_ref(), &incoming);
        let mut merged = merge::merge_with_held(self.node, ask, &from.collisions, held, incoming)?;
        if matches!(
            merged.outcome,
            Outcome::Created | Outcome::Updated | Outcome::Renamed
        ) {
            merged.effects.state.extend(ahead);
        }
        merged.effects.state.extend(mended);
        if let Some(was) = was {
            merged
                .effects
                .state
                .extend(self.note_behind(ask, &told, &was)?);
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
        Ok((result, merged.effects))
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

/// A key of the state and its value; none to remove it.
type StateEntry = (Vec<u8>, Option<Vec<u8>>);

fn find_retry(snapshot: &dyn Snapshot, relation: &str, id: &ObjectId) -> Result<Option<Retry>> {
    let stored = snapshot.state_value(&about(retry_prefix(relation), id)?)?;
    Ok(stored
        .map(|bytes| read(&bytes, "object to retry"))
        .transpose()?)
}

#[cfg(test)]
mod tests;
