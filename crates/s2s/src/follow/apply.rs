//! The replica's side of a page: what becomes of the changes that an answer brings.

use crate::ask::Ask;
use crate::compare::leaf::CopySum;
use crate::compare::table::Told;
use crate::error::{Error, ErrorKind, Result};
use crate::follow::options::FollowOptions;
use crate::follow::receiver::{Decision, Receiver, Standing};
use crate::follow::repair::{damaged, is_corrupt};
use crate::follow::{Asked, Checked, Follow};
use crate::limits::short;
use crate::node::Node;
use crate::planted::planted;
use crate::receive::apply::{ApplyPage, apply_page};
use crate::refusals::is_unauthorised;
use crate::relation::followed::Upstream;
use crate::relation::kept::KeptCopies;
use crate::relation::keys::{about, lacking_prefix, missing_prefix, retry_prefix};
use crate::relation::retry::{Retry, later};
use crate::relation::withheld::WithheldObject;
use crate::report::{ObjectResult, Outcome};
use crate::session::SessionContext;
use crate::wire::follow::{Change, FollowResponse, KeptPath, Kind, SPOKEN};
use crate::wire::terms::Terms;
use keyferry_kmip::spec::Operation;
use keyferry_kmip::{Cause, DateTime, Failure, Identity, Now, Random, Text, context};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{Deferred, Effects, ObjectId, RecordNumber, Snapshot, SnapshotExt, StoreExt};
use keyferry_ttlv::Extra;
use std::collections::HashSet;
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
    /// The records that were written, where it is known which.
    pub(super) written: Option<Written>,
    /// The records of which it has changed whether they come by the relation, and nothing else.
    pub(super) moved: Vec<RecordNumber>,
    /// The copies that are listed from now on as not held as they were told, with what was told; or that are listed no more.
    pub(super) differing: Vec<(ObjectId, Option<Option<CopySum>>)>,
}

impl Applied {
    /// What an answer without changes comes to.
    pub(super) fn none(upstream: Upstream) -> Applied {
        Applied {
            upstream,
            results: Vec::new(),
            asks_again: false,
            told: Told::new(),
            written: None,
            moved: Vec::new(),
            differing: Vec::new(),
        }
    }
}

/// What one transaction has written.
pub(super) struct Written {
    /// The number of the feed's head before.
    pub(super) behind: u64,
    /// The records, with their encoded object ids: one for each entry of the feed.
    pub(super) records: Vec<(RecordNumber, Vec<u8>)>,
}

/// The changes of an answer, while they are applied.
pub(super) struct ChangesPage<'a> {
    pub(super) node: &'a Node,
    pub(super) options: &'a FollowOptions,
    pub(super) reign: &'a [u8],
    pub(super) asked: &'a Asked,
    pub(super) caller: &'a Identity,
    pub(super) now: Now,
    pub(super) random: &'a mut dyn Random,
    /// Which copies come by the relation, with what the page has changed of that so far.
    pub(super) kept: KeptCopies,
    /// The objects that the page creates: they come by the relation, and have no number before the page is written.
    pub(super) created: Vec<ObjectId>,
    /// What it has come to so far.
    pub(super) applied: Applied,
}

/// What was decided of a change.
pub(super) enum Decided {
    /// The issuer still does not have the object: it is named already.
    StillMissing,
    /// The object ends so.
    Ends(Decision),
    /// The copy can't be taken, for this reason. What it says of the State counts all the same, with these effects
    /// ([rule 5](crate::design#rule-5)).
    StateAlone(Failure, Effects),
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
            let behind = transaction.head()?.number;
            let mut world = Deferred::new(transaction);
            let mut page = ChangesPage {
                node: &self.node,
                options: &self.options,
                reign: &answer.reign,
                asked,
                caller: &caller,
                now: *now,
                random: &mut **random,
                kept: KeptCopies::of(&upstream.server, &upstream.relation),
                created: Vec::new(),
                applied: Applied::none(upstream),
            };
            let spread = Some((&*self.node, *now));
            apply_page(&mut world, spread, &mut page, &answer.changes)?;
            let (mut applied, kept) = page.finish(&mut world, behind)?;
            let upstream = &mut applied.upstream;
            let lacking = self.list_lacking(&world, upstream, answer, now.wall)?;
            advance(upstream, answer, asked.checked, now.wall);
            upstream.keeps = credible_paths(answer, &self.node);
            self.compare_terms(upstream, answer)?;
            // Nothing new is nothing to write.
            let is_unchanged = applied.results.is_empty()
                && acknowledged.is_empty()
                && self
                    .upstream
                    .as_ref()
                    .is_some_and(|held| differ_in_contact_alone(held, upstream));
            if !is_unchanged {
                let acknowledged = acknowledged.iter().map(|key| (key.clone(), None));
                let mut effects = Effects::none();
                effects
                    .state
                    .extend(acknowledged.chain(lacking).chain(kept));
                effects.state.push(upstream.entry()?);
                world.add(effects)?;
                world.finish()?;
            }
            Ok(applied)
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
            asked_again: &self.asked.again,
            searches: self.asked.searches,
        };
        match receiver.decide(&mut ask, change) {
            Ok(decision) => Ok(match decision.refused {
                Some(failure) => Decided::StateAlone(failure, decision.effects),
                None => Decided::Ends(decision),
            }),
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
        let tried = match self.applied.upstream.retried {
            0 => None,
            // That nobody keeps it true at the relay brings no object.
            _ if change.kind == Kind::UNKEPT => None,
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
            Ok(Decided::Ends(decision)) => {
                let changes = !decision.effects.changes.is_empty();
                self.note_standing(snapshot, &change.copy.id, (decision.standing, changes))?;
                (decision.result, decision.effects)
            }
            Ok(Decided::StateAlone(failure, counts)) => {
                let (result, effects) = self.retry_later(change, &failure, tried.as_ref())?;
                (result, with(effects, counts))
            }
            Ok(Decided::Damaged(cleared)) => {
                let (result, effects) = self.retry_later(change, &damaged(), tried.as_ref())?;
                (result, with(effects, cleared))
            }
            // Whoever may not say something now may not say it later; a policy that says otherwise is a reason to start over.
            Err(failure) if is_unauthorised => (failed(change, &failure), Effects::none()),
            Err(failure) => self.retry_later(change, &failure, tried.as_ref())?,
        };
        if let Some(tried) = &tried {
            let upstream = &mut self.applied.upstream;
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
        self.count(change, result.outcome);
        let differing = self.note_difference(snapshot, change, result.outcome, &effects)?;
        effects.state.extend(differing);
        self.applied.results.push(result);
        Ok(ControlFlow::Continue(effects))
    }
}

impl ChangesPage<'_> {
    /// Notes in the relation's account what the page has created. Returns what it has come to, and what is to be written of the account. The head of the
    /// feed was `behind` before.
    fn finish(
        mut self,
        world: &mut Deferred<'_, '_>,
        behind: u64,
    ) -> Result<(Applied, Vec<StateEntry>)> {
        let records = world.written()?;
        let created: HashSet<Vec<u8>> = self
            .created
            .iter()
            .map(ObjectId::encoded)
            .collect::<keyferry_store::Result<_>>()?;
        for (number, id) in &records {
            if created.contains(id) {
                self.kept.set(&*world, *number, true)?;
            }
        }
        if !self.applied.moved.is_empty() {
            let account = &mut self.applied.upstream.account;
            *account = account.map(|count| count.saturating_add(1));
        }
        self.applied.written = Some(Written { behind, records });
        Ok((self.applied, self.kept.changed()))
    }

    /// Notes whether an object comes by the relation from now on; `changes` says whether its record changes, too.
    fn note_standing(
        &mut self,
        snapshot: &dyn Snapshot,
        id: &ObjectId,
        (standing, changes): (Standing, bool),
    ) -> Result<()> {
        let (number, comes) = match standing {
            Standing::AsBefore => return Ok(()),
            Standing::Comes(None) => {
                self.created.push(id.clone());
                return Ok(());
            }
            Standing::Comes(Some(number)) => (number, true),
            Standing::Leaves(number) => (number, false),
        };
        if self.kept.has(snapshot, number)? != comes {
            self.kept.set(snapshot, number, comes)?;
            self.applied.moved.extend((!changes).then_some(number));
        }
        Ok(())
    }

    /// Counts what became of a change, and the material that it brought.
    fn count(&mut self, change: &Change, outcome: Outcome) {
        let counts = &mut self.applied.upstream.counts;
        counts.count(outcome);
        let material = change.material.as_ref();
        let bytes = material.map_or(0, |material| material.len());
        counts.bytes += i64::try_from(bytes).unwrap_or(0);
    }

    /// Keeps a change that was refused, to be asked for again.
    fn retry_later(
        &mut self,
        change: &Change,
        failure: &Failure,
        tried: Option<&Retry>,
    ) -> Result<(ObjectResult, Effects)> {
        // What came without its material is asked for with it at once.
        let lacks_material = failure.cause() == Cause::MissingData && tried.is_none();
        self.applied.asks_again |= lacks_material;
        let now = self.now.wall;
        let limits = &self.node.policy.limits;
        if tried.is_none() && self.applied.upstream.retried >= limits.retries as i64 {
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
            pass: self.applied.upstream.counts.session,
            extra: Extra::NONE,
        };
        let mut effects = Effects::none();
        let key = about(retry_prefix(&self.options.relation), &retry.id)?;
        if !planted!(RetryForgotten) {
            effects.state.push((key, Some(bytes_of(&retry)?)));
            self.applied.upstream.retried += i64::from(tried.is_none());
        }
        Ok((failed(change, failure), effects))
    }
}

fn with(mut effects: Effects, more: Effects) -> Effects {
    effects.extend(more);
    effects
}

/// What became of a change that was refused.
fn failed(change: &Change, failure: &Failure) -> ObjectResult {
    let reason = failure.reason(SPOKEN);
    ObjectResult::failed(&change.identifier, Some(reason), failure.message())
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
