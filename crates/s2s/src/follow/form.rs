//! The forms in which a page tells of an object: the pieces of its changes, without what the relation decides.

use crate::wire::copy::{Copy, PROJECTION, REIGN_BYTES};
use crate::wire::follow::{Change, Kind};
use keyferry_kmip::lifecycle::is_lifecycle_attribute;
use keyferry_kmip::spec::{AttributeValue, tag};
use keyferry_kmip::{AttributeReference, Attributes, Failure, Object, Text};
use keyferry_store::{Incarnation, Lineage, ObjectId, Record, Stamp};
use keyferry_ttlv::{Extra, Tag};

/// Bytes that a change without attributes takes, about.
pub(super) const NOTE_BYTES: usize = 400;

/// A change of a page, and about how many bytes it takes.
pub(super) struct SizedChange {
    pub(super) change: Change,
    pub(super) bytes: usize,
}

impl SizedChange {
    /// The object, if this brings a copy of it.
    pub(super) fn copied(&self) -> Option<&ObjectId> {
        Some(&self.change.copy.id).filter(|_| self.change.kind == Kind::COPY)
    }

    /// A change without attributes or material.
    pub(super) fn note(change: Change) -> SizedChange {
        let bytes = NOTE_BYTES + change.copy.lineage.len() * REIGN_BYTES;
        SizedChange { change, bytes }
    }
}

/// An object that may not leave, and why. Its State goes, for whoever holds an earlier copy.
pub(super) fn withheld(
    mut record: Record,
    without: &[Text],
    why: Text,
) -> Result<SizedChange, Failure> {
    leave_out(&mut record.attributes, without);
    let copy = Copy::of(&record, state_attributes(&record), None)?;
    Ok(SizedChange::note(Change {
        why: Some(why),
        ..change(Kind::WITHHELD, record.identifier, copy)
    }))
}

/// What is told of an object that was offered and does not belong to the selection any more: its State.
pub(super) fn withdrawal(record: Record) -> Result<SizedChange, Failure> {
    state_alone(Kind::WITHDRAWN, record)
}

/// What is told of an object that was sent beside the relation and is over: its State.
pub(super) fn ended(record: Record) -> Result<SizedChange, Failure> {
    state_alone(Kind::ENDED, record)
}

fn state_alone(kind: Kind, record: Record) -> Result<SizedChange, Failure> {
    let copy = Copy::of(&record, state_attributes(&record), None)?;
    Ok(SizedChange::note(change(kind, record.identifier, copy)))
}

/// The attributes that say what the life cycle of an object has come to, as far as this server knows.
fn state_attributes(record: &Record) -> Attributes {
    let state = record
        .attributes
        .iter()
        .filter(|attribute| is_of_state(attribute.value.tag()))
        .cloned();
    let mut attributes = Attributes::new();
    state.for_each(|attribute| attributes.keep(attribute));
    if let Some(raised) = record.stored_state() {
        attributes.set(AttributeValue::State(raised));
    }
    attributes
}

pub(super) fn is_wrapped(object: &Object) -> bool {
    object
        .key_block()
        .is_some_and(|block| block.key_wrapping_data.is_some())
}

pub(super) fn change(kind: Kind, identifier: Text, copy: Copy) -> Change {
    Change {
        kind,
        identifier,
        object_type: None,
        copy,
        material: None,
        wrapped: None,
        raised: None,
        why: None,
        extra: Extra::NONE,
    }
}

pub(super) fn gone(id: &ObjectId) -> Change {
    let stamp = Stamp::first(&id.server, Incarnation([0; 16]));
    let copy = Copy {
        id: id.clone(),
        stamp,
        lineage: Lineage::new(),
        digest: Vec::new(),
        projection: PROJECTION,
        unrepresentable: Attributes::new(),
        without: Vec::new(),
        owner: None,
        receipt: None,
        relay_receipt: None,
        session: None,
        extra: Extra::NONE,
    };
    change(Kind::GONE, id.identifier.clone(), copy)
}

/// Whether an attribute travels also where nothing else of the object does: what the life cycle has come to, and when that was.
fn is_of_state(tag: Tag) -> bool {
    is_lifecycle_attribute(tag) || matches!(tag, tag::INITIAL_DATE | tag::LAST_CHANGE_DATE)
}

/// Leaves out what the relation does without, but for what belongs to the life cycle; returns what was left out.
pub(super) fn leave_out(attributes: &mut Attributes, without: &[Text]) -> Vec<Text> {
    let mut left_out = Vec::new();
    for name in without {
        let reference = AttributeReference::named(name);
        let before = attributes.len();
        attributes.retain(|attribute| {
            attribute.value.reference() != reference || is_of_state(attribute.value.tag())
        });
        if attributes.len() < before {
            left_out.push(name.clone());
        }
    }
    left_out
}
