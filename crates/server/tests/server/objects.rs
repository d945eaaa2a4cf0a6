//! Objects of every kind.

use keyferry_kmip::spec::*;
use keyferry_kmip::*;
use keyferry_ttlv::{Context, Enumeration, Extra, Raw, Tag, Version, Writer};

const PLAIN: Extra = Extra::NONE;

fn rsa() -> Option<(CryptographicAlgorithm, i32)> {
    Some((CryptographicAlgorithm::RSA, 2048))
}

fn block(
    format: KeyFormatType,
    algorithm: Option<(CryptographicAlgorithm, i32)>,
    value: KeyValue,
) -> KeyBlock {
    KeyBlock {
        key_value: Some(value),
        ..KeyBlock::plain(format, algorithm, Secret::new(b""))
    }
}

/// A structure as key material.
fn transparent(content: impl FnOnce(&mut Writer)) -> KeyValue {
    let mut w = Writer::new(Context::new(Version::V2_1));
    w.structure(tag::KEY_MATERIAL, |w| {
        content(w);
        Ok(())
    })
    .unwrap();
    let frame = w.finish();
    struct Whole<'a>(&'a [u8]);
    impl keyferry_ttlv::Encode for Whole<'_> {
        fn encode(&self, _: Tag, w: &mut Writer) -> keyferry_ttlv::Result<()> {
            w.raw(self.0);
            Ok(())
        }
    }
    let raw = Raw::of(
        tag::KEY_MATERIAL,
        &Whole(&frame),
        Context::new(Version::V2_1),
    )
    .unwrap();
    KeyValue::Plain(PlainKeyValue {
        key_material: KeyMaterial::Structure(raw),
        attributes: Attributes::new(),
        extra: PLAIN,
    })
}

fn wrapped(version: Version) -> KeyBlock {
    let parameters = CryptographicParameters {
        block_cipher_mode: Some(BlockCipherMode::NIST_KEY_WRAP),
        ..CryptographicParameters::default()
    };
    let mut block = block(
        KeyFormatType::RAW,
        Some((CryptographicAlgorithm::AES, 128)),
        KeyValue::Wrapped(Secret::new(&[0xA5; 24])),
    );
    block.key_wrapping_data = Some(Box::new(KeyWrappingData {
        wrapping_method: WrappingMethod::ENCRYPT,
        encryption_key_information: Some(WrappingKeyInformation {
            unique_identifier: "kek".into(),
            cryptographic_parameters: Some(Box::new(parameters)),
            extra: PLAIN,
        }),
        mac_signature_key_information: None,
        mac_signature: None,
        iv_counter_nonce: Some(vec![1; 8]),
        encoding_option: (version >= Version::V1_1).then_some(EncodingOption::NO_ENCODING),
        extra: PLAIN,
    }));
    block
}

/// Whether a version can say this kind of object.
pub fn exists(what: &str, version: Version) -> bool {
    match what {
        "pgp" => version >= Version::V1_2,
        "certificate request" => version >= Version::V2_0,
        // Its Encoding Option came with 1.1, and without it the key would be misread.
        "wrapped" => version >= Version::V1_1,
        _ => true,
    }
}

/// One of each kind that `version` has.
pub fn all(version: Version) -> Vec<(&'static str, Object)> {
    let key = |key_block: KeyBlock| Key {
        key_block: key_block.into(),
        extra: PLAIN,
    };
    let der = |byte: u8| Secret::new(&[byte; 64]);
    let mut all = vec![
        (
            "symmetric",
            Object::symmetric_key(CryptographicAlgorithm::AES, 128, Secret::new(&[3; 16])),
        ),
        (
            "certificate",
            Object::certificate(CertificateType::X509, vec![0x30; 300]),
        ),
        (
            "secret data",
            Object::secret_data(SecretDataType::PASSWORD, Secret::new(b"open sesame")),
        ),
        (
            "public",
            Object::PublicKey(key(KeyBlock::plain(KeyFormatType::PKCS_1, rsa(), der(4)))),
        ),
        (
            "private",
            Object::PrivateKey(key(KeyBlock::plain(KeyFormatType::PKCS_8, rsa(), der(5)))),
        ),
        (
            "opaque",
            Object::OpaqueObject(OpaqueObject {
                opaque_data_type: Enumeration(0x8000_0001),
                value: Secret::new(b"blob"),
                extra: PLAIN,
            }),
        ),
        (
            "split",
            Object::SplitKey(SplitKey {
                split_key_parts: 4,
                key_part_identifier: 1,
                split_key_threshold: 2,
                split_key_method: SplitKeyMethod::XOR,
                prime_field_size: Some(BigInteger(vec![0, 0, 0, 0, 0, 0, 1, 1])),
                key_block: KeyBlock::plain(
                    KeyFormatType::RAW,
                    Some((CryptographicAlgorithm::AES, 128)),
                    Secret::new(&[6; 16]),
                )
                .into(),
                extra: PLAIN,
            }),
        ),
        (
            "transparent symmetric",
            Object::SymmetricKey(key(block(
                KeyFormatType::TRANSPARENT_SYMMETRIC_KEY,
                Some((CryptographicAlgorithm::AES, 128)),
                transparent(|w| w.bytes(tag::KEY, &[7; 16]).unwrap()),
            ))),
        ),
        (
            "transparent rsa",
            Object::PrivateKey(key(block(
                KeyFormatType::TRANSPARENT_RSA_PRIVATE_KEY,
                rsa(),
                transparent(|w| {
                    w.big_integer(tag::MODULUS, &[0x7F; 64]).unwrap();
                    w.big_integer(tag::PRIVATE_EXPONENT, &[0x11; 64]).unwrap();
                }),
            ))),
        ),
        ("wrapped", Object::SymmetricKey(key(wrapped(version)))),
    ];
    if exists("pgp", version) {
        let pgp = PgpKey {
            pgp_key_version: 4,
            key_block: KeyBlock::plain(
                KeyFormatType::RAW,
                Some((CryptographicAlgorithm::RSA, 2048)),
                Secret::new(b"-----BEGIN PGP"),
            )
            .into(),
            extra: PLAIN,
        };
        all.push(("pgp", Object::PgpKey(pgp)));
    }
    if exists("certificate request", version) {
        let request = CertificateRequest {
            certificate_request_type: CertificateRequestType::PKCS_10,
            value: vec![0x31; 99],
            extra: PLAIN,
        };
        all.push(("certificate request", Object::CertificateRequest(request)));
    }
    if version < Version::V1_1 {
        all.retain(|(what, _)| *what != "wrapped");
    }
    all
}
