//! The first steps of a pod, in the order in which others can see them: it answers health checks, then it knows who it is
//! and what it has to do, then it serves. And the last ones: it is not ready any more, ends what is its own, and health
//! checks go last.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zen_compile::Plane;
use zen_identity::endpoint;
use zen_identity::policy::Mesh;
use zen_identity::server::serve_telling;
use zen_live::cluster::{self, Cluster};
use zen_model::{ClusterId, Namespace};
use zen_pki::Identity;
use zen_runtime::admin::{self, Pending};
use zen_runtime::{Gate, Readiness, Shutdown, Tasks, limits, listen};

use crate::audit::{self, Beside, Notes, Place};
use crate::keys::{MemberError, SigningError};
use crate::{Arguments, Platform, platform, unseal};

/// How often a gate that stays closed says why.
const SAY: Duration = Duration::from_secs(1);
/// After so long the log says it too.
const PATIENCE: Duration = Duration::from_secs(10);
/// The admin server keeps to its limit, give or take.
const MOMENT: Duration = Duration::from_secs(1);
const ADMIN: &str = "admin server";
/// Folder of the audit log, in the in-memory volume.
const AUDIT: &str = "audit";

/// A pod that answers health checks.
pub struct Ground {
    /// Who and where.
    pub arguments: Arguments,
    /// The API server and the identity service.
    pub platform: Platform,
    /// Not ready before every gate is open.
    pub readiness: Readiness,
    /// To be completed when every part has registered its metrics.
    pub metrics: Pending,
    /// How often ZenLocks were asked for; of the pods that do.
    pub unsealing: unseal::Metrics,
    /// What runs.
    pub tasks: Tasks,
    /// Ends health checks and the control API: last.
    pub end: CancellationToken,
    /// Where the admin server listens.
    pub admin: SocketAddr,
    identified: Gate,
}

/// What a pod has to know before it can serve.
pub struct Known {
    /// Who it is.
    pub identity: Identity,
    /// Who the others are.
    pub mesh: Mesh,
    /// What it has to do.
    pub cluster: Cluster,
}

/// A pod cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody could end it in order.
    #[error("failed to catch signals: {0}")]
    Signals(#[source] io::Error),
    /// A port is not free, or not allowed.
    #[error("failed to listen on {address} ({what}): {source}")]
    Listen {
        /// For what.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// What is around it cannot be used.
    #[error(transparent)]
    Platform(#[from] platform::Error),
    /// A mounted key.
    #[error(transparent)]
    Key(#[from] zen_seal::Error),
    /// The signing keys.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// What a member's operator has mounted.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// A certificate, or the TLS made of it.
    #[error(transparent)]
    Pki(#[from] zen_pki::Error),
    /// The watches ended.
    #[error("failed to follow the configuration: {0}")]
    Configuration(#[from] cluster::Error),
    /// The unseal API's address.
    #[error("failed to read the unseal API's address: {0}")]
    Unseal(#[from] endpoint::Error),
    /// The identity is of no workload of a mesh.
    #[error("the identity {0} is not that of a workload of a mesh")]
    Stranger(String),
    /// A part ended that the pod cannot do without.
    #[error("{0}; the log says why")]
    Part(String),
}

/// Of the process, before anything else: its files, its end, and what is around it.
pub async fn begin(arguments: &Arguments) -> Result<(Shutdown, Platform), Error> {
    limits::raise_open_files();
    let shutdown = Shutdown::on_signals().map_err(Error::Signals)?;
    Ok((shutdown, Platform::of_pod(arguments).await?))
}

/// Binds a port of the pod.
pub fn bind(what: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    listen::bind(address).map_err(|source| Error::Listen { what, address, source })
}

/// The address that a listener has.
pub fn address(what: &'static str, listener: &TcpListener) -> Result<SocketAddr, Error> {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    listener.local_addr().map_err(|source| Error::Listen { what, address: unknown, source })
}

impl Ground {
    /// Listens for health checks, and answers them from now on: not ready.
    pub fn lay(arguments: Arguments, platform: Platform) -> Result<Self, Error> {
        Self::lay_with(arguments, platform, Router::new())
    }

    /// As [`Ground::lay`], and serves these routes on the same port, to anybody.
    pub fn lay_with(arguments: Arguments, platform: Platform, routes: Router) -> Result<Self, Error> {
        let readiness = Readiness::new();
        let identified = readiness.gate("identity");
        let listener = bind("health and metrics", arguments.admin)?;
        let admin = address("health and metrics", &listener)?;
        let (server, metrics) = admin::Server::pending(readiness.clone());
        let server = server.merge(routes);
        let (mut tasks, end) = (Tasks::new(), CancellationToken::new());
        let ended = end.clone();
        tasks.spawn(ADMIN, async move {
            if let Err(error) = server.serve(listener, ended).await {
                tracing::error!(%error, "the admin server failed");
            }
        });
        let unsealing = unseal::Metrics::default();
        Ok(Self { arguments, platform, readiness, metrics, unsealing, tasks, end, admin, identified })
    }

    /// For the metrics of the parts: what it is, and how its certificates stand.
    pub fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("zen_build", "Version of the program", build);
        self.platform.identity.metrics().register(&mut registry);
        registry
    }

    /// Serves until `shutdown`, or until a part ends that none should: the failure of the pod. It is not ready any more then,
    /// and ends what is its own before [`Ground::finish`].
    pub async fn serve(&mut self, process: &Gate, shutdown: &Shutdown) -> Option<Error> {
        let failed = tokio::select! {
            () = shutdown.begun() => None,
            what = self.tasks.first_end() => Some(Error::Part(what)),
        };
        process.close("the process is ending");
        failed
    }

    /// Ends health checks and the control API, and whatever still runs.
    pub async fn finish(mut self) {
        self.end.cancel();
        self.tasks.ended(&[ADMIN], Instant::now() + MOMENT).await;
        self.tasks.abort();
    }

    /// Waits for identity and configuration; both are kept fresh from then on. What lies in the in-memory volume is enough:
    /// neither operator nor API server have to be there. Where there is an unseal API, it opens `ZenLock`s.
    /// `member` is which cluster this is at its hub.
    pub async fn know(
        &mut self,
        plane: Plane,
        member: Option<ClusterId>,
        unsealing: &unseal::Arguments,
    ) -> Result<Known, Error> {
        let zen_locks =
            unsealing.zen_locks(&self.arguments.trust, Arc::clone(&self.platform.names), &self.unsealing)?;
        let gate = self.readiness.gate("configuration");
        let objects = cluster::Options {
            plane,
            member,
            mesh_namespace: Namespace::from(self.arguments.pod_namespace.as_str()),
            cache: Some(self.arguments.objects()),
        };
        let starting = Cluster::start_with(self.platform.client.clone(), objects, zen_locks);
        let configured = async {
            let cluster = until_said(&gate, starting, || {
                Some(
                    "the objects of the cluster are being read; is the API server there, and what is granted?"
                        .to_owned(),
                )
            });
            let cluster = cluster.await?;
            gate.open();
            Ok::<_, Error>(cluster)
        };
        let (identified, cluster) = tokio::join!(self.identify(), configured);
        let (identity, mesh) = identified?;
        Ok(Known { identity, mesh, cluster: cluster? })
    }

    /// Waits for the identity alone, for pods that compile nothing. It is kept fresh from then on.
    pub async fn identify(&mut self) -> Result<(Identity, Mesh), Error> {
        let client = self.platform.identity.clone();
        let identity = until_said(&self.identified, client.obtain(), || client.problem()).await;
        self.identified.open();
        tracing::info!(id = %identity.id(), "identity");
        let mesh = Mesh::of(identity.id()).ok_or_else(|| Error::Stranger(identity.id().to_string()))?;
        let own = identity.clone();
        self.tasks.spawn("identity", async move {
            let changed = client.keep_fresh(&own).await;
            tracing::error!(%changed, "this process ends so that another one takes it on");
        });
        Ok((identity, mesh))
    }

    /// The audit log of a part that delivers, in the in-memory volume; its metrics are in the registry.
    pub fn audit(&self, place: &Place, identity: &Identity, mesh: &Mesh, registry: &mut Registry) -> Beside {
        let (Arguments { run, pod_name, .. }, metrics) = (&self.arguments, audit::Metrics::default());
        metrics.register(registry);
        Beside::open(&run.join(AUDIT), place, pod_name, identity, mesh, metrics)
    }

    /// Serves the control API: only workloads of the same mesh get in, each route says for whom it is. Returns its address.
    pub fn serve_control(&mut self, identity: &Identity, routes: Router, notes: &Notes) -> Result<SocketAddr, Error> {
        let listener = bind("control API", self.arguments.control)?;
        let address = address("control API", &listener)?;
        let (identity, ended, refusals) = (identity.clone(), self.end.clone(), notes.listener("control"));
        self.tasks.spawn("control API", async move {
            if let Err(error) = serve_telling(listener, &identity, routes, ended, refusals).await {
                tracing::error!(%error, "the control API failed");
            }
        });
        Ok(address)
    }
}

/// Waits, and says at the gate what it waits for; the log says it once.
pub async fn until_said<T>(gate: &Gate, waited: impl Future<Output = T>, why: impl Fn() -> Option<String>) -> T {
    let began = Instant::now();
    let mut said = false;
    let mut waited = pin!(waited);
    loop {
        tokio::select! {
            biased;
            value = &mut waited => return value,
            () = tokio::time::sleep(SAY) => {}
        }
        let Some(why) = why() else { continue };
        if began.elapsed() >= PATIENCE && !std::mem::replace(&mut said, true) {
            tracing::warn!(why, "not ready yet");
        }
        gate.close(why);
    }
}
