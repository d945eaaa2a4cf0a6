//! The ways in which attributes are written: by name (1.x), by tag (2.x), and as a store keeps them.

use crate::attribute::Attributes;
use crate::attribute::custom::UnknownAttribute;
use crate::spec::attribute::{Attribute, AttributeValue};
use crate::spec::tag;
use crate::spec::versions::is_tagged;
use keyferry_ttlv::{
    ErrorKind, Group, Item, Loss, Raw, Reader, Result, Tag, Type, Version, Writer,
};

pub(crate) mod named;
pub(crate) mod stored;
mod tagged;
mod version;

pub use stored::stored_form;
pub use version::{split_by_version, visible_in_version};

use named::{is_valueless, read_named, write_named};
use stored::{read_stored, write_stored};
use tagged::{read_tagged, write_tagged};

const ONE: &str = "it holds one attribute";

/// The way in which a field that holds attributes is written in a message.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projection {
    /// 1.x: Attribute, repeated. 2.x: Attributes, also when empty.
    Required,
    /// As [`Required`](Projection::Required), for the criteria of a search. A structure among them may lack fields; it is then kept as it came,
    /// as an [`Unknown`](AttributeValue::Unknown) attribute of a known name or tag (KMIP 2.1 §6.1.28).
    Criteria,
    /// 1.x: Attribute, repeated. 2.x: Attributes, unless empty.
    Optional,
    /// As [`Optional`](Projection::Optional), but without the 1.x Attributes that have no value: these name deleted ones (KMIP 1.4 §5.1).
    Changed,
    /// 1.x: Attribute, once. 2.x: a structure of this tag that holds one value.
    One(#[cfg_attr(feature = "serde", serde(with = "crate::spec::tag_form"))] Tag),
    /// 1.x: Attribute, once. 2.x: nothing.
    NamedOnly,
    /// In every version a structure Attributes with all of them, indices included. The store and the vendor extension keep them so.
    Stored,
    /// 1.x: nothing. 2.x: a structure of this tag that holds one value.
    TaggedOnly(#[cfg_attr(feature = "serde", serde(with = "crate::spec::tag_form"))] Tag),
}

impl Group for Attributes {
    type How = Projection;

    fn accepts(how: Projection, item: Item<'_>, r: &Reader<'_>) -> bool {
        let found = item.tag();
        if how == Projection::Stored {
            return found == tag::ATTRIBUTES;
        }
        if is_tagged(r.version()) {
            match how {
                Projection::Required
                | Projection::Criteria
                | Projection::Optional
                | Projection::Changed => found == tag::ATTRIBUTES,
                Projection::One(tag) | Projection::TaggedOnly(tag) => found == tag,
                Projection::NamedOnly | Projection::Stored => false,
            }
        } else {
            match how {
                Projection::Required
                | Projection::Criteria
                | Projection::Optional
                | Projection::One(_)
                | Projection::NamedOnly => found == tag::ATTRIBUTE,
                Projection::Changed => found == tag::ATTRIBUTE && !is_valueless(item, r),
                Projection::TaggedOnly(_) | Projection::Stored => false,
            }
        }
    }

    fn absorb<'a>(
        &mut self,
        how: Projection,
        before: usize,
        item: Item<'a>,
        r: &Reader<'a>,
    ) -> Result<()> {
        let tagged = is_tagged(r.version());
        let single = matches!(
            how,
            Projection::One(_) | Projection::TaggedOnly(_) | Projection::NamedOnly
        );
        let structure = tagged || how == Projection::Stored;
        if before > 0 && (single || structure) {
            return Err(r.error(item, ErrorKind::Repeated(item.tag())));
        }
        if how == Projection::Stored {
            return read_stored(self, item, r).map_err(|e| e.within(item.tag()));
        }
        if !structure {
            self.make_room();
            let read = |this: &mut Self| read_named(this, item, r);
            return if how == Projection::Criteria {
                self.or_partial(item, r, read)
            } else {
                read(self)
            }
            .map_err(|e| e.within(item.tag()));
        }
        self.read_all(item, r, how == Projection::Criteria)
            .map_err(|e| e.within(item.tag()))?;
        if single && self.len() != 1 {
            return Err(r.error(item, ErrorKind::Value(ONE)));
        }
        Ok(())
    }

    fn finish<'a>(
        &self,
        how: Projection,
        taken: usize,
        structure: Item<'a>,
        r: &Reader<'a>,
    ) -> Result<()> {
        match how {
            Projection::One(tag) if taken == 0 => Err(r.missing(
                structure,
                if is_tagged(r.version()) {
                    tag
                } else {
                    tag::ATTRIBUTE
                },
            )),
            _ => Ok(()),
        }
    }

    fn downgrade(&mut self, how: Projection, version: Version, loss: &mut Loss) -> bool {
        self.downgrade_as(how, version, loss)
    }

    fn write(&self, how: Projection, w: &mut Writer) -> Result<()> {
        let tagged = is_tagged(w.version());
        if let (Projection::One(field) | Projection::TaggedOnly(field), 2..) = (how, self.len()) {
            return Err(w.error(
                if tagged { field } else { tag::ATTRIBUTE },
                ErrorKind::Value(ONE),
            ));
        }
        match how {
            Projection::Stored => w.structure(tag::ATTRIBUTES, |w| {
                self.iter()
                    .try_for_each(|a| write_stored(a.index, &a.value, w))
            }),
            Projection::NamedOnly if tagged => self
                .iter()
                .try_for_each(|a| w.require(a.value.tag(), Version::V1_0, Some(Version::V1_4))),
            Projection::TaggedOnly(_) if !tagged => self
                .iter()
                .try_for_each(|a| w.require(a.value.tag(), Version::V2_0, None)),
            Projection::Optional | Projection::Changed | Projection::TaggedOnly(_)
                if self.is_empty() =>
            {
                Ok(())
            }
            Projection::One(field) if self.is_empty() => {
                let field = if tagged { field } else { tag::ATTRIBUTE };
                Err(w.error(field, ErrorKind::Missing(field)))
            }
            _ if !tagged => write_all(self, w),
            Projection::One(tag) | Projection::TaggedOnly(tag) => {
                w.structure(tag, |w| write_all(self, w))
            }
            _ => w.structure(tag::ATTRIBUTES, |w| write_all(self, w)),
        }
    }
}

impl Attributes {
    /// Reads a structure of attributes, by name or by tag.
    fn read_all<'a>(&mut self, structure: Item<'a>, r: &Reader<'a>, criteria: bool) -> Result<()> {
        self.make_room_for(structure);
        let mut children = r.enter(structure)?;
        while let Some(child) = children.step() {
            if criteria {
                self.or_partial(child, r, |this| within(this, child, r))?;
            } else {
                within(self, child, r)?;
            }
        }
        r.leave(children)
    }

    /// Reads a criterion, or keeps it as it came when it is a structure that lacks fields.
    fn or_partial<'a>(
        &mut self,
        item: Item<'a>,
        r: &Reader<'a>,
        read: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let before = self.len();
        let error = match r.attempt(|| read(self)) {
            Err(error) if matches!(error.kind(), ErrorKind::Missing(_)) => error,
            read => return read,
        };
        self.truncate(before);
        match read_partial(item, r)? {
            Some(unknown) => self.keep(Attribute {
                index: None,
                value: AttributeValue::Unknown(unknown),
            }),
            None => return Err(error),
        }
        Ok(())
    }

    /// Room for what a structure holds: by name an attribute takes at least 40 bytes in a message; by tag less, and then room for some is
    /// room enough to begin with.
    pub(crate) fn make_room_for(&mut self, structure: Item<'_>) {
        self.reserve(structure.value().len() / 40);
    }
}

/// A criterion as it came: by name (1.x) or by tag (2.x), where its value is a structure.
fn read_partial<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Option<UnknownAttribute>> {
    if is_tagged(r.version()) {
        let structure = item.ty() == Type::Structure && item.tag() != tag::ATTRIBUTE;
        return if structure {
            Ok(Some(UnknownAttribute {
                name: None,
                value: Some(r.child(item)?),
            }))
        } else {
            Ok(None)
        };
    }
    let (mut name, mut value) = (None, None);
    let mut children = r.children(item)?;
    while let Some(child) = children.next(r)? {
        match child.tag() {
            tag::ATTRIBUTE_NAME => name = Some(child.text(r)?.into()),
            tag::ATTRIBUTE_VALUE if child.ty() == Type::Structure => {
                value = Some(r.child::<Raw>(child)?)
            }
            _ => {}
        }
    }
    Ok(match (name, value) {
        (Some(name), Some(value)) => Some(UnknownAttribute {
            name: Some(name),
            value: Some(value),
        }),
        _ => None,
    })
}

/// Reads one attribute within a structure of attributes, by name or by tag.
pub(crate) fn within<'a>(into: &mut Attributes, item: Item<'a>, r: &Reader<'a>) -> Result<()> {
    if is_tagged(r.version()) {
        return read_tagged(into, item, r);
    }
    if item.tag() != tag::ATTRIBUTE {
        return Err(r.unexpected(item));
    }
    read_named(into, item, r).map_err(|e| e.within(item.tag()))
}

/// Writes all attributes, one after the other, in the form of the writer's version.
pub(crate) fn write_all(attributes: &Attributes, w: &mut Writer) -> Result<()> {
    if is_tagged(w.version()) {
        attributes
            .iter()
            .try_for_each(|a| write_tagged(&a.value, w))
    } else {
        attributes.iter().try_for_each(|a| write_named(a, w))
    }
}
