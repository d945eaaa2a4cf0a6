//! The operations beside those of the s2s responder, one file for each kind.

mod attribute;
mod create;
mod discover;
mod get;
mod lifecycle;
mod locate;

use keyferry_kmip::spec::{AttributeValue, Operation, tag};
use keyferry_kmip::{Attributes, Cause, Failure, RequestItem};
use keyferry_s2s::{Ask, Node, Outcome, Responder, check_extensions, store_failed};
use keyferry_store::{Effects, Material, Record, RecordNumber, SnapshotExt, index};
use std::sync::Arc;

/// The operations of clients.
#[derive(Debug)]
pub(crate) struct Operations {
    node: Arc<Node>,
}

/// Every operation that the server answers, those of the s2s responder included.
pub(crate) const OPERATIONS: &[Operation] = &[
    Operation::CREATE,
    Operation::REGISTER,
    Operation::LOCATE,
    Operation::GET,
    Operation::GET_ATTRIBUTES,
    Operation::GET_ATTRIBUTE_LIST,
    Operation::ADD_ATTRIBUTE,
    Operation::MODIFY_ATTRIBUTE,
    Operation::DELETE_ATTRIBUTE,
    Operation::ACTIVATE,
    Operation::REVOKE,
    Operation::DESTROY,
    Operation::QUERY,
    Operation::DISCOVER_VERSIONS,
    Operation::IMPORT,
    Operation::EXPORT,
    Operation::PUT,
];

/// Whether a peer that is no client may ask for an operation; what it may do by it, the policy says.
pub(crate) fn is_for_peers(operation: Operation) -> bool {
    matches!(operation, Operation::IMPORT | Operation::PUT | Operation::QUERY | Operation::DISCOVER_VERSIONS)
}

/// Whether an operation never has effects.
pub(crate) fn is_read(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::LOCATE
            | Operation::GET
            | Operation::GET_ATTRIBUTES
            | Operation::GET_ATTRIBUTE_LIST
            | Operation::QUERY
            | Operation::DISCOVER_VERSIONS
            | Operation::EXPORT
    )
}

impl Operations {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Operations { node }
    }
}

impl Responder for Operations {
    fn respond(&self, ask: &mut Ask<'_>, item: &RequestItem) -> Option<Result<Outcome, Failure>> {
        let node = &*self.node;
        let answer: fn(&Node, &mut Ask<'_>, &RequestItem) -> Result<Outcome, Failure> = match item.operation {
            Operation::CREATE => create::create,
            Operation::REGISTER => create::register,
            Operation::LOCATE => |_, ask, item| locate::locate(ask, item),
            Operation::GET => |_, ask, item| get::get(ask, item),
            Operation::GET_ATTRIBUTES => |_, ask, item| get::get_attributes(ask, item),
            Operation::GET_ATTRIBUTE_LIST => |_, ask, item| get::get_attribute_list(ask, item),
            Operation::ADD_ATTRIBUTE => attribute::add,
            Operation::MODIFY_ATTRIBUTE => attribute::modify,
            Operation::DELETE_ATTRIBUTE => attribute::delete,
            Operation::ACTIVATE => lifecycle::activate,
            Operation::REVOKE => lifecycle::revoke,
            Operation::DESTROY => lifecycle::destroy,
            Operation::QUERY => |_, ask, item| discover::query(ask, item),
            Operation::DISCOVER_VERSIONS => |_, ask, item| discover::discover_versions(ask, item),
            _ => return None,
        };
        Some(check_extensions(&item.message_extensions).and_then(|()| answer(node, ask, item)))
    }
}

/// The change of an object that this server issues: stamped, dated, with date-driven transitions stored.
fn changed(
    node: &Node,
    ask: &Ask<'_>,
    before: (RecordNumber, Record),
    mut after: Record,
    material: Material,
) -> Result<Effects, Failure> {
    let incarnation = ask.snapshot.incarnation().map_err(store_failed)?;
    if let Some(state) = keyferry_kmip::lifecycle::derived(&after.attributes, ask.now.wall) {
        after.attributes.set(AttributeValue::State(state));
    }
    let is = |wanted: AttributeValue| after.attributes.get(wanted.tag()) == Some(&wanted);
    let (open, extractable) = (is(AttributeValue::Sensitive(false)), is(AttributeValue::Extractable(true)));
    // "Always" and "never" end with the first exception (KMIP 2.1 §4.3, §4.33).
    if open {
        after.attributes.set(AttributeValue::AlwaysSensitive(false));
    }
    if extractable {
        after.attributes.set(AttributeValue::NeverExtractable(false));
    }
    node.advance(&mut after, incarnation, ask.now.wall);
    Ok(Effects::change(Some(before), after, material))
}

/// The record that a request wants to change: one that this server issues.
fn own(node: &Node, ask: &Ask<'_>, given: Option<&keyferry_kmip::UniqueIdentifier>) -> Result<(RecordNumber, Record), Failure> {
    let (number, record) = ask.record(given)?;
    node.check_issuer(&record)?;
    if record.attributes.get(tag::ARCHIVE_DATE).is_some() {
        return Err(Failure::new(Cause::ObjectArchived, "the object is archived"));
    }
    Ok((number, record))
}

/// Fails when another object has one of the Names.
fn check_names(ask: &Ask<'_>, attributes: &Attributes, own: Option<&Record>, cause: Cause) -> Result<(), Failure> {
    for name in attributes.names() {
        let clashes =
            |other: &Record| own.is_none_or(|own| own.id != other.id) && other.attributes.names().any(|theirs| theirs == name);
        if ask.snapshot.first(&index::name(&name.value), &clashes).map_err(store_failed)?.is_some() {
            return Err(Failure::new(cause, format_args!("another object has the Name {:?}", name.value)));
        }
    }
    Ok(())
}
