//! Attributes that are not in the tables: custom ones, and those that this build does not know.

use crate::spec::tag;
use keyferry_ttlv::{
    Context, ErrorKind, Item, Raw, Reader, Result, Tag, Text, Type, Value, Version, Writer,
};

/// A Custom Attribute (1.x: `x-name`, `y-name`) or one of a vendor (2.x).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomAttribute {
    /// The vendor: `x` for a client's, `y` for a server's (KMIP 2.1 §4.60).
    pub vendor: Text,
    /// The name behind it.
    pub name: Text,
    /// The value; absent only in a Notify that tells of a deletion.
    pub value: Option<Value>,
}

impl CustomAttribute {
    /// A client's attribute with a text.
    pub fn text(name: impl Into<Text>, value: impl Into<Text>) -> Self {
        CustomAttribute {
            vendor: "x".into(),
            name: name.into(),
            value: Some(Value::Text(value.into())),
        }
    }

    /// Whether its value is a structure with structures within, which the standard does not allow (KMIP 1.4 §3.39).
    pub fn is_nested(&self) -> bool {
        let Some(Value::Structure(raw)) = &self.value else {
            return false;
        };
        let r = Reader::new(raw.bytes(), Context::new(Version::V2_1));
        let Ok(mut fields) = raw.item().and_then(|item| r.children(item)) else {
            return true;
        };
        loop {
            match fields.next(&r) {
                Ok(Some(field)) if field.ty() == Type::Structure => return true,
                Ok(Some(_)) => {}
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }

    /// The attribute's name in 1.x, which knows the vendors x and y alone.
    pub fn named(&self) -> Option<Text> {
        matches!(self.vendor.as_str(), "x" | "y")
            .then(|| Text::joined(&[&self.vendor, "-", &self.name]))
    }
}

/// An attribute that this build does not know, as it came.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq)]
pub struct UnknownAttribute {
    /// The attribute's name, where it came by name.
    pub name: Option<Text>,
    /// The value: under Attribute Value where it came by name.
    pub value: Option<Raw>,
}

impl UnknownAttribute {
    pub(crate) fn tag(&self) -> Tag {
        match (&self.name, &self.value) {
            (None, Some(raw)) => raw.tag(),
            _ => tag::ATTRIBUTE,
        }
    }

    pub(crate) fn encode_value(&self, w: &mut Writer) -> Result<()> {
        if let Some(raw) = &self.value {
            w.raw(raw.bytes());
        }
        Ok(())
    }
}

/// The custom attribute that an Attribute with a Vendor Identification holds (2.x).
pub(crate) fn read_vendor_attribute<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<CustomAttribute> {
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
    Ok(CustomAttribute {
        vendor,
        name,
        value,
    })
}

/// The Attribute Name of a custom attribute in 1.x.
pub(crate) fn write_custom_name(vendor: &Text, name: &Text, w: &mut Writer) -> Result<()> {
    if !matches!(vendor.as_str(), "x" | "y") {
        let why = ErrorKind::Value("1.x knows custom attributes of the vendors x and y alone");
        return Err(w.error(tag::ATTRIBUTE_NAME, why));
    }
    w.text(tag::ATTRIBUTE_NAME, &Text::joined(&[vendor, "-", name]))
}
