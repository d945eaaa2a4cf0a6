//! Attributes by name, as 1.x has them: an Attribute with name, index and value.

use crate::attribute::Attributes;
use crate::attribute::custom::{CustomAttribute, UnknownAttribute, write_custom_name};
use crate::attribute::reference::NAMELESS;
use crate::spec::attribute::{Attribute, AttributeValue};
use crate::spec::{attribute_by_name, attribute_row_named, tag};
use keyferry_ttlv::{ErrorKind, Item, Raw, Reader, Result, Value, Writer};

/// Whether an Attribute of 1.x has no value.
pub(crate) fn is_valueless<'a>(item: Item<'a>, r: &Reader<'a>) -> bool {
    let Ok(mut children) = r.children(item) else {
        return false;
    };
    std::iter::from_fn(|| children.step()).all(|child| child.tag() != tag::ATTRIBUTE_VALUE)
}

/// An Attribute of 1.x: name, index, value.
pub(super) fn read_named<'a>(into: &mut Attributes, item: Item<'a>, r: &Reader<'a>) -> Result<()> {
    let mut children = r.children(item)?;
    // Mostly a name and a value; and a known name needs no look at its text, since it is equal to one.
    if let (Some(name), Some(value)) = (children.step(), children.step())
        && children.is_done()
        && name.tag() == tag::ATTRIBUTE_NAME
        && value.tag() == tag::ATTRIBUTE_VALUE
    {
        return match attribute_by_name::row(name.raw())
            .filter(|row| row.versions.contain(r.version()))
        {
            Some(row) => into.read(row, None, value, r),
            None => read_other_name(into, name, None, Some(value), r),
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
        attribute_by_name::row(name.raw()).filter(|row| row.versions.contain(r.version())),
        value,
    ) {
        (Some(row), Some(value)) => into.read(row, index, value, r),
        (_, value) => read_other_name(into, name, index, value, r),
    }
}

/// A custom attribute, or one that the version has none of this name.
fn read_other_name<'a>(
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

/// Writes an Attribute of 1.x.
pub(super) fn write_named(attribute: &Attribute, w: &mut Writer) -> Result<()> {
    w.structure(tag::ATTRIBUTE, |w| {
        match (&attribute.value, attribute.value.row()) {
            (_, Some(row)) => {
                w.require(row.tag, row.versions.since, row.versions.until)?;
                w.raw(row.name_item);
            }
            (AttributeValue::Custom(custom), _) => {
                write_custom_name(&custom.vendor, &custom.name, w)?
            }
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
