//! The structures that attributes hold (KMIP 2.1 §4, 1.4 §3).

use crate::identifier::UniqueIdentifier;
use crate::spec::enumeration::cryptography::*;
use crate::spec::enumeration::object::*;
use crate::spec::tag;
use keyferry_ttlv::{Decode, Downgrade, Encode, Extra, Text};

/// A name (KMIP 2.1 §4.32, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::NAME)]
pub struct Name {
    /// The name itself.
    #[ttlv(tag = tag::NAME_VALUE)]
    pub value: Text,
    /// The type of the name, which tells how to read it.
    pub name_type: NameType,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl Name {
    /// An uninterpreted text as a name.
    pub fn text(value: impl Into<Text>) -> Self {
        Name {
            value: value.into(),
            name_type: NameType::UNINTERPRETED_TEXT_STRING,
            extra: Extra::NONE,
        }
    }
}

/// Another name, which need not be unique (KMIP 2.1 §4.2, since 1.2).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::ALTERNATIVE_NAME)]
pub struct AlternativeName {
    /// The name itself.
    #[ttlv(tag = tag::ALTERNATIVE_NAME_VALUE)]
    pub value: Text,
    /// The type of the name, which tells how to read it.
    pub alternative_name_type: AlternativeNameType,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// A pointer to another object of the same server (KMIP 2.1 §4.31, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::LINK)]
pub struct Link {
    /// The relation of the other object to this one.
    pub link_type: LinkType,
    /// The identifier of the other object, at this server.
    #[ttlv(tag = tag::LINKED_OBJECT_IDENTIFIER)]
    pub target: UniqueIdentifier,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// A digest of the key material (KMIP 2.1 §4.21, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::DIGEST)]
pub struct Digest {
    /// The hash.
    pub hashing_algorithm: HashingAlgorithm,
    /// Its value.
    #[ttlv(tag = tag::DIGEST_VALUE)]
    pub value: Option<Vec<u8>>,
    /// The format of the material that was hashed, since 1.1.
    #[ttlv(since = "1.1")]
    pub key_format_type: Option<KeyFormatType>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// The amount of data that an object may protect (KMIP 2.1 §4.59, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::USAGE_LIMITS)]
pub struct UsageLimits {
    /// The amount for the object's whole life.
    #[ttlv(tag = tag::USAGE_LIMITS_TOTAL)]
    pub total: i64,
    /// The amount that remains.
    #[ttlv(tag = tag::USAGE_LIMITS_COUNT)]
    pub count: Option<i64>,
    /// The unit of both.
    #[ttlv(tag = tag::USAGE_LIMITS_UNIT)]
    pub unit: UsageLimitsUnit,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// Why an object was revoked (KMIP 2.1 §4.47, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::REVOCATION_REASON)]
pub struct RevocationReason {
    /// The reason.
    #[ttlv(tag = tag::REVOCATION_REASON_CODE)]
    pub code: RevocationReasonCode,
    /// The reason in words.
    #[ttlv(tag = tag::REVOCATION_MESSAGE)]
    pub message: Option<Text>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// Data that an application keeps with an object (KMIP 2.1 §4.4, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::APPLICATION_SPECIFIC_INFORMATION)]
pub struct ApplicationSpecificInformation {
    /// The name space.
    #[ttlv(tag = tag::APPLICATION_NAMESPACE)]
    pub namespace: Text,
    /// The data; the server may choose it where a client leaves it out.
    #[ttlv(tag = tag::APPLICATION_DATA)]
    pub data: Option<Text>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

/// The parameters with which an object is to be used (KMIP 2.1 §4.16, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::CRYPTOGRAPHIC_PARAMETERS)]
#[allow(missing_docs)]
pub struct CryptographicParameters {
    pub block_cipher_mode: Option<BlockCipherMode>,
    pub padding_method: Option<PaddingMethod>,
    pub hashing_algorithm: Option<HashingAlgorithm>,
    pub key_role_type: Option<KeyRoleType>,
    #[ttlv(since = "1.2")]
    pub digital_signature_algorithm: Option<DigitalSignatureAlgorithm>,
    #[ttlv(since = "1.2")]
    pub cryptographic_algorithm: Option<CryptographicAlgorithm>,
    #[ttlv(tag = tag::RANDOM_IV, since = "1.2")]
    pub random_iv: Option<bool>,
    #[ttlv(tag = tag::IV_LENGTH, since = "1.2")]
    pub iv_length: Option<i32>,
    #[ttlv(tag = tag::TAG_LENGTH, since = "1.2")]
    pub tag_length: Option<i32>,
    #[ttlv(tag = tag::FIXED_FIELD_LENGTH, since = "1.2")]
    pub fixed_field_length: Option<i32>,
    #[ttlv(tag = tag::INVOCATION_FIELD_LENGTH, since = "1.2")]
    pub invocation_field_length: Option<i32>,
    #[ttlv(tag = tag::COUNTER_LENGTH, since = "1.2")]
    pub counter_length: Option<i32>,
    #[ttlv(tag = tag::INITIAL_COUNTER_VALUE, since = "1.2")]
    pub initial_counter_value: Option<i32>,
    #[ttlv(tag = tag::SALT_LENGTH, since = "1.4")]
    pub salt_length: Option<i32>,
    #[ttlv(since = "1.4")]
    pub mask_generator: Option<MaskGenerator>,
    #[ttlv(tag = tag::MASK_GENERATOR_HASHING_ALGORITHM, since = "1.4")]
    pub mask_generator_hashing_algorithm: Option<HashingAlgorithm>,
    #[ttlv(tag = tag::P_SOURCE, since = "1.4")]
    pub p_source: Option<Vec<u8>>,
    #[ttlv(tag = tag::TRAILER_FIELD, since = "1.4")]
    pub trailer_field: Option<i32>,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// Domain parameters of an asymmetric key pair (KMIP 2.1 §4.14, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::CRYPTOGRAPHIC_DOMAIN_PARAMETERS)]
#[allow(missing_docs)]
pub struct CryptographicDomainParameters {
    #[ttlv(tag = tag::QLENGTH)]
    pub qlength: Option<i32>,
    pub recommended_curve: Option<RecommendedCurve>,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// Issuer and serial number as text (KMIP 1.4 §3.13, 1.0 to 1.4, deprecated).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::CERTIFICATE_IDENTIFIER)]
#[allow(missing_docs)]
pub struct CertificateIdentifier {
    #[ttlv(tag = tag::ISSUER)]
    pub issuer: Text,
    #[ttlv(tag = tag::SERIAL_NUMBER)]
    pub serial_number: Option<Text>,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// Subject as text (KMIP 1.4 §3.14, 1.0 to 1.4, deprecated).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::CERTIFICATE_SUBJECT)]
#[allow(missing_docs)]
pub struct CertificateSubject {
    #[ttlv(tag = tag::CERTIFICATE_SUBJECT_DISTINGUISHED_NAME)]
    pub distinguished_name: Text,
    #[ttlv(tag = tag::CERTIFICATE_SUBJECT_ALTERNATIVE_NAME)]
    pub alternative_names: Vec<Text>,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// Issuer as text (KMIP 1.4 §3.15, 1.0 to 1.4, deprecated).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::CERTIFICATE_ISSUER)]
#[allow(missing_docs)]
pub struct CertificateIssuer {
    #[ttlv(tag = tag::CERTIFICATE_ISSUER_DISTINGUISHED_NAME)]
    pub distinguished_name: Text,
    #[ttlv(tag = tag::CERTIFICATE_ISSUER_ALTERNATIVE_NAME)]
    pub alternative_names: Vec<Text>,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// Issuer and serial number in DER (KMIP 2.1 §4.61, since 1.1).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::X509_CERTIFICATE_IDENTIFIER)]
#[allow(missing_docs)]
pub struct X509CertificateIdentifier {
    #[ttlv(tag = tag::ISSUER_DISTINGUISHED_NAME)]
    pub issuer: Vec<u8>,
    #[ttlv(tag = tag::CERTIFICATE_SERIAL_NUMBER)]
    pub serial_number: Vec<u8>,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// Subject in DER (KMIP 2.1 §4.63, since 1.1).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::X509_CERTIFICATE_SUBJECT)]
#[allow(missing_docs)]
pub struct X509CertificateSubject {
    #[ttlv(tag = tag::SUBJECT_DISTINGUISHED_NAME)]
    pub distinguished_name: Vec<u8>,
    #[ttlv(tag = tag::SUBJECT_ALTERNATIVE_NAME)]
    pub alternative_names: Vec<Vec<u8>>,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// Issuer in DER (KMIP 2.1 §4.62, since 1.1).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::X509_CERTIFICATE_ISSUER)]
#[allow(missing_docs)]
pub struct X509CertificateIssuer {
    #[ttlv(tag = tag::ISSUER_DISTINGUISHED_NAME)]
    pub distinguished_name: Vec<u8>,
    #[ttlv(tag = tag::ISSUER_ALTERNATIVE_NAME)]
    pub alternative_names: Vec<Vec<u8>>,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// The place of a key value that the server does not hold (KMIP 2.1 §4.27, since 1.2).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::KEY_VALUE_LOCATION)]
#[allow(missing_docs)]
pub struct KeyValueLocation {
    #[ttlv(tag = tag::KEY_VALUE_LOCATION_VALUE)]
    pub value: Text,
    pub key_value_location_type: KeyValueLocationType,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// A name for rotated keys (KMIP 2.1 §4.53, since 2.1).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::ROTATE_NAME)]
#[allow(missing_docs)]
pub struct RotateName {
    #[ttlv(tag = tag::ROTATE_NAME_VALUE)]
    pub value: Text,
    pub rotate_name_type: RotateNameType,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// The method by which random numbers were made (KMIP 2.1 §7.36, since 1.3).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::RNG_PARAMETERS)]
#[allow(missing_docs)]
pub struct RngParameters {
    pub rng_algorithm: RNGAlgorithm,
    pub cryptographic_algorithm: Option<CryptographicAlgorithm>,
    #[ttlv(tag = tag::CRYPTOGRAPHIC_LENGTH)]
    pub cryptographic_length: Option<i32>,
    pub hashing_algorithm: Option<HashingAlgorithm>,
    pub drbg_algorithm: Option<DRBGAlgorithm>,
    pub recommended_curve: Option<RecommendedCurve>,
    pub fips186_variation: Option<FIPS186Variation>,
    #[ttlv(tag = tag::PREDICTION_RESISTANCE)]
    pub prediction_resistance: Option<bool>,
    #[ttlv(extra)]
    pub extra: Extra,
}
