//! What a pull names that is held here of a server and that the server did not show.

use crate::error::{Error, Result};
use crate::pull::Pull;
use crate::report::NAMED;
use crate::session::SessionContext;
use keyferry_store::{Cursor, Index, Order, SnapshotExt, Span, StoreExt};
use std::ops::ControlFlow;

/// Records that are looked at in one view of the store.
const RECORDS: usize = 250;

impl Pull {
    /// Names what is held here of this server and was not seen there (DESIGN: rule 6).
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
            let (mut last, mut missing) = (None, Vec::new());
            cx.store.view::<_, Error>(|snapshot| {
                (last, missing) = (None, Vec::new());
                let mut numbers = Vec::new();
                snapshot.scan(
                    Index::ARRIVAL,
                    &Span::all(),
                    Order::Ascending,
                    after.as_ref(),
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
                for number in numbers {
                    let Some(record) = snapshot.record(number)? else {
                        continue;
                    };
                    let is_of = record.id.server == self.options.from.server
                        && record.id.instance == self.options.instance;
                    if is_of && !record.is_destroyed() && !listing.seen.has(&record.id.identifier) {
                        missing.push(record.identifier.to_string());
                    }
                }
                Ok(())
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
