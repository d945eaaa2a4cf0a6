//! [`AttributeReference`], which names an attribute without a value, and lists of such names.

use crate::attribute::custom::{CustomAttribute, read_vendor_attribute, write_custom_name};
use crate::spec::versions::is_tagged;
use crate::spec::{attribute_row, attribute_row_named, tag, tag_row};
use keyferry_ttlv::{
    ErrorKind, Group, Item, Loss, Reader, Result, Tag, Text, Type, Version, Writer,
};

/// Why an attribute cannot be written in 1.x.
pub(crate) const NAMELESS: &str = "it has no name in 1.x";
/// Why an attribute cannot be written in 2.x.
pub(crate) const BY_NAME_ALONE: &str = "an attribute known by name alone has no form in 2.x";

/// Names an attribute without a value: Attribute Name (1.x), Attribute Reference (2.x).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttributeReference {
    /// An attribute of the standard.
    Standard(#[cfg_attr(feature = "serde", serde(with = "crate::spec::tag_form"))] Tag),
    /// A custom attribute.
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
            AttributeReference::Standard(tag) => match tag_row(*tag) {
                Some(row) => f.write_str(row.name),
                None => write!(f, "{tag}"),
            },
            AttributeReference::Custom { vendor, name } => write!(f, "{vendor}-{name}"),
            AttributeReference::Unknown(name) => f.write_str(name),
        }
    }
}

/// Names of attributes: Attribute Name, repeated (1.x), or Attribute Reference, repeated (2.x).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
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
        match read_vendor_attribute(item, r)? {
            CustomAttribute {
                vendor,
                name,
                value: None,
            } => Ok(AttributeReference::Custom { vendor, name }),
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
            AttributeReference::Custom { vendor, name } => write_custom_name(vendor, name, w),
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

impl AttributeReference {
    /// Whether `version` has this attribute.
    pub(crate) fn exists(&self, version: Version) -> bool {
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

    /// Records that this reference is left behind.
    pub(crate) fn record_lost(&self, loss: &mut Loss) {
        loss.record_named(
            tag::ATTRIBUTE_REFERENCE,
            Some(self.to_string().into()),
            &self.to_string(),
        );
    }
}

impl AttributeReferences {
    fn downgrade_all(&mut self, version: Version, loss: &mut Loss) {
        self.0.retain(|reference| {
            let kept = reference.exists(version);
            if !kept {
                reference.record_lost(loss);
            }
            kept
        });
    }
}
