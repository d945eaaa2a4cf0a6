//! The TLS handshakes under way at a server, of which the oldest gives way when there are too many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The TLS handshakes under way. A new one always gets in: when there are too many, the oldest is given up.
pub(super) struct Handshakes {
    limit: usize,
    under_way: Mutex<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    next: u64,
    by_age: BTreeMap<u64, Arc<Notify>>,
}

/// A place among the handshakes.
pub(super) struct Place<'a> {
    handshakes: &'a Handshakes,
    number: u64,
    displaced: Arc<Notify>,
}

impl Handshakes {
    pub(super) fn new(limit: usize) -> Self {
        Handshakes {
            limit: limit.max(1),
            under_way: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self) -> Place<'_> {
        let mut under_way = self.lock();
        let displaced = Arc::new(Notify::new());
        let number = under_way.next;
        under_way.next += 1;
        if under_way.by_age.len() >= self.limit
            && let Some((_, oldest)) = under_way.by_age.pop_first()
        {
            oldest.notify_one();
        }
        under_way.by_age.insert(number, displaced.clone());
        Place {
            handshakes: self,
            number,
            displaced,
        }
    }
}

impl Place<'_> {
    /// Ready when this handshake has been the oldest of too many.
    pub(super) async fn displaced(&self) {
        self.displaced.notified().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.handshakes.lock().by_age.remove(&self.number);
    }
}
