//! The request item that carries one object, by Import or Put, and about how large it is.

use crate::error::{Error, Result};
use crate::relation::receipts::Sender;
use crate::wire::copy::{Copy, Expected, KeyferryExtension};
use keyferry_kmip::projection::split_by_version;
use keyferry_kmip::spec::{AttributeValue, KeyWrapType, Operation, PutFunction};
use keyferry_kmip::{
    Attributes, ImportRequest, MessageExtension, Object, PutRequest, RequestItem, UniqueIdentifier,
    context, downgraded,
};
use keyferry_store::{Record, Store};
use keyferry_ttlv::{Extra, Limits, Version};

/// The bytes that are left free for a message's header.
const HEADER_BYTES: usize = 4096;

/// About how many bytes the items of a message may have: what receivers take by default, less the header.
pub(crate) const MAX_ITEM_BYTES: usize = Limits::DEFAULT.size - HEADER_BYTES;

/// About how many bytes an item has beside its payload and its extensions.
const ITEM_OVERHEAD: usize = 64;

/// About how many bytes a message extension has beside its content.
const EXTENSION_OVERHEAD: usize = 96;

/// About how many bytes an item adds to its message.
pub(crate) fn item_size(item: &RequestItem) -> usize {
    let extensions: usize = item
        .message_extensions
        .iter()
        .map(|extension| extension.vendor_extension.bytes().len() + EXTENSION_OVERHEAD)
        .sum();
    item.request_payload.bytes().len() + extensions + ITEM_OVERHEAD
}

/// The attributes of an object that a message of this version can say to a foreign peer, and the names of the others. Indices are left out: they
/// mean nothing to the peer.
pub(crate) fn representable_attributes(
    attributes: &Attributes,
    version: Version,
) -> (Attributes, Vec<String>) {
    let (mut representable, mut lost) = (Attributes::new(), Vec::new());
    for attribute in attributes {
        match downgraded(attribute.value.clone(), version, version) {
            (Some(value), loss) if loss.is_empty() => representable.push(value),
            _ => lost.push(attribute.value.reference().to_string()),
        }
    }
    (representable, lost)
}

/// Options for sending one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendOptions {
    /// The operation that carries the object.
    pub strategy: Strategy,
    /// The version of the message.
    pub version: Version,
    /// Whether the receiver is a keyferry server: it also gets what KMIP has no place for.
    pub keyferry: bool,
    /// The number of the session, for a keyferry server.
    pub session: Option<i64>,
    /// Whether the receiver only answers what would become of the object.
    pub dry_run: bool,
    /// Whether the object is wrapped for the way, and is to be unwrapped when it arrives. Import alone can say so.
    pub wrapped: bool,
}

/// Makes the request item that carries an object. It replaces nothing at the receiver. The sender of the store's home, and the store, make the
/// receipts of a copy that a keyferry server gets.
///
/// # Errors
/// [`ErrorKind::Encode`](crate::ErrorKind::Encode).
pub fn request_item(
    options: SendOptions,
    record: Record,
    object: Option<Object>,
    sender: (&Sender, &dyn Store),
) -> Result<RequestItem> {
    conditional_request_item(options, record, object, Some(sender), None)
}

/// Makes a [`request_item`] by which a keyferry server does nothing unless it holds what is `expected`.
pub(crate) fn conditional_request_item(
    options: SendOptions,
    record: Record,
    object: Option<Object>,
    sender: Option<(&Sender, &dyn Store)>,
    expected: Option<Expected>,
) -> Result<RequestItem> {
    let (attributes, extension) = if options.keyferry {
        let (attributes, extension) =
            attributes_with_extension(options, &record, sender, expected)?;
        (attributes, Some(extension))
    } else {
        let (attributes, _) = representable_attributes(&record.attributes, options.version);
        (attributes, None)
    };
    let mut item = match options.strategy {
        Strategy::Import => import_item(options, record, object, attributes),
        Strategy::Put => put_item(options, record, object, attributes),
    }?;
    item.message_extensions.extend(extension);
    Ok(item)
}

/// Separates what a keyferry server is told of an object: by KMIP's attributes, and by the message extension.
fn attributes_with_extension(
    options: SendOptions,
    record: &Record,
    sender: Option<(&Sender, &dyn Store)>,
    expected: Option<Expected>,
) -> Result<(Attributes, MessageExtension)> {
    let (attributes, unrepresentable) = split_by_version(&record.attributes, options.version);
    let mut copy = Copy::of(record, unrepresentable, options.session)?;
    if let Some((sender, store)) = sender {
        sender.sign_from(store, record, &mut copy)?;
    }
    // A receiver that ignored the extension would go wrong where the message alone does not say everything.
    let critical = record.is_destroyed()
        || !copy.unrepresentable.is_empty()
        || options.dry_run
        || expected.is_some();
    let extension = KeyferryExtension {
        copy: Some(copy),
        dry_run: options.dry_run.then_some(true),
        expected,
        ..KeyferryExtension::default()
    };
    let extension = extension.extension(critical).map_err(Error::encode)?;
    Ok((attributes, extension))
}

fn import_item(
    options: SendOptions,
    record: Record,
    object: Option<Object>,
    mut attributes: Attributes,
) -> Result<RequestItem> {
    let has_type = options.version >= Version::V2_0;
    if !has_type && object.is_none() {
        attributes.push(AttributeValue::ObjectType(record.object_type));
    }
    let payload = ImportRequest {
        unique_identifier: UniqueIdentifier::Text(record.identifier),
        object_type: has_type.then_some(record.object_type),
        replace_existing: None,
        key_wrap_type: options.wrapped.then_some(KeyWrapType::NOT_WRAPPED),
        attributes,
        object,
        extra: Extra::NONE,
    };
    RequestItem::new(&payload, context(options.version)).map_err(Error::encode)
}

fn put_item(
    options: SendOptions,
    record: Record,
    object: Option<Object>,
    mut attributes: Attributes,
) -> Result<RequestItem> {
    if object.is_none() {
        attributes.push(AttributeValue::ObjectType(record.object_type));
    }
    let payload = PutRequest {
        unique_identifier: UniqueIdentifier::Text(record.identifier),
        put_function: PutFunction::NEW,
        replaced_unique_identifier: None,
        object,
        attributes,
        extra: Extra::NONE,
    };
    RequestItem::new(&payload, context(options.version)).map_err(Error::encode)
}

/// The operation by which a bulk session sends objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Import, without Replace Existing; since KMIP 1.4.
    Import,
    /// Put, in any version.
    Put,
}

impl Strategy {
    /// The version that a session speaks unless another one is asked for: 2.1 for Import, 1.4 for Put.
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
