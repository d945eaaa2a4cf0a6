use crate::error::{Error, ErrorKind, Result};
use crate::feed::entries;
use crate::selection::ChosenObjects;
use keyferry_kmip::Object;
use keyferry_store::{Record, RecordNumber, Snapshot, SnapshotExt, Store, StoreExt};

/// Objects of the feed that go into one message or segment.
#[derive(Debug)]
#[non_exhaustive]
pub struct FeedPage {
    /// The objects, in the order of the feed. One that is destroyed has no material, nor has one that is only told of.
    pub objects: Vec<(RecordNumber, Record, Option<Object>)>,
    /// The feed number behind which it ends.
    pub end: u64,
}

/// Whether an object that was not chosen is told of all the same, without its material. Asked of each such object.
pub type IncludeUnselected<'a> =
    dyn FnMut(&dyn Snapshot, RecordNumber, &Record) -> Result<bool> + 'a;

/// Stretches of the feed without a selected object that are passed over at a time.
const PASSED: usize = 20;

impl FeedPage {
    /// Reads what stands behind the feed number `after` and was chosen, or is told of: so many objects at the most, and about so many bytes
    /// of them. `None` at the end of the feed; a stretch may have no objects.
    ///
    /// # Errors
    /// Those of the store and of `tells`.
    pub fn read(
        store: &dyn Store,
        after: u64,
        most: usize,
        bytes: usize,
        chosen: &ChosenObjects,
        tells: &mut IncludeUnselected<'_>,
    ) -> Result<Option<FeedPage>> {
        let mut objects = Vec::new();
        let end = store.view::<_, Error>(|snapshot| {
            objects.clear();
            let (mut end, mut size) = (after, 0);
            for _ in 0..PASSED {
                let numbers = entries(snapshot, end, most)?;
                if numbers.is_empty() {
                    break;
                }
                for (number, of) in numbers {
                    end = number;
                    if !chosen.has_all() {
                        let record = snapshot.record(of)?.ok_or_else(|| lacking(number))?;
                        if !chosen.has(of, &record) {
                            // Its material is not even unsealed.
                            if tells(snapshot, of, &record)? {
                                size += 600;
                                objects.push((of, record, None));
                            }
                            continue;
                        }
                    }
                    let (record, object) = snapshot.whole(of)?.ok_or_else(|| lacking(number))?;
                    if record.is_withdrawn() {
                        continue;
                    }
                    size += 600 + object.as_ref().map_or(0, Object::material_len);
                    objects.push((of, record, object));
                    if size >= bytes {
                        break;
                    }
                }
                if !objects.is_empty() {
                    break;
                }
            }
            Ok(end)
        })?;
        Ok((end != after).then_some(FeedPage { objects, end }))
    }

    /// How many objects all stretches would have now, from the beginning of the feed.
    ///
    /// # Errors
    /// As [`FeedPage::read`].
    pub fn count(
        store: &dyn Store,
        chosen: &ChosenObjects,
        tells: &mut IncludeUnselected<'_>,
    ) -> Result<u64> {
        if chosen.has_all() {
            return store.view(|snapshot| Ok(snapshot.count()?));
        }
        let (mut count, mut after) = (0, 0);
        loop {
            let (found, end) = store.view::<_, Error>(|snapshot| {
                let (mut found, mut end) = (0, after);
                for (number, of) in entries(snapshot, after, COUNTED)? {
                    end = number;
                    let record = snapshot.record(of)?.ok_or_else(|| lacking(number))?;
                    found += u64::from(chosen.has(of, &record) || tells(snapshot, of, &record)?);
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

/// Records that are counted in one view of the store.
const COUNTED: usize = 1000;

fn lacking(number: u64) -> Error {
    Error::new(
        ErrorKind::Store,
        format_args!("the feed names an object at {number} that the store does not hold"),
    )
}
