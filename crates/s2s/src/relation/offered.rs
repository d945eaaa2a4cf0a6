//! Which records a server was offered, as bits by their numbers: tombstones go there, and nowhere else (DESIGN: rule 6).

use crate::relation::keys;
use keyferry_store::{RecordNumber, Result, Snapshot, SnapshotExt, Store, StoreExt};
use std::collections::BTreeMap;

/// Bits in one value of the s2s state.
const PAGE: u64 = 4096;

/// Which records another server was offered.
#[derive(Debug)]
pub struct OfferedSet {
    prefix: Vec<u8>,
    /// The pages that were looked at, and whether they were changed.
    pages: BTreeMap<u64, (Vec<u8>, bool)>,
}

impl OfferedSet {
    pub(crate) fn to(server: &str, relation: &str) -> OfferedSet {
        OfferedSet {
            prefix: keys::offered_prefix(server, relation),
            pages: BTreeMap::new(),
        }
    }

    /// By bundles.
    pub fn in_bundles(recipient: &str) -> OfferedSet {
        OfferedSet {
            prefix: keys::bundle_offered_prefix(recipient),
            pages: BTreeMap::new(),
        }
    }

    /// Stores that these records are offered, in a transaction of its own, unless they were before.
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

    /// Whether the record was offered. What was looked at once is not looked at again.
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

    /// Notes that it is offered, or that what was offered is withdrawn.
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

    /// What is to be stored of it.
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
