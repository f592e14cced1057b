use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use zen_model::Timestamp;

use super::Clock;
use crate::wire::Usage;

/// Certificates of this pod, for alerts: one that is not renewed ends within the hour.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<[(&'static str, &'static str); 2], Counter>,
    expiry: Arc<Expiry>,
}

struct Expiry {
    clock: Clock,
    /// By [`Usage`].
    until: Mutex<[Option<Timestamp>; 2]>,
}

impl fmt::Debug for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expiry").field("until", &self.until).finish_non_exhaustive()
    }
}

impl Metrics {
    pub(super) fn new(clock: Clock) -> Self {
        Self { requests: Family::default(), expiry: Arc::new(Expiry { clock, until: Mutex::default() }) }
    }

    /// Adds them to the registry of the process, which carries no prefix.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("zen_identity");
        let help = "Certificates asked for, by usage and result";
        registry.register("certificate_requests", help, self.requests.clone());
        registry.register_collector(Box::new(Remaining(Arc::clone(&self.expiry))));
    }

    pub(super) fn asked(&self, usage: Usage, result: &'static str) {
        self.requests.get_or_create(&[("usage", usage.label()), ("result", result)]).inc();
    }

    pub(super) fn expires(&self, usage: Usage, until: Timestamp) {
        self.expiry.until.lock().unwrap_or_else(PoisonError::into_inner)[usage as usize] = Some(until);
    }
}

/// Reads the clock when it is asked, so that it cannot stand still.
#[derive(Debug)]
struct Remaining(Arc<Expiry>);

impl Collector for Remaining {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let help = "Time until the certificate in use ends; 0 when it has ended.";
        let gauge = ConstGauge::new(0.0);
        let mut family =
            encoder.encode_descriptor("certificate_expiry", help, Some(&Unit::Seconds), gauge.metric_type())?;
        let (until, now) = (*self.0.until.lock().unwrap_or_else(PoisonError::into_inner), (self.0.clock)());
        for usage in [Usage::Workload, Usage::Serving] {
            if let Some(until) = until[usage as usize] {
                let labels = [("usage", usage.label())];
                ConstGauge::new(until.since(now).as_secs_f64()).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
