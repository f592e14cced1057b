//! The way of a replica that is no longer wanted (DESIGN 13): it takes nothing more in, goes on delivering, hands what is
//! left to a peer, and says when there is nothing left.
//!
//! The operator begins it before it lowers the replicas, and may take it back at any time before the end.

mod routes;
mod run;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use zen_queue::{BoxFuture, Queue, Stats};
use zen_runtime::Gate;

use crate::{Ingester, feed};

/// Moves what a queue still holds to a peer: dead letters, claims, and what waits.
pub trait Handover: Send + Sync + 'static {
    /// Hands over to any of these peers (the addresses of their control ports), by their durable commit, and deletes its
    /// own copy of what was taken. Nothing is leased while it runs. Cut off at any point, it can be called again.
    fn hand_over(&self, peers: Vec<SocketAddr>) -> BoxFuture<'_, Result<Progress, Error>>;
}

/// What one call handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Deliveries that waited.
    pub waiting: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Idempotency claims.
    pub claims: u64,
}

/// Why a handover did not finish; it is tried again.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Not asked for.
    #[default]
    Serving,
    /// Nothing is taken in; deliveries go on.
    Draining,
    /// A peer takes over.
    HandingOver,
    /// Nothing is left.
    Drained,
}

/// What is to be told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// How far it is.
    pub state: State,
    /// Deliveries that wait, leased ones included.
    pub waiting: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Idempotency claims.
    pub claims: u64,
}

/// What a drain works with.
pub struct Parts {
    /// Whose intake is closed.
    pub ingester: Ingester,
    /// Whose leases stop for the handover.
    pub feed: feed::Handle,
    /// What is to become empty.
    pub queue: Arc<dyn Queue>,
    /// Closed while the replica drains.
    pub readiness: Gate,
    /// Control addresses of the other replicas that are ready.
    pub peers: watch::Receiver<Arc<Vec<SocketAddr>>>,
    /// What moves the rest.
    pub handover: Arc<dyn Handover>,
}

/// The drain of this replica. Cheap to clone; one clone [runs](Drain::run).
#[derive(Clone)]
pub struct Drain {
    parts: Arc<Parts>,
    /// How long intake goes on after readiness was withdrawn; none: no drain is wanted.
    wanted: Arc<watch::Sender<Option<Duration>>>,
    state: Arc<watch::Sender<State>>,
}

impl Drain {
    /// Not begun.
    pub fn new(parts: Parts) -> Self {
        parts.readiness.open();
        Self { parts: Arc::new(parts), wanted: Arc::default(), state: Arc::default() }
    }

    /// Begins: readiness is withdrawn at once, and after `delay` every request is answered with 503. One that has begun goes
    /// on as it is.
    pub fn begin(&self, delay: Duration) {
        self.wanted.send_if_modified(|wanted| wanted.is_none() && wanted.replace(delay).is_none());
    }

    /// Takes it back: the replica serves again. What was handed over stays with the peer.
    pub fn resume(&self) {
        self.wanted.send_if_modified(|wanted| wanted.take().is_some());
    }

    /// How far it is, and what is left.
    pub fn status(&self) -> Status {
        let left = Left::of(&self.parts.queue.stats());
        let state = *self.state.borrow();
        Status { state, waiting: left.waiting, dead_letters: left.dead_letters, claims: left.claims }
    }

    /// Waits until nothing is left.
    pub async fn drained(&self) {
        // The sender lives as long as `self`.
        let _ = self.state.subscribe().wait_for(|state| *state == State::Drained).await;
    }

    /// Does the work, for as long as it is polled.
    pub async fn run(self) {
        run::run(&self).await;
    }
}

/// What a queue still holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Left {
    waiting: u64,
    leased: u64,
    dead_letters: u64,
    claims: u64,
}

impl Left {
    fn of(stats: &Stats) -> Self {
        let mut left = Self { claims: stats.claims, ..Self::default() };
        for destination in stats.destinations.values() {
            left.waiting += destination.waiting;
            left.leased += destination.leased;
            left.dead_letters += destination.dead;
        }
        left
    }

    fn is_nothing(self) -> bool {
        self == Self::default()
    }
}
