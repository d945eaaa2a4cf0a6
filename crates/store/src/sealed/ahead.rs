//! This module reads check rows of neighbouring records together, where one look-up for each would cost a backend more.

use super::check;
use crate::contract::{Snapshot, Span};
use crate::error::Result;
use std::collections::HashMap;
use std::ops::ControlFlow;

/// The largest step between two numbers that counts as going on in one direction.
const STEP: u64 = 4;
/// The most check rows that are read together.
const MOST: u64 = 256;

/// The most numbers that are remembered.
const REMEMBERED: usize = 4096;

/// Check rows that were read, as they stand in the wrapped store.
#[derive(Default)]
pub(super) struct Ahead {
    last: Option<u64>,
    /// The number of rows to read together; it grows while questions go on in one direction.
    run: u64,
    rising: bool,
    /// The rows that were read, by record numbers; `None` where there is none.
    rows: HashMap<u64, Option<Vec<u8>>>,
}

impl Ahead {
    /// The check row of a record, if it was read already: the inner `Option` says whether there is one.
    pub(super) fn known(&mut self, number: u64) -> Option<Option<Vec<u8>>> {
        let last = self.last.replace(number);
        if let Some(row) = self.rows.get(&number) {
            return Some(row.clone());
        }
        let goes_on = last.is_some_and(|last| number != last && number.abs_diff(last) <= STEP);
        self.rising = last.is_none_or(|last| number >= last);
        self.run = match goes_on {
            true => self.run.saturating_mul(2).clamp(2, MOST),
            false => 1,
        };
        None
    }

    /// Reads the check row of the record that was last asked for, and those that may be asked for next.
    pub(super) fn read(&mut self, at: &dyn Snapshot) -> Result<Option<Vec<u8>>> {
        let number = self.last.unwrap_or_default();
        let (first, last) = match self.rising {
            true => (number, number.saturating_add(self.run - 1)),
            false => (number.saturating_sub(self.run - 1), number),
        };
        if self.rows.len() >= REMEMBERED {
            self.rows.clear();
        }
        self.rows
            .extend((first..=last).map(|number| (number, None)));
        let span = match first == last {
            true => Span::exact(&check::name(first)),
            false => check::span(first, last.checked_add(1)),
        };
        let read = at.state(&span, &mut |name, row| {
            if let Some(number) = check::number(name) {
                self.rows.insert(number, Some(row.to_vec()));
            }
            Ok(ControlFlow::Continue(()))
        });
        if read.is_err() {
            // What was not reached is not missing.
            self.rows.clear();
        }
        read?;
        Ok(self.rows.get(&number).cloned().flatten())
    }
}
