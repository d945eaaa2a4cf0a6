//! Copies of what other servers issue, and of what this one observes at a foreign server: kept verbatim, joined with what is known here.

use crate::collision::{Collisions, OnIdentifier, arrived, new_identifier, settle_links, settle_names};
use crate::copy::Fate;
use crate::respond::store_failed;
use crate::{Ask, Node};
use keyferry_kmip::{Cause, Failure, Object, Text, lifecycle};
use keyferry_store::{Descent, Effects, Material, Overlay, Record, RecordNumber, SnapshotExt, descent};

/// What is to be done about what came in.
pub(crate) struct Decision {
    /// The identifier here.
    pub(crate) identifier: Text,
    pub(crate) effects: Effects,
    pub(crate) fate: Fate,
}

/// A copy that came in. Its record's identifier is the one that it should get here.
pub(crate) struct Incoming {
    pub(crate) record: Record,
    pub(crate) object: Option<Object>,
    /// The digest of its attributes.
    pub(crate) digest: Vec<u8>,
    /// Whether this server saw it at a foreign one, and issues the copy itself.
    pub(crate) observed: bool,
}

/// Decides what becomes of a copy.
pub(crate) fn take(node: &Node, ask: &mut Ask<'_>, collisions: &Collisions, incoming: Incoming) -> Result<Decision, Failure> {
    let destroyed = incoming.record.is_destroyed();
    match ask.snapshot.by_object_id(&incoming.record.id).map_err(store_failed)? {
        Some(held) => update(node, ask, collisions, held, incoming),
        None if incoming.record.stamp.issuer == node.home.server && !incoming.observed => Err(Failure::new(
            Cause::PermissionDenied,
            "a copy of an object of this very server, which does not hold it: the server was restored, or is another of the same name",
        )),
        None if incoming.object.is_none() && !destroyed => Err(Failure::new(Cause::MissingData, "the object itself is missing")),
        None => create(node, ask, collisions, incoming.record, incoming.object.filter(|_| !destroyed)),
    }
}

fn create(
    node: &Node,
    ask: &mut Ask<'_>,
    collisions: &Collisions,
    mut record: Record,
    object: Option<Object>,
) -> Result<Decision, Failure> {
    let mut fate = Fate::CREATED;
    let other = ask.snapshot.by_identifier(&record.identifier).map_err(store_failed)?;
    if let Some((_, other)) = other {
        match collisions.identifier {
            OnIdentifier::Fail => {
                let why = format_args!("{} has the identifier {:?}, which {} should get", other.id, record.identifier, record.id);
                return Err(Failure::new(Cause::ObjectExists, why));
            }
            OnIdentifier::Skip => {
                return Ok(Decision { identifier: record.identifier, effects: Effects::none(), fate: Fate::SKIPPED });
            }
            OnIdentifier::Assign => {
                record.identifier = new_identifier(&mut *ask.random)?;
                fate = Fate::RENAMED;
            }
        }
    }
    if settle_names(node, ask, &mut record, &collisions.name)? {
        fate = Fate::RENAMED;
    }
    if let Some(object) = &object {
        node.recognise(ask, &mut record, object).map_err(store_failed)?;
    }
    let mut effects = Effects::none();
    settle_links(ask, &mut record, &mut effects)?;
    arrived(ask, &record, &mut effects)?;
    let identifier = record.identifier.clone();
    effects.extend(Effects::change(None, record, object.map_or(Material::Keep, |object| Material::Set(object.into()))));
    Ok(Decision { identifier, effects, fate })
}

fn update(
    node: &Node,
    ask: &Ask<'_>,
    collisions: &Collisions,
    (number, held): (RecordNumber, Record),
    incoming: Incoming,
) -> Result<Decision, Failure> {
    let Incoming { record: incoming, object, digest, observed } = incoming;
    let collision = |what: &str| {
        Err(Failure::new(
            Cause::InvalidField,
            format_args!("{} is held here with another {what}: a collision, not an update", held.id),
        ))
    };
    if held.object_type != incoming.object_type {
        return collision("Object Type");
    }
    let fingerprint = object.as_ref().map(|object| node.fingerprint(object)).transpose().map_err(store_failed)?;
    if let (Some(one), Some(other)) = (&held.fingerprint, &fingerprint)
        && one != other
    {
        return collision("key material");
    }
    let unchanged = Decision { identifier: held.identifier.clone(), effects: Effects::none(), fate: Fate::UNCHANGED };
    let fork = || {
        Err(Failure::new(
            Cause::WrongState,
            format_args!(
                "{} was changed on both sides: here up to {}, there up to {}",
                held.id, held.stamp.sequence, incoming.stamp.sequence
            ),
        ))
    };
    match descent((&held.stamp, &held.lineage), (&incoming.stamp, &incoming.lineage)) {
        Descent::Equal if held.copy_digest().map_err(store_failed)? == digest => Ok(unchanged),
        Descent::Older => Ok(unchanged),
        Descent::Equal | Descent::Fork => fork(),
        // What only we may change can't have been changed further by others.
        Descent::Newer if node.issues(&held) && !observed => fork(),
        Descent::Newer if incoming.stamp.epoch > held.stamp.epoch => {
            Err(Failure::new(Cause::PermissionDenied, "a new issuer needs a grant, which can't be checked here yet"))
        }
        Descent::Newer => {
            // The state that counts here stays, where the master's lies behind it; the copy itself is kept verbatim.
            let mut overlay = held.overlay.clone();
            // As stored: what a date has led to counts when its issuer says so, who may have put the date off.
            let here = overlay.as_ref().and_then(|overlay| overlay.state).or_else(|| held.attributes.state());
            let there = incoming.attributes.state();
            if let (Some(here), Some(there)) = (here, there) {
                let (own, new) = (lifecycle::Rank::of(here), lifecycle::Rank::of(there));
                let stays = (!own.may_become(new)).then(|| own.join(new));
                if stays.is_some() || overlay.is_some() {
                    overlay.get_or_insert_with(Overlay::default).state = stays;
                }
            }
            let mut after = Record { identifier: held.identifier.clone(), owner: held.owner.clone(), overlay, ..incoming };
            let destroyed = after.is_destroyed();
            let material = match (destroyed, object) {
                (true, _) => Material::Remove,
                (false, Some(object)) if held.fingerprint.is_none() => {
                    node.recognise(ask, &mut after, &object).map_err(store_failed)?;
                    Material::Set(object.into())
                }
                _ => Material::Keep,
            };
            after.fingerprint = after.fingerprint.or_else(|| held.fingerprint.clone());
            settle_names(node, ask, &mut after, &collisions.name)?;
            let mut effects = Effects::none();
            settle_links(ask, &mut after, &mut effects)?;
            let identifier = after.identifier.clone();
            effects.extend(Effects::change(Some((number, held)), after, material));
            Ok(Decision { identifier, effects, fate: Fate::UPDATED })
        }
    }
}
