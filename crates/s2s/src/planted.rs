//! The macro that marks where the simulation can plant a fault, to see that its tests find it.
//!
//! Outside of the package `planted`, which is built for that test alone and never published, `planted!` is the constant `false`.

/// Whether the fault of this name is planted.
#[cfg(not(keyferry_planted))]
macro_rules! planted {
    ($fault:ident) => {
        false
    };
}

#[cfg(keyferry_planted)]
macro_rules! planted {
    ($fault:ident) => {
        crate::faults::is_planted(crate::faults::Bug::$fault)
    };
}

pub(crate) use planted;

/// Whether servers compare what they hold: always, but where a fault is planted that this would heal.
#[cfg(not(keyferry_planted))]
pub(crate) const fn compares() -> bool {
    true
}

#[cfg(keyferry_planted)]
pub(crate) use crate::faults::compares;
