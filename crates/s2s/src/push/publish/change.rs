//! Changes of an object's attributes at the peer: the operations on single attributes that make what it shows what it should have.

use crate::error::{Error, ErrorKind, Result};
use keyferry_kmip::spec::{AttributeValue as V, ChangeRule, Operation, attribute_row};
use keyferry_kmip::{
    AddAttributeRequest, Attribute, AttributeReference, AttributeReferences, Attributes,
    DeleteAttributeRequest, ModifyAttributeRequest, Payload, RequestItem, SetAttributeRequest,
    Text, UniqueIdentifier, context,
};
use keyferry_ttlv::{Extra, Version};
use sha2::{Digest as _, Sha256};

/// The number of bytes of a mark.
const MARK_BYTES: usize = 8;

/// The mark of an attribute's value: a digest that tells it from others.
fn mark(value: &V) -> [u8; MARK_BYTES] {
    let name = value.reference().to_string();
    let item = value.item();
    let content = item.as_ref().map(|item| item.bytes()).unwrap_or_default();
    let hash = Sha256::new()
        .chain_update(name.as_bytes())
        .chain_update([0])
        .chain_update(content)
        .finalize();
    hash.first_chunk().copied().unwrap_or_default()
}

/// The marks of attribute values, one behind the other. The map keeps those of the values that were sent: other values at the peer are its own.
pub(super) fn marks<'v>(values: impl Iterator<Item = &'v V>) -> Vec<u8> {
    values.flat_map(mark).collect()
}

/// Whether a value is among those of these marks.
pub(super) fn is_marked(marks: &[u8], value: &V) -> bool {
    let mark = mark(value);
    marks.chunks(MARK_BYTES).any(|one| *one == mark)
}

/// Whether a client may modify the attribute at some time (KMIP 2.1 §4).
fn is_writable(value: &V) -> bool {
    match value {
        V::Custom(custom) => custom.vendor != "y",
        value => {
            attribute_row(value.tag()).is_some_and(|row| row.client_modifies != ChangeRule::Never)
        }
    }
}

/// Whether a client may delete the attribute at some time (KMIP 2.1 §4).
fn is_deletable(value: &V) -> bool {
    match value {
        V::Custom(custom) => custom.vendor != "y",
        value => {
            attribute_row(value.tag()).is_some_and(|row| row.client_deletes != ChangeRule::Never)
        }
    }
}

/// The object whose attributes are changed, and the means to do it.
pub(super) struct Target<'a> {
    pub(super) identifier: &'a Text,
    pub(super) version: Version,
    pub(super) operations: &'a [Operation],
}

impl Target<'_> {
    fn id(&self) -> Option<UniqueIdentifier> {
        Some(UniqueIdentifier::Text(self.identifier.clone()))
    }

    /// Whether the version names attributes by tag, as all do since 2.0, and not by name and index.
    fn is_tagged(&self) -> bool {
        self.version >= Version::V2_0
    }

    fn offers(&self, operation: Operation) -> bool {
        self.operations.contains(&operation)
    }

    fn item<P: Payload>(&self, payload: &P) -> Result<Option<RequestItem>> {
        RequestItem::new(payload, context(self.version))
            .map(Some)
            .map_err(Error::encode)
    }

    fn set(&self, value: &V) -> Result<Option<RequestItem>> {
        let attribute = std::iter::once(value.clone()).collect();
        self.item(&SetAttributeRequest {
            unique_identifier: self.id(),
            attribute,
            extra: Extra::NONE,
        })
    }

    fn add(&self, value: &V) -> Result<Option<RequestItem>> {
        if self.offers(Operation::ADD_ATTRIBUTE) {
            let attribute = std::iter::once(value.clone()).collect();
            return self.item(&AddAttributeRequest {
                unique_identifier: self.id(),
                attribute,
                extra: Extra::NONE,
            });
        }
        let settable =
            self.is_tagged() && !value.may_repeat() && self.offers(Operation::SET_ATTRIBUTE);
        if settable { self.set(value) } else { Ok(None) }
    }

    /// Replaces one value by another. In 1.x the old one is named by its index, since 2.0 by itself.
    fn modify(&self, old: &Attribute, value: &V) -> Result<Option<RequestItem>> {
        let repeats = value.may_repeat();
        if self.is_tagged() && !repeats && self.offers(Operation::SET_ATTRIBUTE) {
            return self.set(value);
        }
        if !self.offers(Operation::MODIFY_ATTRIBUTE) {
            return Ok(None);
        }
        let mut attribute = Attributes::new();
        let index = (repeats && !self.is_tagged()).then(|| old.index.unwrap_or(0));
        attribute.keep(Attribute {
            index,
            value: value.clone(),
        });
        let current = if self.is_tagged() && repeats {
            std::iter::once(old.value.clone()).collect()
        } else {
            Attributes::new()
        };
        self.item(&ModifyAttributeRequest {
            unique_identifier: self.id(),
            current,
            attribute,
            extra: Extra::NONE,
        })
    }

    fn delete(&self, old: &Attribute) -> Result<Option<RequestItem>> {
        if !self.offers(Operation::DELETE_ATTRIBUTE) || !is_deletable(&old.value) {
            return Ok(None);
        }
        let repeats = old.value.may_repeat();
        let by_value = self.is_tagged() && repeats;
        self.item(&DeleteAttributeRequest {
            unique_identifier: self.id(),
            current: if by_value {
                std::iter::once(old.value.clone()).collect()
            } else {
                Attributes::new()
            },
            references: AttributeReferences(if by_value {
                Vec::new()
            } else {
                vec![old.value.reference()]
            }),
            attribute_index: (repeats && !self.is_tagged()).then(|| old.index.unwrap_or(0)),
            extra: Extra::NONE,
        })
    }
}

/// Makes the operations that turn what the peer shows into what is wanted, as far as a client may do that and the peer offers it. `sent_marks` are
/// the marks of the values that were sent before; no other value of an attribute that can repeat is deleted or replaced.
pub(super) fn changes(
    target: &Target<'_>,
    wanted: &[V],
    shown: &Attributes,
    sent_marks: &[u8],
) -> Result<Vec<RequestItem>> {
    let mut items = Vec::new();
    for reference in references(wanted, shown, sent_marks) {
        let (theirs, ours) = differences(&reference, wanted, shown, sent_marks);
        let (mut theirs, mut ours) = (theirs.into_iter(), ours.into_iter());
        loop {
            let item = match (theirs.next(), ours.next()) {
                (Some(old), Some(new)) => target.modify(old, new),
                (None, Some(new)) => target.add(new),
                (Some(old), None) => target.delete(old),
                (None, None) => break,
            };
            match item {
                Ok(item) => items.extend(item),
                // A value that the version can't say stays as it is at the peer, and the report names it.
                Err(error) if error.kind() == ErrorKind::Encode => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(items)
}

/// The attributes that a client may write, among those that are wanted and those that were sent before, each once.
fn references(wanted: &[V], shown: &Attributes, sent_marks: &[u8]) -> Vec<AttributeReference> {
    let mut references: Vec<AttributeReference> = Vec::new();
    let sent_before = shown
        .iter()
        .map(|attribute| &attribute.value)
        .filter(|value| is_marked(sent_marks, value));
    for value in wanted
        .iter()
        .chain(sent_before)
        .filter(|value| is_writable(value))
    {
        let reference = value.reference();
        if !references.contains(&reference) {
            references.push(reference);
        }
    }
    references
}

/// The values of one attribute that the peer has too many, and those that it lacks.
fn differences<'a>(
    reference: &'a AttributeReference,
    wanted: &'a [V],
    shown: &'a Attributes,
    sent_marks: &[u8],
) -> (Vec<&'a Attribute>, Vec<&'a V>) {
    let mut theirs: Vec<&Attribute> = shown.of(reference).collect();
    let mut ours: Vec<&V> = wanted
        .iter()
        .filter(|value| value.reference() == *reference)
        .collect();
    ours.retain(
        |value| match theirs.iter().position(|other| other.value == **value) {
            Some(place) => {
                theirs.remove(place);
                false
            }
            None => true,
        },
    );
    let is_single = ours
        .iter()
        .copied()
        .chain(theirs.iter().map(|other| &other.value))
        .any(|value| !value.may_repeat());
    theirs.retain(|other| is_single && !ours.is_empty() || is_marked(sent_marks, &other.value));
    (theirs, ours)
}
