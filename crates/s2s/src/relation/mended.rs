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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing::{TestServer, rewrite};
    use keyferry_store::MaterialChange;

    fn filled(records: usize) -> TestServer {
        let server = TestServer::new(|peer| peer);
        (1..=records).for_each(|n| drop(server.key(&"x".repeat(n), Vec::new())));
        server
    }

    #[test]
    fn a_feed_without_damage_is_read_in_parts_and_changed_nowhere() {
        let server = filled(5);
        let head = || server.store.view(|snapshot| snapshot.head()).unwrap();
        let before = head();
        let parts: Vec<u64> = [(0, 2), (2, 2), (4, 2), (0, 5), (5, 5), (0, 6)]
            .map(|(after, most)| mend_feed(&server.store, after, most).unwrap())
            .into();
        assert_eq!(parts, [2, 4, 0, 5, 0, 0]);
        assert_eq!(head(), before);
        assert_eq!(
            server.asking(|ask| Scrub::of(ask.snapshot)).unwrap().mended,
            None
        );
    }

    /// Takes index entries away from a record.
    fn reindex(server: &TestServer, number: RecordNumber, remove: &[IndexKey]) {
        server
            .store
            .transact::<_, keyferry_store::Error>(|at| {
                rewrite(at, number, |_, _| {}, (remove, MaterialChange::Keep))
            })
            .unwrap();
    }

    #[test]
    fn each_index_entry_that_is_missing_is_missed_and_made_anew() {
        let server = filled(4);
        let all: Vec<(RecordNumber, Record)> = (1..=4)
            .map(|n| {
                let name = "x".repeat(n);
                let found = server.asking(|ask| ask.snapshot.by_identifier(&name));
                found.unwrap().unwrap()
            })
            .collect();
        let is_indexed = |number, record: &Record| {
            server.asking(|ask| is_indexed(ask.snapshot, number, record).unwrap())
        };
        let mut mended = 0;
        for (number, record) in &all {
            assert!(is_indexed(*number, record));
            for key in index::keys(record).unwrap() {
                reindex(&server, *number, std::slice::from_ref(&key));
                assert!(!is_indexed(*number, record), "{key:?}");
                // Those of the others lead to them still.
                let others = all.iter().filter(|(other, _)| other != number);
                assert!(
                    others
                        .clone()
                        .all(|(number, record)| is_indexed(*number, record))
                );
                assert!(mend(&server.store, *number).unwrap());
                assert!(is_indexed(*number, record), "{key:?}");
                mended += 1;
            }
        }
        let scrub = server.asking(|ask| Scrub::of(ask.snapshot)).unwrap();
        assert_eq!((scrub.mended, scrub.found), (Some(mended), 0));
        // There is nothing to be made anew of what is not there.
        assert!(!mend(&server.store, RecordNumber(99)).unwrap());
    }

    #[test]
    fn only_damage_to_one_record_is_mended() {
        let of = |kind| keyferry_store::Error::new(kind, "on order");
        let damaged = of(ErrorKind::Corrupt).about_record(3);
        assert_eq!(damaged_record(&damaged), Some(RecordNumber(3)));
        let caused: Error = of(ErrorKind::Corrupt).about_record(4).into();
        assert_eq!(damaged_record(&caused), Some(RecordNumber(4)));
        assert_eq!(damaged_record(&of(ErrorKind::Corrupt)), None);
        assert_eq!(damaged_record(&of(ErrorKind::Io).about_record(3)), None);
        let server = filled(1);
        assert!(!mend_after(&server.store, &of(ErrorKind::Io)).unwrap());
    }
}
