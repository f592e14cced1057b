//! The leases of one session.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use zen_link::frame::{Settled, Token};
use zen_model::settle::Attempt;
use zen_model::{Event, Settlement, Timestamp};
use zen_verify::zen_signature::Keys;

use crate::lease::Lease;
use crate::outbox::Outbox;

/// One session's leases and what is to be said about them.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) outbox: Outbox,
    /// With which its leases are signed.
    pub(crate) keys: Arc<Keys>,
    term: Duration,
    leases: Mutex<HashMap<Token, Held>>,
    draining: AtomicBool,
    /// Told each time the last lease ends.
    empty: Notify,
}

#[derive(Debug)]
struct Held {
    lease: Arc<Lease>,
    /// As far as this side knows; the ingester's own end is no sooner.
    expires: Instant,
}

/// A delivery to attempt. Dropped without a settlement (a panic, the end of its lease), its lease is no longer renewed and
/// ends at the ingester, which counts it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) session: Arc<Session>,
    pub(crate) lease: Arc<Lease>,
    pub(crate) event: Event,
    /// Attempts charged before this one.
    pub(crate) attempts: u32,
    pub(crate) first_attempt: Option<Timestamp>,
    settled: bool,
}

impl Session {
    pub(crate) fn new(term: Duration, keys: Arc<Keys>) -> Self {
        // A term of zero would make every lease end at once; nobody means that.
        let term = term.max(Duration::from_secs(1));
        Self {
            outbox: Outbox::default(),
            keys,
            term,
            leases: Mutex::default(),
            draining: AtomicBool::new(false),
            empty: Notify::new(),
        }
    }

    /// How often [`Session::maintain`] is to be called.
    pub(crate) fn beat(&self) -> Duration {
        self.term / 6
    }

    pub(crate) fn held(&self) -> usize {
        self.leases().len()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Takes no more leases from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.outbox.draining();
    }

    /// Waits until no lease is left.
    pub(crate) async fn emptied(&self) {
        loop {
            let empty = self.empty.notified();
            if self.leases().is_empty() {
                return;
            }
            empty.await;
        }
    }

    /// Holds leases that have just arrived.
    pub(crate) fn hold(&self, tokens: impl Iterator<Item = Token>) -> Vec<Arc<Lease>> {
        let expires = Instant::now() + self.term;
        let mut leases = self.leases();
        tokens
            .map(|token| {
                let lease = Arc::new(Lease::new(token));
                leases.insert(token, Held { lease: Arc::clone(&lease), expires });
                lease
            })
            .collect()
    }

    /// The lease of a token, while it is held.
    pub(crate) fn lease(&self, token: &Token) -> Option<Arc<Lease>> {
        self.leases().get(token).map(|held| Arc::clone(&held.lease))
    }

    /// Ends a lease with a word about it, unless it has ended already.
    pub(crate) fn settle(&self, token: Token, settlement: &Settlement, attempt: Option<&Attempt>) {
        if self.forget(&token) {
            self.outbox.settled(Settled::new(token, settlement, attempt));
        }
    }

    /// Ends a lease without a word. Whether it was held.
    pub(crate) fn forget(&self, token: &Token) -> bool {
        let mut leases = self.leases();
        let held = leases.remove(token).is_some();
        if held && leases.is_empty() {
            self.empty.notify_waiters();
        }
        held
    }

    /// Ends every lease of these Destinations without a word: at the ingester they have ended. Returns how many.
    pub(crate) fn void(&self, destinations: &[u32]) -> usize {
        let tokens: Vec<_> =
            self.leases().keys().filter(|token| destinations.contains(&token.destination)).copied().collect();
        for token in &tokens {
            if let Some(lease) = self.lease(token) {
                self.forget(token);
                lease.abort();
            }
        }
        tokens.len()
    }

    /// Renews what is older than a third of the term, and aborts what could not be renewed, before its end. Returns how
    /// many were aborted.
    pub(crate) fn maintain(&self, now: Instant) -> usize {
        let stuck = self.outbox.is_stuck();
        let mut renew = Vec::new();
        let mut over = Vec::new();
        for (token, held) in self.leases().iter_mut() {
            let left = held.expires.saturating_duration_since(now);
            if left <= self.term / 6 {
                over.push(*token);
            } else if left <= self.term * 2 / 3 && !stuck {
                held.expires = now + self.term;
                renew.push(*token);
            }
        }
        for token in &over {
            if let Some(lease) = self.lease(token) {
                self.forget(token);
                lease.abort();
            }
        }
        if !renew.is_empty() {
            self.outbox.renew(renew);
        }
        over.len()
    }

    /// Tells every worker to stop; the leases stay, so that it can still say how they ended.
    pub(crate) fn abort_all(&self) {
        for held in self.leases().values() {
            held.lease.abort();
        }
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<Token, Held>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    pub(crate) fn new(
        session: &Arc<Session>,
        lease: Arc<Lease>,
        event: Event,
        attempts: u32,
        first_attempt: Option<Timestamp>,
    ) -> Self {
        Self { session: Arc::clone(session), lease, event, attempts, first_attempt, settled: false }
    }

    /// Says how it ended.
    pub(crate) fn settle(mut self, settlement: &Settlement, attempt: Option<&Attempt>) {
        self.settled = true;
        self.session.settle(self.lease.token, settlement, attempt);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.settled {
            self.session.forget(&self.lease.token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Arc<Keys> {
        let key = ("k".to_owned(), zen_model::Secret::new([7; 32]));
        Arc::new(Keys::new(vec![key]).expect("a key ring"))
    }

    #[tokio::test]
    async fn what_is_void_ends_and_nothing_else_does() {
        let session = Session::new(Duration::from_mins(1), keys());
        let of = |destination| Token { seq: 1, destination, lease: 1 };
        let leases = session.hold([of(1), of(2), of(3)].into_iter());
        assert_eq!(session.void(&[1, 3, 9]), 2);
        assert_eq!(leases.iter().map(|lease| lease.is_aborted()).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(session.held(), 1);
    }

    fn token(seq: u64) -> Token {
        Token { seq, destination: 1, lease: seq }
    }

    #[tokio::test(start_paused = true)]
    async fn leases_are_renewed_at_a_third_and_aborted_before_their_end_when_the_link_is_stuck() {
        let session = Session::new(Duration::from_mins(1), keys());
        let lease = session.hold(std::iter::once(token(1))).remove(0);
        tokio::time::advance(Duration::from_secs(10)).await;
        session.maintain(Instant::now());
        assert!(!session.outbox.is_stuck(), "too early to renew");
        tokio::time::advance(Duration::from_secs(10)).await;
        session.maintain(Instant::now());
        assert!(session.outbox.is_stuck(), "renewed, and nobody takes the frame");
        for _ in 0..4 {
            tokio::time::advance(Duration::from_secs(10)).await;
            assert_eq!(session.maintain(Instant::now()), 0);
        }
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(session.maintain(Instant::now()), 1);
        assert!(lease.is_aborted());
        assert_eq!(session.held(), 0);
    }

    #[tokio::test]
    async fn a_job_that_is_dropped_ends_its_lease_without_a_word() {
        let session = Arc::new(Session::new(Duration::from_mins(1), keys()));
        let lease = session.hold(std::iter::once(token(1))).remove(0);
        drop(Job::new(&session, lease, Event::default(), 0, None));
        assert_eq!(session.held(), 0);
        session.emptied().await;
    }
}
