use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since some moment in the past. It never jumps back.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl Clock {
    /// `CLOCK_BOOTTIME`: goes on while the process is stopped and while the machine is suspended.
    pub fn boot() -> Self {
        Self(Arc::new(|| {
            let now = clock_gettime(ClockId::Boottime);
            // The kernel's time since boot is never negative, and its nanoseconds are below one second.
            Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
        }))
    }

    /// Any other clock, for tests.
    pub fn new(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(super) fn now(&self) -> Duration {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({:?})", self.now())
    }
}
