use std::borrow::Cow;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Error;

/// How a write ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did not exist.
    Created,
    /// It was different.
    Applied,
    /// It is so already; nothing was sent.
    Unchanged,
    /// It is on its way out.
    Deleted,
}

impl Outcome {
    const fn label(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::Applied => "Applied",
            Self::Unchanged => "Unchanged",
            Self::Deleted => "Deleted",
        }
    }
}

/// Counts writes by kind and outcome.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    writes: Family<[(&'static str, Cow<'static, str>); 2], Counter>,
}

impl Metrics {
    /// Adds them to the registry, beneath the prefix that it has.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Writes to the API server by kind and outcome; Unchanged ones were not sent";
        registry.register("writes", help, self.writes.clone());
    }

    pub(super) fn wrote(&self, kind: &str, outcome: Result<&Outcome, &Error>) {
        let outcome = outcome.map_or_else(Error::category, |outcome| outcome.label());
        self.writes.get_or_create(&[("kind", kind.to_owned().into()), ("outcome", outcome.into())]).inc();
    }
}
