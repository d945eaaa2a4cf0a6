//! Operations on attributes: Add, Modify, Set, Adjust and Delete Attribute.

use super::payloads;
use crate::attribute::Attributes;
use crate::attribute::reference::{AttributeReference, AttributeReferences};
use crate::identifier::UniqueIdentifier;
use crate::projection::Projection;
use crate::spec::versions::is_tagged;
use crate::spec::*;
use keyferry_ttlv::{Decode, Downgrade, Encode, Extra, Loss, Value, Version};

payloads! {
    /// KMIP 2.1 §6.1.2, since 1.0.
    #[derive(Default)]
    AddAttributeRequest: ADD_ATTRIBUTE {
        unique_identifier: Option<UniqueIdentifier>,
        #[ttlv(group = Projection::One(tag::NEW_ATTRIBUTE))]
        attribute: Attributes,
    }
    /// KMIP 2.1 §6.1.2, since 1.0; the attribute until 1.4.
    AddAttributeResponse: ADD_ATTRIBUTE {
        unique_identifier: UniqueIdentifier,
        #[ttlv(group = Projection::NamedOnly)]
        attribute: Attributes,
    }
    /// KMIP 2.1 §6.1.34, since 1.0. Without Current Attribute nor index it is in 1.x about the first instance; 2.x refuses it where there are
    /// several.
    #[derive(Default)]
    ModifyAttributeRequest: MODIFY_ATTRIBUTE {
        unique_identifier: Option<UniqueIdentifier>,
        #[ttlv(group = Projection::TaggedOnly(tag::CURRENT_ATTRIBUTE))]
        current: Attributes,
        #[ttlv(group = Projection::One(tag::NEW_ATTRIBUTE))]
        attribute: Attributes,
    }
    /// KMIP 2.1 §6.1.34, since 1.0; the attribute until 1.4.
    ModifyAttributeResponse: MODIFY_ATTRIBUTE {
        unique_identifier: UniqueIdentifier,
        #[ttlv(group = Projection::NamedOnly)]
        attribute: Attributes,
    }
    /// KMIP 2.1 §6.1.13, since 1.0. Without Current Attribute it is about one instance in 1.x, and about all of them in 2.x.
    #[derive(Default)]
    #[ttlv(downgrade = DeleteAttributeRequest::crosses)]
    DeleteAttributeRequest: DELETE_ATTRIBUTE {
        unique_identifier: Option<UniqueIdentifier>,
        #[ttlv(group = Projection::TaggedOnly(tag::CURRENT_ATTRIBUTE))]
        current: Attributes,
        #[ttlv(group = ())]
        references: AttributeReferences,
        #[ttlv(tag = tag::ATTRIBUTE_INDEX, until = "1.4", vital)]
        attribute_index: Option<i32>,
    }
    /// KMIP 2.1 §6.1.13, since 1.0; the attribute until 1.4.
    DeleteAttributeResponse: DELETE_ATTRIBUTE {
        unique_identifier: UniqueIdentifier,
        #[ttlv(group = Projection::NamedOnly)]
        attribute: Attributes,
    }
    /// KMIP 2.1 §6.1.51, since 2.0.
    #[derive(Default)]
    SetAttributeRequest: SET_ATTRIBUTE {
        unique_identifier: Option<UniqueIdentifier>,
        #[ttlv(group = Projection::One(tag::NEW_ATTRIBUTE))]
        attribute: Attributes,
    }
    /// KMIP 2.1 §6.1.51, since 2.0.
    SetAttributeResponse: SET_ATTRIBUTE {
        unique_identifier: UniqueIdentifier,
    }
    /// KMIP 2.1 §6.1.3, since 2.0.
    AdjustAttributeRequest: ADJUST_ATTRIBUTE {
        unique_identifier: Option<UniqueIdentifier>,
        /// The one that is adjusted.
        #[ttlv(group = ())]
        references: AttributeReferences,
        adjustment_type: AdjustmentType,
        #[ttlv(tag = tag::ADJUSTMENT_VALUE)]
        adjustment_value: Option<Value>,
    }
    /// KMIP 2.1 §6.1.3, since 2.0.
    AdjustAttributeResponse: ADJUST_ATTRIBUTE {
        unique_identifier: UniqueIdentifier,
    }
}

impl DeleteAttributeRequest {
    /// Whether it can be said on the other side of 2.0, where an attribute that is named and may repeat is another number of instances.
    fn crosses(&mut self, version: Version, loss: &mut Loss) -> bool {
        let crosses = loss
            .from()
            .is_some_and(|from| is_tagged(from) != is_tagged(version));
        if !crosses || self.references.0.is_empty() {
            return true;
        }
        let one = !self.references.0.iter().any(AttributeReference::may_repeat)
            && self.attribute_index.unwrap_or(0) == 0;
        if one && is_tagged(version) {
            self.attribute_index = None;
        }
        one
    }
}
