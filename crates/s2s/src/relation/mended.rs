//! What leads to a record, its index entries and its feed entry, is made anew from the record where it has rotted ([rule 17](crate::design#rule-17)).

use crate::error::{Error, Result};
use crate::feed::entries;
use crate::relation::rotten::{Scrub, readable};
use keyferry_store::{
    Cursor, Effects, ErrorKind, IndexKey, Material, Order, Record, RecordNumber, Snapshot,
    SnapshotExt, Span, Store, StoreExt, index,
};
use std::error::Error as StdError;
use std::ops::ControlFlow;

/// What makes the entries of a record anew, and counts it; `None` where the record itself can't be read.
pub(crate) fn made_anew(snapshot: &dyn Snapshot, number: RecordNumber) -> Result<Option<Effects>> {
    let (Some(record), Some(remains)) = (
        readable(snapshot.record(number))?.flatten(),
        snapshot.remains(number)?,
    ) else {
        return Ok(None);
    };
    let mut effects = Effects::replacing(number, remains, record, Material::Keep);
    let mut scrub = Scrub::of(snapshot)?;
    scrub.mended = Some(scrub.mended.unwrap_or(0).saturating_add(1));
    effects.state.push(scrub.entry()?);
    Ok(Some(effects))
}

/// The record that an error is about because what leads to it, or the record itself, has rotted.
pub(crate) fn damaged_record(error: &(dyn StdError + 'static)) -> Option<RecordNumber> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<keyferry_store::Error>() {
            let number = error.record().map(RecordNumber);
            return number.filter(|_| error.kind() == ErrorKind::Corrupt);
        }
        next = error.source();
    }
    None
}

/// Makes what leads to a record anew after an error that says that it has rotted; `false` where that is not what has failed, or the record can't be read.
pub(crate) fn mend_after(store: &dyn Store, error: &(dyn StdError + 'static)) -> Result<bool> {
    let Some(number) = damaged_record(error) else {
        return Ok(false);
    };
    mend(store, number)
}

/// Makes what leads to a record anew; `false` where the record can't be read.
pub(crate) fn mend(store: &dyn Store, number: RecordNumber) -> Result<bool> {
    store.transact::<_, Error>(|transaction| match made_anew(transaction, number)? {
        Some(effects) => Ok(effects.apply(transaction).map(|_| true)?),
        None => Ok(false),
    })
}

/// Whether each index entry that a record should have leads to it.
pub(crate) fn is_indexed(
    snapshot: &dyn Snapshot,
    number: RecordNumber,
    record: &Record,
) -> keyferry_store::Result<bool> {
    for key in index::keys(record)? {
        if readable(leads_to(snapshot, &key, number))? != Some(true) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn leads_to(
    snapshot: &dyn Snapshot,
    key: &IndexKey,
    number: RecordNumber,
) -> keyferry_store::Result<bool> {
    let span = Span::exact(&key.key);
    let before = number.0.checked_sub(1).map(|last| Cursor {
        key: key.key.to_vec(),
        number: RecordNumber(last),
    });
    let mut found = false;
    let order = Order::Ascending;
    snapshot.scan(key.index, &span, order, before.as_ref(), &mut |_, of| {
        found = of == number;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

/// Reads `most` entries of the feed behind a number, and makes those anew that have rotted. Returns the number to go on behind, 0 at the end.
///
/// Nothing is skipped: an entry that can't be made anew, because its record can't be read either, is met again each time.
pub(crate) fn mend_feed(store: &dyn Store, after: u64, most: usize) -> Result<u64> {
    // An entry that is made anew goes to the end of the feed.
    for _ in 0..most {
        let read = store.view::<_, Error>(|snapshot| entries(snapshot, after, most));
        let rows = match read {
            Ok(rows) => rows,
            Err(error) if mend_after(store, &error)? => continue,
            Err(error) if damaged_record(&error).is_some() => return Ok(after),
            Err(error) => return Err(error),
        };
        let last = rows.last().filter(|_| rows.len() >= most);
        return Ok(last.map_or(0, |(place, _)| *place));
    }
    Ok(after)
}
