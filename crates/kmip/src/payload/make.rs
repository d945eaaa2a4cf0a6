//! Operations that make objects: Create, Create Key Pair, Register, Re-key, Derive Key, Certify, split keys.

use super::data::{CertificateRequestBytes, ProtectionStorageMasks};
use super::payloads;
use crate::attribute::structure::CryptographicParameters;
use crate::identifier::UniqueIdentifier;
use crate::object::{BigInteger, Object};
use crate::secret::Secret;
use crate::spec::*;
use crate::template::{TemplateAttribute, TemplateTags};
use keyferry_ttlv::{Decode, Downgrade, Encode, Extra, Interval};

payloads! {
    /// KMIP 2.1 §6.1.8, since 1.0.
    CreateRequest: CREATE {
        object_type: ObjectType,
        #[ttlv(group = TemplateTags::OBJECT)]
        attributes: TemplateAttribute,
        #[ttlv(since = "2.0")]
        protection_storage_masks: Option<ProtectionStorageMasks>,
    }
    /// KMIP 2.1 §6.1.8, since 1.0.
    CreateResponse: CREATE {
        object_type: ObjectType,
        unique_identifier: UniqueIdentifier,
        /// Attributes that the server set by implication, until 1.4.
        #[ttlv(group = TemplateTags::OBJECT.until_1_4())]
        attributes: Option<TemplateAttribute>,
    }
    /// KMIP 2.1 §6.1.43, since 1.0.
    RegisterRequest: REGISTER {
        object_type: ObjectType,
        #[ttlv(group = TemplateTags::OBJECT)]
        attributes: TemplateAttribute,
        #[ttlv(choice, tag = tag::SYMMETRIC_KEY)]
        object: Option<Object>,
        #[ttlv(since = "2.0")]
        protection_storage_masks: Option<ProtectionStorageMasks>,
    }
    /// KMIP 2.1 §6.1.43, since 1.0.
    RegisterResponse: REGISTER {
        unique_identifier: UniqueIdentifier,
        /// Attributes that the server set by implication, until 1.4.
        #[ttlv(group = TemplateTags::OBJECT.until_1_4())]
        attributes: Option<TemplateAttribute>,
    }
    /// KMIP 2.1 §6.1.9, since 1.0.
    #[derive(Default)]
    CreateKeyPairRequest: CREATE_KEY_PAIR {
        #[ttlv(group = TemplateTags::COMMON)]
        common_attributes: Option<TemplateAttribute>,
        #[ttlv(group = TemplateTags::PRIVATE_KEY)]
        private_key_attributes: Option<TemplateAttribute>,
        #[ttlv(group = TemplateTags::PUBLIC_KEY)]
        public_key_attributes: Option<TemplateAttribute>,
        #[ttlv(tag = tag::COMMON_PROTECTION_STORAGE_MASKS, since = "2.0")]
        common_protection_storage_masks: Option<ProtectionStorageMasks>,
        #[ttlv(tag = tag::PRIVATE_PROTECTION_STORAGE_MASKS, since = "2.0")]
        private_protection_storage_masks: Option<ProtectionStorageMasks>,
        #[ttlv(tag = tag::PUBLIC_PROTECTION_STORAGE_MASKS, since = "2.0")]
        public_protection_storage_masks: Option<ProtectionStorageMasks>,
    }
    /// KMIP 2.1 §6.1.9, since 1.0.
    CreateKeyPairResponse: CREATE_KEY_PAIR {
        #[ttlv(tag = tag::PRIVATE_KEY_UNIQUE_IDENTIFIER)]
        private_key_unique_identifier: UniqueIdentifier,
        #[ttlv(tag = tag::PUBLIC_KEY_UNIQUE_IDENTIFIER)]
        public_key_unique_identifier: UniqueIdentifier,
        /// Attributes that the server set by implication, until 1.4.
        #[ttlv(group = TemplateTags::PRIVATE_KEY.until_1_4())]
        private_key_attributes: Option<TemplateAttribute>,
        /// Attributes that the server set by implication, until 1.4.
        #[ttlv(group = TemplateTags::PUBLIC_KEY.until_1_4())]
        public_key_attributes: Option<TemplateAttribute>,
    }
    /// KMIP 2.1 §6.1.46, since 1.0.
    #[derive(Default)]
    ReKeyRequest: RE_KEY {
        unique_identifier: Option<UniqueIdentifier>,
        /// How much later than the Initial Date the Activation Date shall be.
        #[ttlv(tag = tag::OFFSET)]
        offset: Option<Interval>,
        #[ttlv(group = TemplateTags::OBJECT)]
        attributes: Option<TemplateAttribute>,
        #[ttlv(since = "2.0")]
        protection_storage_masks: Option<ProtectionStorageMasks>,
    }
    /// KMIP 2.1 §6.1.46, since 1.0.
    ReKeyResponse: RE_KEY {
        unique_identifier: UniqueIdentifier,
        /// Attributes that the server set by implication, until 1.4.
        #[ttlv(group = TemplateTags::OBJECT.until_1_4())]
        attributes: Option<TemplateAttribute>,
    }
    /// KMIP 2.1 §6.1.47, since 1.1.
    #[derive(Default)]
    ReKeyKeyPairRequest: RE_KEY_KEY_PAIR {
        #[ttlv(tag = tag::PRIVATE_KEY_UNIQUE_IDENTIFIER)]
        private_key_unique_identifier: Option<UniqueIdentifier>,
        /// How much later than the Initial Date the Activation Date shall be.
        #[ttlv(tag = tag::OFFSET)]
        offset: Option<Interval>,
        #[ttlv(group = TemplateTags::COMMON)]
        common_attributes: Option<TemplateAttribute>,
        #[ttlv(group = TemplateTags::PRIVATE_KEY)]
        private_key_attributes: Option<TemplateAttribute>,
        #[ttlv(group = TemplateTags::PUBLIC_KEY)]
        public_key_attributes: Option<TemplateAttribute>,
        #[ttlv(tag = tag::COMMON_PROTECTION_STORAGE_MASKS, since = "2.0")]
        common_protection_storage_masks: Option<ProtectionStorageMasks>,
        #[ttlv(tag = tag::PRIVATE_PROTECTION_STORAGE_MASKS, since = "2.0")]
        private_protection_storage_masks: Option<ProtectionStorageMasks>,
        #[ttlv(tag = tag::PUBLIC_PROTECTION_STORAGE_MASKS, since = "2.0")]
        public_protection_storage_masks: Option<ProtectionStorageMasks>,
    }
    /// KMIP 2.1 §6.1.47, since 1.1.
    ReKeyKeyPairResponse: RE_KEY_KEY_PAIR {
        #[ttlv(tag = tag::PRIVATE_KEY_UNIQUE_IDENTIFIER)]
        private_key_unique_identifier: UniqueIdentifier,
        #[ttlv(tag = tag::PUBLIC_KEY_UNIQUE_IDENTIFIER)]
        public_key_unique_identifier: UniqueIdentifier,
        /// Attributes that the server set by implication, until 1.4.
        #[ttlv(group = TemplateTags::PRIVATE_KEY.until_1_4())]
        private_key_attributes: Option<TemplateAttribute>,
        /// Attributes that the server set by implication, until 1.4.
        #[ttlv(group = TemplateTags::PUBLIC_KEY.until_1_4())]
        public_key_attributes: Option<TemplateAttribute>,
    }
    /// KMIP 2.1 §6.1.14, since 1.0.
    DeriveKeyRequest: DERIVE_KEY {
        object_type: ObjectType,
        /// The objects to derive from; one at least.
        #[ttlv(at_least_one)]
        unique_identifiers: Vec<UniqueIdentifier>,
        derivation_method: DerivationMethod,
        derivation_parameters: DerivationParameters,
        #[ttlv(group = TemplateTags::OBJECT)]
        attributes: TemplateAttribute,
    }
    /// KMIP 2.1 §6.1.14, since 1.0.
    DeriveKeyResponse: DERIVE_KEY {
        unique_identifier: UniqueIdentifier,
        /// Attributes that the server set by implication, until 1.4.
        #[ttlv(group = TemplateTags::OBJECT.until_1_4())]
        attributes: Option<TemplateAttribute>,
    }
    /// KMIP 2.1 §6.1.6, since 1.0.
    #[derive(Default)]
    CertifyRequest: CERTIFY {
        unique_identifier: Option<UniqueIdentifier>,
        #[ttlv(required_until = "1.0")]
        certificate_request_type: Option<CertificateRequestType>,
        #[ttlv(group = ())]
        certificate_request: CertificateRequestBytes,
        #[ttlv(group = TemplateTags::OBJECT)]
        attributes: Option<TemplateAttribute>,
        #[ttlv(since = "2.0")]
        protection_storage_masks: Option<ProtectionStorageMasks>,
    }
    /// KMIP 2.1 §6.1.6, since 1.0.
    CertifyResponse: CERTIFY {
        unique_identifier: UniqueIdentifier,
        /// Attributes that the server set by implication, until 1.4.
        #[ttlv(group = TemplateTags::OBJECT.until_1_4())]
        attributes: Option<TemplateAttribute>,
    }
    /// KMIP 2.1 §6.1.45, since 1.0.
    #[derive(Default)]
    ReCertifyRequest: RE_CERTIFY {
        unique_identifier: Option<UniqueIdentifier>,
        #[ttlv(tag = tag::CERTIFICATE_REQUEST_UNIQUE_IDENTIFIER, since = "2.0")]
        certificate_request_unique_identifier: Option<UniqueIdentifier>,
        #[ttlv(required_until = "1.0")]
        certificate_request_type: Option<CertificateRequestType>,
        #[ttlv(group = ())]
        certificate_request: CertificateRequestBytes,
        /// How much later than the Initial Date the Activation Date shall be.
        #[ttlv(tag = tag::OFFSET)]
        offset: Option<Interval>,
        #[ttlv(group = TemplateTags::OBJECT)]
        attributes: Option<TemplateAttribute>,
        #[ttlv(since = "2.0")]
        protection_storage_masks: Option<ProtectionStorageMasks>,
    }
    /// KMIP 2.1 §6.1.45, since 1.0.
    ReCertifyResponse: RE_CERTIFY {
        unique_identifier: UniqueIdentifier,
        /// Attributes that the server set by implication, until 1.4.
        #[ttlv(group = TemplateTags::OBJECT.until_1_4())]
        attributes: Option<TemplateAttribute>,
    }
    /// KMIP 2.1 §6.1.10, since 1.2.
    CreateSplitKeyRequest: CREATE_SPLIT_KEY {
        object_type: ObjectType,
        /// The key to split; a new one is made without.
        unique_identifier: Option<UniqueIdentifier>,
        #[ttlv(tag = tag::SPLIT_KEY_PARTS)]
        split_key_parts: i32,
        #[ttlv(tag = tag::SPLIT_KEY_THRESHOLD)]
        split_key_threshold: i32,
        split_key_method: SplitKeyMethod,
        #[ttlv(tag = tag::PRIME_FIELD_SIZE)]
        prime_field_size: Option<BigInteger>,
        #[ttlv(group = TemplateTags::OBJECT)]
        attributes: TemplateAttribute,
        #[ttlv(since = "2.0")]
        protection_storage_masks: Option<ProtectionStorageMasks>,
    }
    /// KMIP 2.1 §6.1.10, since 1.2.
    #[derive(Default)]
    CreateSplitKeyResponse: CREATE_SPLIT_KEY {
        /// In 1.2 alone.
        #[ttlv(until = "1.2")]
        object_type: Option<ObjectType>,
        #[ttlv(at_least_one)]
        unique_identifiers: Vec<UniqueIdentifier>,
        /// Attributes that the server set by implication, until 1.4.
        #[ttlv(group = TemplateTags::OBJECT.until_1_4())]
        attributes: Option<TemplateAttribute>,
    }
    /// KMIP 2.1 §6.1.27, since 1.2.
    JoinSplitKeyRequest: JOIN_SPLIT_KEY {
        object_type: ObjectType,
        #[ttlv(at_least_one)]
        unique_identifiers: Vec<UniqueIdentifier>,
        secret_data_type: Option<SecretDataType>,
        #[ttlv(group = TemplateTags::OBJECT)]
        attributes: Option<TemplateAttribute>,
        #[ttlv(since = "2.0")]
        protection_storage_masks: Option<ProtectionStorageMasks>,
    }
    /// KMIP 2.1 §6.1.27, since 1.2.
    JoinSplitKeyResponse: JOIN_SPLIT_KEY {
        /// In 1.2 alone.
        #[ttlv(until = "1.2")]
        object_type: Option<ObjectType>,
        unique_identifier: UniqueIdentifier,
        /// Attributes that the server set by implication, until 1.4.
        #[ttlv(group = TemplateTags::OBJECT.until_1_4())]
        attributes: Option<TemplateAttribute>,
    }
    /// KMIP 2.1 §6.1.48, since 2.0: a Certificate Request to be signed, or the Certificate to take over.
    #[derive(Default)]
    ReProvisionRequest: RE_PROVISION {
        #[ttlv(choice)]
        certificate: Option<Object>,
    }
    /// KMIP 2.1 §6.1.48, since 2.0.
    #[derive(Default)]
    ReProvisionResponse: RE_PROVISION {
        unique_identifier: Option<UniqueIdentifier>,
    }
}

/// The parameters of Derive Key (KMIP 2.1 §7.12, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::DERIVATION_PARAMETERS)]
pub struct DerivationParameters {
    /// Depends on the pseudo-random function.
    pub cryptographic_parameters: Option<Box<CryptographicParameters>>,
    /// Depends on the pseudo-random function.
    #[ttlv(tag = tag::INITIALIZATION_VECTOR)]
    pub initialization_vector: Option<Vec<u8>>,
    /// Needed, unless a Secret Data object is named; several since 2.0.
    #[ttlv(tag = tag::DERIVATION_DATA, repeated_since = "2.0")]
    pub derivation_data: Vec<Secret>,
    /// Needed for PBKDF2.
    #[ttlv(tag = tag::SALT)]
    pub salt: Option<Vec<u8>>,
    /// Needed for PBKDF2.
    #[ttlv(tag = tag::ITERATION_COUNT)]
    pub iteration_count: Option<i32>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}
