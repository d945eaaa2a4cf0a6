//! Elliptic curve key pairs, in the encodings that KMIP names.

use crate::error::error;
use keyferry_kmip::der::{
    BIT_STRING, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, context, element, take,
};
use keyferry_kmip::{CryptoError, CryptoErrorKind, Curve, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
};
use zeroize::Zeroizing;

/// 1.2.840.10045.2.1, id-ecPublicKey.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7, secp256r1.
const SECP256R1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 1.3.132.0.34, secp384r1.
const SECP384R1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];

pub(crate) fn key_pair(curve: Curve) -> Result<KeyPair, CryptoError> {
    let (algorithm, name) = match curve {
        Curve::P256 => (&ECDSA_P256_SHA256_ASN1_SIGNING, SECP256R1),
        Curve::P384 => (&ECDSA_P384_SHA384_ASN1_SIGNING, SECP384R1),
        _ => return Err(error(CryptoErrorKind::Unsupported)),
    };
    let failed = || error(CryptoErrorKind::Failed);
    let random = SystemRandom::new();
    // ring gives keys out as PKCS#8 only, and its document is not wiped: this copy is, that one lies in memory that ring frees.
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| failed())?;
    let pair =
        EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).map_err(|_| failed())?;
    let point = pair.public_key().as_ref();
    let scalar = scalar(document.as_ref()).ok_or_else(failed)?;

    let name = element(OBJECT_IDENTIFIER, &[name]);
    let point = element(BIT_STRING, &[&[0], point]);
    let private = element(
        SEQUENCE,
        &[
            &element(INTEGER, &[&[1]]),
            &element(OCTET_STRING, &[&scalar]),
            &element(context(0), &[&name]),
            &element(context(1), &[&point]),
        ],
    );
    let algorithm = element(
        SEQUENCE,
        &[&element(OBJECT_IDENTIFIER, &[EC_PUBLIC_KEY]), &name],
    );
    Ok(KeyPair {
        private,
        public: element(SEQUENCE, &[&algorithm, &point]),
    })
}

/// The private key's number, out of a PKCS#8 document.
fn scalar(document: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (info, _) = take(SEQUENCE, document)?;
    let (_, info) = take(INTEGER, info)?;
    let (_, info) = take(SEQUENCE, info)?;
    let (private, _) = take(OCTET_STRING, info)?;
    let (private, _) = take(SEQUENCE, private)?;
    let (_, private) = take(INTEGER, private)?;
    let (scalar, _) = take(OCTET_STRING, private)?;
    Some(Zeroizing::new(scalar.to_vec()))
}
