//! Keys encrypted under RSA keys: RSAES-OAEP (RFC 8017).

use crate::error::error;
use crate::rsa_pair::Source;
use keyferry_kmip::{CryptoError, CryptoErrorKind, Oaep, OaepHash};
use rsa::pkcs1::{DecodeRsaPrivateKey, DecodeRsaPublicKey};
use rsa::traits::PublicKeyParts;
use rsa::{PrivateKey, PublicKey};
use zeroize::Zeroizing;

/// Shorter keys protect nothing.
const SHORTEST: usize = 2048 / 8;

/// `$then` with the hashes of `$oaep` as types `H` and `M`.
macro_rules! with_hashes {
    ($oaep:expr, $then:ident) => {
        match $oaep.hash {
            OaepHash::Sha1 => with_hashes!(@mask sha1::Sha1, $oaep, $then),
            OaepHash::Sha256 => with_hashes!(@mask sha2::Sha256, $oaep, $then),
            OaepHash::Sha384 => with_hashes!(@mask sha2::Sha384, $oaep, $then),
            OaepHash::Sha512 => with_hashes!(@mask sha2::Sha512, $oaep, $then),
            _ => Err(error(CryptoErrorKind::Unsupported)),
        }
    };
    (@mask $hash:ty, $oaep:expr, $then:ident) => {
        match $oaep.mask {
            OaepHash::Sha1 => $then!($hash, sha1::Sha1),
            OaepHash::Sha256 => $then!($hash, sha2::Sha256),
            OaepHash::Sha384 => $then!($hash, sha2::Sha384),
            OaepHash::Sha512 => $then!($hash, sha2::Sha512),
            _ => Err(error(CryptoErrorKind::Unsupported)),
        }
    };
}

pub(crate) fn wrap(public_key: &[u8], oaep: Oaep, key: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let public = PublicKey::from_pkcs1_der(public_key).map_err(|_| error(CryptoErrorKind::Key))?;
    if public.size() < SHORTEST {
        return Err(error(CryptoErrorKind::Key));
    }
    if key.len() > public.size().saturating_sub(2 * oaep.hash.bytes() + 2) {
        return Err(error(CryptoErrorKind::Length));
    }
    macro_rules! encrypt {
        ($hash:ty, $mask:ty) => {
            public
                .encrypt(
                    &mut Source::system(),
                    rsa::Oaep::<$hash, $mask>::new_with_mgf_hash(),
                    key,
                )
                .map_err(|_| error(CryptoErrorKind::Failed))
        };
    }
    with_hashes!(oaep, encrypt)
}

pub(crate) fn unwrap(
    private_key: &[u8],
    oaep: Oaep,
    wrapped: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let private =
        PrivateKey::from_pkcs1_der(private_key).map_err(|_| error(CryptoErrorKind::Key))?;
    if private.size() < SHORTEST {
        return Err(error(CryptoErrorKind::Key));
    }
    // Blinded; what is wrong with the padding is not said, since whoever is told can find out the rest (Manger's attack).
    macro_rules! decrypt {
        ($hash:ty, $mask:ty) => {
            private
                .decrypt_blinded(
                    &mut Source::system(),
                    rsa::Oaep::<$hash, $mask>::new_with_mgf_hash(),
                    wrapped,
                )
                .map(Zeroizing::new)
                .map_err(|_| error(CryptoErrorKind::Integrity))
        };
    }
    with_hashes!(oaep, decrypt)
}
