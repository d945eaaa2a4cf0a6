//! One commit for the requests of several connections: those that wait while another commit is under way go together into the next.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    waiting: Mutex<VecDeque<Arc<Waiting<T, R>>>>,
    turn: Mutex<()>,
}

impl<T, R> Default for Turns<T, R> {
    fn default() -> Self {
        Turns { waiting: Mutex::default(), turn: Mutex::default() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T, R> Turns<T, R> {
    /// The outcome of `asked`, which `commit` brings about: for it alone, or together with what others wait for. Whoever's turn it is commits
    /// for all that wait; `commit` finishes each that it is given.
    pub(crate) fn take(&self, asked: T, commit: impl Fn(&[Arc<Waiting<T, R>>])) -> Option<R> {
        let own = Arc::new(Waiting { asked, outcome: Mutex::new(None) });
        lock(&self.waiting).push_back(own.clone());
        let _turn = lock(&self.turn);
        loop {
            if let Some(outcome) = lock(&own.outcome).take() {
                return Some(outcome);
            }
            let all: Vec<_> = {
                let mut waiting = lock(&self.waiting);
                let most = waiting.len().min(SHARED);
                waiting.drain(..most).collect()
            };
            // Without its outcome it still waits, unless a commit gave it up.
            if all.is_empty() {
                return None;
            }
            commit(&all);
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
            while turns.waiting.lock().unwrap().len() < 199 {
                std::thread::yield_now();
            }
            drop(held);
            for (n, asked) in asking.into_iter().enumerate() {
                assert_eq!(asked.join().unwrap(), Some(n * 2));
            }
        });
        assert_eq!(commits.load(Ordering::SeqCst), 1 + 199_usize.div_ceil(super::SHARED));
    }
}
