//! The payloads of the operations, requests and responses, in one set of types for all versions.
//!
//! So far those of bulk exchange and of the usual client work; the others pass through as they came.

use crate::spec::*;
use crate::{
    Attributes, DateTime, KeyWrappingSpecification, Object, Payload, Projection, ProtocolVersion, RevocationReason,
    RngParameters, Text, UniqueIdentifier, UniqueIdentifiers, attribute::AttributeReferences,
};
use keyferry_ttlv::{Decode, Encode, Extra, Raw};

/// Declares the payloads of operations: each is written and read by the derive, and knows its operation.
macro_rules! payloads {
    ($(
        $(#[$meta:meta])*
        $name:ident: $operation:ident { $($(#[$field_meta:meta])* $field:ident: $ty:ty,)* }
    )*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Encode, Decode)]
        #[allow(missing_docs)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $ty,)*
            #[ttlv(extra)]
            pub extra: Extra,
        }

        impl Payload for $name {
            const OPERATION: Operation = Operation::$operation;
        }
    )*};
}

payloads! {
    /// KMIP 2.1 §6.1.8, since 1.0.
    CreateRequest: CREATE {
        object_type: ObjectType,
        #[ttlv(group = Projection::Template(tag::TEMPLATE_ATTRIBUTE, tag::ATTRIBUTES))]
        attributes: Attributes,
        #[ttlv(tag = tag::PROTECTION_STORAGE_MASKS, since = "2.0")]
        protection_storage_masks: Option<Raw>,
    }
    /// KMIP 2.1 §6.1.8, since 1.0.
    CreateResponse: CREATE {
        object_type: ObjectType,
        unique_identifier: UniqueIdentifier,
        /// Attributes that the server set by implication, until 1.4.
        #[ttlv(group = Projection::Implied)]
        attributes: Attributes,
    }
    /// KMIP 2.1 §6.1.43, since 1.0.
    RegisterRequest: REGISTER {
        object_type: ObjectType,
        #[ttlv(group = Projection::Template(tag::TEMPLATE_ATTRIBUTE, tag::ATTRIBUTES))]
        attributes: Attributes,
        #[ttlv(choice, tag = tag::SYMMETRIC_KEY)]
        object: Option<Object>,
        #[ttlv(tag = tag::PROTECTION_STORAGE_MASKS, since = "2.0")]
        protection_storage_masks: Option<Raw>,
    }
    /// KMIP 2.1 §6.1.43, since 1.0.
    RegisterResponse: REGISTER {
        unique_identifier: UniqueIdentifier,
        /// Attributes that the server set by implication, until 1.4.
        #[ttlv(group = Projection::Implied)]
        attributes: Attributes,
    }
    /// KMIP 2.1 §6.1.28, since 1.0.
    LocateRequest: LOCATE {
        #[ttlv(tag = tag::MAXIMUM_ITEMS)]
        maximum_items: Option<i32>,
        #[ttlv(tag = tag::OFFSET_ITEMS, since = "1.3")]
        offset_items: Option<i32>,
        storage_status_mask: Option<StorageStatusMask>,
        #[ttlv(since = "1.1")]
        object_group_member: Option<ObjectGroupMember>,
        #[ttlv(group = Projection::Required)]
        attributes: Attributes,
    }
    /// KMIP 2.1 §6.1.28, since 1.0.
    LocateResponse: LOCATE {
        #[ttlv(tag = tag::LOCATED_ITEMS, since = "1.3")]
        located_items: Option<i32>,
        #[ttlv(group = ())]
        unique_identifiers: UniqueIdentifiers,
    }
    /// KMIP 2.1 §6.1.19, since 1.0.
    GetRequest: GET {
        unique_identifier: Option<UniqueIdentifier>,
        key_format_type: Option<KeyFormatType>,
        #[ttlv(since = "1.4")]
        key_wrap_type: Option<KeyWrapType>,
        key_compression_type: Option<KeyCompressionType>,
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
    GetAttributeListRequest: GET_ATTRIBUTE_LIST {
        unique_identifier: Option<UniqueIdentifier>,
    }
    /// KMIP 2.1 §6.1.21, since 1.0.
    GetAttributeListResponse: GET_ATTRIBUTE_LIST {
        unique_identifier: UniqueIdentifier,
        #[ttlv(group = ())]
        references: AttributeReferences,
    }
    /// KMIP 2.1 §6.1.2, since 1.0.
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
    /// KMIP 2.1 §6.1.1, since 1.0.
    ActivateRequest: ACTIVATE {
        unique_identifier: Option<UniqueIdentifier>,
    }
    /// KMIP 2.1 §6.1.1, since 1.0.
    ActivateResponse: ACTIVATE {
        unique_identifier: UniqueIdentifier,
    }
    /// KMIP 2.1 §6.1.44, since 1.0.
    RevokeRequest: REVOKE {
        unique_identifier: Option<UniqueIdentifier>,
        revocation_reason: RevocationReason,
        #[ttlv(tag = tag::COMPROMISE_OCCURRENCE_DATE)]
        compromise_occurrence_date: Option<DateTime>,
    }
    /// KMIP 2.1 §6.1.44, since 1.0.
    RevokeResponse: REVOKE {
        unique_identifier: UniqueIdentifier,
    }
    /// KMIP 2.1 §6.1.15, since 1.0.
    DestroyRequest: DESTROY {
        unique_identifier: Option<UniqueIdentifier>,
    }
    /// KMIP 2.1 §6.1.15, since 1.0.
    DestroyResponse: DESTROY {
        unique_identifier: UniqueIdentifier,
    }
    /// KMIP 2.1 §6.1.25, since 1.4.
    ImportRequest: IMPORT {
        unique_identifier: UniqueIdentifier,
        #[ttlv(since = "2.0", required_since = "2.0")]
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
    /// KMIP 2.1 §6.1.16, since 1.1.
    DiscoverVersionsRequest: DISCOVER_VERSIONS {
        protocol_versions: Vec<ProtocolVersion>,
    }
    /// KMIP 2.1 §6.1.16, since 1.1.
    DiscoverVersionsResponse: DISCOVER_VERSIONS {
        protocol_versions: Vec<ProtocolVersion>,
    }
    /// KMIP 2.1 §6.1.40, since 1.0.
    QueryRequest: QUERY {
        query_functions: Vec<QueryFunction>,
        #[ttlv(tag = tag::OBJECT_GROUP, since = "2.1")]
        object_groups: Vec<Text>,
    }
    /// KMIP 2.1 §6.1.40, since 1.0.
    QueryResponse: QUERY {
        operations: Vec<Operation>,
        object_types: Vec<ObjectType>,
        #[ttlv(tag = tag::VENDOR_IDENTIFICATION)]
        vendor_identification: Option<Text>,
        #[ttlv(tag = tag::SERVER_INFORMATION)]
        server_information: Option<Raw>,
        #[ttlv(tag = tag::APPLICATION_NAMESPACE)]
        application_namespaces: Vec<Text>,
        #[ttlv(since = "1.1")]
        extension_information: Vec<ExtensionInformation>,
        #[ttlv(since = "1.2")]
        attestation_types: Vec<AttestationType>,
        #[ttlv(tag = tag::RNG_PARAMETERS, since = "1.3")]
        rng_parameters: Vec<RngParameters>,
        #[ttlv(tag = tag::PROFILE_INFORMATION, since = "1.3")]
        profile_information: Vec<Raw>,
        #[ttlv(tag = tag::VALIDATION_INFORMATION, since = "1.3")]
        validation_information: Vec<Raw>,
        #[ttlv(since = "1.3")]
        capability_information: Vec<CapabilityInformation>,
        #[ttlv(since = "1.3")]
        client_registration_methods: Vec<ClientRegistrationMethod>,
        #[ttlv(tag = tag::DEFAULTS_INFORMATION, since = "2.1")]
        defaults_information: Option<Raw>,
        #[ttlv(tag = tag::PROTECTION_STORAGE_MASKS, since = "2.0")]
        protection_storage_masks: Option<Raw>,
    }
}

/// A payload without fields: what answers a Put or a Notify.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[allow(missing_docs)]
pub struct EmptyPutResponse {
    #[ttlv(extra)]
    pub extra: Extra,
}

impl Payload for EmptyPutResponse {
    const OPERATION: Operation = Operation::PUT;
}

/// One extension that a server knows (KMIP 2.1 §7.13, since 1.1).
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::EXTENSION_INFORMATION)]
#[allow(missing_docs)]
pub struct ExtensionInformation {
    #[ttlv(tag = tag::EXTENSION_NAME)]
    pub name: Text,
    #[ttlv(tag = tag::EXTENSION_TAG)]
    pub tag: Option<i32>,
    #[ttlv(tag = tag::EXTENSION_TYPE)]
    pub item_type: Option<i32>,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// What a server can do (KMIP 2.1 §7.5, since 1.3).
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[ttlv(tag = tag::CAPABILITY_INFORMATION)]
#[allow(missing_docs)]
pub struct CapabilityInformation {
    #[ttlv(tag = tag::STREAMING_CAPABILITY)]
    pub streaming: Option<bool>,
    #[ttlv(tag = tag::ASYNCHRONOUS_CAPABILITY)]
    pub asynchronous: Option<bool>,
    #[ttlv(tag = tag::ATTESTATION_CAPABILITY)]
    pub attestation: Option<bool>,
    #[ttlv(tag = tag::BATCH_UNDO_CAPABILITY, since = "1.4")]
    pub batch_undo: Option<bool>,
    #[ttlv(tag = tag::BATCH_CONTINUE_CAPABILITY, since = "1.4")]
    pub batch_continue: Option<bool>,
    #[ttlv(extra)]
    pub extra: Extra,
}
