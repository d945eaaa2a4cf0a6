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

/// A type whose values can be made fit for another version by leaving behind what that version lacks, and saying so.
///
/// # Contract
/// What is left can be written for `version`, and what was left behind is recorded. Nothing else changes: what a value keeps, it keeps as it
/// was. When the value can't be said at all the answer is false, and whoever holds it leaves the whole behind; what it looks like then
/// does not matter.
pub trait Downgrade: Clone {
    /// Whether what has such a field means something else without it, and so is left behind with it: an identifier.
    const VITAL: bool = false;
    /// Leaves behind what `version` lacks; false when nothing of use would remain.
    #[must_use]
    fn downgrade(&mut self, version: Version, loss: &mut Loss) -> bool;
}

/// What a value left behind when it was made fit for another version.
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
    /// Its name, of what has one beside its tag: a custom attribute.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub name: Option<Text>,
    /// What it was, as it is written in a version that has it; of a mask the bits.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub value: Option<Raw>,
}

impl Loss {
    /// Nothing.
    pub const NONE: Loss = Loss {
        from: None,
        path: Vec::new(),
        lost: Vec::new(),
    };

    /// Nothing yet, of a value that means what it means in `from`.
    pub fn of_version(from: Version) -> Loss {
        Loss {
            from: Some(from),
            ..Loss::NONE
        }
    }

    /// The version that the value came in, where it is known: the same fields may mean something else in the other.
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

    /// What was left behind.
    pub fn iter(&self) -> core::slice::Iter<'_, Lost> {
        self.lost.iter()
    }

    /// How many things were.
    pub fn len(&self) -> usize {
        self.lost.len()
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.lost.is_empty()
    }

    /// Records that `value`, which stood under `tag`, is left behind.
    pub fn record<T: Encode + ?Sized>(&mut self, tag: Tag, value: &T) {
        self.record_named(tag, None, value);
    }

    /// The same of something that has a name.
    pub fn record_named<T: Encode + ?Sized>(&mut self, tag: Tag, name: Option<Text>, value: &T) {
        let mut path = self.path.clone();
        path.push(tag);
        self.lost.push(Lost {
            path,
            name,
            value: encoded(self.from, tag, value),
        });
    }

    /// Records what is left behind of the value that is being looked at: the bits of a mask.
    pub fn record_part<T: Encode + ?Sized>(&mut self, part: &T) {
        let tag = self.path.last().copied().unwrap_or(Tag::new(0x420000));
        self.lost.push(Lost {
            path: self.path.clone(),
            name: None,
            value: encoded(self.from, tag, part),
        });
    }

    /// Does something within an item of this tag; what it records when it answers false is forgotten, since the whole is lost then.
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

    /// A part that must be there.
    #[must_use]
    pub fn required<T: Downgrade>(&mut self, value: &mut T, tag: Tag, version: Version) -> bool {
        self.within(tag, |loss| value.downgrade(version, loss))
    }

    /// A field under `tag`, when the version has it; false, and recorded, when it has to be left behind.
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

    /// A field that may be absent, and is when it has to be left behind; false when it was vital.
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

    /// A field that may stand several times, or but once in this version; false when one of them was vital.
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

    /// What a structure keeps without knowing it, less what the reader would take for a field in this version.
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

    /// A form of a choice.
    #[must_use]
    pub fn keeps_choice<T: Downgrade + Choice>(&mut self, value: &mut T, version: Version) -> bool {
        let (tag, whole) = (value.tag(), value.clone());
        let kept = self.within(tag, |loss| value.downgrade(version, loss));
        if !kept {
            self.record(tag, &AsChoice(&whole));
        }
        kept
    }

    /// A choice that may be absent, and is when it has to be left behind.
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

/// A value in a version that has it: the one that it came in, the last one, or the last before fields went.
fn encoded<T: Encode + ?Sized>(from: Option<Version>, tag: Tag, value: &T) -> Option<Raw> {
    let written = |version| Raw::of(tag, value, Context::new(version)).ok();
    from.and_then(written)
        .or_else(|| written(Version::V2_1))
        .or_else(|| written(Version::V1_4))
}

/// A choice as what it is written as.
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
