//! Slots of a host, across the Destinations that point at it (D-10).
//!
//! A Destination may take another slot while it holds fewer than [`SHARE`] times those that are free (dynamic thresholds:
//! Choudhury and Hahne, 1998). However many of them hang, some slots are left for one that does not: of 256, one that hangs
//! gets 192 at most, two get 109 each, and what nobody else uses lies idle no more than that. No Destination is told of
//! another, and nothing is computed anew when one comes or goes.
//!
//! The fast path is a compare-and-swap. Where somebody waits, everybody queues up, and the Destination that
//! holds the fewest slots is the next.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;
use zen_compile::{Destination, Target};

/// How many slots for each that is free.
const SHARE: usize = 3;

/// The hosts that Destinations point at now.
#[derive(Debug)]
pub(crate) struct Hosts {
    limit: usize,
    known: Mutex<HashMap<Name, Weak<Host>>>,
}

/// Canonical host and port.
type Name = (Box<str>, u16);

#[derive(Debug)]
struct Host {
    name: Name,
    limit: usize,
    used: AtomicUsize,
    /// How many workers are in `queue`.
    waiting: AtomicUsize,
    /// Destinations that wait, those first whose last turn is longest ago.
    queue: Mutex<Vec<Queued>>,
}

#[derive(Debug)]
struct Queued {
    turn: Arc<Turn>,
    workers: usize,
    /// Slots that are theirs and that they have yet to fetch; never more than `workers`.
    granted: usize,
}

/// One Destination at one host.
#[derive(Debug, Default)]
struct Turn {
    held: AtomicUsize,
    /// Told of each slot that was granted. There may be one word too many, never one too few.
    granted: Notify,
}

/// What one Destination may take of a host.
#[derive(Debug)]
pub(crate) struct Share {
    host: Arc<Host>,
    turn: Arc<Turn>,
}

/// Free again when dropped.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Share>);

impl Hosts {
    /// With so many slots for each host.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), known: Mutex::default() }
    }

    /// The share of a Destination: `before`, where it is of the same host still.
    pub(crate) fn share(&self, destination: &Destination, before: Option<&Arc<Share>>) -> Arc<Share> {
        let (Target::Url { host, port, .. } | Target::Service { host, port, .. }) = &destination.target;
        if let Some(before) = before
            && (&*before.host.name.0, before.host.name.1) == (host.as_str(), *port)
        {
            return Arc::clone(before);
        }
        let name: Name = (host.as_str().into(), *port);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let host = known.get(&name).and_then(Weak::upgrade).unwrap_or_else(|| {
            let host = Arc::new(Host::new(name.clone(), self.limit));
            known.insert(name, Arc::downgrade(&host));
            host
        });
        Arc::new(Share { host, turn: Arc::default() })
    }

    /// Forgets hosts that nothing points at any more.
    pub(crate) fn sweep(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, host| host.strong_count() > 0);
    }
}

impl Host {
    fn new(name: Name, limit: usize) -> Self {
        Self { name, limit, used: AtomicUsize::new(0), waiting: AtomicUsize::new(0), queue: Mutex::default() }
    }

    fn has_room(&self, used: usize, held: usize) -> bool {
        held < SHARE * self.limit.saturating_sub(used)
    }

    /// Hands free slots to the Destinations that hold the fewest. Handed over, not offered: whoever is faster, and that is
    /// the worker that has just given one back, would take them before the others look.
    fn grant(&self) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut queue = self.queue();
        loop {
            let open = queue.iter().enumerate().filter(|(_, queued)| queued.granted < queued.workers);
            let Some((at, next)) = open.min_by_key(|(_, queued)| queued.turn.held.load(Ordering::SeqCst)) else {
                return;
            };
            // Who holds the fewest may have one if anybody may.
            if !self.take(&next.turn) {
                return;
            }
            queue[at].granted += 1;
            queue[at].turn.granted.notify_one();
            queue[at..].rotate_left(1);
        }
    }

    fn take(&self, turn: &Turn) -> bool {
        let take = |used| self.has_room(used, turn.held.load(Ordering::SeqCst)).then_some(used + 1);
        let taken = self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok();
        if taken {
            turn.held.fetch_add(1, Ordering::SeqCst);
        }
        taken
    }

    fn give_back(&self, turn: &Turn) {
        turn.held.fetch_sub(1, Ordering::SeqCst);
        self.used.fetch_sub(1, Ordering::SeqCst);
        self.grant();
    }

    fn queue(&self) -> MutexGuard<'_, Vec<Queued>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// A slot, where there is one and nobody waits for it.
    pub(crate) fn free(self: &Arc<Self>) -> Option<Slot> {
        let free = self.host.waiting.load(Ordering::SeqCst) == 0 && self.host.take(&self.turn);
        free.then(|| Slot(Arc::clone(self)))
    }

    /// Waits for a slot.
    pub(crate) async fn slot(self: &Arc<Self>) -> Slot {
        let mut waiting = Waiting::begin(self);
        while !waiting.fetch() {
            self.turn.granted.notified().await;
        }
        Slot(Arc::clone(self))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.host.give_back(&self.0.turn);
    }
}

/// A worker in the queue of its host.
struct Waiting<'a> {
    share: &'a Share,
    over: bool,
}

impl<'a> Waiting<'a> {
    fn begin(share: &'a Share) -> Self {
        let mut queue = share.host.queue();
        match queue.iter_mut().find(|queued| Arc::ptr_eq(&queued.turn, &share.turn)) {
            Some(queued) => queued.workers += 1,
            None => queue.push(Queued { turn: Arc::clone(&share.turn), workers: 1, granted: 0 }),
        }
        share.host.waiting.fetch_add(1, Ordering::SeqCst);
        drop(queue);
        // A slot may be free, or have become so before anybody was in the queue.
        share.host.grant();
        Self { share, over: false }
    }

    /// Takes what was granted, and leaves the queue with it.
    fn fetch(&mut self) -> bool {
        self.over = self.leave(|queued| {
            let granted = queued.granted > 0;
            if granted {
                queued.granted -= 1;
                queued.workers -= 1;
            }
            granted
        });
        self.over
    }

    /// Changes the own entry, and takes it out when nobody waits there any more.
    fn leave(&self, change: impl FnOnce(&mut Queued) -> bool) -> bool {
        let Share { host, turn } = self.share;
        let mut queue = host.queue();
        let Some(at) = queue.iter().position(|queued| Arc::ptr_eq(&queued.turn, turn)) else { return false };
        let before = queue[at].workers;
        let answer = change(&mut queue[at]);
        host.waiting.fetch_sub(before - queue[at].workers, Ordering::SeqCst);
        if queue[at].granted > 0 {
            // The word that one worker was told may have been meant for another as well.
            turn.granted.notify_one();
        }
        if queue[at].workers == 0 {
            queue.remove(at);
        }
        answer
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // Given up. What was granted stays for the others, unless it was for this one.
        let spare = self.leave(|queued| {
            queued.workers -= 1;
            let spare = queued.granted > queued.workers;
            if spare {
                queued.granted -= 1;
            }
            spare
        });
        if spare {
            self.share.host.give_back(&self.share.turn);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn shares(limit: usize, count: usize) -> Vec<Arc<Share>> {
        let host = Arc::new(Host::new(("ci.test".into(), 443), limit));
        (0..count).map(|_| Arc::new(Share { host: Arc::clone(&host), turn: Arc::default() })).collect()
    }

    fn take_all(share: &Arc<Share>) -> Vec<Slot> {
        std::iter::from_fn(|| share.free()).collect()
    }

    #[test]
    fn however_many_hang_the_next_one_has_a_slot() {
        let shares = shares(256, 20);
        let held: Vec<_> = shares.iter().map(take_all).collect();
        let counts: Vec<_> = held.iter().map(Vec::len).collect();
        assert_eq!(counts[..3], [192, 48, 12]);
        assert!(counts.iter().sum::<usize>() <= 256);
        let fair = self::shares(256, 3);
        // Default concurrency: three Destinations on one host do not notice each other.
        let held: Vec<Vec<_>> = fair.iter().map(|share| (0..64).map_while(|_| share.free()).collect()).collect();
        assert!(held.iter().all(|held| held.len() == 64));
        drop(held);
        assert_eq!(fair[0].host.used.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn who_holds_the_fewest_is_next_and_nobody_is_passed_over() {
        let shares = shares(4, 3);
        let mut first = take_all(&shares[0]);
        assert_eq!(first.len(), 3);
        let second = shares[1].slot().await;
        // Full. The first asks before the third.
        let mut greedy = Box::pin(shares[0].slot());
        let mut modest = Box::pin(shares[2].slot());
        assert!(greedy.as_mut().now_or_never().is_none() && modest.as_mut().now_or_never().is_none());
        first.pop();
        assert!(greedy.as_mut().now_or_never().is_none());
        let third = modest.as_mut().now_or_never().expect("its turn");
        drop((second, third));
        greedy.as_mut().now_or_never().expect("its turn");
    }

    #[tokio::test]
    async fn who_gives_up_passes_the_word_on() {
        let shares = shares(1, 3);
        let slot = shares[0].slot().await;
        let mut leaving = Box::pin(shares[1].slot());
        let mut staying = Box::pin(shares[2].slot());
        assert!(leaving.as_mut().now_or_never().is_none() && staying.as_mut().now_or_never().is_none());
        drop(slot);
        drop(leaving);
        let slot = staying.as_mut().now_or_never().expect("told by the one that left");
        drop(slot);
        drop(staying);
        assert_eq!(shares[0].host.waiting.load(Ordering::SeqCst), 0);
        assert!(shares[0].host.queue().is_empty());
    }

    #[tokio::test]
    async fn one_of_two_that_always_want_more_does_not_starve_the_other() {
        let shares = shares(1, 2);
        let turns = Arc::new(Mutex::new(Vec::new()));
        let workers = (0..4).map(|n| {
            let (share, turns) = (Arc::clone(&shares[n % 2]), Arc::clone(&turns));
            tokio::spawn(async move {
                for _ in 0..50 {
                    let _slot = share.slot().await;
                    turns.lock().expect("no panic").push(n % 2);
                    tokio::task::yield_now().await;
                }
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await.expect("no panic");
        }
        let turns = turns.lock().expect("no panic");
        let first: usize = turns[..100].iter().filter(|n| **n == 0).count();
        assert!((40..=60).contains(&first), "{first} of the first 100");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn never_more_than_there_are_and_all_come_to_their_end() {
        let shares = shares(3, 5);
        let workers = (0..40).map(|n| {
            let share = Arc::clone(&shares[n % 5]);
            tokio::spawn(async move {
                for turn in 0..200 {
                    let mut slot = Box::pin(share.slot());
                    // Some give up at once.
                    if turn % 7 == n % 7 {
                        let _ = slot.as_mut().now_or_never();
                        continue;
                    }
                    let slot = slot.await;
                    assert!(share.host.used.load(Ordering::SeqCst) <= 3);
                    tokio::task::yield_now().await;
                    drop(slot);
                }
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await.expect("no panic");
        }
        assert_eq!(shares[0].host.used.load(Ordering::SeqCst), 0);
        assert_eq!(shares[0].host.waiting.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn hosts_that_nothing_points_at_are_forgotten() {
        let hosts = Hosts::new(2);
        let host = Arc::new(Host::new(("ci.test".into(), 443), 2));
        hosts.known.lock().expect("no panic").insert(("ci.test".into(), 443), Arc::downgrade(&host));
        hosts.sweep();
        assert_eq!(hosts.known.lock().expect("no panic").len(), 1);
        drop(host);
        hosts.sweep();
        assert!(hosts.known.lock().expect("no panic").is_empty());
    }
}
