//! Counters of what this server has refused, for its status. They begin at 0 with each start, and may count an attempt twice that the store runs again.

use keyferry_kmip::{Cause, Failure};
use std::sync::atomic::{AtomicU64, Ordering};

/// How often a server has refused what others said, since it was started.
#[derive(Debug, Default)]
pub struct Refusals {
    unauthorised: AtomicU64,
    over_limit: AtomicU64,
    unproved: AtomicU64,
}

/// The counts of [`Refusals`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusalCounts {
    /// What a peer may not say, or may not send by the agreement ([rule A](crate::design#rule-a)).
    pub unauthorised: u64,
    /// What exceeds a limit ([`Limits`](crate::Limits)).
    pub over_limit: u64,
    /// Places, claims and give-backs for which no receipt of this server vouches ([rule B](crate::design#rule-b)).
    pub unproved: u64,
}

impl Refusals {
    /// The counts now.
    pub fn counts(&self) -> RefusalCounts {
        RefusalCounts {
            unauthorised: self.unauthorised.load(Ordering::Relaxed),
            over_limit: self.over_limit.load(Ordering::Relaxed),
            unproved: self.unproved.load(Ordering::Relaxed),
        }
    }

    /// Counts a failure, if it is a refusal of one of these kinds.
    pub(crate) fn count(&self, failure: &Failure) {
        if is_unauthorised(failure) {
            self.unauthorised.fetch_add(1, Ordering::Relaxed);
        } else if failure.cause() == Cause::ServerLimit {
            self.over_limit.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts something that lacks a receipt.
    pub(crate) fn count_unproved(&self) {
        self.unproved.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a peer may not say, by the policy of this server. It is refused and counted, and neither stored nor asked for again.
#[derive(Debug)]
pub(crate) struct Unauthorised;

impl std::fmt::Display for Unauthorised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("policy does not allow it")
    }
}

impl std::error::Error for Unauthorised {}

/// Whether a failure is that of a peer which says what it may not.
pub(crate) fn is_unauthorised(failure: &Failure) -> bool {
    std::error::Error::source(failure).is_some_and(|source| source.is::<Unauthorised>())
}
