//! Copies of what other servers issue, and of what this one observes at a foreign server: kept verbatim, joined with what is known here.

use crate::ask::Ask;
use crate::node::Node;
use crate::planted::planted;
use crate::policy::{Collisions, OnIdentifier};
use crate::receive::collision::{arrived, new_identifier, settle_links, settle_names};
use crate::receive::fork::{self, Fork};
use crate::report::Outcome;
use keyferry_kmip::spec::{AttributeValue, State, tag};
use keyferry_kmip::{Attributes, Cause, Digest, Failure, Object, Text, lifecycle};
use keyferry_store::{
    Descent, Effects, Material, Overlay, Record, RecordNumber, SnapshotExt, descent,
};

/// What is to be done about what came in.
pub(crate) struct Decision {
    /// The identifier here.
    pub(crate) identifier: Text,
    pub(crate) effects: Effects,
    pub(crate) outcome: Outcome,
}

/// A copy that came in. Its record's identifier is the one that it should get here, and its overlay what is kept beside it.
pub(crate) struct Incoming {
    pub(crate) record: Record,
    pub(crate) object: Option<Object>,
    /// The digest of its attributes.
    pub(crate) digest: Vec<u8>,
    /// Whether this server saw it at a foreign one, and issues the copy itself.
    pub(crate) observed: bool,
    /// The server id of whom it came from.
    pub(crate) from: Text,
}

/// Decides what becomes of a copy.
pub(crate) fn take(
    node: &Node,
    ask: &mut Ask<'_>,
    collisions: &Collisions,
    incoming: Incoming,
) -> Result<Decision, Failure> {
    let held = ask.snapshot.by_object_id(&incoming.record.id)?;
    take_beside(node, ask, collisions, held, incoming)
}

/// Decides what becomes of a copy, where it is known what is held of the object.
pub(crate) fn take_beside(
    node: &Node,
    ask: &mut Ask<'_>,
    collisions: &Collisions,
    held: Option<(RecordNumber, Record)>,
    incoming: Incoming,
) -> Result<Decision, Failure> {
    let destroyed = incoming.record.is_destroyed();
    match held {
        Some(held) => update(node, ask, collisions, held, incoming),
        None if incoming.record.stamp.issuer == node.home.server && !incoming.observed => {
            Err(Failure::new(
                Cause::PermissionDenied,
                "a copy of an object of this very server, which does not hold it: the server was restored, or is another of the same name",
            ))
        }
        None if incoming.object.is_none() && !destroyed => Err(Failure::new(
            Cause::MissingData,
            "the object itself is missing",
        )),
        None => create(
            node,
            ask,
            collisions,
            None,
            incoming.record,
            incoming.object.filter(|_| !destroyed),
        ),
    }
}

/// Puts a copy where none is; `before` is the mark of one that was withdrawn.
fn create(
    node: &Node,
    ask: &mut Ask<'_>,
    collisions: &Collisions,
    before: Option<(RecordNumber, Record)>,
    mut record: Record,
    object: Option<Object>,
) -> Result<Decision, Failure> {
    let mut outcome = Outcome::Created;
    let other = ask.snapshot.by_identifier(&record.identifier)?;
    if let Some((_, other)) = other {
        match collisions.identifier {
            OnIdentifier::Fail => {
                let why = format_args!(
                    "{} has the identifier {:?}, which {} should get",
                    other.id, record.identifier, record.id
                );
                return Err(Failure::new(Cause::ObjectExists, why));
            }
            OnIdentifier::Skip => {
                return Ok(Decision {
                    identifier: record.identifier,
                    effects: Effects::none(),
                    outcome: Outcome::Skipped,
                });
            }
            OnIdentifier::Assign => {
                record.identifier = new_identifier(&mut *ask.random)?;
                outcome = Outcome::Renamed;
            }
        }
    }
    if settle_names(node, ask, &mut record, None, &collisions.name)? {
        outcome = Outcome::Renamed;
    }
    if let Some(object) = &object {
        node.recognise(ask, &mut record, object)?;
    }
    let mut effects = Effects::none();
    settle_links(ask, &mut record, &mut effects)?;
    arrived(ask, &record, &mut effects)?;
    let identifier = record.identifier.clone();
    effects.extend(Effects::change(
        before,
        record,
        object.map_or(Material::Keep, |object| Material::Set(object.into())),
    ));
    Ok(Decision {
        identifier,
        effects,
        outcome,
    })
}

/// Takes up again what was withdrawn.
fn revive(
    node: &Node,
    ask: &mut Ask<'_>,
    collisions: &Collisions,
    held: (RecordNumber, Record),
    incoming: Incoming,
) -> Result<Decision, Failure> {
    let destroyed = incoming.record.is_destroyed();
    if incoming.object.is_none() && !destroyed {
        return Err(Failure::new(
            Cause::MissingData,
            "the object was withdrawn, and comes again without its material",
        ));
    }
    let mut record = incoming.record;
    // What was known of its state stays known.
    let known = held.1.overlay.as_ref().and_then(|overlay| overlay.state);
    raise(&mut record, known);
    record.fingerprint = held.1.fingerprint.clone();
    let gone = destroyed || record.is_destroyed();
    create(
        node,
        ask,
        collisions,
        Some(held),
        record,
        incoming.object.filter(|_| !gone),
    )
}

/// Lets a state that is known here count, where the copy's lies behind it.
fn raise(record: &mut Record, known: Option<State>) {
    let (Some(here), Some(there)) = (known, record.attributes.state()) else {
        return;
    };
    if planted!(StateFollowsTheCopy) {
        return;
    }
    let (own, new) = (lifecycle::Rank::of(here), lifecycle::Rank::of(there));
    let stays = (!own.may_become(new)).then(|| own.joined_state(new));
    if stays.is_some() || record.overlay.is_some() {
        record.overlay.get_or_insert_with(Overlay::default).state = stays;
    }
}

fn update(
    node: &Node,
    ask: &mut Ask<'_>,
    collisions: &Collisions,
    (number, held): (RecordNumber, Record),
    incoming: Incoming,
) -> Result<Decision, Failure> {
    let collision = |what: &str| {
        Err(Failure::new(
            Cause::InvalidField,
            format_args!(
                "{} is held here with another {what}: a collision, not an update",
                held.id
            ),
        ))
    };
    if held.object_type != incoming.record.object_type {
        return collision("Object Type");
    }
    let fingerprint = incoming
        .object
        .as_ref()
        .map(|object| node.fingerprint(object))
        .transpose()?;
    if let (Some(one), Some(other)) = (&held.fingerprint, &fingerprint)
        && one != other
        && !planted!(OtherMaterialTaken)
    {
        return collision("key material");
    }
    if is_of_other_material(&held.attributes, &incoming.record.attributes)
        && !planted!(OtherMaterialTaken)
    {
        return collision("key material, by its Digest");
    }
    let unchanged = |effects| Decision {
        identifier: held.identifier.clone(),
        effects,
        outcome: Outcome::Unchanged,
    };
    let relation = descent(
        (&held.stamp, &held.lineage),
        (&incoming.record.stamp, &incoming.record.lineage),
    );
    let is_newer = match relation {
        Descent::Older if planted!(OlderApplies) => !node.issues(&held),
        Descent::Older => return Ok(unchanged(Effects::none())),
        // What was withdrawn since does not come back by an old bundle: nobody would tell this server what becomes of it.
        Descent::Equal if held.is_withdrawn() && !comes_by_a_relation(&incoming.record) => {
            return Ok(unchanged(Effects::none()));
        }
        _ if held.is_withdrawn() && relation != Descent::Fork => {
            return revive(node, ask, collisions, (number, held), incoming);
        }
        Descent::Equal if held.copy_digest()? == incoming.digest => {
            return Ok(unchanged(by_this_relation(
                (number, &held),
                &incoming.record,
            )));
        }
        // The same change, of which relations leave out different attributes: the fuller copy counts.
        Descent::Equal if left_out(&held) != left_out(&incoming.record) => {
            if left_out(&held)
                .iter()
                .all(|name| left_out(&incoming.record).contains(name))
            {
                return Ok(unchanged(by_this_relation(
                    (number, &held),
                    &incoming.record,
                )));
            }
            true
        }
        Descent::Newer => !node.issues(&held) || incoming.observed,
        // What only we may change can't have been changed further by others.
        Descent::Equal | Descent::Fork => planted!(ForkOverwrites),
    };
    if !is_newer {
        let kept = Fork::of(&incoming.record, &incoming.from, ask.now.wall);
        let identifier = held.identifier.clone();
        let effects = match node.issues(&held) {
            true => fork::at_issuer(node, ask, (number, &held), kept),
            false => fork::at_replica(ask, (number, held), kept),
        }?;
        return Ok(Decision {
            identifier,
            effects,
            outcome: Outcome::Forked,
        });
    }
    if incoming.record.stamp.epoch > held.stamp.epoch {
        return Err(Failure::new(
            Cause::PermissionDenied,
            "a new issuer needs a grant, which can't be checked here yet",
        ));
    }
    let Incoming {
        record: mut after,
        object,
        ..
    } = incoming;
    let told = after.overlay.take();
    after.identifier = held.identifier.clone();
    after.owner = held.owner.clone();
    after.overlay = held.overlay.clone();
    if let Some(told) = told {
        let overlay = after.overlay.get_or_insert_with(Overlay::default);
        overlay.via.extend(
            told.via
                .into_iter()
                .filter(|via| !overlay.via.contains(via))
                .collect::<Vec<_>>(),
        );
        overlay.without = told.without;
        overlay.owner = told.owner;
    }
    // The state that counts here stays, where the master's lies behind it; the copy itself is kept verbatim. As stored: what a date has led
    // to counts when its issuer says so, who may have put the date off.
    let known = held
        .overlay
        .as_ref()
        .and_then(|overlay| overlay.state)
        .or_else(|| held.attributes.state());
    let known = if planted!(DerivedStateCounts) {
        held.state(ask.now.wall)
    } else {
        known
    };
    raise(&mut after, known);
    let destroyed = after.is_destroyed();
    let material = match (destroyed, object) {
        (true, _) => Material::Remove,
        (false, Some(object)) if held.fingerprint.is_none() => {
            node.recognise(ask, &mut after, &object)?;
            Material::Set(object.into())
        }
        _ => Material::Keep,
    };
    after.fingerprint = after.fingerprint.or_else(|| held.fingerprint.clone());
    settle_names(node, ask, &mut after, Some(&held), &collisions.name)?;
    let mut effects = fork::ended_by(ask.snapshot, &after)?;
    settle_links(ask, &mut after, &mut effects)?;
    let identifier = after.identifier.clone();
    effects.extend(Effects::change(Some((number, held)), after, material));
    Ok(Decision {
        identifier,
        effects,
        outcome: Outcome::Updated,
    })
}

/// Whether two Digests of the same kind say that these are attributes of different material.
pub(crate) fn is_of_other_material(held: &Attributes, told: &Attributes) -> bool {
    let digests = |of: &Attributes| -> Vec<Digest> {
        let all = of.all(tag::DIGEST).filter_map(|value| match value {
            AttributeValue::Digest(digest) if digest.value.is_some() => Some(digest.clone()),
            _ => None,
        });
        all.collect()
    };
    let (held, told) = (digests(held), digests(told));
    held.iter().any(|one| {
        told.iter().any(|other| {
            (one.hashing_algorithm, one.key_format_type)
                == (other.hashing_algorithm, other.key_format_type)
                && one.value != other.value
        })
    })
}

fn comes_by_a_relation(record: &Record) -> bool {
    record
        .overlay
        .as_ref()
        .is_some_and(|overlay| !overlay.via.is_empty())
}

/// What relations leave out of a copy.
fn left_out(record: &Record) -> &[Text] {
    record
        .overlay
        .as_ref()
        .map_or(&[], |overlay| &overlay.without)
}

/// Notes that a copy comes by this relation, too.
fn by_this_relation((number, held): (RecordNumber, &Record), incoming: &Record) -> Effects {
    let told = incoming.overlay.iter().flat_map(|overlay| &overlay.via);
    let known = |via: &&Text| {
        held.overlay
            .as_ref()
            .is_some_and(|overlay| overlay.via.contains(via))
    };
    let new: Vec<Text> = told.filter(|via| !known(via)).cloned().collect();
    if new.is_empty() {
        return Effects::none();
    }
    let mut after = held.clone();
    after
        .overlay
        .get_or_insert_with(Overlay::default)
        .via
        .extend(new);
    Effects::change(Some((number, held.clone())), after, Material::Keep)
}
