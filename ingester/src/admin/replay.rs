//! Replays as jobs of the server: paced, with progress, to be cancelled; they go on when the caller goes away (D-05).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use zen_model::Timestamp;
use zen_queue::{DeadFilter, Queue};

use super::error::Error;
use super::types::{Replay, ReplayState};
use crate::pipeline::answer;

/// Replays of one namespace that run at one time: one tenant's slow ones keep nobody else waiting.
const MAX_RUNNING: usize = 4;
/// And of all together.
const MAX_TOGETHER: usize = 32;
/// Replays that are remembered.
const MAX_KEPT: usize = 64;
/// Steps per second of a paced replay.
const STEPS: u32 = 10;
/// Dead letters of one step where no rate is set.
const CHUNK: u64 = 500;

pub(super) struct Replays {
    queue: Arc<dyn Queue>,
    jobs: Mutex<VecDeque<Arc<Job>>>,
}

struct Job {
    view: Mutex<Replay>,
    cancel: CancellationToken,
}

impl Job {
    fn view(&self) -> Replay {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, change: impl FnOnce(&mut Replay)) {
        change(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Replays {
    pub(super) fn new(queue: Arc<dyn Queue>) -> Self {
        Self { queue, jobs: Mutex::default() }
    }

    pub(super) fn start(
        &self,
        id: Option<String>,
        mut filter: DeadFilter,
        rate: Option<u32>,
        total: u64,
    ) -> Result<Replay, Error> {
        let started = Timestamp::now();
        // What dies again while the replay runs is not taken a second time.
        let now = Timestamp(started.0 + 1);
        filter.until = Some(filter.until.map_or(now, |until| until.min(now)));
        let view = Replay {
            id: id.unwrap_or_else(answer::generate_request_id),
            namespace: filter.namespace.clone(),
            started,
            total,
            replayed: 0,
            state: ReplayState::Running,
            error: None,
        };
        let job = Arc::new(Job { view: Mutex::new(view.clone()), cancel: CancellationToken::new() });
        {
            let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            let running: Vec<_> =
                jobs.iter().map(|job| job.view()).filter(|view| view.state == ReplayState::Running).collect();
            let own = running.iter().filter(|other| other.namespace == view.namespace).count();
            if own >= MAX_RUNNING || running.len() >= MAX_TOGETHER {
                return Err(Error::TooManyReplays(own));
            }
            if jobs.len() >= MAX_KEPT
                && let Some(old) = jobs.iter().position(|job| job.view().state != ReplayState::Running)
            {
                jobs.remove(old);
            }
            jobs.push_back(Arc::clone(&job));
        }
        tokio::spawn(run(Arc::clone(&self.queue), job, filter, rate, total));
        Ok(view)
    }

    /// Newest first.
    pub(super) fn list(&self) -> Vec<Replay> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().map(|job| job.view()).collect()
    }

    pub(super) fn show(&self, id: &str) -> Option<Replay> {
        self.list().into_iter().find(|view| view.id == id)
    }

    pub(super) fn cancel(&self, id: &str) -> Option<Replay> {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let job = jobs.iter().find(|job| job.view().id == id)?;
        job.cancel.cancel();
        job.update(|view| {
            if view.state == ReplayState::Running {
                view.state = ReplayState::Cancelled;
            }
        });
        Some(job.view())
    }
}

async fn run(queue: Arc<dyn Queue>, job: Arc<Job>, filter: DeadFilter, rate: Option<u32>, total: u64) {
    let (step, pause) = pace(rate);
    let mut ticks = tokio::time::interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut replayed = 0;
    while replayed < total {
        tokio::select! {
            biased;
            () = job.cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match queue.replay(filter.clone(), step.min(total - replayed)).await {
            Ok(0) => break,
            Ok(count) => {
                replayed += count;
                job.update(|view| view.replayed = replayed);
            }
            Err(error) => {
                tracing::warn!(%error, "a replay failed");
                job.update(|view| {
                    view.state = ReplayState::Failed;
                    view.error = Some(error.to_string());
                });
                return;
            }
        }
    }
    job.update(|view| {
        if view.state == ReplayState::Running {
            view.state = ReplayState::Done;
        }
    });
}

/// Dead letters of one step, and the time from step to step.
fn pace(rate: Option<u32>) -> (u64, Duration) {
    match rate {
        None => (CHUNK, Duration::from_millis(1)),
        Some(rate) if rate < STEPS => (1, Duration::from_secs(1) / rate.max(1)),
        Some(rate) => {
            let step = rate.div_ceil(STEPS);
            (u64::from(step), Duration::from_secs_f64(f64::from(step) / f64::from(rate)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_keeps_the_rate() {
        for rate in [1, 3, 9, 10, 15, 100, 12_345] {
            let (step, pause) = pace(Some(rate));
            let per_second = f64::from(u32::try_from(step).expect("small")) / pause.as_secs_f64();
            assert!((per_second - f64::from(rate)).abs() < 0.01, "{rate}: {per_second}");
        }
    }
}
