//! A restored server is given back what its replicas hold of its objects, before it lets clients change anything (DESIGN: rule 10).

use crate::copy::Fate;
use crate::follow::wire::{Change, GiveBackRequest, GiveBackResponse, Kind, check_version};
use crate::fork::{self, Fork};
use crate::planted::{Bug, planted};
use crate::replica::is_of_other_material;
use crate::respond::store_failed;
use crate::{Ask, Error, ErrorKind, Node, Outcome, Policy, Result};
use keyferry_kmip::spec::{AttributeValue, tag};
use keyferry_kmip::{
    Attributes, Cause, DateTime, Failure, Object, RequestItem, Text, extension as x, lifecycle,
};
use keyferry_store::record::{bytes_of, copy_digest, object_of, read};
use keyferry_store::{
    Descent, Effects, Incarnation, Material, ObjectId, Record, Snapshot, SnapshotExt, Span, Store,
    StoreExt, descent, index,
};
use keyferry_ttlv::{Decode, Encode, Extra};
use std::ops::ControlFlow;

/// A peer that may know of changes which this server has lost. Until it has given them back, or a person has [waived](waive) it,
/// clients change nothing here.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::TAKING_BACK)]
pub struct Owed {
    /// Its server id.
    #[ttlv(tag = x::SERVER_ID)]
    pub server: Text,
    /// Since when this server waits for it.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

const PREFIX: &[u8] = b"taking back/";

pub(crate) fn key(server: &str) -> Vec<u8> {
    [PREFIX, server.as_bytes()].concat()
}

impl Owed {
    /// The peers that this server waits for.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<Owed>> {
        let mut all = Vec::new();
        snapshot.state(&Span::prefix(PREFIX), &mut |_, value| {
            all.push(read(value, "restored server's peer")?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(all)
    }
}

/// Fails while this server waits for peers to give back what it has lost.
///
/// # Errors
/// [`Cause::PermissionDenied`], naming them.
pub fn check_nothing_owed(snapshot: &dyn Snapshot) -> Result<(), Failure> {
    let mut waits_for = Vec::new();
    snapshot
        .state(&Span::prefix(PREFIX), &mut |key, _| {
            waits_for.push(
                String::from_utf8_lossy(key.get(PREFIX.len()..).unwrap_or_default()).into_owned(),
            );
            Ok(ControlFlow::Continue(()))
        })
        .map_err(store_failed)?;
    if waits_for.is_empty() || planted(Bug::WritesWhileOwed) {
        return Ok(());
    }
    let why = format_args!(
        "this server was restored, and changes nothing until it has taken back what {waits_for:?} hold"
    );
    Err(Failure::new(Cause::PermissionDenied, why))
}

pub(crate) fn is_owed(snapshot: &dyn Snapshot, server: &str) -> keyferry_store::Result<bool> {
    Ok(snapshot.state_value(&key(server))?.is_some())
}

pub(crate) fn owed(ask: &Ask<'_>, server: &Text) -> Result<Effects, Failure> {
    let owed = Owed {
        server: server.clone(),
        since: ask.now.wall,
        extra: Extra::NONE,
    };
    let mut effects = Effects::none();
    effects
        .state
        .push((key(server), Some(bytes_of(&owed).map_err(store_failed)?)));
    Ok(effects)
}

/// Says that the store is a copy of an older moment, as [`StoreExt::restored`] does, of a server that others followed: it changes nothing until
/// each of them that [may give back](crate::Peer::may_give_back) has done so, or was [waived](waive). To be called before the store is served.
///
/// # Errors
/// Those of the store.
pub fn restored(
    store: &dyn Store,
    policy: &Policy,
    incarnation: Incarnation,
    now: DateTime,
) -> Result<()> {
    let followers = store.view::<_, Error>(|snapshot| crate::Slave::all(snapshot))?;
    store.restored(incarnation)?;
    store.transact(|transaction| {
        let gives_back = |slave: &&crate::Slave| {
            policy.gives_back(&slave.server) && !planted(Bug::RestoredForgetsPeers)
        };
        for slave in followers.iter().filter(gives_back) {
            let owed = Owed {
                server: slave.server.clone(),
                since: now,
                extra: Extra::NONE,
            };
            transaction.set_state(&key(&slave.server), Some(&bytes_of(&owed)?))?;
        }
        Ok(())
    })
}

/// Waits for a peer no more, as `by` has decided: what it alone knows comes to light as a fork.
///
/// # Errors
/// [`ErrorKind::Relation`] when it is not waited for, and those of the store.
pub fn waive(store: &dyn Store, server: &str, by: &str, now: DateTime) -> Result<()> {
    store.transact(|transaction| {
        let Some(held) = transaction.state_value(&key(server))? else {
            return Err(Error::new(
                ErrorKind::Relation,
                format_args!("{server:?} is not waited for"),
            ));
        };
        transaction.set_state(&key(server), None)?;
        let waived = [
            b"waived/",
            server.as_bytes(),
            b"/",
            &now.0.to_be_bytes()[..],
            b"/",
            by.as_bytes(),
        ]
        .concat();
        Ok(transaction.set_state(&waived, Some(&held))?)
    })
}

pub(crate) fn give_back(
    node: &Node,
    ask: &mut Ask<'_>,
    item: &RequestItem,
) -> Result<Outcome, Failure> {
    check_version(ask.cx.version)?;
    let Some(peer) = node.policy.peer(ask.tls).filter(|peer| peer.may_give_back) else {
        return Err(Failure::denied("only a peer that may give back does so"));
    };
    let request: GiveBackRequest = item.payload(ask.cx)?;
    if !crate::follow::feed::is_of_this_reign(ask, request.reign.as_deref())?
        && !planted(Bug::ReignUnasked)
    {
        return Err(Failure::new(
            Cause::InvalidField,
            "this server has started since, and may want something else back",
        ));
    }
    if !is_owed(ask.snapshot, &peer.server).map_err(store_failed)? {
        return Err(Failure::new(
            Cause::PermissionDenied,
            "this server takes nothing back",
        ));
    }
    let mut response = GiveBackResponse {
        taken: 0,
        forked: 0,
        failed: 0,
        extra: Extra::NONE,
    };
    let mut effects = Effects::none();
    for change in request.changes {
        let id = change.copy.id.clone();
        match take(node, ask, &peer.server, change) {
            Ok((taken, fate)) => {
                *(if fate == Fate::FORKED {
                    &mut response.forked
                } else {
                    &mut response.taken
                }) += 1;
                effects.extend(taken);
            }
            Err(failure) if failure.cause() == Cause::Internal => return Err(failure),
            Err(failure) => {
                response.failed += 1;
                let untaken = Untaken {
                    id: id.clone(),
                    server: peer.server.clone(),
                    why: failure.message().into(),
                    since: ask.now.wall,
                    extra: Extra::NONE,
                };
                let key = [
                    b"untaken/",
                    peer.server.as_bytes(),
                    b"/",
                    &index::object_id(&id).map_err(store_failed)?.key[..],
                ]
                .concat();
                if !planted(Bug::UntakenUnnamed) {
                    effects
                        .state
                        .push((key, Some(bytes_of(&untaken).map_err(store_failed)?)));
                }
            }
        }
    }
    if request.last {
        effects.state.push((key(&peer.server), None));
    }
    Ok(Outcome::answer(&response, ask.cx)?.with(effects))
}

/// An object that this server has lost, and could not take back: another has its identifier or Name now, for example. The peer holds it still.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = x::RETRY)]
pub struct Untaken {
    /// The object.
    pub id: ObjectId,
    /// The server id of the peer that holds it.
    #[ttlv(tag = x::SERVER_ID)]
    pub server: Text,
    /// Why.
    #[ttlv(tag = x::WHY)]
    pub why: Text,
    /// Since when that is known.
    #[ttlv(tag = x::SINCE)]
    pub since: DateTime,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl Untaken {
    /// All of them.
    ///
    /// # Errors
    /// Those of the store.
    pub fn all(snapshot: &dyn Snapshot) -> Result<Vec<Untaken>> {
        let mut all = Vec::new();
        snapshot.state(&Span::prefix(b"untaken/"), &mut |_, value| {
            all.push(read(value, "object that was not taken back")?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(all)
    }
}

/// What becomes of one object of this server's own that a replica held.
fn take(
    node: &Node,
    ask: &Ask<'_>,
    from: &Text,
    change: Change,
) -> Result<(Effects, Fate), Failure> {
    let Change {
        kind: Kind::COPY,
        identifier,
        object_type: Some(object_type),
        copy,
        material,
        wrapped,
        ..
    } = change
    else {
        return Err(Failure::new(
            Cause::InvalidMessage,
            "what is given back has to be a copy with its type",
        ));
    };
    if copy.stamp.issuer != node.home.server || !copy.without.is_empty() {
        return Err(Failure::new(
            Cause::InvalidField,
            "only whole copies of this server's own objects are taken back",
        ));
    }
    let attributes = copy.rest;
    attributes.check_count()?;
    if copy_digest(object_type, &attributes).map_err(store_failed)? != copy.digest {
        return Err(Failure::new(
            Cause::InvalidMessage,
            "what arrived is not what was sent: its digest differs",
        ));
    }
    let object = material
        .map(|bytes| object_of(bytes.expose()))
        .transpose()
        .map_err(store_failed)?;
    let object = match (object, wrapped) {
        (Some(object), Some(true)) => Some(node.unwrapped(ask, object)?.0),
        (object, _) => object,
    };
    let after = Record {
        id: copy.id,
        identifier,
        owner: copy.owner,
        stamp: copy.stamp,
        lineage: copy.lineage,
        object_type,
        attributes,
        overlay: None,
        fingerprint: None,
        lost: Vec::new(),
        extra: Extra::NONE,
    };
    regain(node, ask, from, (after, object), &copy.digest)
}

/// Takes an object of this server's own back from whoever holds a copy of it, with the digest of that copy's attributes: a change that the one
/// held here is an ancestor of is taken, and what was known here stays known; one that is not is kept beside it as a fork.
///
/// # Errors
/// What stands against it: another object has its identifier or Name, or it is held with other material or another type.
pub fn regain(
    node: &Node,
    ask: &Ask<'_>,
    from: &Text,
    (mut after, object): (Record, Option<Object>),
    digest: &[u8],
) -> Result<(Effects, Fate), Failure> {
    let before = ask.snapshot.by_object_id(&after.id).map_err(store_failed)?;
    if let Some((number, held)) = &before {
        if held.object_type != after.object_type {
            return Err(Failure::new(
                Cause::InvalidField,
                format_args!("{} is held with another Object Type", held.id),
            ));
        }
        let fingerprint = object
            .as_ref()
            .map(|object| node.fingerprint(object))
            .transpose()
            .map_err(store_failed)?;
        let is_other =
            fingerprint.is_some() && held.fingerprint.is_some() && fingerprint != held.fingerprint;
        if is_other || is_of_other_material(&held.attributes, &after.attributes) {
            return Err(Failure::new(
                Cause::InvalidField,
                format_args!("{} is held with other key material", after.id),
            ));
        }
        match descent((&held.stamp, &held.lineage), (&after.stamp, &after.lineage)) {
            Descent::Equal if held.copy_digest().map_err(store_failed)? == *digest => {
                return Ok((Effects::none(), Fate::UNCHANGED));
            }
            Descent::Older if !planted(Bug::GivenBackOverwrites) => {
                return Ok((Effects::none(), Fate::UNCHANGED));
            }
            Descent::Older => {}
            Descent::Newer => {}
            Descent::Equal | Descent::Fork => {
                let fork = Fork::of(&after, from, ask.now.wall);
                return Ok((
                    fork::at_issuer(node, ask, (*number, held), fork)?,
                    Fate::FORKED,
                ));
            }
        }
        after.identifier = held.identifier.clone();
        after.owner = held.owner.clone().or(after.owner);
        after.overlay = held.overlay.clone();
        join(&mut after.attributes, &held.attributes);
    } else if ask
        .snapshot
        .by_identifier(&after.identifier)
        .map_err(store_failed)?
        .is_some()
    {
        return Err(Failure::new(
            Cause::ObjectExists,
            format_args!("another object is {:?}", after.identifier),
        ));
    }
    for name in after.attributes.names() {
        let clashes =
            |other: &Record| other.id != after.id && other.names().any(|theirs| theirs == name);
        if ask
            .snapshot
            .first(&index::name(&name.value), &clashes)
            .map_err(store_failed)?
            .is_some()
        {
            return Err(Failure::new(
                Cause::NameExists,
                format_args!("another object has the Name {:?}", name.value),
            ));
        }
    }
    let known = before
        .as_ref()
        .and_then(|(_, held)| held.fingerprint.clone());
    let material = match (object, before.is_some()) {
        _ if after.is_destroyed() && before.is_some() => Material::Remove,
        _ if after.is_destroyed() => Material::Keep,
        (Some(object), _) => {
            node.recognise(ask, &mut after, &object)
                .map_err(store_failed)?;
            Material::Set(object.into())
        }
        (None, true) => Material::Keep,
        (None, false) => {
            return Err(Failure::new(
                Cause::MissingData,
                "the object itself is missing",
            ));
        }
    };
    after.fingerprint = after.fingerprint.or(known);
    // What was known here, or recognised, makes it another change than the one that was sent.
    if after.copy_digest().map_err(store_failed)? != *digest {
        node.advance(
            &mut after,
            ask.snapshot.reign().map_err(store_failed)?,
            ask.now.wall,
        );
    }
    let fate = if before.is_some() {
        Fate::UPDATED
    } else {
        Fate::CREATED
    };
    Ok((Effects::change(before, after, material), fate))
}

/// Nothing that was known here is forgotten (DESIGN: rule 5).
pub(crate) fn join(attributes: &mut Attributes, held: &Attributes) {
    let (Some(here), Some(there)) = (held.state(), attributes.state()) else {
        return;
    };
    let joined = lifecycle::Rank::of(here).joined_state(lifecycle::Rank::of(there));
    if joined != there {
        attributes.set(AttributeValue::State(joined));
        for tag in [
            tag::COMPROMISE_DATE,
            tag::COMPROMISE_OCCURRENCE_DATE,
            tag::REVOCATION_REASON,
            tag::DESTROY_DATE,
        ] {
            if let Some(value) = held.get(tag) {
                attributes.set_default(value.clone());
            }
        }
    }
}
