//! This module gives a restored server back what its replicas hold of its objects, before it lets clients change any of them
//! ([rule 10](crate::design#rule-10)).

use crate::ask::{Answered, Ask, is_of_this_reign};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::short;
use crate::node::Node;
use crate::planted::planted;
use crate::policy::{Peer, Policy};
use crate::receive::apply::is_internal;
use crate::receive::collision::name_exists;
use crate::receive::copy::is_own_word;
use crate::receive::fork::{self, Fork};
use crate::receive::given_back::{GivenBack, not_sent};
use crate::receive::refused::count_under;
use crate::receive::returned;
use crate::receive::same_object::check_same_object;
use crate::receive::state::{compromise, keep_known_state};
use crate::relation::alarm::{Alarm, AlarmKind};
use crate::relation::keys;
use crate::relation::owed::{PendingGiveBack, is_owed};
use crate::report::Outcome;
use crate::wire::follow::{Change, GiveBackRequest, GiveBackResponse, check_version};
use keyferry_kmip::{
    Attributes, Cause, DateTime, Failure, Object, RequestItem, Text, extension as x, lifecycle,
};
use keyferry_store::record::{bytes_of, read};
use keyferry_store::{
    Descent, Effects, Incarnation, Material, ObjectId, Record, Snapshot, SnapshotExt, Span, Store,
    StoreExt, descent, index,
};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Marks a store as a copy of an older moment, and notes which replicas may hold what its server has lost since. To be called before the
/// store is served.
///
/// In one transaction the store gets the incarnation, which must be new, and each server that
/// [may give back](crate::Peer::may_give_back) is entered as a [`PendingGiveBack`], whether the backup knows it or not. Until each of them has given back what it holds, or was
/// [waived](waive_give_back), the server changes none of its objects.
///
/// # Errors
/// Those of the store, of the kind [`Misuse`](keyferry_store::ErrorKind::Misuse) when that is its incarnation already. The store is then as
/// it was.
pub fn begin_restored(
    store: &dyn Store,
    policy: &Policy,
    incarnation: Incarnation,
    now: DateTime,
) -> Result<()> {
    store.transact(|transaction| {
        let mut effects = Effects {
            restored: Some(incarnation),
            ..Effects::none()
        };
        let ended = keys::ended(&transaction.incarnation()?.0);
        effects.state.push((ended, Some(Vec::new())));
        let home = transaction.home()?;
        let this = home.as_ref().map_or("", |home| &home.server);
        for server in policy.givers_back(this) {
            if planted!(RestoredForgetsPeers) {
                continue;
            }
            let pending = PendingGiveBack {
                server: server.clone(),
                since: now,
                extra: Extra::NONE,
            };
            let entry = (keys::give_back(server), Some(bytes_of(&pending)?));
            effects.state.push(entry);
        }
        effects.apply(transaction)?;
        Ok(())
    })
}

/// Stops waiting for a peer, as `by` has decided. What that peer alone knows comes to light as a fork.
///
/// # Errors
/// [`ErrorKind::Relation`] when it is not waited for, and those of the store.
pub fn waive_give_back(store: &dyn Store, server: &str, by: &str, now: DateTime) -> Result<()> {
    store.transact(|transaction| {
        let Some(pending) = transaction.state_value(&keys::give_back(server))? else {
            return Err(Error::new(
                ErrorKind::Relation,
                format_args!("{server:?} is not waited for"),
            ));
        };
        transaction.set_state(&keys::give_back(server), None)?;
        let waived = keys::waived(server, now, by);
        Ok(transaction.set_state(&waived, Some(&pending))?)
    })
}

/// Answers the request by which a replica gives objects back.
pub(crate) fn give_back(
    node: &Node,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Answered, Failure> {
    check_version(ask.cx.version)?;
    let Some(peer) = node.policy.peer(ask.tls).filter(|peer| peer.may_give_back) else {
        return Err(Failure::denied("only a peer that may give back does so"));
    };
    let request: GiveBackRequest = item.payload(ask.cx)?;
    check_reign(ask, &request)?;
    if request.mends == Some(true) {
        return returned::take(node, ask, peer, request);
    }
    check_awaited(ask, peer)?;
    let prefix = keys::failed_give_backs_prefix(&peer.server);
    let most = node.policy.limits.failed_give_backs;
    let mut intake = Intake {
        node,
        peer,
        named: count_under(ask.snapshot, &prefix, most)?,
        seen: HashSet::new(),
        unproved: false,
        effects: Effects::none(),
        response: GiveBackResponse {
            taken: 0,
            forked: 0,
            failed: 0,
            extra: Extra::NONE,
        },
    };
    for change in request.changes {
        intake.take(ask, change)?;
    }
    let Intake {
        unproved,
        mut effects,
        response,
        ..
    } = intake;
    if unproved {
        let kind = AlarmKind::UNPROVED_GIVE_BACK;
        effects.state.extend(Alarm::raise(ask, &peer.server, kind)?);
    }
    if request.last {
        effects.state.push((keys::give_back(&peer.server), None));
    }
    Ok(Answered::answer(&response, ask.cx)?.with(effects))
}

/// What a peer gives back, while it is taken in.
struct Intake<'a> {
    node: &'a Node,
    peer: &'a Peer,
    /// How many objects of the peer are named as not taken back.
    named: usize,
    /// The object ids that the message has named.
    seen: HashSet<Vec<u8>>,
    /// Whether something lacked a receipt of this server.
    unproved: bool,
    effects: Effects,
    response: GiveBackResponse,
}

impl Intake<'_> {
    /// Takes one object in, or names it and why it was not taken.
    fn take(&mut self, ask: &Ask<'_>, change: Change) -> Result<(), Failure> {
        let id = change.copy.id.clone();
        let accepted = if self.seen.insert(id.encoded()?) {
            accept_change(self.node, ask, self.peer, change, &mut self.unproved)
        } else {
            Err(Failure::new(
                Cause::InvalidMessage,
                "a message gives back each object once",
            ))
        };
        match accepted {
            Ok((accepted, outcome)) => {
                if outcome == Outcome::Forked {
                    self.response.forked += 1;
                } else {
                    self.response.taken += 1;
                }
                self.effects.extend(accepted);
            }
            Err(failure) if is_internal(&failure) => return Err(failure),
            Err(failure) => {
                self.response.failed += 1;
                let failed = FailedGiveBack {
                    id,
                    server: self.peer.server.clone(),
                    why: short(failure.message()),
                    since: ask.now.wall,
                    extra: Extra::NONE,
                };
                let most = self.node.policy.limits.failed_give_backs;
                if self.named < most && !planted!(UntakenUnnamed) {
                    self.named += 1;
                    self.effects.state.push(failed.entry()?);
                }
            }
        }
        Ok(())
    }
}

/// Fails unless the peer gives back what the current reign has asked for.
fn check_reign(ask: &Ask<'_>, request: &GiveBackRequest) -> Result<(), Failure> {
    if !is_of_this_reign(ask, request.reign.as_deref())? && !planted!(ReignUnasked) {
        return Err(Failure::new(
            Cause::InvalidField,
            "this server has started since, and may want something else back",
        ));
    }
    Ok(())
}

/// Fails unless this server still waits for what the peer gives back.
fn check_awaited(ask: &Ask<'_>, peer: &Peer) -> Result<(), Failure> {
    if !is_owed(ask.snapshot, &peer.server)? {
        return Err(Failure::new(
            Cause::PermissionDenied,
            "this server takes nothing back",
        ));
    }
    Ok(())
}

/// An object that this server has lost and could not take back, for example because another has its identifier or Name now. The peer still
/// holds it.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::RETRY)]
pub struct FailedGiveBack {
    /// The object.
    pub id: ObjectId,
    /// The server id of the peer that holds it.
    #[ttlv(tag = x::SERVER_ID)]
    pub server: Text,
    /// The reason.
    #[ttlv(tag = x::WHY)]
    pub why: Text,
    /// The time of the attempt.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl FailedGiveBack {
    /// All of them.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<FailedGiveBack>> {
        let mut all = Vec::new();
        snapshot.state(&Span::prefix(keys::FAILED_GIVE_BACK), &mut |_, value| {
            all.push(read(value, "object that was not taken back")?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(all)
    }

    /// Its key and value in the store's state.
    fn entry(&self) -> keyferry_store::Result<(Vec<u8>, Option<Vec<u8>>)> {
        let key = keys::failed_give_back(&self.server, &self.id)?;
        Ok((key, Some(bytes_of(self)?)))
    }
}

/// Accepts one object of this server's own that a replica holds. What this server has not sent itself, by its receipt, tells of a compromise at
/// the most ([rule B](crate::design#rule-b)).
fn accept_change(
    node: &Node,
    ask: &Ask<'_>,
    peer: &Peer,
    change: Change,
    unproved: &mut bool,
) -> Result<(Effects, Outcome), Failure> {
    let raised = change.raised.is_some_and(lifecycle::is_compromised);
    let given = GivenBack::read(node, ask, peer, change)?;
    let id = given.copy.id.clone();
    let state = given.attributes.state();
    let is_compromised = raised || state.is_some_and(lifecycle::is_compromised);
    let is_own = is_own_word(node, &given.copy, given.object.as_ref())?;
    *unproved |= !is_own;
    if !is_own {
        node.refusals.count_unproved();
    }
    let accepted = if !is_own && !is_compromised {
        return Err(not_sent());
    } else if !is_own {
        (Effects::none(), Outcome::Unchanged)
    } else if !given.copy.without.is_empty() {
        accept_state(node, ask, &id, &given.attributes)?
    } else {
        let digest = given.copy.digest.clone();
        accept_give_back(node, ask, &peer.server, given.into_record(), &digest)?
    };
    if is_compromised {
        return accept_compromise(node, ask, &id, accepted);
    }
    Ok(accepted)
}

/// Joins the State of a copy that lacks attributes: the attributes are not taken back, because they are not all.
fn accept_state(
    node: &Node,
    ask: &Ask<'_>,
    id: &ObjectId,
    attributes: &Attributes,
) -> Result<(Effects, Outcome), Failure> {
    let Some((number, held)) = ask.snapshot.by_object_id(id)? else {
        return Err(Failure::new(
            Cause::MissingData,
            "the copy lacks attributes, and the object is not here any more",
        ));
    };
    let mut after = held.clone();
    keep_known_state(&mut after.attributes, attributes);
    if after.attributes == held.attributes {
        return Ok((Effects::none(), Outcome::Unchanged));
    }
    node.advance(&mut after, ask.snapshot.reign()?, ask.now.wall);
    let material = Material::left_to(&after);
    let effects = Effects::change(Some((number, held)), after, material);
    Ok((effects, Outcome::Updated))
}

/// Makes an object compromised that a holder of a copy knows to be so, besides what was accepted of it.
fn accept_compromise(
    node: &Node,
    ask: &Ask<'_>,
    id: &ObjectId,
    (mut effects, outcome): (Effects, Outcome),
) -> Result<(Effects, Outcome), Failure> {
    if effects.changes.is_empty() {
        let held = ask.snapshot.by_object_id(id)?;
        let Some((number, held)) = held.filter(|(_, held)| node.issues(held)) else {
            return Err(not_sent());
        };
        effects.extend(Effects::change(
            Some((number, held.clone())),
            held,
            Material::Keep,
        ));
    }
    let reign = ask.snapshot.reign()?;
    let mut has_raised = false;
    for change in &mut effects.changes {
        if change.after.is_compromised() {
            continue;
        }
        compromise(&mut change.after.attributes, ask.now.wall);
        node.advance(&mut change.after, reign, ask.now.wall);
        has_raised = true;
    }
    if !has_raised && outcome == Outcome::Unchanged {
        return Ok((
            Effects {
                changes: Vec::new(),
                ..effects
            },
            outcome,
        ));
    }
    let outcome = if outcome == Outcome::Unchanged {
        Outcome::Updated
    } else {
        outcome
    };
    Ok((effects, outcome))
}

/// Accepts an object of this server's own from a holder of a copy of it; `digest` is the digest of the copy's attributes.
///
/// A change that descends from the one held here is stored, and what was known here stays known. One that does not descend from it is kept
/// as a fork.
///
/// # Errors
/// When another object has its identifier or Name, or it is held here with other material or another type.
pub fn accept_give_back(
    node: &Node,
    ask: &Ask<'_>,
    from: &Text,
    (mut after, object): (Record, Option<Object>),
    digest: &[u8],
) -> Result<(Effects, Outcome), Failure> {
    let before = ask.snapshot.by_object_id(&after.id)?;
    if let Some((number, held)) = &before {
        check_same_object(node, held, &after, object.as_ref())?;
        match compare(held, &after, digest)? {
            Comparison::Known => return Ok((Effects::none(), Outcome::Unchanged)),
            Comparison::Fork => {
                let fork = Fork::of(&after, from, ask.now.wall);
                let effects = fork::keep_at_issuer(node, ask, (*number, held), fork)?;
                return Ok((effects, Outcome::Forked));
            }
            Comparison::Newer => {}
        }
        after.identifier = held.identifier.clone();
        after.owner = held.owner.clone().or(after.owner);
        after.overlay = held.overlay.clone();
        keep_known_state(&mut after.attributes, &held.attributes);
    } else if ask.snapshot.by_identifier(&after.identifier)?.is_some() {
        return Err(Failure::new(
            Cause::ObjectExists,
            format_args!("another object is {:?}", after.identifier),
        ));
    }
    check_names_free(ask, &after)?;
    let held = before.as_ref().map(|(_, held)| held);
    let material = accepted_material(node, ask, &mut after, held, object)?;
    // If a State that was known here, or material that was recognised, has changed the record, it is another change than the one sent.
    if after.copy_digest()? != *digest {
        node.advance(&mut after, ask.snapshot.reign()?, ask.now.wall);
    }
    let outcome = if before.is_some() {
        Outcome::Updated
    } else {
        Outcome::Created
    };
    Ok((Effects::change(before, after, material), outcome))
}

/// How a change that is given back relates to the one that is held.
enum Comparison {
    /// It is the same one or an older one.
    Known,
    /// It descends from the one held.
    Newer,
    /// Neither descends from the other.
    Fork,
}

fn compare(held: &Record, after: &Record, digest: &[u8]) -> Result<Comparison, Failure> {
    let relation = descent((&held.stamp, &held.lineage), (&after.stamp, &after.lineage));
    Ok(match relation {
        Descent::Equal if held.copy_digest()? == *digest => Comparison::Known,
        Descent::Older if !planted!(GivenBackOverwrites) => Comparison::Known,
        Descent::Older | Descent::Newer => Comparison::Newer,
        Descent::Equal | Descent::Fork => Comparison::Fork,
    })
}

/// Fails when another object has one of the Names.
fn check_names_free(ask: &Ask<'_>, after: &Record) -> Result<(), Failure> {
    for name in after.attributes.names() {
        let clashes =
            |other: &Record| other.id != after.id && other.names().any(|theirs| theirs == name);
        let clash = ask.snapshot.first(&index::name(&name.value), &clashes)?;
        if clash.is_some() {
            return Err(name_exists(name));
        }
    }
    Ok(())
}

/// Decides what becomes of the key material, and sets the fingerprint.
fn accepted_material(
    node: &Node,
    ask: &Ask<'_>,
    after: &mut Record,
    held: Option<&Record>,
    object: Option<Object>,
) -> Result<Material, Failure> {
    let material = match (object, held) {
        (_, Some(_)) if after.is_destroyed() => Material::Remove,
        (_, None) if after.is_destroyed() => Material::Keep,
        (Some(object), _) => {
            node.recognise(ask, after, &object)?;
            Material::Set(object.into())
        }
        (None, Some(_)) => Material::Keep,
        (None, None) => {
            return Err(Failure::new(
                Cause::MissingData,
                "the object itself is missing",
            ));
        }
    };
    let known = held.and_then(|held| held.fingerprint.clone());
    after.fingerprint = after.fingerprint.take().or(known);
    Ok(material)
}

#[cfg(test)]
mod tests;
