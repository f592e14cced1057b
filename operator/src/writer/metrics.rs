use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    kind: String,
    outcome: Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Word(&'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

/// Counts writes by kind and outcome.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    writes: Family<Labels, Counter>,
}

impl Metrics {
    /// Adds them to the registry, beneath the prefix that it has.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Writes to the API server by kind and outcome; Unchanged ones were not sent";
        registry.register("writes", help, self.writes.clone());
    }

    pub(super) fn wrote(&self, kind: &str, outcome: Result<&Outcome, &Error>) {
        let outcome = Word(outcome.map_or_else(Error::category, |outcome| outcome.label()));
        self.writes.get_or_create(&Labels { kind: kind.to_owned(), outcome }).inc();
    }
}
