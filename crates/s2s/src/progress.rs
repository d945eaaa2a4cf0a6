//! The progress of a transfer: how far it has come, how fast it is, and when it should end.

use crate::report::{Counts, ObjectResult};
use keyferry_kmip::Tick;
use std::collections::VecDeque;
use std::time::Duration;

/// A callback that gets the result of each object.
pub(crate) type Sink = Box<dyn FnMut(&ObjectResult) + Send>;

/// A callback that gets the progress of a transfer.
pub(crate) type Observer = Box<dyn FnMut(&Progress) + Send>;

/// The progress of a transfer, as an observer gets it after each answer that brought the transfer forward.
///
/// What is not known is `None`: the totals of a foreign server that does not show them, and every rate before time has passed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// How many objects ended how so far, over the whole transfer, however often it was interrupted.
    pub counts: Counts,
    /// How many objects have an outcome.
    pub objects: u64,
    /// How many objects the transfer has in all, as far as is known by now.
    pub of_objects: Option<u64>,
    /// How many bytes the requests had that were sent, or the objects that were received.
    pub bytes: u64,
    /// How many bytes there are in all, estimated from the objects so far.
    pub of_bytes: Option<u64>,
    /// How many objects ended in a second, over the last ten seconds.
    pub objects_per_second: Option<f64>,
    /// How many bytes passed in a second, over the last ten seconds.
    pub bytes_per_second: Option<f64>,
    /// How long the rest should take at that rate.
    pub remaining: Option<Duration>,
}

/// The time over which rates are measured, in milliseconds.
const WINDOW: u64 = 10_000;

/// The time between two moments that the meter keeps, in milliseconds.
const APART: u64 = 250;

/// Measures the rates of a transfer, from a few moments of the last seconds.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// The time, the objects and the bytes of each moment.
    moments: VecDeque<(Tick, u64, u64)>,
}

impl Meter {
    /// Begins to measure. What was done before does not count for the rates.
    pub(crate) fn start(&mut self, now: Tick, counts: &Counts) {
        self.moments.clear();
        self.moments
            .push_back((now, done(counts.asked), done(counts.bytes)));
    }

    /// The progress now, of `of` objects in all if that is known.
    pub(crate) fn progress(&mut self, now: Tick, counts: &Counts, of: Option<u64>) -> Progress {
        let (objects, bytes) = (done(counts.asked), done(counts.bytes));
        let of_objects = of.map(|of| {
            if counts.finished {
                objects
            } else {
                of.max(objects)
            }
        });
        while self.moments.len() > 1
            && self
                .moments
                .front()
                .is_some_and(|(then, ..)| since(*then, now) > WINDOW)
        {
            self.moments.pop_front();
        }
        let rate = |before: u64, after: u64, passed: u64| {
            after.saturating_sub(before) as f64 * 1000.0 / passed as f64
        };
        let rates = self
            .moments
            .front()
            .and_then(|(then, objects_then, bytes_then)| {
                let passed = since(*then, now);
                (passed > 0).then(|| {
                    (
                        rate(*objects_then, objects, passed),
                        rate(*bytes_then, bytes, passed),
                    )
                })
            });
        if self
            .moments
            .back()
            .is_none_or(|(then, ..)| since(*then, now) >= APART)
        {
            self.moments.push_back((now, objects, bytes));
        }
        let remaining = of_objects
            .zip(rates)
            .and_then(|(of, (rate, _))| match of - objects {
                0 => Some(Duration::ZERO),
                left => Duration::try_from_secs_f64(left as f64 / rate).ok(),
            });
        let each = (objects > 0).then(|| bytes as f64 / objects as f64);
        Progress {
            counts: counts.clone(),
            objects,
            of_objects,
            bytes,
            of_bytes: of_objects
                .zip(each)
                .map(|(of, each)| (of as f64 * each).round() as u64),
            objects_per_second: rates.map(|(objects, _)| objects),
            bytes_per_second: rates.map(|(_, bytes)| bytes),
            remaining,
        }
    }
}

fn done(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

fn since(then: Tick, now: Tick) -> u64 {
    now.0.saturating_sub(then.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(asked: i64) -> Counts {
        Counts {
            asked,
            bytes: asked * 500,
            ..Counts::default()
        }
    }

    #[test]
    fn rates_are_those_of_the_last_seconds() {
        let mut meter = Meter::default();
        meter.start(Tick(1000), &counts(100));
        let none = meter.progress(Tick(1000), &counts(100), Some(2100));
        assert_eq!(
            (none.objects_per_second, none.remaining, none.of_bytes),
            (None, None, Some(2100 * 500))
        );
        // Fast at first, and slow in the end: what was done before the session began counts for nothing.
        let mut last = none;
        for second in 1..=60u64 {
            let asked = 100
                + if second <= 20 {
                    second * 50
                } else {
                    1000 + (second - 20) * 10
                };
            last = meter.progress(
                Tick(1000 + second * 1000),
                &counts(asked as i64),
                Some(2100),
            );
            if second <= 20 {
                assert_eq!(last.objects_per_second, Some(50.0));
            }
        }
        assert_eq!(
            (last.objects, last.objects_per_second, last.bytes_per_second),
            (1500, Some(10.0), Some(5000.0))
        );
        assert_eq!(last.remaining, Some(Duration::from_secs(60)));
    }

    #[test]
    fn few_moments_are_kept_and_no_count_is_beyond_its_total() {
        let mut meter = Meter::default();
        meter.start(Tick(0), &counts(0));
        for tick in 0..100_000 {
            let progress = meter.progress(Tick(tick), &counts(tick as i64), Some(50_000));
            assert!(progress.of_objects >= Some(progress.objects));
        }
        assert!(meter.moments.len() <= 42, "{}", meter.moments.len());
        let unknown = meter.progress(Tick(100_001), &counts(100_001), None);
        assert_eq!(
            (unknown.of_objects, unknown.of_bytes, unknown.remaining),
            (None, None, None)
        );
        // Nothing moves: nobody knows when it ends.
        let stuck = meter.progress(Tick(200_000), &counts(100_001), Some(200_000));
        let stuck = meter.progress(Tick(211_000), &counts(100_001), stuck.of_objects);
        assert_eq!(
            (stuck.objects_per_second, stuck.remaining),
            (Some(0.0), None)
        );
        let finished = meter.progress(
            Tick(212_000),
            &Counts {
                finished: true,
                ..counts(100_001)
            },
            Some(200_000),
        );
        assert_eq!(
            (finished.of_objects, finished.remaining),
            (Some(100_001), Some(Duration::ZERO))
        );
    }
}
