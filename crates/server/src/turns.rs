//! One commit for the requests of several connections: those that wait while another commit is under way go together into the next.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Groups that one commit takes at the most.
const SHARED: usize = 64;

/// What waits for a commit, and the outcome when it has been through one.
pub(crate) struct Waiting<T, R> {
    pub(crate) asked: T,
    outcome: Mutex<Option<R>>,
}

impl<T, R> Waiting<T, R> {
    pub(crate) fn finish(&self, outcome: R) {
        *lock(&self.outcome) = Some(outcome);
    }
}

/// Whose turn it is.
pub(crate) struct Turns<T, R> {
    line: Mutex<Line<T, R>>,
    committed: Condvar,
}

struct Line<T, R> {
    waiting: VecDeque<Arc<Waiting<T, R>>>,
    /// Whether somebody commits.
    busy: bool,
}

impl<T, R> Default for Turns<T, R> {
    fn default() -> Self {
        Turns {
            line: Mutex::new(Line {
                waiting: VecDeque::new(),
                busy: false,
            }),
            committed: Condvar::new(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends a turn, also when the commit panics.
struct Turn<'a, T, R>(&'a Turns<T, R>);

impl<T, R> Drop for Turn<'_, T, R> {
    fn drop(&mut self) {
        lock(&self.0.line).busy = false;
        self.0.committed.notify_all();
    }
}

impl<T, R> Turns<T, R> {
    /// The outcome of `asked`, which `commit` brings about: for it alone, or together with what others wait for. Whoever finds nobody committing
    /// commits for all that wait; `commit` finishes each that it is given. Nothing when it broke off.
    pub(crate) fn take(&self, asked: T, commit: impl Fn(&[Arc<Waiting<T, R>>])) -> Option<R> {
        let own = Arc::new(Waiting {
            asked,
            outcome: Mutex::new(None),
        });
        let mut line = lock(&self.line);
        line.waiting.push_back(own.clone());
        loop {
            if let Some(outcome) = lock(&own.outcome).take() {
                return Some(outcome);
            }
            if line.busy {
                line = self
                    .committed
                    .wait(line)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if !line.waiting.iter().any(|one| Arc::ptr_eq(one, &own)) {
                return None;
            }
            let most = line.waiting.len().min(SHARED);
            let all: Vec<_> = line.waiting.drain(..most).collect();
            line.busy = true;
            drop(line);
            let turn = Turn(self);
            commit(&all);
            drop(turn);
            line = lock(&self.line);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::Turns;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn everybody_gets_their_own_outcome_and_commits_are_shared() {
        let (turns, commits) = (Turns::<usize, usize>::default(), AtomicUsize::new(0));
        let gate = Mutex::new(());
        let held = gate.lock().unwrap();
        std::thread::scope(|scope| {
            let ask = |n: usize| {
                turns.take(n, |all| {
                    drop(gate.lock());
                    commits.fetch_add(1, Ordering::SeqCst);
                    all.iter().for_each(|one| one.finish(one.asked * 2));
                })
            };
            let asking: Vec<_> = (0..200).map(|n| scope.spawn(move || ask(n))).collect();
            // The first one commits alone; the others queue up behind it.
            while turns.line.lock().unwrap().waiting.len() < 199 {
                std::thread::yield_now();
            }
            drop(held);
            for (n, asked) in asking.into_iter().enumerate() {
                assert_eq!(asked.join().unwrap(), Some(n * 2));
            }
        });
        assert_eq!(
            commits.load(Ordering::SeqCst),
            1 + 199_usize.div_ceil(super::SHARED)
        );
    }
}
