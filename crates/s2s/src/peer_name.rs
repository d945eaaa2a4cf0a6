//! [`PeerName`]: by what a policy recognises a peer's certificate.

use keyferry_kmip::{Escaped, Identity};
use std::collections::BTreeSet;
use std::fmt;

/// By what a policy recognises a peer's certificate ([rule F](crate::design#rule-f)): by its canonical name, by its public key, or by both,
/// which then must both fit.
///
/// A name is as good as the authority that signs the certificates: whoever gets a certificate with it is the peer. A key can't be had
/// from an authority, and a renewed certificate may keep it. So bind a peer to its keys where that can be arranged; name the next key beside
/// the present one before it is changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerName {
    name: Option<String>,
    keys: BTreeSet<[u8; 32]>,
}

/// How much of a certificate a [`PeerName`] fits: the later, the more specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// The name.
    Name,
    /// One of the keys.
    Key,
    /// The name and one of the keys.
    NameAndKey,
}

impl PeerName {
    /// The peer with this canonical name ([`Identity::name`]): a plain Common Name, or the name of another kind with its beginning, such as
    /// `subject:…`.
    pub fn named(name: impl Into<String>) -> PeerName {
        PeerName {
            name: Some(name.into()),
            keys: BTreeSet::new(),
        }
    }

    /// The peer with one of these public keys, by their SHA-256 ([`Identity::public_key`]), whatever its certificate names it.
    pub fn keyed(keys: impl IntoIterator<Item = [u8; 32]>) -> PeerName {
        PeerName {
            name: None,
            keys: keys.into_iter().collect(),
        }
    }

    /// The same name, with one of these public keys only.
    #[must_use]
    pub fn with_keys(mut self, keys: impl IntoIterator<Item = [u8; 32]>) -> PeerName {
        self.keys.extend(keys);
        self
    }

    /// How an identity fits; `None` if it does not.
    pub(crate) fn fits(&self, identity: &Identity) -> Option<Fit> {
        let by_name = self.name.as_ref().map(|name| *name == identity.name);
        let by_key = (!self.keys.is_empty())
            .then(|| identity.public_key != NO_KEY && self.keys.contains(&identity.public_key));
        match (by_name, by_key) {
            (Some(true), None) => Some(Fit::Name),
            (None, Some(true)) => Some(Fit::Key),
            (Some(true), Some(true)) => Some(Fit::NameAndKey),
            _ => None,
        }
    }

    /// Whether one identity could fit both equally well.
    pub(crate) fn is_ambiguous_with(&self, other: &PeerName) -> bool {
        self.name == other.name
            && (self.keys.is_empty() && other.keys.is_empty()
                || !self.keys.is_disjoint(&other.keys))
    }

    /// Whether it names a certificate of this name, whatever the key.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }

    /// Why no certificate can fit; `None` if one can.
    pub(crate) fn reason_unusable(&self) -> Option<&'static str> {
        if self.keys.contains(&NO_KEY) {
            return Some("a key fingerprint of zeroes is nobody's");
        }
        match &self.name {
            None if self.keys.is_empty() => Some("it has neither a name nor a key"),
            Some(name) if !Identity::is_of_certificate(name) => {
                Some("no certificate has this name: a subject begins with \"subject:\"")
            }
            _ => None,
        }
    }
}

/// The fingerprint of a key that is not known.
const NO_KEY: [u8; 32] = [0; 32];

impl<T: Into<String>> From<T> for PeerName {
    fn from(name: T) -> PeerName {
        PeerName::named(name)
    }
}

/// The name, and the first bytes of the keys.
impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if let Some(name) = &self.name {
            write!(f, "{}", Escaped(name))?;
            separator = " ";
        }
        for [a, b, c, d, ..] in &self.keys {
            write!(f, "{separator}key {a:02x}{b:02x}{c:02x}{d:02x}..")?;
            separator = " ";
        }
        Ok(())
    }
}
