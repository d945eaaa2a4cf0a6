//! RSA key pairs, and the randomness that the `rsa` crate draws.

use crate::error::error;
use crate::random::SystemRandom;
use keyferry_kmip::{CryptoError, CryptoErrorKind, KeyPair, Random, RandomFailed};
use rsa::pkcs1::{EncodeRsaPrivateKey, EncodeRsaPublicKey};
use rsa::rand_core::{TryCryptoRng, TryRng};
use zeroize::Zeroizing;

/// Beyond this a key takes minutes, and hardly anybody accepts it.
const LONGEST: usize = 8192;

pub(crate) fn key_pair(bits: usize) -> Result<KeyPair, CryptoError> {
    if !(2048..=LONGEST).contains(&bits) || !bits.is_multiple_of(8) {
        return Err(error(CryptoErrorKind::Unsupported));
    }
    let failed = || error(CryptoErrorKind::Failed);
    let private = rsa::PrivateKey::new(&mut Source::system(), bits).map_err(|_| failed())?;
    let public = private
        .as_public_key()
        .to_pkcs1_der()
        .map_err(|_| failed())?;
    let private = private.to_pkcs1_der().map_err(|_| failed())?;
    Ok(KeyPair {
        private: private.to_bytes(),
        public: Zeroizing::new(public.into_vec()),
    })
}

/// The system's randomness as `rsa` wants it.
pub(crate) struct Source(SystemRandom);

impl Source {
    pub(crate) fn system() -> Source {
        Source(SystemRandom::new())
    }
}

impl TryRng for Source {
    type Error = RandomFailed;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = Zeroizing::new([0; 4]);
        self.0.fill(&mut *bytes)?;
        Ok(u32::from_ne_bytes(*bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = Zeroizing::new([0; 8]);
        self.0.fill(&mut *bytes)?;
        Ok(u64::from_ne_bytes(*bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        self.0.fill(out)
    }
}

impl TryCryptoRng for Source {}
