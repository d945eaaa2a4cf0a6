//! A set of records, as bits by record number in the store's state: what another server was sent, or what one keeps true here
//! ([rule 17](crate::design#rule-17)).

use keyferry_store::{RecordNumber, Result, Snapshot, SnapshotExt, Store, StoreExt};
use std::collections::BTreeMap;

/// How many bits one value of the s2s state holds.
const PAGE: u64 = 4096;

/// A set of records.
#[derive(Debug)]
pub(crate) struct RecordSet {
    prefix: Vec<u8>,
    /// The pages that were read, and whether they were changed since.
    pages: BTreeMap<u64, (Vec<u8>, bool)>,
}

impl RecordSet {
    /// The records that are noted under a prefix of the state's keys: the number of the page follows it.
    pub(crate) fn under(prefix: Vec<u8>) -> RecordSet {
        RecordSet {
            prefix,
            pages: BTreeMap::new(),
        }
    }

    /// What the keys of its pages begin with.
    pub(crate) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Adds these records to the set in the store, in a transaction of its own, unless it has all of them.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn note(&self, store: &dyn Store, numbers: &[RecordNumber]) -> Result<()> {
        let fresh = || RecordSet::under(self.prefix.clone());
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
            let mut set = fresh();
            numbers
                .iter()
                .try_for_each(|number| set.set(transaction, *number, true))?;
            set.changed()
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

    /// Whether the set has the record. A page is read from the store once only.
    pub(crate) fn has(&mut self, snapshot: &dyn Snapshot, number: RecordNumber) -> Result<bool> {
        let (page, byte, bit) = RecordSet::place(number);
        Ok(self
            .page(snapshot, page)?
            .0
            .get(byte)
            .is_some_and(|held| held & bit != 0))
    }

    /// Adds a record to the set, or takes it out.
    pub(crate) fn set(
        &mut self,
        snapshot: &dyn Snapshot,
        number: RecordNumber,
        belongs: bool,
    ) -> Result<()> {
        let (page, byte, bit) = RecordSet::place(number);
        let (bytes, changed) = self.page(snapshot, page)?;
        if bytes.len() <= byte {
            if !belongs {
                return Ok(());
            }
            bytes.resize(byte + 1, 0);
        }
        if let Some(held) = bytes.get_mut(byte) {
            let before = *held;
            *held = if belongs { before | bit } else { before & !bit };
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::relation::keys;
    use keyferry_store::{Incarnation, Memory, Span};
    use std::ops::ControlFlow;

    const MEMBERS: [u64; 9] = [0, 1, 7, 8, 4095, 4096, 4097, 8191, 12_345];

    fn set_of(relation: &str) -> RecordSet {
        RecordSet::under(keys::offered_prefix("s", relation))
    }

    /// How many pages the set has in the store.
    fn pages(store: &Memory) -> usize {
        let mut count = 0;
        store
            .view(|snapshot| {
                snapshot.state(&Span::prefix(keys::OFFERED), &mut |_, _| {
                    count += 1;
                    Ok(ControlFlow::Continue(()))
                })
            })
            .unwrap();
        count
    }

    fn held(store: &Memory) -> Vec<u64> {
        let mut set = set_of("r");
        let held = store.view(|snapshot| {
            let mut held = Vec::new();
            for number in 0..20_000 {
                if set.has(snapshot, RecordNumber(number))? {
                    held.push(number);
                }
            }
            Ok::<_, keyferry_store::Error>(held)
        });
        held.unwrap()
    }

    #[test]
    fn each_record_has_a_bit_of_its_own_and_a_page_that_is_empty_goes() {
        let store = Memory::new(Incarnation([1; 16]));
        let numbers = MEMBERS.map(RecordNumber);
        let set = set_of("r");
        set.note(&store, &numbers).unwrap();
        assert_eq!(held(&store), MEMBERS);
        assert_eq!(pages(&store), 3);
        // What is noted already is no write.
        let head = |store: &Memory| store.view(|snapshot| snapshot.head()).unwrap();
        let before = head(&store);
        set.note(&store, &numbers[..2]).unwrap();
        assert_eq!(head(&store), before);
        // Another set has its own members.
        let mut other = set_of("r2");
        let has = store.view(|snapshot| other.has(snapshot, RecordNumber(1)));
        assert!(!has.unwrap());
        let withdraw = |numbers: &[u64]| {
            store
                .transact::<_, keyferry_store::Error>(|transaction| {
                    let mut set = set_of("r");
                    for number in numbers {
                        set.set(transaction, RecordNumber(*number), false)?;
                    }
                    let changed = set.changed();
                    let count = changed.len();
                    for (key, page) in changed {
                        transaction.set_state(&key, page.as_deref())?;
                    }
                    Ok(count)
                })
                .unwrap()
        };
        assert_eq!(withdraw(&[2, 9000, 19_999]), 0, "the set had none of them");
        assert_eq!(withdraw(&[4096, 4097]), 1);
        assert_eq!((held(&store).len(), pages(&store)), (7, 3));
        assert_eq!(withdraw(&[8191]), 1);
        assert_eq!(held(&store), [0, 1, 7, 8, 4095, 12_345]);
        assert_eq!(pages(&store), 2);
    }
}
