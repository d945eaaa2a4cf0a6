//! Export files: the objects of a key server in one encrypted file, signed part by part, for a server that can't be reached.
//!
//! ```
//! use keyferry_bundle::{AgeIdentity, Error, OpenOptions, SealOptions, Signer, SigningKey, open, seal};
//! use keyferry_kmip::{DateTime, Secret};
//! use keyferry_store::{Home, Incarnation, Memory};
//!
//! let store = Memory::new(Incarnation([1; 16]));
//! let home = Home { server: "centre".into(), instance: vec![1; 16], fingerprint_key: Secret::new(&[2; 32]), extra: Default::default() };
//! let (key, identity) = (SigningKey::from_seed(&[3; 32])?, AgeIdentity::generate());
//! let (today, next_week) = (DateTime(1_700_000_000), DateTime(1_700_600_000));
//!
//! let mut file = Vec::new();
//! seal(&store, &SealOptions::new(&home, "branch", &key, &[identity.recipient()], today, next_week), &mut file)?;
//!
//! let trusted = [Signer::new("centre", key.verifying_key())];
//! let options = OpenOptions::new("branch", &trusted, &identity, today);
//! let opened = open::<Error>(&file[..], &options, |part| Ok(println!("{} imports", part.message.batch.len())))?;
//! assert_eq!(opened.objects, 0);
//! # Ok::<(), Error>(())
//! ```
//!
//! Outside it is an [age](https://age-encryption.org/v1) file: any age tool decrypts it. Inside stand a [`Manifest`] (who, for whom, from
//! which position, until when) and numbered segments, each an ordinary KMIP 2.1 Request Message of Imports without Replace Existing,
//! tombstones among them. Each part is signed (Ed25519); each segment carries the hash of all before it; the last one closes the file.
//! [`seal`] and [`open`] go through it once and hold one segment at a time, so memory does not grow with the number of objects. [`open`]
//! hands out nothing that it has not verified; [`Receiving`] applies it, or whatever server the application has. How far it came commits with
//! each segment: a bundle whose taking was interrupted goes on there. That an old bundle revives nothing is the receiving server's work: it
//! compares stamps and joins states, as for any copy. With [`Restoring`] a server that lost objects takes them back from a copy's holder.
//!
//! # What it does not do
//! - Sensitive objects stay at home unless a bundle is made with a [wrapping](SealOptions::wrapping), not Extractable ones always; [`Sealed`]
//!   names them. A recipient that was offered one before still hears of its State.
//! - A compromise that a holder of copies knows of by itself is told to their issuer alone, when it takes them back: to any other server a
//!   copy goes on as its issuer made it.
//! - A file can't tell that a later one exists. What became of the objects after a bundle was made, only the sender knows.
//! - age draws its own randomness, measures passphrases by the clock, and does not wipe its buffer of 64 KiB when it has encrypted.
//!
//! # Features
//! None.

mod apply;
mod error;
mod format;
mod hash;
mod key;
mod offer;
mod open;
mod restore;
mod seal;

pub use apply::Receiving;
pub use error::{Error, ErrorKind, Result};
pub use format::{FORMAT, Manifest, SEGMENT_LIMIT};
pub use key::{AgeIdentity, AgeRecipient, Signer, SigningKey, VerifyingKey};
pub use open::{OpenOptions, Opened, Part, manifest, open};
pub use restore::Restoring;
pub use seal::{SealOptions, Sealed, seal};
