//! The attributes of the standard: one row each, from which the type of their values is made.

use super::attribute_name;
use super::attribute_rule::{ChangeRule, ObjectKinds, SetBy};
use super::enumeration::cryptography::*;
use super::enumeration::object::*;
use super::mask::*;
use super::tag;
use super::versions::Versions;
use crate::attribute::custom::{CustomAttribute, UnknownAttribute};
use crate::attribute::structure::*;
use crate::identifier::UniqueIdentifier;
use keyferry_ttlv::{DateTime, Enumeration, Interval, Tag, Text, Version};

/// The row of an attribute: what the standard says of it (KMIP 2.1 §4, 1.4 §3).
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct AttributeRow {
    /// The attribute's tag.
    pub tag: Tag,
    /// The attribute's name.
    pub name: &'static str,
    /// The versions in which it is an attribute.
    pub versions: Versions,
    /// Who sets it first.
    pub set_by: SetBy,
    /// When the server may change it.
    pub server_modifies: ChangeRule,
    /// When a client may change it.
    pub client_modifies: ChangeRule,
    /// When a client may delete it.
    pub client_deletes: ChangeRule,
    /// Whether an object may have several.
    pub multiple: bool,
    /// The objects that may have it, in 1.x and in 2.x.
    pub on: (ObjectKinds, ObjectKinds),
    /// The whole Attribute Name item of a 1.x message, which is compared and written in one go.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) name_item: &'static [u8],
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) kind: Kind,
}

impl AttributeRow {
    /// Whether an object of this type may have it in `version`.
    pub fn may_be_on(&self, object_type: ObjectType, version: Version) -> bool {
        let on = if version < Version::V2_0 {
            self.on.0
        } else {
            self.on.1
        };
        self.versions.contain(version) && on.includes(object_type)
    }
}

/// One instance of an attribute.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// The Attribute Index of 1.x; instances that are 0 need none.
    pub index: Option<i32>,
    /// The attribute and its value.
    pub value: AttributeValue,
}

impl From<AttributeValue> for Attribute {
    fn from(value: AttributeValue) -> Self {
        Attribute { index: None, value }
    }
}

macro_rules! attributes {
    ($($variant:ident($ty:ty) = $tag:ident, $since:ident $(.. $until:ident)?, $set:ident;
       $server:ident, $client:ident, $delete:ident; $many:ident; $on:ident $(/ $on_1:ident)?;)*) => {
        /// The attributes by number, in the order of the rows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind { $($variant),* }

        /// All rows.
        pub(super) static ROWS: &[AttributeRow] = &[$(AttributeRow {
            tag: tag::$tag,
            name: attribute_name::of(tag::$tag),
            name_item: {
                const NAME: &str = attribute_name::of(tag::$tag);
                &attribute_name::item::<{ attribute_name::item_length(NAME) }>(NAME)
            },
            kind: Kind::$variant,
            versions: super::versions::versions!($since $($until)?),
            set_by: SetBy::$set,
            server_modifies: ChangeRule::$server,
            client_modifies: ChangeRule::$client,
            client_deletes: ChangeRule::$delete,
            multiple: attributes!(@many $many),
            on: (attributes!(@on $on $($on_1)?), ObjectKinds::$on),
        },)*];

        /// The row of a tag.
        pub(super) fn row(tag: Tag) -> Option<&'static AttributeRow> {
            let kind = match tag {
                $(tag::$tag => Kind::$variant,)*
                _ => return None,
            };
            ROWS.get(kind as usize)
        }

        /// The value of an attribute.
        #[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        #[allow(missing_docs)]
        pub enum AttributeValue {
            $($variant($ty),)*
            /// A Custom Attribute (1.x) or one with a Vendor Identification (2.x).
            Custom(CustomAttribute),
            /// An attribute that this build does not know.
            Unknown(UnknownAttribute),
        }

        impl AttributeValue {
            /// The attribute's tag; for a custom one the tag Attribute.
            pub fn tag(&self) -> Tag {
                match self {
                    $(AttributeValue::$variant(_) => tag::$tag,)*
                    AttributeValue::Custom(_) => tag::ATTRIBUTE,
                    AttributeValue::Unknown(unknown) => unknown.tag(),
                }
            }

            /// The attribute's row; a custom or unknown one has none.
            pub fn row(&self) -> Option<&'static AttributeRow> {
                let kind = match self {
                    $(AttributeValue::$variant(_) => Kind::$variant,)*
                    AttributeValue::Custom(_) | AttributeValue::Unknown(_) => return None,
                };
                ROWS.get(kind as usize)
            }

            /// Reads the value of the attribute that a row describes, straight into its place: a copy of an attribute costs more than
            /// reading one.
            pub(crate) fn read_standard<'a>(
                row: &AttributeRow,
                index: Option<i32>,
                item: ::keyferry_ttlv::Item<'a>,
                r: &::keyferry_ttlv::Reader<'a>,
                into: &mut Vec<Attribute>,
            ) -> ::keyferry_ttlv::Result<()> {
                match row.kind {
                    $(Kind::$variant => {
                        let value = r.child(item)?;
                        into.push(Attribute { index, value: AttributeValue::$variant(value) });
                    })*
                }
                Ok(())
            }

            /// Leaves behind what `version` lacks of a value whose attribute it has.
            pub(crate) fn downgrade_value(&mut self, version: Version, loss: &mut ::keyferry_ttlv::Loss) -> bool {
                match self {
                    $(AttributeValue::$variant(value) => ::keyferry_ttlv::Downgrade::downgrade(value, version, loss),)*
                    AttributeValue::Custom(custom) => match &mut custom.value {
                        Some(value) => ::keyferry_ttlv::Downgrade::downgrade(value, version, loss),
                        None => true,
                    },
                    AttributeValue::Unknown(_) => true,
                }
            }

            /// Writes the bare value under `under`.
            pub(crate) fn encode_value(&self, under: Tag, w: &mut ::keyferry_ttlv::Writer) -> ::keyferry_ttlv::Result<()> {
                match self {
                    $(AttributeValue::$variant(value) => ::keyferry_ttlv::Encode::encode(value, under, w),)*
                    AttributeValue::Custom(custom) => match &custom.value {
                        Some(value) => ::keyferry_ttlv::Encode::encode(value, under, w),
                        None => Ok(()),
                    },
                    AttributeValue::Unknown(unknown) => unknown.encode_value(w),
                }
            }
        }
    };
    (@many One) => { false };
    (@many Many) => { true };
    (@on $on:ident) => { ObjectKinds::$on };
    (@on $on:ident $on_1:ident) => { ObjectKinds::$on_1 };
}

// variant(type) = tag, versions, set by; the server may modify, the client may modify, the client may delete; how many; on which
// objects, in 2.x and, where it differs, in 1.x
attributes! {
    UniqueIdentifier(UniqueIdentifier) = UNIQUE_IDENTIFIER, V1_0, Server; Never, Never, Never; One; All;
    Name(Name) = NAME, V1_0, Client; Always, Always, Always; Many; All;
    ObjectType(ObjectType) = OBJECT_TYPE, V1_0, Server; Never, Never, Never; One; All;
    CryptographicAlgorithm(CryptographicAlgorithm) = CRYPTOGRAPHIC_ALGORITHM, V1_0, Server; Never, Never, Never; One; All / KeysCertificatesTemplates;
    CryptographicLength(i32) = CRYPTOGRAPHIC_LENGTH, V1_0, Server; Never, Never, Never; One; All / KeysCertificatesTemplates;
    CryptographicParameters(Box<CryptographicParameters>) = CRYPTOGRAPHIC_PARAMETERS, V1_0, Client; Never, Always, Always; Many; All / KeysCertificatesTemplates;
    CryptographicDomainParameters(CryptographicDomainParameters) = CRYPTOGRAPHIC_DOMAIN_PARAMETERS, V1_0, Client; Never, Never, Never; One; Asymmetric / AsymmetricTemplates;
    CertificateType(CertificateType) = CERTIFICATE_TYPE, V1_0, Server; Never, Never, Never; One; Certificates;
    CertificateIdentifier(Box<CertificateIdentifier>) = CERTIFICATE_IDENTIFIER, V1_0..V1_4, Server; Never, Never, Never; One; Certificates;
    CertificateSubject(Box<CertificateSubject>) = CERTIFICATE_SUBJECT, V1_0..V1_4, Server; Never, Never, Never; One; Certificates;
    CertificateIssuer(Box<CertificateIssuer>) = CERTIFICATE_ISSUER, V1_0..V1_4, Server; Never, Never, Never; One; Certificates;
    Digest(Digest) = DIGEST, V1_0, Server; Never, Never, Never; Many; All / CryptographicOpaque;
    OperationPolicyName(Text) = OPERATION_POLICY_NAME, V1_0..V1_4, Both; Always, Never, Never; One; All;
    CryptographicUsageMask(CryptographicUsageMask) = CRYPTOGRAPHIC_USAGE_MASK, V1_0, Both; Always, Never, Never; One; All / CryptographicTemplates;
    LeaseTime(Interval) = LEASE_TIME, V1_0, Server; Always, Never, Never; One; All / Cryptographic;
    UsageLimits(UsageLimits) = USAGE_LIMITS, V1_0, Both; Always, UntilAllocated, UntilAllocated; One; All / KeysTemplates;
    State(State) = STATE, V1_0, Server; Always, Never, Never; One; All / Cryptographic;
    InitialDate(DateTime) = INITIAL_DATE, V1_0, Server; Never, Never, Never; One; All;
    ActivationDate(DateTime) = ACTIVATION_DATE, V1_0, Both; PreActive, PreActive, Never; One; All / CryptographicTemplates;
    ProcessStartDate(DateTime) = PROCESS_START_DATE, V1_0, Both; UntilReached, UntilReached, Never; One; All / SymmetricTemplates;
    ProtectStopDate(DateTime) = PROTECT_STOP_DATE, V1_0, Both; UntilReached, UntilReached, Never; One; All / SymmetricTemplates;
    DeactivationDate(DateTime) = DEACTIVATION_DATE, V1_0, Both; PreActiveOrActive, PreActiveOrActive, Never; One; All / CryptographicTemplates;
    DestroyDate(DateTime) = DESTROY_DATE, V1_0, Server; Never, Never, Never; One; All / CryptographicOpaque;
    CompromiseOccurrenceDate(DateTime) = COMPROMISE_OCCURRENCE_DATE, V1_0, Server; Never, Never, Never; One; All / CryptographicOpaque;
    CompromiseDate(DateTime) = COMPROMISE_DATE, V1_0, Server; Never, Never, Never; One; All / CryptographicOpaque;
    RevocationReason(RevocationReason) = REVOCATION_REASON, V1_0, Server; Always, Never, Never; One; All / CryptographicOpaque;
    ArchiveDate(DateTime) = ARCHIVE_DATE, V1_0, Server; Never, Never, Never; One; All;
    ObjectGroup(Text) = OBJECT_GROUP, V1_0, Both; Always, Always, Always; Many; All;
    Link(Link) = LINK, V1_0, Both; Always, Always, Always; Many; All / Cryptographic;
    ApplicationSpecificInformation(ApplicationSpecificInformation) = APPLICATION_SPECIFIC_INFORMATION, V1_0, Both; Always, Always, Always; Many; All;
    ContactInformation(Text) = CONTACT_INFORMATION, V1_0, Both; Always, Always, Always; One; All;
    LastChangeDate(DateTime) = LAST_CHANGE_DATE, V1_0, Server; Always, Never, Never; One; All;
    CertificateLength(i32) = CERTIFICATE_LENGTH, V1_1, Server; Never, Never, Never; One; Certificates;
    X509CertificateIdentifier(Box<X509CertificateIdentifier>) = X509_CERTIFICATE_IDENTIFIER, V1_1, Server; Never, Never, Never; One; Certificates;
    X509CertificateSubject(Box<X509CertificateSubject>) = X509_CERTIFICATE_SUBJECT, V1_1, Server; Never, Never, Never; One; Certificates;
    X509CertificateIssuer(Box<X509CertificateIssuer>) = X509_CERTIFICATE_ISSUER, V1_1, Server; Never, Never, Never; One; Certificates;
    DigitalSignatureAlgorithm(DigitalSignatureAlgorithm) = DIGITAL_SIGNATURE_ALGORITHM, V1_1, Server; Never, Never, Never; Many; CertificatesPgpKeys;
    Fresh(bool) = FRESH, V1_1, Both; Always, Never, Never; One; All / Cryptographic;
    AlternativeName(AlternativeName) = ALTERNATIVE_NAME, V1_2, Client; Always, Always, Always; Many; All;
    KeyValuePresent(bool) = KEY_VALUE_PRESENT, V1_2, Server; Never, Never, Never; One; All / Confidential;
    KeyValueLocation(KeyValueLocation) = KEY_VALUE_LOCATION, V1_2, Client; Never, Always, Always; Many; All / Confidential;
    OriginalCreationDate(DateTime) = ORIGINAL_CREATION_DATE, V1_2, Both; Never, Never, Never; One; All;
    RandomNumberGenerator(Box<RngParameters>) = RANDOM_NUMBER_GENERATOR, V1_3, Both; Never, Never, Never; One; All / Cryptographic;
    PKCS12FriendlyName(Text) = PKCS_12_FRIENDLY_NAME, V1_4, Both; Never, Always, Always; One; All / Cryptographic;
    Description(Text) = DESCRIPTION, V1_4, Both; Always, Always, Always; One; All;
    Comment(Text) = COMMENT, V1_4, Both; Always, Always, Always; One; All;
    Sensitive(bool) = SENSITIVE, V1_4, Both; Always, Always, Never; One; All;
    AlwaysSensitive(bool) = ALWAYS_SENSITIVE, V1_4, Server; Always, Never, Never; One; All;
    Extractable(bool) = EXTRACTABLE, V1_4, Both; Always, Always, Never; One; All;
    NeverExtractable(bool) = NEVER_EXTRACTABLE, V1_4, Server; Always, Never, Never; One; All;
    CertificateSubjectCN(Text) = CERTIFICATE_SUBJECT_CN, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateSubjectO(Text) = CERTIFICATE_SUBJECT_O, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateSubjectOU(Text) = CERTIFICATE_SUBJECT_OU, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateSubjectEmail(Text) = CERTIFICATE_SUBJECT_EMAIL, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateSubjectC(Text) = CERTIFICATE_SUBJECT_C, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateSubjectST(Text) = CERTIFICATE_SUBJECT_ST, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateSubjectL(Text) = CERTIFICATE_SUBJECT_L, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateSubjectUID(Text) = CERTIFICATE_SUBJECT_UID, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateSubjectSerialNumber(Text) = CERTIFICATE_SUBJECT_SERIAL_NUMBER, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateSubjectTitle(Text) = CERTIFICATE_SUBJECT_TITLE, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateSubjectDC(Text) = CERTIFICATE_SUBJECT_DC, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateSubjectDNQualifier(Text) = CERTIFICATE_SUBJECT_DN_QUALIFIER, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateIssuerCN(Text) = CERTIFICATE_ISSUER_CN, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateIssuerO(Text) = CERTIFICATE_ISSUER_O, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateIssuerOU(Text) = CERTIFICATE_ISSUER_OU, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateIssuerEmail(Text) = CERTIFICATE_ISSUER_EMAIL, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateIssuerC(Text) = CERTIFICATE_ISSUER_C, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateIssuerST(Text) = CERTIFICATE_ISSUER_ST, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateIssuerL(Text) = CERTIFICATE_ISSUER_L, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateIssuerUID(Text) = CERTIFICATE_ISSUER_UID, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateIssuerSerialNumber(Text) = CERTIFICATE_ISSUER_SERIAL_NUMBER, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateIssuerTitle(Text) = CERTIFICATE_ISSUER_TITLE, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateIssuerDC(Text) = CERTIFICATE_ISSUER_DC, V2_0, Server; Never, Never, Never; Many; Certificates;
    CertificateIssuerDNQualifier(Text) = CERTIFICATE_ISSUER_DN_QUALIFIER, V2_0, Server; Never, Never, Never; Many; Certificates;
    KeyFormatType(KeyFormatType) = KEY_FORMAT_TYPE, V2_0, Server; Never, Never, Never; One; All;
    NISTKeyType(NISTKeyType) = NIST_KEY_TYPE, V2_0, Client; Never, Never, Never; Many; All;
    OpaqueDataType(Enumeration) = OPAQUE_DATA_TYPE, V2_0, Server; Never, Never, Never; One; Opaque;
    ProtectionLevel(ProtectionLevel) = PROTECTION_LEVEL, V2_0, Client; Never, Always, Always; One; All;
    ProtectionPeriod(Interval) = PROTECTION_PERIOD, V2_0, Client; Never, Always, Always; One; All;
    ProtectionStorageMask(ProtectionStorageMask) = PROTECTION_STORAGE_MASK, V2_0, Server; Never, Never, Never; One; All;
    QuantumSafe(bool) = QUANTUM_SAFE, V2_0, Client; Never, Always, Always; One; All;
    ShortUniqueIdentifier(Vec<u8>) = SHORT_UNIQUE_IDENTIFIER, V2_0, Server; Never, Never, Never; One; All;
    RotateAutomatic(bool) = ROTATE_AUTOMATIC, V2_1, Both; Always, Never, Never; One; All;
    RotateDate(DateTime) = ROTATE_DATE, V2_1, Server; Never, Never, Never; One; All;
    RotateGeneration(i32) = ROTATE_GENERATION, V2_1, Server; Never, Never, Never; One; All;
    RotateInterval(Interval) = ROTATE_INTERVAL, V2_1, Both; Always, Never, Never; One; All;
    RotateLatest(bool) = ROTATE_LATEST, V2_1, Server; Always, Never, Never; One; All;
    RotateName(RotateName) = ROTATE_NAME, V2_1, Client; Never, Always, Always; One; All;
    RotateOffset(Interval) = ROTATE_OFFSET, V2_1, Both; Always, Never, Never; One; All;
}
