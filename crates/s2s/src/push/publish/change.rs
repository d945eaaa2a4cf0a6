//! What separates the attributes that a peer shows from those that it should have, as operations on single attributes.

use crate::error::{Error, ErrorKind, Result};
use keyferry_kmip::spec::{AttributeValue as V, ChangeRule, Operation, attribute_row};
use keyferry_kmip::{
    AddAttributeRequest, Attribute, AttributeReference, AttributeReferences, Attributes,
    DeleteAttributeRequest, ModifyAttributeRequest, Payload, RequestItem, SetAttributeRequest,
    Text, UniqueIdentifier, context,
};
use keyferry_ttlv::{Extra, Version};
use sha2::{Digest as _, Sha256};

/// Bytes by which a value is known again.
const MARK: usize = 8;

/// Tells a value of an attribute from others.
fn mark(value: &V) -> [u8; MARK] {
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

/// The marks of what a peer was told, to be remembered: what it shows besides is its own.
pub(super) fn marks<'v>(values: impl Iterator<Item = &'v V>) -> Vec<u8> {
    values.flat_map(mark).collect()
}

pub(super) fn is_marked(marks: &[u8], value: &V) -> bool {
    let mark = mark(value);
    marks.chunks(MARK).any(|one| *one == mark)
}

/// Whether a client may write it, at some time (KMIP 2.1 §4): what a server sets is never written.
fn is_writable(value: &V) -> bool {
    match value {
        V::Custom(custom) => custom.vendor != "y",
        value => {
            attribute_row(value.tag()).is_some_and(|row| row.client_modifies != ChangeRule::Never)
        }
    }
}

fn is_deletable(value: &V) -> bool {
    match value {
        V::Custom(custom) => custom.vendor != "y",
        value => {
            attribute_row(value.tag()).is_some_and(|row| row.client_deletes != ChangeRule::Never)
        }
    }
}

/// To which object, and by what.
pub(super) struct Target<'a> {
    pub(super) identifier: &'a Text,
    pub(super) version: Version,
    pub(super) operations: &'a [Operation],
}

impl Target<'_> {
    fn id(&self) -> Option<UniqueIdentifier> {
        Some(UniqueIdentifier::Text(self.identifier.clone()))
    }

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

    /// In 1.x an instance is named by its index, since 2.0 by its value.
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

/// The operations that make what the peer shows what is wanted, as far as a client may and the peer offers them. `said` marks what the peer
/// was told before; no other value is deleted there or taken for an earlier one of ours.
pub(super) fn changes(
    target: &Target<'_>,
    wanted: &[V],
    shown: &Attributes,
    said: &[u8],
) -> Result<Vec<RequestItem>> {
    let mut references: Vec<AttributeReference> = Vec::new();
    let named = wanted.iter().chain(
        shown
            .iter()
            .map(|attribute| &attribute.value)
            .filter(|value| is_marked(said, value)),
    );
    for value in named.filter(|value| is_writable(value)) {
        let reference = value.reference();
        if !references.contains(&reference) {
            references.push(reference);
        }
    }
    let mut items = Vec::new();
    for reference in &references {
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
        theirs.retain(|other| is_single && !ours.is_empty() || is_marked(said, &other.value));
        let (mut ours, mut theirs) = (ours.into_iter(), theirs.into_iter());
        loop {
            let item = match (theirs.next(), ours.next()) {
                (Some(old), Some(new)) => target.modify(old, new),
                (None, Some(new)) => target.add(new),
                (Some(old), None) => target.delete(old),
                (None, None) => break,
            };
            match item {
                Ok(item) => items.extend(item),
                // What the version can't say stays as it is there, and is named.
                Err(error) if error.kind() == ErrorKind::Encode => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(items)
}
