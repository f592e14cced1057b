//! What the dispatcher shows of itself, to status and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use zen_model::breaker::State;
use zen_model::{ClusterId, ObjectKey, Timestamp};

/// State of the feed that others may read at any time. Written on transitions only.
#[derive(Debug, Default)]
pub struct Board {
    destinations: Mutex<BTreeMap<ObjectKey, DestinationView>>,
    sessions: Mutex<BTreeMap<u64, Arc<SessionView>>>,
    /// Rises with every change of a Destination, and of whose egresses are there.
    moved: watch::Sender<u64>,
}

/// One Destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationView {
    /// Its breaker.
    pub breaker: State,
    /// Since when the breaker is in this state.
    pub since: Timestamp,
    /// The target answered 410: what comes is dead-lettered until the Destination changes (D-04).
    pub gone: bool,
}

/// One session.
#[derive(Debug)]
pub struct SessionView {
    /// SPIFFE id of the egress.
    pub peer: String,
    /// The name that the egress process gave itself.
    pub instance: String,
    /// For which cluster it leases; none: for its own.
    pub cluster: Option<ClusterId>,
    /// Connected since.
    pub since: Timestamp,
    /// Leases outstanding.
    pub leases: AtomicU64,
    /// Bytes of their records.
    pub bytes: AtomicU64,
    /// It takes no more.
    pub draining: AtomicBool,
}

impl Board {
    /// Destinations whose breaker ever moved, or that are gone.
    pub fn destinations(&self) -> BTreeMap<ObjectKey, DestinationView> {
        self.destinations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connected sessions.
    pub fn sessions(&self) -> Vec<Arc<SessionView>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Clusters of which an egress takes leases here.
    pub fn clusters(&self) -> BTreeSet<ClusterId> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let taking = sessions.values().filter(|session| !session.draining.load(Relaxed));
        taking.filter_map(|session| session.cluster.clone()).collect()
    }

    /// Notice of every change of a Destination's breaker, and of [`Board::clusters`].
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    pub(super) fn show(&self, key: &ObjectKey, breaker: State, gone: bool) {
        let mut destinations = self.destinations.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match destinations.get(key) {
            Some(view) if view.breaker == breaker => view.since,
            _ => Timestamp::now(),
        };
        destinations.insert(key.clone(), DestinationView { breaker, since, gone });
        drop(destinations);
        self.moved.send_modify(|moves| *moves += 1);
    }

    pub(super) fn forget(&self, key: &ObjectKey) {
        if self.destinations.lock().unwrap_or_else(PoisonError::into_inner).remove(key).is_some() {
            self.moved.send_modify(|moves| *moves += 1);
        }
    }

    pub(super) fn connected(&self, id: u64, view: Arc<SessionView>) {
        let is_of_member = view.cluster.is_some();
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(id, view);
        if is_of_member {
            self.moved.send_modify(|moves| *moves += 1);
        }
    }

    pub(super) fn disconnected(&self, id: u64) {
        let gone = self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if gone.is_some_and(|gone| gone.cluster.is_some()) {
            self.moved.send_modify(|moves| *moves += 1);
        }
    }
}

impl SessionView {
    pub(super) fn load(&self, leases: usize, bytes: usize) {
        self.leases.store(leases as u64, Relaxed);
        self.bytes.store(bytes as u64, Relaxed);
    }
}
