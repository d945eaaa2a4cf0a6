//! [`Downgrade`], the trait of values that can be made fit for another protocol version, and [`Loss`], the record of what they left behind.

use crate::context::Context;
use crate::encoding::Encode;
use crate::error::Result;
use crate::item::Item;
use crate::item::reader::Reader;
use crate::primitive::{DateTime, DateTimeExtended, Enumeration, Interval};
use crate::raw::{Extra, Raw};
use crate::tagged::Choice;
use crate::text::Text;
use crate::types::{Tag, Version};
use crate::value::Value;
use crate::writer::Writer;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

/// A type whose values can be made fit for another version: what that version lacks is left behind, and recorded.
///
/// # Contract
/// The rest can be written for `version`, and is unchanged. When the version has no form for the value at all, the answer is false: the value
/// may then look like anything, and its owner leaves the whole of it behind.
pub trait Downgrade: Clone {
    /// Whether a structure means something else without such a field, and is left behind together with it: an identifier is of this kind.
    const VITAL: bool = false;
    /// Leaves behind what `version` lacks; false when nothing of use would remain.
    #[must_use]
    fn downgrade(&mut self, version: Version, loss: &mut Loss) -> bool;
}

/// The record of what a value left behind when it was made fit for another version.
#[derive(Clone, Debug, Default)]
pub struct Loss {
    from: Option<Version>,
    path: Vec<Tag>,
    lost: Vec<Lost>,
}

impl PartialEq for Loss {
    fn eq(&self, other: &Loss) -> bool {
        self.lost == other.lost
    }
}

/// One thing that was left behind.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Lost {
    /// Where it stood: the tags around it, outermost first, and its own.
    pub path: Vec<Tag>,
    /// The name of a custom attribute, which its tag does not tell.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub name: Option<Text>,
    /// The value, as it is written in a version that has it; of a mask, the bits that were lost.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub value: Option<Raw>,
}

impl Loss {
    /// An empty record.
    pub const NONE: Loss = Loss {
        from: None,
        path: Vec::new(),
        lost: Vec::new(),
    };

    /// An empty record, for a value that came in version `from`.
    pub fn of_version(from: Version) -> Loss {
        Loss {
            from: Some(from),
            ..Loss::NONE
        }
    }

    /// The version that the value came in, where it is known. The same fields may mean something else in another version.
    pub fn from(&self) -> Option<Version> {
        self.from
    }

    /// Says which version the value came in: a message knows.
    pub fn set_from(&mut self, from: Version) {
        self.from = Some(from);
    }

    #[cfg(feature = "serde")]
    pub(crate) fn of(lost: Vec<Lost>) -> Loss {
        Loss { lost, ..Loss::NONE }
    }

    /// The things that were left behind.
    pub fn iter(&self) -> core::slice::Iter<'_, Lost> {
        self.lost.iter()
    }

    /// The number of things that were left behind.
    pub fn len(&self) -> usize {
        self.lost.len()
    }

    /// Whether nothing was left behind.
    pub fn is_empty(&self) -> bool {
        self.lost.is_empty()
    }

    /// Records that `value`, which stood under `tag`, is left behind.
    pub fn record<T: Encode + ?Sized>(&mut self, tag: Tag, value: &T) {
        self.record_named(tag, None, value);
    }

    /// Records that `value`, which stood under `tag` and has a name of its own, is left behind.
    pub fn record_named<T: Encode + ?Sized>(&mut self, tag: Tag, name: Option<Text>, value: &T) {
        let mut path = self.path.clone();
        path.push(tag);
        self.lost.push(Lost {
            path,
            name,
            value: encoded(self.from, tag, value),
        });
    }

    /// Records a part of the value under the current tag that is left behind: the bits of a mask.
    pub fn record_part<T: Encode + ?Sized>(&mut self, part: &T) {
        let tag = self.path.last().copied().unwrap_or(Tag::new(0x420000));
        self.lost.push(Lost {
            path: self.path.clone(),
            name: None,
            value: encoded(self.from, tag, part),
        });
    }

    /// Runs `inner` for the content of an item of this tag. When `inner` answers false, its records are dropped: the whole item is lost then.
    #[must_use]
    pub fn within(&mut self, tag: Tag, inner: impl FnOnce(&mut Loss) -> bool) -> bool {
        let before = self.lost.len();
        self.path.push(tag);
        let kept = inner(self);
        self.path.pop();
        if !kept {
            self.lost.truncate(before);
        }
        kept
    }

    /// Makes a part fit that must be there; false when nothing of it remains.
    #[must_use]
    pub fn required<T: Downgrade>(&mut self, value: &mut T, tag: Tag, version: Version) -> bool {
        self.within(tag, |loss| value.downgrade(version, loss))
    }

    /// Makes a field under `tag` fit, which the version has when `has` is true. Records the field and answers false when it is left behind.
    #[must_use]
    pub fn keeps<T: Downgrade + Encode>(
        &mut self,
        value: &mut T,
        tag: Tag,
        has: bool,
        version: Version,
    ) -> bool {
        let whole = value.clone();
        let kept = has && self.within(tag, |loss| value.downgrade(version, loss));
        if !kept {
            self.record(tag, &whole);
        }
        kept
    }

    /// Makes a field fit that may be absent, and sets it to `None` when it is left behind; false when it was vital.
    #[must_use]
    pub fn optional<T: Downgrade + Encode>(
        &mut self,
        field: &mut Option<T>,
        tag: Tag,
        has: bool,
        version: Version,
    ) -> bool {
        if field
            .as_mut()
            .is_none_or(|value| self.keeps(value, tag, has, version))
        {
            return true;
        }
        *field = None;
        !T::VITAL
    }

    /// Makes a repeated field fit; in this version it may stand only once when `once` is true. Answers false when a vital value was lost.
    #[must_use]
    pub fn repeated<T>(
        &mut self,
        field: &mut Vec<T>,
        tag: Tag,
        has: bool,
        once: bool,
        version: Version,
    ) -> bool
    where
        T: Downgrade + Encode,
    {
        let before = field.len();
        let mut room = if once { 1 } else { usize::MAX };
        field.retain_mut(|value| {
            let kept = self.keeps(value, tag, has && room > 0, version);
            room -= usize::from(kept);
            kept
        });
        !T::VITAL || field.len() == before
    }

    /// Leaves behind those unknown items of a structure that a reader of this version would take for one of its fields.
    pub fn extra(
        &mut self,
        extra: &mut Extra,
        version: Version,
        is_field: impl Fn(Item<'_>, &Reader<'_>) -> bool,
    ) {
        extra.retain(|raw| {
            let r = Reader::new(raw.bytes(), Context::new(version));
            let kept = !Item::parse(raw.bytes()).is_ok_and(|item| is_field(item, &r));
            if !kept {
                self.record(raw.tag(), raw);
            }
            kept
        });
    }

    /// Makes a choice fit; records it and answers false when it is left behind.
    #[must_use]
    pub fn keeps_choice<T: Downgrade + Choice>(&mut self, value: &mut T, version: Version) -> bool {
        let (tag, whole) = (value.tag(), value.clone());
        let kept = self.within(tag, |loss| value.downgrade(version, loss));
        if !kept {
            self.record(tag, &AsChoice(&whole));
        }
        kept
    }

    /// Makes a choice fit that may be absent, and sets it to `None` when it is left behind.
    pub fn optional_choice<T: Downgrade + Choice>(
        &mut self,
        field: &mut Option<T>,
        version: Version,
    ) {
        if field
            .as_mut()
            .is_some_and(|value| !self.keeps_choice(value, version))
        {
            *field = None;
        }
    }
}

/// The value in a version that has it: the one that it came in, else 2.1, else 1.4, after which some fields were dropped.
fn encoded<T: Encode + ?Sized>(from: Option<Version>, tag: Tag, value: &T) -> Option<Raw> {
    let written = |version| Raw::of(tag, value, Context::new(version)).ok();
    from.and_then(written)
        .or_else(|| written(Version::V2_1))
        .or_else(|| written(Version::V1_4))
}

/// A choice, written under the tag of its form.
struct AsChoice<'a, T>(&'a T);

impl<T: Choice> Encode for AsChoice<'_, T> {
    fn encode(&self, _: Tag, w: &mut Writer) -> Result<()> {
        self.0.encode_choice(w)
    }
}

impl<'l> IntoIterator for &'l Loss {
    type Item = &'l Lost;
    type IntoIter = core::slice::Iter<'l, Lost>;
    fn into_iter(self) -> Self::IntoIter {
        self.lost.iter()
    }
}

macro_rules! everywhere {
    ($($ty:ty),*) => {$(
        /// Every version has it.
        impl Downgrade for $ty {
            fn downgrade(&mut self, _: Version, _: &mut Loss) -> bool {
                true
            }
        }
    )*};
}

everywhere!(
    i32,
    i64,
    bool,
    String,
    Text,
    Vec<u8>,
    DateTime,
    Interval,
    Enumeration,
    Raw,
    Extra
);

/// Since KMIP 2.0.
impl Downgrade for DateTimeExtended {
    fn downgrade(&mut self, version: Version, _: &mut Loss) -> bool {
        version >= Version::V2_0
    }
}

impl Downgrade for Value {
    fn downgrade(&mut self, version: Version, loss: &mut Loss) -> bool {
        match self {
            Value::DateTimeExtended(date) => date.downgrade(version, loss),
            _ => true,
        }
    }
}

impl<T: Downgrade> Downgrade for Box<T> {
    const VITAL: bool = T::VITAL;

    fn downgrade(&mut self, version: Version, loss: &mut Loss) -> bool {
        (**self).downgrade(version, loss)
    }
}
