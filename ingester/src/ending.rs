//! The end of a process: finish what is in flight within a limit, leave the rest on disk (Q-04, DESIGN 13).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use zen_queue::Queue;
use zen_runtime::{Gate, Tasks};

use crate::Ingester;

/// Names of the tasks that an end waits for.
pub mod part {
    /// Connections of sources.
    pub const INTAKE: &str = "intake";
    /// Leases.
    pub const FEED: &str = "feed";
    /// Deliveries of mode `Direct`.
    pub const DIRECT: &str = "direct delivery";
    /// Streams of members.
    pub const RELAY: &str = "relay";
    /// The other end of the link, where it is in the same process.
    pub const EGRESS: &str = "egress";
    /// Health and metrics.
    pub const ADMIN: &str = "admin server";
}

/// What each stage of the end may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests in flight at the intake.
    pub intake: Duration,
    /// Attempts in flight at an egress of this process.
    pub attempts: Duration,
    /// Settlements of what is leased.
    pub deliveries: Duration,
    /// Both, whatever each takes.
    pub together: Duration,
    /// The queue's last batch.
    pub close: Duration,
}

impl Limits {
    /// `zen up` ends within 20 s, with a delay of at most five before.
    pub const STANDALONE: Self = Self {
        intake: Duration::from_secs(4),
        attempts: Duration::from_secs(9),
        deliveries: Duration::from_secs(10),
        together: Duration::from_secs(11),
        close: Duration::from_secs(2),
    };
    /// A pod has `drainDelay` and 30 s more before it is killed.
    pub const POD: Self = Self {
        intake: Duration::from_secs(9),
        attempts: Duration::from_secs(13),
        deliveries: Duration::from_secs(14),
        together: Duration::from_secs(23),
        close: Duration::from_secs(4),
    };
}

/// Parts keep to their limits, give or take.
const MOMENT: Duration = Duration::from_secs(1);

/// The ends of the parts, in the order in which they are told.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// No new connections; requests in flight finish.
    pub intake: CancellationToken,
    /// No new leases, no new attempts; what is leased is settled.
    pub deliveries: CancellationToken,
    /// No session is connected again.
    pub link: CancellationToken,
    /// Health and metrics are no longer answered.
    pub admin: CancellationToken,
}

/// What is ended.
pub struct Ending<'a> {
    /// Closed first.
    pub readiness: Gate,
    /// Whose clients are asked to connect elsewhere.
    pub ingester: &'a Ingester,
    /// What runs.
    pub tasks: Tasks,
    /// Their ends.
    pub ends: Ends,
    /// Closed last.
    pub queue: Arc<dyn Queue>,
    /// What each stage may take.
    pub limits: Limits,
}

impl Ending<'_> {
    /// Not ready → goes on accepting for `delay` → no new connections → finishes and settles → closes the queue.
    pub async fn run(mut self, delay: Duration) {
        self.readiness.close("the process is ending");
        self.ingester.leave(true);
        tokio::time::sleep(delay).await;
        let latest = Instant::now() + self.limits.together;
        self.ends.intake.cancel();
        self.tasks.ended(&[part::INTAKE], latest.min(Instant::now() + self.limits.intake + MOMENT)).await;
        self.ends.deliveries.cancel();
        let deliveries = [part::FEED, part::DIRECT, part::RELAY, part::EGRESS];
        self.tasks.ended(&deliveries, latest.min(Instant::now() + self.limits.deliveries + MOMENT)).await;
        self.ends.link.cancel();
        if timeout(self.limits.close, self.queue.close()).await.is_err() {
            tracing::warn!("the queue did not close in time; what was acknowledged is on disk all the same");
        }
        self.ends.admin.cancel();
        self.tasks.ended(&[part::ADMIN], Instant::now() + MOMENT).await;
        self.tasks.abort();
    }
}
