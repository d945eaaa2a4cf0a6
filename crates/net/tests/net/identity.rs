//! Names from certificates: of which kind they are, and that no certificate has another one's.

use crate::support::{Authority, Rig, frame, within};
use keyferry_kmip::{Identity, der, is_printable};
use keyferry_net::{ClientConfig, Connector, Credentials, ErrorKind, identity};
use proptest::prelude::*;
use rcgen::DnType;
use std::collections::HashMap;
use std::path::PathBuf;

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().unwrap()
}

/// Type, tag of the string, and its bytes: one part of a subject.
type Part = (Vec<u8>, u8, Vec<u8>);

/// The type Common Name.
const CN: &[u8] = &[0x55, 4, 3];
/// The type Organization.
const O: &[u8] = &[0x55, 4, 10];
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;

fn part(kind: &[u8], tag: u8, text: &str) -> Part {
    (kind.to_vec(), tag, text.as_bytes().to_vec())
}

/// A subject, encoded.
fn subject(names: &[Vec<Part>]) -> Vec<u8> {
    let sets: Vec<u8> = names
        .iter()
        .flat_map(|parts| {
            let parts: Vec<u8> = parts
                .iter()
                .flat_map(|(kind, tag, value)| {
                    let kind = der::element(der::OBJECT_IDENTIFIER, &[kind]);
                    der::element(der::SEQUENCE, &[&kind, &der::element(*tag, &[value])]).to_vec()
                })
                .collect();
            der::element(0x31, &[&parts]).to_vec()
        })
        .collect();
    der::element(der::SEQUENCE, &[&sets]).to_vec()
}

/// A certificate with this subject, which nobody has signed.
fn certificate(subject: &[u8]) -> Vec<u8> {
    let sequence = |parts: &[&[u8]]| der::element(der::SEQUENCE, parts).to_vec();
    let algorithm = sequence(&[&der::element(
        der::OBJECT_IDENTIFIER,
        &[&[0x2b, 0x65, 0x70]],
    )]);
    let time = der::element(0x17, &[b"250101000000Z"]);
    let bits = der::element(der::BIT_STRING, &[&[0; 33]]);
    let version = der::element(der::context(0), &[&der::element(der::INTEGER, &[&[2]])]);
    let signed = sequence(&[
        &version,
        &der::element(der::INTEGER, &[&[1]]),
        &algorithm,
        &sequence(&[]),
        &sequence(&[&time, &time]),
        subject,
        &sequence(&[&algorithm, &bits]),
    ]);
    sequence(&[&signed, &algorithm, &bits])
}

fn name(names: &[Vec<Part>]) -> String {
    identity(&certificate(&subject(names))).unwrap().name
}

#[test]
fn the_common_name() {
    let pair = Authority::new().issue(&[
        (DnType::OrganizationName, "Example"),
        (DnType::CommonName, "kms-1"),
    ]);
    let identity = identity(&pair.certificate).unwrap();
    assert_eq!(identity.name, "kms-1");
    assert_eq!(identity.fingerprint, sha256(&pair.certificate));
    assert_ne!(identity.public_key, [0; 32]);
}

#[test]
fn the_whole_subject_without_one() {
    let c = part(&[0x55, 4, 6], PRINTABLE, "DE");
    let o = part(O, UTF8, "Example");
    assert_eq!(
        name(&[vec![c], vec![o]]),
        "subject:O=Example,C;printable=DE"
    );
}

#[test]
fn the_fingerprint_without_a_subject() {
    let authority = Authority::new();
    let (one, two) = (authority.issue(&[]), authority.issue(&[]));
    let found = identity(&one.certificate).unwrap();
    let hex: String = found
        .fingerprint
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(found.name, format!("certificate:sha256:{hex}"));
    assert_ne!(found.name, identity(&two.certificate).unwrap().name);
}

#[test]
fn no_certificate() {
    assert_eq!(
        identity(b"no certificate").unwrap_err().kind(),
        ErrorKind::Tls
    );
}

#[test]
fn a_common_name_that_reads_like_something_else_names_a_subject() {
    let longest = "x".repeat(64);
    assert_eq!(name(&[vec![part(CN, UTF8, &longest)]]), longest);
    let longer = "x".repeat(65);
    for (common, expected) in [
        ("O=acme", "subject:CN=O\\=acme"),
        ("peer:centre", "subject:CN=peer:centre"),
        ("PEER:centre", "subject:CN=PEER:centre"),
        ("subject:CN=alice", "subject:CN=subject:CN\\=alice"),
        ("sha256:00", "subject:CN=sha256:00"),
        ("certificate:sha256:00", "subject:CN=certificate:sha256:00"),
        ("a\nb", "subject:CN=a\\0ab"),
        ("\u{1b}[2J", "subject:CN=\\1b[2J"),
        ("a\u{202e}b", "subject:CN=a\\e2\\80\\aeb"),
        (" alice", "subject:CN=\\ alice"),
        ("alice ", "subject:CN=alice\\ "),
        ("#616263=", "subject:CN=\\#616263\\="),
        ("", "subject:CN="),
        (&longer, &format!("subject:CN={longer}")),
    ] {
        assert_eq!(
            name(&[vec![part(CN, UTF8, common)]]),
            expected,
            "{common:?}"
        );
    }
}

#[test]
fn two_common_names_are_neither_of_them() {
    let (a, b) = (part(CN, UTF8, "alice"), part(CN, UTF8, "bob"));
    assert_eq!(
        name(&[vec![a.clone()], vec![b.clone()]]),
        "subject:CN=bob,CN=alice"
    );
    assert_eq!(name(&[vec![a.clone(), b]]), "subject:CN=alice+CN=bob");
    assert_eq!(
        name(&[vec![a.clone()], vec![a]]),
        "subject:CN=alice,CN=alice"
    );
}

#[test]
fn strings_of_other_encodings() {
    let bmp: Vec<u8> = "Zürich".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let wide: Vec<u8> = "Zürich"
        .chars()
        .flat_map(|c| u32::from(c).to_be_bytes())
        .collect();
    for (tag, bytes, expected) in [
        (0x1e, bmp, "Zürich"),
        (0x1c, wide, "Zürich"),
        (0x14, b"Zurich".to_vec(), "Zurich"),
        (0x14, b"Z\xfcrich".to_vec(), "subject:CN;t61=Zürich"),
        (0x1e, vec![0, 65, 0], "subject:CN=#1e03004100"),
        (0x13, vec![0xff], "subject:CN=#1301ff"),
        (UTF8, vec![0xff], "subject:CN=#0c01ff"),
        (0x04, b"a".to_vec(), "subject:CN=#040161"),
    ] {
        assert_eq!(name(&[vec![(CN.to_vec(), tag, bytes)]]), expected);
    }
    let odd = vec![0x2a, 0x80, 0x01]; // a number with a leading zero
    assert!(name(&[vec![part(&odd, UTF8, "a")]]).starts_with("subject:#30"));
    let long = part(O, UTF8, &"x".repeat(2000));
    assert!(name(&[vec![long]]).starts_with("subject:sha256:"));
}

#[test]
fn the_certificates_that_went_wrong_elsewhere() {
    let folder = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/cases/certificates"
    ));
    if !folder.is_dir() {
        eprintln!("SKIPPED: no certificates at {}", folder.display());
        return;
    }
    for (file, expected) in [
        ("35-BMP", "Zürich"),
        ("35-UTF8", "Zürich"),
        ("35-T61", "subject:CN;t61="),
        ("18-empty-subject", "certificate:sha256:"),
        ("18-multi-valued-RDN", "multi"),
        ("18-many-OUs", "c"),
        ("18-bmp-t61", ""),
    ] {
        let bytes = std::fs::read(folder.join(format!("{file}.der"))).unwrap();
        let name = identity(&bytes).unwrap().name;
        let is_kind = expected.ends_with(['=', ':']);
        assert!(
            name == expected || (is_kind || expected.is_empty()) && name.starts_with(expected),
            "{file}: {name}"
        );
        assert!(Identity::is_of_certificate(&name), "{file}: {name}");
    }
    for file in ["18-garbage", "18-empty", "18-PEM-instead-of-DER"] {
        let bytes = std::fs::read(folder.join(format!("{file}.der"))).unwrap();
        assert_eq!(
            identity(&bytes).unwrap_err().kind(),
            ErrorKind::Tls,
            "{file}"
        );
    }
}

/// Subjects of few letters, all of which mean something, so that two that could be confused come often.
fn any_subject() -> impl Strategy<Value = Vec<Vec<Part>>> {
    let kinds = prop::sample::select(vec![
        CN.to_vec(),
        O.to_vec(),
        vec![0x2a, 3],
        vec![0x2a, 0x80, 3],
        vec![0x78],
        vec![0x81, 0x00],
    ]);
    let pieces = [
        "",
        "a",
        ",",
        "+",
        "=",
        "\\",
        " ",
        "#",
        ";",
        "\n",
        "CN",
        "O",
        "CN=a",
        ",O=a",
        "+CN=a",
        "\\0a",
        "0a",
        "é",
        "\u{202e}",
        "peer:",
        "subject:",
        "sha256:",
        "#0c0161",
        ";printable",
    ];
    let text = prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..3);
    let tags = prop::sample::select(vec![
        UTF8, UTF8, UTF8, PRINTABLE, 0x14, 0x16, 0x1e, 0x1c, 0x04,
    ]);
    let part = (kinds, tags, text).prop_map(|(kind, tag, text)| {
        let text = text.concat();
        let bytes = match tag {
            0x1e => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            0x1c => text
                .chars()
                .flat_map(|c| u32::from(c).to_be_bytes())
                .collect(),
            _ => text.into_bytes(),
        };
        (kind, tag, bytes)
    });
    prop::collection::vec(prop::collection::vec(part, 0..3), 0..3)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn two_subjects_never_share_a_name(subjects in prop::collection::vec(any_subject(), 200)) {
        let mut seen = HashMap::new();
        for names in subjects {
            let encoded = subject(&names);
            let name = identity(&certificate(&encoded)).unwrap().name;
            prop_assert!(is_printable(&name) && Identity::is_of_certificate(&name), "{}", name);
            if name.starts_with(Identity::SUBJECT) {
                let other = seen.entry(name.clone()).or_insert_with(|| encoded.clone());
                prop_assert_eq!(&*other, &encoded, "{}", name);
            } else if !name.starts_with(Identity::CERTIFICATE) {
                let common: Vec<_> = names.iter().flatten().filter(|part| part.0 == CN).collect();
                prop_assert_eq!(common.len(), 1);
                let bytes: Vec<u8> = match common[0].1 {
                    0x1e => name.encode_utf16().flat_map(u16::to_be_bytes).collect(),
                    0x1c => name.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect(),
                    _ => name.into_bytes(),
                };
                prop_assert_eq!(&bytes, &common[0].2);
            }
        }
    }
}

/// What a server over TLS calls a client with this certificate.
async fn caller(rig: &Rig, pair: crate::support::Pair) -> Identity {
    let trust = vec![rig.authority.certificate.clone()];
    let credentials = Credentials::new(trust, vec![pair.certificate], pair.key);
    let config = ClientConfig::new(&credentials, "localhost").unwrap();
    let mut connection = Connector::new(rig.address(), config)
        .connect()
        .await
        .unwrap();
    connection.call(&frame(1, 0)).await.unwrap();
    rig.toy.callers.lock().unwrap().last().unwrap().clone()
}

#[test]
fn over_tls_a_renewed_certificate_keeps_the_key_and_a_forged_one_does_not() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(within(async {
        let rig = Rig::new().await;
        let subject = [(DnType::CommonName, "centre")];
        let key = rcgen::KeyPair::generate().unwrap();
        let first = caller(&rig, rig.authority.issue_for(&key, &subject)).await;
        let renewed = caller(&rig, rig.authority.issue_for(&key, &subject)).await;
        let forged = caller(&rig, rig.authority.issue(&subject)).await;
        assert_eq!([&first.name, &renewed.name, &forged.name], ["centre"; 3]);
        assert_ne!(first.fingerprint, renewed.fingerprint);
        assert_eq!(first.public_key, renewed.public_key);
        assert_ne!(first.public_key, forged.public_key);
        let evil = [(DnType::CommonName, "a\n\u{1b}[31mERROR")];
        let evil = caller(&rig, rig.authority.issue(&evil)).await;
        assert_eq!(evil.name, "subject:CN=a\\0a\\1b[31mERROR");
    }));
}
