//! Attributes as a store keeps them: by tag, with their indices, alike for every version.

use super::tagged::write_tagged;
use crate::attribute::Attributes;
use crate::attribute::custom::{UnknownAttribute, read_vendor_attribute};
use crate::spec::attribute::{Attribute, AttributeValue};
use crate::spec::{attribute_row, tag};
use keyferry_ttlv::{Context, Frame, Item, Raw, Reader, Result, Text, Writer};
use std::ops::Range;

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

/// Reads attributes in their stored form.
pub(super) fn read_stored<'a>(
    attributes: &mut Attributes,
    item: Item<'a>,
    r: &Reader<'a>,
) -> Result<()> {
    let mut children = r.children(item)?;
    let mut index = None;
    while let Some(child) = children.next(r)? {
        if child.tag() == tag::ATTRIBUTE_INDEX {
            index = Some(r.child::<i32>(child)?);
            continue;
        }
        let index = index.take();
        let value = if child.tag() == tag::ATTRIBUTE {
            match r.attempt(|| read_vendor_attribute(child, r)) {
                Ok(custom) => AttributeValue::Custom(custom),
                Err(_) => read_unknown(child, r).map_err(|e| e.within(child.tag()))?,
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
fn read_unknown<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<AttributeValue> {
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

/// Each attribute in its stored form, in one buffer, with the places where they begin and end. An index of 0 counts as none.
///
/// # Errors
/// When a value has no stored form.
pub fn stored_form(attributes: &Attributes, cx: Context) -> Result<(Frame, Vec<Range<usize>>)> {
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
