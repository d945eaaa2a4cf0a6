//! This module turns the copy that a keyferry server sends into a record, once its digest and its sender's permission are checked.

use crate::policy::Peer;
use crate::receive::check::check_attributes;
use crate::receive::merge::Incoming;
use crate::wire::copy::{Copy, PROJECTION};
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
}

/// Makes the record of a copy that a keyferry server sent.
///
/// # Errors
/// When the peer may not relay what another server issues, when the digest is not that of the attributes that arrived, and when an attribute
/// may not come in.
pub(crate) fn verify_copy(peer: &Peer, seen: SeenObject, copy: Copy) -> Result<Incoming, Failure> {
    if copy.stamp.issuer != peer.server && !peer.may_relay {
        return Err(Failure::new(
            Cause::PermissionDenied,
            "this peer may not relay what another server issues",
        ));
    }
    if copy.projection != PROJECTION {
        return Err(Failure::new(
            Cause::FeatureNotSupported,
            "the copy's digest is of a kind that is not known here",
        ));
    }
    let mut attributes = seen.attributes;
    attributes.number();
    copy.unrepresentable
        .into_iter()
        .for_each(|attribute| attributes.keep(attribute));
    attributes.check_count()?;
    if copy_digest(seen.object_type, &attributes)? != copy.digest {
        return Err(Failure::new(
            Cause::InvalidMessage,
            "the attributes that arrived are not those that were sent: their digest differs",
        ));
    }
    check_attributes(&attributes)?;
    let record = Record {
        id: copy.id,
        identifier: seen.identifier,
        owner: None,
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
    Ok(Incoming {
        record,
        object: seen.object,
        digest: copy.digest,
        observed: false,
        from: peer.server.clone(),
    })
}
