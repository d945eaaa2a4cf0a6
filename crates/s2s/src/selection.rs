//! The selection of a transfer or a relation: which objects it is about, as options, as a message says it, and over a store.

use crate::error::{Error, ErrorKind, Result};
use crate::feed::entries;
use crate::transport_key::is_transport_key;
use keyferry_kmip::projection::Projection;
use keyferry_kmip::spec::{AttributeValue, StorageStatusMask};
use keyferry_kmip::{
    Attributes, CustomAttribute, DateTime, Text, UniqueIdentifier, extension as x,
};
use keyferry_store::plan::Query;
use keyferry_store::record::copy_digest;
use keyferry_store::{Record, RecordNumber, Snapshot, SnapshotExt};
use keyferry_ttlv::{Decode, Encode, Extra, Item, Reader, Tag, Tagged, Value, Writer};
use std::collections::BTreeSet;
use std::fmt;

/// The objects that a transfer or a relation is about: those that have all of some attributes, or are on a list; with or without the objects
/// that their Links reach.
///
/// Attributes select as in a Locate (KMIP 1.4 §4.9): two dates are a range, a structure may lack fields, and `*` and `?` in a text are
/// wildcards. Destroyed objects are selected, too.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    pub(crate) criteria: Attributes,
    pub(crate) listed: Option<BTreeSet<Text>>,
    pub(crate) with_links: bool,
}

impl Selection {
    /// All objects.
    pub fn everything() -> Self {
        Selection::default()
    }

    /// Only those that also have this attribute.
    #[must_use]
    pub fn with(mut self, value: AttributeValue) -> Self {
        self.criteria.push(value);
        self
    }

    /// Only those with these Unique Identifiers at the source.
    #[must_use]
    pub fn listed(mut self, identifiers: impl IntoIterator<Item = Text>) -> Self {
        self.listed = Some(identifiers.into_iter().collect());
        self
    }

    /// Also the objects that their Links reach, and the Links of these, and so on.
    #[must_use]
    pub fn with_links(mut self) -> Self {
        self.with_links = true;
        self
    }

    /// Whether it selects all objects.
    pub fn is_everything(&self) -> bool {
        self.criteria.is_empty() && self.listed.is_none()
    }

    /// Whether an identifier is on its list. Without a list, every identifier is.
    pub(crate) fn is_listed(&self, identifier: &Text) -> bool {
        self.listed
            .as_ref()
            .is_none_or(|listed| listed.contains(identifier))
    }

    /// The digest by which a selection is told from another; `None` for all objects.
    pub(crate) fn digest(&self) -> Result<Option<Vec<u8>>> {
        if self.is_everything() {
            return Ok(None);
        }
        let mut all = self.criteria.clone();
        let listed = self.listed.iter().flatten();
        listed.for_each(|identifier| {
            all.keep(AttributeValue::UniqueIdentifier(identifier.as_str().into()).into())
        });
        let kind = keyferry_kmip::spec::ObjectType(
            u32::from(self.with_links) | u32::from(self.listed.is_some()) << 1,
        );
        Ok(Some(copy_digest(kind, &all)?))
    }

    /// Whether a record is selected, leaving Links aside.
    pub(crate) fn is_match(&self, record: &Record, now: DateTime) -> Result<bool> {
        if self.is_everything() {
            return Ok(true);
        }
        Ok(ChosenObjects {
            selection: self.clone(),
            query: self.query()?,
            now,
            reached: BTreeSet::new(),
        }
        .is_match(record))
    }

    /// The query of its attributes.
    pub(crate) fn query(&self) -> Result<Query> {
        let mask = StorageStatusMask::ON_LINE_STORAGE
            | StorageStatusMask::ARCHIVAL_STORAGE
            | StorageStatusMask::DESTROYED_STORAGE;
        Query::new(&self.criteria, Some(mask), true)
            .map_err(|e| Error::caused_by(ErrorKind::Selection, e))
    }

    /// The selection over a store as it is now. It takes memory for each object that only Links reach.
    ///
    /// # Errors
    /// [`ErrorKind::Selection`] when an attribute can't be searched for, and those of the store.
    pub fn choose(&self, snapshot: &dyn Snapshot, now: DateTime) -> Result<ChosenObjects> {
        let mut chosen = ChosenObjects {
            selection: self.clone(),
            query: self.query()?,
            now,
            reached: BTreeSet::new(),
        };
        if !self.with_links || self.is_everything() {
            return Ok(chosen);
        }
        let mut numbers: Vec<RecordNumber> = Vec::new();
        let mut after = 0;
        loop {
            let page = entries(snapshot, after, READ_AT_ONCE)?;
            let Some((end, _)) = page.last() else {
                break;
            };
            after = *end;
            for (_, number) in page {
                let Some(record) = snapshot
                    .record(number)?
                    .filter(|record| chosen.has(number, record))
                else {
                    continue;
                };
                chosen.follow_links(snapshot, &record, &mut numbers)?;
            }
        }
        while let Some(number) = numbers.pop() {
            if let Some(record) = snapshot.record(number)? {
                chosen.follow_links(snapshot, &record, &mut numbers)?;
            }
        }
        Ok(chosen)
    }
}

/// How many feed entries are read at a time.
const READ_AT_ONCE: usize = 250;

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.listed {
            Some(listed) => write!(f, "{} listed objects", listed.len())?,
            None => f.write_str("all objects")?,
        }
        for (n, attribute) in self.criteria.iter().enumerate() {
            let value = &attribute.value;
            f.write_str(if n == 0 { " with " } else { ", " })?;
            match value {
                AttributeValue::ObjectGroup(group) => write!(f, "Object Group {group:?}")?,
                AttributeValue::Name(name) => write!(f, "Name {:?}", name.value)?,
                AttributeValue::State(state) => write!(f, "State {state}")?,
                AttributeValue::ObjectType(object_type) => write!(f, "Object Type {object_type}")?,
                AttributeValue::Custom(CustomAttribute {
                    value: Some(Value::Text(text)),
                    ..
                }) => write!(f, "{} {text:?}", value.reference())?,
                other => {
                    write!(f, "{}", other.reference())?;
                    if let Some(date) = other.date() {
                        write!(f, " {}", date.0)?;
                    }
                }
            }
        }
        f.write_str(if self.with_links {
            ", and what their Links reach"
        } else {
            ""
        })
    }
}

/// A [`Selection`] as messages and stores hold it.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[ttlv(tag = x::SELECTED)]
pub(crate) struct Selected {
    #[ttlv(group = Projection::Stored)]
    criteria: Attributes,
    #[ttlv(tag = x::LISTED)]
    listed: Vec<Text>,
    /// Whether there is a list. An empty list selects nothing.
    #[ttlv(tag = x::IS_LISTED)]
    is_listed: Option<bool>,
    #[ttlv(tag = x::WITH_LINKS)]
    with_links: Option<bool>,
    #[ttlv(extra)]
    extra: Extra,
}

impl Selected {
    pub(crate) fn of(selection: &Selection) -> Selected {
        Selected {
            criteria: selection.criteria.clone(),
            listed: selection.listed.iter().flatten().cloned().collect(),
            is_listed: selection.listed.is_some().then_some(true),
            with_links: selection.with_links.then_some(true),
            extra: Extra::NONE,
        }
    }

    pub(crate) fn selection(&self) -> Selection {
        Selection {
            criteria: self.criteria.clone(),
            listed: (self.is_listed == Some(true)).then(|| self.listed.iter().cloned().collect()),
            with_links: self.with_links == Some(true),
        }
    }
}

impl Tagged for Selection {
    const TAG: Tag = x::SELECTED;
}

impl Encode for Selection {
    fn encode(&self, tag: Tag, w: &mut Writer) -> keyferry_ttlv::Result<()> {
        Selected::of(self).encode(tag, w)
    }
}

impl Decode for Selection {
    fn decode<'a>(item: Item<'a>, r: &Reader<'a>) -> keyferry_ttlv::Result<Self> {
        Selected::decode(item, r).map(|selected| selected.selection())
    }
}

/// A [`Selection`] over one store.
#[derive(Clone, Debug)]
pub struct ChosenObjects {
    selection: Selection,
    query: Query,
    now: DateTime,
    /// The records that only Links reach.
    reached: BTreeSet<RecordNumber>,
}

impl ChosenObjects {
    /// Whether a record is selected. A transport key never is: it goes before what it wraps, and nowhere else.
    pub fn has(&self, number: RecordNumber, record: &Record) -> bool {
        !record.is_withdrawn()
            && !is_transport_key(record)
            && (self.reached.contains(&number) || self.is_match(record))
    }

    /// Whether all records are selected.
    pub(crate) fn has_all(&self) -> bool {
        self.selection.is_everything()
    }

    /// How many records are selected. The query planner counts them where the store can't.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn count(&self, snapshot: &dyn Snapshot) -> Result<u64> {
        if self.has_all() {
            return Ok(snapshot.count()?);
        }
        let mut count = self.reached.len() as u64;
        match &self.selection.listed {
            None => count += self.query.count(snapshot, self.now)?,
            Some(listed) => {
                for identifier in listed {
                    count += u64::from(
                        snapshot
                            .by_identifier(identifier)?
                            .is_some_and(|(_, record)| self.is_match(&record)),
                    );
                }
            }
        }
        Ok(count)
    }

    fn is_match(&self, record: &Record) -> bool {
        self.selection
            .listed
            .as_ref()
            .is_none_or(|listed| listed.contains(&record.identifier))
            && (self.selection.criteria.is_empty() || self.query.matches(record, self.now))
    }

    /// Adds what the Links of a record reach; what is new goes to `found`.
    fn follow_links(
        &mut self,
        snapshot: &dyn Snapshot,
        record: &Record,
        found: &mut Vec<RecordNumber>,
    ) -> Result<()> {
        for target in link_targets(record) {
            if let Some((number, target)) = snapshot.by_identifier(target)?
                && !self.is_match(&target)
                && self.reached.insert(number)
            {
                found.push(number);
            }
        }
        Ok(())
    }
}

/// The identifiers of the objects that the Links of an object lead to.
pub(crate) fn link_targets(record: &Record) -> impl Iterator<Item = &str> {
    record
        .client_attributes()
        .filter_map(|attribute| match &attribute.value {
            AttributeValue::Link(link) => match &link.target {
                UniqueIdentifier::Text(text) => Some(text.as_str()),
                _ => None,
            },
            _ => None,
        })
}
