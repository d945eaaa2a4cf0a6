//! This module reads attributes from an X.509 certificate (KMIP 2.1 §4.8 to §4.10 and §4.61 to §4.63, 1.4 §3.8 to §3.16).

use keyferry_kmip::spec::{
    AttributeValue as V, CryptographicAlgorithm, CryptographicUsageMask,
    DigitalSignatureAlgorithm as D,
};
use keyferry_kmip::{
    Attributes, CertificateIdentifier, CertificateIssuer, CertificateSubject, Text,
    X509CertificateIdentifier, X509CertificateIssuer, X509CertificateSubject, der,
};
use keyferry_ttlv::Extra;
use x509_parser::prelude::{FromDer, KeyUsage, X509Certificate, X509Name};
use x509_parser::public_key::PublicKey;

/// Sets the attributes that the certificate gives, where they are not set; sets none when it cannot be read, since a server also keeps what
/// it does not understand.
pub(super) fn describe(attributes: &mut Attributes, value: &[u8]) {
    let Ok((_, certificate)) = X509Certificate::from_der(value) else {
        return;
    };
    let (issuer, subject) = (certificate.issuer(), certificate.subject());
    for value in identifying(&certificate) {
        attributes.set_default(value);
    }
    if let Some(algorithm) = signature(&certificate.signature_algorithm.algorithm.to_id_string()) {
        attributes.set_default(V::DigitalSignatureAlgorithm(algorithm));
    }
    if let Some((algorithm, bits)) = key_of(&certificate) {
        attributes.set_default(V::CryptographicAlgorithm(algorithm));
        attributes.set_default(V::CryptographicLength(bits));
    }
    if let Ok(Some(usage)) = certificate.key_usage() {
        attributes.set_default(V::CryptographicUsageMask(mask(usage.value)));
    }
    parts(attributes, subject, true);
    parts(attributes, issuer, false);
}

/// The algorithm and the length of the certificate's key.
fn key_of(certificate: &X509Certificate<'_>) -> Option<(CryptographicAlgorithm, i32)> {
    let key = certificate.public_key().parsed().ok()?;
    let algorithm = match &key {
        PublicKey::RSA(_) => CryptographicAlgorithm::RSA,
        PublicKey::EC(_) => CryptographicAlgorithm::ECDSA,
        PublicKey::DSA(_) => CryptographicAlgorithm::DSA,
        _ => return None,
    };
    Some((algorithm, i32::try_from(key.key_size()).ok()?))
}

/// The attributes that identify the certificate, its issuer and its subject: as text for 1.0, as they are encoded since 1.1.
fn identifying(certificate: &X509Certificate<'_>) -> [V; 6] {
    let (issuer, subject) = (certificate.issuer(), certificate.subject());
    let serial = certificate.raw_serial();
    let hex: String = serial.iter().map(|byte| format!("{byte:02x}")).collect();
    [
        V::CertificateIdentifier(
            CertificateIdentifier {
                issuer: text(issuer),
                serial_number: Some(hex.into()),
                extra: Extra::NONE,
            }
            .into(),
        ),
        V::CertificateIssuer(
            CertificateIssuer {
                distinguished_name: text(issuer),
                alternative_names: Vec::new(),
                extra: Extra::NONE,
            }
            .into(),
        ),
        V::CertificateSubject(
            CertificateSubject {
                distinguished_name: text(subject),
                alternative_names: Vec::new(),
                extra: Extra::NONE,
            }
            .into(),
        ),
        V::X509CertificateIdentifier(
            X509CertificateIdentifier {
                issuer: issuer.as_raw().to_vec(),
                serial_number: der::element(der::INTEGER, &[serial]).to_vec(),
                extra: Extra::NONE,
            }
            .into(),
        ),
        V::X509CertificateIssuer(
            X509CertificateIssuer {
                distinguished_name: issuer.as_raw().to_vec(),
                alternative_names: Vec::new(),
                extra: Extra::NONE,
            }
            .into(),
        ),
        V::X509CertificateSubject(
            X509CertificateSubject {
                distinguished_name: subject.as_raw().to_vec(),
                alternative_names: Vec::new(),
                extra: Extra::NONE,
            }
            .into(),
        ),
    ]
}

/// The Cryptographic Usage Mask for the key usage in a certificate.
fn mask(usage: &KeyUsage) -> CryptographicUsageMask {
    use CryptographicUsageMask as M;
    let allowed = [
        (usage.digital_signature(), M::VERIFY),
        (usage.non_repudiation(), M::CONTENT_COMMITMENT),
        (usage.key_encipherment(), M::WRAP_KEY),
        (usage.data_encipherment(), M::ENCRYPT),
        (usage.key_agreement(), M::KEY_AGREEMENT),
        (usage.key_cert_sign(), M::CERTIFICATE_SIGN),
        (usage.crl_sign(), M::CRL_SIGN),
    ];
    allowed
        .into_iter()
        .filter(|(is, _)| *is)
        .fold(M(0), |mask, (_, bit)| mask | bit)
}

/// The most parts of a name that are read, and the most bytes of each.
const MOST: usize = 64;
const LONGEST: usize = 1024;

/// A name as text, its last part first: `CN=shop,O=Example,C=CH` (RFC 4514).
fn text(name: &X509Name<'_>) -> Text {
    let mut parts: Vec<String> = name
        .iter_attributes()
        .take(MOST)
        .map(|part| {
            let oid = part.attr_type().to_id_string();
            let kind = KINDS
                .iter()
                .find(|(known, ..)| *known == oid)
                .map_or(oid.as_str(), |(_, kind, _)| kind);
            format!("{kind}={}", escaped(part.as_str().unwrap_or_default()))
        })
        .collect();
    parts.reverse();
    parts.join(",").into()
}

fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let value = value
        .get(..value.floor_char_boundary(LONGEST))
        .unwrap_or_default();
    let mut chars = value.chars().enumerate().peekable();
    while let Some((n, c)) = chars.next() {
        let at_end = n == 0 || chars.peek().is_none();
        if matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\')
            || at_end && c == ' '
            || n == 0 && c == '#'
        {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// How to make an attribute of a part of the subject, and of a part of the issuer.
type Pair = (fn(Text) -> V, fn(Text) -> V);

/// The parts of names: object identifier, short name, and the attributes for them.
const KINDS: &[(&str, &str, Pair)] = &[
    (
        "2.5.4.3",
        "CN",
        (V::CertificateSubjectCN, V::CertificateIssuerCN),
    ),
    (
        "2.5.4.10",
        "O",
        (V::CertificateSubjectO, V::CertificateIssuerO),
    ),
    (
        "2.5.4.11",
        "OU",
        (V::CertificateSubjectOU, V::CertificateIssuerOU),
    ),
    (
        "1.2.840.113549.1.9.1",
        "emailAddress",
        (V::CertificateSubjectEmail, V::CertificateIssuerEmail),
    ),
    (
        "2.5.4.6",
        "C",
        (V::CertificateSubjectC, V::CertificateIssuerC),
    ),
    (
        "2.5.4.8",
        "ST",
        (V::CertificateSubjectST, V::CertificateIssuerST),
    ),
    (
        "2.5.4.7",
        "L",
        (V::CertificateSubjectL, V::CertificateIssuerL),
    ),
    (
        "0.9.2342.19200300.100.1.1",
        "UID",
        (V::CertificateSubjectUID, V::CertificateIssuerUID),
    ),
    (
        "2.5.4.5",
        "serialNumber",
        (
            V::CertificateSubjectSerialNumber,
            V::CertificateIssuerSerialNumber,
        ),
    ),
    (
        "2.5.4.12",
        "title",
        (V::CertificateSubjectTitle, V::CertificateIssuerTitle),
    ),
    (
        "0.9.2342.19200300.100.1.25",
        "DC",
        (V::CertificateSubjectDC, V::CertificateIssuerDC),
    ),
    (
        "2.5.4.46",
        "dnQualifier",
        (
            V::CertificateSubjectDNQualifier,
            V::CertificateIssuerDNQualifier,
        ),
    ),
];

/// Sets an attribute for each part of a name (since 2.0).
fn parts(attributes: &mut Attributes, name: &X509Name<'_>, is_subject: bool) {
    for part in name.iter_attributes().take(MOST) {
        let oid = part.attr_type().to_id_string();
        if let (Some((.., (subject, issuer))), Ok(value)) = (
            KINDS.iter().find(|(known, ..)| *known == oid),
            part.as_str(),
        ) {
            attributes.push(if is_subject { subject } else { issuer }(value.into()));
        }
    }
}

fn signature(oid: &str) -> Option<D> {
    Some(match oid {
        "1.2.840.113549.1.1.2" => D::MD2_WITH_RSA_ENCRYPTION,
        "1.2.840.113549.1.1.4" => D::MD5_WITH_RSA_ENCRYPTION,
        "1.2.840.113549.1.1.5" => D::SHA_1_WITH_RSA_ENCRYPTION,
        "1.2.840.113549.1.1.14" => D::SHA_224_WITH_RSA_ENCRYPTION,
        "1.2.840.113549.1.1.11" => D::SHA_256_WITH_RSA_ENCRYPTION,
        "1.2.840.113549.1.1.12" => D::SHA_384_WITH_RSA_ENCRYPTION,
        "1.2.840.113549.1.1.13" => D::SHA_512_WITH_RSA_ENCRYPTION,
        "1.2.840.113549.1.1.10" => D::RSASSA_PSS,
        "1.2.840.10040.4.3" => D::DSA_WITH_SHA_1,
        "2.16.840.1.101.3.4.3.1" => D::DSA_WITH_SHA224,
        "2.16.840.1.101.3.4.3.2" => D::DSA_WITH_SHA256,
        "1.2.840.10045.4.1" => D::ECDSA_WITH_SHA_1,
        "1.2.840.10045.4.3.1" => D::ECDSA_WITH_SHA224,
        "1.2.840.10045.4.3.2" => D::ECDSA_WITH_SHA256,
        "1.2.840.10045.4.3.3" => D::ECDSA_WITH_SHA384,
        "1.2.840.10045.4.3.4" => D::ECDSA_WITH_SHA512,
        "2.16.840.1.101.3.4.3.14" => D::SHA3_256_WITH_RSA_ENCRYPTION,
        "2.16.840.1.101.3.4.3.15" => D::SHA3_384_WITH_RSA_ENCRYPTION,
        "2.16.840.1.101.3.4.3.16" => D::SHA3_512_WITH_RSA_ENCRYPTION,
        _ => return None,
    })
}
