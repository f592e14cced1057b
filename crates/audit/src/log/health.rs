//! What of the log does not work, and what got lost by it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zen_model::Timestamp;

use super::Metrics;

/// What can stop working.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// Entries cannot be written or synced, or that takes too long.
    Disk,
    /// More comes than can be taken.
    Queue,
    /// The store has not taken entries for so long that there is no room for more.
    Backlog,
    /// The store cannot be reached or does not take entries.
    Store,
}

impl Cause {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Disk, Self::Queue, Self::Backlog, Self::Store];

    /// Stable label for metrics and entries.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Queue => "queue",
            Self::Backlog => "backlog",
            Self::Store => "store",
        }
    }

    /// For people.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Disk => "entries cannot be written to the disk",
            Self::Queue => "more entries come than can be written",
            Self::Backlog => "there is no room for more entries that the store does not have",
            Self::Store => "the store does not take entries",
        }
    }
}

/// Something stopped working, or works again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub cause: Cause,
    /// Whether it stopped.
    pub degraded: bool,
    /// What was said about it.
    pub reason: String,
}

/// Hears of each [`Change`].
pub type OnChange = Arc<dyn Fn(&Change) + Send + Sync>;

/// Something that did not work and does again.
pub(crate) struct Recovered {
    pub(crate) cause: Cause,
    pub(crate) since: Timestamp,
    pub(crate) reason: String,
}

pub(crate) struct Health {
    pub(crate) metrics: Metrics,
    state: Mutex<State>,
    lost: AtomicU64,
    on_change: Option<OnChange>,
}

#[derive(Default)]
struct State {
    active: BTreeMap<Cause, (Timestamp, String)>,
    recovered: Vec<Recovered>,
}

impl Health {
    pub(crate) fn new(on_change: Option<OnChange>, metrics: Metrics) -> Self {
        Self { metrics, state: Mutex::default(), lost: AtomicU64::new(0), on_change }
    }

    /// What does not work; the first of them.
    pub(crate) fn cause(&self) -> Option<Cause> {
        self.state().active.keys().next().copied()
    }

    pub(crate) fn is(&self, cause: Cause) -> bool {
        self.state().active.contains_key(&cause)
    }

    /// Whether it has not worked for so long.
    pub(crate) fn has_lasted(&self, cause: Cause, least: Duration) -> bool {
        let now = Timestamp::now();
        self.state().active.get(&cause).is_some_and(|(since, _)| now.since(*since) >= least)
    }

    /// It stopped working.
    pub(crate) fn begin(&self, cause: Cause, reason: &str) {
        let mut state = self.state();
        if state.active.contains_key(&cause) {
            return;
        }
        state.active.insert(cause, (Timestamp::now(), reason.to_owned()));
        drop(state);
        tracing::error!(cause = cause.label(), reason, "the audit log is degraded");
        self.metrics.degraded(cause, true);
        self.say(&Change { cause, degraded: true, reason: reason.to_owned() });
    }

    /// It works. Costs next to nothing when it did before.
    pub(crate) fn end(&self, cause: Cause) {
        let mut state = self.state();
        let Some((since, reason)) = state.active.remove(&cause) else { return };
        state.recovered.push(Recovered { cause, since, reason: reason.clone() });
        drop(state);
        tracing::info!(cause = cause.label(), %since, "the audit log works again");
        self.metrics.degraded(cause, false);
        self.say(&Change { cause, degraded: false, reason });
    }

    /// An entry could not be kept.
    pub(crate) fn lose(&self, cause: Cause) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        self.metrics.lost(cause);
        self.begin(cause, cause.meaning());
    }

    /// Entries that were lost since this was asked last.
    pub(crate) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    /// What works again since this was asked last.
    pub(crate) fn take_recovered(&self) -> Vec<Recovered> {
        std::mem::take(&mut self.state().recovered)
    }

    fn say(&self, change: &Change) {
        if let Some(on_change) = &self.on_change {
            on_change(change);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
