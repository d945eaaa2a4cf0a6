//! [`Retry`]: how often, and after which pauses, a connection is tried again.

use std::time::Duration;

/// The policy by which [`drive_with_retry`](crate::drive_with_retry) goes on after a lost connection: exponential back-off with jitter,
/// bounded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Retry {
    /// The first pause; each further one is twice as long. 200 ms.
    pub first: Duration,
    /// No pause is longer. 30 s.
    pub longest: Duration,
    /// Attempts in a row that bring no answer before it is given up. 10.
    pub attempts: u32,
    /// The pauses are shortened at random, by up to half; the same seed gives the same pauses. Give each client a seed of its own, so that
    /// a server's return is not met by all at once.
    pub seed: u64,
}

impl Retry {
    /// The defaults, with this seed.
    pub fn new(seed: u64) -> Self {
        Retry {
            first: Duration::from_millis(200),
            longest: Duration::from_secs(30),
            attempts: 10,
            seed,
        }
    }

    pub(crate) fn pauses(&self) -> Pauses<'_> {
        Pauses {
            retry: self,
            failed: 0,
            state: self.seed,
        }
    }
}

pub(crate) struct Pauses<'a> {
    retry: &'a Retry,
    failed: u32,
    state: u64,
}

impl Pauses<'_> {
    pub(crate) fn restart(&mut self) {
        self.failed = 0;
    }

    /// The pause before the next attempt, if there may be one.
    pub(crate) fn next(&mut self) -> Option<Duration> {
        self.failed += 1;
        if self.failed >= self.retry.attempts {
            return None;
        }
        let doubled = self
            .retry
            .first
            .saturating_mul(2u32.saturating_pow(self.failed - 1));
        let half = doubled.min(self.retry.longest) / 2;
        // 16 random bits of the fraction are plenty.
        let jitter = half.saturating_mul((self.random() >> 48) as u32) / (1 << 16);
        Some(half + jitter)
    }

    /// SplitMix64: not for secrets, only for spreading.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn pauses_grow_within_bounds_and_end() {
        let mut retry = Retry::new(7);
        retry.attempts = 12;
        let mut pauses = retry.pauses();
        let all: Vec<Duration> = std::iter::from_fn(|| pauses.next()).collect();
        assert_eq!(all.len(), 11);
        for (n, pause) in all.iter().enumerate() {
            let full = (retry.first * 2u32.pow(n as u32)).min(retry.longest);
            assert!(
                *pause >= full / 2 && *pause <= full,
                "pause {n}: {pause:?} of {full:?}"
            );
        }
    }

    #[test]
    fn the_seed_decides() {
        let pauses = |seed| {
            let retry = Retry::new(seed);
            let mut pauses = retry.pauses();
            std::iter::from_fn(move || pauses.next()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(1), pauses(1));
        assert_ne!(pauses(1), pauses(2));
    }

    #[test]
    fn progress_starts_the_count_anew() {
        let mut retry = Retry::new(1);
        retry.attempts = 2;
        let mut pauses = retry.pauses();
        assert!(pauses.next().is_some());
        pauses.restart();
        assert!(pauses.next().is_some());
        assert!(pauses.next().is_none());
    }
}
