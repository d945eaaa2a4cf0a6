//! This module lets the requests of several connections share a commit: those that arrive during one commit go into the next together.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The most groups of requests in one commit.
const SHARED: usize = 64;

/// A group of requests that waits for a commit, and its outcome after the commit.
pub(crate) struct Waiting<T, R> {
    pub(crate) asked: T,
    outcome: Mutex<Option<R>>,
}

impl<T, R> Waiting<T, R> {
    /// Sets the outcome.
    pub(crate) fn finish(&self, outcome: R) {
        *lock(&self.outcome) = Some(outcome);
    }
}

/// The groups that wait for a commit; one thread at a time commits.
pub(crate) struct CommitQueue<T, R> {
    line: Mutex<Line<T, R>>,
    committed: Condvar,
}

struct Line<T, R> {
    waiting: VecDeque<Arc<Waiting<T, R>>>,
    /// Whether a thread commits at this moment.
    busy: bool,
}

impl<T, R> Default for CommitQueue<T, R> {
    fn default() -> Self {
        CommitQueue {
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
struct Turn<'a, T, R>(&'a CommitQueue<T, R>);

impl<T, R> Drop for Turn<'_, T, R> {
    fn drop(&mut self) {
        lock(&self.0.line).busy = false;
        self.0.committed.notify_all();
    }
}

impl<T, R> CommitQueue<T, R> {
    /// Adds a group, waits until it was committed, and returns its outcome; `None` when the commit broke off.
    ///
    /// A thread that finds nobody committing calls `commit` for all groups that wait, its own among them; `commit` sets the outcome of
    /// each.
    pub(crate) fn commit(&self, asked: T, commit_all: impl Fn(&[Arc<Waiting<T, R>>])) -> Option<R> {
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
            commit_all(&all);
            drop(turn);
            line = lock(&self.line);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::CommitQueue;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn everybody_gets_their_own_outcome_and_commits_are_shared() {
        let (queue, commits) = (CommitQueue::<usize, usize>::default(), AtomicUsize::new(0));
        let gate = Mutex::new(());
        let held = gate.lock().unwrap();
        std::thread::scope(|scope| {
            let ask = |n: usize| {
                queue.commit(n, |all| {
                    drop(gate.lock());
                    commits.fetch_add(1, Ordering::SeqCst);
                    all.iter().for_each(|one| one.finish(one.asked * 2));
                })
            };
            let asking: Vec<_> = (0..200).map(|n| scope.spawn(move || ask(n))).collect();
            // The first one commits alone; the others queue up behind it.
            while queue.line.lock().unwrap().waiting.len() < 199 {
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
