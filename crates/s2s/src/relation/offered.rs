//! The records that another server was offered, as a set of bits by record number. A tombstone is sent only to servers that were offered the
//! object ([rule 6](crate::design#rule-6)).

use crate::relation::keys;
use keyferry_kmip::Text;
use keyferry_kmip::lifecycle::Rank;
use keyferry_kmip::spec::State;
use keyferry_store::{Record, RecordNumber, Result, Snapshot, SnapshotExt, Span, Store, StoreExt};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

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
        OfferedSet::under(keys::offered_prefix(server, relation))
    }

    /// The records that a recipient was offered in bundles.
    pub fn in_bundles(recipient: &str) -> OfferedSet {
        OfferedSet::under(keys::bundle_offered_prefix(recipient))
    }

    /// The records that are noted under a prefix of the state's keys.
    pub(crate) fn under(prefix: Vec<u8>) -> OfferedSet {
        OfferedSet {
            prefix,
            pages: BTreeMap::new(),
        }
    }

    /// What peers were sent by pushes: the name of each push, and the records. A push of one name may have gone to several servers.
    pub(crate) fn pushes(snapshot: &dyn Snapshot) -> Result<Vec<(Text, OfferedSet)>> {
        let mut found = Vec::new();
        let mut span = Span::prefix(keys::PUSHED);
        loop {
            let mut first = None;
            snapshot.state(&span, &mut |key, _| {
                first = Some(key.to_vec());
                Ok(ControlFlow::Break(()))
            })?;
            let Some(key) = first else {
                return Ok(found);
            };
            let prefix = key.get(..key.len().saturating_sub(8)).unwrap_or_default();
            let name = prefix.get(keys::PUSHED.len()..).unwrap_or_default();
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            let name = String::from_utf8_lossy(name);
            found.push((name.as_ref().into(), OfferedSet::under(prefix.to_vec())));
            // Behind all pages of this one.
            span.from = match Span::prefix(prefix).to {
                Some(behind) => behind,
                None => return Ok(found),
            };
        }
    }

    /// Notes in the store that these records are offered, in a transaction of its own, unless all of them were noted before.
    ///
    /// # Errors
    /// Those of the store.
    pub fn note(&self, store: &dyn Store, numbers: &[RecordNumber]) -> Result<()> {
        let fresh = || OfferedSet::under(self.prefix.clone());
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

    /// Whether a server that gets a record no more has to hear of it all the same: it was offered the record, which may not be used any more.
    ///
    /// # Errors
    /// Those of the store.
    pub fn has_ended(
        &mut self,
        snapshot: &dyn Snapshot,
        number: RecordNumber,
        record: &Record,
    ) -> Result<bool> {
        let is_over = record.is_compromised()
            || (record.stored_state())
                .is_some_and(|state| Rank::of(state).step >= Rank::of(State::DEACTIVATED).step);
        Ok(is_over && self.has(snapshot, number)?)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use keyferry_store::{Incarnation, Memory, Span};

    const OFFERED: [u64; 9] = [0, 1, 7, 8, 4095, 4096, 4097, 8191, 12_345];

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
        let mut set = OfferedSet::to("s", "r");
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
        let numbers = OFFERED.map(RecordNumber);
        let set = OfferedSet::to("s", "r");
        set.note(&store, &numbers).unwrap();
        assert_eq!(held(&store), OFFERED);
        assert_eq!(pages(&store), 3);
        // What is noted already is no write.
        let head = |store: &Memory| store.view(|snapshot| snapshot.head()).unwrap();
        let before = head(&store);
        set.note(&store, &numbers[..2]).unwrap();
        assert_eq!(head(&store), before);
        // The other relation of the same server has a set of its own.
        let mut other = OfferedSet::to("s", "r2");
        let has = store.view(|snapshot| other.has(snapshot, RecordNumber(1)));
        assert!(!has.unwrap());
        let withdraw = |numbers: &[u64]| {
            store
                .transact::<_, keyferry_store::Error>(|transaction| {
                    let mut set = OfferedSet::to("s", "r");
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
        assert_eq!(withdraw(&[2, 9000, 19_999]), 0, "they were not offered");
        assert_eq!(withdraw(&[4096, 4097]), 1);
        assert_eq!((held(&store).len(), pages(&store)), (7, 3));
        assert_eq!(withdraw(&[8191]), 1);
        assert_eq!(held(&store), [0, 1, 7, 8, 4095, 12_345]);
        assert_eq!(pages(&store), 2);
    }
}
