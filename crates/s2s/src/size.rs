//! The size of an object: what a client may bring stays below what can be answered and carried to other servers.

use crate::limits::Limits;
use crate::node::Node;
use crate::wire::copy::Copy;
use keyferry_kmip::spec::Operation;
use keyferry_kmip::{Attributes, Cause, Failure, Text};
use keyferry_store::record::material_of;
use keyferry_store::{Change, Material, Record, Snapshot, SnapshotExt};

/// Bytes that a copy takes beside its identifiers, attributes, lineage and material, about.
const COPY_BYTES: usize = 600;

/// How often the identifier stands in a copy: in the change, the object id, and the receipt.
const IDENTIFIERS: usize = 3;

/// A request of so many bytes, or less, is no reason to look how large the object becomes while it has [`FEW`] attributes.
const SMALL: usize = 1024;

/// See [`SMALL`]. Grown by such requests alone, an object has no more than 32 KiB above the limit.
const FEW: usize = 32;

/// A request of so many bytes, or less, may do all but edit attributes with an object above the limit: it can still be revoked, for example.
const REMARK: usize = 4096;

/// About how many bytes an object takes in a message to another server, of which attributes and lineage take `told` and the material `material`.
pub(crate) fn copy_bytes(identifier: &Text, told: usize, material: usize) -> usize {
    COPY_BYTES + IDENTIFIERS * identifier.len() + told + material
}

/// About how many bytes the object of a record takes in a message to another server.
fn record_bytes(record: &Record, material: usize) -> Result<usize, Failure> {
    let (_, told) = Copy::with_size(record, Attributes::new(), None)?;
    Ok(copy_bytes(&record.identifier, told, material))
}

impl Node {
    /// Checks that an object which a request makes or changes stays within [`Limits::object_bytes`]. `request` is how many bytes the request has.
    ///
    /// An object that is above the limit already can still get smaller, and a request of up to 4 KiB does with it whatever is no editing of
    /// attributes. The exact size is found out only where a request has more than 1 KiB, or the object more than 32 attributes.
    ///
    /// # Errors
    /// [`Cause::ServerLimit`], which names the limit, and those of the store.
    pub fn check_size(
        &self,
        snapshot: &dyn Snapshot,
        operation: Operation,
        request: usize,
        change: &Change,
    ) -> Result<(), Failure> {
        let edits = matches!(
            operation,
            Operation::ADD_ATTRIBUTE
                | Operation::MODIFY_ATTRIBUTE
                | Operation::SET_ATTRIBUTE
                | Operation::ADJUST_ATTRIBUTE
        );
        let may_grow = edits || change.before.is_none() || request > REMARK;
        let is_small = request <= SMALL && change.after.attributes.len() <= FEW;
        if !may_grow || is_small {
            return Ok(());
        }
        let before = match &change.before {
            Some((number, _)) => snapshot.whole(*number)?,
            None => None,
        };
        let held = before.as_ref().and_then(|(_, object)| object.as_ref());
        let held = held
            .map(material_of)
            .transpose()?
            .map_or(0, |bytes| bytes.len());
        let material = match &change.material {
            Material::Keep => held,
            Material::Set(object) => material_of(object)?.len(),
            Material::Remove => 0,
        };
        let bytes = record_bytes(&change.after, material)?;
        let Limits { object_bytes, .. } = self.policy.limits;
        if bytes <= object_bytes {
            return Ok(());
        }
        let was = match &before {
            Some((record, _)) => record_bytes(record, held)?,
            None => 0,
        };
        if bytes <= was {
            return Ok(());
        }
        Err(Failure::new(
            Cause::ServerLimit,
            format_args!(
                "the object takes about {bytes} bytes with its attributes, and may take {object_bytes}: the limit object_bytes of this server"
            ),
        ))
    }
}
