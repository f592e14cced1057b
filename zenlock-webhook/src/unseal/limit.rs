//! How often one pod may ask.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A pod asks once at its start, its sidecar twice, and again for each change.
const BURST: u32 = 20;
const EVERY: Duration = Duration::from_secs(1);
/// Pods that are remembered.
const REMEMBERED: usize = 16_384;

/// Token buckets by the UID of pods, or the name of planes.
#[derive(Debug, Default)]
pub(super) struct Limits(Mutex<HashMap<String, Instant>>);

impl Limits {
    /// Whether this one may ask now. A bucket is the time at which it will be full again.
    pub(super) fn take(&self, who: &str) -> bool {
        let now = Instant::now();
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= REMEMBERED && !buckets.contains_key(who) {
            // Full buckets say nothing. When none is full, so many pods ask at one time that one more has to wait.
            buckets.retain(|_, full_at| *full_at > now);
            if buckets.len() >= REMEMBERED {
                return false;
            }
        }
        let full_at = buckets.entry(who.to_owned()).or_insert(now);
        let next = (*full_at).max(now) + EVERY;
        let may = next <= now + EVERY * BURST;
        if may {
            *full_at = next;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pod_has_a_burst_and_then_a_rate() {
        let limits = Limits::default();
        let taken = |who: &str| (0..100).filter(|_| limits.take(who)).count();
        assert_eq!(taken("a"), 20);
        assert_eq!(taken("b"), 20, "another pod has its own");
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(taken("a"), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let limits = Limits::default();
        assert_eq!((0..2 * REMEMBERED).filter(|pod| limits.take(&pod.to_string())).count(), REMEMBERED);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(limits.take("later"));
        assert_eq!(limits.0.lock().expect("no panic").len(), 1);
    }
}
