//! This module wraps a store so that it keeps its secrets at rest, and so that what was altered there is an error when it is read.

use crate::contract::{Snapshot, Span, Store, Transaction};
use crate::error::Result;
use keyferry_kmip::{Crypto, Random, Secret};
use keys::{Form, Key, Keys, Loaded, wrong_key};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};
pub use verify::Verification;
use view::{Found, View};

mod ahead;
mod check;
mod keys;
mod look;
mod migrate;
mod verify;
mod view;

/// A store that is sealed at rest; it wraps any other store.
///
/// # What is sealed
///
/// - Key material and every value of the s2s state, the secrets of the server's identity included, are encrypted by AES-256-GCM under a data
///   key. Material is bound to its object id, a value to its key.
/// - The attributes of an object whose material can be guessed are encrypted as a whole, because its Digest tells a right guess: those of a
///   Secret Data, an Opaque Object, a Symmetric Key of less than 112 bits, and of types that this build does not know.
/// - Each record has a *check row*: keyed hashes (HMAC-SHA-256, 16 bytes) over its number, its object id, its attributes as they are stored,
///   its sealed material and its feed entry.
///
/// Attributes of other objects, index keys and feed entries can be read at rest: they hold names, dates and owners, and no material.
///
/// # What is noticed
///
/// What does not fit is [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt), with the number of the record or the key of the state, when it is read:
/// - a record, its material or its feed entry that was altered, moved to another number, removed, or put back from an earlier moment without the
///   rest of it;
/// - a value of the state that was altered or moved to another key;
/// - an index entry of a record that does not have this key;
/// - another incarnation.
///
/// [`verify`](Sealed::verify) reads all of it and also notices an index entry or a feed entry that was removed.
///
/// # What is not noticed
///
/// Who can write to the medium can put the whole of it back to an earlier moment, or all rows of one object together, or remove a row of
/// the state, or move feed entries and alter commit ids. Peers notice some of that: see rule 10 of docs/design.md. A number of records
/// ([`Snapshot::count`]) is the wrapped store's word. The commit chain covers what the wrapped store gets, so the attributes that are
/// encrypted stand in it encrypted.
///
/// # Keys
///
/// The data keys are in the store, sealed under a key-encryption key that the application brings and that is never stored. Both kinds of key
/// can be changed while the store is in use: [`change_key`](Sealed::change_key) seals the data keys under another key-encryption key, which
/// takes one small write whatever the number of objects; [`new_data_key`](Sealed::new_data_key) makes a data key for all later writes, their
/// hashes included. Several processes may share one store: a process that meets an unknown data key looks it up.
///
/// A nonce is a keyed hash (96 bits) of the place and what is sealed, so that a write needs no randomness, and the same material
/// sealed again for the same object gives the same bytes. A new data key every 2³² writes keeps the chance of two equal nonces
/// below 2⁻³².
///
/// # Stores of earlier builds
///
/// Earlier builds sealed key material alone. [`open`](Sealed::open) brings their stores up to date, page by page; a process that is killed
/// meanwhile goes on when it opens the store again. Stop all servers of earlier builds before. What stood there until then was not
/// authenticated, so whoever has a copy of such a store can alter it and put it back: change the key-encryption key once the store is
/// up to date, and no such copy opens any more.
///
/// # Costs
///
/// A record takes 63 bytes more, 79 with material, and 33 where its attributes are encrypted; a row of the state takes 33. The bench
/// `store` measures the time with and without a seal; ARCHITECTURE.md has the figures.
///
/// ```
/// use keyferry_kmip::{Crypto, Random, Secret};
/// use keyferry_store::{Incarnation, Memory, Sealed};
/// # fn open(crypto: std::sync::Arc<dyn Crypto>, random: &mut dyn Random, key: Secret) -> keyferry_store::Result<()> {
/// let store = Sealed::open(Memory::new(Incarnation([1; 16])), crypto, key, random)?;
/// assert!(store.verify()?.is_sound());
/// # Ok(()) }
/// ```
pub struct Sealed<S> {
    inner: S,
    crypto: Arc<dyn Crypto>,
    keys: RwLock<Arc<Keys>>,
}

/// The key-encryption key of these bytes.
fn outer_key(crypto: &dyn Crypto, key: Secret) -> Result<Key> {
    match key.len() {
        32 => Ok(Key::new(crypto, key)),
        _ => Err(wrong_key("a key-encryption key has 32 bytes")),
    }
}

/// Fails when the store, which has no data key, has anything else.
fn check_empty(at: &dyn Snapshot) -> Result<()> {
    let mut is_empty = at.count()? == 0;
    at.state(&Span::all(), &mut |_, _| {
        is_empty = false;
        Ok(ControlFlow::Break(()))
    })?;
    match is_empty {
        true => Ok(()),
        false => Err(wrong_key("this store was filled without a seal")),
    }
}

impl<S: Store> Sealed<S> {
    /// Opens a store with its key-encryption key of 32 bytes; an empty store is sealed under this key from now on, and one that an earlier
    /// build sealed is brought up to date.
    ///
    /// # Errors
    /// [`ErrorKind::Key`](crate::ErrorKind::Key) when the key is not that of the store or has another length, or when the store has anything that is not
    /// sealed; [`ErrorKind::Schema`](crate::ErrorKind::Schema) when a later build sealed it; the errors of the wrapped store and of the source of randomness.
    pub fn open(
        inner: S,
        crypto: Arc<dyn Crypto>,
        key: Secret,
        random: &mut dyn Random,
    ) -> Result<Sealed<S>> {
        let outer = outer_key(&*crypto, key)?;
        let mut form = None;
        let mut keys = Keys {
            outer,
            data: BTreeMap::new(),
            incarnation: crate::position::Incarnation([0; 16]),
        };
        inner.read(&mut |at| {
            form = Loaded::from(&keys.outer, &*crypto, at)?.form;
            keys.incarnation = at.head()?.incarnation;
            if form.is_none() {
                check_empty(at)?;
            }
            Ok(())
        })?;
        match form {
            None => {
                keys.add(&*crypto, random)?;
                inner.write(&mut |tx| {
                    // Another process may have made a data key meanwhile.
                    if Loaded::from(&keys.outer, &*crypto, tx)?.form.is_none() {
                        check_empty(tx)?;
                        keys.store(&*crypto, tx)?;
                    }
                    Ok(())
                })?;
            }
            Some(Form::MaterialAlone) => migrate::migrate(&inner, &*crypto, &keys.outer)?,
            Some(Form::Whole(_)) => {}
        }
        inner.read(&mut |at| {
            keys = Keys::load(&keys.outer, &*crypto, at)?;
            Ok(())
        })?;
        Ok(Sealed {
            inner,
            crypto,
            keys: RwLock::new(Arc::new(keys)),
        })
    }

    /// The wrapped store.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Reads all of the store, in one snapshot, and names what is not what was written or is missing. This takes about as long as
    /// reading every object, with its material and all of its index entries; memory grows by a few bytes with each object.
    ///
    /// # Errors
    /// Those of the wrapped store. What does not fit is no error of this call but a fault in its result.
    pub fn verify(&self) -> Result<Verification> {
        let mut found = Verification::default();
        self.viewed(|keys, _| {
            self.inner.read(&mut |behind| {
                found = verify::verify(&View::new(behind, keys, &*self.crypto))?;
                Ok(())
            })
        })?;
        Ok(found)
    }

    /// Seals the data keys under another key-encryption key of 32 bytes; from then on only this one opens the store. Other processes
    /// that have the store open go on until they meet a new data key; then, or when they start again, they need the new key.
    ///
    /// # Errors
    /// [`ErrorKind::Key`](crate::ErrorKind::Key) when the key has another length or another process has changed it already; those of the wrapped store.
    pub fn change_key(&self, key: Secret) -> Result<()> {
        let outer = outer_key(&*self.crypto, key)?;
        self.change_keys(|next| {
            next.outer = outer.clone();
            Ok(())
        })
    }

    /// Makes a data key for all later writes. What is stored already stays under its data key until it is written again.
    ///
    /// # Errors
    /// [`ErrorKind::Key`](crate::ErrorKind::Key) when another process has changed the key-encryption key; those of the source of randomness and of the wrapped
    /// store.
    pub fn new_data_key(&self, random: &mut dyn Random) -> Result<()> {
        self.change_keys(|next| next.add(&*self.crypto, random))
    }

    /// Changes the keys in the store, then those in use.
    fn change_keys(&self, mut change: impl FnMut(&mut Keys) -> Result<()>) -> Result<()> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Keys::clone(&keys);
        self.inner.write(&mut |tx| {
            next = Keys::load(&keys.outer, &*self.crypto, tx)?;
            change(&mut next)?;
            next.store(&*self.crypto, tx)
        })?;
        *keys = Arc::new(next);
        Ok(())
    }

    /// Runs `f` with the keys, and keeps the data keys that it adds to its second argument.
    fn viewed(&self, f: impl FnOnce(&Keys, &mut Found) -> Result<()>) -> Result<()> {
        let keys = Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner));
        let mut found = Found::new();
        let result = f(&keys, &mut found);
        if !found.is_empty() {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            Arc::make_mut(&mut keys).data.extend(found);
        }
        result
    }
}

impl<S: Store> Store for Sealed<S> {
    fn read(&self, f: &mut dyn FnMut(&dyn Snapshot) -> Result<()>) -> Result<()> {
        self.viewed(|keys, found| {
            self.inner.read(&mut |behind| {
                let view = View::new(behind, keys, &*self.crypto);
                let result = f(&view);
                found.extend(view.found());
                result
            })
        })
    }

    fn write(&self, f: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        self.viewed(|keys, found| {
            self.inner.write(&mut |behind| {
                let mut view = View::new(behind, keys, &*self.crypto);
                let result = f(&mut view);
                found.extend(view.found());
                result
            })
        })
    }
}
