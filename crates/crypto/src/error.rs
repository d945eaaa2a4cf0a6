//! The one way in which this crate makes an error.

use keyferry_kmip::{CryptoError, CryptoErrorKind};

/// An error of this kind, without a word of what the library beneath has said.
pub(crate) fn error(kind: CryptoErrorKind) -> CryptoError {
    CryptoError::new(kind)
}
