use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Clock;

/// Whether this process may write, now. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    /// Nanoseconds of the clock until which we may write; [`STANDBY`] while the lease is not ours.
    deadline: AtomicU64,
    lost: CancellationToken,
    reason: OnceLock<&'static str>,
}

/// This process may not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLeader {
    /// The lease is not ours yet, or was given back.
    #[error("the lease is not held by this process")]
    Standby,
    /// It was ours and is lost for good: the process has to end.
    #[error("the lease is lost: {0}")]
    Lost(&'static str),
}

/// The lease is lost; the process has to end, with a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the lease is lost: {0}")]
pub struct Lost(pub &'static str);

const STANDBY: u64 = 0;
const FOREVER: u64 = u64::MAX;

impl Leadership {
    /// Of a process that needs no election: it may always write.
    pub fn unguarded() -> Self {
        let leadership = Self::standby(Clock::boot());
        leadership.0.deadline.store(FOREVER, Ordering::Release);
        leadership
    }

    pub(super) fn standby(clock: Clock) -> Self {
        let (lost, reason) = (CancellationToken::new(), OnceLock::new());
        Self(Arc::new(Shared { clock, deadline: AtomicU64::new(STANDBY), lost, reason }))
    }

    /// Ask before each write. Once it said [`NotLeader::Lost`] it never says anything else.
    ///
    /// # Errors
    ///
    /// [`NotLeader`] when this process may not write.
    pub fn check(&self) -> Result<(), NotLeader> {
        if let Some(reason) = self.0.reason.get() {
            return Err(NotLeader::Lost(reason));
        }
        match self.0.deadline.load(Ordering::Acquire) {
            STANDBY => Err(NotLeader::Standby),
            deadline if nanoseconds(self.now()) < deadline => Ok(()),
            _ => {
                let reason = "the renew deadline passed, perhaps while the process was stopped";
                self.lose(reason);
                Err(NotLeader::Lost(reason))
            }
        }
    }

    /// Waits until the lease is lost. It never ends while the lease is held, not yet held, or given back.
    pub async fn lost(&self) -> Lost {
        self.0.lost.cancelled().await;
        Lost(self.0.reason.get().copied().unwrap_or_default())
    }

    pub(super) fn now(&self) -> Duration {
        self.0.clock.now()
    }

    /// Time until the deadline; none when it has passed or nothing is held.
    pub(super) fn left(&self) -> Option<Duration> {
        self.check().ok()?;
        let deadline = Duration::from_nanos(self.0.deadline.load(Ordering::Acquire));
        deadline.checked_sub(self.now()).filter(|left| !left.is_zero())
    }

    pub(super) fn hold_until(&self, deadline: Duration) {
        // A renewal that came through too late revives nothing: the reason is asked before the deadline.
        self.0.deadline.store(nanoseconds(deadline), Ordering::Release);
    }

    pub(super) fn stand_down(&self) {
        self.0.deadline.store(STANDBY, Ordering::Release);
    }

    pub(super) fn lose(&self, reason: &'static str) {
        let _ = self.0.reason.set(reason);
        self.0.lost.cancel();
    }
}

fn nanoseconds(time: Duration) -> u64 {
    // 584 years.
    u64::try_from(time.as_nanos()).unwrap_or(FOREVER)
}
