//! The managed objects and what they consist of (KMIP 2.1 §2 and §3, 1.4 §2).

use crate::attribute::Attributes;
use crate::attribute::structure::CryptographicParameters;
use crate::identifier::UniqueIdentifier;
use crate::projection::Projection;
use crate::secret::Secret;
use crate::spec::*;
use keyferry_ttlv::{
    Decode, Downgrade, Encode, Extra, Item, Raw, Reader, Result, Tag, Type, Writer,
};

/// A managed object.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[allow(missing_docs)]
pub enum Object {
    #[ttlv(tag = tag::CERTIFICATE)]
    Certificate(Certificate),
    #[ttlv(tag = tag::CERTIFICATE_REQUEST, since = "2.0")]
    CertificateRequest(CertificateRequest),
    #[ttlv(tag = tag::OPAQUE_OBJECT)]
    OpaqueObject(OpaqueObject),
    #[ttlv(tag = tag::PGP_KEY, since = "1.2")]
    PgpKey(PgpKey),
    #[ttlv(tag = tag::PRIVATE_KEY)]
    PrivateKey(Key),
    #[ttlv(tag = tag::PUBLIC_KEY)]
    PublicKey(Key),
    #[ttlv(tag = tag::SECRET_DATA)]
    SecretData(SecretData),
    #[ttlv(tag = tag::SPLIT_KEY)]
    SplitKey(SplitKey),
    #[ttlv(tag = tag::SYMMETRIC_KEY)]
    SymmetricKey(Key),
    #[ttlv(tag = tag::TEMPLATE, until = "1.4")]
    Template(Template),
}

impl Object {
    /// The object's Object Type.
    pub fn object_type(&self) -> ObjectType {
        match self {
            Object::Certificate(_) => ObjectType::CERTIFICATE,
            Object::CertificateRequest(_) => ObjectType::CERTIFICATE_REQUEST,
            Object::OpaqueObject(_) => ObjectType::OPAQUE_OBJECT,
            Object::PgpKey(_) => ObjectType::PGP_KEY,
            Object::PrivateKey(_) => ObjectType::PRIVATE_KEY,
            Object::PublicKey(_) => ObjectType::PUBLIC_KEY,
            Object::SecretData(_) => ObjectType::SECRET_DATA,
            Object::SplitKey(_) => ObjectType::SPLIT_KEY,
            Object::SymmetricKey(_) => ObjectType::SYMMETRIC_KEY,
            Object::Template(_) => ObjectType::TEMPLATE,
        }
    }

    /// The Key Block, of those that have one.
    pub fn key_block(&self) -> Option<&KeyBlock> {
        match self {
            Object::PgpKey(key) => Some(&key.key_block),
            Object::PrivateKey(key) | Object::PublicKey(key) | Object::SymmetricKey(key) => {
                Some(&key.key_block)
            }
            Object::SecretData(secret) => Some(&secret.key_block),
            Object::SplitKey(key) => Some(&key.key_block),
            Object::Certificate(_)
            | Object::CertificateRequest(_)
            | Object::OpaqueObject(_)
            | Object::Template(_) => None,
        }
    }

    /// The bytes that a Digest covers: key material, certificate value or opaque data; of a transparent key the encoded Key Material
    /// (KMIP 2.1 §4.21). A wrapped key has none.
    pub fn digestible(&self) -> Option<&[u8]> {
        match self {
            Object::Certificate(certificate) => Some(&certificate.value),
            Object::CertificateRequest(request) => Some(&request.value),
            Object::OpaqueObject(opaque) => Some(opaque.value.expose()),
            _ => match self.key_block()?.key_value.as_ref()? {
                KeyValue::Plain(plain) => match &plain.key_material {
                    KeyMaterial::Bytes(bytes) => Some(bytes.expose()),
                    KeyMaterial::Structure(raw) => Some(raw.bytes()),
                },
                KeyValue::Wrapped(_) => None,
            },
        }
    }

    /// The number of bytes of material in the object, for progress and statistics.
    pub fn material_len(&self) -> usize {
        match self.key_block().and_then(|block| block.key_value.as_ref()) {
            Some(KeyValue::Wrapped(secret)) => secret.len(),
            Some(KeyValue::Plain(PlainKeyValue {
                key_material: KeyMaterial::Structure(raw),
                ..
            })) => raw.bytes().len(),
            _ => self.digestible().map_or(0, <[u8]>::len),
        }
    }

    /// A symmetric key in Raw format.
    pub fn symmetric_key(algorithm: CryptographicAlgorithm, bits: i32, key: Secret) -> Object {
        Object::SymmetricKey(Key {
            key_block: KeyBlock::plain(KeyFormatType::RAW, Some((algorithm, bits)), key).into(),
            extra: Extra::NONE,
        })
    }

    /// A certificate.
    pub fn certificate(certificate_type: CertificateType, value: Vec<u8>) -> Object {
        Object::Certificate(Certificate {
            certificate_type,
            value,
            extra: Extra::NONE,
        })
    }

    /// A password or seed.
    pub fn secret_data(secret_data_type: SecretDataType, value: Secret) -> Object {
        Object::SecretData(SecretData {
            secret_data_type,
            key_block: KeyBlock::plain(KeyFormatType::OPAQUE, None, value).into(),
            extra: Extra::NONE,
        })
    }
}

/// A certificate (KMIP 2.1 §2.1, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[allow(missing_docs)]
pub struct Certificate {
    pub certificate_type: CertificateType,
    #[ttlv(tag = tag::CERTIFICATE_VALUE)]
    pub value: Vec<u8>,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// A certificate request (KMIP 2.1 §2.2, since 2.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[allow(missing_docs)]
pub struct CertificateRequest {
    pub certificate_request_type: CertificateRequestType,
    #[ttlv(tag = tag::CERTIFICATE_REQUEST_VALUE)]
    pub value: Vec<u8>,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// Bytes that the server keeps without understanding them (KMIP 2.1 §2.3, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[allow(missing_docs)]
pub struct OpaqueObject {
    #[ttlv(tag = tag::OPAQUE_DATA_TYPE)]
    pub opaque_data_type: keyferry_ttlv::Enumeration,
    #[ttlv(tag = tag::OPAQUE_DATA_VALUE)]
    pub value: Secret,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// A PGP key (KMIP 2.1 §2.4, since 1.2).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[allow(missing_docs)]
pub struct PgpKey {
    #[ttlv(tag = tag::PGP_KEY_VERSION)]
    pub pgp_key_version: i32,
    pub key_block: Box<KeyBlock>,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// A Symmetric Key, Private Key or Public Key (KMIP 2.1 §2.9, §2.5, §2.6, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[allow(missing_docs)]
pub struct Key {
    pub key_block: Box<KeyBlock>,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// A secret that is no key (KMIP 2.1 §2.7, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[allow(missing_docs)]
pub struct SecretData {
    pub secret_data_type: SecretDataType,
    pub key_block: Box<KeyBlock>,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// One part of a split key (KMIP 2.1 §2.8, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[allow(missing_docs)]
pub struct SplitKey {
    #[ttlv(tag = tag::SPLIT_KEY_PARTS)]
    pub split_key_parts: i32,
    #[ttlv(tag = tag::KEY_PART_IDENTIFIER)]
    pub key_part_identifier: i32,
    #[ttlv(tag = tag::SPLIT_KEY_THRESHOLD)]
    pub split_key_threshold: i32,
    pub split_key_method: SplitKeyMethod,
    #[ttlv(tag = tag::PRIME_FIELD_SIZE)]
    pub prime_field_size: Option<BigInteger>,
    pub key_block: Box<KeyBlock>,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// Attributes to create objects from (KMIP 1.4 §2.2.6, 1.0 to 1.4, deprecated in 1.3).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[allow(missing_docs)]
pub struct Template {
    #[ttlv(group = Projection::Required)]
    pub attributes: Attributes,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// A Big Integer: two's complement, a multiple of eight bytes.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BigInteger(pub Vec<u8>);

impl Decode for BigInteger {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        item.big_integer(r).map(|bytes| BigInteger(bytes.to_vec()))
    }
}

impl Encode for BigInteger {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        w.big_integer(tag, &self.0)
    }
}

/// A key and what must be known to use it (KMIP 2.1 §3.1, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::KEY_BLOCK)]
pub struct KeyBlock {
    /// The format of the material.
    pub key_format_type: KeyFormatType,
    /// How an elliptic curve point is compressed.
    pub key_compression_type: Option<KeyCompressionType>,
    /// The key value; absent when the server does not hold it (since 1.2) or it was destroyed.
    #[ttlv(tag = tag::KEY_VALUE)]
    pub key_value: Option<KeyValue>,
    /// The algorithm that it is for.
    pub cryptographic_algorithm: Option<CryptographicAlgorithm>,
    /// The key's length in bits.
    #[ttlv(tag = tag::CRYPTOGRAPHIC_LENGTH)]
    pub cryptographic_length: Option<i32>,
    /// How the key is wrapped, when it is.
    pub key_wrapping_data: Option<Box<KeyWrappingData>>,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl KeyBlock {
    /// Material in the clear.
    pub fn plain(
        key_format_type: KeyFormatType,
        algorithm: Option<(CryptographicAlgorithm, i32)>,
        material: Secret,
    ) -> Self {
        KeyBlock {
            key_format_type,
            key_compression_type: None,
            key_value: Some(KeyValue::Plain(PlainKeyValue {
                key_material: KeyMaterial::Bytes(material),
                attributes: Attributes::new(),
                extra: Extra::NONE,
            })),
            cryptographic_algorithm: algorithm.map(|(algorithm, _)| algorithm),
            cryptographic_length: algorithm.map(|(_, bits)| bits),
            key_wrapping_data: None,
            extra: Extra::NONE,
        }
    }
}

/// A Key Value: a structure, or its wrapped bytes (KMIP 2.1 §3.2, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq)]
pub enum KeyValue {
    /// A key value in the clear, or one with wrapped material in it.
    Plain(PlainKeyValue),
    /// Wrapped as a whole.
    Wrapped(Secret),
}

/// Material, and attributes that travel with it.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
pub struct PlainKeyValue {
    /// The material.
    #[ttlv(tag = tag::KEY_MATERIAL)]
    pub key_material: KeyMaterial,
    /// Attributes wrapped with it.
    #[ttlv(group = Projection::Optional)]
    pub attributes: Attributes,
    /// Other fields.
    #[ttlv(extra)]
    pub extra: Extra,
}

impl Decode for KeyValue {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        match item.ty() {
            Type::ByteString => Secret::decode(item, r).map(KeyValue::Wrapped),
            _ => PlainKeyValue::decode(item, r).map(KeyValue::Plain),
        }
    }
}

impl Encode for KeyValue {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        match self {
            KeyValue::Plain(plain) => plain.encode(tag, w),
            KeyValue::Wrapped(bytes) => bytes.encode(tag, w),
        }
    }
}

/// Key material: bytes in most formats, a structure in the transparent ones.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq)]
pub enum KeyMaterial {
    /// Bytes.
    Bytes(Secret),
    /// A transparent key, as it came; wiped on drop like the bytes.
    Structure(Raw),
}

impl Decode for KeyMaterial {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> Result<Self> {
        match item.ty() {
            Type::Structure => Raw::decode(item, r).map(KeyMaterial::Structure),
            _ => Secret::decode(item, r).map(KeyMaterial::Bytes),
        }
    }
}

impl Encode for KeyMaterial {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        match self {
            KeyMaterial::Bytes(bytes) => bytes.encode(tag, w),
            KeyMaterial::Structure(raw) => raw.encode(tag, w),
        }
    }
}

/// The description of how a key value is wrapped (KMIP 2.1 §3.3, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::KEY_WRAPPING_DATA)]
#[allow(missing_docs)]
pub struct KeyWrappingData {
    pub wrapping_method: WrappingMethod,
    #[ttlv(tag = tag::ENCRYPTION_KEY_INFORMATION)]
    pub encryption_key_information: Option<WrappingKeyInformation>,
    #[ttlv(tag = tag::MAC_SIGNATURE_KEY_INFORMATION)]
    pub mac_signature_key_information: Option<WrappingKeyInformation>,
    #[ttlv(tag = tag::MAC_SIGNATURE)]
    pub mac_signature: Option<Vec<u8>>,
    #[ttlv(tag = tag::IV_COUNTER_NONCE)]
    pub iv_counter_nonce: Option<Vec<u8>>,
    #[ttlv(since = "1.1", vital)]
    pub encoding_option: Option<EncodingOption>,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// The key that wraps or signs, and how (KMIP 2.1 §3.3, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[allow(missing_docs)]
pub struct WrappingKeyInformation {
    pub unique_identifier: UniqueIdentifier,
    pub cryptographic_parameters: Option<Box<CryptographicParameters>>,
    #[ttlv(extra)]
    pub extra: Extra,
}

/// The request of a Get or Export to wrap what it returns (KMIP 2.1 §7.18, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::KEY_WRAPPING_SPECIFICATION)]
#[allow(missing_docs)]
pub struct KeyWrappingSpecification {
    pub wrapping_method: WrappingMethod,
    #[ttlv(tag = tag::ENCRYPTION_KEY_INFORMATION)]
    pub encryption_key_information: Option<WrappingKeyInformation>,
    #[ttlv(tag = tag::MAC_SIGNATURE_KEY_INFORMATION)]
    pub mac_signature_key_information: Option<WrappingKeyInformation>,
    #[ttlv(tag = tag::ATTRIBUTE_NAME)]
    pub attribute_names: Vec<crate::Text>,
    #[ttlv(since = "1.1", vital)]
    pub encoding_option: Option<EncodingOption>,
    #[ttlv(extra)]
    pub extra: Extra,
}
