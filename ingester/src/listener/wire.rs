//! What the parts of one connection (socket, requests, timer) tell one another.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::Limits;

/// Shared state of one connection. Atomics only for HTTP/2, whose streams are tasks; nothing here is contended.
#[derive(Debug)]
pub(crate) struct Wire {
    began: Instant,
    in_flight: AtomicUsize,
    requests: AtomicU64,
    /// Milliseconds after `began` at which the last request ended.
    idle_since: AtomicU64,
    /// Milliseconds after `began`, plus one, at which the first byte since then came; 0: none yet.
    first_byte: AtomicU64,
    content_length_seen: AtomicBool,
    linger: AtomicBool,
}

/// What the connection's timer has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Look again then.
    Wait(Instant),
    /// Nothing was asked for too long.
    Idle,
    /// A head began and does not end.
    HeadTimeout,
}

impl Wire {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            in_flight: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            first_byte: AtomicU64::new(0),
            content_length_seen: AtomicBool::new(false),
            linger: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A head is complete.
    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        self.first_byte.store(0, Relaxed);
    }

    /// Its answer is made.
    pub(crate) fn end(&self) {
        self.idle_since.store(self.now(), Relaxed);
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// Bytes came in.
    pub(super) fn received(&self) {
        if self.in_flight.load(Relaxed) == 0 && self.first_byte.load(Relaxed) == 0 {
            self.first_byte.store(self.now() + 1, Relaxed);
        }
    }

    /// Whether the bytes `content-length` came on this connection.
    pub(crate) fn content_length_seen(&self) -> bool {
        self.content_length_seen.load(Relaxed)
    }

    pub(super) fn see_content_length(&self) {
        self.content_length_seen.store(true, Relaxed);
    }

    /// The client may still be sending when the connection is to be closed.
    pub(crate) fn linger(&self) {
        self.linger.store(true, Relaxed);
    }

    pub(super) fn lingers(&self) -> bool {
        self.linger.load(Relaxed)
    }

    /// Judges the connection's silence.
    pub(super) fn due(&self, limits: &Limits) -> Due {
        let at = |millis: u64, limit: Duration| self.began + Duration::from_millis(millis) + limit;
        if self.in_flight.load(Relaxed) > 0 {
            return Due::Wait(Instant::now() + limits.head_timeout);
        }
        let first_byte = self.first_byte.load(Relaxed);
        let fresh = self.requests.load(Relaxed) == 0;
        let (deadline, verdict) = match first_byte {
            _ if fresh => (at(0, limits.head_timeout), Due::HeadTimeout),
            0 => (at(self.idle_since.load(Relaxed), limits.idle_timeout), Due::Idle),
            first => (at(first - 1, limits.head_timeout), Due::HeadTimeout),
        };
        if Instant::now() >= deadline {
            return verdict;
        }
        // A head may begin while we wait for idleness: never sleep past its limit.
        Due::Wait(deadline.min(Instant::now() + limits.head_timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_head_has_ten_seconds_and_an_idle_connection_has_its_own_limit() {
        let limits = Limits::default();
        let wire = Wire::new();
        assert!(matches!(wire.due(&limits), Due::Wait(_)));
        tokio::time::advance(limits.head_timeout).await;
        assert_eq!(wire.due(&limits), Due::HeadTimeout, "a connection that says nothing");

        wire.begin();
        tokio::time::advance(limits.idle_timeout * 2).await;
        assert!(matches!(wire.due(&limits), Due::Wait(_)), "a request in flight has limits of its own");
        wire.end();
        tokio::time::advance(limits.idle_timeout / 2).await;
        assert!(matches!(wire.due(&limits), Due::Wait(_)));
        wire.received();
        tokio::time::advance(limits.head_timeout).await;
        assert_eq!(wire.due(&limits), Due::HeadTimeout, "half a head on a kept-alive connection");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_after_a_request_is_idleness() {
        let limits = Limits::default();
        let wire = Wire::new();
        wire.begin();
        wire.end();
        tokio::time::advance(limits.idle_timeout).await;
        assert_eq!(wire.due(&limits), Due::Idle);
    }
}
