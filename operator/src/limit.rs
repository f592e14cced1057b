//! Token buckets: how often each of many may ask.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many are remembered.
const REMEMBERED: usize = 4096;

/// So many at once, and then one each time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) burst: u32,
    /// Time for one more.
    pub(crate) every: Duration,
}

/// A bucket for each key, all of one rate.
#[derive(Debug)]
pub(crate) struct Buckets {
    rate: Rate,
    buckets: Mutex<HashMap<String, Bucket>>,
}

/// Counts by the time at which it will be full again.
#[derive(Clone, Copy, Debug)]
struct Bucket(Instant);

impl Buckets {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, buckets: Mutex::default() }
    }

    /// Whether this one may ask now.
    pub(crate) fn take(&self, key: &str) -> bool {
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= REMEMBERED && !buckets.contains_key(key) {
            // Full buckets say nothing. When none is full, so many ask at one time that one more has to wait.
            buckets.retain(|_, bucket| bucket.0 > now);
            if buckets.len() >= REMEMBERED {
                return false;
            }
        }
        let bucket = buckets.entry(key.to_owned()).or_insert(Bucket(now));
        let full_at = bucket.0.max(now) + self.rate.every;
        let may = full_at <= now + self.rate.every * self.rate.burst;
        if may {
            bucket.0 = full_at;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let buckets = Buckets::new(Rate { burst: 20, every: Duration::from_secs(2) });
        let taken = (0..2 * REMEMBERED).filter(|key| buckets.take(&key.to_string())).count();
        assert_eq!(taken, REMEMBERED);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(buckets.take("later"));
        assert_eq!(buckets.buckets.lock().expect("no panic").len(), 1);
    }
}
