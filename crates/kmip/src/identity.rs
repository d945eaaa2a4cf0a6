//! [`Identity`]: who is at the other end of a connection, and the names that nobody can give themselves.

use crate::escape::is_printable;
use std::fmt;

/// The identity of the other end of a connection, as its TLS certificate states it.
///
/// Its [name](Identity::name) is canonical: it says of which kind it is, and a name of one kind never reads like one of another.
///
/// | name | of whom |
/// |---|---|
/// | `alice` | a certificate with exactly one Common Name, which is [plain](Identity::is_plain); also who logged in by that name |
/// | `subject:CN=a,O=Example` | any other certificate with a subject: the whole subject, by RFC 4514 |
/// | `certificate:sha256:…` | a certificate without a subject |
/// | `peer:centre` | a peer of this server, by its server id ([`Identity::peer`]); no certificate gives this |
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The canonical name.
    pub name: String,
    /// SHA-256 of the certificate; zeroes where there is none.
    pub fingerprint: [u8; 32],
    /// SHA-256 of the certificate's public key (its SubjectPublicKeyInfo, RFC 5280 §4.1.2.7), which a renewed certificate of the same key has,
    /// too; zeroes where it is not known.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "keyferry_ttlv::serde_form::is_default")
    )]
    pub public_key: [u8; 32],
}

/// Begins the name of a peer.
const PEER: &str = "peer:";

/// What no plain name begins with, in whatever case. `sha256:` is how builds before 0.1 named certificates without a subject, as whom nobody
/// may speak now.
const RESERVED: [&str; 4] = [Identity::SUBJECT, Identity::CERTIFICATE, PEER, "sha256:"];

/// The most characters of a plain name: those of a Common Name (RFC 5280, ub-common-name).
const LONGEST: usize = 64;

impl Identity {
    /// Begins the name of a certificate whose whole subject counts.
    pub const SUBJECT: &str = "subject:";

    /// Begins the name of a certificate without a subject.
    pub const CERTIFICATE: &str = "certificate:";

    /// An identity by its name alone, without a certificate. A peer that a policy knows by its key is never recognised by this.
    pub fn new(name: impl Into<String>) -> Identity {
        Identity {
            name: name.into(),
            fingerprint: [0; 32],
            public_key: [0; 32],
        }
    }

    /// The same with the SHA-256 of a certificate, and of the public key in it.
    #[must_use]
    pub fn with_certificate(self, fingerprint: [u8; 32], public_key: [u8; 32]) -> Identity {
        Identity {
            fingerprint,
            public_key,
            ..self
        }
    }

    /// The identity under which a peer acts: `peer:` and its server id. What a peer puts belongs to it by this name, which no client has.
    #[must_use]
    pub fn peer(server: &str) -> Identity {
        Identity::new(format!("{PEER}{server}"))
    }

    /// Whether this is the identity of a [peer](Identity::peer).
    pub fn is_peer(&self) -> bool {
        self.name.starts_with(PEER)
    }

    /// Whether a name can be given by a Common Name, and so is nobody's canonical name of another kind: it is not empty, has at most 64
    /// characters, all of which print ([`is_printable`](crate::is_printable)), no space at either end, no `=`, which the subjects that earlier
    /// builds used as names have, and none of the beginnings that name another kind.
    pub fn is_plain(name: &str) -> bool {
        !name.is_empty()
            && name.chars().count() <= LONGEST
            && name.trim() == name
            && !name.contains('=')
            && is_printable(name)
            && !Identity::is_reserved(name)
    }

    /// Whether a certificate can have this canonical name.
    pub fn is_of_certificate(name: &str) -> bool {
        Identity::is_plain(name)
            || is_printable(name)
                && (name.starts_with(Identity::SUBJECT) || name.starts_with(Identity::CERTIFICATE))
    }

    /// Whether a name begins like those of another kind, `peer:` for example, in whatever case. A login must not give such a name.
    pub fn is_reserved(name: &str) -> bool {
        RESERVED.iter().any(|reserved| {
            name.get(..reserved.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(reserved))
        })
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.fingerprint;
        write!(
            f,
            "Identity({:?}, {a:02x}{b:02x}{c:02x}{d:02x}..)",
            self.name
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn plain_names() {
        let longest = "x".repeat(LONGEST);
        for plain in [
            "alice",
            "kms-1.example.com",
            "Zürich 東京",
            &longest,
            "peer",
            "subject",
        ] {
            assert!(Identity::is_plain(plain), "{plain:?}");
        }
        let longer = "x".repeat(LONGEST + 1);
        for other in [
            "",
            " a",
            "a ",
            "a\nb",
            "a\u{1b}[0m",
            "a\u{202e}b",
            "O=acme",
            "sha256:00",
            "SHA256:00",
            "peer:centre",
            "Peer:centre",
            "subject:CN=a",
            "certificate:sha256:00",
            &longer,
        ] {
            assert!(!Identity::is_plain(other), "{other:?}");
        }
        assert!(Identity::peer("centre").is_peer() && !Identity::new("peer").is_peer());
        assert!(Identity::is_reserved("PEER:x") && !Identity::is_reserved("pee"));
    }
}
