//! What another version lacks, of the types that the derive does not know (KMIP 1.0 to 2.1).

use crate::projection::{is_tagged, write_stored};
use crate::spec::{
    AsynchronousIndicator, AttributeValue, Operation, attribute_row, attribute_row_named, tag,
};
use crate::{
    AsynchronousMode, AttributeReference, AttributeReferences, Attributes, BigInteger, Data,
    DeletedAttributes, ExtensionType, KeyMaterial, KeyValue, Password, Projection, RequestMessage,
    ResponseMessage, Secret, SecretInteger, TemplateAttribute, TemplateTags, TicketLifetime,
    UniqueIdentifier, UnknownAttribute, context,
};
use keyferry_ttlv::{Downgrade, Encode, Loss, Reader, Result, Tag, Version, Writer};
use std::collections::HashMap;

/// The value of version `from` as the version `to` can say it, nothing if it can't say it at all, and what was left behind. Works towards
/// later versions as well, which lack some of what the earlier ones had.
///
/// A message says itself which version it is of. Of anything else the caller says it, since the same fields may mean something else: an
/// Attribute Reference to delete is one instance in 1.x and all of them in 2.x.
///
/// ```
/// use keyferry_kmip::{*, spec::*};
/// use keyferry_ttlv::Version;
///
/// let attributes = Attributes::new().with(AttributeValue::Comment("hot".into())).with(AttributeValue::State(State::ACTIVE));
/// let (kept, loss) = downgraded(attributes, Version::V2_1, Version::V1_3);
/// assert_eq!(kept, Some(Attributes::new().with(AttributeValue::State(State::ACTIVE))));
/// assert_eq!(described(&loss), ["Comment"]);
/// ```
pub fn downgraded<T: Downgrade>(mut value: T, from: Version, to: Version) -> (Option<T>, Loss) {
    let mut loss = Loss::of_version(from);
    let kept = value.downgrade(to, &mut loss);
    (kept.then_some(value), loss)
}

/// What was left behind, each by its names: `Request Payload > x-Colour`.
pub fn described(loss: &Loss) -> Vec<String> {
    let name = |tag: &Tag| {
        crate::spec::tag_row(*tag).map_or_else(|| tag.to_string(), |row| row.name.to_owned())
    };
    let describe = |lost: &keyferry_ttlv::Lost| {
        let mut path: Vec<String> = lost.path.iter().map(name).collect();
        if let (Some(named), Some(last)) = (&lost.name, path.last_mut()) {
            *last = named.to_string();
        }
        path.join(" > ")
    };
    loss.iter().map(describe).collect()
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

/// An attribute as a loss tells it.
struct Told<'a>(&'a AttributeValue);

impl Encode for Told<'_> {
    fn encode(&self, _: Tag, w: &mut Writer) -> Result<()> {
        write_stored(None, self.0, w)
    }
}

impl Attributes {
    fn leave_behind(
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
                loss.record_named(tag, name, &Told(&whole));
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
        let told = loss.len();
        if is_tagged(version) {
            self.leave_indices(loss);
        }
        match how {
            // An operation on one attribute makes no sense without it, and with its index is on another instance than without.
            Projection::One(_) => self.len() == before && before == 1 && loss.len() == told,
            // Nor without the one that it shall replace.
            Projection::TaggedOnly(_) => self.len() == before,
            _ => true,
        }
    }

    /// Leaves behind the indices, which 2.x lacks: those that tell no more than the order does are no loss.
    fn leave_indices(&mut self, loss: &mut Loss) {
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

impl Downgrade for Attributes {
    fn downgrade(&mut self, version: Version, loss: &mut Loss) -> bool {
        self.downgrade_as(Projection::Optional, version, loss)
    }
}

impl AttributeReference {
    fn exists(&self, version: Version) -> bool {
        match self {
            AttributeReference::Standard(tag) => match attribute_row(*tag) {
                Some(row) => row.versions.contain(version),
                None => is_tagged(version),
            },
            AttributeReference::Custom { vendor, .. } => {
                is_tagged(version) || matches!(vendor.as_str(), "x" | "y")
            }
            AttributeReference::Unknown(_) => !is_tagged(version),
        }
    }

    /// Whether an object may have several instances of it.
    pub fn may_repeat(&self) -> bool {
        match self {
            AttributeReference::Standard(tag) => attribute_row(*tag).is_none_or(|row| row.multiple),
            _ => true,
        }
    }

    fn told(&self, loss: &mut Loss) {
        loss.record_named(
            tag::ATTRIBUTE_REFERENCE,
            Some(self.to_string().into()),
            &self.to_string(),
        );
    }
}

impl AttributeReferences {
    pub(crate) fn downgrade_all(&mut self, version: Version, loss: &mut Loss) {
        self.0.retain(|reference| {
            let kept = reference.exists(version);
            if !kept {
                reference.told(loss);
            }
            kept
        });
    }
}

impl DeletedAttributes {
    pub(crate) fn downgrade_all(&mut self, version: Version, loss: &mut Loss) {
        let crosses = loss
            .from()
            .is_some_and(|from| is_tagged(from) != is_tagged(version));
        self.0.retain_mut(|deleted| {
            // One instance of several can't be told in 2.x, nor in 1.x all of them.
            let one = !deleted.reference.may_repeat() && deleted.index.unwrap_or(0) == 0;
            let sayable = if crosses {
                one
            } else {
                !is_tagged(version) || deleted.index.is_none()
            };
            let kept = deleted.reference.exists(version) && sayable;
            if kept && is_tagged(version) {
                deleted.index = None;
            } else if !kept {
                deleted.reference.told(loss);
            }
            kept
        });
    }
}

/// A structure without anything in it.
struct Empty;

impl Encode for Empty {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        w.structure(tag, |_| Ok(()))
    }
}

impl TemplateAttribute {
    pub(crate) fn downgrade_as(
        &mut self,
        tags: TemplateTags,
        version: Version,
        loss: &mut Loss,
    ) -> bool {
        let there = tags.of(version).is_some();
        if !there && self.names.is_empty() && self.attributes.is_empty() {
            loss.record(tags.named, &Empty);
        }
        let names = self.names.len();
        let _ = loss.repeated(
            &mut self.names,
            tag::NAME,
            !is_tagged(version),
            false,
            version,
        ); // what they are to whom, is judged here
        self.attributes
            .leave_behind(loss, |value, loss| there && value.downgrade(version, loss));
        if is_tagged(version) {
            self.attributes.leave_indices(loss);
        }
        // Without its templates an object would be made with other attributes than were asked for.
        there && self.names.len() == names
    }
}

/// Prohibited is false, Optional true; a Mandatory one has no form in 1.x (KMIP 2.1 §9.2, 1.4 §6.7).
impl Downgrade for AsynchronousMode {
    fn downgrade(&mut self, version: Version, _: &mut Loss) -> bool {
        use AsynchronousIndicator as I;
        use AsynchronousMode as M;
        *self = match *self {
            M::Boolean(wanted) if is_tagged(version) => {
                M::Indicator(if wanted { I::OPTIONAL } else { I::PROHIBITED })
            }
            M::Indicator(I::OPTIONAL) if !is_tagged(version) => M::Boolean(true),
            M::Indicator(I::PROHIBITED) if !is_tagged(version) => M::Boolean(false),
            M::Indicator(_) if !is_tagged(version) => return false,
            same => same,
        };
        true
    }
}

/// Without its identifier an operation is on the object of the one before.
impl Downgrade for UniqueIdentifier {
    const VITAL: bool = true;

    fn downgrade(&mut self, version: Version, _: &mut Loss) -> bool {
        is_tagged(version) || matches!(self, UniqueIdentifier::Text(_))
    }
}

impl Downgrade for Data {
    const VITAL: bool = true;

    fn downgrade(&mut self, version: Version, _: &mut Loss) -> bool {
        is_tagged(version) || matches!(self, Data::Bytes(_))
    }
}

impl Downgrade for KeyValue {
    fn downgrade(&mut self, version: Version, loss: &mut Loss) -> bool {
        match self {
            KeyValue::Plain(plain) => plain.downgrade(version, loss),
            KeyValue::Wrapped(_) => true,
        }
    }
}

macro_rules! everywhere {
    ($($ty:ty),*) => {$(
        /// Every version has it.
        impl Downgrade for $ty {
            fn downgrade(&mut self, _: Version, _: &mut Loss) -> bool {
                true
            }
        }
    )*};
}

everywhere!(
    BigInteger,
    ExtensionType,
    KeyMaterial,
    Password,
    Secret,
    SecretInteger,
    TicketLifetime
);

/// Leaves behind the batch items that `version` lacks; false when that was vital.
macro_rules! leave_items {
    ($message:ident, $version:ident, $loss:ident) => {{
        let before = $message.batch.len();
        // Without its operation a payload would be taken for anything.
        $message.batch.retain(|item| {
            let operation: Option<Operation> = item.operation.into();
            let lacks =
                operation.is_some_and(|operation| !Operation::DOMAIN.has(operation.0, $version));
            if lacks {
                $loss.record(tag::BATCH_ITEM, item);
            }
            !lacks
        });
        let all = $loss.repeated(&mut $message.batch, tag::BATCH_ITEM, true, false, $version);
        if $message.batch.len() != before {
            $message.header.batch_count = i32::try_from($message.batch.len()).unwrap_or(i32::MAX);
        }
        all
    }};
}

/// The request in the other version; none of it when an item can't be said, since the ones behind it may build on what it does.
impl<P: Downgrade + Encode> Downgrade for RequestMessage<P> {
    fn downgrade(&mut self, version: Version, loss: &mut Loss) -> bool {
        let before = self.batch.len();
        if let Ok(from) = self.version() {
            loss.set_from(from);
        }
        // Whether the order counts is assumed otherwise in 2.x (KMIP 2.1 §9.8: True) than in 1.x (1.4 §6.12: False), so it is said.
        let ordered = self.version().is_ok_and(is_tagged);
        if before > 1 && ordered != is_tagged(version) {
            self.header.batch_order_option.get_or_insert(ordered);
        }
        self.header.protocol_version = version.into();
        let kept = loss.required(&mut self.header, tag::REQUEST_HEADER, version);
        let all = leave_items!(self, version, loss);
        kept && all && self.batch.len() == before
    }
}

/// The response in the other version, less the items whose operations that version lacks.
impl<P: Downgrade + Encode> Downgrade for ResponseMessage<P> {
    fn downgrade(&mut self, version: Version, loss: &mut Loss) -> bool {
        let before = self.batch.len();
        if let Ok(from) = self.version() {
            loss.set_from(from);
        }
        self.header.protocol_version = version.into();
        let kept = loss.required(&mut self.header, tag::RESPONSE_HEADER, version);
        let all = leave_items!(self, version, loss);
        kept && all && (before == 0 || !self.batch.is_empty())
    }
}
