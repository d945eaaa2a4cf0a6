//! Enumerations and masks: their rows, and the macros that make a type of each.

use super::versions::Versions;
use keyferry_ttlv::{Tag, Version};

#[cfg(feature = "serde")]
pub(crate) mod serde_form;

/// The row of one value of an enumeration, or of one bit of a mask: what the standard says of it.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ValueRow {
    /// The number.
    pub value: u32,
    /// The name.
    pub name: &'static str,
    /// The versions that have it.
    pub versions: Versions,
}

/// An enumeration or a mask.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Domain {
    /// The name of the enumeration or mask.
    pub name: &'static str,
    /// The tag that its values usually stand under.
    pub tag: Option<Tag>,
    /// The rows of its values.
    pub values: &'static [ValueRow],
}

impl Domain {
    /// Whether `version` has this value. A value that the standard does not name is a vendor's own, and every version has it.
    pub fn has(&self, value: u32, version: Version) -> bool {
        let mut rows = self
            .values
            .iter()
            .filter(|row| row.value == value)
            .peekable();
        rows.peek().is_none() || rows.any(|row| row.versions.contain(version))
    }
}

/// A wire number of an enumeration, with constants for the values that the standard names.
macro_rules! enumerations {
    ($($id:ident = $tag:tt, $title:literal { $($constant:ident = $number:literal, $name:literal, $since:ident $(.. $until:ident)?;)* })*) => {
        $(
            #[doc = concat!("The enumeration ", $title, ". Other values than the named ones are kept.")]
            #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $id(pub u32);

            impl $id {
                $(#[doc = $name] pub const $constant: $id = $id($number);)*
                /// The rows of its values.
                pub const DOMAIN: $crate::spec::domain::Domain = $crate::spec::domain::Domain {
                    name: $title,
                    tag: $crate::spec::domain::tag_or_none!($tag),
                    values: &[$($crate::spec::domain::ValueRow { value: $number, name: $name, versions: $crate::spec::versions::versions!($since $($until)?) },)*],
                };

                /// The standard's name of this value.
                pub fn name(self) -> Option<&'static str> {
                    $crate::spec::domain::value_name(&Self::DOMAIN, self.0)
                }
            }

            $crate::spec::domain::value_type!($id, enumeration, $tag);
        )*
        pub(super) const DOMAINS: &[$crate::spec::domain::Domain] = &[$($id::DOMAIN),*];
    };
}

macro_rules! masks {
    ($($id:ident = $tag:tt, $title:literal { $($constant:ident = $number:literal, $name:literal, $since:ident $(.. $until:ident)?;)* })*) => {
        $(
            #[doc = concat!("The mask ", $title, ".")]
            #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub struct $id(pub u32);

            impl $id {
                $(#[doc = $name] pub const $constant: $id = $id($number);)*
                /// The rows of its values.
                pub const DOMAIN: $crate::spec::domain::Domain = $crate::spec::domain::Domain {
                    name: $title,
                    tag: $crate::spec::domain::tag_or_none!($tag),
                    values: &[$($crate::spec::domain::ValueRow { value: $number, name: $name, versions: $crate::spec::versions::versions!($since $($until)?) },)*],
                };

                /// Whether all bits of `other` are set.
                pub const fn contains(self, other: $id) -> bool {
                    self.0 & other.0 == other.0
                }

                fn name(self) -> Option<&'static str> {
                    None
                }
            }

            impl std::ops::BitOr for $id {
                type Output = $id;
                fn bitor(self, other: $id) -> $id {
                    $id(self.0 | other.0)
                }
            }

            $crate::spec::domain::value_type!($id, mask, $tag);
        )*
        pub(super) const DOMAINS: &[$crate::spec::domain::Domain] = &[$($id::DOMAIN),*];
    };
}

macro_rules! tag_or_none {
    (-) => {
        None
    };
    ($tag:ident) => {
        Some($crate::spec::tag::$tag)
    };
}

macro_rules! value_type {
    ($id:ident, $kind:ident, -) => {
        $crate::spec::domain::value_type!(@codec $id, $kind);
    };
    ($id:ident, $kind:ident, $tag:ident) => {
        impl ::keyferry_ttlv::Tagged for $id {
            const TAG: ::keyferry_ttlv::Tag = $crate::spec::tag::$tag;
        }
        $crate::spec::domain::value_type!(@codec $id, $kind);
    };
    (@codec $id:ident, enumeration) => {
        impl ::keyferry_ttlv::Decode for $id {
            fn decode<'a>(item: ::keyferry_ttlv::Item<'a>, r: &::keyferry_ttlv::Reader<'a>) -> ::keyferry_ttlv::Result<Self> {
                item.enumeration(r).map($id)
            }
        }
        impl ::keyferry_ttlv::Encode for $id {
            fn encode(&self, tag: ::keyferry_ttlv::Tag, w: &mut ::keyferry_ttlv::Writer) -> ::keyferry_ttlv::Result<()> {
                w.enumeration(tag, self.0);
                Ok(())
            }
        }
        impl ::keyferry_ttlv::Downgrade for $id {
            fn downgrade(&mut self, version: ::keyferry_ttlv::Version, _: &mut ::keyferry_ttlv::Loss) -> bool {
                Self::DOMAIN.has(self.0, version)
            }
        }
        #[cfg(feature = "serde")]
        $crate::spec::domain::value_type!(@serde $id, write_value, read_value);
        $crate::spec::domain::value_type!(@debug $id);
    };
    (@codec $id:ident, mask) => {
        impl ::keyferry_ttlv::Downgrade for $id {
            fn downgrade(&mut self, version: ::keyferry_ttlv::Version, loss: &mut ::keyferry_ttlv::Loss) -> bool {
                let lacks = (0..32).map(|n| 1 << n).filter(|bit| self.0 & bit != 0 && !Self::DOMAIN.has(*bit, version)).sum();
                if lacks != 0 {
                    loss.record_part(&$id(lacks));
                    self.0 &= !lacks;
                }
                true
            }
        }
        impl ::keyferry_ttlv::Decode for $id {
            fn decode<'a>(item: ::keyferry_ttlv::Item<'a>, r: &::keyferry_ttlv::Reader<'a>) -> ::keyferry_ttlv::Result<Self> {
                item.integer(r).map(|bits| $id(bits.cast_unsigned()))
            }
        }
        impl ::keyferry_ttlv::Encode for $id {
            fn encode(&self, tag: ::keyferry_ttlv::Tag, w: &mut ::keyferry_ttlv::Writer) -> ::keyferry_ttlv::Result<()> {
                w.integer(tag, self.0.cast_signed());
                Ok(())
            }
        }
        #[cfg(feature = "serde")]
        $crate::spec::domain::value_type!(@serde $id, write_bits, read_bits);
        $crate::spec::domain::value_type!(@debug $id);
    };
    (@serde $id:ident, $write:ident, $read:ident) => {
        impl serde::Serialize for $id {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::spec::domain::serde_form::$write(&Self::DOMAIN, self.0, serializer)
            }
        }
        impl<'de> serde::Deserialize<'de> for $id {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::spec::domain::serde_form::$read(&Self::DOMAIN, deserializer).map($id)
            }
        }
    };
    (@debug $id:ident) => {
        impl std::fmt::Debug for $id {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($id), "({:08X})"), self.0),
                }
            }
        }
        impl std::fmt::Display for $id {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "{:08X}", self.0),
                }
            }
        }
    };
}
pub(super) use {enumerations, masks, tag_or_none, value_type};

/// The standard's name of a value, or of a single bit.
pub(super) fn value_name(domain: &Domain, value: u32) -> Option<&'static str> {
    domain
        .values
        .iter()
        .find(|row| row.value == value)
        .map(|row| row.name)
}
