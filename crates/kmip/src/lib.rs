//! The KMIP object and attribute model, 1.0 to 2.1

mod host;
pub use host::*;

/// Seconds since 1970-01-01T00:00:00Z. Not the `time` crate's type, which has no room for the standard's largest value,
/// "undefined" (KMIP 2.1 §9.1.1, since 1.0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DateTime(pub i64);
