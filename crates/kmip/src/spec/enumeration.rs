//! The enumerations, in four groups.

use super::{Domain, enumerations};

mod cryptography;
mod message;
mod object;
mod profile;

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
