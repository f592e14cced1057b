//! The end of the process: finish what is in flight within a limit, leave the rest on disk.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use zen_queue::Queue;
use zen_runtime::Gate;

/// Requests in flight at the intake.
pub const INTAKE: Duration = Duration::from_secs(4);
/// Attempts in flight at the egress.
pub const ATTEMPTS: Duration = Duration::from_secs(9);
/// Settlements of what is in flight: the attempts and a moment more.
pub const DELIVERIES: Duration = Duration::from_secs(10);
/// The longest that `drainDelay` is kept.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// All of that together, whatever each takes: with what follows, the process ends within the 20 s that it promises.
const TOGETHER: Duration = Duration::from_secs(16);
/// Parts keep to their limits, give or take.
const MOMENT: Duration = Duration::from_secs(1);
/// The queue's last batch.
const CLOSE: Duration = Duration::from_secs(2);

/// The ends of the parts, in the order in which they are told.
#[derive(Debug, Default)]
pub struct Ends {
    /// No new requests.
    pub intake: CancellationToken,
    /// No new leases, no new attempts.
    pub deliveries: CancellationToken,
    /// No session is connected again.
    pub link: CancellationToken,
    /// Health and metrics are no longer answered.
    pub admin: CancellationToken,
}

/// Not ready → goes on accepting for the delay → no new requests → finishes and settles → closes the queue.
pub async fn drain(gate: Gate, ends: Ends, mut tasks: JoinSet<&'static str>, queue: Arc<dyn Queue>, delay: Duration) {
    gate.close("the process is ending");
    let latest = Instant::now() + TOGETHER;
    tokio::time::sleep(delay.min(LONGEST_DELAY)).await;
    ends.intake.cancel();
    ended(&mut tasks, &["intake"], latest.min(Instant::now() + INTAKE + MOMENT)).await;
    ends.deliveries.cancel();
    ended(&mut tasks, &["feed", "egress"], latest.min(Instant::now() + DELIVERIES + MOMENT)).await;
    ends.link.cancel();
    if timeout(CLOSE, queue.close()).await.is_err() {
        tracing::warn!("the queue did not close in time; what was acknowledged is on disk all the same");
    }
    ends.admin.cancel();
    ended(&mut tasks, &["admin server"], Instant::now() + MOMENT).await;
    tasks.abort_all();
}

/// Waits until these tasks have ended, at the longest until the deadline.
async fn ended(tasks: &mut JoinSet<&'static str>, names: &[&str], deadline: Instant) {
    let mut left = names.to_vec();
    while !left.is_empty() {
        match timeout_at(deadline, tasks.join_next()).await {
            Ok(Some(Ok(name))) => left.retain(|waited| *waited != name),
            Ok(Some(Err(error))) => tracing::warn!(%error, "a part failed while the process ended"),
            Ok(None) => return,
            Err(_) => {
                tracing::warn!(parts = left.join(", "), "not all in flight could be finished; it stays on disk");
                return;
            }
        }
    }
}
