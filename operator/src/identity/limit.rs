//! How often a pod, and all pods of an account, may ask.

use std::time::Duration;

use zen_pod::Caller;

use crate::limit::{Buckets, Rate};

/// A pod asks twice for each certificate, and every half minute for its serving names.
const POD: Rate = Rate { burst: 20, every: Duration::from_secs(2) };
/// All pods of an account, at a rolling update.
const ACCOUNT: Rate = Rate { burst: 400, every: Duration::from_millis(50) };

/// Token buckets by pod and by account.
#[derive(Debug)]
pub(super) struct Limits {
    pods: Buckets,
    accounts: Buckets,
}

impl Default for Limits {
    fn default() -> Self {
        Self { pods: Buckets::new(POD), accounts: Buckets::new(ACCOUNT) }
    }
}

impl Limits {
    /// Whether this one may ask now.
    pub(super) fn take(&self, caller: &Caller) -> bool {
        let account = format!("{}/{}", caller.namespace, caller.account);
        self.pods.take(&caller.pod_uid) && self.accounts.take(&account)
    }
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
}
