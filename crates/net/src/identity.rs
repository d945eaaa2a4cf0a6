//! The identity that a certificate speaks for.

use crate::error::{Error, ErrorKind, Result};
use crate::subject;
use keyferry_kmip::Identity;
use ring::digest::{SHA256, digest};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The identity that a certificate (DER) speaks for.
///
/// The [name](Identity::name) is the subject's Common Name if there is exactly one, and it is [plain](Identity::is_plain). Otherwise it is
/// `subject:` and the whole subject by RFC 4514, which two different subjects never share; and for an empty subject `certificate:sha256:`
/// and the fingerprint. So no certificate has the name of another one by writing something into its Common Name. Other parts of a subject
/// with one Common Name do not count: who signs certificates gives each Common Name to one holder.
///
/// # Errors
/// [`ErrorKind::Tls`] when this is no certificate.
pub fn identity(certificate: &[u8]) -> Result<Identity> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| {
        let context = format_args!("the peer's certificate can't be read: {error}");
        Error::new(ErrorKind::Tls, context).with_source(error)
    })?;
    let fingerprint = sha256(certificate);
    let subject = parsed.subject();
    let name = match subject::common_name(subject).filter(|name| Identity::is_plain(name)) {
        Some(name) => name,
        None if subject.iter_rdn().next().is_none() => {
            let (kind, digest) = (Identity::CERTIFICATE, subject::hex(&fingerprint));
            format!("{kind}sha256:{digest}")
        }
        None => format!("{}{}", Identity::SUBJECT, subject::text(subject)),
    };
    let public_key = sha256(parsed.public_key().raw);
    Ok(Identity::new(name).with_certificate(fingerprint, public_key))
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let digest = digest(&SHA256, bytes);
    for (to, from) in out.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    out
}
