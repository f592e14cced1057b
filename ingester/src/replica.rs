//! An ingester with everything that runs around it, wherever its configuration and its identity come from: `zen up`, the
//! pods and tests are made of it.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::watch;
use zen_compile::Snapshot;
use zen_deliver::{Deliverer, SystemResolver};
use zen_egress::Egress;
use zen_live::Published;
use zen_model::observe::Observer;
use zen_pki::Identity;
use zen_pod::audit::Notes;
use zen_queue::{Queue, Quotas};
use zen_runtime::{Readiness, Tasks};
use zen_verify::SigningKeys;

use crate::ending::{self, Ends, part};
pub use crate::links::Addresses;
use crate::links::Links;
use crate::relay::{self, Door, Relay};
use crate::{Ingester, Limits, direct, feed, upkeep};

/// What an acknowledgement of the embedded queue means (D-15).
pub const DURABILITY: &str = "fsynced";

/// Of a lease, unless a Destination's timeout asks for more (DESIGN 2).
pub const TERM: Duration = Duration::from_mins(1);

/// What a replica is made of.
pub struct Parts {
    /// What it calls itself.
    pub instance: String,
    /// The configuration in effect; whoever swaps it calls [`Replica::apply`].
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where events are kept.
    pub queue: Arc<dyn Queue>,
    /// Keys of the link and towards targets.
    pub signing: Arc<SigningKeys>,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
    /// What the end may take.
    pub limits: ending::Limits,
    /// Of a lease.
    pub term: Duration,
}

/// The replica, running: leases, deliveries of mode `Direct`, the queue's upkeep. Intake and link are added to it.
#[derive(Clone)]
pub struct Replica {
    /// Intake.
    pub ingester: Ingester,
    /// Leases.
    pub feed: feed::Handle,
    /// The egress of this process, which delivers in mode `Direct`.
    pub egress: Arc<Egress>,
    /// Where events are kept.
    pub queue: Arc<dyn Queue>,
    /// The configuration in effect.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    instance: String,
    /// Of a lease.
    term: Duration,
    drain_limit: Duration,
    ends: Ends,
}

impl Replica {
    /// Registers its metrics below `registry`, takes the gate `queue`, and runs on `tasks`.
    pub fn start(parts: Parts, registry: &mut Registry, readiness: &Readiness, tasks: &mut Tasks, ends: &Ends) -> Self {
        let Parts { instance, snapshot, queue, signing, observer, limits, term } = parts;
        let link_keys = signing.link();
        let options = zen_egress::Options {
            instance: instance.clone(),
            drain_limit: limits.attempts,
            ..zen_egress::Options::default()
        };
        let egress = Egress::new(
            zen_egress::Parts {
                snapshot: Arc::clone(&snapshot),
                deliverer: Deliverer::new(Arc::new(SystemResolver::new())),
                link_keys: Arc::clone(&link_keys),
                target_keys: Arc::new(move |key| Arc::new(signing.destination(key))),
                observer: Arc::clone(&observer),
                member: None,
                options,
            },
            registry.sub_registry_with_prefix("zen_egress"),
        );
        let settings = feed::Options { term, drain_timeout: limits.deliveries, ..feed::Options::default() };
        let ingester = Ingester::new(
            crate::Parts {
                snapshot: Arc::clone(&snapshot),
                queue: Arc::clone(&queue),
                observer,
                link_keys,
                limits: Limits { drain_timeout: limits.intake, ..Limits::default() },
                feed: settings,
            },
            registry.sub_registry_with_prefix("zen_ingester"),
        );
        let (handle, feeding) = ingester.feed(ends.deliveries.clone());
        tasks.spawn(part::FEED, feeding);
        tasks.spawn(
            part::DIRECT,
            direct::serve(handle.clone(), Arc::clone(&egress), settings.term, ends.deliveries.clone()),
        );
        tasks.spawn("queue's health", upkeep::follow_health(Arc::clone(&queue), readiness.gate("queue")));
        tasks.spawn("retention", upkeep::expire(Arc::clone(&queue), Arc::clone(&snapshot)));
        Self {
            ingester,
            feed: handle,
            egress,
            queue,
            snapshot,
            instance,
            term: settings.term,
            drain_limit: settings.drain_timeout,
            ends: ends.clone(),
        }
    }

    /// Brings what does not look at the snapshot by itself into line with what was published.
    pub fn apply(&self, published: &Published) {
        let quotas = self.snapshot.load().mesh.quotas.clone();
        self.queue.set_quotas(Quotas { namespaces: quotas, ..Quotas::default() });
        // A Destination in a source that cannot be read now is not a deleted one.
        self.feed.configured(published.complete);
    }

    /// Takes webhooks in.
    pub fn serve_intake(&self, tasks: &mut Tasks, listener: TcpListener, tls: Arc<ServerConfig>) {
        let (ingester, end) = (self.ingester.clone(), self.ends.intake.clone());
        tasks.spawn(part::INTAKE, async move { ingester.serve(listener, Some(tls), end).await });
    }

    /// Keeps a session with every egress at these addresses. Returns how many are up.
    pub fn link(
        &self,
        tasks: &mut Tasks,
        addresses: watch::Receiver<Addresses>,
        tls: Arc<ClientConfig>,
        metrics: zen_link::Metrics,
    ) -> watch::Receiver<usize> {
        let up = Arc::<watch::Sender<usize>>::default();
        let sessions = up.subscribe();
        let side = zen_link::Ingester { instance: self.instance.clone(), term: self.term, judge: None };
        let links = Links { feed: self.feed.clone(), tls, side, metrics, up };
        tasks.spawn("link", links.follow(addresses, self.ends.link.clone()));
        sessions
    }
}

/// What members' streams need beside a replica.
pub struct Relaying {
    /// Where they arrive.
    pub listener: TcpListener,
    /// Who gets in.
    pub door: Arc<Door>,
    /// Of this ingester.
    pub identity: Identity,
    /// Where the other ingesters take streams.
    pub peers: watch::Receiver<Addresses>,
    /// Counts sessions.
    pub metrics: zen_link::Metrics,
    /// Timings of the sessions.
    pub options: zen_link::Options,
    /// Who was refused.
    pub notes: Notes,
}

impl Replica {
    /// Takes streams of members' egresses, and of the ingesters that have such streams.
    pub fn relay(&self, tasks: &mut Tasks, relaying: Relaying) -> Result<(), zen_pki::Error> {
        let Relaying { listener, door, identity, peers, metrics, options, notes } = relaying;
        let admits = Arc::clone(&door);
        let server = zen_pki::mtls_server_by(&identity, Arc::new(move |peer| admits.may_connect(peer)))?;
        // A peer is what this process is.
        let tls = zen_pki::mtls_client(&identity, identity.id().clone())?;
        let relay = Relay::new(relay::Parts {
            door,
            feed: self.feed.clone(),
            peers,
            tls,
            instance: self.instance.clone(),
            term: self.term,
            drain_limit: self.drain_limit,
            options,
            metrics,
            notes,
        });
        tasks.spawn(part::RELAY, relay.serve(listener, server, self.ends.deliveries.clone()));
        Ok(())
    }
}

/// For the registry: the version, and what an acknowledgement means.
pub fn build_info() -> Info<[(&'static str, &'static str); 2]> {
    Info::new([("version", env!("CARGO_PKG_VERSION")), ("acknowledgement", DURABILITY)])
}
