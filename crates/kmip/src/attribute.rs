//! The attributes of an object, in both projections: named (1.x) and tagged (2.x).

use crate::failure::{Cause, Failure};
use crate::spec::names::context;
use crate::spec::*;
use keyferry_ttlv::DateTime;
use keyferry_ttlv::{Item, Raw, Reader, Tag, Value, Version};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

pub(crate) mod custom;
pub(crate) mod reference;
pub(crate) mod structure;

pub use crate::spec::attribute::Attribute;
pub use custom::{CustomAttribute, UnknownAttribute};
pub use reference::{AttributeReference, AttributeReferences};
pub use structure::*;

/// The attributes of an object, in the order in which they were added.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Vec<Attribute>);

impl AttributeValue {
    /// Whether `other` is an instance of the same attribute, whatever the values.
    pub fn is_same_attribute(&self, other: &AttributeValue) -> bool {
        match (self, other) {
            (AttributeValue::Custom(a), AttributeValue::Custom(b)) => {
                a.vendor == b.vendor && a.name == b.name
            }
            (AttributeValue::Unknown(a), AttributeValue::Unknown(b)) => {
                a.name == b.name && self.tag() == other.tag()
            }
            (AttributeValue::Custom(_) | AttributeValue::Unknown(_), _)
            | (_, AttributeValue::Custom(_) | AttributeValue::Unknown(_)) => false,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }

    /// The reference that names this attribute.
    pub fn reference(&self) -> AttributeReference {
        match self {
            AttributeValue::Custom(custom) => AttributeReference::Custom {
                vendor: custom.vendor.clone(),
                name: custom.name.clone(),
            },
            AttributeValue::Unknown(UnknownAttribute {
                name: Some(name), ..
            }) => AttributeReference::Unknown(name.clone()),
            other => AttributeReference::Standard(other.tag()),
        }
    }

    /// Whether an object may have several instances of it.
    pub fn may_repeat(&self) -> bool {
        self.row().is_none_or(|row| row.multiple)
    }

    /// The item of the value in the form of 2.1: under its own tag, or under Attribute Value for a custom attribute. `None` where it has no form.
    pub fn item(&self) -> Option<Raw> {
        let tag = if self.row().is_some() {
            self.tag()
        } else {
            tag::ATTRIBUTE_VALUE
        };
        Raw::of(tag, &Bare(self), context(Version::V2_1)).ok()
    }

    /// The bare value, whatever its attribute.
    pub fn bare(&self) -> Option<Value> {
        self.item()?.read(context(Version::V2_1)).ok()
    }

    /// The standard's attribute under `tag` with this bare value, where it is of its type.
    pub fn of_bare(tag: Tag, value: &Value) -> Option<AttributeValue> {
        let raw = Raw::of(tag, value, context(Version::V2_1)).ok()?;
        let r = Reader::new(raw.bytes(), context(Version::V2_1));
        let mut read = Vec::new();
        AttributeValue::read_standard(attribute_row(tag)?, None, raw.item().ok()?, &r, &mut read)
            .ok()?;
        read.pop().map(|attribute| attribute.value)
    }

    /// The date, where it is one.
    pub fn date(&self) -> Option<DateTime> {
        use AttributeValue as V;
        match self {
            V::ActivationDate(date)
            | V::ArchiveDate(date)
            | V::CompromiseDate(date)
            | V::CompromiseOccurrenceDate(date)
            | V::DeactivationDate(date)
            | V::DestroyDate(date)
            | V::InitialDate(date)
            | V::LastChangeDate(date)
            | V::OriginalCreationDate(date)
            | V::ProcessStartDate(date)
            | V::ProtectStopDate(date)
            | V::RotateDate(date) => Some(*date),
            _ => None,
        }
    }
}

/// An attribute's value under its own tag.
struct Bare<'a>(&'a AttributeValue);

impl keyferry_ttlv::Encode for Bare<'_> {
    fn encode(&self, tag: Tag, w: &mut keyferry_ttlv::Writer) -> keyferry_ttlv::Result<()> {
        self.0.encode_value(tag, w)
    }
}

impl Attributes {
    /// No attributes.
    pub fn new() -> Self {
        Attributes(Vec::new())
    }

    /// The instances.
    pub fn iter(&self) -> std::slice::Iter<'_, Attribute> {
        self.0.iter()
    }

    /// The number of instances.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values under a standard attribute's tag.
    pub fn all(&self, tag: Tag) -> impl Iterator<Item = &AttributeValue> {
        self.0
            .iter()
            .map(|a| &a.value)
            .filter(move |value| value.tag() == tag)
    }

    /// The first value under a standard attribute's tag.
    pub fn get(&self, tag: Tag) -> Option<&AttributeValue> {
        self.all(tag).next()
    }

    /// Whether an instance of the attribute is there.
    pub fn has(&self, reference: &AttributeReference) -> bool {
        self.of(reference).next().is_some()
    }

    /// The instances of the attribute.
    pub fn of<'s>(
        &'s self,
        reference: &'s AttributeReference,
    ) -> impl Iterator<Item = &'s Attribute> {
        self.0.iter().filter(|a| a.value.reference() == *reference)
    }

    /// A date by its tag.
    pub fn date(&self, tag: Tag) -> Option<DateTime> {
        self.get(tag).and_then(AttributeValue::date)
    }

    /// The State.
    pub fn state(&self) -> Option<State> {
        self.0.iter().find_map(|a| match a.value {
            AttributeValue::State(state) => Some(state),
            _ => None,
        })
    }

    /// The Names.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.0.iter().filter_map(|a| match &a.value {
            AttributeValue::Name(name) => Some(name),
            _ => None,
        })
    }

    pub(crate) fn reserve(&mut self, more: usize) {
        self.0.reserve(more);
    }

    /// Makes room for one more instance and for those that mostly come with it: eight first, then thirty-two.
    pub(crate) fn make_room(&mut self) {
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact((3 * self.0.len()).max(8));
        }
    }

    /// Reads a standard attribute's value and adds it.
    pub(crate) fn read<'a>(
        &mut self,
        row: &AttributeRow,
        index: Option<i32>,
        item: Item<'a>,
        r: &Reader<'a>,
    ) -> keyferry_ttlv::Result<()> {
        AttributeValue::read_standard(row, index, item, r, &mut self.0)
    }

    /// Gives an index to each instance that has none, of attributes that may repeat: the next after those before it. A server numbers so what
    /// a client sends without indices (KMIP 1.4 §2.1.1).
    pub fn number(&mut self) {
        let mut last: HashMap<AttributeReference, i32> = HashMap::new();
        for attribute in self
            .0
            .iter_mut()
            .filter(|attribute| attribute.value.may_repeat())
        {
            match last.entry(attribute.value.reference()) {
                Entry::Vacant(first) => drop(first.insert(attribute.index.unwrap_or(0))),
                Entry::Occupied(mut last) => {
                    let index = *attribute.index.get_or_insert(last.get().saturating_add(1));
                    last.insert(index.max(*last.get()));
                }
            }
        }
    }

    /// The number of instances that an object may have at a keyferry server. It keeps checks of each instance against each other quick.
    pub const MOST: usize = 4096;

    /// Refuses more than [`MOST`](Attributes::MOST).
    ///
    /// # Errors
    /// A limit of the server.
    pub fn check_count(&self) -> Result<(), Failure> {
        if self.len() > Self::MOST {
            return Err(Failure::new(
                Cause::ServerLimit,
                format_args!("an object has {} attributes at the most", Self::MOST),
            ));
        }
        Ok(())
    }

    /// Refuses an index that is negative, and two instances of one index.
    ///
    /// # Errors
    /// An invalid field.
    pub fn check_indices(&self) -> Result<(), Failure> {
        let mut seen = HashSet::with_capacity(self.len());
        for attribute in &self.0 {
            let (index, reference) = (attribute.index.unwrap_or(0), attribute.value.reference());
            if index < 0 {
                return Err(Failure::new(
                    Cause::InvalidField,
                    format_args!("the index {index} of {reference} is negative"),
                ));
            }
            if seen.contains(&(reference.clone(), index)) {
                let why = format_args!("{reference} has two instances of index {index}");
                return Err(Failure::new(Cause::InvalidField, why));
            }
            seen.insert((reference, index));
        }
        Ok(())
    }

    /// Adds an instance, giving it the next index of its attribute when it may repeat and brings none.
    pub fn push(&mut self, attribute: impl Into<Attribute>) {
        let mut attribute = attribute.into();
        if attribute.index.is_none() {
            attribute.index = self.next_index(&attribute.value);
        }
        self.0.push(attribute);
    }

    /// The index that one more instance gets: none for the first, and for an attribute that does not repeat.
    pub(crate) fn next_index(&self, value: &AttributeValue) -> Option<i32> {
        if value.may_repeat() {
            next_index(&self.0, value)
        } else {
            None
        }
    }

    /// Adds an instance unchanged, with the index that it has.
    pub fn keep(&mut self, attribute: Attribute) {
        self.0.push(attribute);
    }

    /// Adds a value and returns the attributes, so that several can be written in one expression.
    #[must_use]
    pub fn with(mut self, value: AttributeValue) -> Self {
        self.push(value);
        self
    }

    /// Sets the single instance of an attribute.
    pub fn set(&mut self, value: AttributeValue) {
        match self
            .0
            .iter_mut()
            .find(|a| a.value.is_same_attribute(&value))
        {
            Some(attribute) => attribute.value = value,
            None => self.push(value),
        }
    }

    /// Sets the single instance of an attribute unless it is there.
    pub fn set_default(&mut self, value: AttributeValue) {
        if !self.0.iter().any(|a| a.value.is_same_attribute(&value)) {
            self.push(value);
        }
    }

    pub(crate) fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    /// Keeps the instances that `keep` wants.
    pub fn retain(&mut self, keep: impl FnMut(&Attribute) -> bool) {
        self.0.retain(keep);
    }

    /// Keeps the instances that `keep` wants, which may change them.
    pub(crate) fn retain_mut(&mut self, keep: impl FnMut(&mut Attribute) -> bool) {
        self.0.retain_mut(keep);
    }

    /// Removes every instance under a tag.
    pub fn remove(&mut self, tag: Tag) {
        self.0.retain(|a| a.value.tag() != tag);
    }

    /// The instances, to change them.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Attribute> {
        self.0.iter_mut()
    }
}

fn next_index(others: &[Attribute], value: &AttributeValue) -> Option<i32> {
    let same_kind =
        |a: &&Attribute| std::mem::discriminant(&a.value) == std::mem::discriminant(value);
    let same = others
        .iter()
        .filter(same_kind)
        .filter(|a| a.value.is_same_attribute(value));
    same.map(|a| a.index.unwrap_or(0))
        .max()
        .map(|last| last.saturating_add(1))
}

impl IntoIterator for Attributes {
    type Item = Attribute;
    type IntoIter = std::vec::IntoIter<Attribute>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<Attribute> for Attributes {
    fn from_iter<I: IntoIterator<Item = Attribute>>(iter: I) -> Self {
        let mut attributes = Attributes::new();
        for attribute in iter {
            attributes.push(attribute);
        }
        attributes
    }
}

impl FromIterator<AttributeValue> for Attributes {
    fn from_iter<I: IntoIterator<Item = AttributeValue>>(iter: I) -> Self {
        iter.into_iter().map(Attribute::from).collect()
    }
}

impl<'a> IntoIterator for &'a Attributes {
    type Item = &'a Attribute;
    type IntoIter = std::slice::Iter<'a, Attribute>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
