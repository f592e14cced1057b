//! Takes leases from ingesters, attempts the deliveries, settles them. Holds no state that matters: what is lost with this
//! process is leased again (DESIGN 1 and 2).
//!
//! A frame of leases goes through [`admit`](self) (signature and content hash, before anything else), into the lane of
//! its Destination, and from there to one of the lane's workers. A lane has `concurrency` workers at most, so that a
//! hanging target takes nobody else's slot (D-10); Destinations on one host share its slots fairly. Ends go into the session's outbox, which sends what has come together
//! whenever the link has room: large frames under load, no delay without it, no timer in either case.

mod admit;
mod hosts;
mod lane;
mod lease;
mod link;
mod metrics;
mod outbox;
pub mod pod;
pub mod relay;
mod run;
mod session;
mod worker;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use zen_compile::{DeliveryMode, Destination, Snapshot};
use zen_deliver::Deliverer;
use zen_model::observe::Observer;
use zen_model::{ClusterId, ObjectKey};
use zen_verify::zen_signature::Keys;

pub use link::Link;

use crate::hosts::Hosts;
use crate::lane::Lane;
use crate::metrics::Metrics;

/// Gives the keys of a Destination (W-12): derived for it alone.
pub type TargetKeys = Arc<dyn Fn(&ObjectKey) -> Arc<Keys> + Send + Sync>;

/// What an egress is made of.
pub struct Parts {
    /// The configuration in effect.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Makes attempts.
    pub deliverer: Deliverer,
    /// Keys with which ingesters sign leases.
    pub link_keys: Arc<Keys>,
    /// Keys towards targets.
    pub target_keys: TargetKeys,
    /// Hears of every attempt.
    pub observer: Arc<dyn Observer>,
    /// In a member, which cluster it is at its hub.
    pub member: Option<ClusterId>,
    /// Limits.
    pub options: Options,
}

impl Parts {
    /// Whether deliveries to a Destination of the own snapshot are this egress's: in a member those of mode `Relay` that name
    /// its cluster, in the tenant's namespace; elsewhere those of the other modes.
    pub(crate) fn serves(&self, destination: &Destination) -> bool {
        match &self.member {
            None => destination.mode != DeliveryMode::Relay,
            Some(own) => {
                destination.mode == DeliveryMode::Relay
                    && destination.cluster.as_ref() == Some(own)
                    && destination.key.namespace == *own.tenant()
            }
        }
    }
}

/// Limits of an egress.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names this process in the ingesters' logs.
    pub instance: String,
    /// Leases that one session may have outstanding; the flow control.
    pub max_leases: u32,
    /// Bytes of records that one session may have outstanding.
    pub max_bytes: u64,
    /// Attempts at one time at one host and port, whatever number of Destinations point at it. Waiting for one counts
    /// towards no timeout.
    pub host_concurrency: usize,
    /// After the shutdown signal: how long what is in flight may go on.
    pub drain_limit: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            instance: "egress".to_owned(),
            max_leases: 4096,
            max_bytes: 64 << 20,
            host_concurrency: 256,
            drain_limit: Duration::from_secs(10),
        }
    }
}

/// The egress. One for the process, shared by its sessions.
pub struct Egress {
    parts: Parts,
    metrics: Metrics,
    hosts: Hosts,
    lanes: Mutex<HashMap<Box<str>, Arc<Lane>>>,
    /// Rises with every change of the keys towards targets.
    rekeyed: AtomicU64,
    /// Of this process.
    incarnation: u64,
}

impl Egress {
    /// Registers its metrics; `registry` already carries the prefix `zen_egress`.
    pub fn new(parts: Parts, registry: &mut Registry) -> Arc<Self> {
        let hosts = Hosts::new(parts.options.host_concurrency);
        Arc::new(Self {
            parts,
            metrics: Metrics::register(registry),
            hosts,
            lanes: Mutex::default(),
            rekeyed: AtomicU64::new(0),
            incarnation: fastrand::u64(1..),
        })
    }

    /// Accepts sessions of ingesters until `shutdown` is cancelled, drains, and returns. `tls` is `zen_pki::mtls_server`'s.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        metrics: zen_link::Metrics,
        shutdown: CancellationToken,
    ) {
        let ended = shutdown.clone().cancelled_owned();
        let side = self.side();
        let on_session = move |session: zen_link::EgressSession| {
            let (egress, shutdown) = (Arc::clone(&self), shutdown.clone());
            async move { egress.run(Link::from(session), shutdown).await }
        };
        zen_link::serve(listener, tls, side, zen_link::Options::default(), metrics, on_session, ended).await;
    }

    /// [`Parts::target_keys`] gives other keys from now on: Destinations are prepared anew.
    pub fn rekey(&self) {
        self.rekeyed.fetch_add(1, Ordering::AcqRel);
    }

    /// What this egress says of itself on a link, for whoever dials with it.
    pub fn side(&self) -> zen_link::Egress {
        let Options { instance, max_leases, max_bytes, .. } = self.parts.options.clone();
        let (incarnation, claim) = (self.incarnation, zen_link::Claim::Own);
        zen_link::Egress { instance, incarnation, max_leases, max_bytes, claim }
    }

    /// Serves one session until its peer ends it, or until it has drained after `shutdown`.
    pub fn run(self: Arc<Self>, link: Link, shutdown: CancellationToken) -> impl Future<Output = ()> + Send {
        run::run(self, link, shutdown)
    }

    /// Closes idle connections that are too old, and forgets lanes of Destinations that are gone.
    fn sweep(&self) {
        let snapshot = self.parts.snapshot.load();
        self.lanes().retain(|_, lane| {
            let stays = lane.sweep(self, &snapshot);
            if !stays {
                self.metrics.forget(lane.key());
            }
            stays
        });
        self.hosts.sweep();
    }

    fn lanes(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Lane>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").field("options", &self.parts.options).finish_non_exhaustive()
    }
}
