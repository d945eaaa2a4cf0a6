use crate::{
    CommitId, Cursor, Error, ErrorKind, FeedRow, Incarnation, Index, MaterialChange, Order, Part,
    Position, Put, RecordNumber, Result, Row, Snapshot, Span, Store, Transaction,
};
use keyferry_kmip::{Crypto, Random, Secret};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};
use zeroize::Zeroizing;

/// A store whose key material is encrypted at rest, whatever store is behind.
///
/// Material is sealed by AES-256-GCM under a data key, with the object id as associated data, so that sealed material of one object is
/// refused under another. The data keys lie in the store, sealed under a key-encryption key that the application brings and that never does.
/// Attributes, indexes and the feed are as they were.
///
/// Both are changed while the store is in use: [`change_key`](Sealed::change_key) seals the data keys under another key-encryption key,
/// which takes one small write whatever the number of objects; [`new_data_key`](Sealed::new_data_key) takes a fresh data key for what is
/// written from then on. Several processes may share one store: one that meets a data key it does not know looks it up.
///
/// Nonces are made of the data key, the object id and the material (a keyed hash, 96 bits), so that no randomness is needed to write, and
/// the same material sealed again for the same object looks the same. A new data key every 2³² writes keeps the chance of two alike below
/// 2⁻³².
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

/// Where the data keys lie in the state of the store behind, which callers never see.
const PREFIX: &[u8] = b"\0keyferry sealed\0";
/// The form of a sealed text; its first byte.
const FORM: u8 = 1;
/// Form, number of the data key, nonce.
const HEADER: usize = 1 + 4 + 12;

#[derive(Clone)]
struct Keys {
    /// The key-encryption key.
    outer: Key,
    /// The data keys by their numbers, from 1; the last one is written with.
    data: BTreeMap<u32, Key>,
}

/// A key, and the two that are made of it.
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

fn misfit(what: &str) -> Error {
    Error::new(ErrorKind::Key, what)
}

/// What a sealed text is bound to.
fn bound(number: [u8; 4], associated: &[u8]) -> Vec<u8> {
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
    let failed = |e| Error::new(ErrorKind::Key, format_args!("can't seal: {e}"));
    let number = number.to_be_bytes();
    let hash = crypto.hmac_sha256(
        key.nonces.expose(),
        &[&(associated.len() as u64).to_be_bytes(), associated, plain],
    );
    let nonce = hash.first_chunk::<12>().copied().unwrap_or_default();
    // Room for the tag, so that the plain text is not left behind where it grew out of.
    let mut text = Vec::with_capacity(plain.len() + 16);
    text.extend_from_slice(plain);
    crypto
        .seal(
            key.sealing.expose(),
            &nonce,
            &bound(number, associated),
            &mut text,
        )
        .map_err(failed)?;
    let mut sealed = Vec::with_capacity(HEADER + text.len());
    sealed.push(FORM);
    sealed.extend_from_slice(&number);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&text);
    Ok(sealed)
}

/// The number of the key that something is sealed under, where it is something sealed.
fn number_of(sealed: &[u8]) -> Option<u32> {
    match sealed {
        [FORM, a, b, c, d, ..] if sealed.len() >= HEADER + 16 => {
            Some(u32::from_be_bytes([*a, *b, *c, *d]))
        }
        _ => None,
    }
}

/// What [`seal`] has sealed; nothing when the key, the associated data or a bit of it is another.
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
            &bound(number, associated),
            &mut text,
        )
        .ok()?;
    Some(text)
}

impl Keys {
    /// The data keys that lie in the store.
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
            Err(misfit(
                "the key-encryption key is not the one that this store is sealed under",
            ))
        } else {
            Ok(data)
        }
    }

    /// Lays a data key into the store.
    fn lay(&self, crypto: &dyn Crypto, number: u32, tx: &mut dyn Transaction) -> Result<()> {
        let name = [PREFIX, &number.to_be_bytes()].concat();
        let Some(key) = self.data.get(&number) else {
            return Ok(());
        };
        let sealed = seal(crypto, &self.outer, number, &name, key.whole.expose())?;
        tx.set_state(&name, Some(&sealed))
    }

    fn add(&mut self, crypto: &dyn Crypto, random: &mut dyn Random) -> Result<u32> {
        let mut key = Zeroizing::new([0; 32]);
        random
            .fill(&mut *key)
            .map_err(|e| Error::new(ErrorKind::Key, e))?;
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
    /// Opens a store under its key-encryption key of 32 bytes, or seals an empty one.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] when the key is another one or has another length, or when the store has records already that are not sealed;
    /// those of the store behind, and of the source of randomness.
    pub fn open(
        inner: S,
        crypto: Arc<dyn Crypto>,
        key: Secret,
        random: &mut dyn Random,
    ) -> Result<Sealed<S>> {
        if key.len() != 32 {
            return Err(misfit("a key-encryption key has 32 bytes"));
        }
        let mut keys = Keys {
            outer: Key::new(&*crypto, key),
            data: BTreeMap::new(),
        };
        inner.read(&mut |at| {
            keys.data = Keys::load(&keys.outer, &*crypto, at)?;
            if keys.data.is_empty() && at.count()? > 0 {
                return Err(misfit("this store was filled without a seal"));
            }
            Ok(())
        })?;
        if keys.data.is_empty() {
            let number = keys.add(&*crypto, random)?;
            let mut first = keys.clone();
            inner.write(&mut |tx| {
                // Another process may have been quicker.
                first.data = Keys::load(&keys.outer, &*crypto, tx)?;
                if first.data.is_empty() {
                    first.data = keys.data.clone();
                    first.lay(&*crypto, number, tx)?;
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

    /// The store behind.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Seals the data keys under another key-encryption key, from now on the only one that opens the store. Processes that have it open
    /// go on; they need the new key once they are started again or meet a new data key.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] for another length or when somebody else has changed the key already; those of the store behind.
    pub fn change_key(&self, key: Secret) -> Result<()> {
        if key.len() != 32 {
            return Err(misfit("a key-encryption key has 32 bytes"));
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
                .try_for_each(|number| next.lay(&*self.crypto, *number, tx))
        })?;
        *keys = Arc::new(next);
        Ok(())
    }

    /// Takes a fresh data key for what is written from now on. What was written before stays under its own until it is written again.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] when somebody else has changed the key-encryption key, those of the source of randomness and of the store behind.
    pub fn new_data_key(&self, random: &mut dyn Random) -> Result<()> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Keys::clone(&keys);
        self.inner.write(&mut |tx| {
            next.data = Keys::load(&keys.outer, &*self.crypto, tx)?;
            let number = next.add(&*self.crypto, random)?;
            next.lay(&*self.crypto, number, tx)
        })?;
        *keys = Arc::new(next);
        Ok(())
    }

    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a snapshot and a transaction have in common: everything but material and our own state is passed on.
struct View<'a, T> {
    behind: T,
    keys: &'a Keys,
    crypto: &'a dyn Crypto,
}

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
                // Another process has made it since.
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
            return Err(misfit("there is no data key"));
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
