//! Attributes by tag, as 2.x has them: each value under a tag of its own, a vendor's under Attribute.

use crate::attribute::Attributes;
use crate::attribute::custom::{UnknownAttribute, read_vendor_attribute};
use crate::attribute::reference::BY_NAME_ALONE;
use crate::spec::attribute::{Attribute, AttributeValue};
use crate::spec::{attribute_row, tag};
use keyferry_ttlv::{ErrorKind, Item, Reader, Result, Writer};

const NAMELESS: &str = "an attribute without a name has no form in 2.x";

/// An attribute of 2.x: its value under its own tag, or an Attribute with a Vendor Identification.
pub(super) fn read_tagged<'a>(into: &mut Attributes, item: Item<'a>, r: &Reader<'a>) -> Result<()> {
    if let Some(row) = attribute_row(item.tag()).filter(|row| row.versions.contain(r.version())) {
        return into.read(row, None, item, r);
    }
    let value = if item.tag() == tag::ATTRIBUTE {
        AttributeValue::Custom(read_vendor_attribute(item, r).map_err(|e| e.within(item.tag()))?)
    } else {
        AttributeValue::Unknown(UnknownAttribute {
            name: None,
            value: Some(r.child(item)?),
        })
    };
    into.keep(Attribute { index: None, value });
    Ok(())
}

/// Writes the value under its own tag.
pub(super) fn write_tagged(value: &AttributeValue, w: &mut Writer) -> Result<()> {
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
            Err(w.error(tag::ATTRIBUTE, ErrorKind::Value(NAMELESS)))
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
