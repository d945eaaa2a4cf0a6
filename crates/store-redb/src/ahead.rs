use crate::medium::View;
use keyferry_store::Result;
use redb::{AccessGuard, Range, ReadOnlyTable};
use std::ops::Bound;

type Bytes = &'static [u8];
type Guard = AccessGuard<'static, Bytes>;

/// Gets the values of a table that is asked for one number after the other, as scans and readers of the feed do, without a walk from the
/// root for each.
#[derive(Default)]
pub(crate) struct Ahead {
    last: Option<u64>,
    run: Option<Run>,
}

/// Entries in the direction in which they were asked for.
struct Run {
    range: Range<'static, u64, Bytes>,
    rising: bool,
    /// An entry beyond the last number asked for.
    met: Option<(u64, Guard)>,
}

/// A step of so many numbers still belongs to a run.
const STEP: u64 = 4;

impl Ahead {
    pub(crate) fn get(
        &mut self,
        view: View<'_>,
        table: &ReadOnlyTable<u64, Bytes>,
        number: u64,
    ) -> Result<Option<Guard>> {
        let last = self.last.replace(number);
        let rising = match last.map(|last| (number > last, number.abs_diff(last))) {
            Some((rising, 1..=STEP)) => rising,
            _ => {
                self.run = None;
                return table.get(number).map_err(|e| view.explain(e));
            }
        };
        let mut run = match self.run.take() {
            Some(run) if run.rising == rising => run,
            _ => {
                let bounds = match rising {
                    true => (Bound::Included(number), Bound::Unbounded),
                    false => (Bound::Unbounded, Bound::Included(number)),
                };
                let range = table.range::<u64>(bounds).map_err(|e| view.explain(e))?;
                Run {
                    range,
                    rising,
                    met: None,
                }
            }
        };
        let found = run.seek(view, number)?;
        self.run = Some(run);
        Ok(found)
    }
}

impl Run {
    fn seek(&mut self, view: View<'_>, number: u64) -> Result<Option<Guard>> {
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
                    let (key, value) = next.map_err(|e| view.explain(e))?;
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
