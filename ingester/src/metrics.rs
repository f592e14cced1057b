//! Metrics of intake and feed. Every label is an enum or a name that the configuration bounds.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use zen_model::Refusal;
use zen_model::breaker::State;
use zen_model::reason::LinkRefusal;

use crate::feed::Board;

/// One label.
type Label = [(&'static str, &'static str); 1];

/// Seconds: a durable commit takes parts of a millisecond on a good disk, tens on a bad one.
const SECONDS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Handles of every metric; cheap to count with.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) accept_errors: Counter,
    pub(crate) handshake_failures: Counter,
    accepted: Family<Label, Counter>,
    duplicates: Family<Label, Counter>,
    pub(crate) unrouted: Counter,
    pub(crate) challenges: Counter,
    refusals: [Counter; Refusal::ALL.len()],
    body_bytes: Counter,
    requests: Histogram,
    pub(crate) leases: Counter,
    pub(crate) settlements: Counter,
    pub(crate) frames: Counter,
    pub(crate) lost_leases: Counter,
    pub(crate) withdrawn: Counter,
    pub(crate) foreign_tokens: Counter,
    closed: Family<Label, Counter>,
}

impl Metrics {
    /// Registers everything; `registry` already carries the prefix `zen_ingester`.
    pub(crate) fn register(registry: &mut Registry, board: &Arc<Board>) -> Self {
        let refusals = Family::<Label, Counter>::default();
        let metrics = Self {
            connections: Gauge::default(),
            accept_errors: Counter::default(),
            handshake_failures: Counter::default(),
            accepted: Family::default(),
            duplicates: Family::default(),
            unrouted: Counter::default(),
            challenges: Counter::default(),
            refusals: Refusal::ALL.map(|reason| refusals.get_or_create(&[("code", reason.code())]).clone()),
            body_bytes: Counter::default(),
            requests: Histogram::new(SECONDS),
            leases: Counter::default(),
            settlements: Counter::default(),
            frames: Counter::default(),
            lost_leases: Counter::default(),
            withdrawn: Counter::default(),
            foreign_tokens: Counter::default(),
            closed: Family::default(),
        };
        registry.register("connections", "Open intake connections", metrics.connections.clone());
        registry.register("accept_errors", "Failures to accept a connection", metrics.accept_errors.clone());
        registry.register(
            "handshake_failures",
            "TLS handshakes that failed or took too long",
            metrics.handshake_failures.clone(),
        );
        registry.register("accepted", "Events stored, by provider", metrics.accepted.clone());
        registry.register("duplicates", "Repeats answered, by provider", metrics.duplicates.clone());
        registry.register("unrouted", "Events stored that no route took", metrics.unrouted.clone());
        registry.register("challenges", "Challenges answered", metrics.challenges.clone());
        registry.register("refusals", "Requests refused, by reason code", refusals);
        registry.register_with_unit("body", "Bytes of stored bodies", Unit::Bytes, metrics.body_bytes.clone());
        registry.register_with_unit(
            "request",
            "Time from a complete head to the answer",
            Unit::Seconds,
            metrics.requests.clone(),
        );
        registry.register("leases", "Deliveries leased to an egress", metrics.leases.clone());
        registry.register("settlements", "Settlements received", metrics.settlements.clone());
        registry.register("lease_frames", "Lease frames sent", metrics.frames.clone());
        registry.register("lost_leases", "Leases of sessions that ended", metrics.lost_leases.clone());
        registry.register(
            "withdrawn",
            "Deliveries dead-lettered because consent was withdrawn or the destination deleted",
            metrics.withdrawn.clone(),
        );
        registry.register(
            "foreign_tokens",
            "Words of an egress about leases that its session does not hold",
            metrics.foreign_tokens.clone(),
        );
        registry.register(
            "relay_closed",
            "Streams of members that were closed, by reason code",
            metrics.closed.clone(),
        );
        registry.register_collector(Box::new(Breakers(Arc::clone(board))));
        metrics
    }

    pub(crate) fn accepted(&self, provider: &'static str, bytes: usize) {
        self.accepted.get_or_create(&[("provider", provider)]).inc();
        self.body_bytes.inc_by(bytes as u64);
    }

    pub(crate) fn duplicate(&self, provider: &'static str) {
        self.duplicates.get_or_create(&[("provider", provider)]).inc();
    }

    pub(crate) fn refused(&self, reason: Refusal) {
        // The discriminants are 0, 1, 2, … in the order of `ALL`, which a test checks.
        if let Some(counter) = self.refusals.get(reason as usize) {
            counter.inc();
        }
    }

    pub(crate) fn closed(&self, reason: LinkRefusal) {
        self.closed.get_or_create(&[("code", reason.code())]).inc();
    }

    pub(crate) fn answered(&self, took: Duration) {
        self.requests.observe(took.as_secs_f64());
    }
}

/// Breaker states and sessions, read from the feed's board when somebody asks, so that they cannot drift.
#[derive(Debug)]
struct Breakers(Arc<Board>);

impl Collector for Breakers {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let sessions = ConstGauge::new(i64::try_from(self.0.sessions().len()).unwrap_or(i64::MAX));
        let descriptor =
            encoder.encode_descriptor("link_sessions", "Connected egress sessions", None, sessions.metric_type())?;
        sessions.encode(descriptor)?;
        let none = ConstGauge::new(0_i64);
        let mut family = encoder.encode_descriptor(
            "breaker_open",
            "Breaker by destination: 0 closed, 1 open or half open",
            None,
            none.metric_type(),
        )?;
        for (key, view) in self.0.destinations() {
            let gauge = ConstGauge::new(i64::from(view.breaker != State::Closed));
            let labels = [("destination", key.to_string())];
            gauge.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_their_position() {
        for (index, reason) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{reason:?}");
        }
    }
}
