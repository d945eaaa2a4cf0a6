//! Known answers from the RFCs, and round trips.

use keyferry_crypto::{Ring, SystemRandom};
use keyferry_kmip::{Crypto, CryptoErrorKind, Curve, KeyWrap, Random};
use ring::rand::SystemRandom as RingRandom;
use ring::signature::{self, EcdsaKeyPair, UnparsedPublicKey};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// As an embedder holds it.
fn crypto() -> Box<dyn Crypto> {
    Box::new(Ring::new())
}

/// FIPS 180-4, examples of the SHA-2 family.
#[test]
fn sha256() {
    let abc = hex("ba7816bf 8f01cfea 414140de 5dae2223 b00361a3 96177a9c b410ff61 f20015ad");
    assert_eq!(crypto().sha256(&[b"abc"])[..], abc);
    assert_eq!(crypto().sha256(&[b"a", b"", b"bc"])[..], abc);
    assert_eq!(
        crypto().sha256(&[])[..],
        hex("e3b0c442 98fc1c14 9afbf4c8 996fb924 27ae41e4 649b934c a495991b 7852b855")
    );
}

/// RFC 4231, cases 1, 2 and 6 (a key longer than a block).
#[test]
fn hmac_sha256() {
    let cases = [
        (
            vec![0x0b; 20],
            &b"Hi There"[..],
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe".to_vec(),
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            vec![0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
    ];
    for (key, data, expected) in cases {
        assert_eq!(crypto().hmac_sha256(&key, &[data])[..], hex(expected));
        let (a, b) = data.split_at(5);
        assert_eq!(crypto().hmac_sha256(&key, &[a, b])[..], hex(expected));
    }
}

/// RFC 3394 §4.1 to §4.6.
#[test]
fn key_wrap() {
    let kek = hex("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F");
    let data = hex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F");
    let cases = [
        (16, 16, "1FA68B0A8112B447 AEF34BD8FB5A7B82 9D3E862371D2CFE5"),
        (24, 16, "96778B25AE6CA435 F92B5B97C050AED2 468AB8A17AD84E5D"),
        (32, 16, "64E8C3F9CE0F5BA2 63E9777905818A2A 93C8191E7D6E8AE7"),
        (
            24,
            24,
            "031D33264E15D332 68F24EC260743EDC E1C6C7DDEE725A93 6BA814915C6762D2",
        ),
        (
            32,
            24,
            "A8F9BC1612C68B3F F6E6F4FBE30E71E4 769C8B80A32CB895 8CD5D17D6B254DA1",
        ),
        (
            32,
            32,
            "28C9F404C4B810F4 CBCCB35CFB87F826 3F5786E2D80ED326 CBC7F0E71A99F43B FB988B9B7A02DD21",
        ),
    ];
    for (kek_length, length, expected) in cases {
        let (kek, data) = (&kek[..kek_length], &data[..length]);
        let wrapped = crypto().wrap_key(kek, KeyWrap::Rfc3394, data).unwrap();
        assert_eq!(wrapped, hex(expected));
        assert_eq!(
            *crypto()
                .unwrap_key(kek, KeyWrap::Rfc3394, &wrapped)
                .unwrap(),
            data
        );
    }
}

/// RFC 5649 §6.
#[test]
fn key_wrap_with_padding() {
    let kek = hex("5840df6e29b02af1 ab493b705bf16ea1 ae8338f4dcc176a8");
    let cases = [
        (
            "c37b7e6492584340 bed1220780894115 5068f738",
            "138bdeaa9b8fa7fc 61f97742e72248ee 5ae6ae5360d1ae6a 5f54f373fa543b6a",
        ),
        ("466f7250617369", "afbeb0f07dfbf541 9200f2ccb50bb24f"),
    ];
    for (data, expected) in cases {
        let wrapped = crypto()
            .wrap_key(&kek, KeyWrap::Rfc5649, &hex(data))
            .unwrap();
        assert_eq!(wrapped, hex(expected));
        assert_eq!(
            *crypto()
                .unwrap_key(&kek, KeyWrap::Rfc5649, &wrapped)
                .unwrap(),
            hex(data)
        );
    }
}

#[test]
fn key_wrap_of_every_length() {
    let data: Vec<u8> = (0..=255).collect();
    for length in 0..data.len() {
        let data = &data[..length];
        let padded = crypto().wrap_key(&[1; 32], KeyWrap::Rfc5649, data);
        match length {
            0 => assert_eq!(padded.unwrap_err().kind(), CryptoErrorKind::Length),
            _ => assert_eq!(
                *crypto()
                    .unwrap_key(&[1; 32], KeyWrap::Rfc5649, &padded.unwrap())
                    .unwrap(),
                data
            ),
        }
        let plain = crypto().wrap_key(&[1; 16], KeyWrap::Rfc3394, data);
        match length >= 16 && length % 8 == 0 {
            false => assert_eq!(plain.unwrap_err().kind(), CryptoErrorKind::Length),
            true => assert_eq!(
                *crypto()
                    .unwrap_key(&[1; 16], KeyWrap::Rfc3394, &plain.unwrap())
                    .unwrap(),
                data
            ),
        }
    }
}

#[test]
fn unwrapping_what_does_not_fit() {
    for method in [KeyWrap::Rfc3394, KeyWrap::Rfc5649] {
        let wrapped = crypto().wrap_key(&[1; 32], method, &[2; 24]).unwrap();
        let kind = |key: &[u8], method, wrapped: &[u8]| {
            crypto()
                .unwrap_key(key, method, wrapped)
                .unwrap_err()
                .kind()
        };
        assert_eq!(kind(&[3; 32], method, &wrapped), CryptoErrorKind::Integrity);
        for n in 0..wrapped.len() {
            let mut altered = wrapped.clone();
            altered[n] ^= 1;
            assert_eq!(kind(&[1; 32], method, &altered), CryptoErrorKind::Integrity);
        }
        let other = if method == KeyWrap::Rfc3394 {
            KeyWrap::Rfc5649
        } else {
            KeyWrap::Rfc3394
        };
        assert_eq!(kind(&[1; 32], other, &wrapped), CryptoErrorKind::Integrity);
        for length in [0, 1, 7, 8, 15, wrapped.len() - 1] {
            assert_eq!(
                kind(&[1; 32], method, &wrapped[..length]),
                CryptoErrorKind::Length
            );
        }
        for length in [0, 15, 17, 31, 33] {
            assert_eq!(
                kind(&vec![1; length], method, &wrapped),
                CryptoErrorKind::Key
            );
            assert_eq!(
                crypto()
                    .wrap_key(&vec![1; length], method, &[2; 24])
                    .unwrap_err()
                    .kind(),
                CryptoErrorKind::Key
            );
        }
    }
}

/// AES-256-GCM: cases 13 and 16 of the GCM specification (McGrew and Viega).
#[test]
fn aead() {
    let mut data = Vec::new();
    crypto().seal(&[0; 32], &[0; 12], &[], &mut data).unwrap();
    assert_eq!(data, hex("530f8afbc74536b9a963b4f1c4cb738b"));

    let key = hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
    let nonce: [u8; 12] = hex("cafebabefacedbaddecaf888").try_into().unwrap();
    let associated = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
    let plain = hex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
    );
    let sealed = hex(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
         8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662
         76fc6ece0f4e1768cddf8853bb2d551b",
    );
    let mut data = plain.clone();
    crypto().seal(&key, &nonce, &associated, &mut data).unwrap();
    assert_eq!(data, sealed);
    crypto().open(&key, &nonce, &associated, &mut data).unwrap();
    assert_eq!(data, plain);
}

#[test]
fn opening_what_does_not_fit() {
    let (key, nonce) = ([1; 32], [2; 12]);
    let mut sealed = b"secret".to_vec();
    crypto().seal(&key, &nonce, b"name", &mut sealed).unwrap();
    let open = |key: &[u8], nonce, associated: &[u8], sealed: &[u8]| {
        let mut data = sealed.to_vec();
        let kind = crypto()
            .open(key, nonce, associated, &mut data)
            .unwrap_err()
            .kind();
        (kind, data.len())
    };
    let nothing = (CryptoErrorKind::Integrity, 0);
    assert_eq!(open(&[3; 32], &nonce, b"name", &sealed), nothing);
    assert_eq!(open(&key, &[3; 12], b"name", &sealed), nothing);
    assert_eq!(open(&key, &nonce, b"another", &sealed), nothing);
    for n in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[n] ^= 0x80;
        assert_eq!(open(&key, &nonce, b"name", &altered), nothing);
        assert_eq!(open(&key, &nonce, b"name", &sealed[..n]), nothing);
    }
    assert_eq!(
        open(&key[..16], &nonce, b"name", &sealed),
        (CryptoErrorKind::Key, sealed.len())
    );
    let mut data = b"secret".to_vec();
    assert_eq!(
        crypto()
            .seal(&[1; 31], &nonce, b"name", &mut data)
            .unwrap_err()
            .kind(),
        CryptoErrorKind::Key
    );
    assert_eq!(data, b"secret");
}

/// The pair signs and verifies, and its encodings begin as RFC 5915 and RFC 5480 have it.
#[test]
fn ec_key_pairs() {
    let cases = [
        (
            Curve::P256,
            &signature::ECDSA_P256_SHA256_ASN1_SIGNING,
            &signature::ECDSA_P256_SHA256_ASN1,
            32,
            "30770201010420",
            "a00a06082a8648ce3d030107a144034200",
            "3059301306072a8648ce3d020106082a8648ce3d030107034200",
        ),
        (
            Curve::P384,
            &signature::ECDSA_P384_SHA384_ASN1_SIGNING,
            &signature::ECDSA_P384_SHA384_ASN1,
            48,
            "3081a40201010430",
            "a00706052b81040022a164036200",
            "3076301006072a8648ce3d020106052b81040022036200",
        ),
    ];
    for (curve, signing, verifying, size, private_head, private_middle, public_head) in cases {
        let pair = crypto().ec_key_pair(curve).unwrap();
        let (head, middle, public_head) =
            (hex(private_head), hex(private_middle), hex(public_head));
        assert!(pair.private.starts_with(&head) && pair.public.starts_with(&public_head));
        let (scalar, rest) = pair.private[head.len()..].split_at(size);
        let point = pair.public.strip_prefix(&public_head[..]).unwrap();
        assert_eq!(rest, [&middle[..], point].concat());
        assert_eq!(point.len(), 1 + 2 * size);
        let random = RingRandom::new();
        let key =
            EcdsaKeyPair::from_private_key_and_public_key(signing, scalar, point, &random).unwrap();
        let signed = key.sign(&random, b"text").unwrap();
        UnparsedPublicKey::new(verifying, point)
            .verify(b"text", signed.as_ref())
            .unwrap();
        let another = crypto().ec_key_pair(curve).unwrap();
        assert_ne!(*another.private, *pair.private);
        assert_eq!(format!("{pair:?}"), "KeyPair { .. }");
    }
}

/// The pair signs and verifies in ring, which checks a private key's parts against each other.
#[test]
#[cfg(feature = "rsa")]
fn rsa_key_pairs() {
    let pair = crypto().rsa_key_pair(2048).unwrap();
    let key = signature::RsaKeyPair::from_der(&pair.private).unwrap();
    assert_eq!(key.public().modulus_len(), 256);
    let mut signed = vec![0; 256];
    key.sign(
        &signature::RSA_PKCS1_SHA256,
        &RingRandom::new(),
        b"text",
        &mut signed,
    )
    .unwrap();
    UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, &*pair.public)
        .verify(b"text", &signed)
        .unwrap();
}

#[test]
fn rsa_lengths_that_are_refused() {
    for bits in [0, 1024, 2047, 2049, 8193, usize::MAX] {
        assert_eq!(
            crypto().rsa_key_pair(bits).unwrap_err().kind(),
            CryptoErrorKind::Unsupported
        );
    }
}

#[test]
fn system_random() {
    let (mut one, mut two) = ([0; 32], [0; 32]);
    let source: &mut dyn Random = &mut SystemRandom::new();
    source.fill(&mut one).unwrap();
    source.fill(&mut two).unwrap();
    assert_ne!(one, two);
}
