use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use zen_model::Timestamp;

/// How a member stands with its hub.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    requests: Family<[(&'static str, &'static str); 2], Counter>,
    reachable: Gauge,
    heard: Gauge<f64, AtomicU64>,
    enrolled: Gauge,
    needs_bundle: Gauge,
    refused: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Metrics {
    /// Adds them to the registry, beneath the prefix that it has.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Requests of this member to its hub, by kind and outcome";
        registry.register("hub_requests", help, self.requests.clone());
        let help = "1 while the hub answers this member; of the leader";
        registry.register("hub_reachable", help, self.reachable.clone());
        let help = "When the hub was last heard, seconds since 1970; 0: not yet";
        registry.register("hub_heard_timestamp_seconds", help, self.heard.clone());
        registry.register("enrolled", "1 while this cluster has what a hub gave it", self.enrolled.clone());
        let help = "1 while only a new bundle of the hub can bring this member back";
        registry.register("needs_bundle", help, self.needs_bundle.clone());
        let help = "Bundles and requests of this member that were refused, here or by the hub, by reason code";
        registry.register("enrollment_refusals", help, self.refused.clone());
    }

    /// The hub was asked.
    pub(super) fn asked(&self, kind: &'static str, outcome: &'static str, now: Timestamp) {
        self.requests.get_or_create(&[("kind", kind), ("outcome", outcome)]).inc();
        // One that says no is there.
        let heard = matches!(outcome, "ok" | "refused");
        self.reachable.set(i64::from(heard));
        if heard {
            #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit a double exactly")]
            self.heard.set(now.as_secs() as f64);
        }
    }

    pub(super) fn refused(&self, code: &'static str) {
        self.refused.get_or_create(&[("code", code)]).inc();
    }

    pub(super) fn stands(&self, enrolled: bool, needs_bundle: bool) {
        self.enrolled.set(enrolled.into());
        self.needs_bundle.set(needs_bundle.into());
    }
}
