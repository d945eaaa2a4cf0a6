//! What the threads of a process keep in memory together, one for each key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The most that are kept. When there are more, all are made anew as they are needed.
const MOST: usize = 4096;

/// Tables that threads share, by what they are about.
pub(crate) struct Shared<T>(Mutex<HashMap<Vec<u8>, Arc<Mutex<T>>>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Shared(Mutex::default())
    }
}

impl<T> Shared<T> {
    /// The one of this key.
    pub(crate) fn of(&self, key: &[u8], new: impl FnOnce() -> T) -> Arc<Mutex<T>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(key) {
            return known.clone();
        }
        if all.len() >= MOST {
            all.clear();
        }
        let made = Arc::new(Mutex::new(new()));
        all.insert(key.to_vec(), made.clone());
        made
    }

    /// All of them.
    #[cfg(test)]
    pub(crate) fn all(&self) -> Vec<Arc<Mutex<T>>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn there_is_one_for_each_key_and_not_without_end() {
        let shared = Shared::<u32>::default();
        *shared.of(b"x", || 1).lock().unwrap() = 5;
        assert_eq!(*shared.of(b"x", || 1).lock().unwrap(), 5);
        assert_eq!(*shared.of(b"y", || 2).lock().unwrap(), 2);
        for n in 2..MOST {
            shared.of(&n.to_be_bytes(), || 0);
        }
        assert_eq!(shared.all().len(), MOST);
        assert_eq!(*shared.of(b"x", || 1).lock().unwrap(), 5);
        assert_eq!(*shared.of(b"z", || 3).lock().unwrap(), 3);
        assert_eq!(
            (shared.all().len(), *shared.of(b"x", || 1).lock().unwrap()),
            (1, 1)
        );
    }
}
