//! Names from certificates.

use crate::support::Authority;
use keyferry_net::{ErrorKind, identity};
use rcgen::DnType;

#[test]
fn the_common_name() {
    let pair = Authority::new().issue(&[
        (DnType::OrganizationName, "Example"),
        (DnType::CommonName, "kms-1"),
    ]);
    let identity = identity(&pair.certificate).unwrap();
    assert_eq!(identity.name, "kms-1");
    let digest = ring::digest::digest(&ring::digest::SHA256, &pair.certificate);
    assert_eq!(identity.fingerprint[..], *digest.as_ref());
}

#[test]
fn the_whole_subject_without_one() {
    let pair = Authority::new().issue(&[
        (DnType::CountryName, "DE"),
        (DnType::OrganizationName, "Example"),
    ]);
    assert_eq!(identity(&pair.certificate).unwrap().name, "C=DE, O=Example");
}

#[test]
fn the_fingerprint_without_a_subject() {
    let authority = Authority::new();
    let (one, two) = (authority.issue(&[]), authority.issue(&[]));
    let name = identity(&one.certificate).unwrap().name;
    assert!(
        name.starts_with("sha256:") && name.len() == 7 + 64,
        "{name}"
    );
    assert_ne!(name, identity(&two.certificate).unwrap().name);
}

#[test]
fn no_certificate() {
    assert_eq!(
        identity(b"no certificate").unwrap_err().kind(),
        ErrorKind::Tls
    );
}
