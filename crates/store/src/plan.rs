//! Finding objects by their attributes: the criteria of a Locate, the index that serves them, and the filter for the rest.
//!
//! Pure code above any backend: it chooses one scan and looks at each candidate's record. Newest objects come first (KMIP 2.1 §6.1.28).

use crate::{
    Error, Index, Order, Record, RecordNumber, Result, Snapshot, SnapshotExt, Span, index,
};
use criterion::{Criterion, Place, Wild};
use keyferry_kmip::spec::{State, StorageStatusMask, tag};
use keyferry_kmip::{Attributes, DateTime, Failure, Text, lifecycle};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

mod criterion;

/// Matches that are kept while others are looked for.
const KEPT: usize = 50_000;

/// What a Locate asks for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    criteria: Vec<Criterion>,
    mask: StorageStatusMask,
}

/// What a Locate found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// The identifiers asked for.
    pub identifiers: Vec<Text>,
    /// How many there are in all, when the search came to its end.
    pub total: Option<u64>,
}

/// Which records may be matches, beside those of which the store says so by date.
enum Candidates {
    /// All, or those under one key: in the order of arrival.
    InOrder(Index, Span),
    /// Those under several keys.
    Scattered(Index, Span),
}

impl Query {
    /// The query for a request's attributes and Storage Status Mask (on-line objects without one). `wildcards` says whether `*` and `?` in texts
    /// stand for others, as they do until 1.4.
    ///
    /// # Errors
    /// When an attribute is unknown, or asked for in a way that can't match.
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

    /// The index entries that hold every match, where one index can serve, but for those that a date has made one.
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
        let shown = if state.is_some_and(lifecycle::is_destroyed) {
            self.mask.contains(StorageStatusMask::DESTROYED_STORAGE)
        } else if record.attributes.date(tag::ARCHIVE_DATE).is_some() {
            self.mask.contains(StorageStatusMask::ARCHIVAL_STORAGE)
        } else {
            self.mask.contains(StorageStatusMask::ON_LINE_STORAGE)
        };
        shown
            && self
                .criteria
                .iter()
                .all(|criterion| criterion.meets(record, state))
    }

    /// Looks for matches that `may_see` lets through, skips `offset` of them and returns up to `maximum`.
    ///
    /// # Errors
    /// Those of the store.
    pub fn locate(
        &self,
        snapshot: &dyn Snapshot,
        now: DateTime,
        (offset, maximum): (usize, usize),
        may_see: &dyn Fn(&Record) -> bool,
    ) -> Result<Located, Error> {
        let is_match = |record: &Record| self.matches(record, now) && may_see(record);
        // Far pages are counted through in the order of arrival: what is kept in the meantime stays small.
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

    /// How many matches there are. Memory does not grow with them.
    ///
    /// # Errors
    /// Those of the store.
    pub fn count(&self, snapshot: &dyn Snapshot, now: DateTime) -> Result<u64, Error> {
        let is_match = |record: &Record| self.matches(record, now);
        let found = match self.candidates() {
            // A page behind all of them.
            Candidates::InOrder(index, span) => {
                self.ordered(snapshot, now, (index, &span), (usize::MAX, 1), &is_match)?
            }
            Candidates::Scattered(index, span) => {
                scattered(snapshot, (index, &span), (0, 0), &is_match)?
            }
        };
        Ok(found.total.unwrap_or_default())
    }

    fn ordered(
        &self,
        snapshot: &dyn Snapshot,
        now: DateTime,
        (index, span): (Index, &Span),
        page: (usize, usize),
        is_match: &dyn Fn(&Record) -> bool,
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

    /// The matches whose State a date has moved on from the one that is stored: by that one they can't be found. Nothing when they are too many
    /// to be kept.
    fn dated(
        &self,
        snapshot: &dyn Snapshot,
        now: DateTime,
        is_match: &dyn Fn(&Record) -> bool,
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
                    && is_match(&record)
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

/// Candidates in the order of arrival, and among them those that were found otherwise: the search ends with the page.
fn in_order(
    snapshot: &dyn Snapshot,
    (index, span): (Index, &Span),
    mut others: BTreeMap<RecordNumber, Text>,
    (offset, maximum): (usize, usize),
    is_match: &dyn Fn(&Record) -> bool,
) -> Result<Located, Error> {
    let mut located = Located::default();
    let mut seen = 0u64;
    let mut complete = true;
    let mut take = |identifier: Text| {
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
            if take(identifier).is_break() {
                complete = false;
                return Ok(ControlFlow::Break(()));
            }
        }
        let Some(record) = snapshot.record(number)?.filter(|record| is_match(record)) else {
            return Ok(ControlFlow::Continue(()));
        };
        let goes_on = take(record.identifier);
        complete &= goes_on.is_continue();
        Ok(goes_on)
    })?;
    while complete && let Some((_, identifier)) = others.pop_last() {
        complete = take(identifier).is_continue();
    }
    located.total = complete.then_some(seen);
    Ok(located)
}

/// Candidates in any order, perhaps several times: the newest of them are kept, as many as the page reaches.
fn scattered(
    snapshot: &dyn Snapshot,
    (index, span): (Index, &Span),
    (offset, maximum): (usize, usize),
    is_match: &dyn Fn(&Record) -> bool,
) -> Result<Located, Error> {
    let most = offset.saturating_add(maximum);
    let mut newest: BTreeMap<RecordNumber, Text> = BTreeMap::new();
    let mut seen = 0u64;
    snapshot.scan(index, span, Order::Ascending, None, &mut |key, number| {
        if let Some(record) = snapshot.record(number)?.filter(|record| is_match(record)) {
            // One of its keys counts, the first in the span.
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
