//! Transparent keys: Key Material with a name for each of its parts (KMIP 2.1 §3.4 to §3.12, 1.4 §2.1.7).

use crate::object::{BigInteger, KeyBlock, KeyMaterial, KeyValue, PlainKeyValue};
use crate::secret::Secret;
use crate::spec::names::context;
use crate::spec::*;
use keyferry_ttlv::{Decode, Downgrade, Encode, Extra, Raw, Result, Tag, Version, Writer};

/// A Big Integer that is key material: wiped, masked, compared in constant time. Two's complement, a multiple of eight bytes.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretInteger(pub Secret);

impl Decode for SecretInteger {
    fn decode<'a>(item: keyferry_ttlv::Item<'a>, r: &keyferry_ttlv::Reader<'a>) -> Result<Self> {
        item.big_integer(r)
            .map(|bytes| SecretInteger(Secret::new(bytes)))
    }
}

impl Encode for SecretInteger {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        w.big_integer(tag, self.0.expose())
    }
}

structures! {
    /// KMIP 2.1 §3.4, since 1.0.
    TransparentSymmetricKey = KEY_MATERIAL {
        #[ttlv(tag = tag::KEY)]
        key: Secret,
    }
    /// KMIP 2.1 §3.5, since 1.0.
    TransparentDsaPrivateKey = KEY_MATERIAL {
        #[ttlv(tag = tag::P)]
        p: BigInteger,
        #[ttlv(tag = tag::Q)]
        q: BigInteger,
        #[ttlv(tag = tag::G)]
        g: BigInteger,
        #[ttlv(tag = tag::X)]
        x: SecretInteger,
    }
    /// KMIP 2.1 §3.6, since 1.0.
    TransparentDsaPublicKey = KEY_MATERIAL {
        #[ttlv(tag = tag::P)]
        p: BigInteger,
        #[ttlv(tag = tag::Q)]
        q: BigInteger,
        #[ttlv(tag = tag::G)]
        g: BigInteger,
        #[ttlv(tag = tag::Y)]
        y: BigInteger,
    }
    /// KMIP 2.1 §3.7, since 1.0: the private exponent, the primes, or the primes' exponents must be there.
    TransparentRsaPrivateKey = KEY_MATERIAL {
        #[ttlv(tag = tag::MODULUS)]
        modulus: BigInteger,
        #[ttlv(tag = tag::PRIVATE_EXPONENT)]
        private_exponent: Option<SecretInteger>,
        #[ttlv(tag = tag::PUBLIC_EXPONENT)]
        public_exponent: Option<BigInteger>,
        #[ttlv(tag = tag::P)]
        p: Option<SecretInteger>,
        #[ttlv(tag = tag::Q)]
        q: Option<SecretInteger>,
        #[ttlv(tag = tag::PRIME_EXPONENT_P)]
        prime_exponent_p: Option<SecretInteger>,
        #[ttlv(tag = tag::PRIME_EXPONENT_Q)]
        prime_exponent_q: Option<SecretInteger>,
        #[ttlv(tag = tag::CRT_COEFFICIENT)]
        crt_coefficient: Option<SecretInteger>,
    }
    /// KMIP 2.1 §3.8, since 1.0.
    TransparentRsaPublicKey = KEY_MATERIAL {
        #[ttlv(tag = tag::MODULUS)]
        modulus: BigInteger,
        #[ttlv(tag = tag::PUBLIC_EXPONENT)]
        public_exponent: BigInteger,
    }
    /// KMIP 2.1 §3.9, since 1.0.
    TransparentDhPrivateKey = KEY_MATERIAL {
        #[ttlv(tag = tag::P)]
        p: BigInteger,
        #[ttlv(tag = tag::Q)]
        q: Option<BigInteger>,
        #[ttlv(tag = tag::G)]
        g: BigInteger,
        #[ttlv(tag = tag::J)]
        j: Option<BigInteger>,
        #[ttlv(tag = tag::X)]
        x: SecretInteger,
    }
    /// KMIP 2.1 §3.10, since 1.0.
    TransparentDhPublicKey = KEY_MATERIAL {
        #[ttlv(tag = tag::P)]
        p: BigInteger,
        #[ttlv(tag = tag::Q)]
        q: Option<BigInteger>,
        #[ttlv(tag = tag::G)]
        g: BigInteger,
        #[ttlv(tag = tag::J)]
        j: Option<BigInteger>,
        #[ttlv(tag = tag::Y)]
        y: BigInteger,
    }
    /// KMIP 2.1 §3.11, since 1.0: for ECDSA, ECDH or ECMQV until 1.4, for any use since 1.3.
    TransparentEcPrivateKey = KEY_MATERIAL {
        recommended_curve: RecommendedCurve,
        #[ttlv(tag = tag::D)]
        d: SecretInteger,
    }
    /// KMIP 2.1 §3.12, since 1.0: for ECDSA, ECDH or ECMQV until 1.4, for any use since 1.3.
    TransparentEcPublicKey = KEY_MATERIAL {
        recommended_curve: RecommendedCurve,
        #[ttlv(tag = tag::Q_STRING)]
        q_string: Vec<u8>,
    }
}

/// The Key Material of a transparent key, by its Key Format Type.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum TransparentKey {
    Symmetric(TransparentSymmetricKey),
    DsaPrivate(TransparentDsaPrivateKey),
    DsaPublic(TransparentDsaPublicKey),
    RsaPrivate(Box<TransparentRsaPrivateKey>),
    RsaPublic(TransparentRsaPublicKey),
    DhPrivate(TransparentDhPrivateKey),
    DhPublic(TransparentDhPublicKey),
    EcPrivate(TransparentEcPrivateKey),
    EcPublic(TransparentEcPublicKey),
}

impl TransparentKey {
    /// Reads Key Material of this format; none when the format is not a transparent one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(format: KeyFormatType, material: &Raw, version: Version) -> Result<Option<Self>> {
        use KeyFormatType as F;
        let cx = context(version);
        Ok(Some(match format {
            F::TRANSPARENT_SYMMETRIC_KEY => TransparentKey::Symmetric(material.read(cx)?),
            F::TRANSPARENT_DSA_PRIVATE_KEY => TransparentKey::DsaPrivate(material.read(cx)?),
            F::TRANSPARENT_DSA_PUBLIC_KEY => TransparentKey::DsaPublic(material.read(cx)?),
            F::TRANSPARENT_RSA_PRIVATE_KEY => TransparentKey::RsaPrivate(material.read(cx)?),
            F::TRANSPARENT_RSA_PUBLIC_KEY => TransparentKey::RsaPublic(material.read(cx)?),
            F::TRANSPARENT_DH_PRIVATE_KEY => TransparentKey::DhPrivate(material.read(cx)?),
            F::TRANSPARENT_DH_PUBLIC_KEY => TransparentKey::DhPublic(material.read(cx)?),
            F::TRANSPARENT_ECDSA_PRIVATE_KEY
            | F::TRANSPARENT_ECDH_PRIVATE_KEY
            | F::TRANSPARENT_ECMQV_PRIVATE_KEY
            | F::TRANSPARENT_EC_PRIVATE_KEY => TransparentKey::EcPrivate(material.read(cx)?),
            F::TRANSPARENT_ECDSA_PUBLIC_KEY
            | F::TRANSPARENT_ECDH_PUBLIC_KEY
            | F::TRANSPARENT_ECMQV_PUBLIC_KEY
            | F::TRANSPARENT_EC_PUBLIC_KEY => TransparentKey::EcPublic(material.read(cx)?),
            _ => return Ok(None),
        }))
    }

    /// The Key Format Type that it usually has: of an elliptic curve key the general one, which 1.0 to 1.2 lack.
    pub fn key_format_type(&self) -> KeyFormatType {
        use KeyFormatType as F;
        match self {
            TransparentKey::Symmetric(_) => F::TRANSPARENT_SYMMETRIC_KEY,
            TransparentKey::DsaPrivate(_) => F::TRANSPARENT_DSA_PRIVATE_KEY,
            TransparentKey::DsaPublic(_) => F::TRANSPARENT_DSA_PUBLIC_KEY,
            TransparentKey::RsaPrivate(_) => F::TRANSPARENT_RSA_PRIVATE_KEY,
            TransparentKey::RsaPublic(_) => F::TRANSPARENT_RSA_PUBLIC_KEY,
            TransparentKey::DhPrivate(_) => F::TRANSPARENT_DH_PRIVATE_KEY,
            TransparentKey::DhPublic(_) => F::TRANSPARENT_DH_PUBLIC_KEY,
            TransparentKey::EcPrivate(_) => F::TRANSPARENT_EC_PRIVATE_KEY,
            TransparentKey::EcPublic(_) => F::TRANSPARENT_EC_PUBLIC_KEY,
        }
    }
}

impl Encode for TransparentKey {
    fn encode(&self, tag: Tag, w: &mut Writer) -> Result<()> {
        match self {
            TransparentKey::Symmetric(key) => key.encode(tag, w),
            TransparentKey::DsaPrivate(key) => key.encode(tag, w),
            TransparentKey::DsaPublic(key) => key.encode(tag, w),
            TransparentKey::RsaPrivate(key) => key.encode(tag, w),
            TransparentKey::RsaPublic(key) => key.encode(tag, w),
            TransparentKey::DhPrivate(key) => key.encode(tag, w),
            TransparentKey::DhPublic(key) => key.encode(tag, w),
            TransparentKey::EcPrivate(key) => key.encode(tag, w),
            TransparentKey::EcPublic(key) => key.encode(tag, w),
        }
    }
}

impl KeyBlock {
    /// The parts of a transparent key; none of a key in another format, a wrapped one, or one without its value. The block keeps the
    /// material as it came, since digests are made of that.
    ///
    /// # Errors
    /// What is wrong with the material.
    pub fn transparent(&self) -> Result<Option<TransparentKey>> {
        match &self.key_value {
            Some(KeyValue::Plain(PlainKeyValue {
                key_material: KeyMaterial::Structure(raw),
                ..
            })) => TransparentKey::read(self.key_format_type, raw, Version::V2_1),
            _ => Ok(None),
        }
    }

    /// A transparent key.
    ///
    /// # Errors
    /// When it is too long to be written.
    pub fn of_transparent(
        key: &TransparentKey,
        algorithm: Option<(CryptographicAlgorithm, i32)>,
    ) -> Result<Self> {
        let material = Raw::of(tag::KEY_MATERIAL, key, context(Version::V2_1))?;
        let mut block = KeyBlock::plain(key.key_format_type(), algorithm, Secret::new(&[]));
        if let Some(KeyValue::Plain(plain)) = &mut block.key_value {
            plain.key_material = KeyMaterial::Structure(material);
        }
        Ok(block)
    }
}
