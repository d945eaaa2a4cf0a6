//! The records that another server was offered, as a set of bits by record number. A tombstone is sent only to servers that were offered the
//! object ([rule 6](crate::design#rule-6)).

use crate::relation::keys;
use keyferry_store::{RecordNumber, Result, Snapshot, SnapshotExt, Store, StoreExt};
use std::collections::BTreeMap;

/// How many bits one value of the s2s state holds.
const PAGE: u64 = 4096;

/// The set of records that another server was offered.
#[derive(Debug)]
pub struct OfferedSet {
    prefix: Vec<u8>,
    /// The pages that were read, and whether they were changed since.
    pages: BTreeMap<u64, (Vec<u8>, bool)>,
}

impl OfferedSet {
    /// The records that a replica was offered in a relation.
    pub(crate) fn to(server: &str, relation: &str) -> OfferedSet {
        OfferedSet {
            prefix: keys::offered_prefix(server, relation),
            pages: BTreeMap::new(),
        }
    }

    /// The records that a recipient was offered in bundles.
    pub fn in_bundles(recipient: &str) -> OfferedSet {
        OfferedSet {
            prefix: keys::bundle_offered_prefix(recipient),
            pages: BTreeMap::new(),
        }
    }

    /// Notes in the store that these records are offered, in a transaction of its own, unless all of them were noted before.
    ///
    /// # Errors
    /// Those of the store.
    pub fn note(&self, store: &dyn Store, numbers: &[RecordNumber]) -> Result<()> {
        let fresh = || OfferedSet {
            prefix: self.prefix.clone(),
            pages: BTreeMap::new(),
        };
        let mut held = fresh();
        let known = store.view(|snapshot| {
            numbers.iter().try_fold(true, |known, number| {
                Ok(known && held.has(snapshot, *number)?)
            })
        })?;
        if known {
            return Ok(());
        }
        store.transact(|transaction| {
            let mut offered = fresh();
            numbers
                .iter()
                .try_for_each(|number| offered.set(transaction, *number, true))?;
            offered
                .changed()
                .iter()
                .try_for_each(|(key, page)| transaction.set_state(key, page.as_deref()))
        })
    }

    fn key(&self, page: u64) -> Vec<u8> {
        [&self.prefix[..], &page.to_be_bytes()].concat()
    }

    fn page(&mut self, snapshot: &dyn Snapshot, page: u64) -> Result<&mut (Vec<u8>, bool)> {
        if !self.pages.contains_key(&page) {
            let stored = snapshot.state_value(&self.key(page))?.unwrap_or_default();
            self.pages.insert(page, (stored, false));
        }
        Ok(self.pages.entry(page).or_default())
    }

    fn place(number: RecordNumber) -> (u64, usize, u8) {
        let bit = number.0 % PAGE;
        (
            number.0 / PAGE,
            usize::try_from(bit / 8).unwrap_or_default(),
            1 << (bit % 8),
        )
    }

    /// Whether the record was offered. A page is read from the store once only.
    ///
    /// # Errors
    /// Those of the store.
    pub fn has(&mut self, snapshot: &dyn Snapshot, number: RecordNumber) -> Result<bool> {
        let (page, byte, bit) = OfferedSet::place(number);
        Ok(self
            .page(snapshot, page)?
            .0
            .get(byte)
            .is_some_and(|held| held & bit != 0))
    }

    /// Notes that a record is offered, or that the offer was withdrawn.
    pub(crate) fn set(
        &mut self,
        snapshot: &dyn Snapshot,
        number: RecordNumber,
        offered: bool,
    ) -> Result<()> {
        let (page, byte, bit) = OfferedSet::place(number);
        let (bytes, changed) = self.page(snapshot, page)?;
        if bytes.len() <= byte {
            if !offered {
                return Ok(());
            }
            bytes.resize(byte + 1, 0);
        }
        if let Some(held) = bytes.get_mut(byte) {
            let before = *held;
            *held = if offered { before | bit } else { before & !bit };
            *changed |= *held != before;
        }
        Ok(())
    }

    /// The entries of the s2s state that have changed.
    pub(crate) fn changed(self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let prefix = self.prefix;
        let key = |page: u64| [&prefix[..], &page.to_be_bytes()].concat();
        let changed = self.pages.into_iter().filter(|(_, (_, changed))| *changed);
        changed
            .map(|(page, (mut bytes, _))| {
                while bytes.pop_if(|last| *last == 0).is_some() {}
                (key(page), (!bytes.is_empty()).then_some(bytes))
            })
            .collect()
    }
}
