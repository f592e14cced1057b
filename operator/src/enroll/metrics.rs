use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use zen_crds::{ClusterEnrollmentStatus, Phase};
use zen_enroll::Refused;

/// What members are given and refused, and how their enrollments stand.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    issued: Family<[(&'static str, &'static str); 1], Counter>,
    refused: Family<[(&'static str, &'static str); 1], Counter>,
    syncs: Counter,
    clusters: Family<[(&'static str, &'static str); 1], Gauge>,
    connected: Gauge,
}

const PHASES: [(Phase, &str); 5] = [
    (Phase::Pending, "Pending"),
    (Phase::BundleIssued, "BundleIssued"),
    (Phase::Enrolled, "Enrolled"),
    (Phase::Expired, "Expired"),
    (Phase::Disabled, "Disabled"),
];

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Issuing CAs of members that were issued: redeemed, again (the same answer) or renewed";
        registry.register("member_certificates", help, metrics.issued.clone());
        let help = "Requests of members that were refused, by reason code";
        registry.register("member_refusals", help, metrics.refused.clone());
        registry.register("member_syncs", "Requests of enrolled members that were answered", metrics.syncs.clone());
        let help = "ClusterEnrollments by phase, at the replica that leads";
        registry.register("clusters", help, metrics.clusters.clone());
        let help = "Enrolled clusters that were heard within the last 90 s, at the replica that leads";
        registry.register("clusters_connected", help, metrics.connected.clone());
        metrics
    }

    pub(super) fn issued(&self, how: &'static str) {
        self.issued.get_or_create(&[("how", how)]).inc();
    }

    pub(super) fn refused(&self, refused: Refused) {
        self.refused.get_or_create(&[("code", refused.code())]).inc();
    }

    pub(super) fn synced(&self) {
        self.syncs.inc();
    }

    pub(super) fn clusters<'a>(&self, all: impl Iterator<Item = &'a ClusterEnrollmentStatus>) {
        let (mut counts, mut connected) = ([0_i64; PHASES.len()], 0_i64);
        for status in all {
            let index = PHASES.iter().position(|(phase, _)| Some(*phase) == status.phase).unwrap_or_default();
            counts[index] += 1;
            connected += i64::from(status.connected == Some(true));
        }
        for ((_, name), count) in PHASES.iter().zip(counts) {
            self.clusters.get_or_create(&[("phase", *name)]).set(count);
        }
        self.connected.set(connected);
    }
}
