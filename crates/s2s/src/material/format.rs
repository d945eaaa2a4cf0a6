//! This module converts keys between Key Format Types (KMIP 2.1 §11.26 and §3.4 to §3.12): symmetric keys as Raw and transparent; RSA keys as
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

/// A key in no format: the numbers and bytes that it consists of.
enum Parts {
    Symmetric(Secret),
    RsaPrivate(RsaPrivateNumbers),
    /// Modulus, public exponent.
    RsaPublic([Vec<u8>; 2]),
    /// The private number, and the public point where it is known.
    EcPrivate(RecommendedCurve, Zeroizing<Vec<u8>>, Option<Vec<u8>>),
    EcPublic(RecommendedCurve, Vec<u8>),
}

/// How many numbers a PKCS#1 private key has after its version.
const RSA_PRIVATE_NUMBERS: usize = 8;

/// Modulus, public exponent, private exponent, both primes, their exponents, the coefficient: unsigned, big-endian.
type RsaPrivateNumbers = [Zeroizing<Vec<u8>>; RSA_PRIVATE_NUMBERS];

/// The version of a PKCS#1 private key of two primes, and of a PKCS#8 one without a public key.
const PKCS_VERSION: u8 = 0;

/// The version of an ECPrivateKey (RFC 5915).
const EC_PRIVATE_KEY_VERSION: u8 = 1;

/// 1.2.840.113549.1.1.1, rsaEncryption.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// 1.2.840.10045.2.1, id-ecPublicKey.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// Curves by name and object identifier, with the length of a private number in bytes.
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

/// The object with its key in the wanted format; it stays as it is when it is kept in that format, or none is wanted.
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

/// Takes a key apart. `None` when its format is not supported, or the key is damaged.
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

/// A number without leading zeroes; zero keeps one byte.
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
    let mut numbers = Vec::with_capacity(RSA_PRIVATE_NUMBERS);
    for _ in 0..RSA_PRIVATE_NUMBERS {
        let (number, next) = take(INTEGER, rest)?;
        numbers.push(Zeroizing::new(unsigned(number).to_vec()));
        rest = next;
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

/// The curve of an object identifier.
fn curve(oid: &[u8]) -> Option<RecommendedCurve> {
    CURVES
        .iter()
        .find(|(_, known, _)| *known == oid)
        .map(|(curve, ..)| *curve)
}

/// Reads an ECPrivateKey; `named` is the curve that the structure around it names.
fn ec_private(bytes: &[u8], named: Option<RecommendedCurve>) -> Option<Parts> {
    let (inside, _) = take(SEQUENCE, bytes)?;
    let (_, rest) = take(INTEGER, inside)?;
    let (number, mut rest) = take(OCTET_STRING, rest)?;
    let mut named = named;
    if let Some((parameters, next)) = take(context(0), rest) {
        named = named.or(curve(take(OBJECT_IDENTIFIER, parameters)?.0));
        rest = next;
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
fn big_integer(number: &[u8]) -> Zeroizing<Vec<u8>> {
    let number = unsigned(number);
    let sign = usize::from(number.first().is_none_or(|byte| *byte >= 0x80));
    let length = (number.len() + sign).next_multiple_of(8);
    let mut out = Zeroizing::new(vec![0; length - number.len()]);
    out.extend_from_slice(number);
    out
}

/// Bytes as a BIT STRING without unused bits.
fn bits(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    element(BIT_STRING, &[&[0], bytes])
}

/// The object identifier of a curve.
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

fn pkcs1_private(numbers: &RsaPrivateNumbers) -> Zeroizing<Vec<u8>> {
    let mut all = element(INTEGER, &[&[PKCS_VERSION]]);
    for number in numbers {
        all.extend_from_slice(&integer(number));
    }
    element(SEQUENCE, &[&all])
}

/// A PKCS#8 PrivateKeyInfo around a private key in the form of its algorithm.
fn pkcs8_private(algorithm: &[u8], key: &[u8]) -> Zeroizing<Vec<u8>> {
    let version = element(INTEGER, &[&[PKCS_VERSION]]);
    let key = element(OCTET_STRING, &[key]);
    element(SEQUENCE, &[&version, algorithm, &key])
}

fn ec_private_key(number: &[u8], point: Option<&[u8]>, named: Option<&[u8]>) -> Zeroizing<Vec<u8>> {
    let mut inside = element(INTEGER, &[&[EC_PRIVATE_KEY_VERSION]]);
    inside.extend_from_slice(&element(OCTET_STRING, &[number]));
    if let Some(named) = named {
        inside.extend_from_slice(&element(context(0), &[named]));
    }
    if let Some(point) = point {
        inside.extend_from_slice(&element(context(1), &[&bits(point)]));
    }
    element(SEQUENCE, &[&inside])
}

/// Puts a key together in a format. `None` when that format has no place for it.
fn write(parts: &Parts, wanted: F, version: Version) -> Option<KeyMaterial> {
    match parts {
        Parts::Symmetric(key) => write_symmetric(key, wanted, version),
        Parts::RsaPrivate(numbers) => write_rsa_private(numbers, wanted, version),
        Parts::RsaPublic(numbers) => write_rsa_public(numbers, wanted, version),
        Parts::EcPrivate(curve, number, point) => {
            write_ec_private(*curve, number, point.as_deref(), wanted, version)
        }
        Parts::EcPublic(curve, point) => write_ec_public(*curve, point, wanted, version),
    }
}

fn write_symmetric(key: &Secret, wanted: F, version: Version) -> Option<KeyMaterial> {
    match wanted {
        F::RAW => Some(KeyMaterial::Bytes(key.clone())),
        F::TRANSPARENT_SYMMETRIC_KEY => structure(
            &TransparentSymmetricKey {
                key: key.clone(),
                extra: Extra::NONE,
            },
            version,
        ),
        _ => None,
    }
}

fn write_rsa_private(
    numbers: &RsaPrivateNumbers,
    wanted: F,
    version: Version,
) -> Option<KeyMaterial> {
    match wanted {
        F::PKCS_1 => Some(bytes(&pkcs1_private(numbers))),
        F::PKCS_8 => Some(bytes(&pkcs8_private(
            &rsa_algorithm(),
            &pkcs1_private(numbers),
        ))),
        F::TRANSPARENT_RSA_PRIVATE_KEY => {
            let [n, e, d, p, q, dp, dq, c] = numbers;
            let secret = |n: &[u8]| Some(SecretInteger(Secret::new(&big_integer(n))));
            let key = TransparentRsaPrivateKey {
                modulus: BigInteger(big_integer(n).to_vec()),
                private_exponent: secret(d),
                public_exponent: Some(BigInteger(big_integer(e).to_vec())),
                p: secret(p),
                q: secret(q),
                prime_exponent_p: secret(dp),
                prime_exponent_q: secret(dq),
                crt_coefficient: secret(c),
                extra: Extra::NONE,
            };
            structure(&key, version)
        }
        _ => None,
    }
}

fn write_rsa_public(numbers: &[Vec<u8>; 2], wanted: F, version: Version) -> Option<KeyMaterial> {
    let [n, e] = numbers;
    let pkcs1 = || element(SEQUENCE, &[&integer(n), &integer(e)]);
    match wanted {
        F::PKCS_1 => Some(bytes(&pkcs1())),
        F::X509 => {
            let key = bits(&pkcs1());
            Some(bytes(&element(SEQUENCE, &[&rsa_algorithm(), &key])))
        }
        F::TRANSPARENT_RSA_PUBLIC_KEY => structure(
            &TransparentRsaPublicKey {
                modulus: BigInteger(big_integer(n).to_vec()),
                public_exponent: BigInteger(big_integer(e).to_vec()),
                extra: Extra::NONE,
            },
            version,
        ),
        _ => None,
    }
}

fn write_ec_private(
    curve: RecommendedCurve,
    number: &[u8],
    point: Option<&[u8]>,
    wanted: F,
    version: Version,
) -> Option<KeyMaterial> {
    match wanted {
        F::EC_PRIVATE_KEY => {
            let named = oid_of(curve)?;
            Some(bytes(&ec_private_key(number, point, Some(&*named))))
        }
        F::PKCS_8 => Some(bytes(&pkcs8_private(
            &ec_algorithm(curve)?,
            &ec_private_key(number, point, None),
        ))),
        F::TRANSPARENT_EC_PRIVATE_KEY | F::TRANSPARENT_ECDSA_PRIVATE_KEY => structure(
            &TransparentEcPrivateKey {
                recommended_curve: curve,
                d: SecretInteger(Secret::new(&big_integer(number))),
                extra: Extra::NONE,
            },
            version,
        ),
        _ => None,
    }
}

fn write_ec_public(
    curve: RecommendedCurve,
    point: &[u8],
    wanted: F,
    version: Version,
) -> Option<KeyMaterial> {
    match wanted {
        F::X509 => {
            let key = bits(point);
            Some(bytes(&element(SEQUENCE, &[&ec_algorithm(curve)?, &key])))
        }
        F::TRANSPARENT_EC_PUBLIC_KEY | F::TRANSPARENT_ECDSA_PUBLIC_KEY => structure(
            &TransparentEcPublicKey {
                recommended_curve: curve,
                q_string: point.to_vec(),
                extra: Extra::NONE,
            },
            version,
        ),
        _ => None,
    }
}

fn bytes(der: &[u8]) -> KeyMaterial {
    KeyMaterial::Bytes(Secret::new(der))
}

/// A transparent key as Key Material.
fn structure(key: &impl Encode, version: Version) -> Option<KeyMaterial> {
    Raw::of(tag::KEY_MATERIAL, key, keyferry_kmip::context(version))
        .ok()
        .map(KeyMaterial::Structure)
}
