//! The enumerations, in four groups.

use super::domain::Domain;

pub(crate) mod cryptography;
pub(crate) mod message;
pub(crate) mod object;
pub(crate) mod profile;

pub use cryptography::*;
pub use message::*;
pub use object::*;
pub use profile::*;

pub(super) const GROUPS: &[&[Domain]] = &[
    object::DOMAINS,
    cryptography::DOMAINS,
    message::DOMAINS,
    profile::DOMAINS,
];
