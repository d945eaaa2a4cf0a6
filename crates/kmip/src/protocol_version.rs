//! The protocol version as a message carries it, and the versions that this crate speaks.

use crate::spec::tag;
use keyferry_ttlv::{Decode, Downgrade, Encode, Error, ErrorKind, Result, Version};

/// The versions that can be spoken, preferred ones first.
pub const VERSIONS: &[Version] = &[
    Version::V2_1,
    Version::V2_0,
    Version::V1_4,
    Version::V1_3,
    Version::V1_2,
    Version::V1_1,
    Version::V1_0,
];

/// A version as a message carries it (KMIP 2.1 §9.16, since 1.0).
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Downgrade)]
#[ttlv(tag = tag::PROTOCOL_VERSION)]
pub struct ProtocolVersion {
    /// The major number.
    #[ttlv(tag = tag::PROTOCOL_VERSION_MAJOR)]
    pub major: i32,
    /// The minor number.
    #[ttlv(tag = tag::PROTOCOL_VERSION_MINOR)]
    pub minor: i32,
}

impl From<Version> for ProtocolVersion {
    fn from(version: Version) -> Self {
        ProtocolVersion {
            major: version.major.into(),
            minor: version.minor.into(),
        }
    }
}

impl ProtocolVersion {
    /// The version, where the numbers are small enough to be one.
    pub fn version(self) -> Option<Version> {
        Some(Version::new(
            self.major.try_into().ok()?,
            self.minor.try_into().ok()?,
        ))
    }
}

/// The version that a header states.
///
/// # Errors
/// When its numbers are those of no version.
pub(crate) fn version_of(protocol: ProtocolVersion) -> Result<Version> {
    protocol.version().ok_or_else(|| {
        Error::new(ErrorKind::Value(
            "the protocol version's numbers are out of range",
        ))
        .within(tag::PROTOCOL_VERSION)
    })
}
