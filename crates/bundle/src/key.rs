//! Who signs, who is trusted, who can read.

use crate::error::{Error, ErrorKind, Result};
use crate::hash::sha256;
use age::secrecy::{ExposeSecret, SecretString};
use keyferry_kmip::{Random, Text};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// The Ed25519 key that a server signs its bundles with.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A new key. Keep the seed that comes with it where keys are kept: [`from_seed`](SigningKey::from_seed) makes the same key of it.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn generate(random: &mut dyn Random) -> Result<(SigningKey, Zeroizing<[u8; 32]>)> {
        let mut seed = Zeroizing::new([0; 32]);
        random
            .fill(&mut *seed)
            .map_err(|e| Error::caused_by(ErrorKind::Random, e))?;
        Ok((SigningKey::from_seed(&seed)?, seed))
    }

    /// The key of a seed (RFC 8032 §5.1.5).
    ///
    /// # Errors
    /// None in practice.
    pub fn from_seed(seed: &[u8; 32]) -> Result<SigningKey> {
        Ed25519KeyPair::from_seed_unchecked(seed)
            .map(SigningKey)
            .map_err(|_| Error::new(ErrorKind::Key, "not a seed of an Ed25519 key"))
    }

    /// A key in PKCS#8, version 1 or 2, as `openssl genpkey` writes it in DER (RFC 8410).
    ///
    /// # Errors
    /// [`ErrorKind::Key`].
    pub fn from_pkcs8(der: &[u8]) -> Result<SigningKey> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
            .map(SigningKey)
            .map_err(|_| Error::new(ErrorKind::Key, "not an Ed25519 key in PKCS#8"))
    }

    /// The public half, which the other side is to trust.
    pub fn verifying_key(&self) -> VerifyingKey {
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(self.0.public_key().as_ref()) {
            *to = *from;
        }
        VerifyingKey(bytes)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.verifying_key())
    }
}

/// The public half of a [`SigningKey`]: 32 bytes (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerifyingKey(pub [u8; 32]);

impl VerifyingKey {
    /// Its id, which a manifest carries: SHA-256 of the 32 bytes.
    pub fn id(&self) -> [u8; 32] {
        sha256(&[&self.0])
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifyingKey(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Whose signature counts, and as which server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The server id that a bundle signed with the key must be from.
    pub server: Text,
    /// The key.
    pub key: VerifyingKey,
}

impl Signer {
    /// Trusts `key` to sign for `server`.
    pub fn new(server: impl Into<Text>, key: VerifyingKey) -> Signer {
        Signer {
            server: server.into(),
            key,
        }
    }
}

/// Who can read a bundle: an age recipient.
pub struct AgeRecipient(Reads);

enum Reads {
    Key(age::x25519::Recipient),
    Passphrase(SecretString),
}

impl AgeRecipient {
    /// Whoever knows the passphrase. It stands alone: age does not mix it with other recipients. How much work it costs to try one is
    /// measured on this machine (scrypt, about a second).
    pub fn passphrase(passphrase: &str) -> AgeRecipient {
        AgeRecipient(Reads::Passphrase(passphrase.into()))
    }

    /// The recipient as `age1…`, for telling others; `None` for a passphrase.
    pub fn text(&self) -> Option<String> {
        match &self.0 {
            Reads::Key(key) => Some(key.to_string()),
            Reads::Passphrase(_) => None,
        }
    }

    pub(crate) fn boxed(&self) -> Box<dyn age::Recipient> {
        match &self.0 {
            Reads::Key(key) => Box::new(key.clone()),
            Reads::Passphrase(passphrase) => {
                Box::new(age::scrypt::Recipient::new(passphrase.clone()))
            }
        }
    }
}

/// An X25519 recipient, `age1…`.
impl FromStr for AgeRecipient {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let key = text.trim().parse().map_err(|why| {
            Error::new(ErrorKind::Key, format_args!("not an age recipient: {why}"))
        })?;
        Ok(AgeRecipient(Reads::Key(key)))
    }
}

impl fmt::Debug for AgeRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reads::Key(key) => write!(f, "AgeRecipient({key})"),
            Reads::Passphrase(_) => f.write_str("AgeRecipient(passphrase)"),
        }
    }
}

/// What opens a bundle: an age identity. Wiped on drop.
pub struct AgeIdentity(Opens);

enum Opens {
    Key(age::x25519::Identity),
    Passphrase(SecretString),
}

impl AgeIdentity {
    /// A new X25519 identity, from the system's randomness: age takes no other.
    pub fn generate() -> AgeIdentity {
        AgeIdentity(Opens::Key(age::x25519::Identity::generate()))
    }

    /// A passphrase.
    pub fn passphrase(passphrase: &str) -> AgeIdentity {
        AgeIdentity(Opens::Passphrase(passphrase.into()))
    }

    /// Who can read what this opens.
    pub fn recipient(&self) -> AgeRecipient {
        AgeRecipient(match &self.0 {
            Opens::Key(key) => Reads::Key(key.to_public()),
            Opens::Passphrase(passphrase) => Reads::Passphrase(passphrase.clone()),
        })
    }

    /// The identity as `AGE-SECRET-KEY-1…`, for keeping; `None` for a passphrase.
    pub fn secret_text(&self) -> Option<Zeroizing<String>> {
        match &self.0 {
            Opens::Key(key) => Some(Zeroizing::new(key.to_string().expose_secret().to_owned())),
            Opens::Passphrase(_) => None,
        }
    }

    pub(crate) fn boxed(&self) -> Box<dyn age::Identity> {
        match &self.0 {
            Opens::Key(key) => Box::new(key.clone()),
            Opens::Passphrase(passphrase) => {
                Box::new(age::scrypt::Identity::new(passphrase.clone()))
            }
        }
    }
}

/// An X25519 identity, `AGE-SECRET-KEY-1…`.
impl FromStr for AgeIdentity {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let key = text.trim().parse().map_err(|why| {
            Error::new(ErrorKind::Key, format_args!("not an age identity: {why}"))
        })?;
        Ok(AgeIdentity(Opens::Key(key)))
    }
}

impl fmt::Debug for AgeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgeIdentity(..)")
    }
}
