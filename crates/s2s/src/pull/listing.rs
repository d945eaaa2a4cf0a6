//! All identifiers of a server that may not help: one that caps its answers, ignores Offset Items, tells in any order, and changes meanwhile.
//!
//! Where the version has Offset Items (since 1.3), pages are asked for until one is empty, again and again until a pass brings nothing new.
//! Where it has not, or a page comes again, the objects are divided: by Object Type, then by Initial Date, then by State, until
//! an answer is shorter than the longest one that the server was seen to give. What could not be divided further is named.

use keyferry_kmip::spec::{AttributeValue, ObjectType, ResultReason, State, StorageStatusMask};
use keyferry_kmip::{Attributes, DateTime, LocateRequest, Text};
use keyferry_ttlv::{Extra, Version};
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

/// Remembers identifiers in a few bytes each.
pub(crate) struct Seen {
    hashers: (RandomState, RandomState),
    all: HashSet<u128>,
}

impl Seen {
    pub(crate) fn new() -> Seen {
        Seen {
            hashers: (RandomState::new(), RandomState::new()),
            all: HashSet::new(),
        }
    }

    fn hash(&self, identifier: &str) -> u128 {
        u128::from(self.hashers.0.hash_one(identifier)) << 64
            | u128::from(self.hashers.1.hash_one(identifier))
    }

    /// Whether it is a new one.
    pub(crate) fn insert(&mut self, identifier: &str) -> bool {
        let hash = self.hash(identifier);
        self.all.insert(hash)
    }

    pub(crate) fn has(&self, identifier: &str) -> bool {
        self.all.contains(&self.hash(identifier))
    }

    fn len(&self) -> usize {
        self.all.len()
    }
}

/// A part of the objects.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Part {
    object_type: Option<ObjectType>,
    dates: Option<(i64, i64)>,
    state: Option<State>,
}

/// Shorter answers are not taken for cut ones.
const SHORT: usize = 32;

/// Passes at the most, over a server that changes all the time.
const PASSES: u32 = 8;

/// Parts that are named as unseen.
const NAMED: usize = 20;

const TYPES: [ObjectType; 10] = [
    ObjectType::CERTIFICATE,
    ObjectType::SYMMETRIC_KEY,
    ObjectType::PUBLIC_KEY,
    ObjectType::PRIVATE_KEY,
    ObjectType::SPLIT_KEY,
    ObjectType::TEMPLATE,
    ObjectType::SECRET_DATA,
    ObjectType::OPAQUE_OBJECT,
    ObjectType::PGP_KEY,
    ObjectType::CERTIFICATE_REQUEST,
];

const STATES: [State; 6] = [
    State::PRE_ACTIVE,
    State::ACTIVE,
    State::DEACTIVATED,
    State::COMPROMISED,
    State::DESTROYED,
    State::DESTROYED_COMPROMISED,
];

impl Part {
    /// Smaller parts that make it up; `None` where there are none.
    fn divided(self, version: Version, until: i64) -> Option<Vec<Part>> {
        if self.object_type.is_none() {
            let known = |object_type: &&ObjectType| match **object_type {
                ObjectType::PGP_KEY => version >= Version::V1_2,
                ObjectType::CERTIFICATE_REQUEST => version >= Version::V2_0,
                ObjectType::TEMPLATE => version < Version::V2_0,
                _ => true,
            };
            return Some(
                TYPES
                    .iter()
                    .filter(known)
                    .map(|one| Part {
                        object_type: Some(*one),
                        ..self
                    })
                    .collect(),
            );
        }
        let (from, to) = self.dates.unwrap_or((0, until));
        if from < to {
            let middle = from + (to - from) / 2;
            return Some(
                [(from, middle), (middle + 1, to)]
                    .map(|dates| Part {
                        dates: Some(dates),
                        ..self
                    })
                    .to_vec(),
            );
        }
        match self.state {
            None => Some(
                STATES
                    .iter()
                    .map(|state| Part {
                        state: Some(*state),
                        ..self
                    })
                    .collect(),
            ),
            Some(_) => None,
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("objects")?;
        self.object_type
            .iter()
            .try_for_each(|one| write!(f, ", Object Type {one}"))?;
        self.dates
            .iter()
            .try_for_each(|(from, to)| write!(f, ", Initial Date {from} to {to}"))?;
        self.state
            .iter()
            .try_for_each(|state| write!(f, ", State {state}"))
    }
}

enum Walk {
    /// Page by page.
    Pages {
        offset: usize,
        page: i32,
        last: Option<Vec<u128>>,
    },
    /// Part by part.
    Parts(Vec<Part>),
    Done,
}

/// What is asked, one Locate after another.
pub(crate) struct Listing {
    version: Version,
    criteria: Attributes,
    walk: Walk,
    pub(crate) seen: Seen,
    /// What this pass found first.
    news: usize,
    passes: u32,
    /// The longest answer.
    longest: usize,
    /// Behind every Initial Date.
    until: i64,
    /// A page was too large.
    refused: bool,
    /// How many objects there are, by the server's own words.
    located: Option<usize>,
    /// What could not be seen, in words.
    pub(crate) unseen: Vec<String>,
}

/// How many identifiers are asked for at first, and at the most: a full page makes the next one larger.
const PAGE: i32 = 1000;

const LARGEST: i32 = 16_000;

impl Listing {
    pub(crate) fn new(version: Version, criteria: Attributes, now: DateTime) -> Listing {
        let walk = if version >= Version::V1_3 {
            Walk::Pages {
                offset: 0,
                page: PAGE,
                last: None,
            }
        } else {
            Walk::Parts(vec![Part::default()])
        };
        // A day for clocks that differ.
        let until = now.0.saturating_add(86_400);
        Listing {
            version,
            criteria,
            walk,
            seen: Seen::new(),
            news: 0,
            passes: 0,
            longest: 0,
            until,
            refused: false,
            located: None,
            unseen: Vec::new(),
        }
    }

    /// What to ask next; the same until it is answered. `None` at the end.
    pub(crate) fn next(&self) -> Option<LocateRequest> {
        let (part, maximum, offset) = match &self.walk {
            Walk::Pages { offset, page, .. } => (
                Part::default(),
                Some(*page),
                i32::try_from(*offset).ok().filter(|n| *n > 0),
            ),
            Walk::Parts(parts) => (*parts.last()?, None, None),
            Walk::Done => return None,
        };
        let mut attributes = self.criteria.clone();
        part.object_type
            .into_iter()
            .for_each(|one| attributes.push(AttributeValue::ObjectType(one)));
        part.state
            .into_iter()
            .for_each(|state| attributes.push(AttributeValue::State(state)));
        for date in part
            .dates
            .into_iter()
            .flat_map(|(from, to)| [Some(from), (from != to).then_some(to)])
            .flatten()
        {
            attributes.push(AttributeValue::InitialDate(DateTime(date)));
        }
        let mut mask = StorageStatusMask::ON_LINE_STORAGE | StorageStatusMask::ARCHIVAL_STORAGE;
        if self.version >= Version::V2_0 {
            mask = mask | StorageStatusMask::DESTROYED_STORAGE;
        }
        Some(LocateRequest {
            maximum_items: maximum,
            offset_items: offset,
            storage_status_mask: Some(mask),
            object_group_member: None,
            attributes,
            extra: Extra::NONE,
        })
    }

    /// Takes what an answer says of how many objects there are in all (Located Items).
    pub(crate) fn set_located_items(&mut self, located: Option<i32>) {
        // Of one part it says nothing about the others.
        let is_all = matches!(self.walk, Walk::Pages { .. });
        self.located = located
            .filter(|_| is_all)
            .and_then(|located| usize::try_from(located).ok())
            .or(self.located);
    }

    /// How many more there are than were found; `None` where the server has not told, or what can't be so: some count a full page alone.
    pub(crate) fn unfound(&self) -> Option<usize> {
        if self.passes > 0 {
            return Some(0);
        }
        self.located
            .filter(|located| !self.is_cut(*located))?
            .checked_sub(self.seen.len())
    }

    /// Whether a total is only that of the full pages so far.
    fn is_cut(&self, located: usize) -> bool {
        located == self.seen.len() && located.is_multiple_of(PAGE as usize)
    }

    /// Takes an answer, and returns the identifiers that were not there before.
    pub(crate) fn found<'i>(
        &mut self,
        identifiers: impl ExactSizeIterator<Item = &'i str> + Clone,
    ) -> Vec<Text> {
        let count = identifiers.len();
        let fresh: Vec<Text> = identifiers
            .clone()
            .filter(|one| self.seen.insert(one))
            .map(Text::from)
            .collect();
        self.news += fresh.len();
        self.longest = self.longest.max(count);
        match &mut self.walk {
            Walk::Pages {
                offset,
                last,
                page: most,
            } => {
                if i32::try_from(count) == Ok(*most) && !self.refused {
                    *most = most.saturating_mul(4).min(LARGEST);
                }
                let page: Vec<u128> = identifiers.map(|one| self.seen.hash(one)).collect();
                let first = self.passes == 0;
                let repeats = count > 0
                    && (*offset > 0 && first && fresh.is_empty()
                        || last.as_ref() == Some(&page)
                        || *offset > 2 * self.seen.len() + 1000);
                *offset += count;
                *last = Some(page);
                if repeats {
                    // Its offsets say nothing.
                    self.walk = Walk::Parts(vec![Part::default()]);
                } else if count == 0 {
                    self.end_of_pass();
                }
            }
            Walk::Parts(parts) => {
                let part = parts.pop().unwrap_or_default();
                if count >= SHORT && count >= self.longest {
                    self.divide(part, format_args!("an answer of {count} may have been cut"));
                }
                self.end_of_parts();
            }
            Walk::Done => {}
        }
        fresh
    }

    /// Takes a refusal.
    pub(crate) fn refused(&mut self, reason: Option<ResultReason>, message: &str) {
        let too_large = reason == Some(ResultReason::RESPONSE_TOO_LARGE);
        match &mut self.walk {
            Walk::Pages { page, .. } if too_large && *page > 1 => {
                *page /= 2;
                self.refused = true;
            }
            // Some servers can't look for some attributes: each hit is checked anyhow.
            _ if !too_large && !self.criteria.is_empty() => self.criteria = Attributes::new(),
            Walk::Pages { .. } => self.walk = Walk::Parts(vec![Part::default()]),
            Walk::Parts(parts) => {
                let part = parts.pop().unwrap_or_default();
                let why = if too_large {
                    "the answer is too large"
                } else {
                    message
                };
                // A part that is refused for itself, such as a type that the server does not know, is not divided further.
                if too_large || part == Part::default() {
                    self.divide(part, why);
                } else {
                    self.name(part, why);
                }
                self.end_of_parts();
            }
            Walk::Done => {}
        }
    }

    fn divide(&mut self, part: Part, why: impl std::fmt::Display) {
        match (part.divided(self.version, self.until), &mut self.walk) {
            (Some(smaller), Walk::Parts(parts)) => parts.extend(smaller),
            _ => self.name(part, why),
        }
    }

    fn name(&mut self, part: Part, why: impl std::fmt::Display) {
        let unseen = format!("{part}: {why}");
        if self.unseen.len() < NAMED && !self.unseen.contains(&unseen) {
            self.unseen.push(unseen);
        }
    }

    fn end_of_parts(&mut self) {
        if matches!(&self.walk, Walk::Parts(parts) if parts.is_empty()) {
            self.end_of_pass();
        }
    }

    /// Two passes that agree are the end.
    fn end_of_pass(&mut self) {
        self.passes += 1;
        let quiet = std::mem::take(&mut self.news) == 0;
        if quiet || self.passes >= PASSES {
            if !quiet {
                self.unseen.push(format!(
                    "objects that came after {PASSES} passes: they kept coming"
                ));
            }
            self.walk = Walk::Done;
            return;
        }
        self.walk = match self.walk {
            Walk::Pages { page, .. } => Walk::Pages {
                offset: 0,
                page,
                last: None,
            },
            _ => Walk::Parts(vec![Part::default()]),
        };
    }
}
