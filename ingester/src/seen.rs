//! What intake remembers of each Webhook since the process began: counts and the secret that verified last (W-05).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwap;
use zen_compile::Snapshot;
use zen_model::{ObjectKey, Timestamp};

/// The secret that verified last is written down at most so often: an API object may follow it.
const MINUTE: u64 = 60_000;

/// Of one Webhook. Survives changes of its configuration.
#[derive(Debug, Default)]
pub struct WebhookSeen {
    /// Events stored.
    pub accepted: AtomicU64,
    /// Repeats answered.
    pub duplicates: AtomicU64,
    /// Requests refused.
    pub refused: AtomicU64,
    /// Events that no route took.
    pub unrouted: AtomicU64,
    /// Index of the secret that verified last, into `Webhook::secret_labels`.
    secret: AtomicUsize,
    /// When it did, milliseconds since the epoch; 0: never.
    verified: AtomicU64,
}

impl WebhookSeen {
    /// Notes that a secret verified a request: at once when it is another one, else at most once a minute.
    pub(crate) fn verified(&self, secret: usize, now: Timestamp) {
        let last = self.verified.load(Relaxed);
        if now.0.saturating_sub(last) >= MINUTE || self.secret.load(Relaxed) != secret {
            self.secret.store(secret, Relaxed);
            self.verified.store(now.0, Relaxed);
        }
    }

    /// The secret that verified last, by index, and when, to the minute.
    pub fn last_verified(&self) -> Option<(usize, Timestamp)> {
        match self.verified.load(Relaxed) {
            0 => None,
            at => Some((self.secret.load(Relaxed), Timestamp(at))),
        }
    }
}

/// Of every Webhook, by key. Reading takes no lock; the first request of a Webhook does.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    webhooks: ArcSwap<HashMap<ObjectKey, Arc<WebhookSeen>>>,
    writing: Mutex<()>,
}

impl Seen {
    /// The Webhook's entry, made when it has none. `snapshot` bounds the map: entries of Webhooks that are gone go.
    pub(crate) fn of(&self, key: &ObjectKey, snapshot: &Snapshot) -> Arc<WebhookSeen> {
        if let Some(seen) = self.webhooks.load().get(key) {
            return Arc::clone(seen);
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.webhooks.load();
        if let Some(seen) = now.get(key) {
            return Arc::clone(seen);
        }
        let mut next: HashMap<_, _> = now
            .iter()
            .filter(|(key, _)| snapshot.webhooks.contains_key(*key))
            .map(|(key, seen)| (key.clone(), Arc::clone(seen)))
            .collect();
        let seen = Arc::<WebhookSeen>::default();
        next.insert(key.clone(), Arc::clone(&seen));
        self.webhooks.store(Arc::new(next));
        seen
    }

    /// The Webhook's entry, where a request ever reached it.
    pub(crate) fn known(&self, key: &ObjectKey) -> Option<Arc<WebhookSeen>> {
        self.webhooks.load().get(key).cloned()
    }

    pub(crate) fn refused(&self, key: &ObjectKey) {
        if let Some(seen) = self.webhooks.load().get(key) {
            seen.refused.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_secret_is_noted_once_a_minute_and_another_at_once() {
        let seen = WebhookSeen::default();
        assert_eq!(seen.last_verified(), None);
        seen.verified(0, Timestamp(1_000_000));
        seen.verified(0, Timestamp(1_030_000));
        assert_eq!(seen.last_verified(), Some((0, Timestamp(1_000_000))));
        seen.verified(1, Timestamp(1_031_000));
        assert_eq!(seen.last_verified(), Some((1, Timestamp(1_031_000))));
        seen.verified(1, Timestamp(1_091_000));
        assert_eq!(seen.last_verified(), Some((1, Timestamp(1_091_000))));
    }
}
