//! The structures that payloads consist of beside objects and attributes (KMIP 2.1 §7).

use crate::attribute::Attributes;
use crate::attribute::structure::UsageLimits;
use crate::identifier::UniqueIdentifier;
use crate::projection::Projection;
use crate::secret::Secret;
use crate::spec::*;
use keyferry_ttlv::{
    DateTime, DateTimeExtended, Decode, Downgrade, Encode, Extra, Group, Interval, Item, Reader,
    Result, Tag, Tagged, Text, Type, Version, Writer,
};

structures! {
    /// A server's description of itself (KMIP 2.1 §7.37): structured since 2.0, a vendor's own before and beside that.
    #[derive(Default)]
    ServerInformation = SERVER_INFORMATION {
        #[ttlv(tag = tag::SERVER_NAME, since = "2.0")]
        server_name: Option<Text>,
        #[ttlv(tag = tag::SERVER_SERIAL_NUMBER, since = "2.0")]
        server_serial_number: Option<Text>,
        #[ttlv(tag = tag::SERVER_VERSION, since = "2.0")]
        server_version: Option<Text>,
        #[ttlv(tag = tag::SERVER_LOAD, since = "2.0")]
        server_load: Option<Text>,
        #[ttlv(tag = tag::PRODUCT_NAME, since = "2.0")]
        product_name: Option<Text>,
        #[ttlv(tag = tag::BUILD_LEVEL, since = "2.0")]
        build_level: Option<Text>,
        #[ttlv(tag = tag::BUILD_DATE, since = "2.0")]
        build_date: Option<Text>,
        #[ttlv(tag = tag::CLUSTER_INFO, since = "2.0")]
        cluster_info: Option<Text>,
        #[ttlv(tag = tag::ALTERNATE_FAILOVER_ENDPOINTS, since = "2.0")]
        alternative_failover_endpoints: Vec<Text>,
    }
    /// One extension that a server knows (KMIP 2.1 §7.13, since 1.1).
    ExtensionInformation = EXTENSION_INFORMATION {
        #[ttlv(tag = tag::EXTENSION_NAME)]
        name: Text,
        #[ttlv(tag = tag::EXTENSION_TAG)]
        tag: Option<i32>,
        #[ttlv(tag = tag::EXTENSION_TYPE)]
        item_type: Option<ExtensionType>,
        #[ttlv(tag = tag::EXTENSION_ENUMERATION, since = "2.0")]
        enumeration: Option<i32>,
        #[ttlv(tag = tag::EXTENSION_ATTRIBUTE, since = "2.0")]
        attribute: Option<bool>,
        #[ttlv(tag = tag::EXTENSION_PARENT_STRUCTURE_TAG, since = "2.0")]
        parent_structure_tag: Option<i32>,
        #[ttlv(tag = tag::EXTENSION_DESCRIPTION, since = "2.0")]
        description: Option<Text>,
    }
    /// The capabilities of a server (KMIP 2.1 §7.5, since 1.3).
    #[derive(Default)]
    CapabilityInformation = CAPABILITY_INFORMATION {
        #[ttlv(tag = tag::STREAMING_CAPABILITY)]
        streaming: Option<bool>,
        #[ttlv(tag = tag::ASYNCHRONOUS_CAPABILITY)]
        asynchronous: Option<bool>,
        #[ttlv(tag = tag::ATTESTATION_CAPABILITY)]
        attestation: Option<bool>,
        #[ttlv(tag = tag::BATCH_UNDO_CAPABILITY, since = "1.4")]
        batch_undo: Option<bool>,
        #[ttlv(tag = tag::BATCH_CONTINUE_CAPABILITY, since = "1.4")]
        batch_continue: Option<bool>,
        unwrap_mode: Option<UnwrapMode>,
        destroy_action: Option<DestroyAction>,
        shredding_algorithm: Option<ShreddingAlgorithm>,
        rng_mode: Option<RNGMode>,
        #[ttlv(tag = tag::QUANTUM_SAFE_CAPABILITY, since = "2.0")]
        quantum_safe: Option<bool>,
    }
    /// A profile that a server follows (KMIP 2.1 §7.31, since 1.3).
    ProfileInformation = PROFILE_INFORMATION {
        profile_name: ProfileName,
        #[ttlv(since = "2.0")]
        profile_version: Option<ProfileVersion>,
        #[ttlv(tag = tag::SERVER_URI)]
        server_uri: Option<Text>,
        #[ttlv(tag = tag::SERVER_PORT)]
        server_port: Option<i32>,
    }
    /// The version of a profile (KMIP 2.1 §7.32, since 2.0).
    ProfileVersion = PROFILE_VERSION {
        #[ttlv(tag = tag::PROFILE_VERSION_MAJOR)]
        major: i32,
        #[ttlv(tag = tag::PROFILE_VERSION_MINOR)]
        minor: i32,
    }
    /// A formal validation of a server (KMIP 2.1 §7.41, since 1.3).
    ValidationInformation = VALIDATION_INFORMATION {
        validation_authority_type: ValidationAuthorityType,
        #[ttlv(tag = tag::VALIDATION_AUTHORITY_COUNTRY)]
        authority_country: Option<Text>,
        #[ttlv(tag = tag::VALIDATION_AUTHORITY_URI)]
        authority_uri: Option<Text>,
        #[ttlv(tag = tag::VALIDATION_VERSION_MAJOR)]
        version_major: i32,
        #[ttlv(tag = tag::VALIDATION_VERSION_MINOR)]
        version_minor: Option<i32>,
        validation_type: ValidationType,
        #[ttlv(tag = tag::VALIDATION_LEVEL)]
        level: i32,
        #[ttlv(tag = tag::VALIDATION_CERTIFICATE_IDENTIFIER)]
        certificate_identifier: Option<Text>,
        #[ttlv(tag = tag::VALIDATION_CERTIFICATE_URI)]
        certificate_uri: Option<Text>,
        #[ttlv(tag = tag::VALIDATION_VENDOR_URI)]
        vendor_uri: Option<Text>,
        #[ttlv(tag = tag::VALIDATION_PROFILE)]
        profiles: Vec<Text>,
    }
    /// The defaults that a server fills in for a client (KMIP 2.1 §7.11, since 2.0).
    #[derive(Default)]
    DefaultsInformation = DEFAULTS_INFORMATION {
        object_defaults: Vec<ObjectDefaults>,
    }
    /// The attributes that a server fills in for objects of some types (KMIP 2.1 §7.22, since 2.0).
    ObjectDefaults = OBJECT_DEFAULTS {
        /// One type, or [`object_types`](ObjectDefaults::object_types).
        object_type: Option<ObjectType>,
        #[ttlv(since = "2.1")]
        object_types: Option<ObjectTypes>,
        #[ttlv(group = Projection::Required)]
        attributes: Attributes,
        #[ttlv(since = "2.1")]
        object_groups: Option<ObjectGroups>,
    }
    /// KMIP 2.1 §7.21, since 2.0.
    #[derive(Default)]
    Objects = OBJECTS {
        unique_identifiers: Vec<UniqueIdentifier>,
    }
    /// KMIP 2.1 §7.23, since 2.1.
    #[derive(Default)]
    ObjectGroups = OBJECT_GROUPS {
        #[ttlv(tag = tag::OBJECT_GROUP)]
        object_groups: Vec<Text>,
    }
    /// KMIP 2.1 §7.24, since 2.1.
    #[derive(Default)]
    ObjectTypes = OBJECT_TYPES {
        object_types: Vec<ObjectType>,
    }
    /// KMIP 2.1 §7.25, since 2.0.
    #[derive(Default)]
    Operations = OPERATIONS {
        operations: Vec<Operation>,
    }
    /// The rights of a ticket (KMIP 2.1 §7.35, since 2.0).
    #[derive(Default)]
    Rights = RIGHTS {
        rights: Vec<Right>,
    }
    /// KMIP 2.1 §7.34, since 2.0.
    #[derive(Default)]
    Right = RIGHT {
        #[ttlv(vital)]
        usage_limits: Option<UsageLimits>,
        #[ttlv(vital)]
        operations: Option<Operations>,
        #[ttlv(vital)]
        objects: Option<Objects>,
        #[ttlv(since = "2.1", vital)]
        object_groups: Option<ObjectGroups>,
    }
    /// A constraint on operations (KMIP 2.1 §7.7, since 2.1).
    #[derive(Default)]
    Constraints = CONSTRAINTS {
        constraints: Vec<Constraint>,
    }
    /// KMIP 2.1 §7.6, since 2.1.
    #[derive(Default)]
    Constraint = CONSTRAINT {
        object_types: Option<ObjectTypes>,
        object_groups: Option<ObjectGroups>,
        #[ttlv(group = Projection::Optional)]
        attributes: Attributes,
    }
    /// The ticket that a Login returned (KMIP 2.1 §7.39, since 2.0).
    LoginTicket = TICKET {
        ticket_type: TicketType,
        #[ttlv(tag = tag::TICKET_VALUE)]
        value: Secret,
    }
    /// KMIP 2.1 §7.1, since 2.1.
    #[derive(Default)]
    AsynchronousCorrelationValues = ASYNCHRONOUS_CORRELATION_VALUES {
        #[ttlv(tag = tag::ASYNCHRONOUS_CORRELATION_VALUE)]
        values: Vec<Vec<u8>>,
    }
    /// The progress of a request (KMIP 2.1 §7.2, since 2.1).
    AsynchronousRequest = ASYNCHRONOUS_REQUEST {
        #[ttlv(tag = tag::ASYNCHRONOUS_CORRELATION_VALUE)]
        asynchronous_correlation_value: Vec<u8>,
        operation: Operation,
        #[ttlv(tag = tag::SUBMISSION_DATE)]
        submission_date: DateTimeExtended,
        processing_stage: ProcessingStage,
    }
    /// Alternatives, each a set of places where an object may be kept (KMIP 2.1 §7.33, since 2.0).
    #[derive(Default)]
    ProtectionStorageMasks = PROTECTION_STORAGE_MASKS {
        protection_storage_masks: Vec<ProtectionStorageMask>,
    }
}

impl ExtensionInformation {
    /// One of which nothing but the name is told.
    pub fn named(name: impl Into<Text>) -> Self {
        ExtensionInformation {
            name: name.into(),
            tag: None,
            item_type: None,
            enumeration: None,
            attribute: None,
            parent_structure_tag: None,
            description: None,
            extra: Extra::NONE,
        }
    }
}

/// The item type of an extension (KMIP 2.1 §7.13: an Enumeration; 1.4 §2.1.9: an Integer).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionType(pub u32);

impl Decode for ExtensionType {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        match item.ty() {
            Type::Enumeration => item.enumeration(r).map(ExtensionType),
            _ => item
                .integer(r)
                .map(|number| ExtensionType(number.cast_unsigned())),
        }
    }
}

impl Encode for ExtensionType {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        if w.version() >= Version::V2_0 {
            w.enumeration(tag, self.0)
        } else {
            w.integer(tag, self.0.cast_signed())
        }
        Ok(())
    }
}

/// The time for which a ticket is valid (KMIP 2.1 §6.1.30, since 2.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketLifetime {
    /// So long.
    Interval(Interval),
    /// Until then.
    DateTime(DateTime),
}

impl Tagged for TicketLifetime {
    const TAG: Tag = tag::LEASE_TIME;
}

impl Decode for TicketLifetime {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        Ok(match item.ty() {
            Type::DateTime => TicketLifetime::DateTime(DateTime::decode(item, r)?),
            _ => TicketLifetime::Interval(Interval::decode(item, r)?),
        })
    }
}

impl Encode for TicketLifetime {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        match self {
            TicketLifetime::Interval(interval) => interval.encode(tag, w),
            TicketLifetime::DateTime(date) => date.encode(tag, w),
        }
    }
}

/// The bytes of a certificate request: under Certificate Request (1.x) or Certificate Request Value (2.x; KMIP 2.1 §6.1.6, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateRequestBytes(pub Option<Vec<u8>>);

impl CertificateRequestBytes {
    fn tag(version: Version) -> Tag {
        if version >= Version::V2_0 {
            tag::CERTIFICATE_REQUEST_VALUE
        } else {
            tag::CERTIFICATE_REQUEST
        }
    }
}

impl Group for CertificateRequestBytes {
    type How = ();

    fn accepts((): (), item: Item<'_>, r: &Reader<'_>) -> bool {
        item.tag() == Self::tag(r.version())
    }

    fn absorb<'a>(&mut self, (): (), _: usize, item: Item<'a>, r: &Reader<'a>) -> Result<()> {
        r.once(&mut self.0, item)
    }

    fn write(&self, (): (), w: &mut Writer) -> Result<()> {
        match &self.0 {
            Some(bytes) => w.bytes(Self::tag(w.version()), bytes),
            None => Ok(()),
        }
    }
}
