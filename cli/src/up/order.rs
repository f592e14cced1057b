//! What happened to an event in the order in which people think of it.
//!
//! Ingester and egress tell what they saw independently of each other. Once an event is on disk, its delivery races with
//! its source's answer, and the target is often told first. Neither waits for the other; the reader puts it in order.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use zen_model::EventId;
use zen_model::observe::Observation;
use zen_runtime::watch::Feed;

/// How long a first attempt waits for the word that its event was accepted. There may be none: it was accepted before a
/// restart, is replayed, or its word was dropped.
const PATIENCE: Duration = Duration::from_millis(100);
/// First attempts that wait at one time, and accepted events that are remembered.
const BOUND: usize = 1024;

/// A feed in which "accepted" comes before the first attempt.
#[derive(Debug)]
pub struct Ordered {
    feed: Feed,
    accepted: HashSet<EventId>,
    oldest: VecDeque<EventId>,
    waiting: VecDeque<(Instant, EventId, Observation)>,
    ready: VecDeque<Observation>,
}

impl Ordered {
    /// Puts a feed in order.
    pub fn new(feed: Feed) -> Self {
        Self {
            feed,
            accepted: HashSet::new(),
            oldest: VecDeque::new(),
            waiting: VecDeque::new(),
            ready: VecDeque::new(),
        }
    }

    /// The next observation; none when every tap is gone. Nothing is lost when it is cancelled.
    pub async fn next(&mut self) -> Option<Observation> {
        loop {
            if let Some(observation) = self.ready.pop_front() {
                return Some(observation);
            }
            let Some((end, ..)) = self.waiting.front() else {
                let observation = self.feed.next().await?;
                self.sort(observation, Instant::now());
                continue;
            };
            match tokio::time::timeout_at(*end, self.feed.next()).await {
                Ok(Some(observation)) => self.sort(observation, Instant::now()),
                Ok(None) | Err(_) => return self.waiting.pop_front().map(|(.., observation)| observation),
            }
        }
    }

    /// One that is there already and waits for nothing.
    pub fn try_next(&mut self) -> Option<Observation> {
        while self.ready.is_empty() {
            let observation = self.feed.try_next()?;
            self.sort(observation, Instant::now());
        }
        self.ready.pop_front()
    }

    /// How many were dropped since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.feed.take_dropped()
    }

    fn sort(&mut self, observation: Observation, now: Instant) {
        match &observation {
            Observation::Accepted { id, .. } => {
                let id = id.clone();
                self.ready.push_back(observation);
                let all = std::mem::take(&mut self.waiting);
                for (end, of, waiting) in all {
                    if of == id {
                        self.ready.push_back(waiting);
                    } else {
                        self.waiting.push_back((end, of, waiting));
                    }
                }
                self.remember(id);
            }
            Observation::Attempted { id, attempt: 1, .. } if !self.accepted.contains(id) => {
                self.waiting.push_back((now + PATIENCE, id.clone(), observation));
            }
            _ => self.ready.push_back(observation),
        }
        // A feed that never pauses must not keep anybody waiting for longer.
        while self.waiting.front().is_some_and(|(end, ..)| *end <= now) || self.waiting.len() > BOUND {
            self.ready.extend(self.waiting.pop_front().map(|(.., observation)| observation));
        }
    }

    fn remember(&mut self, id: EventId) {
        if self.accepted.insert(id.clone()) {
            self.oldest.push_back(id);
        }
        if self.oldest.len() > BOUND
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.accepted.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use zen_model::ObjectKey;
    use zen_model::observe::Observer as _;
    use zen_model::settle::Class;
    use zen_runtime::watch::Tap;

    use super::*;

    fn accepted(id: &str) -> Observation {
        Observation::Accepted {
            webhook: ObjectKey::new("team-a", "github"),
            id: EventId::from(id),
            r#type: "push".into(),
            bytes: 1,
            deliveries: 2,
        }
    }

    fn attempted(id: &str, to: &str, attempt: u32) -> Observation {
        Observation::Attempted {
            destination: ObjectKey::new("team-a", to),
            id: EventId::from(id),
            attempt,
            class: Class::Delivered,
            status: 204,
            took: Duration::from_millis(1),
            error: None,
            retry_in: None,
            dead: None,
        }
    }

    fn name(observation: &Observation) -> String {
        match observation {
            Observation::Accepted { id, .. } => format!("accepted {}", id.as_str()),
            Observation::Attempted { id, destination, .. } => format!("{} {}", destination.name.as_str(), id.as_str()),
            other => format!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn accepted_comes_before_what_follows_from_it() {
        let (tap, feed) = Tap::new(16);
        let mut ordered = Ordered::new(feed);
        for observation in [
            attempted("1", "ci", 1),
            attempted("2", "ci", 1),
            accepted("1"),
            attempted("1", "audit", 1),
            accepted("2"),
            attempted("old", "ci", 2),
        ] {
            tap.observe(observation);
        }
        let mut told = vec![name(&ordered.next().await.expect("one"))];
        told.extend(std::iter::from_fn(|| ordered.try_next()).map(|observation| name(&observation)));
        assert_eq!(told, ["accepted 1", "ci 1", "audit 1", "accepted 2", "ci 2", "ci old"]);
    }

    #[tokio::test]
    async fn a_first_attempt_without_it_waits_for_a_moment_only() {
        let (tap, feed) = Tap::new(16);
        let mut ordered = Ordered::new(feed);
        tap.observe(attempted("1", "ci", 1));
        assert!(ordered.try_next().is_none());
        let began = Instant::now();
        assert_eq!(name(&ordered.next().await.expect("one")), "ci 1");
        assert!(began.elapsed() <= PATIENCE * 10);
        tap.observe(attempted("2", "ci", 1));
        drop(tap);
        assert_eq!(name(&ordered.next().await.expect("what waits at the end is not lost")), "ci 2");
        assert!(ordered.next().await.is_none());
    }
}
