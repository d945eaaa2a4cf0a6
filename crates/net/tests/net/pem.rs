//! PEM files: errors name the file and the reason, and quote nothing.

use crate::support::Authority;
use keyferry_net::{Credentials, ErrorKind, ServerConfig, pem};
use rcgen::DnType;

#[test]
fn files() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let pair = authority.issue(&[(DnType::CommonName, "server")]);
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("ca.pem"), &authority.pem).unwrap();
    std::fs::write(
        path("own.pem"),
        pair.certificate_pem.clone() + &authority.pem,
    )
    .unwrap();
    std::fs::write(path("own.key"), &pair.key_pem).unwrap();
    assert_eq!(
        pem::certificates(path("own.pem")).unwrap(),
        [pair.certificate, authority.certificate.clone()]
    );
    let credentials =
        Credentials::from_files(path("ca.pem"), path("own.pem"), path("own.key")).unwrap();
    ServerConfig::new(&credentials).unwrap();

    for (error, file, reason) in [
        (
            pem::certificates(path("absent.pem")).unwrap_err(),
            "absent.pem",
            "",
        ),
        (
            pem::certificates(path("own.key")).unwrap_err(),
            "own.key",
            "no certificate in it",
        ),
        (
            pem::private_key(path("own.pem")).map(drop).unwrap_err(),
            "own.pem",
            "no private key in it",
        ),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config);
        let text = error.to_string();
        assert!(text.contains(file) && text.contains(reason), "{text}");
    }
}

#[test]
fn broken_text() {
    let pair = Authority::new().issue(&[]);
    let encrypted = pair.key_pem.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let secret = "c2VjcmV0IHNlY3JldA";
    for (text, reason) in [
        (encrypted.as_str(), "the private key is encrypted"),
        (
            &format!("-----BEGIN PRIVATE KEY-----\n{secret}!\n-----END PRIVATE KEY-----\n"),
            "base64",
        ),
        (
            &format!("-----BEGIN PRIVATE KEY-----\n{secret}\n"),
            "no END line",
        ),
        (&format!("-----BEGIN {secret}\n"), "BEGIN line"),
        ("", "no private key in it"),
    ] {
        let error = pem::private_key_from(text.as_bytes(), "here")
            .map(drop)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("here: ") && error.contains(reason),
            "{error}"
        );
        assert!(!error.contains("c2Vj"), "{error}");
    }
}

#[test]
fn credentials_that_do_not_fit() {
    let authority = Authority::new();
    let (one, two) = (authority.issue(&[]), authority.issue(&[]));
    let roots = vec![authority.certificate.clone()];
    let mixed = Credentials::new(roots, vec![one.certificate.clone()], two.key);
    assert_eq!(
        ServerConfig::new(&mixed).unwrap_err().kind(),
        ErrorKind::Config
    );
    let trusting_nobody = Credentials::new(vec![], vec![one.certificate], one.key);
    assert_eq!(
        ServerConfig::new(&trusting_nobody).unwrap_err().kind(),
        ErrorKind::Config
    );
    let debug = format!("{trusting_nobody:?}");
    assert_eq!(debug, "Credentials(0 roots, 1 certificates, Both)");
}
