//! RSA-OAEP against OpenSSL: what it encrypted, and what it decrypts of ours.

use keyferry_crypto::Ring;
use keyferry_kmip::{Crypto, CryptoErrorKind, Oaep, OaepHash};
use std::io::Write;
use std::process::Command;

/// A key pair that OpenSSL 3.0 made, of no other use: `RSAPrivateKey` and `RSAPublicKey`.
const PRIVATE: &str = "\
    308204a20201000282010100b701183269e0c474117d48ca84b1d83d06b5e2813828aa089a903788beea1defacd8d1e1f125a35c8c87143adf925ba8\
    8c4c4456ab48822a5065982c380bed80c7bf722587f98fb9cf363e90b6ffc0feafb688c8827d99971530e5779dd468aa13206813f580648a0939ccd9\
    02964593dbff1200f5dfa646c762cadfb07bfc073dd4a86fcfba7d3fd53c5a9c632b45fac76af71b05682d2a249b5b179fc3b6c1e52a5bf3d26fb3c1\
    e38ec00ac69ee827409c181dc2c8f51af0449a17a82face210c0990e332e315031d80deacc6d966ce802437370e844b08a657d96e6472c642239b046\
    2135a1a1298a332b08b0884ca8654e255ebc910a25667f8c544b198902030100010282010059e24abd302dbaaffb8b1a7e85d0481229429a9eb73399\
    d821fa659c5f90e3e53d733d1b0973601a6bd748c365de1ff0d7fff9accbf21024b25a43f4ac0e87b7b1e4412f57eae681efd987bf5272a99b2e38ac\
    54376b734db695ce8f02d13a1b16cbdaf2baa936386a319e8093f9b4f0dba41b76a74d13013e9b3263cdee07a9bbddc0447a2398e5e655a0a127196b\
    5d699264dbd18af6fd5aa3332391ae2124cb648de9db954899bdf9c70415aef81f8b96866baacf22dd9d94502eb64198261d56bc1b093baf9b280195\
    6097354cf045e0f9b6dc990fdc28c14217930c31aa55109d532385c361ae5043a2b6525111a6dc9ce2d11e370c86073c240c2ab63502818100fb6429\
    2635044e74c256ee856f13c1ef51bce1a13acaafda820adafb692c3d3d8a4858ac896a541d3605a8116c1c386e6f25f5251be48ab8e9f54e5cfd6303\
    9a40ddce52f8c8963dc2c7d05e379548fb9226c8d7b100c1345b430e27c22fd974ecfacca1ceb080d7238f511eb66627c184bb05c93cb73414d77b99\
    ea5e5ecacb02818100ba5bfa332241275863a9b6100133ac7cbc3377f8e8d29053008a7d5e45c4ba92c915cef5cd721b1eaa2ee3f65b8f5347a20d8b\
    d8a9bba8ac4956a36b46cdb946c01bb95f2942a540cd965557dd35dc5aa38e72fb94c48a5ee362f59c6a9cc93731679f1cd3ecad6115e90d7ee6ab81\
    1c856dfc1c5d90a4a61d8e9fe7fe17be7b028180745b71e86b55a8f2c618f2a1f43dd2dff0975a60041458bcecc0158794b0934feeb779c3b27ef29b\
    eaab479578d2bf13ee82452b7df39479ee604a7b2415364fa98280c34abf9d3accf32b70d08d5a90869f490afcb47ab8bf1d146a36a96b1f81a8bc1a\
    90ce85740ed3811a941648847be90cce8e39c5f377a1902638b3eb6d02818062f0761333ba77931bc67c5c5ee6fa4a76f8b45737f4a29f0e88782ad6\
    cbad6a44cc0946c2be33dbc1ea8728c24f839d6251e2cf32bde8bd1f6a99f45870dc4ecdab6a6d3550a6bf92e69f84b872e1fc551d49ba7baf24ef5f\
    b5a84454edcc7e3b02929d117e74463905b41e8d84bc555219a461c2e30a270f462b6b55a17185028180648e81914a1ee46354a95920a16efd95965a\
    35afc8274f480b9a5b14f47f960e3461d3966db66a753143a466fbce8e952b438e5d20c14c1e96b6e12869f12588b9e3d5c87cbe782192c5e6b0e181\
    82be01a596fc2dd4519d424ef9787c640351e014c87d965acb04f07ca3fc929360e19e53283062435fff5a934a1fd3370281";
const PUBLIC: &str = "\
    3082010a0282010100b701183269e0c474117d48ca84b1d83d06b5e2813828aa089a903788beea1defacd8d1e1f125a35c8c87143adf925ba88c4c44\
    56ab48822a5065982c380bed80c7bf722587f98fb9cf363e90b6ffc0feafb688c8827d99971530e5779dd468aa13206813f580648a0939ccd9029645\
    93dbff1200f5dfa646c762cadfb07bfc073dd4a86fcfba7d3fd53c5a9c632b45fac76af71b05682d2a249b5b179fc3b6c1e52a5bf3d26fb3c1e38ec0\
    0ac69ee827409c181dc2c8f51af0449a17a82face210c0990e332e315031d80deacc6d966ce802437370e844b08a657d96e6472c642239b0462135a1\
    a1298a332b08b0884ca8654e255ebc910a25667f8c544b19890203010001";

/// What was encrypted.
const KEY: &[u8; 32] = b"0123456789abcdef0123456789ABCDEF";

/// Encrypted by `openssl pkeyutl`: hash, hash of the mask, result.
const ENCRYPTED: [(OaepHash, OaepHash, &str); 5] = [
    (
        OaepHash::Sha256,
        OaepHash::Sha256,
        "\
        33de0132a2b484a4cd1eacd343fb049b7fed7719bfece14a1baa69d72d15d698bcb9b899548524b9660d9361ab5d48cd29b8f78a8c10e74950bc199e\
        24be50ba58466759d4f2fd94dc8e1d272a360f7854fb2229ee77a9d44085ed6d02b25531ba082cb4102aa360f73538ad74606a0a8831ab51cf277312\
        281295a6dbf49a3a6995db930e5a3eebbe1722ab7fab178d693c64a31cdf9d24a8c6da11aa59a00cd454daf9892485214be3f32a619759edf1d64cd5\
        1d6c6accacc9bd24438934a63640f1acddb45b6b7dd32fa9ced5bca8f8756a0eb9194633ace88415ffab6fc2f4130f9abdc2cf66841d70927269329d\
        b15e0d310318c3cac988bd631aa0d1cc",
    ),
    (
        OaepHash::Sha256,
        OaepHash::Sha1,
        "\
        6920e4d5a0f5545d6c87f97f4d76bc85fe7d6248f1c380cde8f34b6ed25547e639001e9add069eb334fe53dcbc2f629b2feaa44d75b54047c6a95b21\
        43e7409b00db826f91270d18ffed5a4d08f4e3108780b552c9d97b3cfc14eb61b1a8c5d71258aebb6bc595df9f1d0da5fae2e76de0ffb0daffa518fb\
        f94146fcf6c468d89c239bb507aab6adbe918598d8f74d664494b7457011c170e7bf37f6cdb9fe057863b56c2f685f5230463ea68a3f5b6d10bebce5\
        138858856590aec51d162572241621f537e898e8d8c25b4d2b0030992bbf82d7835426c1f20dd82f6b335cae37487696c8a051e744450a42cb9613c8\
        bf2232fc931ae927116bace387e80388",
    ),
    (
        OaepHash::Sha1,
        OaepHash::Sha1,
        "\
        68d447de6d7541ad66fd1d924ecbc670d2502cbf24dd24f37138e582c794342dbda3fa248c7366c9c643f3d41ed5744cb93b0205f4bef3038a3b5c91\
        5316ba0254e050e9ecf163c4bdb7e93b5451414b70c0cbacc33753bef97894da801388c3c55057e72cd22de60f166bfc876ab12036c608b65ee807a6\
        d4a733f712b12616d2637559aa8e8c97e472fda27be28d6638c171a20376aad2156dc45dae1b5d6708d6f6c85e5b2643a65d45ddbc13da8c505d7474\
        a85010d93cbcc54d99a8831f0a68520253205583e2b23911300b543713f9dcce8ab69cc78780adcf4cdeadb1158f41e934d400382bda53214b5f0aa4\
        7c8aa85cc930c8bfe9ac897c4e867c7a",
    ),
    (
        OaepHash::Sha384,
        OaepHash::Sha512,
        "\
        97fb5df37737f2c035c74395f6b53d9ff0f10375e95bf5f078a720fbc4e2fb26f5daf703c3d80cae466cbd4755b200c186b75f0d5281b9422135d58c\
        469ac8c9d3455384a69b67a0a7ce9fcfe87ec3267b8f8fa90ea1c98eeabb66535a2057cdc3a0de2105f3c54c63392259260ee2392e5118e918e13e8f\
        f31fcb0cab418de7c467f1f4097e58e4b0dc6485cad609e36192f4199d53658487d9863fed4b994d2d8878b3e94dcb1f4e571c62b4b5bc26af0160e1\
        42fa0f0565090a54de358a42fb7405bbe3733e97bd9aeae62db4e2f8c32d720e0f7e207ead4731b6c3b9187a072ae4ff836306d979ede30a0b0c7dd8\
        e3c3af6f14194f5aa0d1cd0721baf898",
    ),
    (
        OaepHash::Sha512,
        OaepHash::Sha384,
        "\
        6c0a03e20da39d079e4b43c157bcabfd33ec03ee9fa93603b4f61fba7980d5f9bb39c9b0b7b7ed9b37fcf91dae4a119799a27189d62fdffd1a22680c\
        76c0c91ebd3ec0c4f37cdd884caabeebc65bda0f0953883d0dc7115394e5d42f7fc16cb0524d7d5bbcac375de3c52572a74e33b40cf808f9f0b2b6eb\
        63912bd1b38185f12e0d8888d751479f9a7dc7b1b63992182699159a27c70bd8788e06dc66fc91f477afe9b25c385fa3a50174a870d31502553a08b1\
        d3e15d82ac0f5aba55076479c4d60a5341d124e798ee4f4f6e7c9bc0c62984fc995f0d0af33838a9c436be2f716711a14cddcec9582c9d7afebb9990\
        b440674feac9701d78c3d5e8ae0ed655",
    ),
];

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap())
        .collect()
}

#[test]
fn what_openssl_encrypted_is_decrypted_and_nothing_else() {
    let private = hex(PRIVATE);
    for (hash, mask, encrypted) in ENCRYPTED {
        let (oaep, encrypted) = (Oaep { hash, mask }, hex(encrypted));
        assert_eq!(
            *Ring.unwrap_key_oaep(&private, oaep, &encrypted).unwrap(),
            KEY,
            "{oaep:?}"
        );
        let integrity = |oaep, wrapped: &[u8]| {
            assert_eq!(
                Ring.unwrap_key_oaep(&private, oaep, wrapped)
                    .unwrap_err()
                    .kind(),
                CryptoErrorKind::Integrity
            );
        };
        integrity(
            Oaep {
                hash: if hash == OaepHash::Sha1 {
                    OaepHash::Sha256
                } else {
                    OaepHash::Sha1
                },
                mask,
            },
            &encrypted,
        );
        integrity(
            Oaep {
                hash,
                mask: if mask == OaepHash::Sha1 {
                    OaepHash::Sha256
                } else {
                    OaepHash::Sha1
                },
            },
            &encrypted,
        );
        let mut altered = encrypted.clone();
        altered[200] ^= 1;
        integrity(oaep, &altered);
        integrity(oaep, &encrypted[1..]);
        integrity(oaep, &[0xFF; 256]);
        integrity(oaep, &[]);
    }
}

#[test]
fn only_what_fits_is_encrypted_and_never_twice_the_same() {
    let (private, public) = (hex(PRIVATE), hex(PUBLIC));
    for (hash, most) in [
        (OaepHash::Sha1, 214),
        (OaepHash::Sha256, 190),
        (OaepHash::Sha384, 158),
        (OaepHash::Sha512, 126),
    ] {
        let oaep = Oaep {
            hash,
            mask: OaepHash::Sha256,
        };
        let longest = vec![7; most];
        let wrapped = Ring.wrap_key_oaep(&public, oaep, &longest).unwrap();
        assert_eq!(
            *Ring.unwrap_key_oaep(&private, oaep, &wrapped).unwrap(),
            longest
        );
        assert_ne!(
            Ring.wrap_key_oaep(&public, oaep, &longest).unwrap(),
            wrapped
        );
        let long = vec![7; most + 1];
        assert_eq!(
            Ring.wrap_key_oaep(&public, oaep, &long).unwrap_err().kind(),
            CryptoErrorKind::Length
        );
    }
}

#[test]
fn what_is_no_rsa_key_is_refused() {
    let oaep = Oaep {
        hash: OaepHash::Sha256,
        mask: OaepHash::Sha256,
    };
    let (private, public) = (hex(PRIVATE), hex(PUBLIC));
    for bad in [&[][..], &private, &public[..public.len() - 1], &public[1..]] {
        assert_eq!(
            Ring.wrap_key_oaep(bad, oaep, KEY).unwrap_err().kind(),
            CryptoErrorKind::Key
        );
    }
    for bad in [
        &[][..],
        &public,
        &private[..private.len() - 1],
        &private[1..],
    ] {
        assert_eq!(
            Ring.unwrap_key_oaep(bad, oaep, &[1; 256])
                .unwrap_err()
                .kind(),
            CryptoErrorKind::Key
        );
    }
}

#[test]
fn openssl_decrypts_what_was_encrypted_here() {
    if Command::new("openssl").arg("version").output().is_err() {
        // On the real standard error: the test harness keeps to itself what `println!` and `eprintln!` write when a test passes.
        let _ = std::io::stderr().write_all(b"SKIPPED: there is no openssl command here\n");
        return;
    }
    let folder = std::env::temp_dir().join(format!("keyferry-oaep-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (key, input) = (folder.join("key"), folder.join("input"));
    std::fs::write(&key, hex(PRIVATE)).unwrap();
    let names = [
        (OaepHash::Sha1, "sha1"),
        (OaepHash::Sha256, "sha256"),
        (OaepHash::Sha384, "sha384"),
        (OaepHash::Sha512, "sha512"),
    ];
    for (hash, hash_name) in names {
        for (mask, mask_name) in names {
            std::fs::write(
                &input,
                Ring.wrap_key_oaep(&hex(PUBLIC), Oaep { hash, mask }, KEY)
                    .unwrap(),
            )
            .unwrap();
            let (hash, mask) = (
                format!("rsa_oaep_md:{hash_name}"),
                format!("rsa_mgf1_md:{mask_name}"),
            );
            let mut openssl = Command::new("openssl");
            openssl.args([
                "pkeyutl",
                "-decrypt",
                "-keyform",
                "DER",
                "-pkeyopt",
                "rsa_padding_mode:oaep",
                "-pkeyopt",
                &hash,
            ]);
            let told = openssl
                .args(["-pkeyopt", &mask, "-inkey"])
                .arg(&key)
                .arg("-in")
                .arg(&input)
                .output()
                .unwrap();
            assert_eq!(
                told.stdout,
                KEY,
                "{hash} {mask}: {}",
                String::from_utf8_lossy(&told.stderr)
            );
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
