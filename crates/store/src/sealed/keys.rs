//! This module keeps the keys of a sealed store, and seals and opens with them.

use crate::contract::{Snapshot, Span, Transaction};
use crate::error::{Error, ErrorKind, Result};
use crate::position::Incarnation;
use keyferry_kmip::{Crypto, Random, Secret};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use zeroize::Zeroizing;

/// The prefix of the state keys of the seal in the wrapped store; callers never see these keys. A data key has its number behind it.
pub(super) const PREFIX: &[u8] = b"\0keyferry sealed\0";
/// What stands behind the prefix, before the record number, in the key of a check row; no number of a data key reaches it.
pub(super) const CHECK: u8 = 0xF0;
/// What stands behind the prefix in the key of the progress of a migration.
pub(super) const PROGRESS: u8 = 0xF1;

/// The form of a sealed text: its first byte.
const FORM: u8 = 1;
/// The length of the header: form, number of the data key, nonce.
const HEADER: usize = 1 + 4 + 12;
/// The schema of the seal, which a data key says behind its 32 bytes. In the schema before, nothing stood there.
const SCHEMA: u8 = 2;

/// A tag: of the seal of a text (AES-256-GCM), or a keyed hash (HMAC-SHA-256, cut).
pub(super) type Tag = [u8; 16];

/// What a text is that is sealed. Each has a key of its own, so that none can be put where another belongs.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// Key material, or a data key.
    Material,
    /// The attributes of a record.
    Attributes,
    /// A value of the s2s state.
    State,
}

/// The keys that a store is open with.
#[derive(Clone)]
pub(super) struct Keys {
    /// The key-encryption key.
    pub(super) outer: Key,
    /// The data keys by their numbers, from 1; writes use the last one.
    pub(super) data: BTreeMap<u32, Key>,
    /// The incarnation of the store, as it stands in the data keys.
    pub(super) incarnation: Incarnation,
}

/// A key, and the keys that are derived from it.
#[derive(Clone)]
pub(super) struct Key {
    whole: Secret,
    material: Secret,
    attributes: Secret,
    state: Secret,
    nonces: Secret,
    checks: Secret,
}

impl Key {
    pub(super) fn new(crypto: &dyn Crypto, whole: Secret) -> Key {
        let derived = |name: &[u8]| {
            Secret::new(&*Zeroizing::new(
                crypto.hmac_sha256(whole.expose(), &[name]),
            ))
        };
        Key {
            material: derived(b"keyferry seal"),
            attributes: derived(b"keyferry seal of attributes"),
            state: derived(b"keyferry seal of state"),
            nonces: derived(b"keyferry nonce"),
            checks: derived(b"keyferry check"),
            whole,
        }
    }

    fn of(&self, purpose: Purpose) -> &[u8] {
        match purpose {
            Purpose::Material => &self.material,
            Purpose::Attributes => &self.attributes,
            Purpose::State => &self.state,
        }
        .expose()
    }

    /// The keyed hash of some bytes.
    pub(super) fn tag(&self, crypto: &dyn Crypto, parts: &[&[u8]]) -> Tag {
        let hash = crypto.hmac_sha256(self.checks.expose(), parts);
        hash.first_chunk().copied().unwrap_or_default()
    }
}

/// The error of a wrong or missing key.
pub(super) fn wrong_key(what: &str) -> Error {
    Error::new(ErrorKind::Key, what)
}

/// The associated data of a sealed text.
fn associated_data(number: [u8; 4], associated: &[u8]) -> Vec<u8> {
    [&[FORM][..], &number[..], associated].concat()
}

/// Seals `plain` under the data key `number`: form, number, nonce, sealed text, tag.
pub(super) fn seal(
    crypto: &dyn Crypto,
    (number, key): (u32, &Key),
    purpose: Purpose,
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
            key.of(purpose),
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
pub(super) fn number_of(sealed: &[u8]) -> Option<u32> {
    match sealed {
        [FORM, a, b, c, d, ..] if sealed.len() >= HEADER + 16 => {
            Some(u32::from_be_bytes([*a, *b, *c, *d]))
        }
        _ => None,
    }
}

/// The tag at the end of a sealed text.
pub(super) fn tag_of(sealed: &[u8]) -> Tag {
    sealed.last_chunk().copied().unwrap_or_default()
}

/// Opens what [`seal`] made; `None` when the key, the associated data or a bit of the text differs.
pub(super) fn unseal(
    crypto: &dyn Crypto,
    key: &Key,
    purpose: Purpose,
    associated: &[u8],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let number = number_of(sealed)?.to_be_bytes();
    let (header, text) = sealed.split_at_checked(HEADER)?;
    let nonce = header.last_chunk::<12>()?;
    let mut text = Zeroizing::new(text.to_vec());
    crypto
        .open(
            key.of(purpose),
            nonce,
            &associated_data(number, associated),
            &mut text,
        )
        .ok()?;
    Some(text)
}

/// What the wrapped store has of data keys.
pub(super) struct Loaded {
    pub(super) data: BTreeMap<u32, Key>,
    /// `None` without data keys.
    pub(super) form: Option<Form>,
}

/// The form in which a store is sealed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The one of earlier builds: key material is sealed, and nothing else is looked after.
    MaterialAlone,
    /// The one of this build; the incarnation is that of the store.
    Whole(Incarnation),
}

/// The form of a store, as one of its data keys says it.
fn form_of(plain: &[u8]) -> Result<Option<Form>> {
    match plain.split_at_checked(32) {
        Some((_, [])) => Ok(Some(Form::MaterialAlone)),
        Some((_, [SCHEMA, incarnation @ ..])) => Ok(incarnation
            .try_into()
            .ok()
            .map(Incarnation)
            .map(Form::Whole)),
        Some((_, [schema, ..])) => Err(Error::new(
            ErrorKind::Schema,
            format_args!(
                "the store was sealed in schema {schema}, and this build knows schemas 1 and {SCHEMA}"
            ),
        )),
        None => Ok(None),
    }
}

impl Loaded {
    /// Loads the data keys from the wrapped store.
    pub(super) fn from(
        outer: &Key,
        crypto: &dyn Crypto,
        at: &(impl Snapshot + ?Sized),
    ) -> Result<Loaded> {
        let mut data = BTreeMap::new();
        let mut forms = Vec::new();
        let mut wrong = false;
        let span = Span {
            from: PREFIX.to_vec(),
            to: Some([PREFIX, &[CHECK]].concat()),
        };
        at.state(&span, &mut |name, sealed| {
            let plain = unseal(crypto, outer, Purpose::Material, name, sealed);
            let form = plain.as_deref().map(|plain| form_of(plain)).transpose()?;
            let key = plain.as_deref().and_then(|plain| plain.first_chunk::<32>());
            match (
                name.strip_prefix(PREFIX).map(<[u8; 4]>::try_from),
                key,
                form.flatten(),
            ) {
                (Some(Ok(number)), Some(key), Some(form)) => {
                    let number = u32::from_be_bytes(number);
                    data.insert(number, Key::new(crypto, Secret::new(key)));
                    forms.push(form);
                }
                _ => wrong = true,
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if wrong {
            return Err(wrong_key(
                "the key-encryption key is not the one that this store is sealed under",
            ));
        }
        let form = forms.first().copied();
        if forms.iter().any(|other| Some(*other) != form) {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "the data keys of the seal are of different forms: some were put back from another moment",
            ));
        }
        Ok(Loaded { data, form })
    }
}

impl Keys {
    /// Loads the data keys from a wrapped store that is sealed in the form of this build.
    pub(super) fn load(
        outer: &Key,
        crypto: &dyn Crypto,
        at: &(impl Snapshot + ?Sized),
    ) -> Result<Keys> {
        let loaded = Loaded::from(outer, crypto, at)?;
        match loaded.form {
            Some(Form::Whole(incarnation)) => Ok(Keys {
                outer: outer.clone(),
                data: loaded.data,
                incarnation,
            }),
            Some(Form::MaterialAlone) => Err(Error::new(
                ErrorKind::Corrupt,
                "the data keys of the seal are of an earlier form, and were not when the store was opened",
            )),
            None => Err(wrong_key("the data keys of the seal are gone")),
        }
    }

    /// The data key that writes use, with its number.
    pub(super) fn newest(&self) -> Result<(u32, &Key)> {
        let newest = self.data.last_key_value();
        newest
            .map(|(number, key)| (*number, key))
            .ok_or_else(|| wrong_key("there is no data key"))
    }

    /// Stores all data keys, sealed, in the wrapped store.
    pub(super) fn store(&self, crypto: &dyn Crypto, tx: &mut dyn Transaction) -> Result<()> {
        for (number, key) in &self.data {
            let name = [PREFIX, &number.to_be_bytes()].concat();
            let mut plain = Zeroizing::new(Vec::with_capacity(32 + 1 + 16));
            plain.extend_from_slice(key.whole.expose());
            plain.push(SCHEMA);
            plain.extend_from_slice(&self.incarnation.0);
            let sealed = seal(
                crypto,
                (*number, &self.outer),
                Purpose::Material,
                &name,
                &plain,
            )?;
            tx.set_state(&name, Some(&sealed))?;
        }
        Ok(())
    }

    /// Makes another data key.
    pub(super) fn add(&mut self, crypto: &dyn Crypto, random: &mut dyn Random) -> Result<()> {
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
        Ok(())
    }
}
