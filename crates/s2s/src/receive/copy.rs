//! This module turns the copy that a keyferry server sends into a record, once its digest and its sender's permission are checked.

use crate::node::Node;
use crate::planted::planted;
use crate::policy::Peer;
use crate::receive::authority::{ChangeRef, Speaker, check_speaker, may_not_say};
use crate::receive::check::{check_attributes, check_digest};
use crate::receive::merge::Incoming;
use crate::refusals::Unauthorised;
use crate::relation::receipts::ToldReceipts;
use crate::transport_key::{is_transport_key, rsa_key_of};
use crate::wire::copy::{Copy, is_known_projection};
use crate::wire::receipt::ReceiptKey;
use keyferry_kmip::spec::ObjectType;
use keyferry_kmip::{Attributes, Cause, Failure, Object, Text};
use keyferry_store::record::copy_digest;
use keyferry_store::{Overlay, Record};
use keyferry_ttlv::Extra;

/// An object as another server showed it.
pub(crate) struct SeenObject {
    pub(crate) identifier: Text,
    pub(crate) object_type: ObjectType,
    pub(crate) attributes: Attributes,
    /// The object itself; a destroyed one has none.
    pub(crate) object: Option<Object>,
    /// The name of the key that it came wrapped by.
    pub(crate) wrapped_by: Option<Text>,
}

/// Makes the record of a copy that a keyferry server sent; `held` is what is held of the object here.
///
/// # Errors
/// When the peer may not say this of the object, when the digest is not that of the attributes that arrived, and when an attribute may not come in.
pub(crate) fn verify_copy(
    node: &Node,
    peer: &Peer,
    seen: SeenObject,
    mut copy: Copy,
    held: Option<&Record>,
) -> Result<Incoming, Failure> {
    let named = ChangeRef {
        id: &copy.id,
        stamp: &copy.stamp,
        lineage: &copy.lineage,
    };
    let speaker = check_speaker(node, peer, &named, held)?;
    if !is_known_projection(copy.projection) {
        return Err(Failure::new(
            Cause::FeatureNotSupported,
            "the copy's digest is of a kind that is not known here",
        ));
    }
    let attributes = verified_attributes(seen.object_type, seen.attributes, &mut copy)?;
    check_digest(node, &attributes, seen.object.as_ref())?;
    if speaker == Speaker::Holder && !is_own_word(node, &copy, seen.object.as_ref())? {
        return Err(may_not_say());
    }
    let brought = seen.object.is_some().then_some(seen.wrapped_by);
    let owner = local_owner(node, peer, &copy);
    let record = Record {
        id: copy.id,
        identifier: seen.identifier,
        owner,
        stamp: copy.stamp,
        lineage: copy.lineage,
        object_type: seen.object_type,
        attributes,
        overlay: (!copy.without.is_empty() || copy.owner.is_some()).then(|| Overlay {
            without: copy.without,
            owner: copy.owner,
            ..Overlay::default()
        }),
        fingerprint: None,
        lost: Vec::new(),
        extra: Extra::NONE,
    };
    check_transport_key(&record, speaker, brought, held)?;
    Ok(Incoming {
        record,
        object: seen.object,
        digest: copy.digest,
        observed: false,
        by_relation: false,
        from: peer.server.clone(),
        speaker,
        receipts: ToldReceipts {
            issuer: copy.receipt,
            relay: copy.relay_receipt,
        },
        overrules: false,
        rotted: false,
    })
}

/// Fails when a transport key comes from another server than its issuer, or otherwise than under the RSA key that it names. `brought` is by which
/// key the material was wrapped that came with it.
fn check_transport_key(
    record: &Record,
    speaker: Speaker,
    brought: Option<Option<Text>>,
    held: Option<&Record>,
) -> Result<(), Failure> {
    let Some(rsa_key) = rsa_key_of(record) else {
        return Ok(());
    };
    let is_under_it = match brought {
        Some(wrapped_by) => wrapped_by.as_ref() == Some(rsa_key),
        None => record.is_destroyed() || held.is_some_and(is_transport_key),
    };
    if speaker == Speaker::Issuer && is_under_it {
        return Ok(());
    }
    Err(Failure::denied(
        "a transport key comes from its issuer, wrapped under the RSA key that it names",
    )
    .caused_by(Unauthorised))
}

/// The attributes of a copy: those beside the extension and those in it.
fn verified_attributes(
    object_type: ObjectType,
    mut attributes: Attributes,
    copy: &mut Copy,
) -> Result<Attributes, Failure> {
    attributes.number();
    std::mem::take(&mut copy.unrepresentable)
        .into_iter()
        .for_each(|attribute| attributes.keep(attribute));
    attributes.check_count()?;
    if copy_digest(object_type, &attributes)? != copy.digest {
        return Err(Failure::new(
            Cause::InvalidMessage,
            "the attributes that arrived are not those that were sent: their digest differs",
        ));
    }
    check_attributes(&attributes)?;
    Ok(attributes)
}

/// Whether this server itself has once sent the copy, by the receipt that it carries.
pub(crate) fn is_own_word(
    node: &Node,
    copy: &Copy,
    object: Option<&Object>,
) -> Result<bool, Failure> {
    let Some(receipt) = &copy.receipt else {
        return Ok(false);
    };
    let fingerprint = object.map(|object| node.fingerprint(object)).transpose()?;
    let key = ReceiptKey::of(&node.home);
    Ok(
        planted!(ReceiptUnchecked)
            || key.is_genuine(&copy.facts(), receipt, fingerprint.as_deref()),
    )
}

/// The client here that owns the copy of what a client of its issuer owns there, as policy says of the issuer.
fn local_owner(node: &Node, peer: &Peer, copy: &Copy) -> Option<Text> {
    let there = copy.owner.as_ref()?;
    if copy.stamp.issuer == peer.server {
        return peer.owners.get(there).cloned();
    }
    let mut of_issuer = node.policy.peers_of(&copy.stamp.issuer);
    of_issuer.find_map(|issuer| issuer.owners.get(there).cloned())
}

#[cfg(test)]
mod tests;
