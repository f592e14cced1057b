//! Between the queue and the egress sessions: who gets which lease, when (DESIGN 2 and 4, D-10, D-11).
//!
//! One task, the [`dispatch::Dispatcher`], owns all of it: a [`lane::Lane`] for each Destination with its breaker and its
//! share of leases, a [`session::Session`] for each connected egress with its window. Nothing waits for durability:
//! settlements are handed to the queue's next batch and the next leases go out at once.

mod board;
mod convert;
mod dispatch;
mod lane;
mod session;
mod share;
mod suspects;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::Stream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use zen_compile::{DeliveryMode, Destination, Snapshot};
use zen_link::IngesterSession;
use zen_link::frame::{FromEgress, FromIngester, Hello};
use zen_model::observe::Observer;
use zen_queue::Queue;
use zen_verify::zen_signature::Keys;

use crate::metrics::Metrics;
use crate::relay::Admitted;
pub use board::{Board, DestinationView, SessionView};
use dispatch::Dispatcher;

/// Settings of the feed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Lease term; longer for a Destination whose request timeout asks for it. The egress renews at a third of it.
    pub term: Duration,
    /// A Destination that is gone from the configuration is taken for deleted after so long: a file that is moved or
    /// rewritten is away for an instant.
    pub deletion_grace: Duration,
    /// After the shutdown signal: how long to wait for settlements of what is leased.
    pub drain_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            term: Duration::from_mins(1),
            deletion_grace: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// How a session reaches its egress, which decides whose deliveries it gets (D-02).
#[derive(Clone, Debug, Default)]
pub enum Carrier {
    /// The link: Destinations of mode `Egress`.
    #[default]
    Link,
    /// Channels of this process: Destinations of mode `Direct`.
    InProcess,
    /// A member's stream, or another ingester's that has one: Destinations of mode `Relay` that name this cluster.
    Relay(Admitted),
}

impl Carrier {
    /// Whether deliveries to this Destination may go this way. What a session is given hangs on this alone.
    pub(crate) fn takes(&self, destination: &Destination) -> bool {
        match (self, destination.mode) {
            (Self::Link, DeliveryMode::Egress) | (Self::InProcess, DeliveryMode::Direct) => true,
            (Self::Relay(admitted), DeliveryMode::Relay) => {
                let own = &admitted.cluster;
                destination.cluster.as_ref() == Some(own) && destination.key.namespace == *own.tenant()
            }
            _ => false,
        }
    }
}

/// An egress session after its handshake, whoever dialled.
pub struct Link {
    /// Which Destinations it is for.
    pub carrier: Carrier,
    /// SPIFFE id of the egress.
    pub peer: String,
    /// What it said first: its window.
    pub hello: Hello,
    /// To the egress; bounded.
    pub outgoing: mpsc::Sender<FromIngester>,
    /// From the egress; ends with the session.
    pub incoming: Pin<Box<dyn Stream<Item = FromEgress> + Send>>,
}

impl From<IngesterSession> for Link {
    fn from(session: IngesterSession) -> Self {
        let incoming =
            futures_util::stream::unfold(session.receiver, async |mut receiver| match receiver.next().await? {
                Ok(frame) => Some((frame, receiver)),
                Err(error) => {
                    tracing::debug!(%error, "session broke");
                    None
                }
            });
        Self {
            carrier: Carrier::Link,
            peer: session.peer.to_string(),
            hello: session.hello,
            outgoing: session.sender,
            incoming: Box::pin(incoming),
        }
    }
}

/// What the dispatcher hears.
enum Heard {
    Up(Link, oneshot::Sender<()>),
    Frame(u64, FromEgress),
    Down(u64),
}

/// Gives sessions to the dispatcher. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    heard: mpsc::Sender<Heard>,
    wake: Arc<Notify>,
    complete: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    replicas: Arc<AtomicUsize>,
}

impl Handle {
    /// Serves a session; returns when it has ended, and its leases are given back.
    pub async fn serve(&self, link: Link) {
        let (ended, end) = oneshot::channel();
        if self.heard.send(Heard::Up(link, ended)).await.is_ok() {
            let _ = end.await;
        }
    }

    /// A new snapshot is in effect. `complete`: everything that configures it could be read, so that a Destination that
    /// it does not know was deleted, and what is for it becomes dead letters. A folder with a file that cannot be read is
    /// not complete. Without this call a new snapshot is noticed within a second.
    pub fn configured(&self, complete: bool) {
        self.complete.store(complete, Relaxed);
        self.wake.notify_one();
    }

    /// Grants no lease while paused; what is leased goes on. For a handover of what waits.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Relaxed);
        self.wake.notify_one();
    }

    /// So many ingesters deliver to the Destinations of mode `Direct`: each takes its part of their concurrency, but at
    /// least one slot.
    pub fn replicas(&self, count: usize) {
        if self.replicas.swap(count.max(1), Relaxed) != count.max(1) {
            self.wake.notify_one();
        }
    }
}

/// What the feed works with.
pub(crate) struct Parts {
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) board: Arc<Board>,
    pub(crate) options: Options,
}

/// Frames that may wait for the dispatcher, of all sessions together: beyond it their streams are not read.
const HEARD: usize = 256;

/// The dispatcher's future and the handle to it.
pub(crate) fn start(parts: Parts, shutdown: CancellationToken) -> (Handle, impl Future<Output = ()> + Send + 'static) {
    let (heard, receiver) = mpsc::channel(HEARD);
    let handle = Handle {
        heard,
        wake: Arc::default(),
        complete: Arc::default(),
        paused: Arc::default(),
        replicas: Arc::new(AtomicUsize::new(1)),
    };
    let dispatcher = Dispatcher::new(parts, handle.clone());
    (handle, async move { dispatcher.run(receiver, shutdown).await })
}
