//! What is to be looked at, and when: each object once, however often it changed; never two at one time of the same.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;

use tokio::time::Instant;

/// A queue without duplicates.
#[derive(Debug)]
pub struct Queue<T> {
    due: BTreeSet<(Instant, T)>,
    at: HashMap<T, Instant>,
    running: HashSet<T>,
}

impl<T: Clone + Ord + Hash> Default for Queue<T> {
    fn default() -> Self {
        Self { due: BTreeSet::new(), at: HashMap::new(), running: HashSet::new() }
    }
}

impl<T: Clone + Ord + Hash> Queue<T> {
    /// To be looked at from then on; the earlier of two times counts.
    pub fn push(&mut self, item: T, at: Instant) {
        if let Some(&known) = self.at.get(&item) {
            if known <= at {
                return;
            }
            self.due.remove(&(known, item.clone()));
        }
        self.at.insert(item.clone(), at);
        self.due.insert((at, item));
    }

    /// What is due now. It comes again only after [`Queue::done`].
    pub fn pop(&mut self, now: Instant) -> Option<T> {
        let (at, item) =
            self.due.iter().take_while(|(at, _)| *at <= now).find(|(_, item)| !self.running.contains(item))?;
        let (at, item) = (*at, item.clone());
        self.due.remove(&(at, item.clone()));
        self.at.remove(&item);
        self.running.insert(item.clone());
        Some(item)
    }

    /// Its look has ended.
    pub fn done(&mut self, item: &T) {
        self.running.remove(item);
    }

    /// When the next one is due that is not being looked at.
    pub fn next(&self) -> Option<Instant> {
        self.due.iter().find(|(_, item)| !self.running.contains(item)).map(|(at, _)| *at)
    }

    /// Nothing waits and nothing runs.
    pub fn is_idle(&self, now: Instant) -> bool {
        self.running.is_empty() && self.next().is_none_or(|at| at > now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_once_in_order_and_never_two_at_one_time() {
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        let mut queue = Queue::default();
        queue.push("b", later);
        queue.push("a", now);
        queue.push("a", later);
        assert_eq!((queue.pop(now), queue.pop(now)), (Some("a"), None));
        // It changes while it is looked at: again, but afterwards.
        queue.push("a", now);
        assert_eq!((queue.pop(now), queue.next()), (None, Some(later)));
        queue.done(&"a");
        assert_eq!((queue.pop(now), queue.next()), (Some("a"), Some(later)));
        queue.done(&"a");
        // The earlier time counts.
        queue.push("b", now);
        assert_eq!((queue.pop(now), queue.pop(later)), (Some("b"), None));
        queue.done(&"b");
        assert!(queue.is_idle(later));
    }
}
