//! [`Wake`], by which a conversation that waits is woken from another thread.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The means to wake a conversation that waits, before its tick: its driver then polls it at once. Clones wake the same conversation.
///
/// Several wakings before the next poll count as one. None is lost, also when the conversation is not waiting or has no connection.
#[derive(Clone, Default)]
pub struct Wake(Arc<Mutex<Woken>>);

#[derive(Default)]
struct Woken {
    woken: bool,
    waker: Option<Waker>,
}

impl Wake {
    /// A wake for which no conversation waits yet.
    pub fn new() -> Self {
        Wake::default()
    }

    fn lock(&self) -> MutexGuard<'_, Woken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the conversation. Never blocks.
    pub fn wake(&self) {
        let waker = {
            let mut state = self.lock();
            state.woken = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether it was woken since this was last asked: for drivers without futures.
    pub fn take(&self) -> bool {
        std::mem::take(&mut self.lock().woken)
    }

    /// Ready once when it was woken: for drivers. One at a time; of several the last one is told.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if std::mem::take(&mut state.woken) {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wake(woken: {})", self.lock().woken)
    }
}

#[cfg(test)]
mod tests {
    use super::Wake;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Waker};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn it_counts_once_and_is_not_lost() {
        let (wake, count) = (Wake::new(), Arc::new(Count::default()));
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        wake.wake();
        wake.clone().wake();
        assert_eq!(wake.poll(&mut cx), Poll::Ready(()));
        assert_eq!(wake.poll(&mut cx), Poll::Pending);
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        wake.wake();
        wake.wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(wake.take() && !wake.take());
    }
}
