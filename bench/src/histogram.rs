//! Latencies of one run.

use std::time::Duration;

/// Every latency, in microseconds: runs are short enough to keep them all, so that no percentile is an estimate.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, took: Duration) {
        self.0.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    /// Adds another connection's.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The latency below which the share `q` (0..1) of all lies, in milliseconds.
    pub fn quantile(&mut self, q: f64) -> f64 {
        if self.0.is_empty() {
            return f64::NAN;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // an index
        let at = ((self.0.len() - 1) as f64 * q) as usize;
        let (_, value, _) = self.0.select_nth_unstable(at);
        f64::from(*value) / 1000.0
    }
}
