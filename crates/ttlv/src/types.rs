//! The tags, item types and protocol versions.

use core::cmp::Ordering;
use core::fmt;

/// A tag: three bytes, 42xxxx for the standard's and 54xxxx for extensions (KMIP 2.1 §10.1.1, since 1.0).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(u32);

impl Tag {
    /// The tag with this number; only the lower 24 bits count.
    pub const fn new(number: u32) -> Tag {
        Tag(number & 0x00FF_FFFF)
    }

    /// The tag's number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Whether the tag lies in one of the two ranges.
    #[inline]
    pub const fn is_defined(self) -> bool {
        matches!(self.0 >> 16, 0x42 | 0x54)
    }

    /// Whether the tag lies in the range that the standard leaves to vendors.
    pub const fn is_extension(self) -> bool {
        self.0 >> 16 == 0x54
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06X}", self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({:06X})", self.0)
    }
}

/// The item types (KMIP 2.1 §10.1.2, since 1.0; Date-Time Extended since 2.0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Type {
    /// Items within an item.
    Structure = 1,
    /// 32 bits, signed.
    Integer = 2,
    /// 64 bits, signed.
    LongInteger = 3,
    /// Two's complement, a multiple of eight bytes.
    BigInteger = 4,
    /// 32 bits, a named number.
    Enumeration = 5,
    /// Eight bytes, 0 or 1.
    Boolean = 6,
    /// UTF-8.
    TextString = 7,
    /// Bytes.
    ByteString = 8,
    /// Seconds since 1970, UTC.
    DateTime = 9,
    /// Seconds, unsigned.
    Interval = 10,
    /// Microseconds since 1970, UTC.
    DateTimeExtended = 11,
}

impl Type {
    /// The type with this number.
    #[inline]
    pub const fn from_number(number: u8) -> Option<Type> {
        Some(match number {
            1 => Type::Structure,
            2 => Type::Integer,
            3 => Type::LongInteger,
            4 => Type::BigInteger,
            5 => Type::Enumeration,
            6 => Type::Boolean,
            7 => Type::TextString,
            8 => Type::ByteString,
            9 => Type::DateTime,
            10 => Type::Interval,
            11 => Type::DateTimeExtended,
            _ => return None,
        })
    }

    /// The type's name in the standard.
    pub const fn name(self) -> &'static str {
        match self {
            Type::Structure => "Structure",
            Type::Integer => "Integer",
            Type::LongInteger => "Long Integer",
            Type::BigInteger => "Big Integer",
            Type::Enumeration => "Enumeration",
            Type::Boolean => "Boolean",
            Type::TextString => "Text String",
            Type::ByteString => "Byte String",
            Type::DateTime => "Date-Time",
            Type::Interval => "Interval",
            Type::DateTimeExtended => "Date-Time Extended",
        }
    }

    /// The only length that a value of this type may have, where there is one.
    pub const fn fixed_length(self) -> Option<u32> {
        match self {
            Type::Integer | Type::Enumeration | Type::Interval => Some(4),
            Type::LongInteger | Type::Boolean | Type::DateTime | Type::DateTimeExtended => Some(8),
            Type::Structure | Type::BigInteger | Type::TextString | Type::ByteString => None,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A protocol version: what a field's presence depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version {
    /// The major number.
    pub major: u8,
    /// The minor number.
    pub minor: u8,
}

impl Version {
    /// KMIP 1.0
    pub const V1_0: Version = Version::new(1, 0);
    /// KMIP 1.1
    pub const V1_1: Version = Version::new(1, 1);
    /// KMIP 1.2
    pub const V1_2: Version = Version::new(1, 2);
    /// KMIP 1.3
    pub const V1_3: Version = Version::new(1, 3);
    /// KMIP 1.4
    pub const V1_4: Version = Version::new(1, 4);
    /// KMIP 2.0
    pub const V2_0: Version = Version::new(2, 0);
    /// KMIP 2.1
    pub const V2_1: Version = Version::new(2, 1);

    /// The version `major.minor`.
    pub const fn new(major: u8, minor: u8) -> Version {
        Version { major, minor }
    }

    /// Whether the version is `since` or later, and not later than `until`.
    #[inline]
    pub fn is_within(self, since: Version, until: Option<Version>) -> bool {
        since <= self && until.is_none_or(|until| self <= until)
    }
}

impl Version {
    #[inline]
    const fn number(self) -> u16 {
        u16::from_be_bytes([self.major, self.minor])
    }
}

impl Ord for Version {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.number().cmp(&other.number())
    }
}

impl PartialOrd for Version {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
