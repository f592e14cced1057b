use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use zen_identity::wire::Usage;
use zen_model::Timestamp;
use zen_model::reason::TrustRefusal;

/// What the service does, and how long its CAs are good.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    issued: Family<[(&'static str, &'static str); 2], Counter>,
    refused: Family<[(&'static str, &'static str); 1], Counter>,
    until: Arc<Mutex<Until>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Until {
    root: Option<Timestamp>,
    issuing: Option<Timestamp>,
}

impl Metrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self { issued: Family::default(), refused: Family::default(), until: Arc::default() };
        let help = "Certificates issued, by account and usage";
        registry.register("certificates_issued", help, metrics.issued.clone());
        let help = "Requests to the identity service that were refused, by reason code";
        registry.register("identity_refusals", help, metrics.refused.clone());
        registry.register_collector(Box::new(Remaining(Arc::clone(&metrics.until))));
        metrics
    }

    pub(super) fn issued(&self, account: &'static str, usage: Usage) {
        self.issued.get_or_create(&[("account", account), ("usage", usage.label())]).inc();
    }

    pub(super) fn refused(&self, reason: TrustRefusal) {
        self.refused.get_or_create(&[("code", reason.code())]).inc();
    }

    pub(super) fn root_until(&self, until: Timestamp) {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).root = Some(until);
    }

    pub(super) fn issuer_until(&self, until: Timestamp) {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).issuing = Some(until);
    }
}

/// Reads the clock when it is asked.
#[derive(Debug)]
struct Remaining(Arc<Mutex<Until>>);

impl Collector for Remaining {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let help = "Time until a CA's certificate ends; the root's is known to the leader alone.";
        let gauge = ConstGauge::new(0.0);
        let mut family = encoder.encode_descriptor("ca_expiry", help, Some(&Unit::Seconds), gauge.metric_type())?;
        let (until, now) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner), Timestamp::now());
        for (ca, until) in [("root", until.root), ("issuing", until.issuing)] {
            if let Some(until) = until {
                let labels = [("ca", ca)];
                ConstGauge::new(until.since(now).as_secs_f64()).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
