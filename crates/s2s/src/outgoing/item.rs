//! What goes out: a stretch of the feed at a time, and the batch item that carries one object.

use crate::error::{Error, Result};
use crate::wire::copy::{Copy, Expected, KeyferryExtension};
use keyferry_kmip::projection::split_by_version;
use keyferry_kmip::spec::{AttributeValue, KeyWrapType, Operation, PutFunction};
use keyferry_kmip::{
    Attributes, ImportRequest, Object, PutRequest, RequestItem, UniqueIdentifier, context,
    downgraded,
};
use keyferry_store::Record;
use keyferry_ttlv::{Extra, Version};

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
pub struct SendOptions {
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
pub fn request_item(
    terms: SendOptions,
    record: Record,
    object: Option<Object>,
) -> Result<RequestItem> {
    planned_item(terms, record, object, None)
}

/// The same; a keyferry server does nothing unless things are as expected.
pub(crate) fn planned_item(
    terms: SendOptions,
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
        let addition = KeyferryExtension {
            copy: Some(copy),
            dry_run,
            expected,
            ..KeyferryExtension::default()
        };
        (
            attributes,
            Some(addition.extension(critical).map_err(Error::encode)?),
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
    .map_err(Error::encode)?;
    item.message_extensions.extend(extension);
    Ok(item)
}

/// By which operation a bulk session sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Import, without Replace Existing, since 1.4.
    Import,
    /// Put, in any version.
    Put,
}

impl Strategy {
    /// The version that it speaks unless another one is asked for: 2.1 for Import, 1.4 for Put.
    pub fn version(self) -> Version {
        match self {
            Strategy::Import => Version::V2_1,
            Strategy::Put => Version::V1_4,
        }
    }

    pub(crate) fn operation(self) -> Operation {
        match self {
            Strategy::Import => Operation::IMPORT,
            Strategy::Put => Operation::PUT,
        }
    }
}
