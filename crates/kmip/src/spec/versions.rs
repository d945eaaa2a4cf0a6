//! Ranges of protocol versions: which ones have a tag, a value or an attribute.

use keyferry_ttlv::Version;

/// Whether attributes stand under tags of their own in this version (since 2.0), and not under Attribute with a name (1.x).
pub(crate) fn is_tagged(version: Version) -> bool {
    version >= Version::V2_0
}

/// The draft that some rows come from.
pub const V3_0: Version = Version::new(3, 0);

/// The versions that have something.
#[cfg_attr(feature = "serde", keyferry_ttlv::serde_form)]
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
        $crate::spec::versions::V3_0
    };
    ($name:ident) => {
        ::keyferry_ttlv::Version::$name
    };
}
macro_rules! versions {
    ($since:ident) => {
        $crate::spec::versions::Versions {
            since: $crate::spec::versions::version!($since),
            until: None,
        }
    };
    ($since:ident $until:ident) => {
        $crate::spec::versions::Versions {
            since: $crate::spec::versions::version!($since),
            until: Some($crate::spec::versions::version!($until)),
        }
    };
}
pub(super) use {version, versions};
