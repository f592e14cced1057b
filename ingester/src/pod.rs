//! `zen-ingester` as a pod (K-04): configuration from the API server, identity from the operator, the queue on a volume.
//!
//! The composition root, top-down: answer health checks, open what is durable, learn who this is and what it has to do, put
//! the parts together, serve, drain. API server and operator may go away at any later time.

mod api;
mod arguments;
mod intake;
mod surroundings;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zen_compile::{Plane, Verdict};
use zen_identity::control::{self, ADMIN};
use zen_identity::server::require;
use zen_identity::{Action, Component, http};
use zen_live::cluster::Cluster;
use zen_model::observe::Unwatched;
use zen_queue::Queue;
use zen_queue::embedded::{self, Embedded};
use zen_runtime::{Gate, Shutdown};
use zen_verify::SigningKeys;

pub use arguments::Arguments;
use intake::Intake;
use zen_pki::Identity;
use zen_pod::audit::{Beside, Notes};
use zen_pod::ground::{self, address, bind};
use zen_pod::tls_secret::{self, Followed};
use zen_pod::{Ground, Known, Platform, Reports, keys};

use crate::aggregated::{self, Replicas, Reviewer};
use crate::drain::{self, Drain};
use crate::ending::{Ending, Ends, Limits, part};
use crate::links::telling;
use crate::relay::Door;
use crate::replica::{DURABILITY, Relaying, Replica, TERM, build_info};
use crate::{Ingester, admin, handover, reporting};

/// Between changes of the configuration: quotas and listings need not follow each of a thousand.
const SETTLE: Duration = Duration::from_millis(50);
/// The queue's folder in the volume.
const QUEUE: &str = "queue";

/// The pod cannot start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What every pod needs.
    #[error(transparent)]
    Ground(#[from] ground::Error),
    /// The queue does not open.
    #[error(transparent)]
    Queue(#[from] zen_queue::Error),
    /// A part ended that the pod cannot do without.
    #[error("{0}; the log says why, and what was acknowledged is on disk")]
    Part(String),
}

/// The pod, running.
pub struct Pod {
    ground: Ground,
    replica: Replica,
    drain: Drain,
    draining: bool,
    process: Gate,
    ends: Ends,
    addresses: Addresses,
    audit: Beside,
}

/// Where the pod listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Webhooks; none for a pod that only drains.
    pub intake: Option<SocketAddr>,
    /// Streams of members, where they are taken.
    pub relay: Option<SocketAddr>,
    /// Health and metrics.
    pub admin: SocketAddr,
    /// The control API.
    pub control: SocketAddr,
    /// The aggregated API, where it is served.
    pub api: Option<SocketAddr>,
}

/// Runs the program until SIGTERM.
pub async fn run(arguments: Arguments) -> Result<(), Error> {
    let (shutdown, platform) = ground::begin(&arguments.pod).await?;
    let pod = tokio::select! {
        pod = Pod::start(arguments, platform) => pod?,
        // Nothing was taken in yet.
        () = shutdown.begun() => return Ok(()),
    };
    pod.serve(&shutdown).await
}

impl Pod {
    /// Puts the pod together; returns when it knows who it is and what it has to do.
    pub async fn start(arguments: Arguments, platform: Platform) -> Result<Self, Error> {
        let mut ground = Ground::lay(arguments.pod.clone(), platform)?;
        let process = ground.readiness.gate("process");
        let intake_gate = ground.readiness.gate("certificate");
        let listener =
            if arguments.drain { None } else { Some(bind("intake", arguments.intake).map_err(Error::from)?) };
        let intake = listener.as_ref().map(|listener| address("intake", listener)).transpose()?;

        // Durable: keys, events.
        let signing = keys::signing(&arguments.pod.keys, &arguments.pod.pod_name).map_err(ground::Error::from)?;
        let signing = Arc::new(signing);
        let keyring = keys::data(&arguments.pod.keys, &arguments.state).map_err(ground::Error::from)?;
        let options = embedded::Options { unique_ids: true, ..embedded::Options::default() };
        let embedded = Embedded::open(&arguments.state.join(QUEUE), keyring, options)?;

        // Who this is, and what it has to do.
        let Known { identity, mesh, cluster } = ground.know(Plane::Ingester, None, &arguments.unseal).await?;
        let snapshot = cluster.snapshot();

        // Metrics: each part registers its own.
        let mut registry = Registry::default();
        registry.register("zen_build", "Version of the program, and what its acknowledgement means", build_info());
        embedded.register(registry.sub_registry_with_prefix("zen_queue"));
        ground.platform.identity.metrics().register(&mut registry);
        ground.unsealing.register(&mut registry);
        let link_metrics = zen_link::Metrics::register(registry.sub_registry_with_prefix("zen_link"));
        let audit = ground.audit(&arguments.audit, &identity, &mesh, &mut registry);
        let notes = audit.notes();
        let queue: Arc<dyn Queue> = embedded;

        let ends = Ends { admin: ground.end.clone(), ..Ends::default() };
        let parts = crate::replica::Parts {
            instance: arguments.pod.pod_name.clone(),
            snapshot: Arc::clone(&snapshot),
            queue: Arc::clone(&queue),
            signing: Arc::clone(&signing),
            observer: Arc::new(Unwatched),
            limits: Limits::POD,
            term: TERM,
        };
        let replica = Replica::start(parts, &mut registry, &ground.readiness, &mut ground.tasks, &ends);
        let (followed, egress) =
            (keys::Followed::register((*signing).clone(), &mut registry), Arc::clone(&replica.egress));
        let following = keys::follow(arguments.pod.keys.clone(), followed, move || egress.rekey());
        ground.tasks.spawn("signing keys", following);
        let expiry = tls_secret::Expiry::default();
        expiry.register(&mut registry);
        ground.metrics.complete(registry);

        // The others.
        let around = surroundings::follow(&arguments.pod, &ground.platform, replica.feed.clone(), &mut ground.tasks);
        let egress = mesh.id(Component::Egress).clone();
        let tls = zen_pki::mtls_client(&identity, egress).map_err(ground::Error::from)?;
        let telling = telling(&link_metrics, notes.dialled("link"));
        replica.link(&mut ground.tasks, around.egresses, tls, telling);
        let relay = arguments.relay.map(|address| {
            let listener = bind("relay", address)?;
            let bound = ground::address("relay", &listener)?;
            let peers = surroundings::relays(&arguments.pod, &ground.platform, bound.port(), &mut ground.tasks);
            let door = Door::new(mesh.clone(), Arc::clone(&snapshot), &signing)
                .ok_or_else(|| Error::Part("the signing keys are of no root key".to_owned()))?;
            let relaying = Relaying {
                listener,
                door: Arc::new(door),
                identity: identity.clone(),
                peers,
                metrics: link_metrics,
                options: zen_link::Options::default(),
                notes: notes.clone(),
            };
            replica.relay(&mut ground.tasks, relaying).map_err(ground::Error::from)?;
            Ok::<_, Error>(bound)
        });
        let relay = relay.transpose()?;

        // What follows the configuration.
        let reports = Reports::new(&arguments.pod.pod_name, control::Plane::Ingester, ground.end.clone());
        let verdicts = Arc::<ArcSwap<Vec<Verdict>>>::default();
        let reporting = reporting::follow(reports.clone(), replica.ingester.clone(), cluster.published());
        ground.tasks.spawn("reports", reporting);
        ground.tasks.spawn("configuration", apply(cluster, replica.clone(), Arc::clone(&verdicts)));

        // Drain and control.
        let drain = Drain::new(drain::Parts {
            ingester: replica.ingester.clone(),
            feed: replica.feed.clone(),
            queue: Arc::clone(&queue),
            readiness: ground.readiness.gate("drain"),
            peers: around.peers.clone(),
            handover: Arc::new(hands_over(&queue, &identity, &arguments.pod.pod_name)),
        });
        ground.tasks.spawn("drain", drain.clone().run());
        let shown = admin::Parts { verdicts, token: zen_model::Secret::new([]), durability: DURABILITY };
        let own = admin::replica(&replica.ingester, shown);
        let changing = drain.routes(Arc::clone(&snapshot)).merge(adopts(&drain, &queue));
        let shown = intake::Shown::default();
        let routes = reports.routes().merge(shown.routes()).merge(notes.administering(&arguments.pod, changing));
        let routes = routes.nest(ADMIN, own.clone().layer(require(Action::Peer)));
        let control = ground.serve_control(&identity, routes, notes)?;

        // What others see, last: everything behind it is there.
        let mut front =
            Front { ground: &mut ground, arguments: &arguments, identity: &identity, expiry, shown, serving: None };
        let replicas = Replicas { own, client: http::Client::new(&identity), peers: around.peers };
        let api = front.api(replicas, signing, notes.clone())?;
        if let Some(listener) = listener {
            front.intake(replica.ingester.clone(), listener, intake_gate, ends.intake.clone());
        }
        process.open();
        let addresses = Addresses { intake, relay, admin: ground.admin, control, api };
        Ok(Self { ground, replica, drain, draining: arguments.drain, process, ends, addresses, audit })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves until `shutdown`, or with `--drain` until nothing is left; then ends in order.
    pub async fn serve(self, shutdown: &Shutdown) -> Result<(), Error> {
        let Self { ground, replica, drain, draining, process, ends, addresses, audit } = self;
        let mut tasks = ground.tasks;
        tracing::info!(?addresses, draining, "running");
        if draining {
            drain.begin(Duration::ZERO);
        }
        let failed = tokio::select! {
            () = shutdown.begun() => None,
            what = tasks.first_end() => Some(what),
            () = drain.drained(), if draining => None,
        };
        // One that drains is in nobody's list any more.
        let serving = drain.status().state == drain::State::Serving;
        let delay = if serving { replica.snapshot.load().mesh.drain_delay } else { Duration::ZERO };
        let ending = Ending {
            readiness: process,
            ingester: &replica.ingester,
            tasks,
            ends,
            queue: Arc::clone(&replica.queue),
            limits: Limits::POD,
        };
        ending.run(delay).await;
        audit.close().await;
        failed.map_or(Ok(()), |what| Err(Error::Part(what)))
    }
}

/// What is left of a replica that ends goes to its peers.
fn hands_over(queue: &Arc<dyn Queue>, identity: &Identity, pod: &str) -> handover::Sender {
    handover::Sender::new(Arc::clone(queue), Arc::new(handover::Http::new(identity)), pod)
}

/// Where other ingesters hand over what they have left. One that drains itself takes nothing over.
fn adopts(drain: &Drain, queue: &Arc<dyn Queue>) -> Router {
    let staying = drain.clone();
    let adopting = handover::Receiver::new(Arc::clone(queue), move || staying.status().state == drain::State::Serving);
    adopting.router().layer(require(Action::Adopt))
}

/// What the pod shows to others: the intake and the aggregated API, with their certificates.
struct Front<'a> {
    ground: &'a mut Ground,
    arguments: &'a Arguments,
    identity: &'a Identity,
    /// Of a certificate of the user's own.
    expiry: tls_secret::Expiry,
    shown: intake::Shown,
    /// The certificate of the built-in CA, once somebody needs it.
    serving: Option<watch::Receiver<Followed>>,
}

impl Front<'_> {
    /// Serves the aggregated API; none where it is switched off, or the pod only drains.
    fn api(
        &mut self,
        replicas: Replicas,
        signing_keys: Arc<SigningKeys>,
        notes: Notes,
    ) -> Result<Option<SocketAddr>, Error> {
        if !self.arguments.api_enabled || self.arguments.drain {
            return Ok(None);
        }
        let listener = bind("aggregated API", self.arguments.api)?;
        let address = address("aggregated API", &listener)?;
        let (client, certificate) = (self.ground.platform.client.clone(), self.serving());
        let reviewer = Reviewer::new(client.clone());
        let parts = aggregated::Parts { front_proxy: Arc::default(), reviewer, replicas, signing_keys, notes };
        let end = self.ground.end.clone();
        self.ground.tasks.spawn("aggregated API", api::serve(listener, certificate, parts, client, end));
        Ok(Some(address))
    }

    fn intake(&mut self, ingester: Ingester, listener: TcpListener, gate: Gate, end: CancellationToken) {
        let certificate = if self.arguments.intake_secret.is_empty() {
            self.serving()
        } else {
            let options = tls_secret::Options {
                namespace: self.arguments.pod.pod_namespace.clone(),
                name: self.arguments.intake_secret.clone(),
                cache: Some(self.arguments.pod.run.join("intake.pem")),
            };
            let (certificate, following) = tls_secret::follow(self.ground.platform.client.clone(), options);
            self.expiry.of(&certificate);
            self.ground.tasks.spawn("intake's certificate", following);
            certificate
        };
        let shown = self.shown.clone();
        let intake = Intake { ingester, listener, certificate, shown, gate, end };
        self.ground.tasks.spawn(part::INTAKE, intake.run());
    }

    fn serving(&mut self) -> watch::Receiver<Followed> {
        let Self { ground, identity, serving, .. } = self;
        let serving = serving.get_or_insert_with(|| {
            let (certificate, fresh) = intake::built_in(&ground.platform, identity);
            ground.tasks.spawn("serving certificate", fresh);
            certificate
        });
        serving.clone()
    }
}

/// Applies every change of the configuration. The snapshot itself is in effect before; changes that come together are one.
async fn apply(cluster: Cluster, replica: Replica, verdicts: Arc<ArcSwap<Vec<Verdict>>>) {
    let mut published = cluster.published();
    loop {
        let current = Arc::clone(&published.borrow_and_update());
        replica.apply(&current);
        verdicts.store(Arc::new(current.verdicts.clone()));
        tokio::time::sleep(SETTLE).await;
        if published.changed().await.is_err() {
            return;
        }
    }
}
