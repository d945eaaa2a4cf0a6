//! Operations that carry objects from one party to another: Import, Export, Put, Notify.

use super::payloads;
use crate::attribute::Attributes;
use crate::attribute::reference::AttributeReference;
use crate::identifier::UniqueIdentifier;
use crate::object::{KeyWrappingSpecification, Object};
use crate::projection::Projection;
use crate::projection::named::is_valueless;
use crate::spec::versions::is_tagged;
use crate::spec::*;
use keyferry_ttlv::{
    Decode, Downgrade, Encode, Extra, Group, Item, Loss, Reader, Result, Text, Version, Writer,
};

payloads! {
    /// KMIP 2.1 §6.1.25, since 1.4.
    ImportRequest: IMPORT {
        unique_identifier: UniqueIdentifier,
        #[ttlv(since = "2.0", required_since = "2.0", implied = ImportRequest::type_of_object)]
        object_type: Option<ObjectType>,
        #[ttlv(tag = tag::REPLACE_EXISTING)]
        replace_existing: Option<bool>,
        key_wrap_type: Option<KeyWrapType>,
        #[ttlv(group = Projection::Required)]
        attributes: Attributes,
        /// Absent only for a destroyed object, between servers that have agreed on it.
        #[ttlv(choice)]
        object: Option<Object>,
    }
    /// KMIP 2.1 §6.1.25, since 1.4.
    ImportResponse: IMPORT {
        unique_identifier: UniqueIdentifier,
    }
    /// KMIP 2.1 §6.1.18, since 1.4.
    #[derive(Default)]
    ExportRequest: EXPORT {
        unique_identifier: Option<UniqueIdentifier>,
        key_format_type: Option<KeyFormatType>,
        key_wrap_type: Option<KeyWrapType>,
        key_compression_type: Option<KeyCompressionType>,
        key_wrapping_specification: Option<KeyWrappingSpecification>,
    }
    /// KMIP 2.1 §6.1.18, since 1.4.
    ExportResponse: EXPORT {
        object_type: ObjectType,
        unique_identifier: UniqueIdentifier,
        #[ttlv(group = Projection::Required)]
        attributes: Attributes,
        /// Absent for a destroyed object.
        #[ttlv(choice)]
        object: Option<Object>,
    }
    /// KMIP 2.1 §6.2.3, since 1.0.
    PutRequest: PUT {
        unique_identifier: UniqueIdentifier,
        put_function: PutFunction,
        #[ttlv(tag = tag::REPLACED_UNIQUE_IDENTIFIER)]
        replaced_unique_identifier: Option<UniqueIdentifier>,
        /// Absent only for a destroyed object, between servers that have agreed on it.
        #[ttlv(choice)]
        object: Option<Object>,
        #[ttlv(group = Projection::Optional)]
        attributes: Attributes,
    }
    /// KMIP 2.1 §6.2.3, since 1.0.
    #[derive(Default)]
    PutResponse: PUT {
    }
    /// KMIP 2.1 §6.2.2, since 1.0. A deleted attribute is told in 1.x by its name without a value, in 2.x by a reference.
    NotifyRequest: NOTIFY {
        unique_identifier: UniqueIdentifier,
        #[ttlv(group = Projection::Changed)]
        attributes: Attributes,
        #[ttlv(group = ())]
        deleted: DeletedAttributes,
    }
    /// KMIP 2.1 §6.2.2, since 1.0.
    #[derive(Default)]
    NotifyResponse: NOTIFY {
    }
}

impl ImportRequest {
    /// The Object Type, which 2.x demands beside the object.
    fn type_of_object(&self) -> Option<ObjectType> {
        self.object.as_ref().map(Object::object_type)
    }
}

/// Attributes that are no more (KMIP 2.1 §6.2.2, since 1.0): in 1.x Attributes without a value, in 2.x Attribute References.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeletedAttributes(pub Vec<DeletedAttribute>);

/// One attribute, or one instance of it, that was deleted.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedAttribute {
    /// The attribute.
    pub reference: AttributeReference,
    /// The index of the instance in 1.x; the instance of index 0 without it. In 2.x there is none: every instance was deleted that the same
    /// message does not name as changed.
    pub index: Option<i32>,
}

impl Group for DeletedAttributes {
    type How = ();

    fn accepts((): (), item: Item<'_>, r: &Reader<'_>) -> bool {
        match item.tag() {
            tag::ATTRIBUTE_REFERENCE => is_tagged(r.version()),
            tag::ATTRIBUTE => !is_tagged(r.version()) && is_valueless(item, r),
            _ => false,
        }
    }

    fn absorb<'a>(&mut self, (): (), _: usize, item: Item<'a>, r: &Reader<'a>) -> Result<()> {
        let read = || {
            if is_tagged(r.version()) {
                return Ok(DeletedAttribute {
                    reference: AttributeReference::read(item, r)?,
                    index: None,
                });
            }
            let (mut name, mut index) = (None, None);
            let mut children = r.children(item)?;
            while let Some(child) = children.next(r)? {
                match child.tag() {
                    tag::ATTRIBUTE_NAME => r.once::<Text>(&mut name, child)?,
                    tag::ATTRIBUTE_INDEX => r.once::<i32>(&mut index, child)?,
                    _ => return Err(r.unexpected(child)),
                }
            }
            let name = name.ok_or_else(|| r.missing(item, tag::ATTRIBUTE_NAME))?;
            Ok(DeletedAttribute {
                reference: AttributeReference::named(&name),
                index,
            })
        };
        self.0.push(read().map_err(|e| e.within(item.tag()))?);
        Ok(())
    }

    fn downgrade(&mut self, (): (), version: Version, loss: &mut Loss) -> bool {
        self.downgrade_all(version, loss);
        true
    }

    fn write(&self, (): (), w: &mut Writer) -> Result<()> {
        for deleted in &self.0 {
            match deleted.index {
                index if !is_tagged(w.version()) => w.structure(tag::ATTRIBUTE, |w| {
                    deleted.reference.write(w)?;
                    index
                        .into_iter()
                        .for_each(|index| w.integer(tag::ATTRIBUTE_INDEX, index));
                    Ok(())
                })?,
                None => deleted.reference.write(w)?,
                Some(_) => w.require(tag::ATTRIBUTE_INDEX, Version::V1_0, Some(Version::V1_4))?,
            }
        }
        Ok(())
    }
}
