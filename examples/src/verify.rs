//! Compares two servers object by object, over the wire.

use crate::Result;
use keyferry_kmip::spec::{AttributeValue, BatchErrorContinuationOption, StorageStatusMask};
use keyferry_kmip::*;
use keyferry_net::blocking::Client;
use keyferry_store::{Cursor, Index, Order, RecordNumber, SnapshotExt, Span, Store, StoreExt};
use keyferry_ttlv::{Extra, Version};
use std::ops::ControlFlow;

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Objects compared.
    pub objects: u64,
    /// Attribute instances compared.
    pub attributes: u64,
    /// Bytes of material compared.
    pub material: u64,
    /// Objects that differ or are missing.
    pub differences: u64,
    /// The first differences in words.
    pub examples: Vec<String>,
}

impl Comparison {
    fn differs(&mut self, identifier: &str, how: String) {
        self.differences += 1;
        if self.examples.len() < 10 {
            self.examples.push(format!("{identifier}: {how}"));
        }
    }
}

const PAGE: usize = 200;

/// Exports every object of `store`'s server and of the other one, and compares all attributes and the material. Then asks the other
/// server whether it has any more.
///
/// # Errors
/// When a server does not answer.
pub fn compare(
    store: &dyn Store,
    one: &mut Client,
    other: &mut Client,
    mut progress: impl FnMut(u64),
) -> Result<Comparison> {
    let mut found = Comparison::default();
    let mut after = None;
    loop {
        let identifiers = page(store, &mut after)?;
        if identifiers.is_empty() {
            break;
        }
        let request = exports(&identifiers)?;
        let (left, right) = std::thread::scope(|scope| {
            let left = scope.spawn(|| one.call_all(&request));
            let right = other.call_all(&request);
            (left.join(), right)
        });
        let left = left.map_err(|_| "the comparison's thread failed")??;
        let right = right?;
        let mut names = identifiers.iter();
        for (left, right) in left.iter().zip(&right) {
            let (left, right) = (
                ResponseMessage::from_frame(left)?,
                ResponseMessage::from_frame(right)?,
            );
            if left.batch.len() != right.batch.len() {
                return Err("the servers answer a different number of items".into());
            }
            for ((left, right), identifier) in left.batch.iter().zip(&right.batch).zip(&mut names) {
                one_object(&mut found, identifier, left, right)?;
            }
        }
        progress(found.objects);
    }
    surplus(&mut found, other)?;
    Ok(found)
}

/// The next identifiers in the order of arrival.
fn page(store: &dyn Store, after: &mut Option<Cursor>) -> Result<Vec<Text>> {
    let mut numbers: Vec<RecordNumber> = Vec::new();
    let identifiers = store.view::<_, keyferry_store::Error>(|snapshot| {
        numbers.clear();
        snapshot.scan(
            Index::ARRIVAL,
            &Span::all(),
            Order::Ascending,
            after.as_ref(),
            &mut |_, number| {
                numbers.push(number);
                Ok(if numbers.len() < PAGE * 4 {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            },
        )?;
        let mut identifiers = Vec::with_capacity(numbers.len());
        for number in &numbers {
            identifiers.extend(snapshot.record(*number)?.map(|record| record.identifier));
        }
        Ok(identifiers)
    })?;
    if let Some(last) = numbers.last() {
        *after = Some(Cursor {
            key: last.0.to_be_bytes().to_vec(),
            number: *last,
        });
    }
    Ok(identifiers)
}

fn exports(identifiers: &[Text]) -> Result<Vec<keyferry_ttlv::Frame>> {
    let cx = context(Version::V2_1);
    let mut frames = Vec::new();
    for chunk in identifiers.chunks(PAGE) {
        let mut items = Vec::with_capacity(chunk.len());
        for identifier in chunk {
            let export = ExportRequest {
                unique_identifier: Some(identifier.clone().into()),
                key_format_type: None,
                key_wrap_type: None,
                key_compression_type: None,
                key_wrapping_specification: None,
                extra: Extra::NONE,
            };
            items.push(RequestItem::new(&export, cx)?);
        }
        let mut message = RequestMessage::new(Version::V2_1, items);
        message.header.batch_error_continuation_option =
            Some(BatchErrorContinuationOption::CONTINUE);
        frames.push(message.to_frame()?);
    }
    Ok(frames)
}

fn one_object(
    found: &mut Comparison,
    identifier: &str,
    left: &ResponseItem,
    right: &ResponseItem,
) -> Result {
    let cx = context(Version::V2_1);
    found.objects += 1;
    if !left.is_success() {
        found.differs(
            identifier,
            format!(
                "the first server does not export it: {:?}",
                left.result_message
            ),
        );
        return Ok(());
    }
    if !right.is_success() {
        found.differs(
            identifier,
            format!(
                "the second server does not export it: {:?}",
                right.result_message
            ),
        );
        return Ok(());
    }
    let (left, right): (ExportResponse, ExportResponse) = (left.payload(cx)?, right.payload(cx)?);
    let sorted = |attributes: &Attributes| {
        let mut values: Vec<AttributeValue> = attributes.iter().map(|a| a.value.clone()).collect();
        values.sort_by_cached_key(|value| format!("{value:?}"));
        values
    };
    let (ours, theirs) = (sorted(&left.attributes), sorted(&right.attributes));
    found.attributes += ours.len() as u64;
    found.material += left
        .object
        .as_ref()
        .map_or(0, |object| object.material_len() as u64);
    if left.object_type != right.object_type {
        found.differs(
            identifier,
            format!("{} here, {} there", left.object_type, right.object_type),
        );
    } else if left.object != right.object {
        found.differs(identifier, "the object itself differs".into());
    } else if ours != theirs {
        let missing = ours
            .iter()
            .find(|value| !theirs.contains(value))
            .or_else(|| theirs.iter().find(|value| !ours.contains(value)));
        found.differs(
            identifier,
            format!("attributes differ, for one {missing:?}"),
        );
    }
    Ok(())
}

/// Whether the server holds more objects than were compared: nothing may have arrived twice.
fn surplus(found: &mut Comparison, client: &mut Client) -> Result {
    let everything = StorageStatusMask::ON_LINE_STORAGE
        | StorageStatusMask::ARCHIVAL_STORAGE
        | StorageStatusMask::DESTROYED_STORAGE;
    let locate = LocateRequest {
        maximum_items: Some(10),
        offset_items: Some(i32::try_from(found.objects)?),
        storage_status_mask: Some(everything),
        object_group_member: None,
        attributes: Attributes::new(),
        extra: Extra::NONE,
    };
    let item = RequestItem::new(&locate, context(Version::V2_1))?;
    let answer = client.call(&RequestMessage::new(Version::V2_1, vec![item]).to_frame()?)?;
    let answer = ResponseMessage::from_frame(&answer)?;
    let located: LocateResponse = answer
        .batch
        .first()
        .ok_or("no answer to Locate")?
        .payload(context(Version::V2_1))?;
    for identifier in located.unique_identifiers.iter() {
        found.differs(
            identifier,
            "the second server has an object too many".into(),
        );
    }
    if located
        .located_items
        .is_none_or(|total| u64::try_from(total).ok() != Some(found.objects))
    {
        found.differs(
            "-",
            format!(
                "the second server counts {:?} objects",
                located.located_items
            ),
        );
    }
    Ok(())
}
