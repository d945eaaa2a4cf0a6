//! The two ways in which attributes are written: by name (1.x) and by tag (2.x).

use crate::spec::{AttributeValue, attribute_name, attribute_row, attribute_row_named, tag};
use crate::{Attribute, Attributes, CustomAttribute, Text, UnknownAttribute, downgraded};
use keyferry_ttlv::{
    ErrorKind, Group, Item, Loss, Raw, Reader, Result, Tag, Type, Value, Version, Writer,
};

/// How a field that holds attributes stands in a message.
#[cfg_attr(feature = "serde", keyferry_ttlv::shown)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projection {
    /// 1.x: Attribute, repeated. 2.x: Attributes, also when empty.
    Required,
    /// As [`Required`](Projection::Required), of what is looked for: a structure may lack fields, and is kept as it came then, as an
    /// [`Unknown`](AttributeValue::Unknown) attribute of a known name or tag (KMIP 2.1 §6.1.28).
    Criteria,
    /// 1.x: Attribute, repeated. 2.x: Attributes, unless empty.
    Optional,
    /// As [`Optional`](Projection::Optional), but for 1.x Attributes without a value: those were deleted (KMIP 1.4 §5.1).
    Changed,
    /// 1.x: Attribute, once. 2.x: a structure of this tag that holds one value.
    One(#[cfg_attr(feature = "serde", serde(with = "crate::shown::tag"))] Tag),
    /// 1.x: Attribute, once. 2.x: nothing.
    NamedOnly,
    /// In every version a structure Attributes with all of them, indices included: how a store and our own extension keep them.
    Stored,
    /// 1.x: nothing. 2.x: a structure of this tag that holds one value.
    TaggedOnly(#[cfg_attr(feature = "serde", serde(with = "crate::shown::tag"))] Tag),
}

pub(crate) fn is_tagged(version: Version) -> bool {
    version >= Version::V2_0
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
            return stored(self, item, r).map_err(|e| e.within(item.tag()));
        }
        if !structure {
            self.make_room();
            let read = |this: &mut Self| named(this, item, r);
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
        match partial(item, r)? {
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
fn partial<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Option<UnknownAttribute>> {
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

/// One attribute within a structure of attributes: by name or by tag.
pub(crate) fn within<'a>(into: &mut Attributes, item: Item<'a>, r: &Reader<'a>) -> Result<()> {
    if is_tagged(r.version()) {
        return tagged_value(into, item, r);
    }
    if item.tag() != tag::ATTRIBUTE {
        return Err(r.unexpected(item));
    }
    named(into, item, r).map_err(|e| e.within(item.tag()))
}

/// All of them, one after the other, in the form of the writer's version.
pub(crate) fn write_all(attributes: &Attributes, w: &mut Writer) -> Result<()> {
    if is_tagged(w.version()) {
        attributes
            .iter()
            .try_for_each(|a| write_tagged(&a.value, w))
    } else {
        attributes.iter().try_for_each(|a| write_named(a, w))
    }
}

/// Whether an Attribute of 1.x has no value.
pub(crate) fn is_valueless<'a>(item: Item<'a>, r: &Reader<'a>) -> bool {
    let Ok(mut children) = r.children(item) else {
        return false;
    };
    std::iter::from_fn(|| children.step()).all(|child| child.tag() != tag::ATTRIBUTE_VALUE)
}

/// An Attribute of 1.x: name, index, value.
fn named<'a>(into: &mut Attributes, item: Item<'a>, r: &Reader<'a>) -> Result<()> {
    let mut children = r.children(item)?;
    // Mostly a name and a value; and a known name needs no look at its text, since it is equal to one.
    if let (Some(name), Some(value)) = (children.step(), children.step())
        && children.is_done()
        && name.tag() == tag::ATTRIBUTE_NAME
        && value.tag() == tag::ATTRIBUTE_VALUE
    {
        return match attribute_name::row(name.raw()).filter(|row| row.versions.contain(r.version()))
        {
            Some(row) => into.read(row, None, value, r),
            None => named_otherwise(into, name, None, Some(value), r),
        };
    }
    let (mut name, mut index, mut value) = (None, None, None);
    let mut children = r.children(item)?;
    while let Some(child) = children.next(r)? {
        match child.tag() {
            tag::ATTRIBUTE_NAME if name.is_none() => name = Some(child),
            tag::ATTRIBUTE_INDEX => r.once::<i32>(&mut index, child)?,
            tag::ATTRIBUTE_VALUE if value.is_none() => value = Some(child),
            other @ (tag::ATTRIBUTE_NAME | tag::ATTRIBUTE_VALUE) => {
                return Err(r.error(child, ErrorKind::Repeated(other)));
            }
            _ => return Err(r.unexpected(child)),
        }
    }
    let Some(name) = name else {
        // Nobody can say what it is, but it is no reason to refuse what stands beside it.
        let value = value.ok_or_else(|| r.missing(item, tag::ATTRIBUTE_NAME))?;
        let value = AttributeValue::Unknown(UnknownAttribute {
            name: None,
            value: Some(r.child(value)?),
        });
        into.keep(Attribute { index, value });
        return Ok(());
    };
    match (
        attribute_name::row(name.raw()).filter(|row| row.versions.contain(r.version())),
        value,
    ) {
        (Some(row), Some(value)) => into.read(row, index, value, r),
        (_, value) => named_otherwise(into, name, index, value, r),
    }
}

/// A custom attribute, or one that the version has none of this name.
fn named_otherwise<'a>(
    into: &mut Attributes,
    name: Item<'a>,
    index: Option<i32>,
    value: Option<Item<'a>>,
    r: &Reader<'a>,
) -> Result<()> {
    let name = name.text(r).map_err(|e| e.within(tag::ATTRIBUTE_NAME))?;
    let value = if let Some((vendor @ ("x" | "y"), rest)) = name.split_once('-') {
        let value = value.map(|value| r.child::<Value>(value)).transpose()?;
        AttributeValue::Custom(CustomAttribute {
            vendor: vendor.into(),
            name: rest.into(),
            value,
        })
    } else {
        // One that is known may come here still: padded in a way that the reader lets pass.
        let row = attribute_row_named(name).filter(|row| row.versions.contain(r.version()));
        if let (Some(row), Some(value)) = (row, value) {
            return into.read(row, index, value, r);
        }
        let value = value.map(|value| r.child::<Raw>(value)).transpose()?;
        AttributeValue::Unknown(UnknownAttribute {
            name: Some(name.into()),
            value,
        })
    };
    into.keep(Attribute { index, value });
    Ok(())
}

/// An attribute of 2.x: its value under its own tag, or an Attribute with a Vendor Identification.
fn tagged_value<'a>(into: &mut Attributes, item: Item<'a>, r: &Reader<'a>) -> Result<()> {
    if let Some(row) = attribute_row(item.tag()).filter(|row| row.versions.contain(r.version())) {
        return into.read(row, None, item, r);
    }
    let value = if item.tag() == tag::ATTRIBUTE {
        vendor(item, r).map_err(|e| e.within(item.tag()))?
    } else {
        AttributeValue::Unknown(UnknownAttribute {
            name: None,
            value: Some(r.child(item)?),
        })
    };
    into.keep(Attribute { index: None, value });
    Ok(())
}

fn vendor<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<AttributeValue> {
    let (mut vendor, mut name, mut value) = (None, None, None);
    let mut children = r.children(item)?;
    while let Some(child) = children.next(r)? {
        match child.tag() {
            tag::VENDOR_IDENTIFICATION => r.once::<Text>(&mut vendor, child)?,
            tag::ATTRIBUTE_NAME => r.once::<Text>(&mut name, child)?,
            tag::ATTRIBUTE_VALUE => r.once::<Value>(&mut value, child)?,
            _ => return Err(r.unexpected(child)),
        }
    }
    let vendor = vendor.ok_or_else(|| r.missing(item, tag::VENDOR_IDENTIFICATION))?;
    let name = name.ok_or_else(|| r.missing(item, tag::ATTRIBUTE_NAME))?;
    Ok(AttributeValue::Custom(CustomAttribute {
        vendor,
        name,
        value,
    }))
}

fn write_named(attribute: &Attribute, w: &mut Writer) -> Result<()> {
    w.structure(tag::ATTRIBUTE, |w| {
        match (&attribute.value, attribute.value.row()) {
            (_, Some(row)) => {
                w.require(row.tag, row.versions.since, row.versions.until)?;
                w.raw(row.name_item);
            }
            (AttributeValue::Custom(custom), _) => custom_name(&custom.vendor, &custom.name, w)?,
            (
                AttributeValue::Unknown(UnknownAttribute {
                    name: Some(name), ..
                }),
                _,
            ) => w.text(tag::ATTRIBUTE_NAME, name)?,
            // It came without one.
            (value, _) if value.tag() == tag::ATTRIBUTE_VALUE => {}
            (value, _) => return Err(w.error(value.tag(), ErrorKind::Value(NAMELESS))),
        }
        if let Some(index) = attribute.index {
            w.integer(tag::ATTRIBUTE_INDEX, index);
        }
        attribute.value.encode_value(tag::ATTRIBUTE_VALUE, w)
    })
}

const NAMELESS: &str = "it has no name in 1.x";
const NOTHING: &str = "an attribute without a name has no form in 2.x";
const ONE: &str = "it holds one attribute";
const BY_NAME_ALONE: &str = "an attribute known by name alone has no form in 2.x";

/// The Attribute Name of a custom attribute in 1.x.
fn custom_name(vendor: &Text, name: &Text, w: &mut Writer) -> Result<()> {
    if !matches!(vendor.as_str(), "x" | "y") {
        let why = ErrorKind::Value("1.x knows custom attributes of the vendors x and y alone");
        return Err(w.error(tag::ATTRIBUTE_NAME, why));
    }
    w.text(tag::ATTRIBUTE_NAME, &Text::joined(&[vendor, "-", name]))
}

fn write_tagged(value: &AttributeValue, w: &mut Writer) -> Result<()> {
    match value {
        AttributeValue::Custom(custom) => w.structure(tag::ATTRIBUTE, |w| {
            w.text(tag::VENDOR_IDENTIFICATION, &custom.vendor)?;
            w.text(tag::ATTRIBUTE_NAME, &custom.name)?;
            value.encode_value(tag::ATTRIBUTE_VALUE, w)
        }),
        AttributeValue::Unknown(UnknownAttribute { name: Some(_), .. }) => {
            Err(w.error(tag::ATTRIBUTE, ErrorKind::Value(BY_NAME_ALONE)))
        }
        AttributeValue::Unknown(_)
            if matches!(value.tag(), tag::ATTRIBUTE | tag::ATTRIBUTE_VALUE) =>
        {
            Err(w.error(tag::ATTRIBUTE, ErrorKind::Value(NOTHING)))
        }
        AttributeValue::Unknown(_) => value.encode_value(value.tag(), w),
        value => {
            if let Some(row) = value.row() {
                w.require(row.tag, row.versions.since, row.versions.until)?;
            }
            value
                .encode_value(value.tag(), w)
                .map_err(|e| e.within(value.tag()))
        }
    }
}

/// An index where there is one, then the value under its own tag, whatever the version.
pub(crate) fn write_stored(
    index: Option<i32>,
    value: &AttributeValue,
    w: &mut Writer,
) -> Result<()> {
    if let Some(index) = index {
        w.integer(tag::ATTRIBUTE_INDEX, index);
    }
    match value {
        AttributeValue::Custom(_) => write_tagged(value, w),
        AttributeValue::Unknown(
            unknown @ UnknownAttribute {
                name: Some(name), ..
            },
        ) => w.structure(tag::ATTRIBUTE, |w| {
            w.text(tag::ATTRIBUTE_NAME, name)?;
            unknown.encode_value(w)
        }),
        value => value
            .encode_value(value.tag(), w)
            .map_err(|e| e.within(value.tag())),
    }
}

fn stored<'a>(attributes: &mut Attributes, item: Item<'a>, r: &Reader<'a>) -> Result<()> {
    let mut children = r.children(item)?;
    let mut index = None;
    while let Some(child) = children.next(r)? {
        if child.tag() == tag::ATTRIBUTE_INDEX {
            index = Some(r.child::<i32>(child)?);
            continue;
        }
        let index = index.take();
        let value = if child.tag() == tag::ATTRIBUTE {
            match r.attempt(|| vendor(child, r)) {
                Ok(custom) => custom,
                Err(_) => unknown(child, r).map_err(|e| e.within(child.tag()))?,
            }
        } else {
            // What came in a version that did not know it may be anything: it must not make the record unreadable.
            match attribute_row(child.tag())
                .map(|row| r.attempt(|| attributes.read(row, index, child, r)))
            {
                Some(Ok(())) => continue,
                _ => AttributeValue::Unknown(UnknownAttribute {
                    name: None,
                    value: Some(r.child(child)?),
                }),
            }
        };
        attributes.keep(Attribute { index, value });
    }
    Ok(())
}

/// An attribute that was kept by its name alone. It stays unknown, also where a later version has one of this name.
fn unknown<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<AttributeValue> {
    let (mut name, mut value) = (None, None);
    let mut children = r.children(item)?;
    while let Some(child) = children.next(r)? {
        match child.tag() {
            tag::ATTRIBUTE_NAME => r.once::<Text>(&mut name, child)?,
            _ => r.once::<Raw>(&mut value, child)?,
        }
    }
    let name = name.ok_or_else(|| r.missing(item, tag::ATTRIBUTE_NAME))?;
    Ok(AttributeValue::Unknown(UnknownAttribute {
        name: Some(name),
        value,
    }))
}

/// Names an attribute without a value: Attribute Name (1.x), Attribute Reference (2.x).
#[cfg_attr(feature = "serde", keyferry_ttlv::shown)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttributeReference {
    /// One of the standard's.
    Standard(#[cfg_attr(feature = "serde", serde(with = "crate::shown::tag"))] Tag),
    /// A custom one.
    Custom {
        /// The vendor: `x` or `y` in 1.x.
        vendor: Text,
        /// The name behind it.
        name: Text,
    },
    /// A name that the standard does not have.
    Unknown(Text),
}

impl AttributeReference {
    /// The attribute of this 1.x name.
    pub fn named(name: &str) -> Self {
        match name.split_once('-') {
            Some((vendor @ ("x" | "y"), rest)) => AttributeReference::Custom {
                vendor: vendor.into(),
                name: rest.into(),
            },
            _ => match attribute_row_named(name) {
                Some(row) => AttributeReference::Standard(row.tag),
                None => AttributeReference::Unknown(name.into()),
            },
        }
    }
}

impl std::fmt::Display for AttributeReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AttributeReference::Standard(tag) => match crate::spec::tag_row(*tag) {
                Some(row) => f.write_str(row.name),
                None => write!(f, "{tag}"),
            },
            AttributeReference::Custom { vendor, name } => write!(f, "{vendor}-{name}"),
            AttributeReference::Unknown(name) => f.write_str(name),
        }
    }
}

/// Names of attributes: Attribute Name, repeated (1.x), or Attribute Reference, repeated (2.x).
#[cfg_attr(feature = "serde", keyferry_ttlv::shown)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributeReferences(pub Vec<AttributeReference>);

impl AttributeReference {
    /// Reads an Attribute Name (1.x) or Attribute Reference (2.x).
    pub(crate) fn read<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        if !is_tagged(r.version()) {
            return Ok(AttributeReference::named(item.text(r)?));
        }
        if item.ty() != Type::Structure {
            let number = item.enumeration(r)?;
            let of_a_tag = number >> 24 == 0 && Tag::new(number).is_defined();
            return if of_a_tag {
                Ok(AttributeReference::Standard(Tag::new(number)))
            } else {
                Err(r.error(item, ErrorKind::Value("its value is no tag")))
            };
        }
        match vendor(item, r)? {
            AttributeValue::Custom(CustomAttribute {
                vendor,
                name,
                value: None,
            }) => Ok(AttributeReference::Custom { vendor, name }),
            _ => Err(r.error(
                item,
                ErrorKind::Value("it names an attribute and has no value"),
            )),
        }
    }

    /// Writes it, when the version has such an attribute.
    pub(crate) fn write(&self, w: &mut Writer) -> Result<()> {
        let tagged = is_tagged(w.version());
        match self {
            AttributeReference::Standard(number) => {
                let row = attribute_row(*number);
                if let Some(row) = row {
                    w.require(*number, row.versions.since, row.versions.until)?;
                }
                match row {
                    _ if tagged => w.enumeration(tag::ATTRIBUTE_REFERENCE, number.number()),
                    Some(row) => w.raw(row.name_item),
                    None => return Err(w.error(*number, ErrorKind::Value(NAMELESS))),
                }
                Ok(())
            }
            AttributeReference::Custom { vendor, name } if tagged => {
                w.structure(tag::ATTRIBUTE_REFERENCE, |w| {
                    w.text(tag::VENDOR_IDENTIFICATION, vendor)?;
                    w.text(tag::ATTRIBUTE_NAME, name)
                })
            }
            AttributeReference::Custom { vendor, name } => custom_name(vendor, name, w),
            AttributeReference::Unknown(_) if tagged => {
                Err(w.error(tag::ATTRIBUTE_REFERENCE, ErrorKind::Value(BY_NAME_ALONE)))
            }
            AttributeReference::Unknown(name) => w.text(tag::ATTRIBUTE_NAME, name),
        }
    }
}

impl Group for AttributeReferences {
    type How = ();

    fn accepts((): (), item: Item<'_>, r: &Reader<'_>) -> bool {
        item.tag()
            == if is_tagged(r.version()) {
                tag::ATTRIBUTE_REFERENCE
            } else {
                tag::ATTRIBUTE_NAME
            }
    }

    fn absorb<'a>(&mut self, (): (), _: usize, item: Item<'a>, r: &Reader<'a>) -> Result<()> {
        self.0
            .push(AttributeReference::read(item, r).map_err(|e| e.within(item.tag()))?);
        Ok(())
    }

    fn write(&self, (): (), w: &mut Writer) -> Result<()> {
        self.0.iter().try_for_each(|reference| reference.write(w))
    }

    fn downgrade(&mut self, (): (), version: Version, loss: &mut Loss) -> bool {
        let before = self.0.len();
        self.downgrade_all(version, loss);
        // None at all would ask for every attribute, or for none.
        before == 0 || !self.0.is_empty()
    }
}

/// The attributes as a client of `version` may see them: those that it has, with their indices, less the fields that it lacks.
pub fn visible(attributes: &Attributes, version: Version) -> Attributes {
    let mut visible = attributes.clone();
    // Of attributes as such, something always remains: none of them.
    let _ = visible.downgrade_as(Projection::Optional, version, &mut Loss::NONE.clone());
    visible
}

/// Parts the attributes into those that a message of `version` carries unharmed, and the others, whose indices or versions it lacks.
pub fn part(attributes: &Attributes, version: Version) -> (Attributes, Attributes) {
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

/// Each attribute in its stored form, in one buffer, with the places where they begin and end. An index of 0 counts as none.
///
/// # Errors
/// When a value has no stored form.
pub fn stored_parts(
    attributes: &Attributes,
    cx: keyferry_ttlv::Context,
) -> Result<(keyferry_ttlv::Frame, Vec<std::ops::Range<usize>>)> {
    let mut w = Writer::with_capacity(cx, attributes.len() * 64);
    let mut places = Vec::with_capacity(attributes.len());
    for attribute in attributes {
        let start = w.len();
        write_stored(
            attribute.index.filter(|index| *index != 0),
            &attribute.value,
            &mut w,
        )?;
        places.push(start..w.len());
    }
    Ok((w.finish(), places))
}
