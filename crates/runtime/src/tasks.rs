//! The parts of a process that run side by side, each with a name.

use std::future::Future;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Running parts. Dropping it stops them all.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<&'static str>,
}

impl Tasks {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a part. The name is for people: "the NAME ended".
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.set.spawn(async move {
            task.await;
            name
        });
    }

    /// Waits until one ends, which none does by itself while the process serves; returns what is to be said about it.
    /// Safe to cancel.
    pub async fn first_end(&mut self) -> String {
        match self.set.join_next().await {
            Some(Ok(name)) => format!("the {name} ended"),
            Some(Err(error)) => format!("a part of the process failed: {error}"),
            None => "nothing is left to run".to_owned(),
        }
    }

    /// Waits until these have ended, at the longest until the deadline. They have to be told to end.
    pub async fn ended(&mut self, names: &[&str], deadline: Instant) {
        let mut left = names.to_vec();
        while !left.is_empty() {
            match timeout_at(deadline, self.set.join_next()).await {
                Ok(Some(Ok(name))) => left.retain(|waited| *waited != name),
                Ok(Some(Err(error))) => tracing::warn!(%error, "a part failed while the process ended"),
                Ok(None) => return,
                Err(_) => {
                    tracing::warn!(parts = left.join(", "), "not all in flight could be finished in time");
                    return;
                }
            }
        }
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
}
