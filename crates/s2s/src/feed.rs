use crate::error::Result;
use keyferry_store::{RecordNumber, Snapshot};
use std::ops::ControlFlow;

/// The next feed entries, so many at the most: their numbers and records.
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
