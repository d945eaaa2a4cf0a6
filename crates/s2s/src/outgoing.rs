//! What goes out: a stretch of the feed at a time, and the batch item that carries one object.

use crate::copy::{Addition, Copy, PROJECTION};
use crate::{Error, ErrorKind, Result, Strategy};
use keyferry_kmip::attribute::part;
use keyferry_kmip::spec::{AttributeValue, PutFunction, tag};
use keyferry_kmip::{ImportRequest, Object, PutRequest, RequestItem, UniqueIdentifier, context};
use keyferry_store::{Record, SnapshotExt, Store, StoreExt};
use keyferry_ttlv::Extra;
use std::ops::ControlFlow;

/// Objects of the feed that go into one message.
#[derive(Debug)]
pub struct Stretch {
    /// The objects, in the order of the feed; a destroyed one has no material.
    pub objects: Vec<(Record, Option<Object>)>,
    /// The feed number behind which it ends.
    pub end: u64,
}

impl Stretch {
    /// Reads what stands behind the feed number `after`: so many objects at the most, and about so many bytes of them. `None` at the
    /// end of the feed.
    ///
    /// # Errors
    /// Those of the store.
    pub fn read(store: &dyn Store, after: u64, most: usize, bytes: usize) -> Result<Option<Stretch>> {
        let mut objects = Vec::new();
        let end = store.view::<_, Error>(|snapshot| {
            objects.clear();
            let (mut end, mut size) = (after, 0);
            let mut numbers = Vec::new();
            snapshot.feed(after, &mut |row| {
                numbers.push((row.number, row.record));
                Ok(if numbers.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })?;
            for (number, record) in numbers {
                let whole = snapshot.whole(record)?;
                end = number;
                let Some((record, object)) = whole else {
                    return Err(Error::new(
                        ErrorKind::Store,
                        format_args!("the feed names an object at {number} that the store does not hold"),
                    ));
                };
                size += 600 + object.as_ref().map_or(0, Object::material_len);
                objects.push((record, object));
                if size >= bytes {
                    break;
                }
            }
            Ok(end)
        })?;
        Ok((end != after).then_some(Stretch { objects, end }))
    }
}

/// Why an object may not be sent in the clear, if it may not.
pub fn withheld(record: &Record) -> Option<&'static str> {
    if matches!(record.attributes.get(tag::SENSITIVE), Some(AttributeValue::Sensitive(true))) {
        return Some("the object is Sensitive and wrapping in transit is not supported yet");
    }
    if matches!(record.attributes.get(tag::EXTRACTABLE), Some(AttributeValue::Extractable(false))) {
        return Some("the object is not Extractable");
    }
    None
}

/// The item that carries an object, without replacing anything; to a keyferry server with what KMIP has no place for.
///
/// # Errors
/// [`ErrorKind::Encode`].
pub fn request_item(
    strategy: Strategy,
    record: Record,
    object: Option<Object>,
    keyferry: bool,
    session: Option<i64>,
) -> Result<RequestItem> {
    let version = strategy.version();
    let cx = context(version);
    let destroyed = record.is_destroyed();
    let (attributes, rest) = part(&record.attributes, version);
    let extension = if keyferry {
        let copy = Copy {
            digest: record.copy_digest()?,
            id: record.id,
            stamp: record.stamp,
            lineage: record.lineage,
            projection: PROJECTION,
            // Misreading it is unsafe when the message alone does not say everything.
            rest,
            session,
            extra: Extra::NONE,
        };
        let critical = destroyed || !copy.rest.is_empty();
        Some(
            Addition { copy: Some(copy), ..Addition::default() }
                .extension(critical, cx)
                .map_err(|e| Error::new(ErrorKind::Encode, e))?,
        )
    } else {
        None
    };
    let unique_identifier = UniqueIdentifier::Text(record.identifier);
    let mut item = match strategy {
        Strategy::Import => {
            let payload = ImportRequest {
                unique_identifier,
                object_type: Some(record.object_type),
                replace_existing: None,
                key_wrap_type: None,
                attributes,
                object,
                extra: Extra::NONE,
            };
            RequestItem::new(&payload, cx)
        }
        Strategy::Put => {
            let mut attributes = attributes;
            if object.is_none() {
                attributes.push(AttributeValue::ObjectType(record.object_type));
            }
            let payload = PutRequest {
                unique_identifier,
                put_function: PutFunction::NEW,
                replaced_unique_identifier: None,
                object,
                attributes,
                extra: Extra::NONE,
            };
            RequestItem::new(&payload, cx)
        }
    }
    .map_err(|e| Error::new(ErrorKind::Encode, e))?;
    item.message_extensions.extend(extension);
    Ok(item)
}
