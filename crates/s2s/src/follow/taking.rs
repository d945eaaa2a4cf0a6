//! The replica's side: what becomes of the changes that an answer brings.

use super::{Done, Follow, Retry, about, current, done_prefix, missing_prefix, retry_prefix};
use crate::copy::Fate;
use crate::follow::wire::{Change, FollowResponse, Kind, SPOKEN};
use crate::observe::{self, Sight};
use crate::planted::{Bug, planted};
use crate::relation::Master;
use crate::replica;
use crate::report::{Ending, Told};
use crate::respond::store_failed;
use crate::{Ask, Cx, Error, Result, Unrestricted};
use keyferry_kmip::spec::Operation;
use keyferry_kmip::{Cause, DateTime, Failure, Identity, Random, context, lifecycle};
use keyferry_store::record::{bytes_of, object_of, read};
use keyferry_store::{
    Deferred, Descent, Effects, Material, ObjectId, Overlay, Record, Snapshot, SnapshotExt,
    StoreExt, descent,
};
use keyferry_ttlv::Extra;

/// Seconds between attempts at the most.
const LONGEST: i64 = 3600;

impl Follow {
    /// Takes all that an answer brings, and the place where it ends, in one transaction. What can't be taken is kept to be asked for again.
    pub(super) fn store(
        &self,
        cx: &mut Cx<'_>,
        answer: &FollowResponse,
        done: &[Vec<u8>],
        checked: Option<Option<i64>>,
    ) -> Result<(Master, Vec<Told>, bool)> {
        let (relation, from) = (&self.options.relation, &self.options.from);
        let session = self.master.as_ref().map_or(0, |master| master.session);
        let caller = Identity {
            name: from.server.to_string(),
            fingerprint: [0; 32],
        };
        let Cx { now, store, random } = cx;
        store.transact(|transaction| {
            let mut master = current(transaction, relation, session)?;
            let mut told = Vec::new();
            let mut hurries = false;
            let mut world = Deferred::new(transaction);
            for change in &answer.changes {
                if change.kind == Kind::GONE
                    && world
                        .state_value(&about(missing_prefix(relation), &change.copy.id)?)?
                        .is_some()
                {
                    // It is gone still.
                    continue;
                }
                let mut ask = Ask {
                    snapshot: &world,
                    caller: &caller,
                    operation: Operation::IMPORT,
                    rights: &Unrestricted,
                    is_client: false,
                    tls: &caller,
                    now: *now,
                    random: &mut **random,
                    cx: context(SPOKEN),
                    placeholder: None,
                    earlier: &[],
                };
                let judged = self.judge(&mut ask, change);
                let tried = match master.retried {
                    0 => None,
                    _ => retry(&world, relation, &change.copy.id)?,
                };
                let (one, mut effects) = match judged {
                    Ok(judged) => judged,
                    Err(failure) if failure.cause() == Cause::Internal => {
                        return Err(Error::new(crate::ErrorKind::Store, failure));
                    }
                    Err(failure) => {
                        // What came without its material is asked for with it at once.
                        let lacks = failure.cause() == Cause::MissingData && tried.is_none();
                        hurries |= lacks;
                        let retry = Retry {
                            id: change.copy.id.clone(),
                            why: failure.message().into(),
                            attempts: tried
                                .as_ref()
                                .map_or(1, |tried| tried.attempts.saturating_add(1)),
                            due: if planted(Bug::RetryNeverDue) {
                                DateTime(i64::MAX)
                            } else if lacks {
                                now.wall
                            } else {
                                later(now.wall, tried.as_ref(), &mut **random)
                            },
                            pass: master.counts.session,
                            extra: Extra::NONE,
                        };
                        let mut effects = Effects::none();
                        let key = about(retry_prefix(relation), &retry.id)?;
                        if !planted(Bug::RetryForgotten) {
                            effects.state.push((key, Some(bytes_of(&retry)?)));
                            master.retried += i64::from(tried.is_none());
                        }
                        let reason = failure.reason(SPOKEN);
                        (
                            Told::failed(&change.identifier, Some(reason), failure.message()),
                            effects,
                        )
                    }
                };
                if let Some(tried) = &tried {
                    if one.ending != Ending::Failed {
                        effects
                            .state
                            .push((about(retry_prefix(relation), &tried.id)?, None));
                        master.retried = master.retried.saturating_sub(1);
                    }
                    if tried.pass == master.counts.session {
                        // It ends once in a pass: not as it was first told.
                        master.counts.asked -= 1;
                        master.counts.failed -= 1;
                    }
                }
                master.counts.count(one.ending);
                let material = change
                    .material
                    .as_ref()
                    .map_or(0, |material| material.len());
                master.counts.bytes += i64::try_from(material).unwrap_or(0);
                told.push(one);
                world.add(effects)?;
            }
            master.cursor = answer.place.clone();
            master.offers = answer.offers;
            master.counts.cursor = answer.place.number;
            if answer.head.number >= master.head.number
                || answer.head.incarnation != master.head.incarnation
            {
                master.head = answer.head.clone();
            }
            master.reign = Some(answer.reign.clone());
            master.contact = now.wall;
            master.error = None;
            master.instance = Some(answer.instance.clone());
            if answer.place.number >= answer.head.number {
                master.anew = None;
            }
            if let Some(checked) = checked {
                master.checking = checked;
            } else if answer.check == Some(true) {
                master.checking = master.checking.or(Some(0));
            }
            let mut effects = Effects::none();
            effects
                .state
                .extend(done.iter().map(|key| (key.clone(), None)));
            // Nothing new is nothing to write.
            if told.is_empty()
                && done.is_empty()
                && self
                    .master
                    .as_ref()
                    .is_some_and(|held| is_same(held, &master))
            {
                return Ok((master, told, hurries));
            }
            effects.state.push(master.entry()?);
            world.add(effects)?;
            world.finish()?;
            Ok((master, told, hurries))
        })
    }

    fn judge(&self, ask: &mut Ask<'_>, change: &Change) -> Result<(Told, Effects), Failure> {
        let told = |ending| Told::new(&change.identifier, ending);
        match change.kind {
            Kind::COPY => self.copied(ask, change),
            Kind::WITHDRAWN => Ok((told(Ending::Withdrawn), self.withdrawn(ask, change)?)),
            Kind::WITHHELD => {
                let why = change
                    .why
                    .as_deref()
                    .unwrap_or("it may not leave")
                    .to_owned();
                Ok((
                    Told {
                        message: Some(why),
                        ..told(Ending::Skipped)
                    },
                    Effects::none(),
                ))
            }
            Kind::GONE if planted(Bug::GoneIsWithdrawn) => {
                Ok((told(Ending::Withdrawn), self.withdrawn(ask, change)?))
            }
            Kind::GONE => {
                let message =
                    Some("the server has it no more, or not for this one: it is kept".to_owned());
                let mut effects = Effects::none();
                let id = &change.copy.id;
                if ask
                    .snapshot
                    .by_object_id(id)
                    .map_err(store_failed)?
                    .is_some()
                {
                    let key =
                        about(missing_prefix(&self.options.relation), id).map_err(store_failed)?;
                    effects
                        .state
                        .push((key, Some(bytes_of(id).map_err(store_failed)?)));
                }
                Ok((
                    Told {
                        message,
                        ..told(Ending::Skipped)
                    },
                    effects,
                ))
            }
            _ => Err(Failure::new(
                Cause::InvalidMessage,
                "a change of a kind that is not known here",
            )),
        }
    }

    fn copied(&self, ask: &mut Ask<'_>, change: &Change) -> Result<(Told, Effects), Failure> {
        let from = &self.options.from;
        let object_type = change.object_type.ok_or_else(|| {
            Failure::new(Cause::InvalidMessage, "the copy's Object Type is missing")
        })?;
        let object = change
            .material
            .as_ref()
            .map(|bytes| object_of(bytes.expose()));
        let mut object = object
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
        let mut copy = change.copy.clone();
        let attributes = std::mem::take(&mut copy.rest);
        if change.wrapped == Some(true)
            && let Some(wrapped) = object.take()
        {
            let (mut clear, _) = self.node.unwrapped(ask, wrapped)?;
            crate::transit::check_bound(&mut clear, &attributes)?;
            object = Some(clear);
        }
        let sight = Sight {
            identifier: change.identifier.clone(),
            object_type,
            attributes,
            object,
        };
        let mut incoming = observe::copied(from, sight, copy)?;
        let overlay = incoming.record.overlay.get_or_insert_with(Overlay::default);
        overlay.via = vec![self.options.relation.as_str().into()];
        let held = ask
            .snapshot
            .by_object_id(&incoming.record.id)
            .map_err(store_failed)?;
        if held.is_none() && !from.has_agreed(&incoming.record, ask.now.wall)? {
            return Err(Failure::denied(
                "the agreement with this peer does not cover the object",
            ));
        }
        let id = incoming.record.id.clone();
        let (stamp, lineage) = (
            incoming.record.stamp.clone(),
            incoming.record.lineage.clone(),
        );
        // What a relay brings of an issuer that is followed, too, is ahead of it until that one has told of it itself.
        let ahead = if stamp.issuer == from.server {
            Vec::new()
        } else {
            ahead(ask, &incoming.record)?
        };
        let was = held
            .as_ref()
            .map(|(_, held)| (held.stamp.clone(), held.lineage.clone()));
        let mut decision = replica::take_beside(&self.node, ask, &from.collisions, held, incoming)?;
        if matches!(decision.fate, Fate::CREATED | Fate::UPDATED | Fate::RENAMED) {
            decision.effects.state.extend(ahead);
        }
        if let Some((held, line)) = was {
            let missing =
                about(missing_prefix(&self.options.relation), &id).map_err(store_failed)?;
            let was_missing = ask
                .snapshot
                .state_value(&missing)
                .map_err(store_failed)?
                .is_some();
            // Its issuer is behind what is held here: it has lost a change, and takes none back.
            let is_behind = stamp.issuer == from.server
                && descent((&held, &line), (&stamp, &lineage)) == Descent::Older;
            if was_missing != is_behind {
                let kept = is_behind
                    .then(|| bytes_of(&id))
                    .transpose()
                    .map_err(store_failed)?;
                decision.effects.state.push((missing, kept));
            }
        }
        let target =
            (decision.identifier != change.identifier).then(|| decision.identifier.to_string());
        let message = (decision.fate == Fate::FORKED)
            .then(|| "it was changed on both sides: both are kept".to_owned());
        Ok((
            Told {
                target,
                message,
                ..Told::new(&change.identifier, decision.fate.ending())
            },
            decision.effects,
        ))
    }

    /// An object leaves what is followed: unless it comes by another relation, too, its material goes. What is told of its state counts.
    fn withdrawn(&self, ask: &Ask<'_>, change: &Change) -> Result<Effects, Failure> {
        let mut effects = Effects::none();
        let (id, stamp) = (change.copy.id.clone(), change.copy.stamp.clone());
        let done = Done {
            id: id.clone(),
            stamp: stamp.clone(),
            extra: Extra::NONE,
        };
        let key = about(done_prefix(&self.options.relation), &id).map_err(store_failed)?;
        effects
            .state
            .push((key, Some(bytes_of(&done).map_err(store_failed)?)));
        let Some((number, held)) = ask.snapshot.by_object_id(&id).map_err(store_failed)? else {
            return Ok(effects);
        };
        let issuer = stamp.issuer == self.options.from.server || self.options.from.may_relay;
        if self.node.issues(&held)
            || held.stamp.issuer != stamp.issuer
            || !issuer
            || held.is_withdrawn() && held.is_destroyed()
        {
            return Ok(effects);
        }
        // Its issuer does not know the change that is held: the mark of it stays, and is named.
        let told = descent((&held.stamp, &held.lineage), (&stamp, &change.copy.lineage));
        if matches!(told, Descent::Older | Descent::Fork)
            && stamp.issuer == self.options.from.server
        {
            let key = about(missing_prefix(&self.options.relation), &id).map_err(store_failed)?;
            effects
                .state
                .push((key, Some(bytes_of(&id).map_err(store_failed)?)));
        }
        let mut after = held.clone();
        let overlay = after.overlay.get_or_insert_with(Overlay::default);
        overlay.via.retain(|via| *via != *self.options.relation);
        if let (Some(here), Some(there)) = (held.stored_state(), change.copy.rest.state()) {
            let (own, new) = (lifecycle::Rank::of(here), lifecycle::Rank::of(there));
            let joined = own.joined_state(new);
            if !planted(Bug::WithdrawnForgetsState) {
                overlay.state = (joined != here).then_some(joined).or(overlay.state);
            }
        }
        let material = if planted(Bug::WithdrawnKeepsMaterial) {
            overlay.withdrawn = Some(true);
            Material::Keep
        } else if overlay.via.is_empty() || planted(Bug::WithdrawnFromAllRelations) {
            overlay.withdrawn = Some(true);
            overlay.hidden.clear();
            Material::Remove
        } else if after.is_destroyed() {
            Material::Remove
        } else {
            Material::Keep
        };
        if after != held {
            effects.extend(Effects::change(Some((number, held)), after, material));
        }
        Ok(effects)
    }
}

fn internal(error: Error) -> Failure {
    Failure::new(Cause::Internal, error)
}

/// What notes that a copy which came by another way is ahead of what the relations with its issuer have brought.
pub(crate) fn ahead(
    ask: &Ask<'_>,
    record: &Record,
) -> Result<Vec<(Vec<u8>, Option<Vec<u8>>)>, Failure> {
    let mut ahead = Vec::new();
    for master in Master::all(ask.snapshot).map_err(internal)? {
        let follows = master.server == record.stamp.issuer;
        if follows
            && master
                .selection()
                .is_match(record, ask.now.wall)
                .map_err(internal)?
        {
            let key = about(missing_prefix(&master.relation), &record.id).map_err(store_failed)?;
            ahead.push((key, Some(bytes_of(&record.id).map_err(store_failed)?)));
        }
    }
    Ok(ahead)
}

/// Whether nothing is told but the time.
fn is_same(held: &Master, now: &Master) -> bool {
    Master {
        contact: held.contact,
        ..now.clone()
    } == *held
}

fn retry(snapshot: &dyn Snapshot, relation: &str, id: &ObjectId) -> Result<Option<Retry>> {
    let stored = snapshot.state_value(&about(retry_prefix(relation), id)?)?;
    Ok(stored
        .map(|bytes| read(&bytes, "object to retry"))
        .transpose()?)
}

/// When to try again: after a time that doubles, and differs from object to object, so that not all are asked for at once.
pub(crate) fn later(now: DateTime, tried: Option<&Retry>, random: &mut dyn Random) -> DateTime {
    let attempts = tried
        .map_or(0, |tried| u32::try_from(tried.attempts).unwrap_or(0))
        .min(12);
    let pause = 1_i64.checked_shl(attempts).unwrap_or(LONGEST).min(LONGEST);
    let mut byte = [0];
    let jitter = if random.fill(&mut byte).is_ok() {
        i64::from(byte[0]) * pause / 1024
    } else {
        0
    };
    DateTime(now.0.saturating_add(pause).saturating_add(jitter))
}
