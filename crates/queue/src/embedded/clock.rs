//! Wall-clock milliseconds that never jump while the process lives.

use std::time::Duration;

use tokio::time::Instant;
use zen_model::Timestamp;

/// The wall clock as it was at the start, carried on by the monotonic clock. Due times are stored in it: a clock that
/// is set while the process runs moves nothing, and what an earlier process stored is clamped when it is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Timestamp,
    began: Instant,
}

impl Clock {
    /// Called on a thread of the runtime, so that a paused clock is the one that is read.
    pub(crate) fn start() -> Self {
        Self { start: Timestamp::now(), began: Instant::now() }
    }

    /// Milliseconds since the Unix epoch. Called on threads of the runtime only.
    pub(crate) fn now(&self) -> u64 {
        self.start.plus(self.began.elapsed()).0
    }

    /// When the clock will show `at`.
    pub(crate) fn instant(&self, at: u64) -> Instant {
        self.began + Duration::from_millis(at.saturating_sub(self.start.0))
    }
}

/// Whole milliseconds of a duration, rounded up so that nothing is due too early.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
