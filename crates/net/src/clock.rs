//! The clock: the one place in the workspace that reads the time.

use keyferry_kmip::{DateTime, Now, Tick};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

/// The time now: the wall clock, and a monotonic tick that counts from this function's first use in the process.
pub fn clock() -> Now {
    let tick = Tick(u64::try_from(start().elapsed().as_millis()).unwrap_or(u64::MAX));
    let seconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds)
        }
    };
    Now {
        tick,
        wall: DateTime(seconds),
    }
}

/// The instant of a tick, or nothing when it is too far away to be reached.
pub(crate) fn instant(tick: Tick) -> Option<Instant> {
    start().checked_add(Duration::from_millis(tick.0))
}
