//! What every connection and every request share.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use zen_compile::Snapshot;
use zen_model::observe::{Observation, Observer};
use zen_model::{ObjectKey, Refusal};
use zen_queue::Queue;

use crate::budget::Budget;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::seen::Seen;

pub(crate) struct Core {
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) budget: Budget,
    pub(crate) seen: Seen,
    /// The process ends: what comes now is answered with `Draining`.
    pub(crate) draining: AtomicBool,
    /// This replica is about to go: clients are asked to connect anew, which leads them elsewhere.
    pub(crate) leaving: watch::Sender<bool>,
    /// Requests between their head and their answer.
    pub(crate) requests: AtomicUsize,
}

impl Core {
    /// Counts a request until the value is dropped. None: no new request is taken.
    ///
    /// Whoever sets `draining` and then finds `requests` at zero knows that none comes any more.
    pub(crate) fn enter(&self) -> Option<Entered<'_>> {
        self.requests.fetch_add(1, SeqCst);
        let entered = Entered(self);
        (!self.draining.load(SeqCst)).then_some(entered)
    }

    /// Counts, logs and shows a refusal. Of the request only the Webhook's name is told.
    pub(crate) fn refused(&self, webhook: Option<&ObjectKey>, reason: Refusal) {
        self.metrics.refused(reason);
        if let Some(webhook) = webhook {
            self.seen.refused(webhook);
            tracing::debug!(%webhook, reason = reason.code(), "refused");
        } else {
            tracing::debug!(reason = reason.code(), "refused");
        }
        if self.observer.is_watched() {
            self.observer.observe(Observation::Refused { webhook: webhook.cloned(), reason });
        }
    }
}

/// A request that was let in.
pub(crate) struct Entered<'a>(&'a Core);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, SeqCst);
    }
}
