//! Takes webhooks in: verify, keep safe on disk, answer, and hand to an egress.
//!
//! * [`listener`]: connections within the limits of W-16.
//! * `pipeline`: the checks of W-02 in their order, then one durable commit.
//! * [`feed`]: leases towards the egress sessions, fair and behind circuit breakers.
//! * [`drain`]: the end of a replica that is no longer wanted; [`handover`]: what it leaves to another.
//! * [`admin`]: the API that `zen status`, `events` and `dead-letters` speak with.
//!
//! * [`relay`]: streams of members' egresses, and the peers' feeds that go into them.
//! * [`replica`]: all of it, running; [`ending`]: how it ends; [`pod`]: as a program in a cluster.
//!
//! [`Ingester`] holds intake and feed together.

pub mod admin;
pub mod aggregated;
mod budget;
mod core;
mod direct;
pub mod drain;
pub mod ending;
pub mod feed;
pub mod handover;
pub mod limits;
mod links;
pub mod listener;
mod metrics;
mod pipeline;
pub mod pod;
pub mod relay;
pub mod replica;
mod reporting;
mod seen;
mod upkeep;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zen_compile::Snapshot;
use zen_model::observe::Observer;
use zen_queue::Queue;
use zen_verify::zen_signature::Keys;

use crate::core::Core;
pub use limits::Limits;
pub use replica::Replica;

/// What an intake is made of.
pub struct Parts {
    /// The configuration in effect; whoever swaps it calls [`feed::Handle::configured`].
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where events are kept.
    pub queue: Arc<dyn Queue>,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
    /// Keys of the link, for `X-Zen-Signature` (W-12).
    pub link_keys: Arc<Keys>,
    /// Bounds of the intake.
    pub limits: Limits,
    /// Settings of the feed.
    pub feed: feed::Options,
}

/// The ingester. Cheap to clone.
#[derive(Clone)]
pub struct Ingester {
    core: Arc<Core>,
    board: Arc<feed::Board>,
    keys: Arc<Keys>,
    options: feed::Options,
}

impl Ingester {
    /// Registers its metrics below `registry`, which carries the prefix `zen_ingester`.
    pub fn new(parts: Parts, registry: &mut Registry) -> Self {
        let board = Arc::<feed::Board>::default();
        let metrics = Arc::new(metrics::Metrics::register(registry, &board));
        let core = Core {
            snapshot: parts.snapshot,
            queue: parts.queue,
            observer: parts.observer,
            limits: parts.limits,
            metrics,
            budget: budget::Budget::new(parts.limits.body_budget),
            seen: seen::Seen::default(),
            draining: AtomicBool::new(false),
            leaving: watch::Sender::new(false),
            requests: AtomicUsize::new(0),
        };
        Self { core: Arc::new(core), board, keys: parts.link_keys, options: parts.feed }
    }

    /// Serves webhooks until `shutdown`, then finishes the requests in flight, at most about `Limits::drain_timeout`.
    /// Without `tls` it speaks plain HTTP/1.1: behind a proxy that ends TLS, and in tests.
    pub async fn serve(&self, listener: TcpListener, tls: Option<Arc<ServerConfig>>, shutdown: CancellationToken) {
        listener::serve(Arc::clone(&self.core), listener, tls, shutdown).await;
    }

    /// From now on every request is answered with 503 `Draining`, until it is taken back: for a process whose listener must
    /// stay open.
    pub fn refuse_new_requests(&self, refuse: bool) {
        self.core.draining.store(refuse, SeqCst);
    }

    /// Requests that were let in and are not answered yet. None of them is new after
    /// [`refuse_new_requests`](Self::refuse_new_requests).
    pub fn requests_in_flight(&self) -> usize {
        self.core.requests.load(SeqCst)
    }

    /// This replica will be gone soon. Everything is still served, but each client is asked to connect anew for its next
    /// request, so that nobody has a connection left when the listener closes.
    pub fn leave(&self, leave: bool) {
        self.core.leaving.send_replace(leave);
    }

    /// The feed: its future, to be run on a task of its own until `shutdown` and the drain after it, and the handle that
    /// takes egress sessions.
    pub fn feed(&self, shutdown: CancellationToken) -> (feed::Handle, impl Future<Output = ()> + Send + 'static) {
        let parts = feed::Parts {
            snapshot: Arc::clone(&self.core.snapshot),
            queue: Arc::clone(&self.core.queue),
            observer: Arc::clone(&self.core.observer),
            keys: Arc::clone(&self.keys),
            metrics: Arc::clone(&self.core.metrics),
            board: Arc::clone(&self.board),
            options: self.options,
        };
        feed::start(parts, shutdown)
    }

    /// Bytes of bodies in memory now, of all requests together.
    pub fn body_bytes_in_flight(&self) -> usize {
        self.core.budget.used()
    }
}
