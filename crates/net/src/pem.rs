//! Certificates and private keys from PEM files.

use crate::error::{Error, ErrorKind, Result};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use zeroize::Zeroizing;

/// Reads all certificates of a PEM file, in order.
///
/// # Errors
/// [`ErrorKind::Config`], naming the file, when it can't be read or holds no certificate.
pub fn certificates(path: impl AsRef<Path>) -> Result<Vec<CertificateDer<'static>>> {
    let path = path.as_ref();
    certificates_from(&read(path)?, &path.display().to_string())
}

/// Reads all certificates from PEM text; `origin` names it in errors.
///
/// # Errors
/// [`ErrorKind::Config`] when there is no certificate in it or one is broken.
pub fn certificates_from(text: &[u8], origin: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| broken(origin, &error))?;
    if found.is_empty() {
        return Err(config(origin, "no certificate in it"));
    }
    Ok(found)
}

/// Reads the first private key of a PEM file: PKCS#8, PKCS#1 or SEC1, not encrypted.
///
/// # Errors
/// [`ErrorKind::Config`], naming the file, when it can't be read or holds no private key.
pub fn private_key(path: impl AsRef<Path>) -> Result<PrivateKeyDer<'static>> {
    let path = path.as_ref();
    private_key_from(&read(path)?, &path.display().to_string())
}

/// Reads the first private key from PEM text; `origin` names it in errors.
///
/// # Errors
/// [`ErrorKind::Config`] when there is no private key in it, or only an encrypted one.
pub fn private_key_from(text: &[u8], origin: &str) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound if contains(text, b"ENCRYPTED PRIVATE KEY") => {
            config(origin, "the private key is encrypted")
        }
        pem::Error::NoItemsFound => config(origin, "no private key in it"),
        error => broken(origin, &error),
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|error| config(&path.display().to_string(), &error.to_string()).with_source(error))
}

fn config(origin: &str, reason: &str) -> Error {
    Error::new(ErrorKind::Config, format_args!("{origin}: {reason}"))
}

/// The error of a text that is no PEM, with the reason in words and without a source: the parser's own message may quote the file.
fn broken(origin: &str, error: &pem::Error) -> Error {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is broken",
        pem::Error::Base64Decode(_) => "the base64 text is broken",
        _ => "no readable PEM text",
    };
    config(origin, reason)
}
