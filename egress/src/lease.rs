//! One lease, as its worker and its session see it.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;
use zen_link::frame::Token;

const ABORTED: u8 = 1;
const PROCEED: u8 = 2;
const REFUSED: u8 = 4;

/// What the session tells the worker. There is one worker: a stored permit is enough, and nothing is missed.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) token: Token,
    told: AtomicU8,
    news: Notify,
}

/// The ingester's word on a delivery that is about to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    Proceed,
    Refused,
    Aborted,
}

impl Lease {
    pub(crate) fn new(token: Token) -> Self {
        Self { token, told: AtomicU8::new(0), news: Notify::new() }
    }

    /// The lease is over: its attempt must end.
    pub(crate) fn abort(&self) {
        self.tell(ABORTED);
    }

    /// The begin is durable.
    pub(crate) fn proceed(&self) {
        self.tell(PROCEED);
    }

    /// The begin was refused: the lease is no longer ours.
    pub(crate) fn refuse(&self) {
        self.tell(REFUSED);
    }

    fn tell(&self, what: u8) {
        self.told.fetch_or(what, Ordering::Release);
        self.news.notify_one();
    }

    fn was_told(&self, what: u8) -> bool {
        self.told.load(Ordering::Acquire) & what != 0
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.was_told(ABORTED)
    }

    /// Waits for the end of the lease.
    pub(crate) async fn aborted(&self) {
        while !self.is_aborted() {
            self.news.notified().await;
        }
    }

    /// Waits for the answer to a begin.
    pub(crate) async fn begun(&self) -> Begin {
        loop {
            if self.was_told(ABORTED) {
                return Begin::Aborted;
            }
            if self.was_told(REFUSED) {
                return Begin::Refused;
            }
            if self.was_told(PROCEED) {
                return Begin::Proceed;
            }
            self.news.notified().await;
        }
    }
}
