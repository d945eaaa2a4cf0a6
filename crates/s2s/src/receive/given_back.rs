//! One object of this server's own that another server holds and gives back.

use crate::ask::Ask;
use crate::node::Node;
use crate::policy::Peer;
use crate::wire::copy::Copy;
use crate::wire::follow::{Change, Kind};
use keyferry_kmip::spec::ObjectType;
use keyferry_kmip::{Attributes, Cause, Failure, Object, Text};
use keyferry_store::Record;
use keyferry_store::record::{copy_digest, object_of};
use keyferry_ttlv::Extra;

/// An object that is given back, in the clear.
pub(super) struct GivenBack {
    identifier: Text,
    object_type: ObjectType,
    pub(super) copy: Copy,
    pub(super) attributes: Attributes,
    pub(super) object: Option<Object>,
}

impl GivenBack {
    /// Reads a change that gives an object of this server back.
    pub(super) fn read(
        node: &Node,
        ask: &Ask<'_>,
        peer: &Peer,
        change: Change,
    ) -> Result<GivenBack, Failure> {
        let Change {
            kind: Kind::COPY,
            identifier,
            object_type: Some(object_type),
            mut copy,
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
        if copy.stamp.issuer != node.home.server {
            return Err(Failure::new(
                Cause::InvalidField,
                "only this server's own objects are taken back",
            ));
        }
        let attributes = std::mem::take(&mut copy.unrepresentable);
        attributes.check_count()?;
        if copy_digest(object_type, &attributes)? != copy.digest {
            return Err(Failure::new(
                Cause::InvalidMessage,
                "what arrived is not what was sent: its digest differs",
            ));
        }
        let object = material
            .map(|bytes| object_of(bytes.expose()))
            .transpose()
            .map_err(|error| Failure::new(Cause::InvalidMessage, error))?;
        let object = match (object, wrapped) {
            (Some(wrapped), Some(true)) => {
                Some(node.unwrapped_from(ask, peer, wrapped, &attributes)?)
            }
            (object, _) => object,
        };
        Ok(GivenBack {
            identifier,
            object_type,
            copy,
            attributes,
            object,
        })
    }

    /// The record that it was, under the identifier that it had here, and the object itself.
    pub(super) fn into_record(self) -> (Record, Option<Object>) {
        let receipt = self.copy.receipt.as_ref();
        let identifier = receipt.map_or(self.identifier, |receipt| receipt.identifier.clone());
        let record = Record {
            id: self.copy.id,
            identifier,
            owner: self.copy.owner,
            stamp: self.copy.stamp,
            lineage: self.copy.lineage,
            object_type: self.object_type,
            attributes: self.attributes,
            overlay: None,
            fingerprint: None,
            lost: Vec::new(),
            extra: Extra::NONE,
        };
        (record, self.object)
    }
}

/// The failure of what this server has not sent, by its receipt.
pub(super) fn not_sent() -> Failure {
    Failure::denied("this server has not sent what is given back: it has no receipt of it")
}
