//! Reading the feed of a store: which records changed, in the order of the commits.

use crate::error::Result;
use keyferry_kmip::DateTime;
use keyferry_kmip::spec::tag;
use keyferry_store::{RecordNumber, Snapshot, SnapshotExt};
use std::ops::ControlFlow;

/// The numbers and records of the feed entries behind the number `after`, at most `most` of them.
pub(crate) fn entries(
    snapshot: &dyn Snapshot,
    after: u64,
    most: usize,
) -> Result<Vec<(u64, RecordNumber)>> {
    let mut entries = Vec::new();
    snapshot.feed(after, &mut |row| {
        entries.push((row.number, row.record));
        Ok(if entries.len() < most {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    Ok(entries)
}

/// How many seconds ago the first change behind the number `after` was made. `None` when there is no such change.
pub(crate) fn seconds_waiting(
    snapshot: &dyn Snapshot,
    after: u64,
    now: DateTime,
) -> Result<Option<u64>> {
    let Some((_, number)) = entries(snapshot, after, 1)?.pop() else {
        return Ok(None);
    };
    let Some(record) = snapshot.record(number)? else {
        return Ok(None);
    };
    let changed = record.attributes.date(tag::LAST_CHANGE_DATE).unwrap_or(now);
    let seconds = now.0.saturating_sub(changed.0);
    Ok(Some(u64::try_from(seconds).unwrap_or(0)))
}
