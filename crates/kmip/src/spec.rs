//! The facts of the standard, one row each: tags, enumeration values, mask bits, attributes and their rules, with the versions that have
//! them. Nothing else in the workspace knows a number, a name or a version.

use keyferry_ttlv::{Tag, Type, Version};

mod attribute;
pub(crate) mod attribute_name;
mod enumeration;
mod mask;
mod names;
/// The tags by name.
pub mod tag;

pub use attribute::AttributeValue;
pub use enumeration::*;
pub use mask::*;
pub use names::Names;

/// The draft that some rows come from.
pub const V3_0: Version = Version::new(3, 0);

/// The versions that have something.
#[cfg_attr(feature = "serde", keyferry_ttlv::shown)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The first one.
    pub since: Version,
    /// The last one, where there is one.
    pub until: Option<Version>,
}

impl Versions {
    /// Whether `version` is one of them.
    pub fn contain(&self, version: Version) -> bool {
        self.since <= version && self.until.is_none_or(|until| version <= until)
    }

    /// Whether only a draft has it.
    pub fn is_draft(&self) -> bool {
        self.since >= V3_0
    }
}

macro_rules! version {
    (V3_0) => {
        $crate::spec::V3_0
    };
    ($name:ident) => {
        ::keyferry_ttlv::Version::$name
    };
}
macro_rules! versions {
    ($since:ident) => {
        $crate::spec::Versions {
            since: $crate::spec::version!($since),
            until: None,
        }
    };
    ($since:ident $until:ident) => {
        $crate::spec::Versions {
            since: $crate::spec::version!($since),
            until: Some($crate::spec::version!($until)),
        }
    };
}
use {version, versions};

/// What the standard says of a tag.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct TagRow {
    /// Its number.
    pub tag: Tag,
    /// Its name.
    pub name: &'static str,
    /// The versions that have it.
    pub versions: Versions,
    /// The types it may have; several where versions differ, none where the text gives none.
    pub types: &'static [Type],
}

macro_rules! tags {
    ($($id:ident = $number:literal, $name:literal, $since:ident $(.. $until:ident)?, [$($ty:ident),*];)*) => {
        use keyferry_ttlv::{Tag, Type};
        $(#[doc = $name] pub const $id: Tag = Tag::new($number);)*
        /// All rows, by number.
        pub const ROWS: &[super::TagRow] = &[$(super::TagRow {
            tag: $id, name: $name, versions: super::versions!($since $($until)?), types: &[$(Type::$ty),*],
        },)*];
    };
}
use tags;

/// The row of a tag.
pub fn tag_row(tag: Tag) -> Option<&'static TagRow> {
    tag::ROWS
        .binary_search_by_key(&tag, |row| row.tag)
        .ok()
        .and_then(|i| tag::ROWS.get(i))
}

/// A tag by its name in the standard.
pub fn tag_named(name: &str) -> Option<Tag> {
    static BY_NAME: std::sync::OnceLock<std::collections::HashMap<&'static str, Tag>> =
        std::sync::OnceLock::new();
    BY_NAME
        .get_or_init(|| tag::ROWS.iter().map(|row| (row.name, row.tag)).collect())
        .get(name)
        .copied()
}

/// What the standard says of one value of an enumeration, or one bit of a mask.
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
    /// Its name.
    pub name: &'static str,
    /// The tag that its values usually stand under.
    pub tag: Option<Tag>,
    /// Its values.
    pub values: &'static [ValueRow],
}

impl Domain {
    /// Whether `version` has this value. One that no version has is somebody's own, and goes everywhere.
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
                /// Its rows.
                pub const DOMAIN: $crate::spec::Domain = $crate::spec::Domain {
                    name: $title,
                    tag: $crate::spec::tag_or_none!($tag),
                    values: &[$($crate::spec::ValueRow { value: $number, name: $name, versions: $crate::spec::versions!($since $($until)?) },)*],
                };

                /// The standard's name of this value.
                pub fn name(self) -> Option<&'static str> {
                    $crate::spec::value_name(&Self::DOMAIN, self.0)
                }
            }

            $crate::spec::value_type!($id, enumeration, $tag);
        )*
        pub(super) const DOMAINS: &[$crate::spec::Domain] = &[$($id::DOMAIN),*];
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
                /// Its rows.
                pub const DOMAIN: $crate::spec::Domain = $crate::spec::Domain {
                    name: $title,
                    tag: $crate::spec::tag_or_none!($tag),
                    values: &[$($crate::spec::ValueRow { value: $number, name: $name, versions: $crate::spec::versions!($since $($until)?) },)*],
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

            $crate::spec::value_type!($id, mask, $tag);
        )*
        pub(super) const DOMAINS: &[$crate::spec::Domain] = &[$($id::DOMAIN),*];
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
        $crate::spec::value_type!(@codec $id, $kind);
    };
    ($id:ident, $kind:ident, $tag:ident) => {
        impl ::keyferry_ttlv::Tagged for $id {
            const TAG: ::keyferry_ttlv::Tag = $crate::spec::tag::$tag;
        }
        $crate::spec::value_type!(@codec $id, $kind);
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
        $crate::spec::value_type!(@shown $id, write_value, read_value);
        $crate::spec::value_type!(@debug $id);
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
        $crate::spec::value_type!(@shown $id, write_bits, read_bits);
        $crate::spec::value_type!(@debug $id);
    };
    (@shown $id:ident, $write:ident, $read:ident) => {
        impl serde::Serialize for $id {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::shown::$write(&Self::DOMAIN, self.0, serializer)
            }
        }
        impl<'de> serde::Deserialize<'de> for $id {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::shown::$read(&Self::DOMAIN, deserializer).map($id)
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
use {enumerations, masks, tag_or_none, value_type};

fn value_name(domain: &Domain, value: u32) -> Option<&'static str> {
    domain
        .values
        .iter()
        .find(|row| row.value == value)
        .map(|row| row.name)
}

/// All enumerations.
pub fn enumeration_domains() -> impl Iterator<Item = &'static Domain> {
    enumeration::GROUPS.iter().flat_map(|group| group.iter())
}

/// All masks.
pub fn mask_domains() -> impl Iterator<Item = &'static Domain> {
    mask::DOMAINS.iter()
}

/// Who sets an attribute first.
#[cfg_attr(feature = "serde", keyferry_ttlv::shown)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetBy {
    /// The server alone.
    Server,
    /// The client alone.
    Client,
    /// Either.
    Both,
}

/// When somebody may change an attribute.
#[cfg_attr(feature = "serde", keyferry_ttlv::shown)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// Never.
    Never,
    /// At any time.
    Always,
    /// While the object is Pre-Active.
    PreActive,
    /// While the object is Pre-Active or Active.
    PreActiveOrActive,
    /// While the object is Pre-Active or Active, until the date has been reached.
    UntilReached,
    /// Until usage was first allocated.
    UntilAllocated,
}

/// The objects that an attribute may be on.
#[cfg_attr(feature = "serde", keyferry_ttlv::shown)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// All Objects.
    All,
    /// All Cryptographic Objects.
    Cryptographic,
    /// All Cryptographic Objects, Opaque Objects.
    CryptographicOpaque,
    /// All Cryptographic Objects, Templates.
    CryptographicTemplates,
    /// Keys, Templates.
    KeysTemplates,
    /// Keys, Certificates, Templates.
    KeysCertificatesTemplates,
    /// Symmetric Keys, Split Keys of symmetric keys, Templates.
    SymmetricTemplates,
    /// Symmetric Key, Private Key, Split Key, Secret Data.
    Confidential,
    /// Public Keys, Private Keys.
    Asymmetric,
    /// Asymmetric Keys, Templates.
    AsymmetricTemplates,
    /// Certificates.
    Certificates,
    /// Certificates, PGP keys.
    CertificatesPgpKeys,
    /// Opaque Objects.
    Opaque,
}

impl On {
    /// Whether an object of this type is one of them. A type that the standard does not have is one of all objects alone.
    pub fn includes(self, object_type: ObjectType) -> bool {
        use ObjectType as T;
        let pair = matches!(object_type, T::PUBLIC_KEY | T::PRIVATE_KEY);
        let key = pair || matches!(object_type, T::SYMMETRIC_KEY | T::SPLIT_KEY | T::PGP_KEY);
        let certificate = object_type == T::CERTIFICATE;
        let template = object_type == T::TEMPLATE;
        let cryptographic = key || certificate || object_type == T::SECRET_DATA;
        match self {
            On::All => true,
            On::Cryptographic => cryptographic,
            On::CryptographicOpaque => cryptographic || object_type == T::OPAQUE_OBJECT,
            On::CryptographicTemplates => cryptographic || template,
            On::KeysTemplates => key || template,
            On::KeysCertificatesTemplates => key || certificate || template,
            On::SymmetricTemplates => {
                matches!(object_type, T::SYMMETRIC_KEY | T::SPLIT_KEY) || template
            }
            On::Confidential => {
                matches!(
                    object_type,
                    T::SYMMETRIC_KEY | T::PRIVATE_KEY | T::SPLIT_KEY | T::SECRET_DATA
                )
            }
            On::Asymmetric => pair,
            On::AsymmetricTemplates => pair || template,
            On::Certificates => certificate,
            On::CertificatesPgpKeys => certificate || object_type == T::PGP_KEY,
            On::Opaque => object_type == T::OPAQUE_OBJECT,
        }
    }
}

impl AttributeRow {
    /// Whether an object of this type may have it in `version`.
    pub fn may_be_on(&self, object_type: ObjectType, version: Version) -> bool {
        let on = if version < Version::V2_0 {
            self.on.0
        } else {
            self.on.1
        };
        self.versions.contain(version) && on.includes(object_type)
    }
}

/// What the standard says of an attribute (KMIP 2.1 §4, 1.4 §3).
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct AttributeRow {
    /// Its tag.
    pub tag: Tag,
    /// Its name.
    pub name: &'static str,
    /// The versions in which it is an attribute.
    pub versions: Versions,
    /// Who sets it first.
    pub set_by: SetBy,
    /// When the server may change it.
    pub server_modifies: May,
    /// When a client may change it.
    pub client_modifies: May,
    /// When a client may delete it.
    pub client_deletes: May,
    /// Whether an object may have several.
    pub multiple: bool,
    /// On which objects it may be, in 1.x and in 2.x.
    pub on: (On, On),
    /// Its name as the whole item that stands in a 1.x message: compared and written in one go.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) name_item: &'static [u8],
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) kind: attribute::Kind,
}

/// The row of an attribute by its tag.
pub fn attribute_row(tag: Tag) -> Option<&'static AttributeRow> {
    attribute::row(tag)
}

/// The row of an attribute by its name.
pub(crate) fn attribute_row_named(name: &str) -> Option<&'static AttributeRow> {
    tag_named(name).and_then(attribute_row)
}

/// The rows of all attributes.
pub fn attribute_rows() -> &'static [AttributeRow] {
    attribute::ROWS
}

macro_rules! attributes {
    ($($variant:ident($ty:ty) = $tag:ident, $since:ident $(.. $until:ident)?, $set:ident;
       $server:ident, $client:ident, $delete:ident; $many:ident; $on:ident $(/ $on_1:ident)?;)*) => {
        /// The attributes by number, in the order of the rows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Kind { $($variant),* }

        /// All rows.
        pub(super) static ROWS: &[AttributeRow] = &[$(AttributeRow {
            tag: tag::$tag,
            name: attribute_name::of(tag::$tag),
            name_item: {
                const NAME: &str = attribute_name::of(tag::$tag);
                &attribute_name::item::<{ attribute_name::item_length(NAME) }>(NAME)
            },
            kind: Kind::$variant,
            versions: versions!($since $($until)?),
            set_by: SetBy::$set,
            server_modifies: May::$server,
            client_modifies: May::$client,
            client_deletes: May::$delete,
            multiple: attributes!(@many $many),
            on: (attributes!(@on $on $($on_1)?), On::$on),
        },)*];

        /// The row of a tag.
        pub(super) fn row(tag: Tag) -> Option<&'static AttributeRow> {
            let kind = match tag {
                $(tag::$tag => Kind::$variant,)*
                _ => return None,
            };
            ROWS.get(kind as usize)
        }

        /// The value of an attribute.
        #[cfg_attr(feature = "serde", keyferry_ttlv::shown)]
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        #[allow(missing_docs)]
        pub enum AttributeValue {
            $($variant($ty),)*
            /// A Custom Attribute (1.x) or one with a Vendor Identification (2.x).
            Custom(CustomAttribute),
            /// One that this build does not know.
            Unknown(UnknownAttribute),
        }

        impl AttributeValue {
            /// Its tag; for a custom one that of Attribute.
            pub fn tag(&self) -> Tag {
                match self {
                    $(AttributeValue::$variant(_) => tag::$tag,)*
                    AttributeValue::Custom(_) => tag::ATTRIBUTE,
                    AttributeValue::Unknown(unknown) => unknown.tag(),
                }
            }

            /// Its row; a custom or unknown one has none.
            pub fn row(&self) -> Option<&'static AttributeRow> {
                let kind = match self {
                    $(AttributeValue::$variant(_) => Kind::$variant,)*
                    AttributeValue::Custom(_) | AttributeValue::Unknown(_) => return None,
                };
                ROWS.get(kind as usize)
            }

            /// Reads the value of the attribute that a row describes, straight into its place: a copy of an attribute costs more than
            /// reading one.
            pub(crate) fn read_standard<'a>(
                row: &AttributeRow,
                index: Option<i32>,
                item: ::keyferry_ttlv::Item<'a>,
                r: &::keyferry_ttlv::Reader<'a>,
                into: &mut Vec<$crate::Attribute>,
            ) -> ::keyferry_ttlv::Result<()> {
                match row.kind {
                    $(Kind::$variant => {
                        let value = r.child(item)?;
                        into.push($crate::Attribute { index, value: AttributeValue::$variant(value) });
                    })*
                }
                Ok(())
            }

            /// Leaves behind what `version` lacks of a value whose attribute it has.
            pub(crate) fn downgrade_value(&mut self, version: Version, loss: &mut ::keyferry_ttlv::Loss) -> bool {
                match self {
                    $(AttributeValue::$variant(value) => ::keyferry_ttlv::Downgrade::downgrade(value, version, loss),)*
                    AttributeValue::Custom(custom) => match &mut custom.value {
                        Some(value) => ::keyferry_ttlv::Downgrade::downgrade(value, version, loss),
                        None => true,
                    },
                    AttributeValue::Unknown(_) => true,
                }
            }

            /// Writes the bare value under `under`.
            pub(crate) fn encode_value(&self, under: Tag, w: &mut ::keyferry_ttlv::Writer) -> ::keyferry_ttlv::Result<()> {
                match self {
                    $(AttributeValue::$variant(value) => ::keyferry_ttlv::Encode::encode(value, under, w),)*
                    AttributeValue::Custom(custom) => match &custom.value {
                        Some(value) => ::keyferry_ttlv::Encode::encode(value, under, w),
                        None => Ok(()),
                    },
                    AttributeValue::Unknown(unknown) => unknown.encode_value(w),
                }
            }
        }
    };
    (@many One) => { false };
    (@many Many) => { true };
    (@on $on:ident) => { On::$on };
    (@on $on:ident $on_1:ident) => { On::$on_1 };
}
use attributes;

/// Whether what stands under a tag is key material or another secret, which nobody shows unasked.
pub fn is_secret(tag: Tag) -> bool {
    const SECRETS: &[Tag] = &[
        tag::KEY_MATERIAL,
        tag::KEY_VALUE,
        tag::KEY,
        tag::D,
        tag::J,
        tag::P,
        tag::Q,
        tag::X,
        tag::PRIME_EXPONENT_P,
        tag::PRIME_EXPONENT_Q,
        tag::CRT_COEFFICIENT,
        tag::PRIVATE_EXPONENT,
        tag::OPAQUE_DATA_VALUE,
        tag::DERIVATION_DATA,
        tag::DATA,
        tag::PASSWORD,
        tag::ONE_TIME_PASSWORD,
        tag::HASHED_PASSWORD,
        tag::SERVER_HASHED_PASSWORD,
        tag::SALTED_PASSWORD,
        tag::HASHED_USERNAME_PASSWORD,
        tag::HASHED_PASSWORD_USERNAME,
        tag::TICKET_VALUE,
        tag::OTP_SEED,
        crate::extension::FINGERPRINT_KEY,
    ];
    SECRETS.contains(&tag)
}
