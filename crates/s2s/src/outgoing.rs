//! What goes out: a stretch of the feed at a time, and the batch item that carries one object.

use crate::copy::{Addition, Copy, Expected};
use crate::selection::Chosen;
use crate::{Error, ErrorKind, Result, Strategy};
use keyferry_kmip::projection::split_by_version;
use keyferry_kmip::spec::{AttributeValue, KeyWrapType, PutFunction, tag};
use keyferry_kmip::{
    Attributes, ImportRequest, Object, PutRequest, RequestItem, UniqueIdentifier, context,
    downgraded,
};
use keyferry_store::{Record, RecordNumber, Snapshot, SnapshotExt, Store, StoreExt};
use keyferry_ttlv::{Extra, Version};
use std::ops::ControlFlow;

/// Objects of the feed that go into one message or segment.
#[derive(Debug)]
#[non_exhaustive]
pub struct Stretch {
    /// The objects, in the order of the feed. One that is destroyed has no material, nor has one that is only told of.
    pub objects: Vec<(RecordNumber, Record, Option<Object>)>,
    /// The feed number behind which it ends.
    pub end: u64,
}

/// Whether an object that was not chosen is told of all the same, without its material. Asked of each such object.
pub type Tells<'a> = dyn FnMut(&dyn Snapshot, RecordNumber, &Record) -> Result<bool> + 'a;

/// Stretches of the feed without a selected object that are passed over at a time.
const PASSED: usize = 20;

impl Stretch {
    /// Reads what stands behind the feed number `after` and was chosen, or is told of: so many objects at the most, and about so many bytes
    /// of them. `None` at the end of the feed; a stretch may have no objects.
    ///
    /// # Errors
    /// Those of the store and of `tells`.
    pub fn read(
        store: &dyn Store,
        after: u64,
        most: usize,
        bytes: usize,
        chosen: &Chosen,
        tells: &mut Tells<'_>,
    ) -> Result<Option<Stretch>> {
        let mut objects = Vec::new();
        let end = store.view::<_, Error>(|snapshot| {
            objects.clear();
            let (mut end, mut size) = (after, 0);
            for _ in 0..PASSED {
                let numbers = entries(snapshot, end, most)?;
                if numbers.is_empty() {
                    break;
                }
                for (number, of) in numbers {
                    end = number;
                    if !chosen.has_all() {
                        let record = snapshot.record(of)?.ok_or_else(|| lacking(number))?;
                        if !chosen.has(of, &record) {
                            // Its material is not even unsealed.
                            if tells(snapshot, of, &record)? {
                                size += 600;
                                objects.push((of, record, None));
                            }
                            continue;
                        }
                    }
                    let (record, object) = snapshot.whole(of)?.ok_or_else(|| lacking(number))?;
                    if record.is_withdrawn() {
                        continue;
                    }
                    size += 600 + object.as_ref().map_or(0, Object::material_len);
                    objects.push((of, record, object));
                    if size >= bytes {
                        break;
                    }
                }
                if !objects.is_empty() {
                    break;
                }
            }
            Ok(end)
        })?;
        Ok((end != after).then_some(Stretch { objects, end }))
    }

    /// How many objects all stretches would have now, from the beginning of the feed.
    ///
    /// # Errors
    /// As [`Stretch::read`].
    pub fn count(store: &dyn Store, chosen: &Chosen, tells: &mut Tells<'_>) -> Result<u64> {
        if chosen.has_all() {
            return store.view(|snapshot| Ok(snapshot.count()?));
        }
        let (mut count, mut after) = (0, 0);
        loop {
            let (found, end) = store.view::<_, Error>(|snapshot| {
                let (mut found, mut end) = (0, after);
                for (number, of) in entries(snapshot, after, COUNTED)? {
                    end = number;
                    let record = snapshot.record(of)?.ok_or_else(|| lacking(number))?;
                    found += u64::from(chosen.has(of, &record) || tells(snapshot, of, &record)?);
                }
                Ok((found, end))
            })?;
            if end == after {
                return Ok(count);
            }
            count += found;
            after = end;
        }
    }
}

/// Records that are counted in one view of the store.
const COUNTED: usize = 1000;

fn lacking(number: u64) -> Error {
    Error::new(
        ErrorKind::Store,
        format_args!("the feed names an object at {number} that the store does not hold"),
    )
}

/// The next feed entries, so many at the most: their numbers and records.
pub(crate) fn entries(
    snapshot: &dyn Snapshot,
    after: u64,
    most: usize,
) -> Result<Vec<(u64, RecordNumber)>> {
    let mut entries = Vec::new();
    snapshot.feed(after, &mut |row| {
        entries.push((row.number, row.record));
        Ok(if entries.len() < most {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    Ok(entries)
}

/// Why an object may not be sent, if it may not: one that is Sensitive leaves wrapped or not at all. `wraps` says whether it will be.
pub fn withheld(record: &Record, wraps: bool) -> Option<&'static str> {
    if !wraps
        && matches!(
            record.attributes.get(tag::SENSITIVE),
            Some(AttributeValue::Sensitive(true))
        )
    {
        return Some("the object is Sensitive, and would leave in the clear");
    }
    if matches!(
        record.attributes.get(tag::EXTRACTABLE),
        Some(AttributeValue::Extractable(false))
    ) {
        return Some("the object is not Extractable");
    }
    None
}

/// What a message of a version says of an object's attributes to a peer to whom their indices mean nothing, and the names of the others.
pub(crate) fn carried(attributes: &Attributes, version: Version) -> (Attributes, Vec<String>) {
    let (mut carried, mut lost) = (Attributes::new(), Vec::new());
    for attribute in attributes {
        match downgraded(attribute.value.clone(), version, version) {
            (Some(value), loss) if loss.is_empty() => carried.push(value),
            _ => lost.push(attribute.value.reference().to_string()),
        }
    }
    (carried, lost)
}

/// How an object is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// By which operation.
    pub strategy: Strategy,
    /// In which version.
    pub version: Version,
    /// To a keyferry server, with what KMIP has no place for.
    pub keyferry: bool,
    /// The number of the session.
    pub session: Option<i64>,
    /// To hear what would become of it.
    pub dry_run: bool,
    /// The object is wrapped for the way, and is to be unwrapped when it arrives (Import alone can say so).
    pub wrapped: bool,
}

/// The item that carries an object, without replacing anything.
///
/// # Errors
/// [`ErrorKind::Encode`].
pub fn request_item(terms: Terms, record: Record, object: Option<Object>) -> Result<RequestItem> {
    planned_item(terms, record, object, None)
}

/// The same; a keyferry server does nothing unless things are as expected.
pub(crate) fn planned_item(
    terms: Terms,
    record: Record,
    object: Option<Object>,
    expected: Option<Expected>,
) -> Result<RequestItem> {
    let cx = context(terms.version);
    let destroyed = record.is_destroyed();
    let (attributes, extension) = if terms.keyferry {
        let (attributes, rest) = split_by_version(&record.attributes, terms.version);
        let copy = Copy::of(&record, rest, terms.session)?;
        // Misreading it is unsafe when the message alone does not say everything.
        let critical = destroyed || !copy.rest.is_empty() || terms.dry_run || expected.is_some();
        let dry_run = terms.dry_run.then_some(true);
        let addition = Addition {
            copy: Some(copy),
            dry_run,
            expected,
            ..Addition::default()
        };
        (
            attributes,
            Some(
                addition
                    .extension(critical)
                    .map_err(|e| Error::new(ErrorKind::Encode, e))?,
            ),
        )
    } else {
        (carried(&record.attributes, terms.version).0, None)
    };
    let unique_identifier = UniqueIdentifier::Text(record.identifier);
    let mut item = match terms.strategy {
        Strategy::Import => {
            let has_type = terms.version >= Version::V2_0;
            let mut attributes = attributes;
            if !has_type && object.is_none() {
                attributes.push(AttributeValue::ObjectType(record.object_type));
            }
            let payload = ImportRequest {
                unique_identifier,
                object_type: has_type.then_some(record.object_type),
                replace_existing: None,
                key_wrap_type: terms.wrapped.then_some(KeyWrapType::NOT_WRAPPED),
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
