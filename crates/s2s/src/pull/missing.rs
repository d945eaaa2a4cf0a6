//! What a pull names that is held here of a server and that the server did not show.

use crate::error::{Error, Result};
use crate::pull::Pull;
use crate::report::NAMED;
use crate::session::SessionContext;
use keyferry_store::{Cursor, Index, Order, Record, Snapshot, SnapshotExt, Span, StoreExt};
use std::ops::ControlFlow;

/// Records that are looked at in one view of the store.
const RECORDS: usize = 250;

impl Pull {
    /// Names what is held here of this server and was not seen there ([rule 6](crate::design#rule-6)).
    pub(super) fn name_what_was_not_shown(&mut self, cx: &SessionContext<'_>) -> Result<()> {
        if self.observing.is_some() {
            return self.name_missing(cx);
        }
        let Some(listing) = &self.listing else {
            return Ok(());
        };
        if !self.options.selection.is_everything() || !listing.unseen.is_empty() {
            return Ok(());
        }
        let mut after: Option<Cursor> = None;
        loop {
            let (missing, last) = cx.store.view::<_, Error>(|snapshot| {
                let (records, last) = next_records(snapshot, after.as_ref())?;
                let missing: Vec<String> = records
                    .into_iter()
                    .filter(|record| {
                        self.options.is_of_source(record)
                            && !record.is_destroyed()
                            && !listing.seen.has(&record.id.identifier)
                    })
                    .map(|record| record.identifier.to_string())
                    .collect();
                Ok((missing, last))
            })?;
            let room = NAMED.saturating_sub(self.ledger.report.missing.len());
            self.ledger
                .report
                .missing
                .extend(missing.into_iter().take(room));
            match last {
                Some(last) if room > 0 => after = Some(last),
                _ => return Ok(()),
            }
        }
    }
}

/// The next records by arrival, and the place where they end; `None` at the end of all.
pub(super) fn next_records(
    snapshot: &dyn Snapshot,
    after: Option<&Cursor>,
) -> Result<(Vec<Record>, Option<Cursor>)> {
    let (mut numbers, mut last) = (Vec::new(), None);
    snapshot.scan(
        Index::ARRIVAL,
        &Span::all(),
        Order::Ascending,
        after,
        &mut |key, number| {
            numbers.push(number);
            last = Some(Cursor {
                key: key.to_vec(),
                number,
            });
            Ok(if numbers.len() < RECORDS {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        },
    )?;
    let mut records = Vec::with_capacity(numbers.len());
    for number in numbers {
        records.extend(snapshot.record(number)?);
    }
    Ok((records, last))
}
