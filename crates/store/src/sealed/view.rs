//! This module is a snapshot or transaction of a sealed store: it checks and unseals what is read, and seals what is written.

use super::ahead::Ahead;
use super::check::{self, Check, Hex, Stored, corrupt};
use super::keys::{Key, Keys, PREFIX, Purpose, Tag, number_of, seal, tag_of, unseal};
use super::look::{has_identifier, is_guessable};
use crate::contract::{
    Cursor, FeedRow, Index, MaterialChange, Order, Part, Put, RecordNumber, Remains, Row, Snapshot,
    Span, Transaction,
};
use crate::error::{Error, ErrorKind, Result};
use crate::index;
use crate::position::{CommitId, Incarnation, Position};
use crate::record::Record;
use keyferry_kmip::Crypto;
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use zeroize::Zeroizing;

/// Data keys by their numbers.
pub(super) type Found = BTreeMap<u32, Key>;

/// A snapshot or transaction of the wrapped store, in which all is unsealed and what belongs to the seal is invisible.
pub(super) struct View<'a, T> {
    behind: T,
    keys: &'a Keys,
    /// The data keys of the snapshot, once one was missing: another process made it.
    found: OnceCell<Found>,
    crypto: &'a dyn Crypto,
    ahead: RefCell<Ahead>,
    /// The check rows, from before this transaction, of the records that it has put: the feed still shows their earlier entries.
    before: RefCell<HashMap<u64, Option<Vec<u8>>>>,
    /// The attributes that a scan has just checked, which its visitor asks for next.
    met: RefCell<Option<(RecordNumber, Row)>>,
    /// The tags of the sealed material of records that this transaction has checked, which a put that keeps the material asks for.
    right: RefCell<HashMap<u64, Option<Tag>>>,
}

/// The most records that a transaction remembers as checked.
const REMEMBERED: usize = 4096;

/// The wrapped snapshot, or the wrapped transaction as one.
pub(super) trait Behind {
    /// Whether it can be written to.
    const WRITES: bool;

    fn at(&self) -> &dyn Snapshot;
}

impl Behind for &dyn Snapshot {
    const WRITES: bool = false;

    fn at(&self) -> &dyn Snapshot {
        *self
    }
}

impl Behind for &mut dyn Transaction {
    const WRITES: bool = true;

    fn at(&self) -> &dyn Snapshot {
        &**self
    }
}

impl<'a, T: Behind> View<'a, T> {
    pub(super) fn new(behind: T, keys: &'a Keys, crypto: &'a dyn Crypto) -> View<'a, T> {
        View {
            behind,
            keys,
            found: OnceCell::new(),
            crypto,
            ahead: RefCell::default(),
            before: RefCell::default(),
            met: RefCell::default(),
            right: RefCell::default(),
        }
    }

    /// The data keys that were not known when it began.
    pub(super) fn found(self) -> Found {
        self.found.into_inner().unwrap_or_default()
    }

    /// The wrapped snapshot.
    pub(super) fn behind(&self) -> &dyn Snapshot {
        self.behind.at()
    }

    /// The data key `number`; `None` when there is none.
    fn key(&self, number: u32) -> Result<Option<&Key>> {
        if let Some(key) = self.keys.data.get(&number) {
            return Ok(Some(key));
        }
        // Another process may have made it since this one loaded its keys.
        if self.found.get().is_none() {
            let loaded = Keys::load(&self.keys.outer, self.crypto, self.behind())?;
            let _ = self.found.set(loaded.data);
        }
        Ok(self.found.get().and_then(|found| found.get(&number)))
    }

    /// Opens a sealed text; `None` when it is not what was sealed for this purpose and this place.
    fn unsealed(
        &self,
        purpose: Purpose,
        associated: &[u8],
        sealed: &[u8],
    ) -> Result<Option<Zeroizing<Vec<u8>>>> {
        let Some(number) = number_of(sealed) else {
            return Ok(None);
        };
        let key = self.key(number)?;
        Ok(key.and_then(|key| unseal(self.crypto, key, purpose, associated, sealed)))
    }

    /// The check row of a record as it stands in the wrapped store.
    fn check_row(&self, number: RecordNumber) -> Result<Option<Vec<u8>>> {
        let mut ahead = self.ahead.borrow_mut();
        match ahead.known(number.0) {
            Some(row) => Ok(row),
            None => ahead.read(self.behind()),
        }
    }

    /// A check row, and the data key that it is made with.
    fn decoded(&self, number: RecordNumber, row: &[u8]) -> Result<(Check, &Key)> {
        let check = Check::decode(row).ok_or_else(|| corrupt(number, "its check is damaged"))?;
        match self.key(check.key)? {
            Some(key) => Ok((check, key)),
            None => Err(corrupt(number, "its check is made with no known data key")),
        }
    }

    /// The attributes of a record, checked, and the tag that its sealed material must have.
    fn checked(&self, number: RecordNumber, row: &mut Row) -> Result<Check> {
        let stored = self
            .check_row(number)?
            .ok_or_else(|| corrupt(number, "it has no check, so it was not written here"))?;
        let (check, key) = self.decoded(number, &stored)?;
        if !check.fits(self.crypto, key, number, (&row.id, &row.attributes)) {
            return Err(corrupt(
                number,
                "it is not what was written under this number",
            ));
        }
        if check.is_sealed {
            let plain = self.unsealed(Purpose::Attributes, &row.id, &row.attributes)?;
            let plain = plain.ok_or_else(|| corrupt(number, "its attributes can't be unsealed"))?;
            row.attributes = plain.to_vec();
        }
        Ok(check)
    }

    /// Reads and checks a record.
    fn read(&self, number: RecordNumber, part: Part) -> Result<Option<(Row, Check)>> {
        let Some(mut row) = self.behind().get(number, part)? else {
            return match self.check_row(number)? {
                Some(_) => Err(corrupt(number, "it is missing, and its check is there")),
                None => Ok(None),
            };
        };
        let check = self.checked(number, &mut row)?;
        if T::WRITES {
            let mut right = self.right.borrow_mut();
            if right.len() >= REMEMBERED {
                right.clear();
            }
            right.insert(number.0, check.material);
        }
        if part == Part::Whole {
            row.material = match (row.material.take(), check.material) {
                (None, None) => None,
                (Some(sealed), Some(tag)) if tag_of(&sealed) == tag => {
                    let plain = self.unsealed(Purpose::Material, &row.id, &sealed)?;
                    let failed = || corrupt(number, "its key material can't be unsealed");
                    Some(plain.ok_or_else(failed)?)
                }
                _ => return Err(corrupt(number, "its key material is not what was written")),
            };
        }
        Ok(Some((row, check)))
    }

    /// Checks that the record of an index entry has this key.
    pub(super) fn check_entry(&self, at: Index, key: &[u8], number: RecordNumber) -> Result<()> {
        let wrong = |what: &str| {
            let place = format_args!("index {}, key {}: {what}", at.0, Hex(key));
            corrupt(number, place)
        };
        let met = self.met.borrow_mut().take_if(|(met, _)| *met == number);
        let row = match met {
            Some((_, row)) => row,
            None => match self.read(number, Part::Attributes)? {
                Some((row, _)) => row,
                None => return Err(wrong("the record does not exist")),
            },
        };
        // Most entries are met by identifier, and decoding costs more than all the rest.
        if at == index::IDENTIFIER && has_identifier(&row.attributes, key) {
            self.met.replace(Some((number, row)));
            return Ok(());
        }
        // The attributes were checked: if they are no record, then none was written, and its keys are the caller's affair.
        if let Ok(record) = Record::decode(&row.attributes) {
            let keys = index::keys(&record)?;
            if !keys.iter().any(|own| own.index == at && *own.key == *key) {
                return Err(wrong("the record does not have this key"));
            }
        }
        self.met.replace(Some((number, row)));
        Ok(())
    }

    /// Checks a feed entry.
    pub(super) fn check_feed(&self, row: &FeedRow<'_>) -> Result<()> {
        let before = self.before.borrow().get(&row.record.0).cloned();
        let check = match before {
            Some(check) => check,
            None => self.check_row(row.record)?,
        };
        let wrong = |what: &str| {
            let place = format_args!("feed entry {}: {what}", row.number);
            corrupt(row.record, place)
        };
        let check = check.ok_or_else(|| wrong("the record has no check"))?;
        let (check, key) = self.decoded(row.record, &check)?;
        match check.fits_entry(self.crypto, key, row.record, row.entry) {
            true => Ok(()),
            false => Err(wrong("it is not what was written for this record")),
        }
    }

    /// Opens a value of the state.
    pub(super) fn state_value(&self, key: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let plain = self.unsealed(Purpose::State, key, sealed)?;
        plain.ok_or_else(|| {
            Error::new(
                ErrorKind::Corrupt,
                format_args!(
                    "the state under the key {} is not what was written there",
                    Hex(key)
                ),
            )
        })
    }

    /// Checks that no record between two numbers, the second excluded, has a check: none was passed over.
    fn check_gap(&self, from: u64, to: Option<u64>) -> Result<()> {
        if to.is_some_and(|to| from >= to) {
            return Ok(());
        }
        let mut missing = None;
        let span = check::span(from, to);
        self.behind().state(&span, &mut |name, _| {
            missing = check::number(name);
            Ok(ControlFlow::Break(()))
        })?;
        match missing {
            Some(number) => Err(corrupt(
                RecordNumber(number),
                "it is missing, and its check is there",
            )),
            None => Ok(()),
        }
    }

    /// Visits the records by arrival, and checks that each was written here and that none is left out.
    fn arrivals(
        &self,
        span: &Span,
        order: Order,
        after: Option<&Cursor>,
        visit: &mut dyn FnMut(&[u8], RecordNumber) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let Some((mut from, mut to)) = span.arrivals() else {
            return Ok(());
        };
        if let Some(Cursor { number, .. }) = after {
            match order {
                Order::Ascending => from = from.max(number.0.saturating_add(1)),
                Order::Descending => to = Some(to.map_or(number.0, |to| to.min(number.0))),
            }
        }
        let mut is_whole = true;
        self.behind()
            .scan(Index::ARRIVAL, span, order, after, &mut |key, number| {
                match order {
                    Order::Ascending => {
                        self.check_gap(from, Some(number.0))?;
                        from = number.0.saturating_add(1);
                    }
                    Order::Descending => {
                        self.check_gap(number.0.saturating_add(1), to)?;
                        to = Some(number.0);
                    }
                }
                if key != number.0.to_be_bytes() {
                    return Err(corrupt(number, "it arrived under another number"));
                }
                if self.check_row(number)?.is_none() {
                    return Err(corrupt(
                        number,
                        "it has no check, so it was not written here",
                    ));
                }
                let next = visit(key, number)?;
                is_whole = next.is_continue();
                Ok(next)
            })?;
        match is_whole {
            true => self.check_gap(from, to),
            false => Ok(()),
        }
    }
}

impl<T: Behind> Snapshot for View<'_, T> {
    fn head(&self) -> Result<Position> {
        let head = self.behind().head()?;
        if head.incarnation != self.keys.incarnation {
            // Another process, or this transaction, may have marked the store as restored.
            let now = Keys::load(&self.keys.outer, self.crypto, self.behind())?;
            if head.incarnation != now.incarnation {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    "the incarnation is not the one that the seal knows",
                ));
            }
        }
        Ok(head)
    }

    fn commit_id(&self, number: u64) -> Result<Option<CommitId>> {
        self.behind().commit_id(number)
    }

    fn count(&self) -> Result<u64> {
        self.behind().count()
    }

    fn get(&self, number: RecordNumber, part: Part) -> Result<Option<Row>> {
        let met = self.met.borrow_mut().take_if(|(met, _)| *met == number);
        match (part, met) {
            (Part::Attributes, Some((_, row))) => Ok(Some(row)),
            _ => Ok(self.read(number, part)?.map(|(row, _)| row)),
        }
    }

    fn scan(
        &self,
        index: Index,
        span: &Span,
        order: Order,
        after: Option<&Cursor>,
        visit: &mut dyn FnMut(&[u8], RecordNumber) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        if index == Index::ARRIVAL {
            return self.arrivals(span, order, after, visit);
        }
        self.behind()
            .scan(index, span, order, after, &mut |key, number| {
                self.check_entry(index, key, number)?;
                visit(key, number)
            })
    }

    fn feed(
        &self,
        after: u64,
        visit: &mut dyn FnMut(&FeedRow<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.behind().feed(after, &mut |row| {
            self.check_feed(row)?;
            visit(row)
        })
    }

    fn remains(&self, number: RecordNumber) -> Result<Option<Remains>> {
        self.behind().remains(number)
    }

    fn state(
        &self,
        span: &Span,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut next = ControlFlow::Continue(());
        for part in beside_the_seal(span).iter().flatten() {
            if next.is_break() {
                break;
            }
            self.behind().state(part, &mut |key, sealed| {
                next = visit(key, &self.state_value(key, sealed)?)?;
                Ok(next)
            })?;
        }
        Ok(())
    }
}

/// The parts of a span below and above the keys of the seal.
pub(super) fn beside_the_seal(span: &Span) -> [Option<Span>; 2] {
    let seal = Span::prefix(PREFIX);
    let (Some(end), from) = (seal.to, seal.from) else {
        return [None, None];
    };
    let below = Span {
        from: span.from.clone(),
        to: Some(span.to.clone().map_or(from.clone(), |to| to.min(from))),
    };
    let above = Span {
        from: span.from.clone().max(end),
        to: span.to.clone(),
    };
    [below, above].map(|part| {
        let has_keys = part.to.as_ref().is_none_or(|to| part.from < *to);
        has_keys.then_some(part)
    })
}

/// What becomes of a put in the wrapped store.
struct Sealing {
    attributes: Option<Vec<u8>>,
    material: Option<Vec<u8>>,
    /// The tag of the sealed material after the put.
    tag: Option<Tag>,
}

impl View<'_, &mut dyn Transaction> {
    /// Seals what a put has to hide, and checks what it leaves as it is.
    fn sealing(&self, put: &Put<'_>) -> Result<Sealing> {
        let key = self.keys.newest()?;
        let sealed = |purpose, plain| seal(self.crypto, key, purpose, put.id, plain);
        if let Some(number) = put.number {
            let row = self.check_row(number)?;
            self.before.borrow_mut().entry(number.0).or_insert(row);
        }
        let mut sealing = Sealing {
            attributes: is_guessable(put.attributes)
                .then(|| sealed(Purpose::Attributes, put.attributes))
                .transpose()?,
            material: None,
            tag: None,
        };
        match (put.material, put.number) {
            (MaterialChange::Set(plain), _) => {
                let material = sealed(Purpose::Material, plain)?;
                sealing.tag = Some(tag_of(&material));
                sealing.material = Some(material);
            }
            // What goes on standing there is vouched for anew, so it has to be right.
            (MaterialChange::Keep, Some(number)) => {
                let right = self.right.borrow().get(&number.0).copied();
                sealing.tag = match right {
                    Some(tag) => tag,
                    None => {
                        let held = self.read(number, Part::Attributes)?;
                        held.and_then(|(_, check)| check.material)
                    }
                };
            }
            (MaterialChange::Keep, None) | (MaterialChange::Remove, _) => {}
        }
        Ok(sealing)
    }
}

impl Transaction for View<'_, &mut dyn Transaction> {
    fn put(&mut self, puts: &[Put<'_>]) -> Result<Vec<RecordNumber>> {
        let sealings = puts
            .iter()
            .map(|put| self.sealing(put))
            .collect::<Result<Vec<_>>>()?;
        let behind: Vec<Put<'_>> = puts
            .iter()
            .zip(&sealings)
            .map(|(put, sealing)| Put {
                attributes: sealing.attributes.as_deref().unwrap_or(put.attributes),
                material: sealing
                    .material
                    .as_deref()
                    .map_or(put.material, MaterialChange::Set),
                ..*put
            })
            .collect();
        self.ahead.take();
        self.met.take();
        self.right.take();
        let numbers = self.behind.put(&behind)?;
        let key = self.keys.newest()?;
        for ((number, put), sealing) in numbers.iter().zip(&behind).zip(&sealings) {
            let stored = Stored {
                number: *number,
                id: put.id,
                attributes: put.attributes,
                is_sealed: sealing.attributes.is_some(),
                material: sealing.tag,
            };
            let check = Check::new(self.crypto, key, stored, put.entry);
            self.behind
                .set_state(&check::name(number.0), Some(&check.encoded()))?;
        }
        Ok(numbers)
    }

    fn set_state(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        if key.starts_with(PREFIX) {
            return Err(Error::new(
                ErrorKind::Misuse,
                "this key of the state belongs to the seal",
            ));
        }
        let sealed = value
            .map(|plain| seal(self.crypto, self.keys.newest()?, Purpose::State, key, plain))
            .transpose()?;
        self.behind.set_state(key, sealed.as_deref())
    }

    fn restored(&mut self, incarnation: Incarnation) -> Result<()> {
        let mut keys = Keys::load(&self.keys.outer, self.crypto, self.behind())?;
        keys.incarnation = incarnation;
        self.behind.restored(incarnation)?;
        keys.store(self.crypto, self.behind)
    }
}
