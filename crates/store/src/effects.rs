//! This module defines effects: the changes that an operation asks for, and how they become puts.

use crate::contract::{
    IndexKey, MaterialChange, Part, Put, RecordNumber, Remains, Row, Transaction,
};
use crate::error::Result;
use crate::ext::TransactionExt;
use crate::index;
use crate::position::Incarnation;
use crate::record::Record;
use crate::record::{Entry, EntryKind, KeyBefore, material_of};
use keyferry_kmip::Object;
use keyferry_ttlv::Extra;
use zeroize::Zeroizing;

/// The changes that an operation asks for. Operations compute effects; the owner of the transaction applies them.
#[derive(Debug, Default)]
pub struct Effects {
    /// Objects to create or change.
    pub changes: Vec<Change>,
    /// S2s state to set or remove.
    pub state: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The index entries of records that can't be read, in whose place changes come ([`Effects::replacing`]).
    pub remains: Vec<(RecordNumber, Vec<IndexKey>)>,
    /// The incarnation that the store gets, when it was found to be a copy of an older moment.
    pub restored: Option<Incarnation>,
}

/// One object to create or change.
#[derive(Debug)]
pub struct Change {
    /// The number of the record, and the record before the change; `None` creates one.
    pub before: Option<(RecordNumber, Record)>,
    /// The record after the change.
    pub after: Record,
    /// The change of its key material.
    pub material: Material,
}

/// The change of key material.
#[derive(Debug)]
pub enum Material {
    /// Leaves it.
    Keep,
    /// Sets it.
    Set(Box<Object>),
    /// Removes it for ever.
    Remove,
}

impl Material {
    /// What becomes of the material of a record that a change of its attributes leaves so: a destroyed object has none.
    pub fn left_to(record: &Record) -> Material {
        if record.is_destroyed() {
            Material::Remove
        } else {
            Material::Keep
        }
    }
}

/// A change, encoded for a backend.
pub(crate) struct Encoded {
    number: Option<RecordNumber>,
    id: Vec<u8>,
    attributes: Vec<u8>,
    entry: Vec<u8>,
    material: EncodedMaterial,
    remove: Vec<IndexKey>,
    insert: Vec<IndexKey>,
}

/// The stored form of a [`Material`].
enum EncodedMaterial {
    Keep,
    Set(Zeroizing<Vec<u8>>),
    Remove,
}

impl Encoded {
    /// The index keys that the change adds or removes.
    pub(crate) fn moved(&self) -> impl Iterator<Item = &IndexKey> {
        self.insert.iter().chain(&self.remove)
    }

    /// The encoded object id of the record.
    pub(crate) fn into_id(self) -> Vec<u8> {
        self.id
    }

    /// The number of the record, unless the change creates it.
    pub(crate) fn number(&self) -> Option<RecordNumber> {
        self.number
    }

    /// The record after the change; `held` reads the stored one.
    pub(crate) fn row(
        &self,
        part: Part,
        held: impl FnOnce() -> Result<Option<Row>>,
    ) -> Result<Row> {
        let material = match (part, &self.material) {
            (Part::Attributes, _) => None,
            (Part::Whole, EncodedMaterial::Set(bytes)) => Some(bytes.clone()),
            (Part::Whole, EncodedMaterial::Remove) => None,
            (Part::Whole, EncodedMaterial::Keep) => held()?.and_then(|row| row.material),
        };
        Ok(Row {
            id: self.id.clone(),
            attributes: self.attributes.clone(),
            material,
        })
    }

    fn put(&self) -> Put<'_> {
        Put {
            number: self.number,
            id: &self.id,
            attributes: &self.attributes,
            material: match &self.material {
                EncodedMaterial::Keep => MaterialChange::Keep,
                EncodedMaterial::Remove => MaterialChange::Remove,
                EncodedMaterial::Set(bytes) => MaterialChange::Set(bytes),
            },
            remove: &self.remove,
            insert: &self.insert,
            entry: &self.entry,
        }
    }
}

/// Writes changes and state to a transaction.
pub(crate) fn write<'a>(
    transaction: &mut dyn Transaction,
    changes: &[Encoded],
    state: impl IntoIterator<Item = (&'a Vec<u8>, &'a Option<Vec<u8>>)>,
) -> Result<Vec<RecordNumber>> {
    let puts: Vec<Put<'_>> = changes.iter().map(Encoded::put).collect();
    let numbers = if puts.is_empty() {
        Vec::new()
    } else {
        transaction.put(&puts)?
    };
    for (key, value) in state {
        transaction.set_state(key, value.as_deref())?;
    }
    Ok(numbers)
}

impl Effects {
    /// No effects.
    pub fn none() -> Self {
        Effects::default()
    }

    /// The effects of one change.
    pub fn change(
        before: Option<(RecordNumber, Record)>,
        after: Record,
        material: Material,
    ) -> Self {
        Effects {
            changes: vec![Change {
                before,
                after,
                material,
            }],
            ..Effects::default()
        }
    }

    /// The effects of putting a record in the place of one that can't be read, with all of its index entries.
    pub fn replacing(
        number: RecordNumber,
        remains: Remains,
        after: Record,
        material: Material,
    ) -> Self {
        Effects {
            remains: vec![(number, remains.keys)],
            ..Effects::change(Some((number, after.clone())), after, material)
        }
    }

    /// Whether there is nothing to apply.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.state.is_empty() && self.restored.is_none()
    }

    /// Appends the effects of another operation.
    pub fn extend(&mut self, other: Effects) {
        self.changes.extend(other.changes);
        self.state.extend(other.state);
        self.remains.extend(other.remains);
        self.restored = other.restored.or(self.restored);
    }

    /// Applies the effects and returns the numbers of the records, in the order of the changes.
    ///
    /// # Errors
    /// Those of the store; roll the transaction back then.
    pub fn apply(&self, transaction: &mut dyn Transaction) -> Result<Vec<RecordNumber>> {
        let state = self.state.iter().map(|(key, value)| (key, value));
        let numbers = write(transaction, &self.encoded()?, state)?;
        if let Some(incarnation) = self.restored {
            transaction.mark_restored(incarnation)?;
        }
        Ok(numbers)
    }

    /// The changes, encoded for a backend.
    pub(crate) fn encoded(&self) -> Result<Vec<Encoded>> {
        let keys_before = |change: &Change| match &change.before {
            None => Ok(Vec::new()),
            Some((number, record)) => match self.remains.iter().find(|(of, _)| of == number) {
                Some((_, keys)) => {
                    let mut keys = keys.clone();
                    keys.sort_unstable();
                    Ok(keys)
                }
                None => index::keys(record),
            },
        };
        let changes = self.changes.iter();
        changes
            .map(|change| encode(change, keys_before(change)?))
            .collect()
    }
}

/// The most lost keys that a record remembers one by one.
const LOST: usize = 64;

fn encode(change: &Change, before: Vec<IndexKey>) -> Result<Encoded> {
    let after = index::keys(&change.after)?;
    let (remove, insert) = (without(&before, &after), without(&after, &before));
    let lost = lost_keys(change, &remove, &after);
    let attributes = if lost == change.after.lost {
        change.after.encoded()?
    } else {
        Record {
            lost: lost.clone(),
            ..change.after.clone()
        }
        .encoded()?
    };
    Ok(Encoded {
        number: change.before.as_ref().map(|(number, _)| *number),
        id: change.after.id.encoded()?,
        attributes,
        entry: entry_of(&change.after, lost).encoded()?,
        material: match &change.material {
            Material::Keep => EncodedMaterial::Keep,
            Material::Set(object) => EncodedMaterial::Set(material_of(object)?),
            Material::Remove => EncodedMaterial::Remove,
        },
        remove,
        insert,
    })
}

/// Those of `keys` that are not among the sorted `others`.
fn without(keys: &[IndexKey], others: &[IndexKey]) -> Vec<IndexKey> {
    keys.iter()
        .filter(|key| others.binary_search(key).is_err())
        .cloned()
        .collect()
}

/// The index keys that the object once had and has no more. They add up over its changes, since a reader of the feed may have
/// missed the changes between. Dates and fingerprints are left out: no relation selects by them.
fn lost_keys(change: &Change, removed: &[IndexKey], after: &[IndexKey]) -> Vec<KeyBefore> {
    let earlier = change
        .before
        .iter()
        .flat_map(|(_, record)| &record.lost)
        .cloned();
    let now = removed
        .iter()
        .filter(|key| ![index::DATE, index::FINGERPRINT].contains(&key.index))
        .cloned()
        .map(KeyBefore);
    let mut lost: Vec<KeyBefore> = earlier
        .chain(now)
        .filter(|key| after.binary_search(&key.0).is_err())
        .collect();
    lost.sort_unstable();
    lost.dedup();
    if lost.len() > LOST || lost.contains(&KeyBefore::any()) {
        lost = vec![KeyBefore::any()];
    }
    lost
}

/// The feed entry of a change that left the record like this.
fn entry_of(after: &Record, lost: Vec<KeyBefore>) -> Entry {
    Entry {
        id: after.id.clone(),
        stamp: after.stamp.clone(),
        kind: if after.is_destroyed() {
            EntryKind::DESTROYED
        } else {
            EntryKind::CHANGED
        },
        before: lost,
        extra: Extra::NONE,
    }
}
