//! Pages of the feed: the objects that one message or one segment of a bundle carries.

use crate::error::{Error, ErrorKind, Result};
use crate::feed::entries;
use crate::selection::ChosenObjects;
use crate::transport_key::is_transport_key;
use keyferry_kmip::Object;
use keyferry_store::{Record, RecordNumber, Snapshot, SnapshotExt, Store, StoreExt};

/// A page of the feed: the objects that go into one message or segment.
#[derive(Debug)]
#[non_exhaustive]
pub struct FeedPage {
    /// The objects, in the order of the feed. An object that is destroyed has no material, and neither has one that was not chosen.
    pub objects: Vec<(RecordNumber, Record, Option<Object>)>,
    /// The feed number of the page's last entry: the next page begins behind it.
    pub end: u64,
}

/// A callback that decides, for each object that was not chosen, whether the page has it all the same, without its material.
pub type IncludeUnselected<'a> =
    dyn FnMut(&dyn Snapshot, RecordNumber, &Record) -> Result<bool> + 'a;

/// The number of reads of the feed without a selected object after which a page ends empty.
const MAX_EMPTY_READS: usize = 20;

/// The number of records that are counted in one view of the store.
const RECORDS_PER_COUNT: usize = 1000;

/// About how many bytes the attributes of an object take in a message.
const ATTRIBUTE_BYTES: usize = 600;

/// About how many bytes an object takes in a message: its material, and an allowance for its attributes.
pub(crate) fn estimated_size(object: Option<&Object>) -> usize {
    ATTRIBUTE_BYTES + object.map_or(0, Object::material_len)
}

impl FeedPage {
    /// Reads the next page behind the feed number `after`: what was chosen, and what `include` asks for. A page has at most `most` objects, and
    /// about `bytes` bytes of them. The result is `None` at the end of the feed; a page before that may have no objects.
    ///
    /// # Errors
    /// Those of the store and of `include`.
    pub fn read(
        store: &dyn Store,
        after: u64,
        most: usize,
        bytes: usize,
        chosen: &ChosenObjects,
        include: &mut IncludeUnselected<'_>,
    ) -> Result<Option<FeedPage>> {
        let page = store.view::<_, Error>(|snapshot| {
            let objects = Vec::new();
            let mut page = FeedPage {
                objects,
                end: after,
            };
            for _ in 0..MAX_EMPTY_READS {
                let rows = entries(snapshot, page.end, most)?;
                if rows.is_empty() {
                    break;
                }
                page.fill(snapshot, rows, bytes, chosen, include)?;
                if !page.objects.is_empty() {
                    break;
                }
            }
            Ok(page)
        })?;
        Ok((page.end != after).then_some(page))
    }

    /// Adds the objects of feed entries until they have about `bytes` bytes.
    fn fill(
        &mut self,
        snapshot: &dyn Snapshot,
        rows: Vec<(u64, RecordNumber)>,
        bytes: usize,
        chosen: &ChosenObjects,
        include: &mut IncludeUnselected<'_>,
    ) -> Result<()> {
        let mut size = 0;
        for (number, of) in rows {
            self.end = number;
            if !chosen.has_all() {
                let record = snapshot.record(of)?.ok_or_else(|| lacking(number))?;
                if !chosen.has(of, &record) {
                    // Its material is not even unsealed.
                    if include(snapshot, of, &record)? {
                        size += estimated_size(None);
                        self.objects.push((of, record, None));
                    }
                    continue;
                }
            }
            let (record, object) = snapshot.whole(of)?.ok_or_else(|| lacking(number))?;
            if record.is_withdrawn() || is_transport_key(&record) {
                continue;
            }
            size += estimated_size(object.as_ref());
            self.objects.push((of, record, object));
            if size >= bytes {
                break;
            }
        }
        Ok(())
    }

    /// Counts the objects that all pages together would have now, from the beginning of the feed.
    ///
    /// # Errors
    /// As [`FeedPage::read`].
    pub fn count(
        store: &dyn Store,
        chosen: &ChosenObjects,
        include: &mut IncludeUnselected<'_>,
    ) -> Result<u64> {
        if chosen.has_all() {
            return store.view(|snapshot| Ok(snapshot.count()?));
        }
        let (mut count, mut after) = (0, 0);
        loop {
            let (found, end) = store.view::<_, Error>(|snapshot| {
                let (mut found, mut end) = (0, after);
                for (number, of) in entries(snapshot, after, RECORDS_PER_COUNT)? {
                    end = number;
                    let record = snapshot.record(of)?.ok_or_else(|| lacking(number))?;
                    found += u64::from(chosen.has(of, &record) || include(snapshot, of, &record)?);
                }
                Ok((found, end))
            })?;
            if end == after {
                return Ok(count);
            }
            count += found;
            after = end;
        }
    }
}

/// The error of a feed that names an object which the store does not have.
fn lacking(number: u64) -> Error {
    Error::new(
        ErrorKind::Store,
        format_args!("the feed names an object at {number} that the store does not hold"),
    )
}
