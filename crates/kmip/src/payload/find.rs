//! Operations that find and read objects: Locate, Check, Get, Get Attributes, Get Attribute List.

use super::payloads;
use crate::attribute::Attributes;
use crate::attribute::reference::AttributeReferences;
use crate::identifier::{UniqueIdentifier, UniqueIdentifiers};
use crate::object::{KeyWrappingSpecification, Object};
use crate::projection::Projection;
use crate::spec::*;
use keyferry_ttlv::{Decode, Downgrade, Encode, Extra, Interval};

payloads! {
    /// KMIP 2.1 §6.1.28, since 1.0.
    #[derive(Default)]
    LocateRequest: LOCATE {
        #[ttlv(tag = tag::MAXIMUM_ITEMS)]
        maximum_items: Option<i32>,
        #[ttlv(tag = tag::OFFSET_ITEMS, since = "1.3", vital)]
        offset_items: Option<i32>,
        #[ttlv(vital)]
        storage_status_mask: Option<StorageStatusMask>,
        #[ttlv(since = "1.1", vital)]
        object_group_member: Option<ObjectGroupMember>,
        #[ttlv(group = Projection::Criteria, vital)]
        attributes: Attributes,
    }
    /// KMIP 2.1 §6.1.28, since 1.0.
    #[derive(Default)]
    LocateResponse: LOCATE {
        #[ttlv(tag = tag::LOCATED_ITEMS, since = "1.3")]
        located_items: Option<i32>,
        #[ttlv(group = ())]
        unique_identifiers: UniqueIdentifiers,
    }
    /// KMIP 2.1 §6.1.19, since 1.0.
    #[derive(Default)]
    GetRequest: GET {
        unique_identifier: Option<UniqueIdentifier>,
        key_format_type: Option<KeyFormatType>,
        #[ttlv(since = "1.4", vital)]
        key_wrap_type: Option<KeyWrapType>,
        key_compression_type: Option<KeyCompressionType>,
        #[ttlv(vital)]
        key_wrapping_specification: Option<KeyWrappingSpecification>,
    }
    /// KMIP 2.1 §6.1.19, since 1.0.
    GetResponse: GET {
        object_type: ObjectType,
        unique_identifier: UniqueIdentifier,
        #[ttlv(choice)]
        object: Object,
    }
    /// KMIP 2.1 §6.1.20, since 1.0.
    #[derive(Default)]
    GetAttributesRequest: GET_ATTRIBUTES {
        unique_identifier: Option<UniqueIdentifier>,
        #[ttlv(group = ())]
        references: AttributeReferences,
    }
    /// KMIP 2.1 §6.1.20, since 1.0.
    GetAttributesResponse: GET_ATTRIBUTES {
        unique_identifier: UniqueIdentifier,
        #[ttlv(group = Projection::Required)]
        attributes: Attributes,
    }
    /// KMIP 2.1 §6.1.21, since 1.0.
    #[derive(Default)]
    GetAttributeListRequest: GET_ATTRIBUTE_LIST {
        unique_identifier: Option<UniqueIdentifier>,
    }
    /// KMIP 2.1 §6.1.21, since 1.0.
    GetAttributeListResponse: GET_ATTRIBUTE_LIST {
        unique_identifier: UniqueIdentifier,
        #[ttlv(group = ())]
        references: AttributeReferences,
    }
    /// KMIP 2.1 §6.1.7, since 1.0.
    #[derive(Default)]
    CheckRequest: CHECK {
        unique_identifier: Option<UniqueIdentifier>,
        #[ttlv(tag = tag::USAGE_LIMITS_COUNT)]
        usage_limits_count: Option<i64>,
        #[ttlv(vital)]
        cryptographic_usage_mask: Option<CryptographicUsageMask>,
        #[ttlv(tag = tag::LEASE_TIME)]
        lease_time: Option<Interval>,
    }
    /// KMIP 2.1 §6.1.7, since 1.0; what the object does not allow comes back.
    #[derive(Default)]
    CheckResponse: CHECK {
        unique_identifier: Option<UniqueIdentifier>,
        #[ttlv(tag = tag::USAGE_LIMITS_COUNT)]
        usage_limits_count: Option<i64>,
        cryptographic_usage_mask: Option<CryptographicUsageMask>,
        #[ttlv(tag = tag::LEASE_TIME)]
        lease_time: Option<Interval>,
    }
}
