//! This module is the query planner of Locate: it finds objects by their attributes.
//!
//! It chooses one index to scan, reads the record of each candidate, and filters by the other criteria. It works on any backend. The
//! newest objects come first (KMIP 2.1 §6.1.28).

use crate::contract::{Index, Order, RecordNumber, Snapshot, Span};
use crate::error::{Error, Result};
use crate::ext::SnapshotExt;
use crate::index;
use crate::record::Record;
use criterion::{Criterion, Place, Wild};
use keyferry_kmip::spec::{State, StorageStatusMask, tag};
use keyferry_kmip::{Attributes, DateTime, Failure, Text, lifecycle};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

mod criterion;

/// The most matches that are kept in memory during a search.
const KEPT: usize = 50_000;

/// Decides whether a record is a match.
type IsMatch<'a> = &'a dyn Fn(&Record) -> Result<bool>;

/// The query of a Locate request.
#[derive(Clone, Debug, Default)]
pub struct Query {
    criteria: Vec<Criterion>,
    mask: StorageStatusMask,
}

/// The result of a Locate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// The identifiers asked for.
    pub identifiers: Vec<Text>,
    /// The number of all matches, when the search reached the end.
    pub total: Option<u64>,
}

/// The records that may match, apart from those whose State a date has moved on.
enum Candidates {
    /// All records, or those under one key; a scan visits them in the order of arrival.
    InOrder(Index, Span),
    /// The records under several keys; a scan visits them in no useful order.
    Scattered(Index, Span),
}

impl Query {
    /// The query for the attributes and the Storage Status Mask of a request; without a mask it finds on-line objects. `wildcards` says
    /// whether `*` and `?` in texts are wildcards, as they are until KMIP 1.4.
    ///
    /// # Errors
    /// When an attribute is unknown, or its value can never match.
    pub fn new(
        attributes: &Attributes,
        mask: Option<StorageStatusMask>,
        wildcards: bool,
    ) -> Result<Query, Failure> {
        let criteria = criterion::criteria(attributes, Wild(wildcards))?;
        Ok(Query {
            criteria,
            mask: mask.unwrap_or(StorageStatusMask::ON_LINE_STORAGE),
        })
    }

    /// The index entries with the lowest cost that hold every match, except those whose State a date has moved on.
    fn candidates(&self) -> Candidates {
        let places = self.criteria.iter().filter_map(Criterion::place);
        match places.min_by_key(|(cost, _)| *cost) {
            Some((_, Place::Key(key))) => Candidates::InOrder(key.index, Span::exact(&key.key)),
            Some((_, Place::Span(index, span))) => Candidates::Scattered(index, span),
            None => Candidates::InOrder(Index::ARRIVAL, Span::all()),
        }
    }

    /// Whether a record is a match.
    pub fn matches(&self, record: &Record, now: DateTime) -> bool {
        if record.is_withdrawn() {
            return false;
        }
        let state = record.state(now);
        let is_selected = if state.is_some_and(lifecycle::is_destroyed) {
            self.mask.contains(StorageStatusMask::DESTROYED_STORAGE)
        } else if record.attributes.date(tag::ARCHIVE_DATE).is_some() {
            self.mask.contains(StorageStatusMask::ARCHIVAL_STORAGE)
        } else {
            self.mask.contains(StorageStatusMask::ON_LINE_STORAGE)
        };
        is_selected
            && self
                .criteria
                .iter()
                .all(|criterion| criterion.meets(record, state))
    }

    /// Finds the matches for which `may_see` returns true, skips `offset` of them and returns up to `maximum`.
    ///
    /// # Errors
    /// Those of the store and of `may_see`.
    pub fn locate(
        &self,
        snapshot: &dyn Snapshot,
        now: DateTime,
        (offset, maximum): (usize, usize),
        may_see: &dyn Fn(&Record) -> Result<bool>,
    ) -> Result<Located, Error> {
        let is_match = |record: &Record| Ok(self.matches(record, now) && may_see(record)?);
        // For a page far down the list, all records are visited in the order of arrival, so that no match has to be kept.
        if offset.saturating_add(maximum) > KEPT {
            return in_order(
                snapshot,
                (Index::ARRIVAL, &Span::all()),
                BTreeMap::new(),
                (offset, maximum),
                &is_match,
            );
        }
        match self.candidates() {
            Candidates::InOrder(index, span) => {
                self.ordered(snapshot, now, (index, &span), (offset, maximum), &is_match)
            }
            Candidates::Scattered(index, span) => {
                scattered(snapshot, (index, &span), (offset, maximum), &is_match)
            }
        }
    }

    /// Counts the matches. Memory does not grow with their number.
    ///
    /// # Errors
    /// Those of the store.
    pub fn count(&self, snapshot: &dyn Snapshot, now: DateTime) -> Result<u64, Error> {
        let is_match = |record: &Record| Ok(self.matches(record, now));
        let found = match self.candidates() {
            // A page after the last match: all are counted, none is kept.
            Candidates::InOrder(index, span) => {
                self.ordered(snapshot, now, (index, &span), (usize::MAX, 1), &is_match)?
            }
            Candidates::Scattered(index, span) => {
                scattered(snapshot, (index, &span), (0, 0), &is_match)?
            }
        };
        Ok(found.total.unwrap_or_default())
    }

    /// Searches the entries under one key, or all records, in the order of arrival.
    fn ordered(
        &self,
        snapshot: &dyn Snapshot,
        now: DateTime,
        (index, span): (Index, &Span),
        page: (usize, usize),
        is_match: IsMatch<'_>,
    ) -> Result<Located, Error> {
        let dated = if index == index::STATE {
            self.dated(snapshot, now, is_match)?
        } else {
            Some(BTreeMap::new())
        };
        match dated {
            Some(dated) => in_order(snapshot, (index, span), dated, page, is_match),
            None => in_order(
                snapshot,
                (Index::ARRIVAL, &Span::all()),
                BTreeMap::new(),
                page,
                is_match,
            ),
        }
    }

    /// The matches whose State a date has moved on, which the index of stored States cannot find; `None` when they are too many to be
    /// kept.
    fn dated(
        &self,
        snapshot: &dyn Snapshot,
        now: DateTime,
        is_match: IsMatch<'_>,
    ) -> Result<Option<BTreeMap<RecordNumber, Text>>, Error> {
        let mut dated = BTreeMap::new();
        let moves = |criterion: &Criterion| {
            matches!(
                criterion,
                Criterion::State(State::ACTIVE | State::DEACTIVATED)
            )
        };
        if !self.criteria.iter().any(moves) {
            return Ok(Some(dated));
        }
        snapshot.scan(
            index::DUE,
            &index::due_until(now),
            Order::Ascending,
            None,
            &mut |_, number| {
                if let Some(record) = snapshot.record(number)?
                    && record.state(now) != record.stored_state()
                    && is_match(&record)?
                {
                    dated.insert(number, record.identifier);
                }
                Ok(if dated.len() > KEPT {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            },
        )?;
        Ok((dated.len() <= KEPT).then_some(dated))
    }
}

/// The record, if it is a match.
fn matching(
    snapshot: &dyn Snapshot,
    number: RecordNumber,
    is_match: IsMatch<'_>,
) -> Result<Option<Record>> {
    match snapshot.record(number)? {
        Some(record) if is_match(&record)? => Ok(Some(record)),
        _ => Ok(None),
    }
}

/// Visits candidates in the order of arrival, merged with `others`, which were found in another way; stops when the page is full.
fn in_order(
    snapshot: &dyn Snapshot,
    (index, span): (Index, &Span),
    mut others: BTreeMap<RecordNumber, Text>,
    (offset, maximum): (usize, usize),
    is_match: IsMatch<'_>,
) -> Result<Located, Error> {
    let mut located = Located::default();
    let mut seen = 0u64;
    let mut complete = true;
    let mut add_match = |identifier: Text| {
        if located.identifiers.len() >= maximum {
            return ControlFlow::Break(());
        }
        if seen >= offset as u64 {
            located.identifiers.push(identifier);
        }
        seen += 1;
        ControlFlow::Continue(())
    };
    snapshot.scan(index, span, Order::Descending, None, &mut |_, number| {
        while let Some((_, identifier)) = others
            .last_entry()
            .filter(|other| *other.key() > number)
            .map(|other| other.remove_entry())
        {
            if add_match(identifier).is_break() {
                complete = false;
                return Ok(ControlFlow::Break(()));
            }
        }
        let Some(record) = matching(snapshot, number, is_match)? else {
            return Ok(ControlFlow::Continue(()));
        };
        let next = add_match(record.identifier);
        complete &= next.is_continue();
        Ok(next)
    })?;
    while complete && let Some((_, identifier)) = others.pop_last() {
        complete = add_match(identifier).is_continue();
    }
    located.total = complete.then_some(seen);
    Ok(located)
}

/// Visits candidates in any order, some of them several times, and keeps the newest matches, up to the end of the page.
fn scattered(
    snapshot: &dyn Snapshot,
    (index, span): (Index, &Span),
    (offset, maximum): (usize, usize),
    is_match: IsMatch<'_>,
) -> Result<Located, Error> {
    let most = offset.saturating_add(maximum);
    let mut newest: BTreeMap<RecordNumber, Text> = BTreeMap::new();
    let mut seen = 0u64;
    snapshot.scan(index, span, Order::Ascending, None, &mut |key, number| {
        if let Some(record) = matching(snapshot, number, is_match)? {
            // A record may have several keys in the span; only its first counts.
            let first = index::keys(&record)?
                .into_iter()
                .find(|own| own.index == index && span.contains(&own.key));
            if first.is_some_and(|first| *first.key == *key) {
                seen += 1;
                newest.insert(number, record.identifier);
                if newest.len() > most {
                    newest.pop_first();
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let identifiers = newest
        .into_values()
        .rev()
        .skip(offset)
        .take(maximum)
        .collect();
    Ok(Located {
        identifiers,
        total: Some(seen),
    })
}
