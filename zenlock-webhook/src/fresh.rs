//! Looks at the API server that are never older than the question, and shared where many ask at one time.
//!
//! Who asks gets the answer of a look that began after it asked. Looks at one time are bounded; those who wait for one share
//! it. So a burst of pods costs the API server no more than it can take, and nobody sees what was true a moment ago.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OnceCell, Semaphore};

/// Looks by key.
#[derive(Debug)]
pub struct Fresh<K, V> {
    /// Looks that have not begun.
    waiting: Mutex<HashMap<K, Arc<OnceCell<V>>>>,
    lanes: Semaphore,
}

impl<K: Clone + Eq + Hash, V: Clone> Fresh<K, V> {
    /// At most `lanes` looks at one time.
    pub fn new(lanes: usize) -> Self {
        Self { waiting: Mutex::default(), lanes: Semaphore::new(lanes) }
    }

    /// The answer of a look that begins from now on.
    pub async fn look<F: Future<Output = V>>(&self, key: &K, read: impl FnOnce() -> F) -> V {
        let turn = Arc::clone(self.waiting().entry(key.clone()).or_default());
        let looking = async {
            // Only a semaphore that was closed refuses, and nobody closes this one.
            let _lane = self.lanes.acquire().await;
            self.begun(key, &turn);
            read().await
        };
        // When the one that looks is cancelled, the next of those who wait looks anew.
        turn.get_or_init(|| looking).await.clone()
    }

    /// Who asks from now on needs another look.
    fn begun(&self, key: &K, turn: &Arc<OnceCell<V>>) {
        let mut waiting = self.waiting();
        if waiting.get(key).is_some_and(|current| Arc::ptr_eq(current, turn)) {
            waiting.remove(key);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<K, Arc<OnceCell<V>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_share_a_look_that_began_after_they_asked() {
        let (fresh, looks) = (Fresh::new(1), AtomicU32::new(0));
        let look = || {
            let number = looks.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                number
            }
        };
        let answers = join_all((0..100).map(|_| fresh.look(&"a", look))).await;
        // The first one was on its way already when the others asked.
        assert_eq!((answers[0], &answers[1..]), (0, &[1; 99][..]));
        assert_eq!(fresh.look(&"a", look).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_the_others_their_answer() {
        let fresh = Fresh::new(1);
        let slow = || async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            1
        };
        let first = fresh.look(&"a", slow);
        let second = async { fresh.look(&"b", slow).await };
        let given_up = tokio::time::timeout(Duration::from_millis(10), first);
        let (gone, answer) = tokio::join!(given_up, second);
        assert!(gone.is_err() && answer == 1);
        assert!(fresh.waiting().is_empty());
    }
}
