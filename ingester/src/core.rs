//! What every connection and every request share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
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
}

impl Core {
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
