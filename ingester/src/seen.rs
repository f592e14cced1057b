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
    /// The Webhook's entry. One that has none gets it together with all others of the snapshot, which also bounds the map: the
    /// first requests of ten thousand Webhooks copy it once, not ten thousand times.
    pub(crate) fn of(&self, key: &ObjectKey, snapshot: &Snapshot) -> Arc<WebhookSeen> {
        if let Some(seen) = self.webhooks.load().get(key) {
            return Arc::clone(seen);
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.webhooks.load();
        if let Some(seen) = now.get(key) {
            return Arc::clone(seen);
        }
        let entry = |key: &ObjectKey| (key.clone(), now.get(key).cloned().unwrap_or_default());
        let next: HashMap<_, _> = snapshot.webhooks.keys().chain([key]).map(entry).collect();
        let seen = next.get(key).cloned().unwrap_or_default();
        self.webhooks.store(Arc::new(next));
        seen
    }

    /// The Webhook's entry, where there is one.
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

    /// However many Webhooks there are: the first request of one makes room for all, and what was counted stays.
    #[test]
    fn first_requests_do_not_copy_the_map_each() {
        let webhook = |name: &str| {
            let webhook = zen_compile::Webhook::sample(&format!("a/{name}"));
            (webhook.key.clone(), Arc::new(webhook))
        };
        let snapshot = Snapshot { webhooks: ["x", "y"].map(webhook).into(), ..Snapshot::default() };
        let (seen, [x, y]) = (Seen::default(), ["x", "y"].map(|name| ObjectKey::new("a", name)));
        seen.of(&x, &snapshot).accepted.fetch_add(1, Relaxed);
        let before = seen.webhooks.load_full();
        seen.of(&y, &snapshot);
        assert!(Arc::ptr_eq(&before, &seen.webhooks.load_full()));
        // One that is gone goes, the others keep their counts.
        let snapshot = Snapshot { webhooks: ["x", "z"].map(webhook).into(), ..Snapshot::default() };
        seen.of(&ObjectKey::new("a", "z"), &snapshot);
        assert!(seen.known(&y).is_none());
        assert_eq!(seen.of(&x, &snapshot).accepted.load(Relaxed), 1);
    }

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
