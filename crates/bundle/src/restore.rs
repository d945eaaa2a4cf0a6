//! A server takes back its own objects from a bundle of copies, by a person's word.

use crate::format::Raised;
use keyferry_kmip::spec::{AttributeValue, KeyWrapType, tag};
use keyferry_kmip::{Cause, Failure, ImportRequest, RequestItem, Text, extension as x, lifecycle};
use keyferry_s2s::{Ask, Copy, Node, Outcome, accept_give_back};
use keyferry_store::record::copy_digest;
use keyferry_store::{Effects, Material, ObjectId, Record, SnapshotExt};
use keyferry_ttlv::{Decode, Encode, Extra};

/// A server that lost objects takes them back from whoever holds copies of them, as a person has decided: otherwise nobody may send it
/// copies of its own objects. It goes on as their issuer, under its new incarnation. What it holds itself joins: no state goes back.
///
/// The sender must hold the newest of each: a change that only a third server knows would come to light as a fork, which is kept and named.
#[derive(Clone, Debug)]
pub struct Restoring<'a> {
    /// The server.
    pub node: &'a Node,
    /// The client that the objects belong to from now on: a copy does not tell whose they were.
    pub owner: Option<Text>,
}

/// Our Message Extension, as far as it matters here.
#[derive(Encode, Decode)]
#[ttlv(tag = tag::VENDOR_EXTENSION)]
struct KeyferryExtension {
    copy: Option<Copy>,
    #[ttlv(extra)]
    extra: Extra,
}

/// What a copy of an own object does; `None` for any other item.
pub(crate) fn take_back(
    restoring: &Restoring<'_>,
    ask: &Ask<'_>,
    item: &RequestItem,
    raised: &[Raised],
) -> Option<Result<(Effects, Outcome), Failure>> {
    let extension = item
        .message_extensions
        .iter()
        .find(|extension| extension.vendor_identification == x::VENDOR)?;
    match extension.vendor_extension.read::<KeyferryExtension>(ask.cx) {
        Ok(addition) => {
            let copy = addition
                .copy
                .filter(|copy| copy.stamp.issuer == restoring.node.home.server)?;
            let id = copy.id.clone();
            Some(
                give_back_copy(restoring, ask, item, copy)
                    .and_then(|decided| raise(restoring.node, ask, item, &id, raised, decided)),
            )
        }
        Err(error) => Some(Err(error.into())),
    }
}

fn give_back_copy(
    restoring: &Restoring<'_>,
    ask: &Ask<'_>,
    item: &RequestItem,
    copy: Copy,
) -> Result<(Effects, Outcome), Failure> {
    let Restoring { node, owner } = restoring;
    let peer = node.policy.peer(ask.tls);
    let Some(peer) = peer.filter(|peer| peer.may_send && peer.relays.has(&node.home.server)) else {
        return Err(Failure::new(
            Cause::PermissionDenied,
            "only a peer that may send and relay this server's objects gives back what was lost",
        ));
    };
    let mut request: ImportRequest = item.payload(ask.cx)?;
    if request.key_wrap_type == Some(KeyWrapType::NOT_WRAPPED)
        && let Some(wrapped) = request.object.take()
    {
        let clear = node.unwrapped_from(ask, peer, wrapped, &request.attributes)?;
        request.object = Some(clear);
    }
    let identifier = request.unique_identifier.as_text().map(Text::from);
    let (Some(identifier), Some(object_type)) = (identifier, request.object_type) else {
        return Err(Failure::new(
            Cause::MissingData,
            "the Unique Identifier or the Object Type is missing",
        ));
    };
    let mut attributes = request.attributes;
    copy.unrepresentable
        .iter()
        .for_each(|attribute| attributes.keep(attribute.clone()));
    attributes.check_count()?;
    if copy_digest(object_type, &attributes)? != copy.digest
        || request
            .object
            .as_ref()
            .is_some_and(|object| object.object_type() != object_type)
    {
        return Err(Failure::new(
            Cause::InvalidMessage,
            "what arrived is not what was sent: its digest or type differs",
        ));
    }
    let after = Record {
        id: copy.id,
        identifier,
        owner: owner.clone(),
        stamp: copy.stamp,
        lineage: copy.lineage,
        object_type,
        attributes,
        overlay: None,
        fingerprint: None,
        lost: Vec::new(),
        extra: Extra::NONE,
    };
    let from = Text::from(ask.tls.name.as_str());
    accept_give_back(node, ask, &from, (after, request.object), &copy.digest)
}

/// What the sender knows to be compromised, which its issuer had not heard of, is so from now on: a change that the issuer makes.
fn raise(
    node: &Node,
    ask: &Ask<'_>,
    item: &RequestItem,
    id: &ObjectId,
    raised: &[Raised],
    (mut effects, outcome): (Effects, Outcome),
) -> Result<(Effects, Outcome), Failure> {
    if raised.is_empty() {
        return Ok((effects, outcome));
    }
    let request: ImportRequest = item.payload(ask.cx)?;
    let identifier = request.unique_identifier.as_text().unwrap_or_default();
    if !raised
        .iter()
        .any(|raised| raised.identifier == *identifier && lifecycle::is_compromised(raised.state))
    {
        return Ok((effects, outcome));
    }
    if effects.changes.is_empty() {
        let held = ask.snapshot.by_object_id(id)?;
        let Some((number, held)) = held else {
            return Ok((effects, outcome));
        };
        effects = Effects::change(Some((number, held.clone())), held, Material::Keep);
    }
    let reign = ask.snapshot.reign()?;
    for change in &mut effects.changes {
        let Some(state) = change
            .after
            .stored_state()
            .filter(|_| !change.after.is_compromised())
        else {
            continue;
        };
        let known = lifecycle::Rank {
            step: 0,
            compromised: true,
        };
        change.after.attributes.set(AttributeValue::State(
            lifecycle::Rank::of(state).joined_state(known),
        ));
        change
            .after
            .attributes
            .set_default(AttributeValue::CompromiseDate(ask.now.wall));
        node.advance(&mut change.after, reign, ask.now.wall);
    }
    Ok((
        effects,
        if outcome == Outcome::Unchanged {
            Outcome::Updated
        } else {
            outcome
        },
    ))
}
