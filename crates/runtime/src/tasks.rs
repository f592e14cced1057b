//! The parts of a process that run side by side, each with a name.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

/// Running parts. Dropping it stops them all.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<()>,
    running: HashMap<task::Id, &'static str>,
}

impl Tasks {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a part. The name is for people: "the NAME ended".
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.set.spawn(task).id();
        self.running.insert(id, name);
    }

    /// Waits until one ends, which none does by itself while the process serves; returns what is to be said about it.
    /// Safe to cancel.
    pub async fn first_end(&mut self) -> String {
        match self.join_next().await {
            Some((name, Ok(()))) => format!("the {name} ended"),
            Some((name, Err(error))) => format!("the {name} failed: {error}"),
            None => "nothing is left to run".to_owned(),
        }
    }

    /// Waits until those of these that run have ended, at the longest until the deadline. They have to be told to end.
    pub async fn ended(&mut self, names: &[&str], deadline: Instant) {
        while self.running.values().any(|name| names.contains(name)) {
            match timeout_at(deadline, self.join_next()).await {
                Ok(Some((_, Ok(())))) => {}
                Ok(Some((name, Err(error)))) => {
                    tracing::warn!(%error, part = name, "a part failed while the process ended");
                }
                Ok(None) => return,
                Err(_) => {
                    let left: Vec<_> = self.running.values().filter(|name| names.contains(name)).copied().collect();
                    tracing::warn!(parts = left.join(", "), "not all in flight could be finished in time");
                    return;
                }
            }
        }
    }

    async fn join_next(&mut self) -> Option<(&'static str, Result<(), JoinError>)> {
        let ended = self.set.join_next_with_id().await?;
        let (id, result) = ended.map_or_else(|error| (error.id(), Err(error)), |(id, ())| (id, Ok(())));
        Some((self.running.remove(&id).unwrap_or("part"), result))
    }

    /// Stops what still runs.
    pub fn abort(&mut self) {
        self.set.abort_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn names_what_ends_and_waits_no_longer_than_it_was_told() {
        let mut tasks = Tasks::new();
        tasks.spawn("intake", async {});
        tasks.spawn("feed", std::future::pending());
        assert_eq!(tasks.first_end().await, "the intake ended");
        let deadline = Instant::now() + Duration::from_secs(3);
        tasks.ended(&["feed"], deadline).await;
        assert_eq!(Instant::now(), deadline);
        tasks.spawn("link", tokio::time::sleep(Duration::from_secs(1)));
        tasks.ended(&["link"], deadline + Duration::from_secs(3)).await;
        assert_eq!(Instant::now(), deadline + Duration::from_secs(1));
    }

    /// Not every process has every part: one that was never there keeps nobody from ending.
    #[tokio::test(start_paused = true)]
    async fn does_not_wait_for_what_does_not_run() {
        let mut tasks = Tasks::new();
        let began = Instant::now();
        tasks.spawn("admin", std::future::pending());
        tasks.spawn("feed", async {});
        tasks.ended(&["feed", "egress"], began + Duration::from_secs(9)).await;
        tasks.spawn("relay", async { panic!("as a part that fails") });
        tasks.ended(&["relay"], began + Duration::from_secs(9)).await;
        assert_eq!(Instant::now(), began);
    }
}
