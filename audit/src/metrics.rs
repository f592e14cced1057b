use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use zen_identity::Component;
use zen_model::Timestamp;

type ByComponent = Family<[(&'static str, &'static str); 1], Counter>;

/// What the store did, for alerts: failures, conflicts, and anchors that are old.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    stored: ByComponent,
    conflicts: ByComponent,
    failures: Counter,
    chains: Gauge,
    bytes: Gauge,
    anchored: Gauge<f64, AtomicU64>,
    anchor_failures: Counter,
}

impl Metrics {
    /// Adds them to the registry of the process, which carries no prefix.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("zen_audit_store");
        registry.register("entries", "Entries that were stored, by component", self.stored.clone());
        let help = "Entries that contradict what is stored of their chain, by component";
        registry.register("conflicts", help, self.conflicts.clone());
        registry.register("write_failures", "Writes that failed", self.failures.clone());
        registry.register("chains", "Chains that are kept", self.chains.clone());
        registry.register_with_unit("files", "Size of all chains", Unit::Bytes, self.bytes.clone());
        let help = "When heads were anchored last, since the Unix epoch";
        registry.register_with_unit("anchored_timestamp", help, Unit::Seconds, self.anchored.clone());
        registry.register("anchor_failures", "Heads that could not be anchored", self.anchor_failures.clone());
    }

    pub(crate) fn stored(&self, component: Component, entries: u64) {
        self.stored.get_or_create(&[("component", component.account())]).inc_by(entries);
    }

    pub(crate) fn conflict(&self, component: Component) {
        self.conflicts.get_or_create(&[("component", component.account())]).inc();
    }

    pub(crate) fn failed(&self) {
        self.failures.inc();
    }

    pub(crate) fn chains(&self, chains: usize) {
        self.chains.set(chains.try_into().unwrap_or(i64::MAX));
    }

    pub(crate) fn bytes(&self, bytes: u64) {
        self.bytes.set(bytes.try_into().unwrap_or(i64::MAX));
    }

    pub(crate) fn anchored(&self) {
        // Seconds of this century are exact.
        #[allow(clippy::cast_precision_loss)]
        self.anchored.set(Timestamp::now().as_secs() as f64);
    }

    pub(crate) fn anchor_failed(&self) {
        self.anchor_failures.inc();
    }
}
