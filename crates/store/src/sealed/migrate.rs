//! This module brings a store that an earlier build sealed to the form of this one.
//!
//! It goes on page by page, each page and the place where it ends in one transaction, so that a process that is killed meanwhile goes on
//! there. Until the end the data keys keep their earlier form, and no other build opens the store.

use super::check::{self, Check, Stored};
use super::keys::{Form, Key, Keys, Loaded, PREFIX, PROGRESS, Purpose, seal, tag_of, unseal};
use super::look::is_guessable;
use super::view::beside_the_seal;
use crate::contract::{MaterialChange, Part, Put, RecordNumber, Span, Store, Transaction};
use crate::error::{Error, ErrorKind, Result};
use keyferry_kmip::Crypto;
use std::ops::ControlFlow;

/// The number of state rows or records that one transaction migrates.
const PAGE: usize = 256;

/// How far a migration has come.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// The state is sealed up to this key; it is the first key that is not.
    State(Vec<u8>),
    /// The records with feed entries up to the first number have checks; the second is the last one to go through.
    Feed(u64, u64),
}

impl Progress {
    fn encoded(&self) -> Vec<u8> {
        match self {
            Progress::State(next) => [&[1], next.as_slice()].concat(),
            Progress::Feed(done, end) => {
                [&[2][..], &done.to_be_bytes(), &end.to_be_bytes()].concat()
            }
        }
    }

    fn decode(bytes: &[u8]) -> Option<Progress> {
        match bytes.split_first()? {
            (1, next) => Some(Progress::State(next.to_vec())),
            (2, numbers) => {
                let (done, end) = numbers.split_first_chunk()?;
                let end = end.try_into().ok()?;
                Some(Progress::Feed(
                    u64::from_be_bytes(*done),
                    u64::from_be_bytes(end),
                ))
            }
            _ => None,
        }
    }
}

/// A migration in one of its transactions.
struct Migration<'a> {
    crypto: &'a dyn Crypto,
    /// The data key that seals, and its number.
    key: (u32, &'a Key),
}

/// Migrates the store, if it is sealed in the form before.
pub(super) fn migrate(store: &dyn Store, crypto: &dyn Crypto, outer: &Key) -> Result<()> {
    let mut is_done = false;
    while !is_done {
        store.write(&mut |tx| {
            let Loaded { data, form } = Loaded::from(outer, crypto, tx)?;
            let keys = Keys {
                outer: outer.clone(),
                data,
                incarnation: tx.head()?.incarnation,
            };
            is_done = form != Some(Form::MaterialAlone);
            if is_done {
                return Ok(());
            }
            let key = keys.newest()?;
            if (Migration { crypto, key }).step(tx)? {
                keys.store(crypto, tx)?;
                is_done = true;
            }
            Ok(())
        })?;
    }
    Ok(())
}

impl Migration<'_> {
    /// Does one page; returns whether that was the last.
    fn step(&self, tx: &mut dyn Transaction) -> Result<bool> {
        let next = match self.progress(tx)? {
            Progress::State(from) => match self.seal_state(tx, from)? {
                Some(next) => Progress::State(next),
                None => Progress::Feed(0, tx.head()?.number),
            },
            Progress::Feed(done, end) => match self.check_records(tx, done, end)? {
                Some(done) => Progress::Feed(done, end),
                None => {
                    tx.set_state(&progress_name(), None)?;
                    return Ok(true);
                }
            },
        };
        let name = progress_name();
        let sealed = seal(
            self.crypto,
            self.key,
            Purpose::State,
            &name,
            &next.encoded(),
        )?;
        tx.set_state(&name, Some(&sealed))?;
        Ok(false)
    }

    fn progress(&self, tx: &dyn Transaction) -> Result<Progress> {
        let name = progress_name();
        let mut progress = Some(Progress::State(Vec::new()));
        tx.state(&Span::exact(&name), &mut |_, sealed| {
            progress = unseal(self.crypto, self.key.1, Purpose::State, &name, sealed)
                .and_then(|plain| Progress::decode(&plain));
            Ok(ControlFlow::Break(()))
        })?;
        progress.ok_or_else(|| {
            Error::new(
                ErrorKind::Corrupt,
                "the place that the migration of the seal has come to is not what was written there",
            )
        })
    }

    /// Seals a page of the state; returns the key from which the next one goes on.
    fn seal_state(&self, tx: &mut dyn Transaction, from: Vec<u8>) -> Result<Option<Vec<u8>>> {
        let mut page = Vec::new();
        for part in beside_the_seal(&Span { from, to: None }).iter().flatten() {
            if page.len() < PAGE {
                tx.state(part, &mut |key, value| {
                    page.push((key.to_vec(), value.to_vec()));
                    Ok(match page.len() < PAGE {
                        true => ControlFlow::Continue(()),
                        false => ControlFlow::Break(()),
                    })
                })?;
            }
        }
        for (key, value) in &page {
            let sealed = seal(self.crypto, self.key, Purpose::State, key, value)?;
            tx.set_state(key, Some(&sealed))?;
        }
        Ok(page.pop().map(|(mut last, _)| {
            last.push(0);
            last
        }))
    }

    /// Gives a page of records their checks; returns the last feed number of the page.
    ///
    /// A record whose attributes get sealed is put again as it was, and its feed entry moves up behind `end`.
    fn check_records(&self, tx: &mut dyn Transaction, done: u64, end: u64) -> Result<Option<u64>> {
        let mut page = Vec::new();
        tx.feed(done, &mut |row| {
            if row.number <= end && page.len() < PAGE {
                page.push((row.number, row.record, row.entry.to_vec()));
                return Ok(ControlFlow::Continue(()));
            }
            Ok(ControlFlow::Break(()))
        })?;
        for (_, record, entry) in &page {
            self.check_record(tx, *record, entry)?;
        }
        Ok(page.last().map(|(number, ..)| *number))
    }

    fn check_record(
        &self,
        tx: &mut dyn Transaction,
        number: RecordNumber,
        entry: &[u8],
    ) -> Result<()> {
        let row = tx
            .get(number, Part::Whole)?
            .ok_or_else(|| check::corrupt(number, "it has a feed entry, and does not exist"))?;
        let sealed = is_guessable(&row.attributes)
            .then(|| {
                seal(
                    self.crypto,
                    self.key,
                    Purpose::Attributes,
                    &row.id,
                    &row.attributes,
                )
            })
            .transpose()?;
        let attributes = sealed.as_ref().unwrap_or(&row.attributes);
        let stored = Stored {
            number,
            id: &row.id,
            attributes,
            is_sealed: sealed.is_some(),
            material: row.material.as_ref().map(|material| tag_of(material)),
        };
        let check = Check::new(self.crypto, self.key, stored, entry);
        if sealed.is_some() {
            tx.put(&[Put {
                number: Some(number),
                id: &row.id,
                attributes,
                material: MaterialChange::Keep,
                remove: &[],
                insert: &[],
                entry,
            }])?;
        }
        tx.set_state(&check::name(number.0), Some(&check.encoded()))
    }
}

fn progress_name() -> Vec<u8> {
    [PREFIX, &[PROGRESS]].concat()
}
