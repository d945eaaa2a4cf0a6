use crate::record::{Entry, EntryKind, KeyBefore, material_of};
use crate::{
    Incarnation, IndexKey, MaterialChange, Part, Put, Record, RecordNumber, Result, Row,
    Transaction, index,
};
use keyferry_kmip::Object;
use keyferry_ttlv::Extra;
use zeroize::Zeroizing;

/// What an operation would do to a store. Operations compute these; whoever owns the transaction applies them.
#[derive(Debug, Default)]
pub struct Effects {
    /// Objects to create or change.
    pub changes: Vec<Change>,
    /// S2s state to set or remove.
    pub state: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The incarnation that the store takes, since it was found to be a copy of an older moment.
    pub restored: Option<Incarnation>,
}

/// One object to create or change.
#[derive(Debug)]
pub struct Change {
    /// Which record, and what it was; `None` creates one.
    pub before: Option<(RecordNumber, Record)>,
    /// What it becomes.
    pub after: Record,
    /// What becomes of the material.
    pub material: Material,
}

/// What a change does to key material.
#[derive(Debug)]
pub enum Material {
    /// Leaves it.
    Keep,
    /// Sets it.
    Set(Box<Object>),
    /// Removes it for ever.
    Remove,
}

/// A change as a backend takes it.
pub(crate) struct Encoded {
    number: Option<RecordNumber>,
    id: Vec<u8>,
    attributes: Vec<u8>,
    entry: Vec<u8>,
    material: Option<Option<Zeroizing<Vec<u8>>>>,
    remove: Vec<IndexKey>,
    insert: Vec<IndexKey>,
}

impl Encoded {
    /// The index keys that it adds or takes away.
    pub(crate) fn moved(&self) -> impl Iterator<Item = &IndexKey> {
        self.insert.iter().chain(&self.remove)
    }

    /// The record that it changes, when that is there already.
    pub(crate) fn number(&self) -> Option<RecordNumber> {
        self.number
    }

    /// The record as it will be; `held` is what is stored of it.
    pub(crate) fn row(
        &self,
        part: Part,
        held: impl FnOnce() -> Result<Option<Row>>,
    ) -> Result<Row> {
        let material = match (part, &self.material) {
            (Part::Attributes, _) => None,
            (Part::Whole, Some(changed)) => changed.clone(),
            (Part::Whole, None) => held()?.and_then(|row| row.material),
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
                None => MaterialChange::Keep,
                Some(None) => MaterialChange::Remove,
                Some(Some(bytes)) => MaterialChange::Set(bytes),
            },
            remove: &self.remove,
            insert: &self.insert,
            entry: &self.entry,
        }
    }
}

/// Hands changes and state to a transaction.
pub(crate) fn write(
    transaction: &mut dyn Transaction,
    changes: &[Encoded],
    state: &[(Vec<u8>, Option<Vec<u8>>)],
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
    /// Nothing.
    pub fn none() -> Self {
        Effects::default()
    }

    /// One change.
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
            state: Vec::new(),
            restored: None,
        }
    }

    /// Whether there is nothing to apply.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.state.is_empty() && self.restored.is_none()
    }

    /// Adds those of another operation behind these.
    pub fn extend(&mut self, other: Effects) {
        self.changes.extend(other.changes);
        self.state.extend(other.state);
        self.restored = other.restored.or(self.restored);
    }

    /// Applies them and returns the numbers of the records, in order.
    ///
    /// # Errors
    /// Those of the store; the transaction is to be rolled back then.
    pub fn apply(&self, transaction: &mut dyn Transaction) -> Result<Vec<RecordNumber>> {
        let numbers = write(transaction, &self.encoded()?, &self.state)?;
        self.restored.map_or(Ok(()), |incarnation| {
            crate::ext::take_incarnation(transaction, incarnation)
        })?;
        Ok(numbers)
    }

    /// The changes as a backend takes them.
    pub(crate) fn encoded(&self) -> Result<Vec<Encoded>> {
        self.changes.iter().map(encode).collect()
    }
}

/// Lost keys that a record remembers one by one.
const LOST: usize = 64;

fn encode(change: &Change) -> Result<Encoded> {
    let before = match &change.before {
        Some((_, record)) => index::keys(record)?,
        None => Vec::new(),
    };
    let after = index::keys(&change.after)?;
    let without = |these: &[IndexKey], those: &[IndexKey]| -> Vec<IndexKey> {
        these
            .iter()
            .filter(|key| those.binary_search(key).is_err())
            .cloned()
            .collect()
    };
    let (remove, insert) = (without(&before, &after), without(&after, &before));
    // Those that a relation may select by; they add up, since whoever reads the feed may have missed the changes between.
    let earlier = change
        .before
        .iter()
        .flat_map(|(_, record)| &record.lost)
        .cloned();
    let dropped = remove
        .iter()
        .filter(|key| key.index != index::DATE)
        .cloned()
        .map(KeyBefore);
    let mut lost: Vec<KeyBefore> = earlier
        .chain(dropped)
        .filter(|key| after.binary_search(&key.0).is_err())
        .collect();
    lost.sort_unstable();
    lost.dedup();
    if lost.len() > LOST || lost.contains(&KeyBefore::any()) {
        lost = vec![KeyBefore::any()];
    }
    let attributes = if lost == change.after.lost {
        change.after.encoded()?
    } else {
        Record {
            lost: lost.clone(),
            ..change.after.clone()
        }
        .encoded()?
    };
    let entry = Entry {
        id: change.after.id.clone(),
        stamp: change.after.stamp.clone(),
        kind: if change.after.is_destroyed() {
            EntryKind::DESTROYED
        } else {
            EntryKind::CHANGED
        },
        before: lost,
        extra: Extra::NONE,
    };
    Ok(Encoded {
        number: change.before.as_ref().map(|(number, _)| *number),
        id: change.after.id.encoded()?,
        attributes,
        entry: entry.encoded()?,
        material: match &change.material {
            Material::Keep => None,
            Material::Set(object) => Some(Some(material_of(object)?)),
            Material::Remove => Some(None),
        },
        remove,
        insert,
    })
}
