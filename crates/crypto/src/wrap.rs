//! AES key wrap (RFC 3394, RFC 5649).

use crate::error::error;
use aes_kw::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, consts::U16};
use aes_kw::{AesKw, AesKwp, Error, InnerInit, KeyInit, aes};
use keyferry_kmip::{CryptoError, CryptoErrorKind, KeyWrap};
use zeroize::Zeroizing;

/// The bytes by which a wrapped key is longer, beside padding.
const CHECK: usize = 8;

pub(crate) fn wrap(
    wrapping_key: &[u8],
    method: KeyWrap,
    key: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    match wrapping_key.len() {
        16 => wrap_with(cipher::<aes::Aes128>(wrapping_key)?, method, key),
        24 => wrap_with(cipher::<aes::Aes192>(wrapping_key)?, method, key),
        32 => wrap_with(cipher::<aes::Aes256>(wrapping_key)?, method, key),
        _ => Err(error(CryptoErrorKind::Key)),
    }
}

pub(crate) fn unwrap(
    wrapping_key: &[u8],
    method: KeyWrap,
    wrapped: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    match wrapping_key.len() {
        16 => unwrap_with(cipher::<aes::Aes128>(wrapping_key)?, method, wrapped),
        24 => unwrap_with(cipher::<aes::Aes192>(wrapping_key)?, method, wrapped),
        32 => unwrap_with(cipher::<aes::Aes256>(wrapping_key)?, method, wrapped),
        _ => Err(error(CryptoErrorKind::Key)),
    }
}

fn cipher<C: KeyInit>(key: &[u8]) -> Result<C, CryptoError> {
    C::new_from_slice(key).map_err(|_| error(CryptoErrorKind::Key))
}

fn wrap_error(failed: Error) -> CryptoError {
    error(match failed {
        Error::InvalidDataSize => CryptoErrorKind::Length,
        Error::InvalidOutputSize { .. } => CryptoErrorKind::Failed,
        Error::IntegrityCheckFailed => CryptoErrorKind::Integrity,
    })
}

fn wrap_with<C>(cipher: C, method: KeyWrap, key: &[u8]) -> Result<Vec<u8>, CryptoError>
where
    C: BlockCipherEncrypt<BlockSize = U16>,
{
    // RFC 3394 starts at two blocks of 8 bytes; RFC 5649 at one byte. The crate beneath takes less.
    if key.len() < if method == KeyWrap::Rfc3394 { 16 } else { 1 } {
        return Err(error(CryptoErrorKind::Length));
    }
    let mut out = vec![0; key.len().next_multiple_of(CHECK) + CHECK];
    let length = match method {
        KeyWrap::Rfc3394 => AesKw::inner_init(cipher)
            .wrap_key(key, &mut out)
            .map_err(wrap_error)?
            .len(),
        KeyWrap::Rfc5649 => AesKwp::inner_init(cipher)
            .wrap_key(key, &mut out)
            .map_err(wrap_error)?
            .len(),
        _ => return Err(error(CryptoErrorKind::Unsupported)),
    };
    out.truncate(length);
    Ok(out)
}

fn unwrap_with<C>(
    cipher: C,
    method: KeyWrap,
    wrapped: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CryptoError>
where
    C: BlockCipherEncrypt<BlockSize = U16> + BlockCipherDecrypt<BlockSize = U16>,
{
    if wrapped.len() < if method == KeyWrap::Rfc3394 { 24 } else { 16 } {
        return Err(error(CryptoErrorKind::Length));
    }
    let mut out = Zeroizing::new(vec![0; wrapped.len()]);
    let length = match method {
        KeyWrap::Rfc3394 => AesKw::inner_init(cipher)
            .unwrap_key(wrapped, &mut out)
            .map_err(wrap_error)?
            .len(),
        KeyWrap::Rfc5649 => AesKwp::inner_init(cipher)
            .unwrap_key(wrapped, &mut out)
            .map_err(wrap_error)?
            .len(),
        _ => return Err(error(CryptoErrorKind::Unsupported)),
    };
    out.truncate(length);
    Ok(out)
}
