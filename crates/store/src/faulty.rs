//! This module wraps a store so that chosen writes fail, for tests of the code above it.

use crate::contract::{Snapshot, Store, Transaction};
use crate::error::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

/// A store that fails as planned, for tests: it wraps any store, and the test says which write fails, and how.
///
/// ```
/// use keyferry_store::{ErrorKind, Fault, Faulty, Incarnation, Memory, Store};
///
/// let store = Faulty::new(Memory::new(Incarnation([1; 16])));
/// store.fail(2, Fault::RollBack(ErrorKind::Full));
/// store.write(&mut |tx| tx.set_state(b"first", Some(b"kept")))?;
/// let full = store.write(&mut |tx| tx.set_state(b"second", Some(b"lost")));
/// assert_eq!(full.unwrap_err().kind(), ErrorKind::Full);
/// # Ok::<(), keyferry_store::Error>(())
/// ```
pub struct Faulty<S> {
    inner: S,
    plan: Mutex<Plan>,
}

/// The way in which a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The write fails before the closure runs.
    Refuse(ErrorKind),
    /// The closure runs, then all is rolled back.
    RollBack(ErrorKind),
    /// The transaction is committed, but the caller gets [`ErrorKind::Io`]: the acknowledgement was lost.
    LoseAnswer,
    /// The closure runs, is rolled back as after a conflict, and runs again; the write succeeds.
    Rerun,
    /// The closure runs, then the commit waits for this time.
    Delay(Duration),
    /// The closure runs, then the process crashes, after the commit or before it: this call and all later ones fail with
    /// [`ErrorKind::Io`], until the store is [revived](Faulty::revive).
    Crash {
        /// Whether the transaction was committed.
        committed: bool,
    },
}

#[derive(Default)]
struct Plan {
    begun: u64,
    crashed: bool,
    faults: BTreeMap<u64, Fault>,
}

impl<S: Store> Faulty<S> {
    /// Wraps `inner`; no fault is planned yet.
    pub fn new(inner: S) -> Faulty<S> {
        Faulty {
            inner,
            plan: Mutex::default(),
        }
    }

    /// Plans a fault for the `nth` write from now: 1 is the next.
    pub fn fail(&self, nth: u64, fault: Fault) {
        let mut plan = self.plan();
        let at = plan.begun.saturating_add(nth);
        plan.faults.insert(at, fault);
    }

    /// Returns the number of writes that were begun, failed ones included.
    pub fn writes(&self) -> u64 {
        self.plan().begun
    }

    /// Whether the store has met a planned crash.
    pub fn has_crashed(&self) -> bool {
        self.plan().crashed
    }

    /// Ends the crash, as a restart of the process would.
    pub fn revive(&self) {
        self.plan().crashed = false;
    }

    /// The wrapped store.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> Result<()> {
        if self.plan().crashed {
            Err(Error::new(ErrorKind::Io, "planned crash"))
        } else {
            Ok(())
        }
    }

    fn next(&self) -> Option<Fault> {
        let mut plan = self.plan();
        plan.begun += 1;
        let at = plan.begun;
        plan.faults.remove(&at)
    }

    /// Runs `f` and rolls back; the error is `kind` unless the closure or the store failed by itself.
    fn roll_back(
        &self,
        kind: ErrorKind,
        f: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>,
    ) -> Result<()> {
        self.inner.write(&mut |tx| {
            f(tx)?;
            Err(planned(kind))
        })
    }
}

fn planned(kind: ErrorKind) -> Error {
    Error::new(kind, "planned fault")
}

impl<S: Store> Store for Faulty<S> {
    fn read(&self, f: &mut dyn FnMut(&dyn Snapshot) -> Result<()>) -> Result<()> {
        self.alive()?;
        self.inner.read(f)
    }

    fn write(&self, f: &mut dyn FnMut(&mut dyn Transaction) -> Result<()>) -> Result<()> {
        self.alive()?;
        match self.next() {
            None => self.inner.write(f),
            Some(Fault::Refuse(kind)) => Err(planned(kind)),
            Some(Fault::RollBack(kind)) => self.roll_back(kind, f),
            Some(Fault::LoseAnswer) => {
                self.inner.write(f)?;
                Err(planned(ErrorKind::Io))
            }
            Some(Fault::Rerun) => {
                // The closure runs again, whatever its first run returned.
                let _ = self.roll_back(ErrorKind::Aborted, f);
                self.inner.write(f)
            }
            Some(Fault::Delay(time)) => self.inner.write(&mut |tx| {
                f(tx)?;
                sleep(time);
                Ok(())
            }),
            Some(Fault::Crash { committed }) => {
                let _ = if committed {
                    self.inner.write(f)
                } else {
                    self.roll_back(ErrorKind::Io, f)
                };
                self.plan().crashed = true;
                self.alive()
            }
        }
    }
}
