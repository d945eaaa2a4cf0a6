//! What of an object's attributes a message of some version can carry.

use super::Projection;
use super::stored::write_stored;
use crate::attribute::Attributes;
use crate::attribute::custom::UnknownAttribute;
use crate::attribute::reference::AttributeReference;
use crate::downgrade::downgraded;
use crate::spec::attribute::{Attribute, AttributeValue};
use crate::spec::names::context;
use crate::spec::versions::is_tagged;
use crate::spec::{attribute_row, attribute_row_named, tag};
use keyferry_ttlv::{Downgrade, Encode, Loss, Reader, Result, Tag, Version, Writer};
use std::collections::HashMap;

/// The attributes as a client of `version` may see them: those that it has, with their indices, less the fields that it lacks.
pub fn visible_in_version(attributes: &Attributes, version: Version) -> Attributes {
    let mut visible = attributes.clone();
    // Of attributes as such, something always remains: none of them.
    let _ = visible.downgrade_as(Projection::Optional, version, &mut Loss::NONE.clone());
    visible
}

/// Parts the attributes into those that a message of `version` carries unharmed, and the others, whose indices or versions it lacks.
pub fn split_by_version(attributes: &Attributes, version: Version) -> (Attributes, Attributes) {
    let (mut carried, mut rest) = (Attributes::new(), Attributes::new());
    for attribute in attributes {
        let (kept, loss) = downgraded(attribute.value.clone(), version, version);
        let fits = kept.is_some() && loss.is_empty();
        // The index that a receiver gives it when it comes behind the others.
        let next = carried.next_index(&attribute.value);
        if fits && next.unwrap_or(0) == attribute.index.unwrap_or(0) {
            carried.keep(Attribute {
                index: next,
                value: attribute.value.clone(),
            });
        } else {
            rest.keep(attribute.clone());
        }
    }
    (carried, rest)
}

/// An attribute in its stored form, as a loss records it.
struct StoredForm<'a>(&'a AttributeValue);

impl Encode for StoredForm<'_> {
    fn encode(&self, _: Tag, w: &mut Writer) -> Result<()> {
        write_stored(None, self.0, w)
    }
}

impl Attributes {
    /// Leaves behind the attributes of which `keeps` is false, and records them.
    pub(crate) fn leave_behind(
        &mut self,
        loss: &mut Loss,
        mut keeps: impl FnMut(&mut AttributeValue, &mut Loss) -> bool,
    ) {
        self.retain_mut(|attribute| {
            let (tag, whole) = (attribute.value.tag(), attribute.value.clone());
            let kept = loss.within(tag, |loss| keeps(&mut attribute.value, loss));
            if !kept {
                let name = match whole.reference() {
                    AttributeReference::Standard(_) => None,
                    other => Some(other.to_string().into()),
                };
                loss.record_named(tag, name, &StoredForm(&whole));
            }
            kept
        });
    }

    /// Leaves behind what `version` lacks as attributes of a group of this kind.
    pub(crate) fn downgrade_as(
        &mut self,
        how: Projection,
        version: Version,
        loss: &mut Loss,
    ) -> bool {
        let before = self.len();
        match how {
            Projection::Stored => return true,
            Projection::NamedOnly if is_tagged(version) => self.leave_behind(loss, |_, _| false),
            Projection::TaggedOnly(_) if !is_tagged(version) => {
                self.leave_behind(loss, |_, _| false)
            }
            Projection::Criteria => {
                self.leave_behind(loss, |value, loss| {
                    value.is_partial(version) || value.downgrade(version, loss)
                });
            }
            _ => self.leave_behind(loss, |value, loss| value.downgrade(version, loss)),
        }
        let recorded = loss.len();
        if is_tagged(version) {
            self.leave_indices(loss);
        }
        match how {
            // An operation on one attribute makes no sense without it, and with its index is on another instance than without.
            Projection::One(_) => self.len() == before && before == 1 && loss.len() == recorded,
            // Nor without the one that it shall replace.
            Projection::TaggedOnly(_) => self.len() == before,
            _ => true,
        }
    }

    /// Leaves behind the indices, which 2.x lacks: those that tell no more than the order does are no loss.
    pub(crate) fn leave_indices(&mut self, loss: &mut Loss) {
        if self.iter().all(|attribute| attribute.index.is_none()) {
            return;
        }
        let mut next: HashMap<AttributeReference, i32> = HashMap::new();
        for attribute in self.iter_mut() {
            let expected = next.entry(attribute.value.reference()).or_insert(0);
            if let Some(index) = attribute.index.take().filter(|index| index != expected) {
                let _ = loss.within(attribute.value.tag(), |loss| {
                    loss.record(tag::ATTRIBUTE_INDEX, &index);
                    true
                });
            }
            *expected = expected.saturating_add(1);
        }
    }
}

impl AttributeValue {
    /// Whether `version` has this attribute, whatever its value.
    pub(crate) fn exists(&self, version: Version) -> bool {
        match self {
            AttributeValue::Custom(custom) => is_tagged(version) || custom.named().is_some(),
            // It came without its name, by which alone 1.x tells what it is.
            AttributeValue::Unknown(unknown) if unknown.tag() == tag::ATTRIBUTE_VALUE => {
                !is_tagged(version)
            }
            AttributeValue::Unknown(UnknownAttribute {
                name: None,
                value: None,
            }) => false,
            // One that the version does know would be misread there.
            AttributeValue::Unknown(UnknownAttribute { name: None, .. }) => {
                is_tagged(version)
                    && attribute_row(self.tag()).is_none_or(|row| !row.versions.contain(version))
            }
            AttributeValue::Unknown(UnknownAttribute {
                name: Some(name), ..
            }) => {
                let row = attribute_row_named(name);
                !is_tagged(version) && row.is_none_or(|row| !row.versions.contain(version))
            }
            value => value.row().is_some_and(|row| row.versions.contain(version)),
        }
    }
}

impl AttributeValue {
    /// Whether it is a criterion that lacks fields, of an attribute that `version` has, and in the form of that version.
    fn is_partial(&self, version: Version) -> bool {
        let AttributeValue::Unknown(UnknownAttribute {
            name,
            value: Some(raw),
        }) = self
        else {
            return false;
        };
        let row = match name {
            Some(name) if !is_tagged(version) => attribute_row_named(name),
            None if is_tagged(version) => attribute_row(raw.tag()),
            _ => None,
        };
        let r = Reader::new(raw.bytes(), context(version));
        let is_whole = |row| {
            raw.item().and_then(|item| {
                AttributeValue::read_standard(row, None, item, &r, &mut Vec::new())
            })
        };
        row.is_some_and(|row| row.versions.contain(version) && is_whole(row).is_err())
    }
}

impl Downgrade for AttributeValue {
    fn downgrade(&mut self, version: Version, loss: &mut Loss) -> bool {
        self.exists(version) && self.downgrade_value(version, loss)
    }
}

impl Downgrade for Attributes {
    fn downgrade(&mut self, version: Version, loss: &mut Loss) -> bool {
        self.downgrade_as(Projection::Optional, version, loss)
    }
}
