use crate::policy::Peer;
use crate::receive::check::check_attributes;
use crate::receive::merge::Incoming;
use crate::wire::copy::{Copy, PROJECTION};
use keyferry_kmip::spec::ObjectType;
use keyferry_kmip::{Attributes, Cause, Failure, Object, Text};
use keyferry_store::record::copy_digest;
use keyferry_store::{Overlay, Record};
use keyferry_ttlv::Extra;

/// An object as a server showed it.
pub(crate) struct SeenObject {
    pub(crate) identifier: Text,
    pub(crate) object_type: ObjectType,
    pub(crate) attributes: Attributes,
    /// Absent for a destroyed one.
    pub(crate) object: Option<Object>,
}

/// A copy that a keyferry server told of, if its digest is right and the peer may tell of it.
pub(crate) fn copied(peer: &Peer, sight: SeenObject, copy: Copy) -> Result<Incoming, Failure> {
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
    let mut attributes = sight.attributes;
    attributes.number();
    copy.unrepresentable
        .into_iter()
        .for_each(|attribute| attributes.keep(attribute));
    attributes.check_count()?;
    if copy_digest(sight.object_type, &attributes)? != copy.digest {
        return Err(Failure::new(
            Cause::InvalidMessage,
            "the attributes that arrived are not those that were sent: their digest differs",
        ));
    }
    check_attributes(&attributes)?;
    let record = Record {
        id: copy.id,
        identifier: sight.identifier,
        owner: None,
        stamp: copy.stamp,
        lineage: copy.lineage,
        object_type: sight.object_type,
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
        object: sight.object,
        digest: copy.digest,
        observed: false,
        from: peer.server.clone(),
    })
}
