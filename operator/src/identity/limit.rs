//! How often a pod, and all pods of an account, may ask.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use zen_pod::Caller;

/// A pod asks twice for each certificate, and every half minute for its serving names.
const POD: Rate = Rate { burst: 20, every: Duration::from_secs(2) };
/// All pods of an account, at a rolling update.
const ACCOUNT: Rate = Rate { burst: 400, every: Duration::from_millis(50) };
/// Pods that are remembered.
const REMEMBERED: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: u32,
    /// Time for one more.
    every: Duration,
}

/// Token buckets by pod and by account.
#[derive(Debug, Default)]
pub(super) struct Limits {
    pods: Mutex<HashMap<String, Bucket>>,
    accounts: Mutex<HashMap<String, Bucket>>,
}

/// Counts by the time at which it will be full again.
#[derive(Clone, Copy, Debug)]
struct Bucket(Instant);

impl Limits {
    /// Whether this one may ask now.
    pub(super) fn take(&self, caller: &Caller) -> bool {
        let now = Instant::now();
        let account = format!("{}/{}", caller.namespace, caller.account);
        take(&self.pods, &caller.pod_uid, POD, now) && take(&self.accounts, &account, ACCOUNT, now)
    }
}

fn take(buckets: &Mutex<HashMap<String, Bucket>>, key: &str, rate: Rate, now: Instant) -> bool {
    let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
    if buckets.len() >= REMEMBERED && !buckets.contains_key(key) {
        // Full buckets say nothing. When none is full, so many pods ask at one time that one more has to wait.
        buckets.retain(|_, bucket| bucket.0 > now);
        if buckets.len() >= REMEMBERED {
            return false;
        }
    }
    let bucket = buckets.entry(key.to_owned()).or_insert(Bucket(now));
    let full_at = bucket.0.max(now) + rate.every;
    let may = full_at <= now + rate.every * rate.burst;
    if may {
        bucket.0 = full_at;
    }
    may
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(pod: usize) -> Caller {
        let pod = pod.to_string();
        Caller { namespace: "n".to_owned(), account: "a".to_owned(), pod: pod.clone(), pod_uid: pod }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_has_a_burst_and_then_a_rate() {
        let limits = Limits::default();
        assert_eq!((0..100).filter(|_| limits.take(&caller(0))).count(), 20);
        assert!(limits.take(&caller(1)), "another pod has its own");
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!((0..100).filter(|_| limits.take(&caller(0))).count(), 3);
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!((0..100).filter(|_| limits.take(&caller(0))).count(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn many_pods_share_what_their_account_has() {
        let limits = Limits::default();
        assert_eq!((0..1000).filter(|pod| limits.take(&caller(*pod))).count(), 400);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let buckets = Mutex::default();
        let now = Instant::now();
        let taken = (0..2 * REMEMBERED).filter(|pod| take(&buckets, &pod.to_string(), POD, now)).count();
        assert_eq!(taken, REMEMBERED);
        assert!(take(&buckets, "later", POD, now + Duration::from_mins(1)));
        assert_eq!(buckets.lock().expect("no panic").len(), 1);
    }
}
