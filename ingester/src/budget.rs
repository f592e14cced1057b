//! The bytes of bodies that may be in memory at one time (W-15). Taken before they are read, given back when the event is
//! durable or refused.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

/// A number of bytes that requests share. Never waits: who finds it used up is refused and may come again.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    used: Arc<AtomicUsize>,
    limit: usize,
}

/// Bytes taken from a [`Budget`]; given back on drop.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { used: Arc::default(), limit }
    }

    /// An empty share, to be grown.
    pub(crate) fn share(&self) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Acquire)
    }
}

impl Share {
    /// Takes so many bytes more. False: there are not so many, and nothing was taken.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let taken = self
            .budget
            .used
            .fetch_update(AcqRel, Acquire, |used| used.checked_add(bytes).filter(|sum| *sum <= self.budget.limit));
        if taken.is_ok() {
            self.bytes += bytes;
        }
        taken.is_ok()
    }

    /// Makes the share hold at least `bytes`, taking in steps so that a long chunked body asks seldom.
    pub(crate) fn cover(&mut self, bytes: usize, step: usize) -> bool {
        bytes <= self.bytes || self.grow((bytes - self.bytes).max(step)) || self.grow(bytes - self.bytes)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let budget = Budget::new(100);
        let mut first = budget.share();
        let mut second = budget.share();
        assert!(first.grow(60) && !second.grow(60));
        assert!(second.cover(10, 1000), "a step that does not fit falls back to what is needed");
        assert_eq!(budget.used(), 70);
        drop(first);
        assert!(second.grow(60));
        drop(second);
        assert_eq!(budget.used(), 0);
    }
}
