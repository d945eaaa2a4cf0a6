//! [`Crypto`](keyferry_kmip::Crypto) and [`Random`](keyferry_kmip::Random) over ring, with AES key wrap, RSA key pairs and RSA-OAEP from RustCrypto.
//!
//! ```
//! use keyferry_crypto::{Ring, SystemRandom};
//! use keyferry_kmip::{Crypto, KeyWrap, Random};
//!
//! let (mut wrapping_key, mut key) = ([0; 32], [0; 24]);
//! SystemRandom::new().fill(&mut wrapping_key)?;
//! SystemRandom::new().fill(&mut key)?;
//! let wrapped = Ring::new().wrap_key(&wrapping_key, KeyWrap::Rfc3394, &key)?;
//! let unwrapped = Ring::new().unwrap_key(&wrapping_key, KeyWrap::Rfc3394, &wrapped)?;
//! assert_eq!(*unwrapped, key);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it does not do
//! - It encrypts and signs nothing on behalf of a client: it has what moving keys takes, no more.
//! - It is not a validated module, and keeps no keys: they are in the caller's memory. An HSM or a validated module implements the trait itself.
//!
//! # Features
//! - `rsa` (default): makes RSA key pairs, and wraps keys under them; without it both are [`Unsupported`](keyferry_kmip::CryptoErrorKind::Unsupported).

mod ec;
mod error;
#[cfg(feature = "rsa")]
mod oaep;
mod random;
mod ring;
#[cfg(feature = "rsa")]
mod rsa_pair;
mod wrap;

pub use self::random::SystemRandom;
pub use self::ring::Ring;
