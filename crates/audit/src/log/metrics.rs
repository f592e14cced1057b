use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::Cause;

/// How the log is, for alerts: any cause that is degraded, anything lost.
#[derive(Clone, Debug)]
pub struct Metrics {
    written: Counter,
    lost: Family<[(&'static str, &'static str); 1], Counter>,
    degraded: Family<[(&'static str, &'static str); 1], Gauge>,
    unacknowledged: Gauge,
    kept: Gauge,
    commit: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            written: Counter::default(),
            lost: Family::default(),
            degraded: Family::default(),
            unacknowledged: Gauge::default(),
            kept: Gauge::default(),
            commit: Histogram::new(exponential_buckets(0.0005, 2.0, 14)),
        };
        // An alert on an increase needs the zero before it.
        for cause in Cause::ALL {
            metrics.lost.get_or_create(&[("cause", cause.label())]).inc_by(0);
            metrics.degraded(cause, false);
        }
        metrics
    }
}

impl Metrics {
    /// Adds them to the registry of the process, which carries no prefix.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("zen_audit");
        registry.register("entries", "Entries that are on the disk", self.written.clone());
        registry.register("lost_entries", "Entries that could not be kept, by cause", self.lost.clone());
        let help = "Whether something of the audit log does not work, by cause";
        registry.register("degraded", help, self.degraded.clone());
        let help = "Entries that the store does not have yet";
        registry.register("unacknowledged_entries", help, self.unacknowledged.clone());
        let help = "Size of the files of the audit log";
        registry.register_with_unit("files", help, Unit::Bytes, self.kept.clone());
        let help = "Time from the first entry of a batch to a durable batch";
        registry.register_with_unit("commit", help, Unit::Seconds, self.commit.clone());
    }

    pub(super) fn lost(&self, cause: Cause) {
        self.lost.get_or_create(&[("cause", cause.label())]).inc();
    }

    pub(super) fn degraded(&self, cause: Cause, is: bool) {
        self.degraded.get_or_create(&[("cause", cause.label())]).set(is.into());
    }

    pub(super) fn committed(&self, entries: u64, seconds: f64) {
        self.written.inc_by(entries);
        self.commit.observe(seconds);
    }

    pub(crate) fn add_kept(&self, bytes: u64) {
        self.kept.inc_by(bytes.try_into().unwrap_or(i64::MAX));
    }

    pub(crate) fn remove_kept(&self, bytes: u64) {
        self.kept.dec_by(bytes.try_into().unwrap_or(i64::MAX));
    }

    pub(crate) fn unacknowledged(&self, entries: u64) {
        self.unacknowledged.set(entries.try_into().unwrap_or(i64::MAX));
    }

    pub(crate) fn kept(&self, bytes: u64) {
        self.kept.set(bytes.try_into().unwrap_or(i64::MAX));
    }

    /// Bytes of all files.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.kept.get().try_into().unwrap_or(0)
    }
}
