//! This module reads a whole store, to compare it with another one or with itself.

use super::{clause, must};
use crate::contract::{FeedRow, Index, Order, Part, RecordNumber, Row, Snapshot, Span, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::position::Position;
use std::ops::ControlFlow;

/// The indexes that the kit uses.
pub(super) const INDEXES: [u8; 4] = [1, 2, 7, 255];

/// Everything that a snapshot shows.
#[derive(PartialEq, Debug)]
pub(super) struct Image {
    pub(super) head: Position,
    pub(super) count: u64,
    pub(super) records: Vec<Record>,
    pub(super) indexes: Vec<(u8, Vec<(Vec<u8>, u64)>)>,
    pub(super) feed: Vec<(u64, u64, Vec<u8>)>,
    pub(super) state: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(PartialEq, Debug)]
pub(super) struct Record {
    pub(super) number: u64,
    pub(super) id: Vec<u8>,
    pub(super) attributes: Vec<u8>,
    pub(super) material: Option<Vec<u8>>,
}

impl Image {
    pub(super) fn of(at: &dyn Snapshot) -> Result<Image> {
        let mut records = Vec::new();
        for (_, number) in scan(at, Index::ARRIVAL, &Span::all(), Order::Ascending)? {
            if let Some(Row {
                id,
                attributes,
                material,
            }) = at.get(RecordNumber(number), Part::Whole)?
            {
                records.push(Record {
                    number,
                    id,
                    attributes,
                    material: material.map(|m| m.to_vec()),
                });
            }
        }
        let mut indexes = Vec::new();
        for index in INDEXES {
            indexes.push((
                index,
                scan(at, Index(index), &Span::all(), Order::Ascending)?,
            ));
        }
        Ok(Image {
            head: at.head()?,
            count: at.count()?,
            records,
            indexes,
            feed: feed(at, 0)?,
            state: state(at, &Span::all())?,
        })
    }

    #[track_caller]
    pub(super) fn read(clause: &str, store: &dyn Store) -> Image {
        look(clause, store, Image::of)
    }
}

/// Runs `f` in a read and returns its result.
#[track_caller]
pub(super) fn look<T>(
    clause: &str,
    store: &dyn Store,
    f: impl Fn(&dyn Snapshot) -> Result<T>,
) -> T {
    let mut seen = None;
    must(
        clause,
        "a read",
        store.read(&mut |at| {
            seen = Some(f(at)?);
            Ok(())
        }),
    );
    seen.expect("`read` returned Ok without running its closure")
}

pub(super) fn scan(
    at: &dyn Snapshot,
    index: Index,
    span: &Span,
    order: Order,
) -> Result<Vec<(Vec<u8>, u64)>> {
    let mut seen = Vec::new();
    at.scan(index, span, order, None, &mut |key, number| {
        seen.push((key.to_vec(), number.0));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(seen)
}

pub(super) fn feed(at: &dyn Snapshot, after: u64) -> Result<Vec<(u64, u64, Vec<u8>)>> {
    let mut seen = Vec::new();
    at.feed(after, &mut |row: &FeedRow<'_>| {
        seen.push((row.number, row.record.0, row.entry.to_vec()));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(seen)
}

pub(super) fn state(at: &dyn Snapshot, span: &Span) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut seen = Vec::new();
    at.state(span, &mut |key, value| {
        seen.push((key.to_vec(), value.to_vec()));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(seen)
}

/// The value of one key of the s2s state.
pub(super) fn value(at: &dyn Snapshot, key: &[u8]) -> Result<Option<Vec<u8>>> {
    Ok(state(at, &Span::exact(key))?.pop().map(|(_, value)| value))
}

/// Checks that an error which a visitor returns, [`Error::aborted`], is what `visit` fails with.
pub(super) fn check_visitor_error(
    clause: &str,
    store: &dyn Store,
    visit: &mut dyn FnMut(&dyn Snapshot) -> Result<()>,
) {
    let failed = store.read(&mut |at| visit(at));
    let kind = failed.as_ref().map_err(Error::kind);
    clause!(
        clause,
        kind == Err(ErrorKind::Aborted),
        "an error of the visitor came out as {failed:?}"
    );
}
