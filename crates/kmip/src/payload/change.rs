//! Operations on attributes: Add, Modify, Set, Adjust and Delete Attribute.

use super::payloads;
use crate::spec::*;
use crate::{AttributeReferences, Attributes, Projection, UniqueIdentifier};
use keyferry_ttlv::{Decode, Downgrade, Encode, Extra, Value};

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
    /// KMIP 2.1 §6.1.34, since 1.0.
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
    /// KMIP 2.1 §6.1.13, since 1.0.
    #[derive(Default)]
    DeleteAttributeRequest: DELETE_ATTRIBUTE {
        unique_identifier: Option<UniqueIdentifier>,
        #[ttlv(group = Projection::TaggedOnly(tag::CURRENT_ATTRIBUTE))]
        current: Attributes,
        #[ttlv(group = ())]
        references: AttributeReferences,
        #[ttlv(tag = tag::ATTRIBUTE_INDEX, until = "1.4")]
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
        #[ttlv(group = Projection::TaggedOnly(tag::NEW_ATTRIBUTE))]
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
