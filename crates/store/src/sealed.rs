//! This module wraps a store so that key material is encrypted at rest.

use crate::contract::{
    Cursor, FeedRow, Index, MaterialChange, Order, Part, Put, RecordNumber, Row, Snapshot, Span,
    Store, Transaction,
};
use crate::error::{Error, ErrorKind, Result};
use crate::position::{CommitId, Incarnation, Position};
use keyferry_kmip::{Crypto, Random, Secret};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};
use zeroize::Zeroizing;

/// A store that encrypts key material at rest; it wraps any other store.
///
/// Material is sealed by AES-256-GCM under a data key, with the object id as associated data, so that sealed material of one object is
/// refused under another. The data keys are in the store, sealed under a key-encryption key that the application brings and that
/// is never stored. Attributes, indexes and the feed are stored unchanged.
///
/// Both kinds of key can be changed while the store is in use: [`change_key`](Sealed::change_key) seals the data keys under another
/// key-encryption key, which takes one small write whatever the number of objects; [`new_data_key`](Sealed::new_data_key) makes a
/// data key for all later writes. Several processes may share one store: a process that meets an unknown data key looks it up.
///
/// A nonce is a keyed hash (96 bits) of the object id and the material, so that a write needs no randomness, and the same material
/// sealed again for the same object gives the same bytes. A new data key every 2³² writes keeps the chance of two equal nonces
/// below 2⁻³².
///
/// ```
/// use keyferry_kmip::{Crypto, Random, Secret};
/// use keyferry_store::{Incarnation, Memory, Sealed};
/// # fn open(crypto: std::sync::Arc<dyn Crypto>, random: &mut dyn Random, key: Secret) -> keyferry_store::Result<()> {
/// let store = Sealed::open(Memory::new(Incarnation([1; 16])), crypto, key, random)?;
/// # Ok(()) }
/// ```
pub struct Sealed<S> {
    inner: S,
    crypto: Arc<dyn Crypto>,
    keys: RwLock<Arc<Keys>>,
}

/// The prefix of the state keys of the data keys in the wrapped store; callers never see these keys.
const PREFIX: &[u8] = b"\0keyferry sealed\0";
/// The form of a sealed text: its first byte.
const FORM: u8 = 1;
/// The length of the header: form, number of the data key, nonce.
const HEADER: usize = 1 + 4 + 12;

#[derive(Clone)]
struct Keys {
    /// The key-encryption key.
    outer: Key,
    /// The data keys by their numbers, from 1; writes use the last one.
    data: BTreeMap<u32, Key>,
}

/// A key, and the two keys that are derived from it.
#[derive(Clone)]
struct Key {
    whole: Secret,
    sealing: Secret,
    nonces: Secret,
}

impl Key {
    fn new(crypto: &dyn Crypto, whole: Secret) -> Key {
        let derived = |name: &[u8]| {
            Secret::new(&*Zeroizing::new(
                crypto.hmac_sha256(whole.expose(), &[name]),
            ))
        };
        Key {
            sealing: derived(b"keyferry seal"),
            nonces: derived(b"keyferry nonce"),
            whole,
        }
    }
}

/// The error of a wrong or missing key.
fn wrong_key(what: &str) -> Error {
    Error::new(ErrorKind::Key, what)
}

/// The associated data of a sealed text.
fn associated_data(number: [u8; 4], associated: &[u8]) -> Vec<u8> {
    [&[FORM][..], &number[..], associated].concat()
}

/// Seals `plain` under `key`: form, number, nonce, sealed text, tag.
fn seal(
    crypto: &dyn Crypto,
    key: &Key,
    number: u32,
    associated: &[u8],
    plain: &[u8],
) -> Result<Vec<u8>> {
    let number = number.to_be_bytes();
    let hash = crypto.hmac_sha256(
        key.nonces.expose(),
        &[&(associated.len() as u64).to_be_bytes(), associated, plain],
    );
    let nonce = hash.first_chunk::<12>().copied().unwrap_or_default();
    // With room for the tag: a buffer that grows would leave the plain text behind in memory.
    let mut text = Vec::with_capacity(plain.len() + 16);
    text.extend_from_slice(plain);
    crypto
        .seal(
            key.sealing.expose(),
            &nonce,
            &associated_data(number, associated),
            &mut text,
        )
        .map_err(|e| Error::new(ErrorKind::Key, format_args!("can't seal: {e}")).caused_by(e))?;
    let mut sealed = Vec::with_capacity(HEADER + text.len());
    sealed.push(FORM);
    sealed.extend_from_slice(&number);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&text);
    Ok(sealed)
}

/// The number of the data key that `sealed` is sealed under; `None` when it is no sealed text.
fn number_of(sealed: &[u8]) -> Option<u32> {
    match sealed {
        [FORM, a, b, c, d, ..] if sealed.len() >= HEADER + 16 => {
            Some(u32::from_be_bytes([*a, *b, *c, *d]))
        }
        _ => None,
    }
}

/// Opens what [`seal`] made; `None` when the key, the associated data or a bit of the text differs.
fn unseal(
    crypto: &dyn Crypto,
    key: &Key,
    associated: &[u8],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let number = number_of(sealed)?.to_be_bytes();
    let (header, text) = sealed.split_at_checked(HEADER)?;
    let nonce = header.last_chunk::<12>()?;
    let mut text = Zeroizing::new(text.to_vec());
    crypto
        .open(
            key.sealing.expose(),
            nonce,
            &associated_data(number, associated),
            &mut text,
        )
        .ok()?;
    Some(text)
}

impl Keys {
    /// Loads the data keys from the wrapped store.
    fn load(
        outer: &Key,
        crypto: &dyn Crypto,
        at: &(impl Snapshot + ?Sized),
    ) -> Result<BTreeMap<u32, Key>> {
        let mut data = BTreeMap::new();
        let mut wrong = false;
        at.state(&Span::prefix(PREFIX), &mut |name, sealed| {
            let key = unseal(crypto, outer, name, sealed).filter(|key| key.len() == 32);
            match (name.last_chunk::<4>(), key) {
                (Some(number), Some(key)) => {
                    data.insert(
                        u32::from_be_bytes(*number),
                        Key::new(crypto, Secret::new(&key)),
                    );
                }
                _ => wrong = true,
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if wrong {
            Err(wrong_key(
                "the key-encryption key is not the one that this store is sealed under",
            ))
        } else {
            Ok(data)
        }
    }

    /// Stores a data key, sealed, in the wrapped store.
    fn store_key(&self, crypto: &dyn Crypto, number: u32, tx: &mut dyn Transaction) -> Result<()> {
        let name = [PREFIX, &number.to_be_bytes()].concat();
        let Some(key) = self.data.get(&number) else {
            return Ok(());
        };
        let sealed = seal(crypto, &self.outer, number, &name, key.whole.expose())?;
        tx.set_state(&name, Some(&sealed))
    }

    /// Makes another data key and returns its number.
    fn add(&mut self, crypto: &dyn Crypto, random: &mut dyn Random) -> Result<u32> {
        let mut key = Zeroizing::new([0; 32]);
        random
            .fill(&mut *key)
            .map_err(|e| Error::new(ErrorKind::Key, e).caused_by(e))?;
        let number = self
            .data
            .last_key_value()
            .map_or(1, |(last, _)| last.saturating_add(1));
        self.data
            .insert(number, Key::new(crypto, Secret::new(&*key)));
        Ok(number)
    }
}

impl<S: Store> Sealed<S> {
    /// Opens a store with its key-encryption key of 32 bytes; an empty store is sealed under this key from now on.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] when the key is not that of the store or has another length, or when the store has records that are not
    /// sealed; the errors of the wrapped store and of the source of randomness.
    pub fn open(
        inner: S,
        crypto: Arc<dyn Crypto>,
        key: Secret,
        random: &mut dyn Random,
    ) -> Result<Sealed<S>> {
        if key.len() != 32 {
            return Err(wrong_key("a key-encryption key has 32 bytes"));
        }
        let mut keys = Keys {
            outer: Key::new(&*crypto, key),
            data: BTreeMap::new(),
        };
        inner.read(&mut |at| {
            keys.data = Keys::load(&keys.outer, &*crypto, at)?;
            if keys.data.is_empty() && at.count()? > 0 {
                return Err(wrong_key("this store was filled without a seal"));
            }
            Ok(())
        })?;
        if keys.data.is_empty() {
            let number = keys.add(&*crypto, random)?;
            let mut first = keys.clone();
            inner.write(&mut |tx| {
                // Another process may have made a data key meanwhile.
                first.data = Keys::load(&keys.outer, &*crypto, tx)?;
                if first.data.is_empty() {
                    first.data = keys.data.clone();
                    first.store_key(&*crypto, number, tx)?;
                }
                Ok(())
            })?;
            keys = first;
        }
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

    /// Seals the data keys under another key-encryption key of 32 bytes; from then on only this one opens the store. Other processes
    /// that have the store open go on until they meet a new data key; then, or when they start again, they need the new key.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] when the key has another length or another process has changed it already; those of the wrapped store.
    pub fn change_key(&self, key: Secret) -> Result<()> {
        if key.len() != 32 {
            return Err(wrong_key("a key-encryption key has 32 bytes"));
        }
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let outer = Key::new(&*self.crypto, key);
        let mut next = Keys::clone(&keys);
        self.inner.write(&mut |tx| {
            next = Keys {
                outer: outer.clone(),
                data: Keys::load(&keys.outer, &*self.crypto, tx)?,
            };
            next.data
                .keys()
                .try_for_each(|number| next.store_key(&*self.crypto, *number, tx))
        })?;
        *keys = Arc::new(next);
        Ok(())
    }

    /// Makes a data key for all later writes. Material that is stored already stays under its data key until it is written again.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] when another process has changed the key-encryption key; those of the source of randomness and of the wrapped
    /// store.
    pub fn new_data_key(&self, random: &mut dyn Random) -> Result<()> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Keys::clone(&keys);
        self.inner.write(&mut |tx| {
            next.data = Keys::load(&keys.outer, &*self.crypto, tx)?;
            let number = next.add(&*self.crypto, random)?;
            next.store_key(&*self.crypto, number, tx)
        })?;
        *keys = Arc::new(next);
        Ok(())
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A snapshot or transaction of the wrapped store, in which material is unsealed and the data keys are invisible.
struct View<'a, T> {
    behind: T,
    keys: &'a Keys,
    crypto: &'a dyn Crypto,
}

/// The wrapped snapshot, or the wrapped transaction as one.
trait Behind {
    fn at(&self) -> &dyn Snapshot;
}

impl Behind for &dyn Snapshot {
    fn at(&self) -> &dyn Snapshot {
        *self
    }
}

impl Behind for &mut dyn Transaction {
    fn at(&self) -> &dyn Snapshot {
        &**self
    }
}

impl<T: Behind> Snapshot for View<'_, T> {
    fn head(&self) -> Result<Position> {
        self.behind.at().head()
    }

    fn commit_id(&self, number: u64) -> Result<Option<CommitId>> {
        self.behind.at().commit_id(number)
    }

    fn count(&self) -> Result<u64> {
        self.behind.at().count()
    }

    fn get(&self, number: RecordNumber, part: Part) -> Result<Option<Row>> {
        let Some(mut row) = self.behind.at().get(number, part)? else {
            return Ok(None);
        };
        if let Some(sealed) = &row.material {
            let corrupt = || {
                Error::new(
                    ErrorKind::Corrupt,
                    format_args!("the material of record {} can't be unsealed", number.0),
                )
            };
            let key_number = number_of(sealed).ok_or_else(corrupt)?;
            let looked_up;
            let key = match self.keys.data.get(&key_number) {
                Some(key) => Some(key),
                // Another process made it since this one loaded its keys.
                None => {
                    looked_up = Keys::load(&self.keys.outer, self.crypto, self.behind.at())?;
                    looked_up.get(&key_number)
                }
            };
            let plain = key
                .and_then(|key| unseal(self.crypto, key, &row.id, sealed))
                .ok_or_else(corrupt)?;
            row.material = Some(plain);
        }
        Ok(Some(row))
    }

    fn scan(
        &self,
        index: Index,
        span: &Span,
        order: Order,
        after: Option<&Cursor>,
        visit: &mut dyn FnMut(&[u8], RecordNumber) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.behind.at().scan(index, span, order, after, visit)
    }

    fn feed(
        &self,
        after: u64,
        visit: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.behind.at().feed(after, visit)
    }

    fn state(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.behind.at().state(span, &mut |key, value| {
            if key.starts_with(PREFIX) {
                Ok(ControlFlow::Continue(()))
            } else {
                visit(key, value)
            }
        })
    }
}

impl Transaction for View<'_, &mut dyn Transaction> {
    fn put(&mut self, puts: &[Put<'_>]) -> Result<Vec<RecordNumber>> {
        let Some((number, key)) = self.keys.data.last_key_value() else {
            return Err(wrong_key("there is no data key"));
        };
        let sealed = |put: &Put<'_>| match put.material {
            MaterialChange::Set(plain) => seal(self.crypto, key, *number, put.id, plain).map(Some),
            MaterialChange::Keep | MaterialChange::Remove => Ok(None),
        };
        let materials = puts.iter().map(sealed).collect::<Result<Vec<_>>>()?;
        let mut behind = Vec::with_capacity(puts.len());
        for (put, material) in puts.iter().zip(&materials) {
            behind.push(Put {
                material: material
                    .as_deref()
                    .map_or(put.material, MaterialChange::Set),
                ..*put
            });
        }
        self.behind.put(&behind)
    }

    fn set_state(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        if key.starts_with(PREFIX) {
            return Err(Error::new(
                ErrorKind::Misuse,
                "this key of the state belongs to the seal",
            ));
        }
        self.behind.set_state(key, value)
    }

    fn restored(&mut self, incarnation: Incarnation) -> Result<()> {
        self.behind.restored(incarnation)
    }
}

impl<S: Store> Store for Sealed<S> {
    fn read(&self, f: &mut dyn FnMut(&dyn Snapshot) -> Result<()>) -> Result<()> {
        let keys = self.keys();
        self.inner.read(&mut |behind| {
            f(&View {
                behind,
                keys: &keys,
                crypto: &*self.crypto,
            })
        })
    }

    fn write(&self, f: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        let keys = self.keys();
        self.inner.write(&mut |behind| {
            f(&mut View {
                behind,
                keys: &keys,
                crypto: &*self.crypto,
            })
        })
    }
}
