//! The identity that a certificate speaks for.

use crate::error::{Error, ErrorKind, Result};
use keyferry_kmip::Identity;
use std::fmt::Write;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The identity that a certificate (DER) speaks for.
///
/// The name is the subject's Common Name. Where there are none or several, it is the whole subject; where that is empty, `sha256:` and
/// the fingerprint, so that two certificates without a name are never the same peer.
///
/// # Errors
/// [`ErrorKind::Tls`] when this is no certificate.
pub fn identity(certificate: &[u8]) -> Result<Identity> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| {
        let context = format_args!("the peer's certificate can't be read: {error}");
        Error::new(ErrorKind::Tls, context).with_source(error)
    })?;
    let mut fingerprint = [0; 32];
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    for (to, from) in fingerprint.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    let subject = parsed.subject();
    let mut common = subject.iter_common_name();
    let name = match (common.next().map(|name| name.as_str()), common.next()) {
        (Some(Ok(name)), None) if !name.is_empty() => name.to_owned(),
        _ => subject.to_string(),
    };
    Ok(Identity {
        name: if name.is_empty() {
            unnamed(&fingerprint)
        } else {
            name
        },
        fingerprint,
    })
}

fn unnamed(fingerprint: &[u8; 32]) -> String {
    let mut name = String::from("sha256:");
    for byte in fingerprint {
        let _ = write!(name, "{byte:02x}"); // writing to a String can't fail
    }
    name
}
