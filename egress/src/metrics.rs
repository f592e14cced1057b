//! Metrics of the egress. Labels are enums, and the names of Destinations, which the configuration bounds.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use zen_model::settle::{Class, ReleaseReason};
use zen_model::{ObjectKey, Settlement};
use zen_verify::zen_signature;

type OneLabel = [(&'static str, &'static str); 1];
type AttemptLabels = [(&'static str, String); 2];

/// From a target in the same cluster to the default request timeout.
const SECONDS: [f64; 14] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Handles of every metric; cheap to count with.
#[derive(Debug)]
pub(crate) struct Metrics {
    attempts: Family<AttemptLabels, Counter>,
    seconds: Histogram,
    in_flight: Gauge,
    releases: [Counter; RELEASES.len()],
    dead: Counter,
    tampered: [Counter; Tampered::ALL.len()],
    expired: Counter,
    foreign: Counter,
}

/// The attempts of one Destination by class, looked up once.
#[derive(Debug)]
pub(crate) struct Attempts([Counter; Class::ALL.len()]);

const RELEASES: [ReleaseReason; 4] =
    [ReleaseReason::Drain, ReleaseReason::Held, ReleaseReason::OurFault, ReleaseReason::Overload];

/// What was wrong with a lease's proof of origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tampered {
    ContentHash,
    Signature(zen_signature::Error),
}

impl Tampered {
    const ALL: [Self; 5] = [
        Self::ContentHash,
        Self::Signature(zen_signature::Error::Malformed),
        Self::Signature(zen_signature::Error::UnknownKey),
        Self::Signature(zen_signature::Error::Stale),
        Self::Signature(zen_signature::Error::Mismatch),
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::ContentHash => "content_hash",
            Self::Signature(zen_signature::Error::Malformed) => "malformed",
            Self::Signature(zen_signature::Error::UnknownKey) => "unknown_key",
            Self::Signature(zen_signature::Error::Stale) => "stale",
            Self::Signature(zen_signature::Error::Mismatch) => "mismatch",
        }
    }
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let releases = Family::<OneLabel, Counter>::default();
        let tampered = Family::<OneLabel, Counter>::default();
        let metrics = Self {
            attempts: Family::default(),
            seconds: Histogram::new(SECONDS),
            in_flight: Gauge::default(),
            releases: RELEASES.map(|reason| releases.get_or_create(&[("reason", reason.label())]).clone()),
            dead: Counter::default(),
            tampered: Tampered::ALL.map(|why| tampered.get_or_create(&[("reason", why.label())]).clone()),
            expired: Counter::default(),
            foreign: Counter::default(),
        };
        registry.register("attempts", "Attempts by destination and class", metrics.attempts.clone());
        registry.register_with_unit("attempt", "Duration of an attempt", Unit::Seconds, metrics.seconds.clone());
        registry.register("attempts_in_flight", "Attempts under way", metrics.in_flight.clone());
        registry.register("releases", "Leases given back uncharged, by reason", releases);
        registry.register("dead_letters", "Deliveries that this egress ended for good", metrics.dead.clone());
        registry.register("signature_failures", "Leases whose X-Zen-Signature did not verify, by reason", tampered);
        registry.register(
            "expired_leases",
            "Leases that could not be renewed in time, or whose ingester is gone",
            metrics.expired.clone(),
        );
        registry.register(
            "foreign_leases",
            "Leases for Destinations that this egress does not know or must not deliver to",
            metrics.foreign.clone(),
        );
        metrics
    }

    pub(crate) fn attempts_of(&self, destination: &ObjectKey) -> Attempts {
        Attempts(Class::ALL.map(|class| self.attempts.get_or_create(&labels(destination, class)).clone()))
    }

    /// The Destination is gone.
    pub(crate) fn forget(&self, destination: &ObjectKey) {
        for class in Class::ALL {
            self.attempts.remove(&labels(destination, class));
        }
    }

    pub(crate) fn took(&self, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
    }

    /// Counts until the guard is dropped.
    pub(crate) fn in_flight(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }

    pub(crate) fn settled(&self, settlement: &Settlement) {
        match settlement {
            Settlement::Release { reason, .. } => {
                if let Some(at) = RELEASES.iter().position(|known| known == reason) {
                    self.releases[at].inc();
                }
            }
            Settlement::Dead { .. } => {
                self.dead.inc();
            }
            Settlement::Ack | Settlement::Retry { .. } => {}
        }
    }

    pub(crate) fn tampered(&self, why: Tampered) {
        self.dead.inc();
        if let Some(at) = Tampered::ALL.iter().position(|known| *known == why) {
            self.tampered[at].inc();
        }
    }

    pub(crate) fn foreign(&self) {
        self.foreign.inc();
    }

    pub(crate) fn expired(&self, leases: usize) {
        self.expired.inc_by(leases as u64);
    }
}

fn labels(destination: &ObjectKey, class: Class) -> AttemptLabels {
    [("destination", destination.to_string()), ("class", class.label().to_owned())]
}

impl Attempts {
    pub(crate) fn ended(&self, class: Class) {
        if let Some(at) = Class::ALL.iter().position(|known| *known == class) {
            self.0[at].inc();
        }
    }
}

/// An attempt under way.
#[derive(Debug)]
pub(crate) struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
