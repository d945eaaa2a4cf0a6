//! Finding objects by their attributes: the criteria of a Locate, the index that serves them, and the filter for the rest.
//!
//! Pure code above any backend: it chooses one scan and looks at each candidate's record. Newest objects come first (KMIP 2.1 §6.1.28).

use crate::{Error, Index, IndexKey, Order, Record, Result, Snapshot, SnapshotExt, Span, index};
use keyferry_kmip::spec::{AttributeValue, ObjectType, State, StorageStatusMask, tag};
use keyferry_kmip::{Attributes, Cause, DateTime, Failure, Text, UniqueIdentifier, lifecycle};
use keyferry_ttlv::Tag;
use std::ops::ControlFlow;

/// What a Locate asks for.
#[derive(Clone, Debug, Default)]
pub struct Query {
    criteria: Vec<Criterion>,
    mask: StorageStatusMask,
}

#[derive(Clone, Debug)]
enum Criterion {
    Identifier(Text),
    ObjectType(ObjectType),
    State(State),
    /// An inclusive range; both ends the same for one value.
    Date(Tag, DateTime, DateTime),
    /// A date that the object does not have.
    NoDate(Tag),
    /// All bits of the mask are set.
    UsageMask(u32),
    /// At least as much is left.
    UsageLimits(i64, Option<i64>),
    /// Some instance equals it.
    Equal(AttributeValue),
}

/// What a Locate found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Located {
    /// The identifiers asked for.
    pub identifiers: Vec<Text>,
    /// How many there are in all, when the search came to its end.
    pub total: Option<u64>,
}

impl Query {
    /// The query for a request's attributes and Storage Status Mask (on-line objects without one).
    ///
    /// # Errors
    /// When an attribute is unknown, or asked for in a way that can't match.
    pub fn new(attributes: &Attributes, mask: Option<StorageStatusMask>) -> Result<Query, Failure> {
        let mut criteria: Vec<Criterion> = Vec::new();
        for attribute in attributes {
            let value = &attribute.value;
            if let Some(date) = value.date() {
                let same = criteria.iter_mut().find_map(|criterion| match criterion {
                    Criterion::Date(tag, low, high) if *tag == value.tag() => Some((low, high)),
                    _ => None,
                });
                match same {
                    _ if date.0 == i64::MAX => criteria.push(Criterion::NoDate(value.tag())),
                    Some((low, high)) if low == high => {
                        let (one, other) = (*low, date);
                        *low = one.min(other);
                        *high = one.max(other);
                    }
                    Some(_) => return Err(Failure::new(Cause::InvalidField, "a date may be given once or, as a range, twice")),
                    None => criteria.push(Criterion::Date(value.tag(), date, date)),
                }
                continue;
            }
            criteria.push(match value {
                AttributeValue::UniqueIdentifier(UniqueIdentifier::Text(identifier)) => Criterion::Identifier(identifier.clone()),
                AttributeValue::UniqueIdentifier(_) => {
                    return Err(Failure::new(Cause::InvalidField, "Locate takes a Unique Identifier as text alone"));
                }
                AttributeValue::ObjectType(object_type) => Criterion::ObjectType(*object_type),
                AttributeValue::State(state) => Criterion::State(*state),
                AttributeValue::CryptographicUsageMask(mask) => Criterion::UsageMask(mask.0),
                AttributeValue::UsageLimits(limits) => Criterion::UsageLimits(limits.total, limits.count),
                AttributeValue::Unknown(_) => {
                    return Err(Failure::new(Cause::UnknownAttribute, format_args!("unknown attribute {}", value.reference())));
                }
                other => Criterion::Equal(other.clone()),
            });
        }
        Ok(Query { criteria, mask: mask.unwrap_or(StorageStatusMask::ON_LINE_STORAGE) })
    }

    /// The index entries that hold every match, where one index can serve.
    fn scan(&self) -> (Index, Span) {
        let exact = |key: IndexKey| Some((key.index, Span::exact(&key.key)));
        let best = |criterion: &Criterion| -> Option<(u8, (Index, Span))> {
            let (cost, key) = match criterion {
                Criterion::Identifier(identifier) => (0, index::identifier(identifier)),
                Criterion::Equal(AttributeValue::Name(name)) => (1, index::name(&name.value)),
                Criterion::Equal(AttributeValue::Custom(custom)) => {
                    (2, index::custom(&custom.vendor, &custom.name, custom.value.as_ref()?)?)
                }
                Criterion::Date(tag, low, high) if low == high => (3, index::date(*tag, *low)),
                Criterion::Equal(AttributeValue::ObjectGroup(group)) => (4, index::object_group(group)),
                // Only states that no passing date leads to or away from are as they are stored.
                Criterion::State(state @ (State::COMPROMISED | State::DESTROYED | State::DESTROYED_COMPROMISED)) => {
                    (5, index::state(*state))
                }
                Criterion::ObjectType(object_type) => (6, index::object_type(*object_type)),
                _ => return None,
            };
            exact(key).map(|scan| (cost, scan))
        };
        let chosen = self.criteria.iter().filter_map(best).min_by_key(|(cost, _)| *cost);
        chosen.map_or_else(|| (Index::ARRIVAL, Span::all()), |(_, scan)| scan)
    }

    /// Whether a record is a match.
    pub fn matches(&self, record: &Record, now: DateTime) -> bool {
        let state = record.state(now);
        let shown = if state.is_some_and(lifecycle::is_destroyed) {
            self.mask.contains(StorageStatusMask::DESTROYED_STORAGE)
        } else if record.attributes.date(tag::ARCHIVE_DATE).is_some() {
            self.mask.contains(StorageStatusMask::ARCHIVAL_STORAGE)
        } else {
            self.mask.contains(StorageStatusMask::ON_LINE_STORAGE)
        };
        shown && self.criteria.iter().all(|criterion| meets(record, criterion, state))
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
        let (index, span) = self.scan();
        let mut located = Located::default();
        let mut seen = 0u64;
        let mut complete = true;
        snapshot.scan(index, &span, Order::Descending, None, &mut |_, number| {
            let Some(record) = snapshot.record(number)? else { return Ok(ControlFlow::Continue(())) };
            if !self.matches(&record, now) || !may_see(&record) {
                return Ok(ControlFlow::Continue(()));
            }
            if located.identifiers.len() >= maximum {
                complete = false;
                return Ok(ControlFlow::Break(()));
            }
            if seen >= offset as u64 {
                located.identifiers.push(record.identifier);
            }
            seen += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        located.total = complete.then_some(seen);
        Ok(located)
    }
}

fn meets(record: &Record, criterion: &Criterion, state: Option<State>) -> bool {
    let local = record.overlay.as_ref().map(|overlay| &overlay.attributes);
    let mut values = record.attributes.iter().chain(local.into_iter().flatten()).map(|attribute| &attribute.value);
    match criterion {
        Criterion::Identifier(identifier) => record.identifier == *identifier,
        Criterion::ObjectType(object_type) => record.object_type == *object_type,
        Criterion::State(wanted) => state == Some(*wanted),
        Criterion::Date(tag, low, high) => {
            values.any(|value| value.tag() == *tag && value.date().is_some_and(|date| *low <= date && date <= *high))
        }
        Criterion::NoDate(tag) => !values.any(|value| value.tag() == *tag),
        Criterion::UsageMask(mask) => {
            values.any(|value| matches!(value, AttributeValue::CryptographicUsageMask(own) if own.0 & mask == *mask))
        }
        Criterion::UsageLimits(total, count) => values.any(|value| match value {
            AttributeValue::UsageLimits(own) => {
                own.total >= *total && count.is_none_or(|count| own.count.is_some_and(|own| own >= count))
            }
            _ => false,
        }),
        Criterion::Equal(wanted) => values.any(|value| value == wanted),
    }
}
