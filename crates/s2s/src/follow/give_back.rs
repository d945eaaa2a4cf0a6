//! What a replica gives back to an issuer that has lost something: all that it holds of that server's objects.

use crate::error::{Error, ErrorKind, Result};
use crate::feed::entries;
use crate::follow::options::FollowOptions;
use crate::material::transit::{reason_withheld, wrap_for_transit};
use crate::node::Node;
use crate::relation::followed::Upstream;
use crate::relation::receipts::Receipts;
use crate::relation::rotten::readable;
use crate::session::SessionContext;
use crate::wire::copy::Copy;
use crate::wire::follow::{Change, GiveBackRequest, Kind, SPOKEN};
use crate::wire::receipt::Receipt;
use keyferry_kmip::{Object, Secret};
use keyferry_store::record::material_of;
use keyferry_store::{ObjectId, Record, RecordNumber, Snapshot, SnapshotExt, StoreExt};
use keyferry_ttlv::Extra;
use std::sync::Arc;

/// Bytes that an object takes in a message beside its material, about.
const ATTRIBUTE_BYTES: usize = 600;

/// What is given back to an issuer, part by part.
pub(crate) struct GiveBackPass {
    what: What,
    /// The issuer's reign that asks for it.
    reign: Vec<u8>,
}

enum What {
    /// All copies of the issuer's objects behind this number of the own feed: it was restored.
    Behind(u64),
    /// These objects, whose records have rotted there.
    Objects(Vec<ObjectId>),
}

/// A part of the feed: the copies in it that are given back.
struct Part {
    copies: Vec<HeldObject>,
    end: u64,
    last: bool,
}

/// A copy of an object of the issuer.
struct HeldObject {
    record: Record,
    /// The object itself, if it is here: it is not where the copy was withdrawn.
    object: Option<Object>,
    /// The issuer's receipt of the copy.
    receipt: Option<Receipt>,
}

impl GiveBackPass {
    /// A pass from the beginning, for the issuer in this reign.
    pub(crate) fn to(reign: Vec<u8>) -> Self {
        GiveBackPass {
            what: What::Behind(0),
            reign,
        }
    }

    /// A pass over objects whose records have rotted at the issuer.
    pub(crate) fn of(objects: Vec<ObjectId>, reign: Vec<u8>) -> Self {
        GiveBackPass {
            what: What::Objects(objects),
            reign,
        }
    }

    /// Makes the request that gives the next part back.
    pub(crate) fn next(
        &mut self,
        cx: &mut SessionContext<'_>,
        node: &Arc<Node>,
        upstream: &Upstream,
        options: &FollowOptions,
    ) -> Result<GiveBackRequest> {
        let server = &upstream.server;
        let mut part = cx.store.view(|snapshot| match &self.what {
            What::Behind(after) => read_part(snapshot, *after, server, options),
            What::Objects(objects) => read_objects(snapshot, objects, server, options),
        })?;
        let mends = match &mut self.what {
            What::Behind(after) => {
                *after = part.end;
                None
            }
            What::Objects(objects) => {
                let looked_at = usize::try_from(part.end).unwrap_or(usize::MAX);
                objects.drain(..looked_at.min(objects.len()));
                part.last = objects.is_empty();
                Some(true)
            }
        };
        let wrapping = options
            .from
            .wrapping
            .clone()
            .map(|wrapping| (node.clone(), wrapping));
        let mut changes = Vec::new();
        for HeldObject {
            record,
            mut object,
            receipt,
        } in part.copies
        {
            // What may not leave stays here, and its State is told.
            let is_withheld = reason_withheld(&record, wrapping.is_some()).is_some();
            object = object.filter(|_| !is_withheld || record.is_destroyed());
            let (object, wrapped) =
                match wrap_for_transit(cx, wrapping.as_ref(), SPOKEN, &record, object) {
                    Ok(ready) => ready,
                    Err(error) if error.kind() == ErrorKind::Encode => (None, false),
                    Err(error) => return Err(error),
                };
            changes.push(change(&record, object, wrapped, receipt)?);
        }
        Ok(GiveBackRequest {
            relation: upstream.relation.clone(),
            session: upstream.session,
            reign: Some(self.reign.clone()),
            changes,
            last: part.last,
            mends,
            extra: Extra::NONE,
        })
    }
}

impl HeldObject {
    fn read(
        snapshot: &dyn Snapshot,
        (number, record): (RecordNumber, Record),
        issuer: &str,
    ) -> keyferry_store::Result<HeldObject> {
        Ok(HeldObject {
            receipt: Receipts::of(snapshot, &record, issuer)?,
            object: snapshot.whole(number)?.and_then(|(_, object)| object),
            record,
        })
    }

    /// The bytes that it takes in a message, about.
    fn bytes(&self) -> usize {
        ATTRIBUTE_BYTES + self.object.as_ref().map_or(0, Object::material_len)
    }
}

/// Reads the copies of these objects of a server, as many as one message takes; the end is how many were looked for.
fn read_objects(
    snapshot: &dyn Snapshot,
    objects: &[ObjectId],
    issuer: &str,
    options: &FollowOptions,
) -> Result<Part, Error> {
    let (mut copies, mut bytes, mut end) = (Vec::new(), 0, 0);
    for id in objects {
        if copies.len() >= options.batch.max(1) || bytes >= options.batch_bytes.max(1) {
            break;
        }
        end += 1;
        let held = readable(snapshot.by_object_id(id))?.flatten();
        if let Some(held) = held.filter(|(_, record)| record.stamp.issuer == *issuer)
            && let Some(held) = readable(HeldObject::read(snapshot, held, issuer))?
        {
            bytes += held.bytes();
            copies.push(held);
        }
    }
    let last = false;
    Ok(Part { copies, end, last })
}

/// Reads the whole copies of a server's objects behind a number of the own feed, as many as one message takes.
fn read_part(
    snapshot: &dyn Snapshot,
    after: u64,
    issuer: &str,
    options: &FollowOptions,
) -> Result<Part, Error> {
    let (most, most_bytes) = (options.batch.max(1), options.batch_bytes.max(1));
    let (mut copies, mut end, mut bytes) = (Vec::new(), after, 0);
    loop {
        let entries = entries(snapshot, end, most)?;
        if entries.is_empty() {
            let last = true;
            return Ok(Part { copies, end, last });
        }
        for (place, number) in entries {
            end = place;
            let Some(record) = snapshot.record(number)? else {
                continue;
            };
            if record.stamp.issuer != *issuer {
                continue;
            }
            let held = HeldObject::read(snapshot, (number, record), issuer)?;
            bytes += held.bytes();
            copies.push(held);
            if copies.len() >= most || bytes >= most_bytes {
                let last = false;
                return Ok(Part { copies, end, last });
            }
        }
    }
}

/// A copy as it is given back to its issuer, under the identifier that it has there as far as that is known.
fn change(
    record: &Record,
    object: Option<Object>,
    wrapped: bool,
    receipt: Option<Receipt>,
) -> Result<Change, Error> {
    let material = object.map(|object| material_of(&object)).transpose()?;
    let mut copy = Copy::of(record, record.attributes.clone(), None)?;
    let overlay = record.overlay.as_ref();
    copy.owner = overlay.and_then(|overlay| overlay.owner.clone());
    copy.without = overlay.map_or_else(Vec::new, |overlay| overlay.without.clone());
    let identifier = match &receipt {
        Some(receipt) => receipt.identifier.clone(),
        None if record.id.server == record.stamp.issuer => record.id.identifier.clone(),
        None => record.identifier.clone(),
    };
    copy.receipt = receipt;
    Ok(Change {
        kind: Kind::COPY,
        identifier,
        object_type: Some(record.object_type),
        copy,
        material: material.map(|bytes| Secret::new(&bytes)),
        wrapped: wrapped.then_some(true),
        raised: overlay.and_then(|overlay| overlay.state),
        why: None,
        extra: Extra::NONE,
    })
}
