//! Tasks that must finish before the process ends, within a limit.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Tracks what is in flight. Cheap to clone; every clone tracks into the same set.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    tracker: TaskTracker,
}

/// The limit was over before everything had finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{left} tasks had not finished when the limit was over")]
pub struct Unfinished {
    /// Tasks that still ran.
    pub left: usize,
}

impl Drain {
    /// Nothing in flight.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns a task that [`Drain::finish`] waits for.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(task)
    }

    /// Marks work in flight that is not a task of its own, until the token is dropped.
    pub fn hold(&self) -> TaskTrackerToken {
        self.tracker.token()
    }

    /// How much is in flight.
    pub fn in_flight(&self) -> usize {
        self.tracker.len()
    }

    /// Waits until all has finished, at most for `limit`. The tasks themselves have to be told to end.
    ///
    /// # Errors
    ///
    /// [`Unfinished`] when the limit is over first; what is left goes on until its runtime ends.
    pub async fn finish(&self, limit: Duration) -> Result<(), Unfinished> {
        self.tracker.close();
        match tokio::time::timeout(limit, self.tracker.wait()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Unfinished { left: self.tracker.len() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_for_tasks_and_held_work_until_the_limit() {
        let drain = Drain::new();
        drain.spawn(tokio::time::sleep(Duration::from_secs(3)));
        let held = drain.hold();
        assert_eq!(drain.finish(Duration::from_secs(5)).await, Err(Unfinished { left: 1 }));
        drop(held);
        assert_eq!(drain.finish(Duration::from_secs(5)).await, Ok(()));
    }
}
