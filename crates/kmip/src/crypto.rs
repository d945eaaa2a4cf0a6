//! [`Crypto`], the interface of a cryptographic library or device, and its parameters and errors.

use std::fmt;
use zeroize::Zeroizing;

/// A cryptographic library or device.
///
/// `keyferry-crypto` has one over ring; whoever has an HSM or a validated module brings their own.
///
/// # Contract
/// All functions may be called from several threads at once. Each either succeeds or leaves nothing usable behind. Failures of
/// authentication say no more than [`CryptoErrorKind::Integrity`], and take the same time wherever the difference is. Key pairs come from
/// the library's own randomness, which has to be good enough for them, and so does what RSA needs of it; everything else depends on the
/// arguments alone. No error, log or `Debug` shows key material.
pub trait Crypto: Send + Sync {
    /// SHA-256 over the parts, one after the other.
    fn sha256(&self, parts: &[&[u8]]) -> [u8; 32];

    /// HMAC with SHA-256 over the parts, one after the other (RFC 2104). Any length of key is allowed.
    fn hmac_sha256(&self, key: &[u8], parts: &[&[u8]]) -> [u8; 32];

    /// Wraps a key under an AES key of 16, 24 or 32 bytes.
    ///
    /// # Errors
    /// [`CryptoErrorKind::Key`] and [`CryptoErrorKind::Length`].
    fn wrap_key(
        &self,
        wrapping_key: &[u8],
        method: KeyWrap,
        key: &[u8],
    ) -> Result<Vec<u8>, CryptoError>;

    /// Unwraps what [`wrap_key`](Crypto::wrap_key) has wrapped.
    ///
    /// # Errors
    /// [`CryptoErrorKind::Key`], [`CryptoErrorKind::Length`], and [`CryptoErrorKind::Integrity`] for another wrapping key, another
    /// method or altered bytes.
    fn unwrap_key(
        &self,
        wrapping_key: &[u8],
        method: KeyWrap,
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError>;

    /// Encrypts `data` in place with AES-256-GCM and appends the tag of 16 bytes. The same nonce must never be used twice with one key.
    ///
    /// # Errors
    /// [`CryptoErrorKind::Key`] unless the key has 32 bytes, [`CryptoErrorKind::Length`]; `data` is then as it was.
    fn seal(
        &self,
        key: &[u8],
        nonce: &[u8; 12],
        associated: &[u8],
        data: &mut Vec<u8>,
    ) -> Result<(), CryptoError>;

    /// Decrypts in place what [`seal`](Crypto::seal) has made and takes the tag off.
    ///
    /// # Errors
    /// [`CryptoErrorKind::Key`] unless the key has 32 bytes, with `data` as it was; [`CryptoErrorKind::Integrity`] when anything
    /// does not fit, with `data` wiped and empty.
    fn open(
        &self,
        key: &[u8],
        nonce: &[u8; 12],
        associated: &[u8],
        data: &mut Vec<u8>,
    ) -> Result<(), CryptoError>;

    /// Makes an elliptic curve key pair: the private key as an `ECPrivateKey` (RFC 5915) that names the curve and has the public
    /// key in it, the public key as a `SubjectPublicKeyInfo` (RFC 5480), both in DER. These are the Key Format Types EC Private Key
    /// and X.509.
    ///
    /// # Errors
    /// [`CryptoErrorKind::Unsupported`] and [`CryptoErrorKind::Failed`].
    fn ec_key_pair(&self, curve: Curve) -> Result<KeyPair, CryptoError>;

    /// Makes an RSA key pair of so many bits, a multiple of 8 and at least 2048, with the public exponent 65537: `RSAPrivateKey` and
    /// `RSAPublicKey` (RFC 8017), both in DER. These are the Key Format Type PKCS#1. Long ones take seconds.
    ///
    /// # Errors
    /// [`CryptoErrorKind::Unsupported`] for other lengths too, and [`CryptoErrorKind::Failed`].
    fn rsa_key_pair(&self, bits: usize) -> Result<KeyPair, CryptoError>;

    /// Encrypts a key under an RSA public key (`RSAPublicKey` of RFC 8017 in DER, at least 2048 bits) by RSAES-OAEP. The modulus holds its
    /// own length less two hashes and 2 bytes. A library that lacks it need not have this.
    ///
    /// # Errors
    /// [`CryptoErrorKind::Key`], [`CryptoErrorKind::Length`], [`CryptoErrorKind::Unsupported`] and [`CryptoErrorKind::Failed`].
    fn wrap_key_oaep(
        &self,
        public_key: &[u8],
        oaep: Oaep,
        key: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let _ = (public_key, oaep, key);
        Err(CryptoError::new(CryptoErrorKind::Unsupported))
    }

    /// Decrypts with an RSA private key (`RSAPrivateKey` of RFC 8017 in DER) what [`wrap_key_oaep`](Crypto::wrap_key_oaep) has encrypted.
    /// Peers ask for it from afar: the time that it takes must tell nothing of the private key or of what was decrypted.
    ///
    /// # Errors
    /// [`CryptoErrorKind::Key`], [`CryptoErrorKind::Unsupported`] and [`CryptoErrorKind::Failed`], and [`CryptoErrorKind::Integrity`] for
    /// whatever else is wrong.
    fn unwrap_key_oaep(
        &self,
        private_key: &[u8],
        oaep: Oaep,
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let _ = (private_key, oaep, wrapped);
        Err(CryptoError::new(CryptoErrorKind::Unsupported))
    }
}

/// The parameters by which a key is encrypted under an RSA key: RSAES-OAEP with MGF1 and an empty label (RFC 8017 §7.1).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oaep {
    /// The hash of the encoding. Hashing Algorithm.
    pub hash: OaepHash,
    /// The hash of the mask. Mask Generator Hashing Algorithm.
    pub mask: OaepHash,
}

/// A hash in [`Oaep`].
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OaepHash {
    /// SHA-1, which is not broken in this place.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl OaepHash {
    /// The length of its digests, in bytes.
    pub fn bytes(self) -> usize {
        match self {
            OaepHash::Sha1 => 20,
            OaepHash::Sha256 => 32,
            OaepHash::Sha384 => 48,
            OaepHash::Sha512 => 64,
        }
    }
}

/// The method by which a key is wrapped under an AES key.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyWrap {
    /// RFC 3394, for keys of 16 bytes or more in multiples of 8. Block Cipher Mode NIST Key Wrap.
    Rfc3394,
    /// RFC 5649, with padding, for keys of any length but 0. Block Cipher Mode AES Key Wrap Padding.
    Rfc5649,
}

/// An elliptic curve.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
}

/// A key pair, in the encodings that the function which made it names. Wiped on drop.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct KeyPair {
    /// The private key.
    #[cfg_attr(feature = "serde", serde(with = "keyferry_ttlv::serde_form::secret"))]
    pub private: Zeroizing<Vec<u8>>,
    /// The public key.
    #[cfg_attr(feature = "serde", serde(with = "keyferry_ttlv::serde_form::secret"))]
    pub public: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").finish_non_exhaustive()
    }
}

/// The error of a cryptographic operation. One opaque type; ask [`CryptoError::kind`].
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CryptoError(CryptoErrorKind);

/// The kinds of failure that a caller may want to tell apart.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CryptoErrorKind {
    /// The key has the wrong length for the algorithm.
    Key,
    /// The data has a length that the algorithm does not take.
    Length,
    /// The data was altered, or the key or method is another one.
    Integrity,
    /// The library does not have this algorithm or parameter.
    Unsupported,
    /// The library, the device or its source of randomness failed.
    Failed,
}

impl CryptoError {
    /// An error of this kind.
    pub fn new(kind: CryptoErrorKind) -> Self {
        CryptoError(kind)
    }

    /// The kind of failure.
    pub fn kind(&self) -> CryptoErrorKind {
        self.0
    }
}

impl fmt::Display for CryptoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            CryptoErrorKind::Key => "the key has the wrong length",
            CryptoErrorKind::Length => "the data has a length that is not allowed",
            CryptoErrorKind::Integrity => "altered data, or another key",
            CryptoErrorKind::Unsupported => "not supported by the cryptographic library",
            CryptoErrorKind::Failed => "the cryptographic library failed",
        })
    }
}

/// It has no source: what a library says of a failure could tell an attacker of the key.
impl std::error::Error for CryptoError {}
