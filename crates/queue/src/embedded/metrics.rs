//! Metrics of the embedded queue. The caller's registry carries the prefix `zen_queue`.

use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use super::shared::Shared;
use crate::{DestinationStats, Fault, Health, Stats};

#[derive(Debug)]
pub(crate) struct Metrics {
    batch: Histogram,
    duration: Histogram,
    failures: Family<FaultLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabel {
    fault: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let failures = Family::<FaultLabel, Counter>::default();
        // A rate needs a beginning: every fault is there from the start.
        for fault in [Fault::DiskFull, Fault::ReadOnly, Fault::Corrupt, Fault::Io] {
            drop(failures.get_or_create(&FaultLabel { fault: fault.label() }));
        }
        Self {
            batch: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0]),
            duration: Histogram::new([
                0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024,
            ]),
            failures,
        }
    }
}

impl Metrics {
    /// The beginning of a batch.
    #[expect(clippy::unused_self, reason = "the clock belongs to the measurement")]
    pub(crate) fn clock(&self) -> Instant {
        Instant::now()
    }

    pub(crate) fn committed(&self, began: Instant, commands: usize) {
        self.batch.observe(f64::from(u32::try_from(commands).unwrap_or(u32::MAX)));
        self.duration.observe(began.elapsed().as_secs_f64());
    }

    pub(crate) fn failed(&self, fault: Fault) {
        self.failures.get_or_create(&FaultLabel { fault: fault.label() }).inc();
    }

    /// Puts everything into a registry.
    pub(crate) fn register(&self, shared: &Arc<Shared>, registry: &mut Registry) {
        registry.register("batch_commands", "Commands in one durable batch", self.batch.clone());
        registry.register_with_unit(
            "commit_duration",
            "Time from taking a batch until it was durable",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register("commit_failures", "Batches that did not become durable", self.failures.clone());
        registry.register_collector(Box::new(Gauges(Arc::downgrade(shared))));
    }
}

/// Reads the state when it is asked, so that no gauge can drift.
#[derive(Debug)]
struct Gauges(Weak<Shared>);

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        let stats = super::stats(&shared);
        let healthy = i64::from(*shared.health.borrow() == Health::Ok);
        let (claims_dropped, lost, unrouted) = {
            let counts = &shared.state().counts;
            (counts.claims_dropped, counts.lost_leases, counts.unrouted)
        };
        let mut counter = |name: &str, help: &str, value: u64| {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        counter("committed", "Events committed", stats.committed)?;
        counter("unrouted", "Events that matched no route", unrouted)?;
        counter("duplicates", "Repeats answered from a claim", stats.duplicates)?;
        counter("batches", "Durable batches", stats.batches)?;
        counter(
            "claims_dropped",
            "Claims dropped before their window ended, over the Webhook's share",
            claims_dropped,
        )?;
        counter("lost_leases", "Leases that ended without a settlement", lost)?;
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: i64| {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
        };
        gauge("healthy", "1 while commits work", None, healthy)?;
        gauge("claims", "Idempotency claims that are remembered", None, signed(stats.claims))?;
        gauge("records", "Bytes of records that wait or are dead", Some(&Unit::Bytes), signed(stats.bytes))?;
        gauge("disk", "Bytes of the store's files", Some(&Unit::Bytes), signed(stats.disk_bytes))?;
        for (name, help, value) in BY_DESTINATION {
            by_destination(&mut encoder, name, help, &stats, value)?;
        }
        Ok(())
    }
}

type Value = fn(&DestinationStats) -> u64;

const BY_DESTINATION: [(&str, &str, Value); 4] = [
    ("waiting", "Deliveries that wait, leased ones included", |stats| stats.waiting),
    ("leased", "Deliveries under lease", |stats| stats.leased),
    ("retrying", "Deliveries that wait for their next attempt", |stats| stats.retrying),
    ("dead_letters", "Deliveries in the dead letters", |stats| stats.dead),
];

fn by_destination(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    stats: &Stats,
    value: Value,
) -> Result<(), std::fmt::Error> {
    let kind = ConstGauge::new(0_i64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (key, stats) in &stats.destinations {
        let labels = [("namespace", key.namespace.as_str()), ("destination", key.name.as_str())];
        ConstGauge::new(signed(value(stats))).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
