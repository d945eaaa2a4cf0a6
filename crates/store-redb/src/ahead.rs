//! This module reads neighbouring values of a table with one cursor, where one look-up for each would walk from the root.

use crate::failure::Failure;
use keyferry_store::Result;
use redb::{AccessGuard, Range, ReadOnlyTable};
use std::ops::Bound;

type Bytes = &'static [u8];
type Guard = AccessGuard<'static, Bytes>;

/// A reader of one table that expects to be asked for neighbouring numbers, as scans and readers of the feed do.
#[derive(Default)]
pub(crate) struct Ahead {
    last: Option<u64>,
    run: Option<Run>,
}

/// A cursor that moves in the direction of the questions.
struct Run {
    range: Range<'static, u64, Bytes>,
    rising: bool,
    /// The entry that the cursor met beyond the last number asked for.
    met: Option<(u64, Guard)>,
}

/// The largest step between two numbers for which the cursor is moved on; a larger one is looked up.
const STEP: u64 = 4;

impl Ahead {
    /// Returns the value of `number`.
    pub(crate) fn get(
        &mut self,
        table: &ReadOnlyTable<u64, Bytes>,
        number: u64,
    ) -> Result<Option<Guard>, Failure> {
        let last = self.last.replace(number);
        let rising = match last.map(|last| (number > last, number.abs_diff(last))) {
            Some((rising, 1..=STEP)) => rising,
            _ => {
                self.run = None;
                return Ok(table.get(number)?);
            }
        };
        let mut run = match self.run.take() {
            Some(run) if run.rising == rising => run,
            _ => {
                let bounds = match rising {
                    true => (Bound::Included(number), Bound::Unbounded),
                    false => (Bound::Unbounded, Bound::Included(number)),
                };
                let range = table.range::<u64>(bounds)?;
                Run {
                    range,
                    rising,
                    met: None,
                }
            }
        };
        let found = run.seek(number)?;
        self.run = Some(run);
        Ok(found)
    }
}

impl Run {
    /// Moves on to `number` and returns its value.
    fn seek(&mut self, number: u64) -> Result<Option<Guard>, Failure> {
        loop {
            let (met, value) = match self.met.take() {
                Some(met) => met,
                None => {
                    let next = if self.rising {
                        self.range.next()
                    } else {
                        self.range.next_back()
                    };
                    let Some(next) = next else { return Ok(None) };
                    let (key, value) = next?;
                    (key.value(), value)
                }
            };
            if met == number {
                return Ok(Some(value));
            }
            if (met > number) == self.rising {
                self.met = Some((met, value));
                return Ok(None);
            }
        }
    }
}
