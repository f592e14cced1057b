//! Readiness as a set of named gates: the process is ready while all of them are open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// Whether the process is ready, and if not, what is missing. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Readiness {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Why each gate is closed; none while it is open.
    gates: Mutex<BTreeMap<&'static str, Option<String>>>,
    ready: watch::Sender<bool>,
}

/// One condition of readiness, closed at first. A gate that is dropped stays as it was, so that a part that died
/// before it was ready never makes the process look ready.
#[derive(Debug)]
pub struct Gate {
    name: &'static str,
    inner: Arc<Inner>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// Without gates it is ready: take every gate before the admin port answers.
    pub fn new() -> Self {
        let ready = watch::Sender::new(true);
        Self { inner: Arc::new(Inner { gates: Mutex::default(), ready }) }
    }

    /// Adds a closed gate. A name that exists already is the same gate, closed again.
    pub fn gate(&self, name: &'static str) -> Gate {
        let gate = Gate { name, inner: Arc::clone(&self.inner) };
        gate.close("not reached yet");
        gate
    }

    /// Whether every gate is open.
    pub fn is_ready(&self) -> bool {
        *self.inner.ready.borrow()
    }

    /// The closed gates by name, each with its reason.
    pub fn missing(&self) -> Vec<(&'static str, String)> {
        let gates = self.inner.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.iter().filter_map(|(name, closed)| closed.clone().map(|reason| (*name, reason))).collect()
    }

    /// Waits until every gate is open.
    pub async fn wait(&self) {
        // The sender lives as long as `self`, so the channel cannot close under us.
        let _ = self.inner.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Follows readiness.
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.inner.ready.subscribe()
    }
}

impl Gate {
    /// The condition holds.
    pub fn open(&self) {
        self.set(None);
    }

    /// The condition does not hold (any more), for this reason; `/readyz` shows it, so it names no secret.
    pub fn close(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    fn set(&self, closed: Option<String>) {
        let mut gates = self.inner.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.insert(self.name, closed);
        let ready = gates.values().all(Option::is_none);
        // Under the lock, so that two gates that change at once cannot publish in the wrong order.
        self.inner.ready.send_if_modified(|was| std::mem::replace(was, ready) != ready);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_when_every_gate_is_open_and_no_longer_when_one_closes() {
        let readiness = Readiness::new();
        let (configuration, queue) = (readiness.gate("configuration"), readiness.gate("queue"));
        queue.open();
        assert!(!readiness.is_ready());
        assert_eq!(readiness.missing(), [("configuration", "not reached yet".to_owned())]);
        configuration.open();
        readiness.wait().await;
        queue.close("the disk is full");
        assert_eq!(readiness.missing(), [("queue", "the disk is full".to_owned())]);
    }

    #[test]
    fn a_dropped_gate_stays_closed() {
        let readiness = Readiness::new();
        drop(readiness.gate("link"));
        assert!(!readiness.is_ready());
    }
}
