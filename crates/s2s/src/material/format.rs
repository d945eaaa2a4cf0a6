//! Keys in another Key Format Type than they are kept in (KMIP 2.1 §11.26 and §3.4 to §3.12): Raw and transparent symmetric keys; RSA keys as
//! PKCS#1, PKCS#8, X.509 and transparent; elliptic curve keys as ECPrivateKey, PKCS#8, X.509 and transparent.

use keyferry_kmip::der::{
    BIT_STRING, INTEGER, NULL, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, context, element, take,
};
use keyferry_kmip::spec::{KeyFormatType as F, RecommendedCurve, tag};
use keyferry_kmip::{
    BigInteger, Cause, Failure, KeyBlock, KeyMaterial, KeyValue, Object, PlainKeyValue, Secret,
    SecretInteger, TransparentEcPrivateKey, TransparentEcPublicKey, TransparentKey,
    TransparentRsaPrivateKey, TransparentRsaPublicKey, TransparentSymmetricKey,
};
use keyferry_ttlv::{Encode, Extra, Raw, Version};
use zeroize::Zeroizing;

/// A key between two formats.
enum Parts {
    Symmetric(Secret),
    /// Modulus, public exponent, private exponent, both primes, their exponents, the coefficient: unsigned, big-endian.
    RsaPrivate([Zeroizing<Vec<u8>>; 8]),
    /// Modulus, public exponent.
    RsaPublic([Vec<u8>; 2]),
    /// The number, and the point where it is known.
    EcPrivate(RecommendedCurve, Zeroizing<Vec<u8>>, Option<Vec<u8>>),
    EcPublic(RecommendedCurve, Vec<u8>),
}

/// 1.2.840.113549.1.1.1, rsaEncryption.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// 1.2.840.10045.2.1, id-ecPublicKey.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// Curves by name and object identifier, with the bytes of a number.
const CURVES: &[(RecommendedCurve, &[u8], usize)] = &[
    (
        RecommendedCurve::P_192,
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x01],
        24,
    ),
    (RecommendedCurve::P_224, &[0x2b, 0x81, 0x04, 0x00, 0x21], 28),
    (
        RecommendedCurve::P_256,
        &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
        32,
    ),
    (RecommendedCurve::P_384, &[0x2b, 0x81, 0x04, 0x00, 0x22], 48),
    (RecommendedCurve::P_521, &[0x2b, 0x81, 0x04, 0x00, 0x23], 66),
    (
        RecommendedCurve::SECP256K1,
        &[0x2b, 0x81, 0x04, 0x00, 0x0a],
        32,
    ),
];

/// The object with its key in the format that is wanted; as it is when it is kept so.
///
/// # Errors
/// [`Cause::KeyFormatNotSupported`].
pub(crate) fn in_format(
    mut object: Object,
    wanted: Option<F>,
    version: Version,
) -> Result<Object, Failure> {
    let held = object.key_block().map(|block| block.key_format_type);
    let (Some(held), Some(wanted)) = (held, wanted) else {
        return Ok(object);
    };
    if held == wanted {
        return Ok(object);
    }
    let refused = || {
        Failure::new(
            Cause::KeyFormatNotSupported,
            format_args!("the key is kept as {held}, and can't be given as {wanted}"),
        )
    };
    let private = matches!(object, Object::PrivateKey(_));
    let block = match &mut object {
        Object::PrivateKey(key) | Object::PublicKey(key) | Object::SymmetricKey(key) => {
            &mut *key.key_block
        }
        _ => return Err(refused()),
    };
    let parts = read(block, private).ok_or_else(refused)?;
    let material = write(&parts, wanted, version).ok_or_else(refused)?;
    if let Some(KeyValue::Plain(plain)) = &mut block.key_value {
        *plain = PlainKeyValue {
            key_material: material,
            attributes: plain.attributes.clone(),
            extra: Extra::NONE,
        };
    }
    block.key_format_type = wanted;
    Ok(object)
}

fn read(block: &KeyBlock, private: bool) -> Option<Parts> {
    let KeyValue::Plain(plain) = block.key_value.as_ref()? else {
        return None;
    };
    if let KeyMaterial::Structure(_) = &plain.key_material {
        return transparent(block.transparent().ok()??);
    }
    let KeyMaterial::Bytes(bytes) = &plain.key_material else {
        return None;
    };
    let bytes = bytes.expose();
    match block.key_format_type {
        F::RAW if !private => Some(Parts::Symmetric(Secret::new(bytes))),
        F::PKCS_1 if private => rsa_private(bytes),
        F::PKCS_1 => rsa_public(bytes),
        F::PKCS_8 => pkcs8(bytes),
        F::EC_PRIVATE_KEY => ec_private(bytes, None),
        F::X509 => public_key_info(bytes),
        _ => None,
    }
}

fn unsigned(bytes: &[u8]) -> &[u8] {
    let zeroes = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes
        .get(zeroes.min(bytes.len().saturating_sub(1))..)
        .unwrap_or_default()
}

fn transparent(key: TransparentKey) -> Option<Parts> {
    let secret = |n: &Option<SecretInteger>| {
        n.as_ref()
            .map(|n| Zeroizing::new(unsigned(n.0.expose()).to_vec()))
    };
    Some(match key {
        TransparentKey::Symmetric(key) => Parts::Symmetric(key.key),
        TransparentKey::RsaPrivate(key) => Parts::RsaPrivate([
            Zeroizing::new(unsigned(&key.modulus.0).to_vec()),
            Zeroizing::new(unsigned(&key.public_exponent.as_ref()?.0).to_vec()),
            secret(&key.private_exponent)?,
            secret(&key.p)?,
            secret(&key.q)?,
            secret(&key.prime_exponent_p)?,
            secret(&key.prime_exponent_q)?,
            secret(&key.crt_coefficient)?,
        ]),
        TransparentKey::RsaPublic(key) => Parts::RsaPublic([
            unsigned(&key.modulus.0).to_vec(),
            unsigned(&key.public_exponent.0).to_vec(),
        ]),
        TransparentKey::EcPrivate(key) => {
            let (curve, _, length) = CURVES
                .iter()
                .find(|(curve, ..)| *curve == key.recommended_curve)?;
            let number = unsigned(key.d.0.expose());
            let mut padded = Zeroizing::new(vec![0; length.checked_sub(number.len())?]);
            padded.extend_from_slice(number);
            Parts::EcPrivate(*curve, padded, None)
        }
        TransparentKey::EcPublic(key) => Parts::EcPublic(key.recommended_curve, key.q_string),
        _ => return None,
    })
}

fn rsa_private(bytes: &[u8]) -> Option<Parts> {
    let (inside, _) = take(SEQUENCE, bytes)?;
    let (_, mut rest) = take(INTEGER, inside)?;
    let mut numbers = Vec::with_capacity(8);
    for _ in 0..8 {
        let (number, behind) = take(INTEGER, rest)?;
        numbers.push(Zeroizing::new(unsigned(number).to_vec()));
        rest = behind;
    }
    numbers.try_into().ok().map(Parts::RsaPrivate)
}

fn rsa_public(bytes: &[u8]) -> Option<Parts> {
    let (inside, _) = take(SEQUENCE, bytes)?;
    let (modulus, rest) = take(INTEGER, inside)?;
    let (exponent, _) = take(INTEGER, rest)?;
    Some(Parts::RsaPublic([
        unsigned(modulus).to_vec(),
        unsigned(exponent).to_vec(),
    ]))
}

fn curve(oid: &[u8]) -> Option<RecommendedCurve> {
    CURVES
        .iter()
        .find(|(_, known, _)| *known == oid)
        .map(|(curve, ..)| *curve)
}

fn ec_private(bytes: &[u8], named: Option<RecommendedCurve>) -> Option<Parts> {
    let (inside, _) = take(SEQUENCE, bytes)?;
    let (_, rest) = take(INTEGER, inside)?;
    let (number, mut rest) = take(OCTET_STRING, rest)?;
    let mut named = named;
    if let Some((parameters, behind)) = take(context(0), rest) {
        named = named.or(curve(take(OBJECT_IDENTIFIER, parameters)?.0));
        rest = behind;
    }
    let point = take(context(1), rest)
        .and_then(|(public, _)| take(BIT_STRING, public))
        .and_then(|(bits, _)| bits.get(1..));
    Some(Parts::EcPrivate(
        named?,
        Zeroizing::new(number.to_vec()),
        point.map(<[u8]>::to_vec),
    ))
}

fn pkcs8(bytes: &[u8]) -> Option<Parts> {
    let (inside, _) = take(SEQUENCE, bytes)?;
    let (_, rest) = take(INTEGER, inside)?;
    let (algorithm, rest) = take(SEQUENCE, rest)?;
    let (key, _) = take(OCTET_STRING, rest)?;
    match take(OBJECT_IDENTIFIER, algorithm)? {
        (RSA, _) => rsa_private(key),
        (EC, parameters) => ec_private(key, curve(take(OBJECT_IDENTIFIER, parameters)?.0)),
        _ => None,
    }
}

fn public_key_info(bytes: &[u8]) -> Option<Parts> {
    let (inside, _) = take(SEQUENCE, bytes)?;
    let (algorithm, rest) = take(SEQUENCE, inside)?;
    let key = take(BIT_STRING, rest)?.0.get(1..)?;
    match take(OBJECT_IDENTIFIER, algorithm)? {
        (RSA, _) => rsa_public(key),
        (EC, parameters) => Some(Parts::EcPublic(
            curve(take(OBJECT_IDENTIFIER, parameters)?.0)?,
            key.to_vec(),
        )),
        _ => None,
    }
}

/// An unsigned number as an INTEGER.
fn integer(number: &[u8]) -> Zeroizing<Vec<u8>> {
    let number = unsigned(number);
    let sign: &[u8] = if number.first().is_none_or(|byte| *byte >= 0x80) {
        &[0]
    } else {
        &[]
    };
    element(INTEGER, &[sign, number])
}

/// An unsigned number as a Big Integer: two's complement, a multiple of eight bytes.
fn big(number: &[u8]) -> Zeroizing<Vec<u8>> {
    let number = unsigned(number);
    let sign = usize::from(number.first().is_none_or(|byte| *byte >= 0x80));
    let length = (number.len() + sign).next_multiple_of(8);
    let mut out = Zeroizing::new(vec![0; length - number.len()]);
    out.extend_from_slice(number);
    out
}

fn bits(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    element(BIT_STRING, &[&[0], bytes])
}

fn oid_of(curve: RecommendedCurve) -> Option<Zeroizing<Vec<u8>>> {
    CURVES
        .iter()
        .find(|(known, ..)| *known == curve)
        .map(|(_, oid, _)| element(OBJECT_IDENTIFIER, &[oid]))
}

fn rsa_algorithm() -> Zeroizing<Vec<u8>> {
    element(
        SEQUENCE,
        &[&element(OBJECT_IDENTIFIER, &[RSA]), &element(NULL, &[])],
    )
}

fn ec_algorithm(curve: RecommendedCurve) -> Option<Zeroizing<Vec<u8>>> {
    Some(element(
        SEQUENCE,
        &[&element(OBJECT_IDENTIFIER, &[EC]), &oid_of(curve)?],
    ))
}

fn pkcs1_private(numbers: &[Zeroizing<Vec<u8>>; 8]) -> Zeroizing<Vec<u8>> {
    let mut all = element(INTEGER, &[&[0]]);
    for number in numbers {
        all.extend_from_slice(&integer(number));
    }
    element(SEQUENCE, &[&all])
}

fn ec_private_key(number: &[u8], point: Option<&[u8]>, named: Option<&[u8]>) -> Zeroizing<Vec<u8>> {
    let mut inside = element(INTEGER, &[&[1]]);
    inside.extend_from_slice(&element(OCTET_STRING, &[number]));
    if let Some(named) = named {
        inside.extend_from_slice(&element(context(0), &[named]));
    }
    if let Some(point) = point {
        inside.extend_from_slice(&element(context(1), &[&bits(point)]));
    }
    element(SEQUENCE, &[&inside])
}

fn write(parts: &Parts, wanted: F, version: Version) -> Option<KeyMaterial> {
    let bytes = |der: Zeroizing<Vec<u8>>| Some(KeyMaterial::Bytes(Secret::new(&der)));
    match (parts, wanted) {
        (Parts::Symmetric(key), F::RAW) => Some(KeyMaterial::Bytes(key.clone())),
        (Parts::Symmetric(key), F::TRANSPARENT_SYMMETRIC_KEY) => structure(
            &TransparentSymmetricKey {
                key: key.clone(),
                extra: Extra::NONE,
            },
            version,
        ),
        (Parts::RsaPrivate(numbers), F::PKCS_1) => bytes(pkcs1_private(numbers)),
        (Parts::RsaPrivate(numbers), F::PKCS_8) => {
            let key = element(OCTET_STRING, &[&pkcs1_private(numbers)]);
            bytes(element(
                SEQUENCE,
                &[&element(INTEGER, &[&[0]]), &rsa_algorithm(), &key],
            ))
        }
        (Parts::RsaPrivate([n, e, d, p, q, dp, dq, c]), F::TRANSPARENT_RSA_PRIVATE_KEY) => {
            let secret = |n: &[u8]| Some(SecretInteger(Secret::new(&big(n))));
            let key = TransparentRsaPrivateKey {
                modulus: BigInteger(big(n).to_vec()),
                private_exponent: secret(d),
                public_exponent: Some(BigInteger(big(e).to_vec())),
                p: secret(p),
                q: secret(q),
                prime_exponent_p: secret(dp),
                prime_exponent_q: secret(dq),
                crt_coefficient: secret(c),
                extra: Extra::NONE,
            };
            structure(&key, version)
        }
        (Parts::RsaPublic([n, e]), F::PKCS_1) => {
            bytes(element(SEQUENCE, &[&integer(n), &integer(e)]))
        }
        (Parts::RsaPublic([n, e]), F::X509) => {
            let key = bits(&element(SEQUENCE, &[&integer(n), &integer(e)]));
            bytes(element(SEQUENCE, &[&rsa_algorithm(), &key]))
        }
        (Parts::RsaPublic([n, e]), F::TRANSPARENT_RSA_PUBLIC_KEY) => {
            let (modulus, public_exponent) =
                (BigInteger(big(n).to_vec()), BigInteger(big(e).to_vec()));
            structure(
                &TransparentRsaPublicKey {
                    modulus,
                    public_exponent,
                    extra: Extra::NONE,
                },
                version,
            )
        }
        (Parts::EcPrivate(curve, number, point), F::EC_PRIVATE_KEY) => bytes(ec_private_key(
            number,
            point.as_deref(),
            Some(&*oid_of(*curve)?),
        )),
        (Parts::EcPrivate(curve, number, point), F::PKCS_8) => {
            let key = element(
                OCTET_STRING,
                &[&ec_private_key(number, point.as_deref(), None)],
            );
            bytes(element(
                SEQUENCE,
                &[&element(INTEGER, &[&[0]]), &ec_algorithm(*curve)?, &key],
            ))
        }
        (
            Parts::EcPrivate(curve, number, _),
            F::TRANSPARENT_EC_PRIVATE_KEY | F::TRANSPARENT_ECDSA_PRIVATE_KEY,
        ) => {
            let d = SecretInteger(Secret::new(&big(number)));
            structure(
                &TransparentEcPrivateKey {
                    recommended_curve: *curve,
                    d,
                    extra: Extra::NONE,
                },
                version,
            )
        }
        (Parts::EcPublic(curve, point), F::X509) => {
            bytes(element(SEQUENCE, &[&ec_algorithm(*curve)?, &bits(point)]))
        }
        (
            Parts::EcPublic(curve, point),
            F::TRANSPARENT_EC_PUBLIC_KEY | F::TRANSPARENT_ECDSA_PUBLIC_KEY,
        ) => structure(
            &TransparentEcPublicKey {
                recommended_curve: *curve,
                q_string: point.clone(),
                extra: Extra::NONE,
            },
            version,
        ),
        _ => None,
    }
}

fn structure(key: &impl Encode, version: Version) -> Option<KeyMaterial> {
    Raw::of(tag::KEY_MATERIAL, key, keyferry_kmip::context(version))
        .ok()
        .map(KeyMaterial::Structure)
}
