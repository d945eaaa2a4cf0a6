//! [`Ring`], the implementation of `Crypto`: ring itself, and the modules for what ring lacks.

use crate::error::error;
use crate::{ec, wrap};
#[cfg(feature = "rsa")]
use crate::{oaep, rsa_pair};
#[cfg(feature = "rsa")]
use keyferry_kmip::Oaep;
use keyferry_kmip::{Crypto, CryptoError, CryptoErrorKind, Curve, KeyPair, KeyWrap};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::digest::{Context, Digest, SHA256};
use ring::hmac;
use zeroize::{Zeroize, Zeroizing};

/// The cryptographic library: ring, and what ring lacks. It has no state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ring;

impl Ring {
    /// The library.
    pub fn new() -> Self {
        Ring
    }
}

/// The 32 bytes of a digest that is known to have them.
fn bytes(digest: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest) {
        *to = *from;
    }
    out
}

fn aead(key: &[u8]) -> Result<LessSafeKey, CryptoError> {
    UnboundKey::new(&AES_256_GCM, key)
        .map(LessSafeKey::new)
        .map_err(|_| error(CryptoErrorKind::Key))
}

impl Crypto for Ring {
    fn sha256(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(part);
        }
        let digest: Digest = context.finish();
        bytes(digest.as_ref())
    }

    fn hmac_sha256(&self, key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
        for part in parts {
            context.update(part);
        }
        bytes(context.sign().as_ref())
    }

    fn wrap_key(
        &self,
        wrapping_key: &[u8],
        method: KeyWrap,
        key: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        wrap::wrap(wrapping_key, method, key)
    }

    fn unwrap_key(
        &self,
        wrapping_key: &[u8],
        method: KeyWrap,
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        wrap::unwrap(wrapping_key, method, wrapped)
    }

    fn seal(
        &self,
        key: &[u8],
        nonce: &[u8; 12],
        associated: &[u8],
        data: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = aead(key)?
            .seal_in_place_separate_tag(nonce, Aad::from(associated), data)
            .map_err(|_| error(CryptoErrorKind::Length))?;
        data.extend_from_slice(tag.as_ref()); // only ciphertext moves if the vector has to grow
        Ok(())
    }

    fn open(
        &self,
        key: &[u8],
        nonce: &[u8; 12],
        associated: &[u8],
        data: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = aead(key)?
            .open_in_place(nonce, Aad::from(associated), data)
            .map(|plain| plain.len());
        match opened {
            Ok(length) => {
                data.truncate(length);
                Ok(())
            }
            Err(_) => {
                data.zeroize();
                Err(error(CryptoErrorKind::Integrity))
            }
        }
    }

    fn ec_key_pair(&self, curve: Curve) -> Result<KeyPair, CryptoError> {
        ec::key_pair(curve)
    }

    #[cfg(feature = "rsa")]
    fn rsa_key_pair(&self, bits: usize) -> Result<KeyPair, CryptoError> {
        rsa_pair::key_pair(bits)
    }

    #[cfg(feature = "rsa")]
    fn wrap_key_oaep(
        &self,
        public_key: &[u8],
        oaep: Oaep,
        key: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        oaep::wrap(public_key, oaep, key)
    }

    #[cfg(feature = "rsa")]
    fn unwrap_key_oaep(
        &self,
        private_key: &[u8],
        oaep: Oaep,
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        oaep::unwrap(private_key, oaep, wrapped)
    }

    #[cfg(not(feature = "rsa"))]
    fn rsa_key_pair(&self, _: usize) -> Result<KeyPair, CryptoError> {
        Err(error(CryptoErrorKind::Unsupported))
    }
}
