//! Whether the wall clock of this server can be believed, before what a date has led to is stored for good ([rule 7](crate::design#rule-7)).

use crate::relation::keys::{self, Entry};
use keyferry_kmip::{DateTime, Now};
use keyferry_store::{Result, Snapshot, SnapshotExt};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a server knows of its own wall clock.
///
/// The wall clock is compared with the monotonic tick: where the two have moved apart by more than [`TOLERANCE`](Clock::TOLERANCE) since the time
/// was trusted last, somebody has set the clock, or the machine was suspended. Then nothing is stored because of a date: no State of an object changes
/// by it, and no new object is stored as Active because its Activation Date has passed. Reads go on telling what the dates have led to by
/// the clock as it is. It ends when the clock is right again, when a person [confirms](Clock::confirm) it, or when a peer that
/// [may confirm the time](crate::Peer::may_confirm_time) has the same.
///
/// When a process starts, there is no earlier tick: then the time must not lie before the one that the store has noted last, nor more than
/// [`ABSENCE`](Clock::ABSENCE) behind it.
#[derive(Debug, Default)]
pub struct Clock {
    watched: Mutex<Watched>,
}

#[derive(Debug, Default)]
struct Watched {
    /// The wall time in seconds at the tick 0, by the time that was trusted last.
    trusted: Option<i64>,
    /// Whether the present jump has been named.
    is_named: bool,
}

impl Clock {
    /// How many seconds the wall clock may move against the tick.
    pub const TOLERANCE: i64 = 5;

    /// How many seconds a server may be away: 30 days.
    pub const ABSENCE: i64 = 30 * 86_400;

    /// How many seconds the time that the store has noted may be old.
    const NOTED_EVERY: i64 = 60;

    /// Whether the time can be believed.
    ///
    /// # Errors
    /// Those of the store.
    pub fn is_trusted(&self, snapshot: &dyn Snapshot, now: Now) -> Result<bool> {
        let mut watched = self.watched();
        let begins = begin(now);
        let is_trusted = match watched.trusted {
            Some(trusted) => trusted.abs_diff(begins) <= Clock::TOLERANCE.unsigned_abs(),
            None => {
                let is_plausible = noted(snapshot)?.is_none_or(|noted| {
                    let since = now.wall.0.saturating_sub(noted.0);
                    (-Clock::TOLERANCE..=Clock::ABSENCE).contains(&since)
                });
                if is_plausible {
                    watched.trusted = Some(begins);
                }
                is_plausible
            }
        };
        if is_trusted {
            watched.is_named = false;
        }
        Ok(is_trusted)
    }

    /// Trusts the time as it is, because a person has looked.
    pub fn confirm(&self, now: Now) {
        self.watched().trusted = Some(begin(now));
    }

    /// Trusts the time as it is if a peer that may confirm it has the same.
    pub(crate) fn hear(&self, theirs: DateTime, now: Now) {
        if theirs.0.abs_diff(now.wall.0) <= Clock::TOLERANCE.unsigned_abs() {
            self.confirm(now);
        }
    }

    /// Whether a jump is to be named, which it is once.
    pub(crate) fn is_to_be_named(&self) -> bool {
        !std::mem::replace(&mut self.watched().is_named, true)
    }

    /// What notes a trusted time in the store, where it has noted none for a while.
    pub(crate) fn note(&self, snapshot: &dyn Snapshot, now: Now) -> Result<Option<Entry>> {
        let is_fresh = noted(snapshot)?
            .is_some_and(|noted| noted.0.abs_diff(now.wall.0) < Clock::NOTED_EVERY.unsigned_abs());
        let value = now.wall.0.to_be_bytes().to_vec();
        Ok((!is_fresh).then(|| (keys::CLOCK.to_vec(), Some(value))))
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wall time at the tick 0, if both have run alike since.
fn begin(now: Now) -> i64 {
    let ticked = i64::try_from(now.tick.0 / 1000).unwrap_or(i64::MAX);
    now.wall.0.saturating_sub(ticked)
}

/// The time that the store has noted last.
fn noted(snapshot: &dyn Snapshot) -> Result<Option<DateTime>> {
    let stored = snapshot.state_value(keys::CLOCK)?;
    let bytes = stored.and_then(|bytes| bytes.try_into().ok());
    Ok(bytes.map(|bytes| DateTime(i64::from_be_bytes(bytes))))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use keyferry_kmip::Tick;
    use keyferry_store::{Error, Incarnation, Memory, StoreExt};

    const START: i64 = 1_700_000_000;

    fn at(tick: i64, wall: i64) -> Now {
        Now {
            tick: Tick(tick.unsigned_abs() * 1000),
            wall: DateTime(START + wall),
        }
    }

    fn is_trusted(clock: &Clock, store: &Memory, now: Now) -> bool {
        store
            .view::<_, Error>(|snapshot| clock.is_trusted(snapshot, now))
            .unwrap()
    }

    fn store(noted: Option<i64>) -> Memory {
        let store = Memory::new(Incarnation([1; 16]));
        if let Some(noted) = noted {
            let value = (START + noted).to_be_bytes();
            store
                .transact::<_, Error>(|at| at.set_state(keys::CLOCK, Some(&value)))
                .unwrap();
        }
        store
    }

    #[test]
    fn a_jump_is_noticed_in_either_direction_until_it_is_over_or_confirmed() {
        let (clock, store) = (Clock::default(), store(None));
        assert!(is_trusted(&clock, &store, at(0, 0)));
        assert!(is_trusted(&clock, &store, at(100, 105)));
        for off in [6, -6, 7, -7, 86_400, -86_400] {
            assert!(!is_trusted(&clock, &store, at(200, 200 + off)), "{off}");
            assert!(is_trusted(&clock, &store, at(300, 300)));
        }
        // Many small steps are one long one.
        assert!(is_trusted(&clock, &store, at(400, 403)));
        assert!(!is_trusted(&clock, &store, at(401, 407)));
        clock.hear(DateTime(START + 420), at(402, 408));
        assert!(!is_trusted(&clock, &store, at(402, 408)));
        clock.hear(DateTime(START + 413), at(403, 409));
        assert!(is_trusted(&clock, &store, at(404, 410)));
        clock.confirm(at(500, 86_900));
        assert!(is_trusted(&clock, &store, at(501, 86_901)));
        assert!(!is_trusted(&clock, &store, at(502, 508)));
    }

    #[test]
    fn a_start_far_from_where_the_store_was_is_noticed() {
        for (now, plausible) in [
            (-6, false),
            (-5, true),
            (0, true),
            (Clock::ABSENCE, true),
            (Clock::ABSENCE + 1, false),
        ] {
            let (clock, store) = (Clock::default(), store(Some(0)));
            assert_eq!(is_trusted(&clock, &store, at(0, now)), plausible, "{now}");
        }
        let (clock, store) = (Clock::default(), store(Some(0)));
        assert!(!is_trusted(&clock, &store, at(0, -86_400)));
        assert!(is_trusted(&clock, &store, at(10, 10)));
    }

    #[test]
    fn the_time_is_noted_once_a_minute_and_a_jump_named_once() {
        let (clock, store) = (Clock::default(), store(Some(0)));
        let note = |now| {
            store
                .view::<_, Error>(|snapshot| clock.note(snapshot, now))
                .unwrap()
        };
        assert!(note(at(0, 59)).is_none());
        assert!(note(at(0, 60)).is_some());
        assert!(note(at(0, -60)).is_some());
        assert!(clock.is_to_be_named() && !clock.is_to_be_named());
        assert!(is_trusted(&clock, &store, at(0, 0)));
        assert!(clock.is_to_be_named());
    }
}
