//! What is counted: decisions by their outcome, and how long they took.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use zen_model::reason::LockRefusal;

/// Milliseconds matter here: somebody waits for each decision.
const BUCKETS: [f64; 12] = [0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Metrics of the process; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    admissions: Family<[(&'static str, &'static str); 2], Counter>,
    admitting: Histogram,
    unseals: Family<[(&'static str, &'static str); 1], Counter>,
    unsealing: Histogram,
    identities: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram = || Histogram::new(BUCKETS);
        Self {
            admissions: Family::default(),
            admitting: histogram(),
            unseals: Family::default(),
            unsealing: histogram(),
            identities: Gauge::default(),
        }
    }
}

impl Metrics {
    /// `registry` already carries the prefix `zenlock_webhook`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "admissions",
            "Objects that were judged, by kind and outcome: allowed, or a reason code",
            self.admissions.clone(),
        );
        registry.register_with_unit(
            "admission_duration",
            "Time from the request to the answer of an admission",
            Unit::Seconds,
            self.admitting.clone(),
        );
        registry.register(
            "unseals",
            "Requests for plaintext, by outcome: allowed, or a reason code",
            self.unseals.clone(),
        );
        registry.register_with_unit(
            "unseal_duration",
            "Time from the request to the answer of an unsealing",
            Unit::Seconds,
            self.unsealing.clone(),
        );
        registry.register("identities", "Age identities in force", self.identities.clone());
    }

    /// An admission ended.
    pub(crate) fn admitted(&self, kind: &'static str, refused: Option<LockRefusal>, took: Duration) {
        self.admissions.get_or_create(&[("kind", kind), ("outcome", outcome(refused))]).inc();
        self.admitting.observe(took.as_secs_f64());
    }

    /// An unsealing ended.
    pub(crate) fn unsealed(&self, refused: Option<LockRefusal>, took: Duration) {
        self.unseals.get_or_create(&[("outcome", outcome(refused))]).inc();
        self.unsealing.observe(took.as_secs_f64());
    }

    /// So many keys are in force.
    pub(crate) fn holds(&self, identities: usize) {
        self.identities.set(i64::try_from(identities).unwrap_or(i64::MAX));
    }
}

fn outcome(refused: Option<LockRefusal>) -> &'static str {
    refused.map_or("allowed", LockRefusal::code)
}
