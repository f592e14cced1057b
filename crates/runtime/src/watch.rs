//! A tap on what happens to events: bounded, never in the way of the data path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use zen_model::observe::{Observation, Observer};

/// The end that ingester and egress hold. While nobody reads, it costs one atomic load.
#[derive(Clone, Debug)]
pub struct Tap {
    sender: mpsc::Sender<Observation>,
    dropped: Arc<AtomicU64>,
}

/// The end that a terminal or a log reads. Dropping it turns the tap off.
#[derive(Debug)]
pub struct Feed {
    receiver: mpsc::Receiver<Observation>,
    dropped: Arc<AtomicU64>,
}

impl Tap {
    /// A tap that holds at most `capacity` observations for a slow reader and drops, and counts, the rest.
    pub fn new(capacity: usize) -> (Self, Feed) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let dropped = Arc::new(AtomicU64::new(0));
        (Self { sender, dropped: Arc::clone(&dropped) }, Feed { receiver, dropped })
    }
}

impl Observer for Tap {
    fn is_watched(&self) -> bool {
        !self.sender.is_closed()
    }

    fn observe(&self, observation: Observation) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.sender.try_send(observation) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Feed {
    /// The next observation; none when every tap is gone.
    pub async fn next(&mut self) -> Option<Observation> {
        self.receiver.recv().await
    }

    /// One that is there already.
    pub fn try_next(&mut self) -> Option<Observation> {
        self.receiver.try_recv().ok()
    }

    /// How many were dropped since the last call.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use zen_model::ObjectKey;

    use super::*;

    fn challenged() -> Observation {
        Observation::Challenged { webhook: ObjectKey::new("team-a", "slack") }
    }

    #[tokio::test]
    async fn a_slow_reader_loses_lines_and_learns_how_many() {
        let (tap, mut feed) = Tap::new(1);
        tap.observe(challenged());
        tap.observe(challenged());
        tap.observe(challenged());
        assert!(feed.next().await.is_some());
        assert_eq!((feed.take_dropped(), feed.take_dropped()), (2, 0));
    }

    #[test]
    fn nobody_watches_once_the_feed_is_gone() {
        let (tap, feed) = Tap::new(1);
        assert!(tap.is_watched());
        drop(feed);
        assert!(!tap.is_watched());
        tap.observe(challenged());
    }
}
